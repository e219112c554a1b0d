"""What is known of one instance while it is watched: a snapshot, kept up to date by frames of the bus. Pure.

Painters read it: the live table of a terminal, the plain lines of a pipe, the table of `instance status`.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from taskengine.bus import Frame, LogFrame, ProgressFrame
from taskengine.clock import Micros
from taskengine.model.events import Event, Transition
from taskengine.model.states import BUCKETS, INSTANCE_FINAL, Bucket, InstanceState, TaskMove, TaskState

if TYPE_CHECKING:
    from taskengine.engine.views import InstanceView, TaskView

__all__ = ["Board", "Header", "Line"]

_RECENT: Final = 500
"""Ended tasks that are remembered by their time; more never fit on a screen."""

_NOT_BEGUN: Final = (TaskState.PENDING, TaskState.READY)
_MOVES: Final = frozenset(move.value for move in TaskMove)


class Header:
    """The instance itself."""

    __slots__ = ("error", "finished_us", "instance_id", "progress", "started_us", "state", "title", "version")

    def __init__(self, view: "InstanceView") -> None:
        self.instance_id, self.title, self.version = view.id, view.workflow_name, view.version
        self.state, self.progress, self.error = view.status, view.progress, view.error
        self.started_us, self.finished_us = _micros(view.started_at), _micros(view.finished_at)


class Line:
    """One task. `note` is what the job said of its progress, `reason` why it is in its state."""

    __slots__ = (
        "attempt",
        "depends_on",
        "finished_us",
        "name",
        "note",
        "ordinal",
        "reason",
        "started_us",
        "state",
        "tries_allowed",
    )

    def __init__(self, ordinal: int, name: str) -> None:
        self.ordinal, self.name = ordinal, name
        self.state = TaskState.PENDING
        self.attempt, self.tries_allowed = 0, 0
        self.started_us: Micros | None = None
        self.finished_us: Micros | None = None
        self.reason, self.note = "", ""
        self.depends_on: Sequence[str] = ()

    @property
    def bucket(self) -> Bucket:
        return BUCKETS[self.state]


class Board:
    """The instance and its tasks by ordinal.

    tries_allowed  by task name: attempts that its definition allows, where that is known
    """

    def __init__(self, header: Header, tasks: Iterable["TaskView"]) -> None:
        self.lines: dict[int, Line] = {}
        self._by_name: dict[str, Line] = {}
        self._in_bucket: dict[Bucket, dict[int, Line]] = {bucket: {} for bucket in Bucket}
        self._recent: deque[Line] = deque(maxlen=_RECENT)
        self.load(header, tasks)

    def load(self, header: Header, tasks: Iterable["TaskView"]) -> None:
        """Begin again from a snapshot: at first, and after frames were lost."""
        self.header = header
        for view in tasks:
            line = self._line(view.ordinal, view.name)
            self._place(line, view.status)
            # Where nobody gave a reason the row names the move, which the state tells already.
            line.attempt, line.reason = view.attempt, "" if view.reason in _MOVES else view.reason
            line.started_us, line.finished_us = _micros(view.started_at), _micros(view.finished_at)
            line.depends_on = view.depends_on

    def allow_tries(self, name: str, tries: int) -> None:
        """The definition says how many attempts a task may have."""
        if name in self._by_name:
            self._by_name[name].tries_allowed = tries

    def apply(self, frame: Frame) -> list[Line]:
        """Take a frame in. Gives the lines that changed; log lines change nothing."""
        match frame:
            case Event():
                return self._apply_event(frame)
            case ProgressFrame():
                line = self._by_name.get(frame.task)
                if line is None:
                    return []
                line.note = f"{frame.fraction:.0%} {frame.message}".strip()
                return [line]
            case LogFrame():
                return []

    def first(self, bucket: Bucket, limit: int) -> list[Line]:
        """Up to `limit` lines of a bucket, in the order in which they came into it."""
        found: list[Line] = []
        for line in self._in_bucket[bucket].values():
            if len(found) == limit:
                break
            found.append(line)
        return found

    def latest_ended(self, limit: int) -> list[Line]:
        """Up to `limit` lines that ended last, the latest first."""
        found: dict[int, Line] = {}
        for line in reversed(self._recent):
            if len(found) == limit:
                break
            if line.bucket not in (Bucket.RUNNING, Bucket.PENDING):
                found[line.ordinal] = line
        return list(found.values())

    def waits_for(self, line: Line) -> list[str]:
        """Names of the dependencies of a pending line that have not ended."""
        if line.state is not TaskState.PENDING:
            return []
        return [name for name in line.depends_on if self._is_open(name)]

    def _is_open(self, name: str) -> bool:
        line = self._by_name.get(name)
        return line is not None and line.bucket in (Bucket.RUNNING, Bucket.PENDING)

    def _apply_event(self, event: Event) -> list[Line]:
        header, body = self.header, event.body
        header.state, header.progress = body.state, body.progress
        if header.started_us is None and body.state is InstanceState.RUNNING:
            header.started_us = event.at_us
        if body.state in INSTANCE_FINAL:
            header.finished_us = event.at_us
        if body.reason:
            header.error = body.reason
        # A short task makes two moves in one event, and is one line of news.
        return list(dict.fromkeys([self._move(transition, event.at_us) for transition in body.transitions]))

    def _move(self, transition: Transition, at_us: Micros) -> Line:
        line = self._line(transition.ordinal, transition.task)
        self._place(line, transition.state)
        line.attempt, line.reason = transition.attempt, transition.reason
        if transition.state is TaskState.RUNNING:
            line.started_us, line.finished_us, line.note = at_us, None, ""
        elif line.bucket is not Bucket.RUNNING and transition.state not in _NOT_BEGUN:
            line.finished_us = at_us
            self._recent.append(line)
        return line

    def _line(self, ordinal: int, name: str) -> Line:
        line = self.lines.get(ordinal)
        if line is None:
            line = self.lines[ordinal] = Line(ordinal, name)
            self._by_name[name] = line
            self._in_bucket[line.bucket][ordinal] = line
        return line

    def _place(self, line: Line, state: TaskState) -> None:
        before, line.state = line.bucket, state
        if line.bucket is not before:
            del self._in_bucket[before][line.ordinal]
            self._in_bucket[line.bucket][line.ordinal] = line


def _micros(at: datetime | None) -> Micros | None:
    return None if at is None else Micros(round(at.timestamp() * 1_000_000))
