"""What users ask of an instance: pause, resume, cancel, retry."""

from typing import Final

import msgspec

from taskengine.clock import Micros
from taskengine.engine.planner.answers import Refused
from taskengine.engine.planner.cast import TOP
from taskengine.engine.planner.effects import ChildOrder
from taskengine.engine.planner.plan import Plan
from taskengine.engine.planner.task import Task
from taskengine.model.messages import Cancel, Command, Pause, Resume, Retry, RetryScope
from taskengine.model.records import Outcome, ParkKind, TaskFailure, Verdict
from taskengine.model.states import TASK_BAD, Hold, InstanceState, Phase, PhaseMove, TaskMove, TaskState

__all__ = ["carry_out"]


def carry_out(plan: Plan, command: Command, now_us: Micros) -> bool:
    """Whether anything is different now. Raises Refused; then nothing is."""
    match command:
        case Pause():
            return _pause(plan, command, now_us)
        case Resume():
            return _resume(plan, now_us)
        case Cancel():
            return _cancel(plan, command, now_us)
        case Retry():
            return _retry(plan, command, now_us)
        case _:
            raise AssertionError(f"not a command: {command!r}")


def _pause(plan: Plan, command: Pause, now_us: Micros) -> bool:
    """Nothing new starts; the instance's timeout stands still."""
    ledger = plan.ledger
    if ledger.phase is Phase.CANCEL:
        raise Refused("the instance is being cancelled; it cannot be paused any more")
    if ledger.phase not in (Phase.RUN, Phase.DRAIN) or ledger.hold is Hold.QUARANTINED:
        raise Refused(f"the instance is {ledger.state}; only a running one can be paused")
    changed = ledger.hold is Hold.NONE
    if changed:
        ledger.hold = Hold.PAUSED
        if ledger.deadline_us is not None:
            ledger.deadline_left_us = Micros(max(0, ledger.deadline_us - now_us))
            ledger.deadline_us = None
        ledger.touch_instance("paused")
    if command.now:
        for task in ledger.tasks:
            if task.slot and not ledger.cast.specs[task.ordinal].at_most_once:
                plan.interrupt(task)
                changed = True
    plan.tell_children(ChildOrder.PAUSE_NOW if command.now else ChildOrder.PAUSE)
    return changed


def _resume(plan: Plan, now_us: Micros) -> bool:
    ledger = plan.ledger
    if ledger.hold is Hold.QUARANTINED:
        raise Refused("the instance is Quarantined; `retry` lets it go on")
    if ledger.at_end:
        raise Refused(f"the instance has ended: {ledger.state}")
    if ledger.hold is Hold.NONE:
        return False
    ledger.hold = Hold.NONE
    if ledger.deadline_left_us is not None:
        ledger.deadline_us = Micros(now_us + ledger.deadline_left_us)
        ledger.deadline_left_us = None
        plan.arm_deadline()
    ledger.touch_instance("resumed")
    plan.tell_children(ChildOrder.RESUME)
    return True


def _cancel(plan: Plan, command: Cancel, now_us: Micros) -> bool:
    ledger = plan.ledger
    if ledger.phase is Phase.CANCEL and command.compensate and not ledger.compensate_asked:
        ledger.compensate_asked = True
        ledger.touch_instance("what was done is to be undone")
        plan.tell_children(ChildOrder.CANCEL)
        return True
    if ledger.phase is Phase.CANCEL or ledger.final is InstanceState.CANCELLED:
        return False
    if ledger.phase is Phase.COMP and ledger.verdict is Verdict.CANCELLED:
        return False
    if ledger.phase not in (Phase.RUN, Phase.DRAIN):
        raise Refused(f"the instance is {ledger.state}; it cannot be cancelled any more")
    ledger.compensate_asked = command.compensate
    ledger.give_verdict(Verdict.CANCELLED, command.reason or "cancelled by request")
    plan.enter_cancel(PhaseMove.CANCEL, now_us)
    return True


