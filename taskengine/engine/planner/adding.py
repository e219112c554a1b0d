"""Tasks that are added while the instance runs, and which of them count once their parent's body has succeeded.

A sub-task is provisional until then: the attempt that succeeds confirms, replaces or drops what earlier attempts have
added, so that the set is always that of the attempt which counts, as if no other had been.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from taskengine.clock import Micros
from taskengine.engine.planner.cast import TOP
from taskengine.engine.planner.effects import Answer, Reply
from taskengine.engine.planner.ledger import Task
from taskengine.engine.planner.plan import Plan
from taskengine.model.added import Added, decode_added
from taskengine.model.graph import Graph
from taskengine.model.messages import Add
from taskengine.model.names import name_fault
from taskengine.model.spelling import quoted
from taskengine.model.states import Phase

__all__ = ["MOST_TASKS", "confirm", "on_add"]

MOST_TASKS: Final = 1_000_000
"""Tasks of one instance, the definition's included."""

_DEEPEST: Final = 8
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Answer)


class _Refused(Exception):
    """`code` as an Answer has it; the text is for whoever has asked."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def on_add(plan: Plan, message: Add, now_us: Micros) -> None:
    """Take all of them in, or none. The reply waits for the commit, like every effect."""
    ledger = plan.ledger
    known = ledger.answers.get(message.id)
    if known is not None:
        plan.effects.append(Reply(message.id, _DECODER.decode(known)))
        return
    try:
        added = _take_in(plan, message)
    except _Refused as refused:
        answer = Answer(state=ledger.state, error=str(refused), code=refused.code, changed=False)
        plan.effects.append(Reply(message.id, answer))
        return
    answer = Answer(state=ledger.state, changed=added > 0, added=added)
    if not message.attempt:
        ledger.accept(message.id, "add", _ENCODER.encode(answer))
    plan.effects.append(Reply(message.id, answer))


def confirm(plan: Plan, parent: Task) -> bool:
    """The parent's body has succeeded: what its earlier attempts have added goes. Whether any is left."""
    ledger = plan.ledger
    members = ledger.cast.members(parent.ordinal)
    gone = {each for each in members if ledger.tasks[each].added_by not in (0, parent.attempt)}
    if gone:
        ledger.drop(parent.ordinal, gone)
    return bool(ledger.cast.members(parent.ordinal))


def _take_in(plan: Plan, message: Add) -> int:
    """How many are new. Raises _Refused; then nothing has changed."""
    ledger = plan.ledger
    _may_add(plan, message)
    added = [(decode_added(source), bytes(source)) for source in message.tasks]
    if len(ledger.tasks) + len(added) > MOST_TASKS:
        raise _Refused("invalid", f"an instance has at most {MOST_TASKS:,} tasks")
    places = _places(plan, message, added)
    positions = {name: at for at, name in enumerate(places)}
    needs = [_needs(plan, message, each, positions) for each, _ in added]
    order = _order(added, needs)
    ordinals: dict[int, int] = {at: found.ordinal for at, found in enumerate(places.values()) if found is not None}
    for at in order:
        each, source = added[at]
        known = [need if need >= 0 else ordinals[-1 - need] for need in needs[at]]
        old = ledger.tasks[ordinals[at]] if at in ordinals else None
        if old is None:
            ordinals[at] = ledger.add(each, source, message.parent, known, message.attempt).ordinal
        elif not _stands(plan, message, old):
            ledger.replace(old, each, source, known, message.attempt)
    fresh = [ordinals[at] for at, found in enumerate(places.values()) if found is None]
    if message.parent == TOP or ledger.tasks[message.parent].awaits_subs:
        plan.look_soon(fresh)
    return len(fresh)


def _may_add(plan: Plan, message: Add) -> None:
    ledger = plan.ledger
    if ledger.phase not in (Phase.RUN, Phase.DRAIN):
        raise _Refused("conflict", f"the instance is {ledger.state}; nothing can be added to it")
    if message.parent == TOP:
        if ledger.phase is Phase.DRAIN:
            raise _Refused("conflict", "the instance stops after a failure; nothing can be added to it")
        return
    parent = ledger.tasks[message.parent] if message.parent < len(ledger.tasks) else None
    if parent is None or parent.out:
        raise _Refused("not_found", "there is no such task")
    if message.attempt:
        if parent.attempt != message.attempt or not parent.slot:
            raise _Refused("stale", "this attempt does not count any more")
    elif parent.settled:
        name = quoted(ledger.cast.names[message.parent])
        raise _Refused("conflict", f"task {name} has ended: {parent.state}; its sub-tasks are what they are")
    if ledger.cast.names[message.parent].count("/") + 1 >= _DEEPEST:
        raise _Refused("invalid", f"sub-tasks of sub-tasks go {_DEEPEST - 1} levels deep")


def _places(plan: Plan, message: Add, added: Sequence[tuple[Added, bytes]]) -> dict[str, Task | None]:
    """By name, in their order: the task that has this name already, or None."""
    ledger = plan.ledger
    found: dict[str, Task | None] = {}
    for each, source in added:
        name = each.name
        if fault := name_fault(name):
            raise _Refused("invalid", f"the task name {quoted(name)} {fault}")
        if name in found:
            raise _Refused("invalid", f"there are two tasks {quoted(name)}")
        ordinal = ledger.cast.ordinals.get(ledger.cast.full_name(message.parent, name))
        old = found[name] = None if ordinal is None else ledger.tasks[ordinal]
        if old is not None and _stands(plan, message, old) and not _is_same(plan, old, source):
            raise _Refused("invalid", f"there is a task {quoted(ledger.cast.names[old.ordinal])} already, another one")
    return found


def _stands(plan: Plan, message: Add, task: Task) -> bool:
    """It is defined, came from outside, or was added by the attempt that counts: it cannot be another one now."""
    parent = message.parent
    counting = message.attempt or (0 if parent == TOP else plan.ledger.tasks[parent].attempt)
    return task.added_by in (0, counting)


def _is_same(plan: Plan, task: Task, source: bytes) -> bool:
    return plan.ledger.cast.sources.get(task.ordinal) == source


def _needs(plan: Plan, message: Add, added: Added, positions: Mapping[str, int]) -> list[int]:
    """Its dependencies: ordinals, and -1 - its position for one of the same batch."""
    if added.task is None or not added.task.depends_on:
        return []
    ledger = plan.ledger
    needs: list[int] = []
    for name in dict.fromkeys(added.task.depends_on):
        if name in positions:
            needs.append(-1 - positions[name])
            continue
        ordinal = ledger.cast.ordinals.get(ledger.cast.full_name(message.parent, name))
        if ordinal is None or not _stands(plan, message, ledger.tasks[ordinal]):
            siblings = "a task of the instance" if message.parent == TOP else "a sub-task of the same parent"
            raise _Refused("invalid", f"{quoted(added.name)} depends on {quoted(name)}, which is not {siblings}")
        needs.append(ordinal)
    return needs


def _order(added: Sequence[tuple[Added, bytes]], needs: Sequence[Sequence[int]]) -> Sequence[int]:
    """Dependencies first."""
    if not any(needs):
        return range(len(added))
    graph = Graph([[-1 - need for need in row if need < 0] for row in needs])
    if cycle := graph.find_cycle():
        way = " → ".join(added[at][0].name for at in [*cycle, cycle[0]][:12])
        raise _Refused("invalid", f"the dependencies go round in a circle: {way}")
    levels = graph.levels()
    return sorted(range(len(added)), key=levels.__getitem__)
