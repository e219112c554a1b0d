"""How a run is shown while it goes on: a table that is drawn over on a terminal, plain lines everywhere else.

Both write to stderr. Prints of job functions go to stderr, too: stdout belongs to the result.
"""

import contextlib
import io
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from taskengine.cli.live.board import Board, Line
from taskengine.cli.live.status import Column, Style, end_lines, fitting_lines, header_lines, tally, task_lines
from taskengine.cli.safe import clean, clean_lines
from taskengine.cli.terminal import is_animated, is_terminal, make_console, speaks_unicode
from taskengine.clock import Micros
from taskengine.model.states import Bucket, TaskState
from taskengine.wire import LogUpdate

__all__ = [
    "LEVEL_COLOURS",
    "LivePainter",
    "Painter",
    "PlainPainter",
    "SilentPainter",
    "make_painter",
    "show_end",
    "show_status",
]

LEVEL_COLOURS: Final = {"debug": "dim", "info": "", "warning": "yellow", "error": "red", "stderr": "yellow"}


class Painter(Protocol):
    """Shows a board. Called on the loop's thread, at most some ten times a second."""

    def changed(self, board: Board, lines: Sequence[Line], now_us: Micros) -> None:
        """These tasks have moved since the last call, in this order."""
        ...

    def log(self, frame: LogUpdate) -> None:
        """A job has logged a line, and the person wants to see them."""
        ...

    def paint(self, board: Board, now_us: Micros) -> None:
        """The board as it is now."""
        ...

    def showing(self) -> contextlib.AbstractContextManager[None]:
        """While it is open, the painter has stderr."""
        ...


def make_painter(stream: TextIO, *, quiet: bool = False) -> Painter:
    """The painter for what stderr is."""
    if quiet:
        return SilentPainter()
    console = make_console(stream)
    unicode = speaks_unicode(stream)
    return LivePainter(console, unicode) if is_animated(stream) else PlainPainter(console, unicode)


class SilentPainter:
    """Shows nothing."""

    def changed(self, board: Board, lines: Sequence[Line], now_us: Micros) -> None: ...

    def log(self, frame: LogUpdate) -> None: ...

    def paint(self, board: Board, now_us: Micros) -> None: ...

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        yield


class PlainPainter:
    """One line for each task that ended or will be tried again; nothing is drawn over."""

    def __init__(self, console: Console, unicode: bool) -> None:
        self._console, self._style = console, Style(width=None, unicode=unicode)
        self._names = Column()

    def changed(self, board: Board, lines: Sequence[Line], now_us: Micros) -> None:
        for line in lines:
            if line.bucket not in (Bucket.RUNNING, Bucket.PENDING) or line.state is TaskState.RETRYING:
                self._console.print(self._names.line(board, line, now_us, self._style))

    def log(self, frame: LogUpdate) -> None:
        self._console.print(_log_text(frame))

    def paint(self, board: Board, now_us: Micros) -> None:
        """Nothing: what there is to say was said by `changed`."""

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        yield


class LivePainter:
    """The status as a table at the bottom of the terminal, never higher than the terminal."""

    def __init__(self, console: Console, unicode: bool) -> None:
        self._console, self._unicode = console, unicode
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def changed(self, board: Board, lines: Sequence[Line], now_us: Micros) -> None:
        """Nothing: the next `paint` shows it."""

    def log(self, frame: LogUpdate) -> None:
        self._console.print(_log_text(frame))

    def paint(self, board: Board, now_us: Micros) -> None:
        style = Style(width=self._console.width, unicode=self._unicode)
        header = header_lines(board.header, now_us, style)
        # Room for the tally and the cursor's line below, too.
        lines = fitting_lines(board, max(1, self._console.height - len(header) - 2))
        shown = [*header, *task_lines(board, lines, now_us, style)]
        if len(lines) < len(board.lines):
            shown.append(tally(board, len(board.lines) - len(lines), style))
        self._live.update(Group(*shown), refresh=True)

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """Prints of jobs come out above the table, line by line."""
        above = _LineWriter(lambda text: self._console.print(Text(clean_lines(text))), sys.stderr)
        with self._live, contextlib.redirect_stdout(above), contextlib.redirect_stderr(above):
            try:
                yield
            finally:
                above.finish()


class _LineWriter(io.TextIOBase):
    """A text stream that hands over whole lines. Any thread may write."""

    def __init__(self, emit: Callable[[str], None], behind: TextIO) -> None:
        self._emit, self._behind = emit, behind
        self._lock = threading.Lock()
        self._begun = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._behind.encoding

    def fileno(self) -> int:
        return self._behind.fileno()

    def isatty(self) -> bool:
        return self._behind.isatty()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._emit(line)
        return len(text)

    def finish(self) -> None:
        """Hand over a last line without an end."""
        with self._lock:
            line, self._begun = self._begun, ""
        if line:
            self._emit(line)


def show_end(board: Board, now_us: Micros, stream: TextIO) -> None:
    """The final table: all of a small graph, what did not succeed of a big one."""
    _show(board, end_lines(board), now_us, stream)


def show_status(board: Board, now_us: Micros, stream: TextIO) -> None:
    """The status with every task."""
    _show(board, sorted(board.lines.values(), key=lambda line: line.ordinal), now_us, stream)


def _show(board: Board, lines: Sequence[Line], now_us: Micros, stream: TextIO) -> None:
    console, unicode = make_console(stream), speaks_unicode(stream)
    style = Style(width=console.width if is_terminal(stream) else None, unicode=unicode)
    shown = [*header_lines(board.header, now_us, style), *task_lines(board, lines, now_us, style)]
    if len(lines) < len(board.lines):
        shown.append(tally(board, len(board.lines) - len(lines), style))
    console.print(Text("\n").join(shown), soft_wrap=True)


def _log_text(frame: LogUpdate) -> Text:
    colour = LEVEL_COLOURS.get(frame.level.lower(), "")
    first, *more = clean_lines(frame.message).rstrip("\n").split("\n")
    text = Text.assemble(("  " + clean(frame.task_id), "bold"), f" {frame.level.lower():<7} ", (first, colour))
    for line in more:
        text.append(f"\n    {line}", colour)
    return text
