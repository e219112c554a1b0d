"""What is wrong with a definition, gathered while it is read; nothing stops at the first fault."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from taskengine.model.shape import Path
from taskengine.model.spelling import did_you_mean

__all__ = ["MAX_PROBLEMS", "Finding", "Findings", "Halt"]

MAX_PROBLEMS: Final = 1_000
"""More are counted and not told one by one."""

_MAX_SUGGESTIONS: Final = 100


class Halt(Exception):
    """Reading cannot go on; why is already among the findings. Never leaves this package."""


class Finding(NamedTuple):
    """One fault.

    on_key  point at the key and not at its value
    offset  characters into the text value at `path`; -1 for its start
    at      absolute character in the source, for faults that were found before there were paths; -1 otherwise
    """

    path: Path
    message: str
    on_key: bool = False
    offset: int = -1
    at: int = -1


class Findings:
    """A list of faults that also knows which parts of the definition have one.

    A part that is known to be broken is not judged a second time: a `depends_on` of the wrong type must not also be
    reported as missing.
    """

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self._touched: set[Path] = set()
        self._exact: set[Path] = set()
        self._moved: dict[Path, Path] = {}
        self._suggested = 0

    def __bool__(self) -> bool:
        return bool(self.found)

    def report(self, path: Path, message: str) -> None:
        """A fault of the value at `path`."""
        self.add(Finding(path, message))

    def moved(self, path: Path, origin: Path) -> None:
        """What the model has at `path` was written at `origin`: faults of the one are told of the other."""
        self._moved[path] = origin

    def suggest(self, typed: str, candidates: Iterable[str]) -> str:
        """As `did_you_mean`, and silent after a hundred times: a broken file may be large, and comparing is slow."""
        self._suggested += 1
        return did_you_mean(typed, candidates) if self._suggested <= _MAX_SUGGESTIONS else ""

    def add(self, finding: Finding) -> None:
        finding = finding._replace(path=self._moved.get(finding.path, finding.path))
        self.found.append(finding)
        self._exact.add(finding.path)
        for length in range(len(finding.path) + 1):
            self._touched.add(finding.path[:length])

    def touches(self, path: Path) -> bool:
        """Whether the value at `path`, or anything inside it, has a fault."""
        return self._moved.get(path, path) in self._touched

    def condemns(self, path: Path) -> bool:
        """Whether the value at `path` as a whole has a fault, so that nothing can be said of its parts."""
        return path in self._exact
