"""A new instance that takes over what another one has done, and goes on from one of its tasks. Pure.

The new one owns copies: rows and results of the tasks that do not run again, with their sub-tasks, as its first commit
has them. So it undoes them, too, if it fails later and they have a compensation; the other one is as it was.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from taskengine.engine.planner import Shape
from taskengine.errors import Conflict, NotFound
from taskengine.expressions import references
from taskengine.model.definition import TaskSpec
from taskengine.model.ids import Ordinal
from taskengine.model.params import bind_params
from taskengine.model.records import TaskRow
from taskengine.model.spelling import did_you_mean
from taskengine.model.states import TaskState

__all__ = ["fork_reason", "forked_params", "same_origin", "taken_over"]

_NAMED: Final = 5
_FORKED: Final = "forked from "
_ENDED_WELL: Final = (TaskState.SUCCESS, TaskState.SKIPPED)
_TOLERABLE: Final = (TaskState.FAILED, TaskState.TIMED_OUT)
_UNDOING: Final = (TaskState.COMPENSATING, TaskState.COMPENSATED, TaskState.COMPENSATION_FAILED)


def fork_reason(source: str, task: str) -> str:
    """Of the new instance's first event: it says where the instance comes from, to people and to `same_origin`."""
    return f"{_FORKED}{source} at {task!r}"


def same_origin(first: str, reason: str) -> bool:
    """Whether an instance whose first event has this reason began as one with the other reason does.

    A start that is no fork has none; what else its first event may say does not count.
    """
    return (first if first.startswith(_FORKED) else "") == reason


