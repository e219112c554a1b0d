"""What comes from outside for tasks that wait: kept in its order, taken by the one that has waited longest.

A signal is a remembered command, and so is that it was taken: both are rows, and what nobody has taken is known from
them after a crash.
"""

from collections import deque
from typing import Any, Final

import msgspec

from taskengine.clock import Micros
from taskengine.engine.planner.effects import Answer, Reply
from taskengine.engine.planner.inbox import SIGNAL, TAKEN, Kept, taken_id
from taskengine.engine.planner.ledger import Task, encode_failure
from taskengine.engine.planner.outcomes import succeed
from taskengine.engine.planner.plan import Plan
from taskengine.model.ids import CommandId
from taskengine.model.messages import Signal
from taskengine.model.records import ParkKind, TaskFailure
from taskengine.model.states import Phase, TaskMove, TaskState
from taskengine.model.waits import Approval, wait_of

__all__ = ["MOST_KEPT", "match", "on_signal"]

MOST_KEPT: Final = 1_000
"""Signals of one instance that nobody has taken."""

_ENCODER: Final = msgspec.json.Encoder()
_ANSWER: Final = msgspec.json.Decoder(Answer)
_APPROVAL: Final = msgspec.json.Decoder(Approval)


def on_signal(plan: Plan, message: Signal, now_us: Micros) -> None:
    """Keep it, and hand it over if somebody waits. The reply waits for the commit, like every effect."""
    ledger = plan.ledger
    known = ledger.answers.get(message.id)
    if known is not None:
        plan.effects.append(Reply(message.id, _ANSWER.decode(known)))
        return
    code, refusal = _refusal(plan)
    if code:
        plan.effects.append(Reply(message.id, Answer(state=ledger.state, error=refusal, code=code, changed=False)))
        return
    kept = Kept(state=ledger.state, name=message.name, payload=message.payload, by=message.by)
    ledger.accept(message.id, SIGNAL, _ENCODER.encode(kept))
    plan.inbox.kept.setdefault(message.name, deque()).append((message.id, kept))
    match(plan, message.name, now_us)
    plan.effects.append(Reply(message.id, Answer(state=ledger.state)))


def _refusal(plan: Plan) -> tuple[str, str]:
    """Code and text; the code is empty where the signal is taken in."""
    ledger = plan.ledger
    if ledger.phase not in (Phase.RUN, Phase.DRAIN):
        return "conflict", f"the instance is {ledger.state}; nobody waits for anything in it any more"
    if plan.inbox.size >= MOST_KEPT:
        return "too_many", f"{MOST_KEPT:,} signals wait to be taken already"
    return "", ""


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
    ledger.answers[signal_id] = _ENCODER.encode(Answer(state=kept.state))  # without the payload
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
    task.error = encode_failure(failure)
    ledger.move(task, TaskMove.GIVE_UP, now_us, f"{failure.type}: {failure.message}")
    plan.settle(task, now_us)
