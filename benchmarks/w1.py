"""W1: workflows of three sequential no-op steps that pass x + 1; a thousand outstanding, and one at a time."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from benchmarks import floor, jobs
from benchmarks.figures import Figure, Outcome, Settings
from benchmarks.grounds import ask, database, one_lane, writer_on
from benchmarks.rig import CommitMetrics, Leg, engine_on, in_turns, ratios, scratch, tune
from taskengine.ambient import Ambient
from taskengine.definition import TaskBuilder, WorkflowBuilder
from taskengine.engine.engine import Engine
from taskengine.model.definition import WorkflowDefinition

__all__ = ["alone_on_floor", "chain", "many_on_floor", "run"]

STEPS: Final = 3


def chain(steps: int, job: str, argument: str) -> WorkflowDefinition:
    """`steps` tasks, each with the result of the one before as its argument."""
    workflow = WorkflowBuilder("chain").with_params({"start": 0})
    for n in range(steps):
        value = f"${{{{ tasks['step-{n - 1}'].result }}}}" if n else "${{ params.start }}"
        task = TaskBuilder(f"step-{n}").with_job_function(job, {argument: value})
        workflow.with_task(task.with_dependency(f"step-{n - 1}") if n else task)
    return workflow.build()


async def _one(engine: Engine, definition: WorkflowDefinition, x: int) -> None:
    await engine.wait_for_instance(await engine.execute_workflow(definition, {"start": x}))


async def _many_on_engine(dsn: str, total: int, outstanding: int) -> Leg:
    definition, numbers = chain(STEPS, "add-one", "x"), iter(range(total))

    async def client(engine: Engine) -> None:
        for x in numbers:
            await _one(engine, definition, x)

    metrics = CommitMetrics()
    async with engine_on(dsn, ambient=Ambient(metrics=metrics)) as engine:
        began_s = time.perf_counter()
        await asyncio.gather(*[client(engine) for _ in range(outstanding)])
        spent_s = time.perf_counter() - began_s
    await asyncio.to_thread(_check, dsn, total)
    return Leg(total / spent_s, metrics.commits, metrics.rows)


async def many_on_floor(dsn: str, total: int, outstanding: int) -> Leg:
    """Workflows a second of the floor, on a new file."""
    numbers = iter(range(total))

    async def client(writer: floor.Writer) -> None:
        for x in numbers:
            await floor.w1(writer, [jobs.add_one] * STEPS, x)

    async with writer_on(dsn) as writer:
        began_s = time.perf_counter()
        await asyncio.gather(*[client(writer) for _ in range(outstanding)])
        spent_s = time.perf_counter() - began_s
    await asyncio.to_thread(_check, dsn, total)
    return Leg(total / spent_s, writer.commits, writer.rows)


def _check(dsn: str, total: int) -> None:
    """Every workflow succeeded, and its last result is its number plus the steps. Raises AssertionError."""
    ends = ask(
        dsn,
        "SELECT i.state, i.params, t.state, t.result FROM instances AS i"
        f" JOIN tasks AS t ON t.instance_id = i.id AND t.ordinal = {STEPS - 1}",
    )
    assert len(ends) == total, f"{len(ends)} of {total} workflows have a last task"
    assert all(states == ("Success", "Success") for states in ((end[0], end[2]) for end in ends)), "not all succeeded"
    starts = sorted(next(iter(json.loads(end[1]).values())) for end in ends)
    assert starts == list(range(total)), "not every workflow is there once"
    assert all(json.loads(end[3]) == next(iter(json.loads(end[1]).values())) + STEPS for end in ends), "wrong results"


async def alone_on_floor(dsn: str, count: int) -> list[float]:
    """Latencies in ms of the floor's workflows, one at a time."""
    taken = []
    async with writer_on(dsn) as writer:
        for x in range(-10, count):
            began_s = time.perf_counter()
            await floor.w1(writer, [jobs.add_one] * STEPS, x)
            taken.append((time.perf_counter() - began_s) * 1e3)
    return taken[10:]