def forked_params(shape: Shape, before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The params of the other instance, as far as this version has them, and the given ones over them.

    Raises InvalidParams.
    """
    declared = shape.definition.params
    kept = {name: value for name, value in before.items() if name in declared or not declared}
    return bind_params(declared, {**kept, **given})


def taken_over(
    shape: Shape,
    other: Shape,
    rows: Sequence[TaskRow],
    task: str,
    before: Mapping[str, Any],
    params: Mapping[str, Any],
) -> tuple[TaskRow, ...]:
    """The rows with which the new instance begins, numbered for it.

    shape, other    the version of the new instance, and that of the one it is forked from
    rows            all of that one, in the order of their ordinals
    task            it and all below run again; and what has not ended well there or was undone, with all below
    before, params  of the other instance, and of the new one
    Raises NotFound; Conflict with what stands in the way.
    """
    again = shape.graph.below([_start(shape, rows, task)])
    _require_same(shape, other, again, task)
    by_name = {row.name: row for row in rows}
    _require_none_forgotten(shape, other, by_name, task)
    undone = _undone(rows)
    _require_no_remains(shape, again, undone, task)
    unfit = [
        ordinal
        for ordinal, name in enumerate(shape.names)
        if name in undone or not _ended_well(shape, ordinal, by_name)
    ]
    again |= shape.graph.below(unfit)
    kept = [ordinal for ordinal in range(len(shape.names)) if ordinal not in again]
    _require_same_params(shape, kept, before, params, task)
    found = [msgspec.structs.replace(by_name[shape.names[ordinal]], ordinal=Ordinal(ordinal)) for ordinal in kept]
    places = {int(by_name[row.name].ordinal): int(row.ordinal) for row in found}
    return (*found, *_sub_tasks(rows, places, len(shape.names)))


def _start(shape: Shape, rows: Sequence[TaskRow], task: str) -> int:
    if task in shape.ordinals:
        return shape.ordinals[task]
    if any(row.name == task for row in rows):
        raise Conflict(
            f"{task!r} was added while the instance ran; fork from {task.partition('/')[0]!r}, which adds it"
        )
    raise NotFound("task", task, did_you_mean(task, shape.ordinals).removeprefix(", "))


def _require_same(shape: Shape, other: Shape, again: Iterable[int], task: str) -> None:
    """What does not run again must be what it was."""
    below = set(again)
    differing = [
        name
        for ordinal, name in enumerate(shape.names)
        if ordinal not in below and _spec(other, name) != shape.specs[ordinal]
    ]
    if differing:
        raise Conflict(
            f"not below {task!r}, and other than in the version of the instance: {_names(differing)}; what they have "
            "done cannot be taken over. Fork from a task above them, or start a new instance"
        )


def _require_none_forgotten(shape: Shape, other: Shape, rows: Mapping[str, TaskRow], task: str) -> None:
    """A saga that fails undoes all that was done for it: a task that has been taken out of the workflow, too.

    One that was below the task may go: had it stayed, it would run again.
    """
    below = other.graph.below([other.ordinals[task]]) if task in other.ordinals else set()
    forgotten = [
        name
        for ordinal, name in enumerate(other.names)
        if name not in shape.ordinals
        and ordinal not in below
        and other.specs[ordinal].compensation is not None
        and name in rows
        and rows[name].state is TaskState.SUCCESS
    ]
    if forgotten:
        raise Conflict(
            f"not in this version, and done in the instance: {_names(forgotten)}; a fork that fails could not undo it. "
            "Keep the task in the workflow, or start a new instance"
        )


def _spec(shape: Shape, name: str) -> TaskSpec | None:
    ordinal = shape.ordinals.get(name)
    return None if ordinal is None else shape.specs[ordinal]


def _ended_well(shape: Shape, ordinal: int, rows: Mapping[str, TaskRow]) -> bool:
    row = rows.get(shape.names[ordinal])
    if row is None:
        return False
    tolerated = shape.specs[ordinal].continue_on_failure and row.state in _TOLERABLE
    return row.state in _ENDED_WELL or tolerated


def _undone(rows: Iterable[TaskRow]) -> dict[str, list[TaskRow]]:
    """By the task at the top: what a saga has begun to undo of it and of its sub-tasks. A parent stays Success then."""
    tops: dict[int, str] = {}
    found: dict[str, list[TaskRow]] = {}
    for row in rows:
        if row.added_by < 0:
            continue
        top = tops[int(row.ordinal)] = tops.get(row.parent, row.name)
        if row.state in _UNDOING:
            found.setdefault(top, []).append(row)
    return found


def _require_no_remains(shape: Shape, again: Iterable[int], undone: Mapping[str, Sequence[TaskRow]], task: str) -> None:
    """What could not be undone may still be there, so nobody runs it a second time without having asked for that."""
    below = set(again)
    remains = [
        row.name
        for ordinal, name in enumerate(shape.names)
        if ordinal not in below
        for row in undone.get(name, ())
        if row.state is TaskState.COMPENSATION_FAILED
    ]
    if remains:
        raise Conflict(
            f"not below {task!r}, and could not be undone: {_names(remains)}; the effect may still be there, and a "
            "fork would have it twice. Retry the instance, which undoes what is left, then fork it"
        )


def _require_same_params(
    shape: Shape, kept: Iterable[int], before: Mapping[str, Any], params: Mapping[str, Any], task: str
) -> None:
    """What is taken over was made from these params."""
    changed = {name for name in {*before, *params} if _text(before, name) != _text(params, name)}
    if not changed:
        return
    for ordinal in kept:
        spec = shape.specs[ordinal]
        undo = None if spec.compensation is None else spec.compensation.params
        each = None if spec.for_each is msgspec.UNSET else spec.for_each
        used = references([spec.params, spec.when, spec.idempotency_key, each, undo])
        whole = "params" in used.roots and not used.params
        if stale := sorted(changed if whole else changed & used.params):
            name = shape.names[ordinal]
            raise Conflict(
                f"the params {', '.join(stale)} have another value now, and {name!r}, which is not below {task!r}, was "
                f"made from them; fork from {name!r}"
            )


def _text(params: Mapping[str, Any], name: str) -> str | None:
    return json.dumps(params[name], sort_keys=True) if name in params else None


def _sub_tasks(rows: Sequence[TaskRow], places: dict[int, int], first: int) -> list[TaskRow]:
    """Of what is taken over, those that counted; a parent comes before its sub-tasks."""
    found: list[TaskRow] = []
    for row in rows:
        if row.spec is None or row.added_by < 0 or row.parent not in places:
            continue
        ordinal = Ordinal(first + len(found))
        places[int(row.ordinal)] = ordinal
        found.append(msgspec.structs.replace(row, ordinal=ordinal, parent=places[row.parent]))
    return found


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more