def _retry(plan: Plan, command: Retry, now_us: Micros) -> bool:
    ledger = plan.ledger
    if ledger.hold is Hold.QUARANTINED:
        _release_quarantine(plan)
        return True
    if not ledger.at_end:
        raise Refused(f"the instance is {ledger.state}; only one that has ended or is Quarantined can be retried")
    if command.scope is not RetryScope.FAILED and command.task not in ledger.cast.ordinals:
        raise Refused(f"the instance has no task {command.task!r}")
    if command.scope is not RetryScope.FAILED and _is_provisional(plan, command.task):
        raise Refused(f"task {command.task!r} runs after the body of its parent has succeeded; retry the parent")
    if command.scope is not RetryScope.FAILED and ledger.final in _UNDONE:
        raise Refused(f"the instance is {ledger.final}: what the task needs has been undone; retry the whole instance")
    if ledger.final is InstanceState.COMPENSATION_FAILED:
        _undo_again(plan, now_us)
        return True
    if command.scope is RetryScope.FAILED and ledger.final is InstanceState.SUCCESS:
        raise Refused("nothing has failed; name a task to run it again")
    _begin_run(plan, _again(plan, command), now_us)
    return True


def _is_provisional(plan: Plan, name: str) -> bool:
    cast = plan.ledger.cast
    return any(not plan.ledger.tasks[ancestor].body_seq for ancestor in plan.ledger.above(cast.ordinals[name]))


def _undo_again(plan: Plan, now_us: Micros) -> None:
    """The compensations that failed are owed once more. In rows, so that a crash does not forget them."""
    ledger = plan.ledger
    plan.drop_queues()
    for task in ledger.tasks:
        if task.state is TaskState.COMPENSATION_FAILED:
            ledger.keep_attempt(task, Outcome.FAIL, task.finished_us or now_us, _last_failure(task))
            ledger.move(task, TaskMove.OWE_AGAIN, now_us)
    ledger.run += 1
    ledger.final, ledger.finished_us = None, None
    ledger.step(PhaseMove.REPAIR, "retry of what was not undone")


def _release_quarantine(plan: Plan) -> None:
    ledger = plan.ledger
    for task in ledger.tasks:
        if task.losses:
            task.losses = 0
            ledger.touch(task)
    plan.acquit()
    ledger.hold = Hold.NONE
    ledger.touch_instance("released from quarantine")


_UNDONE: Final = (InstanceState.COMPENSATED, InstanceState.COMPENSATION_FAILED)


class _Again(msgspec.Struct, frozen=True):
    """What a retry does. bodies: tasks that run again; reopened: their ancestors, whose bodies do not."""

    bodies: set[int]
    reopened: set[int]


def _again(plan: Plan, command: Retry) -> _Again:
    cast = plan.ledger.cast
    if command.scope is RetryScope.FAILED:
        return _failed_and_stopped(plan)
    task = cast.ordinals[command.task]
    ancestors = set(plan.ledger.above(task))
    if command.scope is RetryScope.ONLY:
        return _Again({task}, ancestors)
    after = {each for ancestor in ancestors for each in cast.dependents[ancestor]}
    return _Again(cast.below({task} | after), ancestors)


def _failed_and_stopped(plan: Plan) -> _Again:
    """What ended bad and is not tolerated, and below it everything that was skipped or blocked because of it.

    A parent that failed by its sub-tasks is reopened, and only those run again.
    """
    ledger, cast = plan.ledger, plan.ledger.cast
    again = _Again(set(), set())
    if ledger.final is InstanceState.COMPENSATED:
        return _undone_and_bad(plan)
    for task in ledger.tasks:
        if not _is_to_repeat(plan, task):
            continue
        if task.body_seq and any(plan.counts_as_bad(ledger.tasks[member]) for member in cast.members(task.ordinal)):
            again.reopened.add(task.ordinal)
        else:
            again.bodies.add(task.ordinal)
    stack = [*again.bodies, *again.reopened]
    while stack:
        for ordinal in cast.dependents[stack.pop()]:
            state = ledger.tasks[ordinal].state
            if ordinal not in again.bodies and (state is TaskState.SKIPPED or state in TASK_BAD):
                again.bodies.add(ordinal)
                stack.append(ordinal)
    again.reopened.difference_update(again.bodies)
    return again


