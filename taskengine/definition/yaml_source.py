"""YAML text to plain values with places. Works on libyaml's events, with a stack of its own and no recursion.

Left out on purpose: tags, merge keys, several documents, keys that are not text. Aliases are bounded in number and in
what they expand to; the value of an alias is the very object of its anchor, so nobody may change it.
"""

import itertools
from collections.abc import Iterator
from typing import Any, Final

import yaml

from taskengine.definition.findings import Finding, Findings, Halt
from taskengine.definition.scalars import plain_scalar
from taskengine.definition.source import Document, Place, Source
from taskengine.model.shape import MAX_DEPTH, Path, kind_of, text_fault
from taskengine.model.spelling import quoted

__all__ = ["compose_yaml"]

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_ALIASES: Final = 50
_MAX_EXPANDED: Final = 100_000


class _Value:
    """A finished value; weight counts it and everything inside, height the containers on the longest way down."""

    __slots__ = ("data", "height", "place", "weight")

    def __init__(self, data: Any, place: Place, height: int = 0, weight: int = 1) -> None:
        self.data, self.place, self.height, self.weight = data, place, height, weight


class _Open:
    """A list or mapping whose end has not come yet.

    key  of the value that comes next; None for one whose key was refused: the value is read and left out
    """

    __slots__ = ("anchor", "expects_key", "is_map", "key", "key_start", "value")

    def __init__(self, is_map: bool, start: int, anchor: str | None) -> None:
        place = Place(start)
        place.parts = {} if is_map else []
        place.keys = {} if is_map else None
        self.value = _Value({} if is_map else [], place, height=1)
        self.is_map, self.anchor = is_map, anchor
        self.expects_key = is_map
        self.key: str | None = None
        self.key_start = -1

    def step(self) -> Path:
        """What leads to the value that comes next."""
        if not self.is_map:
            return (len(self.value.data),)
        return () if self.key is None else (self.key,)

    def put(self, value: _Value) -> None:
        place = self.value.place
        if isinstance(place.parts, list):
            self.value.data.append(value.data)
            place.parts.append(value.place)
        elif self.key is not None and place.parts is not None and place.keys is not None:
            self.value.data[self.key] = value.data
            place.parts[self.key] = value.place
            place.keys[self.key] = self.key_start
        self.key, self.expects_key = None, self.is_map
        self.value.height = max(self.value.height, value.height + 1)
        self.value.weight += value.weight


def compose_yaml(source: Source, findings: Findings) -> Document | None:
    """The document in `source`; None when it is too broken to look any further, and `findings` say why."""
    try:
        return _Composer(source, findings).compose()
    except Halt:
        return None
    except yaml.YAMLError as error:
        findings.add(_syntax_error(source, error))
        return None


def _syntax_error(source: Source, error: yaml.YAMLError) -> Finding:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    words = " ".join(filter(None, (getattr(error, "problem", None), getattr(error, "context", None)))) or str(error)
    # The marks of libyaml's errors have a line and a column and no index.
    at = 0 if mark is None else source.offset(mark.line, mark.column)
    advice = "; indent with spaces and not with tabs" if source.text.startswith("\t", at) else ""
    return Finding((), f"this is not valid YAML: {words}{advice}", at=at)


