"""How far a long copy is, on stderr: one line that is drawn over on a terminal, a line now and then elsewhere."""

from types import TracebackType
from typing import Final, Self, TextIO

from taskengine.cli.safe import clean
from taskengine.cli.terminal import is_animated
from taskengine.clock import Clock

__all__ = ["Counter"]

_REDRAWN_S: Final = 0.2
_TOLD_S: Final = 10.0


class Counter:
    """What was there at the first word of a phase counts for the share, and not for the speed."""

    def __init__(self, stream: TextIO, clock: Clock, *, quiet: bool, unit: str = "rows") -> None:
        self._stream, self._clock, self._quiet, self._unit = stream, clock, quiet, unit
        self._drawn = is_animated(stream)
        self._began_s: float | None = None
        self._first = 0
        self._next_s = 0.0
        self._width = 0

    def begin(self) -> None:
        """Another phase: it counts from the start."""
        self._began_s = None

    def told(self, label: str, done: int, total: int) -> None:
        """So much is done, now at `label`, of a total that may be an estimate."""
        now_s = self._clock.monotonic()
        if self._began_s is None:
            self._began_s, self._first = now_s, done
            self._next_s = now_s + (0.0 if self._drawn else _TOLD_S)
        if self._quiet or now_s < self._next_s:
            return
        self._next_s = now_s + (_REDRAWN_S if self._drawn else _TOLD_S)
        self._write(self._line(label, done, total, now_s - self._began_s))

    def _line(self, label: str, done: int, total: int, took_s: float) -> str:
        share = f"{min(99, 100 * done // total)} %" if total else ""
        speed = f"{(done - self._first) / took_s:,.0f} {self._unit}/s" if took_s > 0 else ""
        return "  ".join(part for part in (clean(label), share, f"{done:,} {self._unit}", speed) if part)

    def _write(self, line: str) -> None:
        if self._drawn:
            self._stream.write(f"\r{line.ljust(self._width)}")
            self._width = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The line of a terminal goes: what follows stands in its place."""
        if self._width:
            self._stream.write(f"\r{' ' * self._width}\r")
            self._stream.flush()