async def _alone(dsn: str, other: str, count: int) -> tuple[list[float], list[float]]:
    """Latencies in ms of floor and engine, one workflow of each in turns."""
    definition = chain(STEPS, "add-one", "x")
    floors, engines = [], []
    async with writer_on(dsn) as writer, engine_on(other) as engine:
        for x in range(-10, count):
            began_s = time.perf_counter()
            await floor.w1(writer, [jobs.add_one] * STEPS, x)
            middle_s = time.perf_counter()
            await _one(engine, definition, x)
            if x >= 0:
                floors.append((middle_s - began_s) * 1e3)
                engines.append((time.perf_counter() - middle_s) * 1e3)
    return floors, engines


def _alone_once(store: str, folder: Path, number: int, count: int) -> tuple[list[float], list[float]]:
    with database(store, folder, f"alone-floor{number}") as one, database(store, folder, f"alone{number}") as other:
        return asyncio.run(_alone(one, other, count))


def _one_lane(settings: Settings, leg: Callable[[str], Coroutine[Any, Any, Leg]]) -> dict[str, Any]:
    """The same engine with a single lane, where there are several."""
    if settings.store == "sqlite":
        return {}

    async def with_one(dsn: str) -> Leg:
        with one_lane(settings.store):
            return await leg(dsn)

    return {"single": with_one}


def run(settings: Settings) -> Outcome:
    """Both halves of W1."""
    total, outstanding, count = (60, 20, 5) if settings.small else (6000, 1000, 300)
    tune()
    with scratch() as folder:
        legs = in_turns(
            settings,
            folder,
            floor=lambda dsn: many_on_floor(dsn, total, outstanding),
            engine=lambda dsn: _many_on_engine(dsn, total, outstanding),
            **_one_lane(settings, lambda dsn: _many_on_engine(dsn, total, outstanding)),
        )
        alone = [_alone_once(settings.store, folder, n, count) for n in range(settings.runs)]
    engines, floors = [leg.rate for leg in legs["engine"]], [leg.rate for leg in legs["floor"]]
    return Outcome(
        workload="w1",
        figures=[
            Figure(name=f"{outstanding:,} outstanding", unit="wf/s", samples=engines),
            Figure(name="the floor's", unit="wf/s", samples=floors),
            Figure(name="share of the floor", unit="", samples=ratios(engines, floors), at_least=0.35),
            *_lanes(legs),
            *_latencies(alone),
        ],
        facts={
            "workflows": total,
            "outstanding": outstanding,
            "one at a time": count,
            **{f"rows per workflow, {name}": measured[0].rows / total for name, measured in legs.items()},
            **{f"commits, {name}": measured[0].commits for name, measured in legs.items()},
        },
    )


def _lanes(legs: Mapping[str, Sequence[Leg]]) -> list[Figure]:
    if "single" not in legs:
        return []
    singles, engines = [leg.rate for leg in legs["single"]], [leg.rate for leg in legs["engine"]]
    return [
        Figure(name="on one lane", unit="wf/s", samples=singles),
        Figure(name="two lanes over one", unit="", samples=ratios(engines, singles)),
    ]


def _latencies(alone: list[tuple[list[float], list[float]]]) -> list[Figure]:
    floors, engines = [median(pair[0]) for pair in alone], [median(pair[1]) for pair in alone]
    tails = [quantiles(pair[1], n=100)[98] for pair in alone]
    return [
        Figure(name="one at a time, p50", unit="ms", samples=engines),
        Figure(name="one at a time, p99", unit="ms", samples=tails),
        Figure(name="the floor's four commits, p50", unit="ms", samples=floors),
        Figure(name="p50 over the floor's", unit="", samples=ratios(engines, floors), at_most=1.5),
    ]
