"""What comes from outside for tasks that wait: kept in its order, taken by the one that has waited longest.

A signal is a remembered command, and so is that it was taken: both are rows, and what nobody has taken is known from
them after a crash.
"""

from collections import deque
from typing import Any, Final

import msgspec

from taskengine.clock import Micros
from taskengine.engine.planner.answers import Answer, Refused, encode_answer
from taskengine.engine.planner.inbox import SIGNAL, TAKEN, Kept, taken_id
from taskengine.engine.planner.outcomes import succeed
from taskengine.engine.planner.plan import Plan
from taskengine.engine.planner.task import Task
from taskengine.model.ids import CommandId
from taskengine.model.messages import Signal
from taskengine.model.records import ParkKind, TaskFailure
from taskengine.model.states import Phase, TaskMove, TaskState
from taskengine.model.waits import Approval, wait_of

__all__ = ["MOST_KEPT", "keep_signal", "match"]

MOST_KEPT: Final = 1_000
"""Signals of one instance that nobody has taken."""

_ENCODER: Final = msgspec.json.Encoder()
_APPROVAL: Final = msgspec.json.Decoder(Approval)


def keep_signal(plan: Plan, message: Signal, now_us: Micros) -> None:
    """Keep it, and hand it over if somebody waits. Raises Refused."""
    ledger = plan.ledger
    if ledger.phase not in (Phase.RUN, Phase.DRAIN):
        raise Refused(f"the instance is {ledger.state}; nobody waits for anything in it any more")
    if plan.inbox.size >= MOST_KEPT:
        raise Refused(f"{MOST_KEPT:,} signals wait to be taken already", "too_many")
    kept = Kept(state=ledger.state, name=message.name, payload=message.payload, by=message.by)
    ledger.accept(message.id, SIGNAL, encode_answer(kept))
    plan.inbox.kept.setdefault(message.name, deque()).append((message.id, kept))
    match(plan, message.name, now_us)


def match(plan: Plan, name: str, now_us: Micros) -> None:
    """Hand over what is there to who waits, one signal to one task."""
    kept, waiting = plan.inbox.kept.get(name), plan.inbox.waiting.get(name)
    while kept and waiting:
        task = plan.ledger.tasks[waiting.popleft()]
        if task.state is TaskState.WAITING and task.park is ParkKind.SIGNAL and task.key == name:
            _hand_over(plan, task, *kept.popleft(), now_us)


def _hand_over(plan: Plan, task: Task, signal_id: CommandId, kept: Kept, now_us: Micros) -> None:
    ledger = plan.ledger
    taker = {"task": ledger.cast.names[task.ordinal], "attempt": task.attempt}
    ledger.accept(taken_id(signal_id), TAKEN, _ENCODER.encode(taker))
    ledger.answers[signal_id] = encode_answer(Answer(state=kept.state))  # without the payload
    wait = wait_of(ledger.cast.specs[task.ordinal])
    if wait is None or not wait.approval:
        succeed(plan, task, bytes(kept.payload), now_us)
        return
    said = _APPROVAL.decode(kept.payload)
    if said.approved:
        result: dict[str, Any] = {"approved": True, "by": kept.by, "comment": said.comment}
        succeed(plan, task, _ENCODER.encode(result), now_us)
        return
    message = f"rejected by {kept.by or 'somebody'}{f': {said.comment}' if said.comment else ''}"
    failure = TaskFailure(type="Rejected", message=message, retryable=False)
    plan.fail(task, TaskMove.GIVE_UP, failure, now_us)
