"""What a message means. `decide` moves the plan's memory; `Plan.cut` then gives the decision and its effects.

Pure: no input but the message and the time it comes with. Several messages may share one cut: they are decided in
order, and nothing outside has seen the state between them. Late and repeated messages change nothing and are counted
in `plan.stale`.
"""

from typing import assert_never

from taskengine.clock import Micros
from taskengine.engine.planner.children import on_child_settled
from taskengine.engine.planner.effects import Decline, Launch
from taskengine.engine.planner.outcomes import on_settled, on_task_due
from taskengine.engine.planner.plan import Plan
from taskengine.engine.planner.recovery import on_quarantine, on_recovered
from taskengine.engine.planner.requests import on_request
from taskengine.engine.planner.signals import match
from taskengine.model.messages import (
    Add,
    Cancel,
    ChildSettled,
    Continue,
    DeadlineDue,
    Granted,
    InstanceMessage,
    Nap,
    Pause,
    Quarantine,
    Recovered,
    Resume,
    Retry,
    Settled,
    Signal,
    Start,
    TaskDue,
)
from taskengine.model.records import ParkKind, Verdict
from taskengine.model.states import Phase, PhaseMove, TaskMove, TaskState

__all__ = ["decide"]


def decide(plan: Plan, message: InstanceMessage, now_us: Micros) -> None:
    """Take one message in. Raises IllegalMove or another exception only for a bug of ours."""
    match message:
        case Granted():
            on_granted(plan, message, now_us)
        case Settled():
            on_settled(plan, message, now_us)
            if message.park is not None and message.park.kind is ParkKind.SIGNAL:
                match(plan, message.park.key, now_us)
        case TaskDue():
            on_task_due(plan, message, now_us)
        case ChildSettled():
            on_child_settled(plan, message, now_us)
        case DeadlineDue():
            on_deadline(plan, message, now_us)
        case Start():
            on_start(plan, message, now_us)
        case Recovered():
            on_recovered(plan, message, now_us)
        case Add() | Nap() | Signal() | Pause() | Resume() | Cancel() | Retry():
            on_request(plan, message, now_us)
        case Quarantine():
            on_quarantine(plan, message)
        case Continue():
            pass
        case _:
            assert_never(message)
    plan.work(now_us)


def on_start(plan: Plan, message: Start, now_us: Micros) -> None:
    ledger = plan.ledger
    if ledger.phase is not Phase.NEW:
        plan.stale += 1
        return
    ledger.started_us = now_us
    ledger.step(PhaseMove.START, message.reason)
    plan.set_deadline(now_us)
    if ledger.open == len(ledger.tasks):
        plan.sweep(ledger.shape.graph.roots())
    else:  # some have been taken over
        plan.sweep_all()


def on_granted(plan: Plan, message: Granted, now_us: Micros) -> None:
    ledger = plan.ledger
    task = ledger.tasks[message.ordinal]
    if task.undoing and task.attempt == message.attempt and not task.slot and task.due_us is None:
        task.slot = True
        task.started_us = now_us
        plan.launches.append(Launch(message.ordinal, message.attempt))  # its intent is committed
        return
    if task.state is not TaskState.READY or task.attempt != message.attempt or task.queued:
        plan.stale += 1
        plan.effects.append(Decline(message.ordinal, message.attempt))
        return
    if ledger.held or not plan.may_begin(task):
        plan.effects.append(Decline(message.ordinal, message.attempt))
        plan.withdraw(task)
        plan.make_eligible(task, now_us)
        return
    task.slot = task.begun = True
    task.started_us = now_us
    ledger.move(task, TaskMove.DISPATCH, now_us)
    launch = Launch(message.ordinal, message.attempt)
    if task.suspect or ledger.cast.specs[task.ordinal].at_most_once:
        ledger.write_dispatch(task)
        plan.effects.append(launch)
    else:
        plan.launches.append(launch)


def on_deadline(plan: Plan, message: DeadlineDue, now_us: Micros) -> None:
    ledger = plan.ledger
    due = ledger.deadline_us
    if message.run != ledger.run or due is None or due > now_us or ledger.phase not in (Phase.RUN, Phase.DRAIN):
        plan.stale += 1
        return
    ledger.give_verdict(Verdict.TIMED_OUT, "the workflow's timeout is over")
    plan.enter_cancel(PhaseMove.EXPIRE, now_us)
