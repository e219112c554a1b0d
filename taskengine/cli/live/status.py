"""The status of an instance as lines of text: those of the header, one for each task. Used live and at the end.

Everything from outside goes through `clean`; lines are rich `Text`, never markup.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from taskengine.cli.live.board import Board, Header, Line
from taskengine.cli.safe import clean, one_line
from taskengine.clock import Micros
from taskengine.model.states import Bucket, InstanceState, TaskState

__all__ = [
    "Column",
    "Style",
    "clock_text",
    "end_lines",
    "fitting_lines",
    "header_lines",
    "span_text",
    "tally",
    "task_lines",
]

_GLYPHS: Final[Mapping[TaskState, str]] = {
    TaskState.PENDING: "○",
    TaskState.READY: "○",
    TaskState.RUNNING: "●",
    TaskState.RETRYING: "↻",
    TaskState.WAITING: "●",
    TaskState.SUCCESS: "✔",
    TaskState.FAILED: "✖",
    TaskState.TIMED_OUT: "✖",
    TaskState.SKIPPED: "⊘",
    TaskState.UPSTREAM_FAILED: "✖",
    TaskState.CANCELLED: "⊘",
    TaskState.COMPENSATING: "↻",
    TaskState.COMPENSATED: "⊘",
    TaskState.COMPENSATION_FAILED: "✖",
}
_ASCII: Final = str.maketrans({"○": "o", "●": "*", "↻": "~", "✔": "+", "✖": "x", "⊘": "-", "…": "."})
_COLOURS: Final[Mapping[Bucket, str]] = {
    Bucket.COMPLETED: "green",
    Bucket.FAILED: "red",
    Bucket.RUNNING: "cyan",
    Bucket.PENDING: "dim",
    Bucket.SKIPPED: "dim",
    Bucket.CANCELLED: "yellow",
    Bucket.COMPENSATION: "magenta",
}
_BUCKET_GLYPHS: Final[Mapping[Bucket, str]] = {
    Bucket.COMPLETED: "✔",
    Bucket.FAILED: "✖",
    Bucket.RUNNING: "●",
    Bucket.PENDING: "○",
    Bucket.SKIPPED: "⊘ skipped",
    Bucket.CANCELLED: "⊘ cancelled",
    Bucket.COMPENSATION: "↻",
}
_STATE_COLOURS: Final[Mapping[InstanceState, str]] = {
    InstanceState.SUCCESS: "bold green",
    InstanceState.RUNNING: "bold cyan",
    InstanceState.FAILED: "bold red",
    InstanceState.TIMED_OUT: "bold red",
    InstanceState.QUARANTINED: "bold red",
}
_OPEN: Final = (Bucket.RUNNING, Bucket.PENDING)
_WIDEST_NAME: Final = 40
_STATE_CELLS: Final = max(len(state) for state in TaskState if not state.startswith("Compensat"))
_NAMES_SHOWN: Final = 3
_END_ROWS: Final = 40


class Style:
    """How much room there is and what can be written. `width` None: unbounded, nothing is cut."""

    __slots__ = ("unicode", "width")

    def __init__(self, *, width: int | None, unicode: bool = True) -> None:
        self.width, self.unicode = width, unicode

    def fit(self, line: Text) -> Text:
        if self.width is not None:
            line.truncate(self.width, overflow="ellipsis" if self.unicode else "crop")
        if not self.unicode:
            line.plain = line.plain.translate(_ASCII)
        return line


def header_lines(header: Header, now_us: Micros, style: Style) -> list[Text]:
    """Instance and workflow; state, progress and elapsed time; the error if there is one. Two to five lines.

    What does not fit side by side stands below: a narrow window hides neither the workflow nor the time.
    """
    progress, state = header.progress, header.state
    end_us = header.finished_us or now_us
    elapsed_us = max(0, end_us - header.started_us) if header.started_us is not None else 0
    instance = Text.assemble("Instance  ", header.instance_id)
    workflow = Text.assemble("Workflow  ", clean(header.title))
    version = Text(f" (v {header.version[:7]})", "dim")
    status = Text.assemble("Status    ", (f"{state.value:<12}", _STATE_COLOURS.get(state, "bold yellow")))
    progressed = Text(f"Progress  {header.settled}/{progress.total} ({progress.percent}%)")
    progressed.append(f"   Elapsed {clock_text(elapsed_us)}")
    lines = [*_beside([instance, workflow], version, style), *_beside([status, progressed], Text(), style)]
    if header.error and state not in (InstanceState.SUCCESS, InstanceState.RUNNING):
        lines.append(style.fit(Text.assemble("Reason    ", (one_line(header.error, 1000), "red"))))
    return lines


def _beside(parts: Sequence[Text], last: Text, style: Style) -> list[Text]:
    """The parts in one line, or in one each where that is too long; `last` is cut before that happens."""
    whole = Text("   ").join(parts)
    if style.width is None or whole.cell_len <= style.width:
        return [style.fit(whole + last)]
    return [style.fit(part) for part in (*parts[:-1], parts[-1] + last)]


def task_lines(board: Board, lines: Sequence[Line], now_us: Micros, style: Style) -> list[Text]:
    """One line of text for each, names aligned."""
    names = [clean(line.name) for line in lines]
    widest = max((cell_len(name) for name in names), default=0)
    cells = widest if style.width is None else min(widest, max(8, min(_WIDEST_NAME, style.width // 3)))
    return [
        style.fit(_task_line(board, line, _sized(name, cells), now_us)) for line, name in zip(lines, names, strict=True)
    ]


class Column:
    """The width of the names, where lines are printed one after the other: the longest name known so far has room.

    What is longer than most screens can bear sticks out, rather than to push all others to the right.
    """

    def __init__(self) -> None:
        self._cells = self._seen = 0

    def line(self, board: Board, line: Line, now_us: Micros, style: Style) -> Text:
        """One line of text, its name in full."""
        for ordinal in range(self._seen, len(board.lines)):
            self._cells = max(self._cells, min(_WIDEST_NAME, cell_len(clean(board.lines[ordinal].name))))
        self._seen = len(board.lines)
        name = clean(line.name)
        return style.fit(_task_line(board, line, _sized(name, max(self._cells, cell_len(name))), now_us))


def _task_line(board: Board, line: Line, name: str, now_us: Micros) -> Text:
    colour = _COLOURS[line.bucket]
    text = Text.assemble("  ", (_GLYPHS[line.state], colour), f" {name}   ")
    text.append(f"{line.state.value:<{_STATE_CELLS}}", colour)
    text.append(f"  {_duration(line, now_us):>7}   ")
    text.append(_note(board, line), "dim" if line.bucket in _OPEN else "")
    text.rstrip()
    return text


def _sized(name: str, cells: int) -> str:
    if cell_len(name) <= cells:
        return set_cell_size(name, cells)
    return set_cell_size(set_cell_size(name, cells - 1).rstrip() + "…", cells)


def _duration(line: Line, now_us: Micros) -> str:
    if line.started_us is None or line.state in (TaskState.PENDING, TaskState.READY):
        return ""
    end_us = line.finished_us if line.finished_us is not None else now_us
    return span_text(max(0, end_us - line.started_us))


def _note(board: Board, line: Line) -> str:
    """What is worth saying behind the duration."""
    parts = []
    if line.attempt > 1 or (line.tries_allowed > 1 and line.bucket is Bucket.RUNNING):
        # Interruptions and lost attempts are not counted against the policy, so the number may pass the limit.
        limit = f"/{line.tries_allowed}" if line.attempt <= line.tries_allowed else ""
        parts.append(f"attempt {line.attempt}{limit}")
    if line.note and line.state is TaskState.RUNNING:
        parts.append(one_line(line.note))
    waits = board.waits_for(line)
    if waits:
        more = f" and {len(waits) - _NAMES_SHOWN} more" if len(waits) > _NAMES_SHOWN else ""
        parts.append(f"waits for {', '.join(map(clean, waits[:_NAMES_SHOWN]))}{more}")
    elif line.reason and line.state not in (TaskState.SUCCESS, TaskState.READY, TaskState.RUNNING):
        parts.append(one_line(line.reason, 1000))
    return "   ".join(parts)


def fitting_lines(board: Board, rows: int) -> list[Line]:
    """The most telling `rows` lines, in definition order: what runs, what failed, what ended last, what comes next."""
    if len(board.lines) <= rows:
        return sorted(board.lines.values(), key=_ordinal)
    chosen: dict[int, Line] = {}
    running = board.first(Bucket.RUNNING, rows)
    for line in (
        *running[: max(1, rows * 2 // 3)],
        *board.first(Bucket.FAILED, max(1, rows // 3)),
        *board.latest_ended(max(1, rows // 4)),
        *running,
        *board.first(Bucket.PENDING, rows),
        *board.latest_ended(rows),
    ):
        if len(chosen) == rows:
            break
        chosen[line.ordinal] = line
    return sorted(chosen.values(), key=_ordinal)


def end_lines(board: Board) -> list[Line]:
    """What to show once it is over: everything of a small graph, else what did not succeed, up to a page."""
    if len(board.lines) <= _END_ROWS:
        return sorted(board.lines.values(), key=_ordinal)
    unhappy: list[Line] = []
    for bucket in (Bucket.FAILED, Bucket.RUNNING, Bucket.COMPENSATION, Bucket.CANCELLED, Bucket.PENDING):
        unhappy += board.first(bucket, _END_ROWS // 2 - len(unhappy))
    return sorted(unhappy, key=_ordinal)


def tally(board: Board, hidden: int, style: Style) -> Text:
    """The line below a table that does not show all: how many are where."""
    progress = board.header.progress
    text = Text(f"  … {hidden:,} more of {progress.total:,}:", "dim")
    for bucket in Bucket:
        if count := getattr(progress, bucket.value):
            text.append(f"  {count:,} {_BUCKET_GLYPHS[bucket]}", _COLOURS[bucket])
    return style.fit(text)


def _ordinal(line: Line) -> int:
    return line.ordinal


def clock_text(span_us: int) -> str:
    """`00:02:30`; days only count as hours."""
    seconds = span_us // 1_000_000
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def span_text(span_us: int) -> str:
    """`0.5s`, `2m05s`, `1h02m`."""
    seconds = span_us / 1_000_000
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole // 60 % 60:02}m"
