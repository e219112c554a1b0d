"""A text that holds a definition, and where everything in it stands."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final

from taskengine.definition.findings import MAX_PROBLEMS, Finding
from taskengine.errors import Problem
from taskengine.model.shape import Path, path_text

__all__ = ["JSON_LINES", "YAML_LINES", "Document", "Place", "Source"]

YAML_LINES: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What YAML 1.1, and so libyaml, takes for the end of a line."""
JSON_LINES: Final = re.compile("\r\n|[\n\r]")
_OPEN: Final = "${{"
_MAX_EXCERPT: Final = 200


class Place:
    """Where one value stands: characters `start` to `end` of the source, and the places of what is inside.

    keys   for a mapping: where each key starts
    parts  for a mapping: by key; for a list: in order
    """

    __slots__ = ("end", "keys", "parts", "start")

    def __init__(self, start: int, end: int = -1) -> None:
        self.start, self.end = start, end
        self.keys: dict[str, int] | None = None
        self.parts: dict[str, Place] | list[Place] | None = None

    def inside(self, part: str | int) -> "Place | None":
        if isinstance(self.parts, dict):
            return self.parts.get(str(part))
        if isinstance(self.parts, list) and isinstance(part, int) and part < len(self.parts):
            return self.parts[part]
        return None


class Source:
    """The text of a definition. Lines and columns count characters from 1; a leading BOM is not part of it."""

    def __init__(self, text: str, file: str = "", lines: re.Pattern[str] = YAML_LINES) -> None:
        self.text, self.file, self._lines = text, file, lines
        self._starts: list[int] | None = None

    def problem(self, at: int, message: str, path: Path = ()) -> Problem:
        """A problem at the character `at`."""
        line = self.line_of(at)
        start, end = self._bounds(line)
        return Problem(
            message=message,
            path=path_text(path),
            file=self.file or "<text>",
            line=line,
            column=at - start + 1,
            excerpt=_excerpt(self.text[start : min(end, start + _MAX_EXCERPT + 1)], at - start),
        )

    def line_of(self, at: int) -> int:
        """The number of the line that holds the character `at`."""
        return bisect_right(self._line_starts(), at)

    def offset(self, line: int, column: int) -> int:
        """The character at a line and column that both count from 0, as libyaml's do."""
        start, end = self._bounds(line + 1)
        return min(start + column, end)

    def _bounds(self, line: int) -> tuple[int, int]:
        """The first character of a line, and the one behind its last."""
        starts = self._line_starts()
        line = min(line, len(starts))
        start = starts[line - 1]
        if line == len(starts):
            return start, len(self.text)
        end = starts[line]
        return start, end - (2 if self.text.endswith("\r\n", start, end) else 1)

    def _line_starts(self) -> list[int]:
        if self._starts is None:
            self._starts = [0, *(match.end() for match in self._lines.finditer(self.text))]
        return self._starts


def _excerpt(line: str, column: int) -> str:
    """The line for people to look at; nothing when the fault is so far right that the start would not show it."""
    if column > _MAX_EXCERPT - 20:
        return ""
    shown = line if len(line) <= _MAX_EXCERPT else line[: _MAX_EXCERPT - 1] + "…"
    return "".join(char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in shown)


class Document:
    """A source that has been read: its plain value, and the places to which findings are traced back."""

    def __init__(self, source: Source, value: Any, root: Place) -> None:
        self.source, self.value, self.root = source, value, root

    def problems(self, found: Sequence[Finding]) -> list[Problem]:
        """The findings with their positions, in the order in which they stand in the source."""
        placed = sorted(((self._at(finding), finding) for finding in found), key=lambda pair: pair[0])
        problems = [self.source.problem(at, finding.message, finding.path) for at, finding in placed[:MAX_PROBLEMS]]
        if len(placed) > MAX_PROBLEMS:
            at, finding = placed[MAX_PROBLEMS]
            more = f"and {len(placed) - MAX_PROBLEMS:,} more problems from here on"
            problems.append(self.source.problem(at, more, finding.path))
        return problems

    def _at(self, finding: Finding) -> int:
        if finding.at >= 0:
            return finding.at
        place, key_start, missed = self._find(finding.path)
        if missed:
            return place.start
        if finding.on_key and key_start >= 0:
            return key_start
        return place.start if finding.offset < 0 else self._inside_text(place, finding)

    def _find(self, path: Path) -> tuple[Place, int, bool]:
        """The place at `path`, where its key starts, and whether it is only the deepest part of the way there is."""
        place, key_start = self.root, -1
        for part in path:
            inner = place.inside(part)
            if inner is None:
                return place, key_start, True
            key_start = place.keys[part] if place.keys and isinstance(part, str) else -1
            place = inner
        return place, key_start, False

    def _inside_text(self, place: Place, finding: Finding) -> int:
        """Where a character of a text stands in the source, quoted, folded or indented as it may be there.

        The text's n-th `${{` is the source's n-th; behind it characters are counted as long as both read alike.
        """
        value: Any = self.value
        for part in finding.path:
            value = value[part]
        if not isinstance(value, str):
            return place.start
        raw = self.source.text[place.start : place.end]
        anchor = value.rfind(_OPEN, 0, finding.offset + len(_OPEN))
        if anchor < 0:  # a `when` without braces: it begins behind the opening quote, if there is one
            behind = value[: finding.offset]
            return next((place.start + at + len(behind) for at in (0, 1) if raw.startswith(behind, at)), place.start)
        at = -1
        for _ in range(value.count(_OPEN, 0, anchor) + 1):
            at = raw.find(_OPEN, at + 1)
            if at < 0:
                return place.start
        behind = value[anchor : finding.offset]
        return place.start + at + (len(behind) if raw.startswith(behind, at) else 0)
