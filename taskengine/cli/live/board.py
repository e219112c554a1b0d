"""What is known of one instance while it is watched: a snapshot, kept up to date by frames. Pure.

It speaks the bodies and frames of `taskengine.wire`, so an engine in this process, a server and a database are all the
same to it. Painters read it: the live table of a terminal, the plain lines of a pipe, the table of `instance status`.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from taskengine.clock import Micros
from taskengine.model.states import BUCKETS, INSTANCE_FINAL, TASK_FINAL, Bucket, InstanceState, TaskMove, TaskState
from taskengine.wire import (
    InstanceBody,
    InstanceDetail,
    InstanceStatus,
    ProgressBody,
    ProgressUpdate,
    Snapshot,
    StreamFrame,
    TaskBody,
    TaskStatus,
)

__all__ = ["Board", "Header", "Line"]

_RECENT: Final = 500
"""Ended tasks that are remembered by their time; more never fit on a screen."""

_NOT_BEGUN: Final = (TaskState.PENDING, TaskState.READY)
_MOVES: Final = frozenset(move.value for move in TaskMove)


class Header:
    """The instance itself."""

    __slots__ = ("error", "finished_us", "instance_id", "progress", "started_us", "state", "title", "version")

    def __init__(self, body: InstanceBody) -> None:
        self.instance_id, self.title, self.version = body.id, body.workflow_name, body.version
        self.state, self.progress, self.error = InstanceState(body.status), body.progress, body.error_message or ""
        self.started_us, self.finished_us = _micros(body.started_at), _micros(body.finished_at)

    @property
    def settled(self) -> int:
        """Tasks that have ended."""
        return self.progress.total - self.progress.running - self.progress.pending


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
    """The instance and its tasks in definition order.

    tries_allowed  by task name: attempts that its definition allows, where that is known
    """

    def __init__(self, instance: InstanceBody, tasks: Iterable[TaskBody]) -> None:
        self.lines: dict[int, Line] = {}
        self._by_name: dict[str, Line] = {}
        self._in_bucket: dict[Bucket, dict[int, Line]] = {bucket: {} for bucket in Bucket}
        self._tries: dict[str, int] = {}
        self._recent: deque[Line] = deque(maxlen=_RECENT)
        self.load(instance, tasks)

    @classmethod
    def of(cls, detail: InstanceDetail) -> "Board":
        return cls(detail, detail.tasks)

    def load(self, instance: InstanceBody, tasks: Iterable[TaskBody]) -> list[Line]:
        """Begin again from a snapshot: at first, and after frames were lost. Gives the lines that changed."""
        self.header = Header(instance)
        return [line for task in tasks if (line := self._load_task(task)) is not None]

    def allow_tries(self, name: str, tries: int) -> None:
        """The definition says how many attempts a task may have."""
        self._tries[name] = tries
        if name in self._by_name:
            self._by_name[name].tries_allowed = tries

    def apply(self, frames: Iterable[StreamFrame]) -> list[Line]:
        """Take in frames that belong together. Gives each line that changed once; log lines change nothing."""
        changed: dict[Line, None] = {}
        for frame in frames:
            changed |= dict.fromkeys(self._apply(frame))
        return list(changed)

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

    def _load_task(self, task: TaskBody) -> Line | None:
        """None when the line is as it was."""
        line = self._line(task.name)
        state, attempt = TaskState(task.status), task.attempt
        is_news = (line.state, line.attempt) != (state, attempt)
        self._place(line, state)
        # Where nobody gave a reason the row names the move, which the state tells already.
        line.attempt, line.reason = attempt, "" if task.reason in _MOVES else task.reason or ""
        line.started_us, line.finished_us = _micros(task.started_at), _micros(task.finished_at)
        line.depends_on = task.depends_on
        return line if is_news else None

    def _apply(self, frame: StreamFrame) -> list[Line]:
        match frame:
            case TaskStatus():
                self._count(frame.progress)
                return [] if self._is_known(frame) else [self._move(frame)]
            case InstanceStatus():
                self._change(frame)
            case ProgressUpdate():
                return self._note(frame)
            case Snapshot():
                own = [body for body in frame.instances if body.id == self.header.instance_id]
                return [line for body in own for line in self.load(body, frame.tasks)]
            case _:
                pass
        return []

    def _count(self, progress: ProgressBody | None) -> None:
        if progress is not None:
            self.header.progress = progress

    def _change(self, frame: InstanceStatus) -> None:
        header, state, at_us = self.header, InstanceState(frame.status), _known_micros(frame.timestamp)
        self._count(frame.progress)
        header.state = state
        if header.started_us is None and state is InstanceState.RUNNING:
            header.started_us = at_us
        header.finished_us = at_us if state in INSTANCE_FINAL else None
        if frame.error:
            header.error = frame.error

    def _note(self, frame: ProgressUpdate) -> list[Line]:
        line = self._by_name.get(frame.task_id)
        if line is None:
            return []
        line.note = f"{frame.fraction:.0%} {frame.message}".strip()
        return [line]

    def _is_known(self, frame: TaskStatus) -> bool:
        """A snapshot may be newer than the frames behind it: what ended does not begin again under the same number."""
        line, state = self._by_name.get(frame.task_id), TaskState(frame.status)
        if line is None or line.attempt != frame.attempt or line.state not in TASK_FINAL:
            return False
        return state is line.state or state in (TaskState.READY, TaskState.RUNNING)

    def _move(self, frame: TaskStatus) -> Line:
        line, state = self._line(frame.task_id), TaskState(frame.status)
        self._place(line, state)
        line.attempt, line.reason = frame.attempt, frame.error or ""
        if state is TaskState.RUNNING:
            line.started_us, line.finished_us, line.note = _known_micros(frame.timestamp), None, ""
        elif line.bucket is not Bucket.RUNNING and state not in _NOT_BEGUN:
            line.finished_us = _known_micros(frame.timestamp)
            self._recent.append(line)
        return line

    def _line(self, name: str) -> Line:
        line = self._by_name.get(name)
        if line is None:
            line = Line(len(self.lines), name)
            line.tries_allowed = self._tries.get(name, 0)
            self.lines[line.ordinal] = self._by_name[name] = line
            self._in_bucket[line.bucket][line.ordinal] = line
        return line

    def _place(self, line: Line, state: TaskState) -> None:
        before, line.state = line.bucket, state
        if line.bucket is not before:
            del self._in_bucket[before][line.ordinal]
            self._in_bucket[line.bucket][line.ordinal] = line


def _micros(at: datetime | None) -> Micros | None:
    return None if at is None else _known_micros(at)


def _known_micros(at: datetime) -> Micros:
    return Micros(round(at.timestamp() * 1_000_000))
