"""What the kill tests run: workflows from a seed, and what they must come to. The same seed gives the same ones."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from taskengine.clock import Micros
from taskengine.model.definition import OnFailure, RetryPolicy, TaskSpec, WorkflowDefinition
from taskengine.model.ids import WorkflowId

TASKS = 12
PACED = ("步骤-async", "步骤-thread")


def key_of(number: int) -> str:
    """The idempotency key under which a start is asked for, as often as it takes."""
    return f"start-{number}"


def kind_of(number: int) -> str:
    """What the load driver does with this instance besides starting it."""
    return {3: "pause", 5: "cancel", 7: "retry"}.get(number % 10, "plain")


def definition(seed: int, number: int) -> WorkflowDefinition:
    """A graph of twelve tasks: async, thread and one process job, one that fails once, one that always fails and is
    tolerated, a durable sleep; their results flow into each other."""
    rng = random.Random(f"{seed}/{number}")
    jobs = ["步骤-process", "flaky", "broken", "sleep", *rng.choices(PACED, k=TASKS - 4)]
    rng.shuffle(jobs)
    if kind_of(number) == "retry":
        jobs[-1] = "repaired"
    tasks = tuple(_task(rng, place, job) for place, job in enumerate(jobs))
    return WorkflowDefinition(
        id=WorkflowId(f"图-{seed}-{number}"),
        tasks=tasks,
        on_failure=OnFailure.CONTINUE,
        max_concurrent_tasks=rng.choice([None, None, 3]),
    )


def _task(rng: random.Random, place: int, job: str) -> TaskSpec:
    needs = sorted(rng.sample(range(place), k=min(place, rng.choice([0, 1, 1, 2, 3]))))
    names = tuple(f"t{need}" for need in needs)
    params: dict[str, Any] = {"duration": rng.choice([0.05, 0.15])}
    if job != "sleep":
        inputs = ["${{ tasks." + name + ".result }}" for name in names]
        params = {"inputs": inputs, "own": rng.randrange(1000), "seconds": rng.choice([0.0, 0.01, 0.03])}
    tries = {"flaky": 2, "broken": 1}.get(job)
    retry = None if tries is None else RetryPolicy(count=tries, interval_us=Micros(rng.choice([0, 20_000])))
    return TaskSpec(
        name=f"t{place}", job=job, params=params, depends_on=names, retry=retry, continue_on_failure=job == "broken"
    )


def expected_results(workflow: WorkflowDefinition) -> Mapping[str, Any]:
    """The result of every task that succeeds, computed without the engine."""
    results: dict[str, Any] = {}
    for spec in workflow.tasks:
        if spec.job == "sleep":
            results[spec.name] = {"slept": spec.params["duration"]}
        elif spec.job != "broken":
            inputs: Sequence[Any] = [results.get(name) for name in spec.depends_on]
            whole = [value for value in inputs if isinstance(value, int)]
            results[spec.name] = (spec.params["own"] + sum(whole)) % 1_000_003
    return results
