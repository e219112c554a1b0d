"""How an attempt ended, or that its wait is over: what becomes of the task."""

from taskengine.clock import Micros
from taskengine.engine.planner.adding import confirm
from taskengine.engine.planner.effects import StartChild
from taskengine.engine.planner.plan import Plan
from taskengine.engine.planner.retry import delay_us, may_retry
from taskengine.engine.planner.task import Task, reason_of
from taskengine.model.definition import RetryPolicy
from taskengine.model.messages import Settled, TaskDue
from taskengine.model.records import Outcome, ParkKind, TaskFailure
from taskengine.model.states import Phase, TaskMove, TaskState
from taskengine.model.waits import wait_of

__all__ = ["fail_or_retry", "on_settled", "on_task_due", "succeed"]

STOPPED = TaskFailure(
    type="lost",
    message="the attempt was stopped while it ran; the task is at_most_once, so it is not repeated",
    retryable=False,
)


_NO_WAIT = TaskFailure(type="InvalidInput", message="a compensation cannot wait without a slot", retryable=False)


def on_settled(plan: Plan, message: Settled, now_us: Micros) -> None:
    """A report counts only if its attempt is the current one and still holds its slot."""
    task = plan.ledger.tasks[message.ordinal]
    if task.attempt != message.attempt or not task.slot:
        plan.stale += 1
        return
    plan.leave_slot(task)
    if task.undoing:
        on_undone(plan, task, message, now_us)
        return
    if message.started_us is not None:
        task.started_us = message.started_us
    match message.outcome:
        case Outcome.OK:
            succeed(plan, task, message.result, now_us)
        case Outcome.FAIL | Outcome.TIMEOUT:
            fail_or_retry(plan, task, message, now_us)
        case Outcome.SKIP:
            plan.ledger.move(task, TaskMove.WHEN_FALSE, now_us)
            plan.settle(task, now_us)
        case Outcome.PARK:
            _park(plan, task, message, now_us)
        case Outcome.INTERRUPTED | Outcome.LOST:
            _interrupted(plan, task, message, now_us)


def on_task_due(plan: Plan, message: TaskDue, now_us: Micros) -> None:
    """A delay is over. It is recorded in a pause too; what it frees waits in the queue."""
    task = plan.ledger.tasks[message.ordinal]
    if task.attempt != message.attempt or task.due_us is None or task.due_us > now_us or task.queued:
        plan.stale += 1
    elif task.undoing:
        plan.offer_undo(task)
    elif task.state is TaskState.RETRYING:
        plan.make_eligible(task, now_us)
    elif task.state is TaskState.WAITING and task.park is ParkKind.SLEEP:
        succeed(plan, task, None, now_us)
    elif task.state is TaskState.WAITING and task.park is ParkKind.SIGNAL:
        _nobody_came(plan, task, now_us)
    else:
        plan.stale += 1


def _nobody_came(plan: Plan, task: Task, now_us: Micros) -> None:
    wait = wait_of(plan.ledger.cast.specs[task.ordinal])
    if wait is not None and wait.on_timeout == "continue":
        succeed(plan, task, None, now_us)
        return
    failure = TaskFailure(type="TimeoutError", message=f"nobody sent {task.key!r} in time", retryable=False)
    plan.fail(task, TaskMove.EXPIRE, failure, now_us)


def succeed(plan: Plan, task: Task, result: bytes | None, now_us: Micros) -> None:
    """The body, or what the task has waited for, has given `result`."""
    ledger = plan.ledger
    if result is not None:
        task.result = result
    if task.tries:
        task.error = None
    task.body_seq = ledger.next_body_seq
    ledger.next_body_seq += 1
    if task.ordinal in ledger.cast.families and confirm(plan, task):
        task.park, task.key, task.due_us = ParkKind.SUBS, "", None
        ledger.move(task, TaskMove.AWAIT_SUBS, now_us)
        plan.look_soon(ledger.cast.members(task.ordinal))
        plan.close_if_done(task, now_us)  # a cancel may have ended all of them before
        return
    ledger.move(task, TaskMove.SUCCEED, now_us)
    plan.settle(task, now_us)


