"""Random workflows and what their bodies will do: the input of the simulation, all from one seed."""

import random
from collections.abc import Sequence

import msgspec

from taskengine.clock import Micros
from taskengine.model.definition import OnFailure, RetryPolicy, TaskSpec, Trigger, WorkflowDefinition
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
    return Story(definition, tuple(_acts(rng, task) for task in tasks), killer)


def _task(rng: random.Random, number: int) -> TaskSpec:
    needs = rng.sample(range(number), k=min(number, rng.choice([0, 1, 1, 2, 3])))
    triggers: Sequence[Trigger] = list(Trigger) if needs else [Trigger.ALL_SUCCESS, Trigger.ALL_DONE]
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
    )


def _acts(rng: random.Random, task: TaskSpec) -> tuple[Act, ...]:
    choices = [Outcome.OK] * 12 + [Outcome.FAIL] * 4 + [Outcome.TIMEOUT, Outcome.SKIP, Outcome.PARK]
    return tuple(Act(rng.choice(choices), rng.random() < 0.9) for _ in range(3))
