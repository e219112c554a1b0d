"""Random workflows and what their bodies will do: the input of the simulation, all from one seed."""

import random
from collections.abc import Sequence

import msgspec

from taskengine.clock import Micros
from taskengine.model.definition import Compensation, OnFailure, RetryPolicy, TaskSpec, Trigger, WorkflowDefinition
from taskengine.model.ids import WorkflowId
from taskengine.model.records import Outcome

SECOND = 1_000_000


class Act(msgspec.Struct, frozen=True):
    """What one counted attempt of a body does."""

    outcome: Outcome
    retryable: bool = True


class Story(msgspec.Struct, frozen=True):
    """A workflow, and for each task what its first, second, ... counted attempt does (the last one repeats)."""

    definition: WorkflowDefinition
    acts: tuple[tuple[Act, ...], ...]
    killer: int | None  # the task whose body ends the process every time
    grows: bool = False  # bodies add sub-tasks

    def act(self, ordinal: int, tries: int) -> Act:
        acts = self.acts[ordinal]
        return acts[min(tries, len(acts) - 1)]


def random_story(rng: random.Random) -> Story:
    count = rng.choice([0, 1, 2, 3, 5, 8, 12, 20])
    tasks = tuple(_task(rng, number) for number in range(count))
    definition = WorkflowDefinition(
        id=WorkflowId("模拟"),
        tasks=tasks,
        on_failure=rng.choice(list(OnFailure)),
        max_concurrent_tasks=rng.choice([None, None, 1, 2, 4]),
        timeout_us=rng.choice([None, None, None, Micros(30 * SECOND)]),
    )
    killer = rng.randrange(count) if count and rng.random() < 0.1 else None
    acts = tuple(_acts(rng, task) for task in tasks)
    grows = rng.random() < 0.5
    if rng.random() < 0.4:
        tasks = tuple(
            task if task.job == "wait_for" else msgspec.structs.replace(task, compensation=_undo(rng)) for task in tasks
        )
        definition = msgspec.structs.replace(definition, tasks=tasks)
    if grows:
        definition = msgspec.structs.replace(definition, sub_task_error_tolerance=rng.choice([0.0, 0.0, 0.34, 1.0]))
    return Story(definition, acts, killer, grows)


def _undo(rng: random.Random) -> Compensation | None:
    if rng.random() < 0.3:
        return None
    retry = RetryPolicy(count=1, interval_us=Micros(rng.choice([0, SECOND]))) if rng.random() < 0.5 else None
    return Compensation(job="undo", retry=retry)


def random_batch(rng: random.Random) -> list[TaskSpec]:
    """A few sub-tasks out of few names, so that attempts add the same ones, other ones, and the same ones changed."""
    names = sorted(rng.sample(range(6), k=rng.choice([0, 1, 2, 3, 4])))
    return [_sub_task(rng, names, at) for at in range(len(names))]


def _sub_task(rng: random.Random, names: Sequence[int], at: int) -> TaskSpec:
    needs = rng.sample(names[:at], k=min(at, rng.choice([0, 0, 1, 2])))
    if rng.random() < 0.05:
        needs = [rng.choice([*names, 99])]  # itself, a circle perhaps, or nobody
    retry = RetryPolicy(count=1, interval_us=Micros(0)) if rng.random() < 0.3 else None
    return TaskSpec(
        name=f"s{names[at]}",
        job="body",
        depends_on=tuple(f"s{need}" for need in needs),
        trigger=rng.choice([Trigger.ALL_SUCCESS, Trigger.ALL_SUCCESS, *Trigger]) if needs else Trigger.ALL_SUCCESS,
        retry=retry,
        max_parallel=rng.choice([None, None, 1, 2]),
        continue_on_failure=rng.random() < 0.1,
        compensation=_undo(rng) if rng.random() < 0.5 else None,
    )


def undo_act(name: str, tries: int) -> Act:
    return Act(random.Random(f"undo {name} {tries}").choice([Outcome.OK] * 5 + [Outcome.FAIL, Outcome.TIMEOUT]))


def added_act(name: str, tries: int) -> Act:
    return Act(random.Random(f"{name} {tries}").choice([Outcome.OK] * 8 + [Outcome.FAIL, Outcome.PARK, Outcome.SKIP]))


def _task(rng: random.Random, number: int) -> TaskSpec:
    needs = rng.sample(range(number), k=min(number, rng.choice([0, 1, 1, 2, 3])))
    triggers: Sequence[Trigger] = list(Trigger) if needs else [Trigger.ALL_SUCCESS, Trigger.ALL_DONE]
    if rng.random() < 0.08:
        return _wait(rng, number, tuple(f"t{need}" for need in needs))
    at_most_once = rng.random() < 0.1
    retry = None
    if not at_most_once and rng.random() < 0.5:
        retry = RetryPolicy(count=rng.randint(1, 2), interval_us=Micros(rng.choice([0, SECOND, 7 * SECOND])))
    return TaskSpec(
        name=f"t{number}",
        job="body",
        depends_on=tuple(f"t{need}" for need in needs),
        trigger=rng.choice([Trigger.ALL_SUCCESS, *triggers]),
        retry=retry,
        at_most_once=at_most_once,
        continue_on_failure=rng.random() < 0.15,
        max_parallel=rng.choice([None, None, None, 1, 2]),
    )


def _wait(rng: random.Random, number: int, needs: tuple[str, ...]) -> TaskSpec:
    """It waits for one of two signals; everything else about it may still go wrong."""
    params = {"signal": rng.choice("ab"), "on_timeout": rng.choice(["fail", "continue"])}
    return TaskSpec(name=f"t{number}", job="wait_for", depends_on=needs, params=params)


def _acts(rng: random.Random, task: TaskSpec) -> tuple[Act, ...]:
    choices = [Outcome.OK] * 12 + [Outcome.FAIL] * 4 + [Outcome.TIMEOUT, Outcome.SKIP, Outcome.PARK]
    return tuple(Act(rng.choice(choices), rng.random() < 0.9) for _ in range(3))