def fail_or_retry(plan: Plan, task: Task, message: Settled, now_us: Micros) -> None:
    """The attempt has failed: another one as its policy says, or the end of the task."""
    ledger = plan.ledger
    task.tries += 1
    policy = ledger.cast.specs[task.ordinal].retry or message.retry
    failure = message.error
    if policy is not None and _may_go_on(plan, task) and may_retry(policy, task.tries, failure):
        _try_later(plan, task, policy, message, failure, now_us)
        ledger.move(task, TaskMove.RETRY, now_us, reason_of(failure))
        return
    move = TaskMove.EXPIRE if message.outcome is Outcome.TIMEOUT else TaskMove.GIVE_UP
    plan.fail(task, move, failure, now_us)


def _try_later(
    plan: Plan, task: Task, policy: RetryPolicy, message: Settled, failure: TaskFailure | None, now_us: Micros
) -> None:
    """Keep this attempt and why it failed; the next one is due after the policy's delay."""
    plan.ledger.keep_attempt(task, message.outcome, now_us, failure)
    task.keep_error(failure)
    seed = f"{plan.ledger.id}/{task.ordinal}/{task.attempt}"
    task.due_us = Micros(now_us + delay_us(policy, task.tries, failure, seed))
    plan.arm(task)


def _may_go_on(plan: Plan, task: Task) -> bool:
    return plan.ledger.phase in (Phase.RUN, Phase.DRAIN) and plan.may_begin(task)


def _park(plan: Plan, task: Task, message: Settled, now_us: Micros) -> None:
    ledger = plan.ledger
    if not _may_go_on(plan, task):
        plan.cancel(task, now_us)
        return
    assert message.park is not None, "a parked attempt says what it waits for"
    task.park, task.key, task.due_us = message.park.kind, message.park.key, message.park.due_us
    task.result = message.park.result
    reason = f"runs as instance {task.key}" if task.park is ParkKind.CHILD else ""
    ledger.move(task, TaskMove.PARK, now_us, reason)
    if task.due_us is not None:
        plan.arm(task)
    if task.park is ParkKind.SIGNAL:
        plan.inbox.wait(task)
    elif task.park is ParkKind.CHILD:
        plan.effects.append(StartChild(message.ordinal, message.attempt))


def _interrupted(plan: Plan, task: Task, message: Settled, now_us: Micros) -> None:
    """We stopped it: cancelled if that was the aim, else it runs again and the attempt does not count.

    A body that must run at most once and has begun is lost then, as if the process had died.
    """
    if not _may_go_on(plan, task):
        plan.cancel(task, now_us)
        return
    if plan.ledger.cast.specs[task.ordinal].at_most_once and message.started_us is not None:
        plan.fail(task, TaskMove.LOSE_ONCE, STOPPED, now_us)
        return
    plan.ledger.keep_attempt(task, Outcome.INTERRUPTED, now_us, message.error)
    plan.ledger.move(task, TaskMove.INTERRUPT, now_us)
    plan.make_eligible(task, now_us)


def on_undone(plan: Plan, task: Task, message: Settled, now_us: Micros) -> None:
    """An attempt at a compensation has ended. The next one begins in the same decision, or this one is tried again."""
    ledger = plan.ledger
    match message.outcome:
        case Outcome.OK | Outcome.SKIP:
            ledger.move(task, TaskMove.UNDONE, now_us)
            return
        case Outcome.INTERRUPTED | Outcome.LOST:
            ledger.keep_attempt(task, Outcome.INTERRUPTED, now_us, message.error)
            plan.offer_undo(task)
            return
    failure = message.error or _NO_WAIT
    task.tries += 1
    undo = ledger.cast.specs[task.ordinal].compensation
    policy = (undo.retry if undo is not None else None) or message.retry
    if policy is not None and may_retry(policy, task.tries, failure):
        _try_later(plan, task, policy, message, failure, now_us)
        ledger.touch(task)
        return
    task.keep_error(failure)
    ledger.move(task, TaskMove.UNDO_FAILED, now_us, reason_of(failure))
