"""How the child that a task waited for has ended: what becomes of the task."""

from taskengine.clock import Micros
from taskengine.engine.planner.outcomes import fail_or_retry, succeed
from taskengine.engine.planner.plan import Plan
from taskengine.model.children import ChildOf
from taskengine.model.messages import ChildSettled, Settled
from taskengine.model.records import Outcome
from taskengine.model.states import Phase, TaskMove

__all__ = ["on_child_settled"]


def on_child_settled(plan: Plan, message: ChildSettled, now_us: Micros) -> None:
    """A child that ends well in the middle of a cancel is a success; one that was cancelled by itself is a failure."""
    ledger = plan.ledger
    task = ledger.tasks[message.ordinal]
    awaited = ChildOf(ledger.id, message.ordinal, task.attempt)
    if not task.awaits_child or task.attempt != message.attempt or message.child != awaited.child:
        plan.stale += 1
        return
    if message.outcome is Outcome.OK:
        succeed(plan, task, message.result or b"null", now_us)
        return
    task.result = None  # what it had asked for
    if message.outcome is Outcome.INTERRUPTED:
        if ledger.phase is Phase.CANCEL or (ledger.phase is Phase.DRAIN and ledger.hard):
            plan.cancel(task, now_us)
        else:
            plan.fail(task, TaskMove.GIVE_UP, message.error, now_us)
        return
    failed = Settled(message.ordinal, message.attempt, Outcome.FAIL, error=message.error)
    fail_or_retry(plan, task, failed, now_us)
