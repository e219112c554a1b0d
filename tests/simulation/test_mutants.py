"""Each rule of the planner, removed, must turn the simulation red: a test that cannot fail proves nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from simulation.test_simulation import history

from taskengine.clock import Micros
from taskengine.engine.planner import commands, decision, effects, outcomes, recovery
from taskengine.engine.planner import plan as plan_module
from taskengine.engine.planner import saga as saga_module
from taskengine.engine.planner.answers import Refused
from taskengine.engine.planner.ledger import Ledger
from taskengine.engine.planner.plan import Plan
from taskengine.engine.planner.saga import Saga
from taskengine.engine.planner.task import Task
from taskengine.engine.planner.trigger import TriggerVerdict
from taskengine.errors import TaskEngineError
from taskengine.model.messages import Settled
from taskengine.model.states import Hold, TaskState

SEEDS = 600
Patch = Callable[[pytest.MonkeyPatch], None]


def forget_the_slot_fence(patch: pytest.MonkeyPatch) -> None:
    real = outcomes.on_settled

    def mutant(plan: Plan, message: Settled, now_us: Micros) -> None:
        task = plan.ledger.tasks[message.ordinal]
        if task.state is TaskState.RUNNING and not task.slot:
            task.slot = True
        if task.state is TaskState.RUNNING:
            message = Settled(message.ordinal, task.attempt, message.outcome, result=b"1", park=message.park)
        real(plan, message, now_us)

    patch.setattr(decision, "on_settled", mutant)


def start_while_held(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "held", property(lambda ledger: False))


def forget_to_sweep_a_cancel(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Plan, "sweep_all", lambda plan: None)


def forget_timers_at_recovery(patch: pytest.MonkeyPatch) -> None:
    real = recovery._take_up

    def mutant(plan: Plan, task: Task, now_us: Micros) -> None:
        if task.state not in (TaskState.RETRYING, TaskState.WAITING):
            real(plan, task, now_us)

    patch.setattr(recovery, "_take_up", mutant)


def forget_command_ids(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "accept", lambda ledger, command_id, kind, answer: None)


def never_wait_for_a_suspect(patch: pytest.MonkeyPatch) -> None:
    real = decision.on_granted

    def mutant(plan: Plan, message: Any, now_us: Micros) -> None:
        real(plan, message, now_us)
        plan.launches += [effect for effect in plan.effects if isinstance(effect, effects.Launch)]
        plan.effects = [effect for effect in plan.effects if not isinstance(effect, effects.Launch)]

    patch.setattr(decision, "on_granted", mutant)


def never_quarantine(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recovery, "_quarantine_culprits", lambda plan: None)


def skip_counts_as_success(patch: pytest.MonkeyPatch) -> None:
    real = plan_module.judge

    def mutant(*args: Any) -> TriggerVerdict:
        verdict = real(*args)
        return TriggerVerdict.GO if verdict is TriggerVerdict.SKIP else verdict

    patch.setattr(plan_module, "judge", mutant)


def start_before_all_dependencies(patch: pytest.MonkeyPatch) -> None:
    real = plan_module.judge
    patch.setattr(
        plan_module, "judge", lambda trigger, need, ok, bad, skip: real(trigger, max(0, need - 1), ok, bad, skip)
    )


def forget_to_count_again_after_a_retry(patch: pytest.MonkeyPatch) -> None:
    real = commands._begin_run

    def mutant(plan: Plan, reset: Any, now_us: Micros) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Ledger, "recount", lambda ledger: None)
            real(plan, reset, now_us)

    patch.setattr(commands, "_begin_run", mutant)


def withdraw_an_offer_twice(patch: pytest.MonkeyPatch) -> None:
    def mutant(plan: Plan, task: Task, now_us: Micros) -> None:
        if task.settled:
            return
        if task.slot:
            plan.interrupt(task)
            return
        if task.state is TaskState.READY:
            plan.withdraw(task)
        plan.ledger.move(task, outcomes.TaskMove.CANCEL, now_us)
        plan.settle(task, now_us)

    patch.setattr(Plan, "_cancel_task", mutant)


def forget_to_write_a_move(patch: pytest.MonkeyPatch) -> None:
    real = Ledger.move

    def mutant(ledger: Ledger, task: Task, *args: Any) -> None:
        real(ledger, task, *args)
        if task.state is TaskState.RETRYING:
            del ledger._dirty[task.ordinal]

    patch.setattr(Ledger, "move", mutant)


def reuse_attempt_numbers(patch: pytest.MonkeyPatch) -> None:
    real = commands._reset

    def mutant(plan: Plan, task: Task, now_us: Micros) -> None:
        real(plan, task, now_us)
        task.attempt = 0

    patch.setattr(commands, "_reset", mutant)


def call_everything_a_success(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Plan, "counts_as_bad", lambda plan, task: False)


def resume_without_looking(patch: pytest.MonkeyPatch) -> None:
    def mutant(plan: Plan, now_us: Micros) -> bool:
        if not plan.ledger.at_end:
            plan.ledger.hold = Hold.NONE  # the row is not written
        return True

    patch.setattr(commands, "_resume", mutant)


def start_sub_tasks_beside_their_parent(patch: pytest.MonkeyPatch) -> None:
    """Not before its body has succeeded is the rule."""

    def mutant(plan: Plan, task: Task, parent: Task, now_us: Micros) -> None:
        if not plan.ledger.cast.dependencies[task.ordinal]:
            plan.make_eligible(task, now_us)

    patch.setattr(Plan, "_judge_provisional", mutant)


def keep_what_earlier_attempts_added(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outcomes, "confirm", lambda plan, parent: bool(plan.ledger.cast.members(parent.ordinal)))


def forget_to_wake_a_sibling(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Plan, "_wake", lambda plan, family: None)


def forget_the_sub_tasks_of_a_failed_body(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Plan, "look_soon", lambda plan, ordinals: None)


def forget_the_tolerance(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Plan, "_tolerated", lambda plan, parent, total: float(total))


def take_in_half_a_batch(patch: pytest.MonkeyPatch) -> None:
    real = Ledger.add

    def mutant(ledger: Ledger, added: Any, *rest: Any) -> Task:
        if added.task is not None and added.task.name == "s3":
            raise Refused("one of them does not fit in", "invalid")
        return real(ledger, added, *rest)

    patch.setattr(Ledger, "add", mutant)


def undo_in_the_order_of_the_definition(patch: pytest.MonkeyPatch) -> None:
    real = Saga.next

    def mutant(saga: Saga, now_us: Micros) -> Task | None:
        task = real(saga, now_us)
        if saga._owed:
            saga._owed.sort(key=lambda task: -task.ordinal)
        return task

    patch.setattr(Saga, "next", mutant)


def forget_what_runs_of_a_saga_at_recovery(patch: pytest.MonkeyPatch) -> None:
    real = recovery._take_up

    def mutant(plan: Plan, task: Task, now_us: Micros) -> None:
        if task.state is not TaskState.COMPENSATING:
            real(plan, task, now_us)

    patch.setattr(recovery, "_take_up", mutant)


def undo_only_what_ended_well(patch: pytest.MonkeyPatch) -> None:
    real = saga_module.is_owed
    patch.setattr(saga_module, "is_owed", lambda ledger, task: real(ledger, task) and task.state is TaskState.SUCCESS)


def end_without_the_child(patch: pytest.MonkeyPatch) -> None:
    real = Plan._cancel_task

    def mutant(plan: Plan, task: Task, now_us: Micros) -> None:
        if task.awaits_child:
            plan.cancel(task, now_us)
        real(plan, task, now_us)

    patch.setattr(Plan, "_cancel_task", mutant)


def forget_children_at_recovery(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recovery, "_take_up_child", lambda plan, task: None)


MUTANTS: list[Patch] = [
    end_without_the_child,
    forget_children_at_recovery,
    undo_in_the_order_of_the_definition,
    forget_what_runs_of_a_saga_at_recovery,
    undo_only_what_ended_well,
    start_sub_tasks_beside_their_parent,
    keep_what_earlier_attempts_added,
    forget_to_wake_a_sibling,
    forget_the_sub_tasks_of_a_failed_body,
    forget_the_tolerance,
    take_in_half_a_batch,
    forget_the_slot_fence,
    start_while_held,
    forget_to_sweep_a_cancel,
    forget_timers_at_recovery,
    forget_command_ids,
    never_wait_for_a_suspect,
    never_quarantine,
    skip_counts_as_success,
    start_before_all_dependencies,
    forget_to_count_again_after_a_retry,
    withdraw_an_offer_twice,
    forget_to_write_a_move,
    reuse_attempt_numbers,
    call_everything_a_success,
    resume_without_looking,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_removed_rule_is_noticed(mutant: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    with pytest.raises((AssertionError, TaskEngineError, RecursionError, LookupError)):
        run_until_red()


def run_until_red() -> None:
    for seed in range(SEEDS):
        history(seed)
