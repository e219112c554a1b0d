"""What would move a task or an instance on: commands to type, and times at which it comes by itself."""

import shlex
from collections.abc import Iterable, Sequence
from typing import Final

from taskengine.clock import Micros
from taskengine.engine.explanation.facts import Seen, TaskFacts
from taskengine.engine.explanation.wording import time_of
from taskengine.model.records import InstanceRow, ParkKind
from taskengine.model.spelling import quoted
from taskengine.model.states import Hold, InstanceState, Phase, TaskMove, TaskState
from taskengine.model.waits import wait_of
from taskengine.wire import Release

__all__ = ["again", "deadline", "fork_with_params", "from_hold", "of_task", "of_tasks", "retry_all"]

_MOST_RELEASED: Final = 5
"""Tasks of which one explanation says what would release them."""


def _command(*words: str) -> str:
    """As it is typed in a shell."""
    return shlex.join(["taskengine", *words])


def from_hold(instance: InstanceRow) -> list[Release]:
    """Of an instance that a user, or the death of processes, holds."""
    match instance.hold:
        case Hold.PAUSED:
            return [Release(what="the instance goes on", command=_command("instance", "resume", instance.id))]
        case Hold.QUARANTINED:
            return [
                Release(what="the instance tries once more", command=_command("instance", "retry", instance.id)),
                Release(what="the instance is given up", command=_command("instance", "cancel", instance.id)),
            ]
        case Hold.NONE:
            return []


def deadline(instance: InstanceRow) -> list[Release]:
    at_us = instance.deadline_us
    if at_us is None or instance.phase is Phase.END:
        return []
    return [Release(what="the workflow's timeout ends the instance", at=time_of(at_us))]


def of_tasks(instance: InstanceRow, tasks: Iterable[Seen]) -> list[Release]:
    """Of the first of those that something can release."""
    held = instance.hold is not Hold.NONE
    may_move = (task for task in tasks if not (held and task.state is TaskState.READY))
    found = [releases for task in may_move if (releases := of_task(instance, task))]
    return [release for releases in found[:_MOST_RELEASED] for release in releases]


def of_task(instance: InstanceRow, task: Seen) -> list[Release]:
    """Of one that has begun and not ended."""
    row, me = task.row, quoted(task.name)
    match task.state:
        case TaskState.READY:
            pool = f" and the pool {quoted(task.spec.pool)} a slot" if task.spec.pool else ""
            return [Release(what=f"a worker is free{pool}, and {me} starts")]
        case TaskState.RUNNING:
            ends = [Release(what=f"the body of {me} ends")]
            timeout = task.spec.timeout_us
            if timeout is None or row.started_us is None:
                return ends
            at = time_of(Micros(row.started_us + timeout))
            return [*ends, Release(what=f"the timeout of {me} ends this attempt", at=at)]
        case TaskState.RETRYING | TaskState.COMPENSATING if row.due_us is not None:
            return [Release(what=f"{me} is tried again", at=time_of(row.due_us))]
        case TaskState.WAITING:
            return _of_waiting(instance, task)
        case _:
            return []


def _of_waiting(instance: InstanceRow, task: Seen) -> list[Release]:
    row, me = task.row, quoted(task.name)
    match row.park:
        case ParkKind.SLEEP if row.due_us is not None:
            return [Release(what=f"the sleep of {me} is over", at=time_of(row.due_us))]
        case ParkKind.SIGNAL:
            return _of_signal(instance, task)
        case ParkKind.CHILD:
            return [Release(what=f"the child of {me} ends; why it has not:", command=_command("explain", row.key))]
        case ParkKind.SUBS:
            return [Release(what=f"the sub-tasks of {me} end")]
        case _:
            return []


def _of_signal(instance: InstanceRow, task: Seen) -> list[Release]:
    row, me, wait = task.row, quoted(task.name), wait_of(task.spec)
    if wait is not None and wait.approval:
        yes, no = (_command("instance", verb, instance.id, row.key) for verb in ("approve", "reject"))
        found = [
            Release(what=f"somebody approves {me}", command=yes),
            Release(what=f"somebody rejects {me}: it fails", command=no),
        ]
    else:
        send = _command("instance", "signal", instance.id, row.key)
        found = [Release(what=f"the signal for {me} comes", command=send)]
    if row.due_us is not None:
        then = "goes on without" if wait is not None and wait.on_timeout == "continue" else "fails"
        found.append(Release(what=f"its time is over, and {me} {then}", at=time_of(row.due_us)))
    return found


def retry_all(instance: InstanceRow) -> list[Release]:
    """Of an instance that has not ended well; what has no such command has none here."""
    words = _RETRIES.get(instance.state)
    return [] if words is None else [Release(what=words, command=_command("instance", "retry", instance.id))]


_REPEAT: Final = "what did not end well runs again, and every success is kept"
_RETRIES: Final = {
    InstanceState.FAILED: _REPEAT,
    InstanceState.TIMED_OUT: _REPEAT,
    InstanceState.CANCELLED: _REPEAT,
    InstanceState.COMPENSATED: "what was undone or did not end well runs again",
    InstanceState.COMPENSATION_FAILED: "what could not be undone is undone again",
}


def again(facts: TaskFacts, roots: Sequence[Seen] = ()) -> list[Release]:
    """Of a task that has ended: the instance once more, then from the task or from where its trouble began."""
    instance = facts.instance
    found = retry_all(instance) if facts.task.state is not TaskState.SKIPPED else []
    if instance.phase is Phase.COMP or instance.state in (InstanceState.COMPENSATED, InstanceState.COMPENSATION_FAILED):
        return found
    later = "" if instance.phase is Phase.END else "once the instance has ended: "
    for name in [root.name for root in roots[:_MOST_RELEASED]] or [_name_to_repeat(facts)]:
        from_there = _command("instance", "retry", instance.id, "--from", name)
        found.append(Release(what=f"{later}{quoted(name)} and all below run again", command=from_there))
    return found


def _name_to_repeat(facts: TaskFacts) -> str:
    """A sub-task whose parent's body has not succeeded only runs with its parent."""
    parent = facts.parent
    return facts.task.name if parent is None or parent.row.body_seq else parent.name


def fork_with_params(facts: TaskFacts) -> list[Release]:
    """Of a task whose `when` was false, and is the same as long as the params are."""
    instance, row = facts.instance, facts.task.row
    if instance.phase is not Phase.END or row.reason != TaskMove.WHEN_FALSE:
        return []
    fork = f"{_command('instance', 'fork', instance.id, '--from', facts.task.name)} -p NAME=VALUE"
    return [Release(what="a new instance judges its `when` with other params", command=fork)]