def _undone_and_bad(plan: Plan) -> _Again:
    """And everything below them, also below the parents of such sub-tasks."""
    ledger, cast = plan.ledger, plan.ledger.cast
    first = {
        task.ordinal
        for task in ledger.tasks
        if not task.out and (task.state is TaskState.COMPENSATED or _is_to_repeat(plan, task))
    }
    ancestors = {ancestor for ordinal in first for ancestor in plan.ledger.above(ordinal)} - first
    bodies = cast.below(first | {after for ancestor in ancestors for after in cast.dependents[ancestor]})
    return _Again(bodies, ancestors - bodies)


def _is_to_repeat(plan: Plan, task: Task) -> bool:
    """It ended bad, and that counts: a sub-task only if its parent failed by it, and not before or in spite of it."""
    if not plan.counts_as_bad(task):
        return False
    if task.parent == TOP:
        return True
    parent = plan.ledger.tasks[task.parent]
    return plan.counts_as_bad(parent) and parent.body_seq > 0


def _begin_run(plan: Plan, again: _Again, now_us: Micros) -> None:
    """Open run n+1; what runs again is judged anew. One decision, whatever its size."""
    ledger = plan.ledger
    plan.drop_queues()
    for ordinal in sorted(again.reopened):
        task = ledger.tasks[ordinal]
        task.error, task.park = None, ParkKind.SUBS
        ledger.move(task, TaskMove.REOPEN, now_us)
    for ordinal in sorted(again.bodies):
        if not ledger.tasks[ordinal].out:
            _forget_sub_tasks(plan, ordinal, now_us)
            _reset(plan, ledger.tasks[ordinal], now_us)
    ledger.run += 1
    ledger.verdict, ledger.final, ledger.error = Verdict.NONE, None, ""
    ledger.hard = ledger.compensate_asked = False
    ledger.finished_us = None
    ledger.step(PhaseMove.RERUN, "retry")
    plan.set_deadline(now_us)
    ledger.recount()
    plan.sweep_all()


def _forget_sub_tasks(plan: Plan, parent: int, now_us: Micros) -> None:
    """Its body will run again and make them anew; those that came from outside wait for it once more."""
    ledger = plan.ledger
    if gone := {ordinal for ordinal in ledger.cast.members(parent) if ledger.tasks[ordinal].added_by}:
        ledger.drop(parent, gone)
    for ordinal in ledger.cast.members(parent):
        _forget_sub_tasks(plan, ordinal, now_us)
        _reset(plan, ledger.tasks[ordinal], now_us)


def _reset(plan: Plan, task: Task, now_us: Micros) -> None:
    ledger = plan.ledger
    if not task.settled:
        return  # it came from outside, and was reset with its parent
    ledger.keep_attempt(task, _last_outcome(task), task.finished_us or now_us, _last_failure(task))
    task.tries = task.losses = task.body_seq = 0
    task.begun = task.suspect = False
    task.park, task.key, task.due_us = ParkKind.NONE, "", None
    task.result = task.error = None
    ledger.move(task, TaskMove.RESET, now_us)


def _last_failure(task: Task) -> TaskFailure | None:
    """Rebuilt from the reason of its last move: the planner does not hold errors."""
    if task.state not in (TaskState.FAILED, TaskState.TIMED_OUT):
        return None
    kind, _, message = task.reason.partition(": ")
    return TaskFailure(type=kind, message=message)


def _last_outcome(task: Task) -> Outcome:
    match task.state:
        case TaskState.SUCCESS:
            return Outcome.OK
        case TaskState.TIMED_OUT:
            return Outcome.TIMEOUT
        case TaskState.SKIPPED:
            return Outcome.SKIP
        case TaskState.CANCELLED:
            return Outcome.INTERRUPTED
        case _:
            return Outcome.FAIL
