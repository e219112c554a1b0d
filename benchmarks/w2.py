"""W2: one task, then many at the same time, then one; 10,000 against the floor, 100,000 for the memory."""

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from benchmarks import floor, jobs
from benchmarks.figures import Figure, Outcome, Settings
from benchmarks.grounds import ask, database, writer_on
from benchmarks.rig import CommitMetrics, Leg, engine_on, in_turns, ratios, resident_mb, scratch, tune
from taskengine.ambient import Ambient
from taskengine.definition import TaskBuilder, WorkflowBuilder
from taskengine.model.definition import WorkflowDefinition

__all__ = ["fan", "memory", "on_floor", "run"]

TEN_TIMES: Final = 10
_MEMORY: Final = "import sys; from benchmarks import w2; print(w2.memory(int(sys.argv[1]), sys.argv[2]))"


def fan(width: int) -> WorkflowDefinition:
    """1 → `width` → 1, all of them no-ops."""
    names = [f"task-{n}" for n in range(1, width + 1)]
    middle = [TaskBuilder(name).with_job_function("nothing").with_dependency("first") for name in names]
    last = TaskBuilder("last").with_job_function("nothing").with_dependency(*names)
    return WorkflowBuilder("fan").with_task(TaskBuilder("first").with_job_function("nothing"), *middle, last).build()


async def _on_engine(dsn: str, definition: WorkflowDefinition, width: int) -> Leg:
    metrics = CommitMetrics()
    async with engine_on(dsn, ambient=Ambient(metrics=metrics)) as engine:
        await engine.register_workflow(definition)
        began_s = time.perf_counter()
        await engine.wait_for_instance(await engine.execute_workflow(definition))
        spent_s = time.perf_counter() - began_s
    await asyncio.to_thread(_check, dsn, width)
    return Leg((width + 2) / spent_s, metrics.commits, metrics.rows)


async def on_floor(dsn: str, width: int) -> Leg:
    """Tasks a second of the floor, on a new file."""
    async with writer_on(dsn) as writer:
        began_s = time.perf_counter()
        await floor.w2(writer, jobs.nothing, width)
        spent_s = time.perf_counter() - began_s
    await asyncio.to_thread(_check, dsn, width)
    return Leg((width + 2) / spent_s, writer.commits, writer.rows)


def _check(dsn: str, width: int) -> None:
    """Every task succeeded, once. Raises AssertionError."""
    found = [tuple(row) for row in ask(dsn, "SELECT state, attempt, count(*) FROM tasks GROUP BY state, attempt")]
    ends = [tuple(row) for row in ask(dsn, "SELECT state, count(*) FROM instances GROUP BY state")]
    assert found == [("Success", 1, width + 2)], f"tasks: {found}"
    assert ends == [("Success", 1)], f"instances: {ends}"


async def _memory(dsn: str, width: int) -> tuple[float, float]:
    """Rate at `width`, and how many MB this process took at most beyond what it had before."""
    definition = fan(width)
    gc.collect()
    before, most = resident_mb(), 0.0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, resident_mb())
            await asyncio.sleep(0.05)

    watcher = asyncio.create_task(watch())
    leg = await _on_engine(dsn, definition, width)
    watcher.cancel()
    return leg.rate, most - before


def memory(width: int, store: str) -> str:
    """For a process of its own: rate and MB of one fan-out, as JSON."""
    tune()
    with scratch() as folder, database(store, folder, "memory") as dsn:
        return json.dumps(asyncio.run(_memory(dsn, width)))


def _memory_elsewhere(width: int, store: str) -> tuple[float, float]:
    """The allocator of a process that has done it before would give no honest difference."""
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(width), store], capture_output=True, text=True, check=True
    )
    rate, grown_mb = json.loads(done.stdout)
    return rate, grown_mb


def run(settings: Settings) -> Outcome:
    """Both sizes of W2."""
    width = 200 if settings.small else 10_000
    tune()
    definition = fan(width)
    with scratch() as folder:
        legs = in_turns(
            settings,
            folder,
            floor=lambda dsn: on_floor(dsn, width),
            engine=lambda dsn: _on_engine(dsn, definition, width),
        )
    small = [_memory_elsewhere(width, settings.store) for _ in range(settings.runs)]
    large = [_memory_elsewhere(width * TEN_TIMES, settings.store) for _ in range(settings.runs)]
    engines, floors = [leg.rate for leg in legs["engine"]], [leg.rate for leg in legs["floor"]]
    wide = f"{width * TEN_TIMES:,}"
    return Outcome(
        workload="w2",
        figures=[
            Figure(name=f"1 → {width:,} → 1", unit="tasks/s", samples=engines),
            Figure(name="the floor's", unit="tasks/s", samples=floors),
            Figure(name="share of the floor", unit="", samples=ratios(engines, floors), at_least=0.35),
            Figure(name=f"1 → {wide} → 1", unit="tasks/s", samples=_rates(large)),
            Figure(
                name=f"rate at {wide} over that at {width:,}",
                unit="",
                samples=ratios(_rates(large), _rates(small)),
                at_least=0.9,
            ),
            Figure(name=f"memory of a task at {width:,}", unit="bytes", samples=_bytes(small, width)),
            Figure(name=f"memory of a task at {wide}", unit="bytes", samples=_bytes(large, width * TEN_TIMES)),
        ],
        facts={
            "tasks": width + 2,
            **{f"rows per task, {name}": measured[0].rows / (width + 2) for name, measured in legs.items()},
            **{f"commits, {name}": measured[0].commits for name, measured in legs.items()},
        },
    )


def _rates(runs: Sequence[tuple[float, float]]) -> list[float]:
    return [rate for rate, _ in runs]


def _bytes(runs: Sequence[tuple[float, float]], width: int) -> list[float]:
    return [grown_mb * 1e6 / width for _, grown_mb in runs]
