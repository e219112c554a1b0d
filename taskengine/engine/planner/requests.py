"""What is asked of an instance and answered: commands, signals, tasks to add.

An accepted one is remembered with its answer in the commit of its effect; the same id then has the same answer and no
second effect, also in a later run. A refused one leaves nothing behind.
"""

from taskengine.clock import Micros
from taskengine.engine.planner.adding import add_tasks
from taskengine.engine.planner.answers import Answer, Refused, decode_answer, encode_answer
from taskengine.engine.planner.commands import carry_out
from taskengine.engine.planner.effects import Reply
from taskengine.engine.planner.plan import Plan
from taskengine.engine.planner.signals import keep_signal
from taskengine.model.messages import Add, Command, Nap, Signal

__all__ = ["Request", "on_request"]

Request = Command | Add | Nap


def on_request(plan: Plan, message: Request, now_us: Micros) -> None:
    """Carry it out, or say why not. The reply waits for the commit like every effect."""
    known = plan.ledger.answers.get(message.id)
    if known is not None:
        answer = decode_answer(known)
    else:
        try:
            answer = _answer(plan, message, now_us)
        except Refused as refused:
            answer = Answer(state=plan.ledger.state, error=str(refused), code=refused.code, changed=False)
    plan.effects.append(Reply(message.id, answer))


def _answer(plan: Plan, message: Request, now_us: Micros) -> Answer:
    """Raises Refused; then nothing has changed."""
    ledger = plan.ledger
    match message:
        case Signal():
            keep_signal(plan, message, now_us)
            return Answer(state=ledger.state)
        case Add():
            added = add_tasks(plan, message)
            answer = Answer(state=ledger.state, changed=added > 0, added=added)
            if not message.attempt:  # a body asks once; it goes with its attempt
                ledger.accept(message.id, "add", encode_answer(answer))
            return answer
        case Nap():
            task = ledger.tasks[message.ordinal]
            if task.attempt != message.attempt or not task.slot:
                raise Refused("this attempt does not count any more")
            answer = Answer(state=ledger.state, due_us=message.due_us)
            ledger.accept(message.id, "nap", encode_answer(answer))
            return answer
        case _:
            changed = carry_out(plan, message, now_us)
            answer = Answer(state=ledger.state, changed=changed)
            ledger.accept(message.id, type(message).__name__.lower(), encode_answer(answer))
            return answer
