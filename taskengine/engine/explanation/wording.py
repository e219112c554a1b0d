"""Single tasks in words: what is the matter with one, as the end of a sentence about it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from taskengine.clock import Micros
from taskengine.engine.explanation.facts import Seen
from taskengine.model.durations import format_duration
from taskengine.model.records import ParkKind
from taskengine.model.spelling import quoted
from taskengine.model.states import TaskMove, TaskState
from taskengine.model.waits import wait_of
from taskengine.wire import Cause

__all__ = [
    "begin_with",
    "causes",
    "condition",
    "failure_text",
    "names",
    "one_line",
    "sentence",
    "several",
    "time_of",
]

_S = TaskState

_MOST_CHARS: Final = 300
_NAMES_SHOWN: Final = 3


def one_line(text: str) -> str:
    """A text of somebody else, not too long for a sentence."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST_CHARS else line[: _MOST_CHARS - 1] + "…"


def sentence(text: str) -> str:
    """With its full stop, which the message at its end may have brought along."""
    return f"{text.rstrip('.')}."


def time_of(at_us: Micros) -> datetime:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC)


def _moment(at_us: Micros) -> str:
    return time_of(at_us).strftime("%Y-%m-%d %H:%M:%S UTC")


def several(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def names(tasks: Sequence[Seen], count: int) -> str:
    """The first of `count` tasks."""
    shown = [quoted(task.name) for task in tasks[:_NAMES_SHOWN]]
    if count > len(shown):
        return f"{', '.join(shown)} and {count - len(shown):,} more"
    return " and ".join([*([", ".join(shown[:-1])] if shown[1:] else []), *shown[-1:]])


def begin_with(task: Seen) -> str:
    """A whole clause about it."""
    return f"{quoted(task.name)} {condition(task)}"


def causes(tasks: Iterable[Seen]) -> list[Cause]:
    return [Cause(task=task.name, status=task.state.value, reason=condition(task)) for task in tasks]


def failure_text(task: Seen) -> str:
    """Type and message of what failed last; empty when nothing did."""
    failure = task.failure
    return "" if failure is None else one_line(f"{failure.type}: {failure.message}")


def condition(task: Seen) -> str:
    """What is the matter with it, to be read behind its name."""
    return _CONDITIONS[task.state](task)


def _pending(task: Seen) -> str:
    return "waits for what it depends on" if task.spec.depends_on and not task.row.begun else "waits for a place"


def _ready(task: Seen) -> str:
    pool = task.spec.pool
    return f"waits for a free worker and for a slot of the pool {quoted(pool)}" if pool else "waits for a free worker"


def _running(task: Seen) -> str:
    row = task.row
    since = "" if row.started_us is None else f" since {_moment(row.started_us)}"
    timeout = task.spec.timeout_us
    limit = "" if timeout is None else f", for at most {format_duration(timeout)}"
    return f"is running{since} (attempt {row.attempt}{limit})"


def _retrying(task: Seen) -> str:
    failed = failure_text(task)
    due = "" if task.row.due_us is None else f" and tries again at {_moment(task.row.due_us)}"
    return f"failed in attempt {task.row.attempt}{f' ({failed})' if failed else ''}{due}"


def _waiting(task: Seen) -> str:
    row = task.row
    until = "" if row.due_us is None else f" until {_moment(row.due_us)}"
    match row.park:
        case ParkKind.SLEEP:
            return f"sleeps{until}"
        case ParkKind.SIGNAL:
            wait = wait_of(task.spec)
            kind = "approval" if wait is not None and wait.approval else "signal"
            return f"waits for the {kind} {quoted(row.key)}{until}"
        case ParkKind.CHILD:
            return f"waits for the end of instance {row.key}, which it has started"
        case ParkKind.SUBS:
            return "waits for its sub-tasks"
        case ParkKind.NONE:
            return f"waits{until}"


def _failed(task: Seen) -> str:
    return f"failed: {failure_text(task) or 'nobody knows why'}"


def _timed_out(task: Seen) -> str:
    return f"timed out: {failure_text(task) or 'its time was over'}"


def _skipped(task: Seen) -> str:
    false = task.row.reason == TaskMove.WHEN_FALSE
    return f"was skipped: its `when` was false: {quoted(task.spec.when)}" if false else "was skipped by its trigger"


def _cancelled(task: Seen) -> str:
    return "was stopped after a failure" if task.row.reason in ("stopped", TaskMove.STOP) else "was cancelled"


def _compensating(task: Seen) -> str:
    if task.row.due_us is None:
        return "is being undone"
    return f"could not be undone yet ({failure_text(task)}); the next attempt is due at {_moment(task.row.due_us)}"


_CONDITIONS: Final[Mapping[TaskState, Callable[[Seen], str]]] = {
    _S.PENDING: _pending,
    _S.READY: _ready,
    _S.RUNNING: _running,
    _S.RETRYING: _retrying,
    _S.WAITING: _waiting,
    _S.SUCCESS: lambda task: "has succeeded",
    _S.FAILED: _failed,
    _S.TIMED_OUT: _timed_out,
    _S.SKIPPED: _skipped,
    _S.UPSTREAM_FAILED: lambda task: "never began: what it depends on did not end well",
    _S.CANCELLED: _cancelled,
    _S.COMPENSATING: _compensating,
    _S.COMPENSATED: lambda task: "was undone",
    _S.COMPENSATION_FAILED: lambda task: f"could not be undone: {failure_text(task)}",
}
