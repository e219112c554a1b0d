"""W3: a chain of 40 naive fib(10), and of 10 fib(33) against plain Python in CPU time.

The published comparison of workflow engines. The function is a plain `def`, so it runs in a thread.
"""

import asyncio
import time
from pathlib import Path

from benchmarks import jobs
from benchmarks.figures import Figure, Outcome, Settings
from benchmarks.rig import engine_on, ratios, scratch, tune
from taskengine.definition import TaskBuilder, WorkflowBuilder
from taskengine.engine.engine import Engine
from taskengine.model.definition import WorkflowDefinition

__all__ = ["run"]


def _chain(steps: int, n: int) -> WorkflowDefinition:
    workflow = WorkflowBuilder(f"fib-{n}-{steps}")
    for step in range(steps):
        task = TaskBuilder(f"step-{step}").with_job_function("fib", {"n": n})
        workflow.with_task(task.with_dependency(f"step-{step - 1}") if step else task)
    return workflow.build()


async def _seconds(engine: Engine, definition: WorkflowDefinition, n: int) -> tuple[float, float]:
    """Wall and CPU seconds from the start to the known end. Raises AssertionError for a wrong result."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    instance = await engine.execute_workflow(definition)
    await engine.wait_for_instance(instance)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    (result,) = (await engine.result(instance)).values()
    assert result == jobs.fib(n), f"fib({n}) is not {result}"
    return wall_s, cpu_s


async def _measure(path: Path, runs: int, heavy_steps: int, heavy: int) -> dict[str, list[float]]:
    light, large = _chain(40, 10), _chain(heavy_steps, heavy)
    samples: dict[str, list[float]] = {"light": [], "wall": [], "cpu": [], "plain": []}
    async with engine_on(path) as engine:
        await _seconds(engine, light, 10)
        for _ in range(runs):
            samples["light"].append((await _seconds(engine, light, 10))[0])
            began_s = time.process_time()
            for _ in range(heavy_steps):
                jobs.fib(heavy)
            samples["plain"].append(time.process_time() - began_s)
            wall_s, cpu_s = await _seconds(engine, large, heavy)
            samples["wall"].append(wall_s)
            samples["cpu"].append(cpu_s)
    return samples


def run(settings: Settings) -> Outcome:
    """Light and heavy."""
    steps, heavy = (3, 12) if settings.small else (10, 33)
    tune()
    with scratch() as folder:
        found = asyncio.run(_measure(folder / "w3.db", settings.runs, steps, heavy))
    return Outcome(
        workload="w3",
        figures=[
            Figure(name="40 × fib(10)", unit="s", samples=found["light"], at_most=0.06),
            Figure(name=f"{steps} × fib({heavy})", unit="s", samples=found["wall"]),
            Figure(
                name="its CPU over plain Python's", unit="", samples=ratios(found["cpu"], found["plain"]), at_most=1.1
            ),
        ],
    )
