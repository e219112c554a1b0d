"""JSON text to plain values with places. A tokenizer and a stack of its own: no recursion, positions everywhere."""

import json
import math
import re
from typing import Any, Final, NoReturn

from taskengine.definition.findings import Finding, Findings, Halt
from taskengine.definition.source import Document, Place, Source
from taskengine.model.shape import MAX_DEPTH, Path, text_fault
from taskengine.model.spelling import quoted

__all__ = ["compose_json"]

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_WORD: Final = re.compile(r"[A-Za-z]+")
_STRINGS: Final = json.JSONDecoder()
_MAX_DIGITS: Final = 1_000


class _Open:
    """A list or mapping whose end has not come yet, and the key of the value that comes next."""

    __slots__ = ("data", "key", "key_start", "place")

    def __init__(self, data: dict[str, Any] | list[Any], start: int) -> None:
        self.data = data
        self.place = Place(start)
        self.place.parts = {} if isinstance(data, dict) else []
        self.place.keys = {} if isinstance(data, dict) else None
        self.key, self.key_start = "", -1

    def put(self, value: Any, place: Place) -> None:
        if isinstance(self.data, list):
            self.data.append(value)
            self.place.parts.append(place)  # type: ignore[union-attr]
        else:
            self.data[self.key] = value
            self.place.parts[self.key] = place  # type: ignore[call-overload,index]
            self.place.keys[self.key] = self.key_start  # type: ignore[index]


def compose_json(source: Source, findings: Findings) -> Document | None:
    """The document in `source`; None when it is too broken to look any further, and `findings` say why."""
    try:
        return _Composer(source, findings).compose()
    except Halt:
        return None


class _Composer:
    def __init__(self, source: Source, findings: Findings) -> None:
        self._source, self._findings = source, findings
        self._text = source.text
        self._at = 0
        self._open: list[_Open] = []

    def compose(self) -> Document:
        self._skip()
        if self._at == len(self._text):
            return Document(self._source, None, Place(0, 0))
        while True:
            value, place = self._value()
            if place.end < 0:  # a container has just been opened
                continue
            while self._open and self._close_or_go_on(value, place):
                closed = self._open.pop()
                value, place = closed.data, closed.place
            if not self._open:
                break
        self._skip()
        if self._at < len(self._text):
            self._halt("there is more text behind the end of the value")
        return Document(self._source, value, place)

    # one value

    def _value(self) -> tuple[Any, Place]:
        """The next scalar or empty container; or the start of a container, whose place has no end yet."""
        self._skip()
        start, char = self._at, self._text[self._at : self._at + 1]
        if char in ("{", "["):
            return self._begin(start, char)
        value: Any
        if char == '"':
            value = self._string()
        elif char and char in "-0123456789":
            value = self._number()
        else:
            value = self._word()
        return value, Place(start, self._at)

    def _begin(self, start: int, char: str) -> tuple[Any, Place]:
        if len(self._open) >= MAX_DEPTH:
            self._halt(f"nested deeper than {MAX_DEPTH} levels")
        self._at += 1
        opened = _Open({} if char == "{" else [], start)
        if self._eat("}" if char == "{" else "]"):
            opened.place.end = self._at
            return opened.data, opened.place
        self._open.append(opened)
        if char == "{":
            self._key()
        return opened.data, opened.place

    def _string(self) -> str:
        try:
            text, end = _STRINGS.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            self._at = error.pos
            self._halt(f"{error.msg[:1].lower()}{error.msg[1:]}")
        fault = text_fault(text)
        if fault:
            self._fault(fault)
            text = ""
        self._at = end
        return str(text)

    def _number(self) -> int | float:
        match = _NUMBER.match(self._text, self._at)
        if match is None:
            self._halt("a minus without a number")
        value: int | float
        if match[1] is None and match[2] is None:
            if len(match[0]) > _MAX_DIGITS:
                self._halt(f"a number of more than {_MAX_DIGITS:,} digits")
            value = int(match[0])
        else:
            value = float(match[0])
            if math.isinf(value):
                self._halt("a number beyond what JSON programs can hold")
        self._at = match.end()
        return value

    def _word(self) -> bool | None:
        match = _WORD.match(self._text, self._at)
        if match is None:
            self._halt("a value is missing" if self._at < len(self._text) else "the text ends where a value should be")
        if match[0] not in _WORDS:
            self._halt(f"{quoted(match[0])} is no JSON value; text stands in double quotes")
        self._at = match.end()
        return _WORDS[match[0]]

    # containers

    def _close_or_go_on(self, value: Any, place: Place) -> bool:
        """Put a finished value into its container; True when the container ends here."""
        holder = self._open[-1]
        holder.put(value, place)
        closing = "}" if isinstance(holder.data, dict) else "]"
        if self._eat(closing):
            holder.place.end = self._at
            return True
        if not self._eat(","):
            self._halt(f"expected `,` or `{closing}`")
        if isinstance(holder.data, dict):
            self._key()
        return False

    def _key(self) -> None:
        self._skip()
        holder, start = self._open[-1], self._at
        if self._text[start : start + 1] != '"':
            self._halt("expected a key in double quotes")
        key = self._string()
        if key in holder.data:
            first = (holder.place.keys or {})[key]
            line = self._source.line_of(first)
            self._findings.add(Finding(self._path(), f"the key {quoted(key)} stands in line {line} already", at=start))
        holder.key, holder.key_start = key, start
        if not self._eat(":"):
            self._halt("expected `:` behind a key")

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._at)
        assert match is not None, "the pattern matches the empty text"
        self._at = match.end()

    def _eat(self, char: str) -> bool:
        self._skip()
        if not self._text.startswith(char, self._at):
            return False
        self._at += 1
        return True

    # faults

    def _path(self) -> Path:
        return tuple(len(holder.data) if isinstance(holder.data, list) else holder.key for holder in self._open)

    def _fault(self, message: str) -> None:
        self._findings.add(Finding(self._path(), message, at=self._at))

    def _halt(self, message: str) -> NoReturn:
        self._fault(f"this is not valid JSON: {message}")
        raise Halt
