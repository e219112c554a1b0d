"""Tasks that are added while the instance runs, and which of them count once their parent's body has succeeded.

A sub-task is provisional until then: the attempt that succeeds confirms, replaces or drops what earlier attempts have
added, so that the set is always that of the attempt which counts, as if no other had been.
"""

from collections.abc import Sequence, Set
from typing import Final

from taskengine.engine.planner.answers import Refused
from taskengine.engine.planner.cast import TOP
from taskengine.engine.planner.plan import Plan
from taskengine.engine.planner.task import Task
from taskengine.model.added import Added, decode_added
from taskengine.model.messages import Add
from taskengine.model.names import name_fault
from taskengine.model.spelling import quoted
from taskengine.model.states import Phase

__all__ = ["MOST_TASKS", "add_tasks", "confirm"]

MOST_TASKS: Final = 1_000_000
"""Tasks of one instance, the definition's included."""

_DEEPEST: Final = 8


def add_tasks(plan: Plan, message: Add) -> int:
    """Take all of them in, or none. How many are new. Raises Refused."""
    ledger = plan.ledger
    _may_add(plan, message)
    added = [(decode_added(source), bytes(source)) for source in message.tasks]
    if len(ledger.tasks) + len(added) > MOST_TASKS:
        raise Refused(f"an instance has at most {MOST_TASKS:,} tasks", "invalid")
    places = _places(plan, message, added)
    fresh: list[int] = []
    for (each, source), old in zip(added, places, strict=True):
        if old is None:
            fresh.append(ledger.add(each, source, message.parent, message.attempt).ordinal)
        elif not _stands(plan, message, old):
            ledger.replace(old, each, source, message.attempt)
    if message.parent == TOP or ledger.tasks[message.parent].awaits_subs:
        plan.look_soon(fresh)
    return len(fresh)


def confirm(plan: Plan, parent: Task) -> bool:
    """The parent's body has succeeded: what its earlier attempts have added goes. Whether any is left."""
    ledger = plan.ledger
    members = ledger.cast.members(parent.ordinal)
    gone = {each for each in members if ledger.tasks[each].added_by not in (0, parent.attempt)}
    if gone:
        ledger.drop(parent.ordinal, gone)
    return bool(ledger.cast.members(parent.ordinal))


def _may_add(plan: Plan, message: Add) -> None:
    ledger = plan.ledger
    if ledger.phase not in (Phase.RUN, Phase.DRAIN):
        raise Refused(f"the instance is {ledger.state}; nothing can be added to it")
    if message.parent == TOP:
        if ledger.phase is Phase.DRAIN:
            raise Refused("the instance stops after a failure; nothing can be added to it")
        return
    parent = ledger.tasks[message.parent] if message.parent < len(ledger.tasks) else None
    if parent is None or parent.out:
        raise Refused("there is no such task", "not_found")
    if message.attempt:
        if parent.attempt != message.attempt or not parent.slot:
            raise Refused("this attempt does not count any more", "stale")
    elif parent.settled:
        name = quoted(ledger.cast.names[message.parent])
        raise Refused(f"task {name} has ended: {parent.state}; its sub-tasks are what they are")
    if ledger.cast.names[message.parent].count("/") + 1 >= _DEEPEST:
        raise Refused(f"sub-tasks of sub-tasks go {_DEEPEST - 1} levels deep", "invalid")


def _places(plan: Plan, message: Add, added: Sequence[tuple[Added, bytes]]) -> list[Task | None]:
    """For each the task that has its name already, or None. Raises Refused for the first that does not fit in."""
    ledger = plan.ledger
    places: list[Task | None] = []
    before: set[str] = set()
    for each, source in added:
        name = each.name
        if fault := name_fault(name):
            raise Refused(f"the task name {quoted(name)} {fault}", "invalid")
        if name in before:
            raise Refused(f"there are two tasks {quoted(name)}", "invalid")
        old = _named(plan, message.parent, name)
        if old is not None and _stands(plan, message, old) and ledger.cast.sources.get(old.ordinal) != source:
            taken = quoted(ledger.cast.names[old.ordinal])
            raise Refused(f"there is a task {taken} already, another one", "invalid")
        _check_needs(plan, message, each, before)
        before.add(name)
        places.append(old)
    return places


def _check_needs(plan: Plan, message: Add, added: Added, before: Set[str]) -> None:
    """It depends on what stands, and on what comes `before` it in the same batch: so there is no circle."""
    for need in () if added.task is None else added.task.depends_on:
        if need in before:
            continue
        old = _named(plan, message.parent, need)
        if old is None or not _stands(plan, message, old):
            siblings = "a task of the instance" if message.parent == TOP else "a sub-task of the same parent"
            raise Refused(f"{quoted(added.name)} depends on {quoted(need)}, which is not {siblings}", "invalid")


def _named(plan: Plan, parent: int, name: str) -> Task | None:
    ordinal = plan.ledger.cast.ordinals.get(plan.ledger.cast.full_name(parent, name))
    return None if ordinal is None else plan.ledger.tasks[ordinal]


def _stands(plan: Plan, message: Add, task: Task) -> bool:
    """It is defined, came from outside, or was added by the attempt that counts: it cannot be another one now."""
    parent = message.parent
    counting = message.attempt or (0 if parent == TOP else plan.ledger.tasks[parent].attempt)
    return task.added_by in (0, counting)