class _Composer:
    def __init__(self, source: Source, findings: Findings) -> None:
        self._source, self._findings = source, findings
        self._open: list[_Open] = []
        self._anchors: dict[str, _Value | None] = {}  # None while the anchored container is still open
        self._aliases = 0
        self._expanded = 0
        self._root: _Value | None = None

    def compose(self) -> Document:
        documents = 0
        for event in self._events():
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._halt(event, "a second document begins here; a file holds one workflow")
            else:
                self._take(event)
        if self._root is None:
            return Document(self._source, None, Place(0, 0))
        return Document(self._source, self._root.data, self._root.place)

    def _events(self) -> Iterator[Any]:
        yield from yaml.parse(self._source.text, Loader=_LOADER)

    def _take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._end(event)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)

    # events

    def _scalar(self, event: Any) -> None:
        start = event.start_mark.index
        self._refuse_tag(event)
        if self._expects_key():
            self._take_key(event)
            return
        value = _Value(self._scalar_data(event), Place(start, event.end_mark.index))
        if event.anchor:
            self._anchors[event.anchor] = value
        self._put(value)

    def _scalar_data(self, event: Any) -> Any:
        text: str = event.value
        try:
            # A plain scalar has no style; libyaml says None, the Python parser "".
            data = text if event.style else plain_scalar(text)
        except ValueError as error:
            self._fault(event, str(error))
            return None
        fault = text_fault(data) if isinstance(data, str) else ""
        if fault:
            self._fault(event, fault)
        return None if fault else data

    def _begin(self, event: Any) -> None:
        self._refuse_tag(event)
        if self._expects_key():
            self._halt(event, "a key is text; this one is a list or a mapping")
        if len(self._open) >= MAX_DEPTH:
            self._halt(event, f"nested deeper than {MAX_DEPTH} levels")
        if event.anchor:
            self._anchors[event.anchor] = None
        self._open.append(_Open(isinstance(event, yaml.MappingStartEvent), event.start_mark.index, event.anchor))

    def _end(self, event: Any) -> None:
        closed = self._open.pop()
        closed.value.place.end = event.end_mark.index
        if closed.anchor:
            self._anchors[closed.anchor] = closed.value
        self._put(closed.value)

    def _alias(self, event: Any) -> None:
        if self._expects_key():
            self._halt(event, "a key is text; this one is an alias")
        self._aliases += 1
        if self._aliases > _MAX_ALIASES:
            self._halt(event, f"more than {_MAX_ALIASES} aliases")
        if event.anchor not in self._anchors:
            self._halt(event, f"there is no anchor {quoted(event.anchor)} above")
        value = self._anchors[event.anchor]
        if value is None:
            self._halt(event, f"the alias {quoted(event.anchor)} stands inside its own anchor")
            return
        self._expanded += value.weight
        if self._expanded > _MAX_EXPANDED:
            self._halt(event, f"the aliases expand to more than {_MAX_EXPANDED:,} values")
        if len(self._open) + value.height > MAX_DEPTH:
            self._halt(event, f"nested deeper than {MAX_DEPTH} levels")
        self._put(value)

    # the containers

    def _expects_key(self) -> bool:
        return bool(self._open) and self._open[-1].expects_key

    def _take_key(self, event: Any) -> None:
        holder, start = self._open[-1], event.start_mark.index
        fault = self._key_fault(event) or self._duplicate(holder, event.value)
        if fault:
            self._fault(event, fault)
        holder.expects_key = False
        holder.key, holder.key_start = (None if fault else event.value), start

    def _duplicate(self, holder: _Open, key: str) -> str:
        first = (holder.value.place.keys or {}).get(key)
        if first is None:
            return ""
        return f"the key {quoted(key)} stands in line {self._source.line_of(first)} already"

    def _key_fault(self, event: Any) -> str:
        text = event.value
        if event.style:
            return text_fault(text)
        if text == "<<":
            return "merge keys (`<<`) are not supported; write the keys out"
        try:
            data = plain_scalar(text)
        except ValueError:
            data = 0.0
        return "" if isinstance(data, str) else f"a key is text, this one is {kind_of(data)}; put it in quotes"

    def _put(self, value: _Value) -> None:
        if self._open:
            self._open[-1].put(value)
        else:
            self._root = value

    # faults

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None:
            self._fault(event, f"tags are not supported: {quoted(event.tag)}")

    def _path(self) -> Path:
        return tuple(itertools.chain.from_iterable(holder.step() for holder in self._open))

    def _fault(self, event: Any, message: str) -> None:
        self._findings.add(Finding(self._path(), message, at=event.start_mark.index))

    def _halt(self, event: Any, message: str) -> None:
        self._fault(event, message)
        raise Halt
