"""The first decision after an instance was read back: what was cut off, who is suspect, what goes on.

Committed before anything is offered, like every decision.
"""

from taskengine.clock import Micros
from taskengine.engine.planner.effects import ChildOrder, StartChild
from taskengine.engine.planner.plan import Plan
from taskengine.engine.planner.task import Task
from taskengine.model.ids import Ordinal
from taskengine.model.messages import Quarantine, Recovered
from taskengine.model.records import Outcome, TaskFailure
from taskengine.model.states import Hold, Phase, TaskMove, TaskState

__all__ = ["on_quarantine", "on_recovered"]

_LOST = TaskFailure(
    type="lost",
    message="the process ended while the attempt ran; the task is at_most_once, so it is not repeated",
    retryable=False,
)


def on_recovered(plan: Plan, message: Recovered, now_us: Micros) -> None:
    """Judge every task again from its row. Timers keep their due time; past ones fire at once."""
    ledger = plan.ledger
    if ledger.at_end:
        return
    for task in ledger.tasks:
        if task.state is TaskState.RUNNING:
            _cut_off(plan, task, now_us, clean=message.clean)
        elif task.state is TaskState.READY and not message.clean:
            _suspect(plan, task)
    plan.one_suspect_at_a_time = any(task.losses > 1 for task in ledger.tasks)
    _quarantine_culprits(plan)
    for task in ledger.tasks:
        _take_up(plan, task, now_us)
    if ledger.phase in (Phase.RUN, Phase.DRAIN, Phase.CANCEL):
        plan.sweep_all()
    plan.arm_deadline()


def _cut_off(plan: Plan, task: Task, now_us: Micros, *, clean: bool) -> None:
    """Found Running: its body is gone, whatever it had done by then."""
    ledger = plan.ledger
    if not clean:
        task.losses += 1
        task.suspect = True
    if ledger.phase not in (Phase.RUN, Phase.DRAIN):
        ledger.move(task, TaskMove.CANCEL, now_us, "cancelled")
        plan.settle(task, now_us)
    elif ledger.cast.specs[task.ordinal].at_most_once:
        plan.fail(task, TaskMove.LOSE_ONCE, _LOST, now_us)
    else:
        ledger.keep_attempt(task, Outcome.LOST, now_us, None)
        ledger.move(task, TaskMove.LOSE, now_us)


def _suspect(plan: Plan, task: Task) -> None:
    if not task.suspect:
        task.suspect = True
        plan.ledger.touch(task)


def on_quarantine(plan: Plan, message: Quarantine) -> None:
    """Hold the instance until a user retries or cancels it."""
    ledger = plan.ledger
    if ledger.phase in (Phase.RUN, Phase.DRAIN):
        ledger.hold = Hold.QUARANTINED
        ledger.touch_instance(message.reason)


def _quarantine_culprits(plan: Plan) -> None:
    ledger = plan.ledger
    if not plan.max_recoveries or ledger.phase not in (Phase.RUN, Phase.DRAIN):
        return
    culprits = [task for task in ledger.tasks if task.losses >= plan.max_recoveries and not task.settled]
    if culprits:
        names = ledger.cast.some_names([task.ordinal for task in culprits])
        ledger.hold = Hold.QUARANTINED
        ledger.touch_instance(f"the process died {plan.max_recoveries} times in a row while this ran: {names}")


def _take_up(plan: Plan, task: Task, now_us: Micros) -> None:
    """Bring back what memory held: places in the queue, timers."""
    match task.state:
        case TaskState.READY:
            plan.make_eligible(task, now_us)
        case TaskState.PENDING if task.begun:
            plan.make_eligible(task, now_us)
        case TaskState.WAITING if task.awaits_child:
            _take_up_child(plan, task)
        case TaskState.RETRYING | TaskState.WAITING if task.due_us is not None:
            plan.arm(task)
        case TaskState.COMPENSATING if task.due_us is not None:
            plan.arm(task)
        case TaskState.COMPENSATING:
            plan.offer_undo(task)  # whatever its attempt had done by then
        case _:
            pass


def _take_up_child(plan: Plan, task: Task) -> None:
    """It may never have been started, or have ended unheard. An instance that ends tells it so in its sweep."""
    ledger = plan.ledger
    if ledger.phase in (Phase.RUN, Phase.DRAIN):
        plan.effects.append(StartChild(Ordinal(task.ordinal), task.attempt))
        if ledger.hold is Hold.PAUSED:
            plan.tell_child(task, ChildOrder.PAUSE)
