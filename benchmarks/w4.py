"""W4: instances that did one step and now sleep, or wait for a signal: their start, their memory, their waking."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from benchmarks.figures import Figure, Outcome, Settings
from benchmarks.grounds import ask, database
from benchmarks.rig import engine_on, resident_mb, scratch, tune
from taskengine.definition import TaskBuilder, WorkflowBuilder
from taskengine.engine.engine import Engine
from taskengine.model.definition import WorkflowDefinition

__all__ = ["run"]

SLEEPERS: Final = 1_000_000
WAITERS: Final = 10_000
DUE: Final = 1_000
"""Sleepers that come due while all others go on sleeping."""

_OUTSTANDING: Final = 1_000
_NAP_S: Final = 10.0


def _sleeping(span: str) -> WorkflowDefinition:
    """One step, then a sleep."""
    step = TaskBuilder("step").with_job_function("nothing").build()
    nap = TaskBuilder("nap").with_sleep(span).with_dependency("step").build()
    return WorkflowBuilder(f"sleep-{span}").with_task(step, nap).build()


def _waiting() -> WorkflowDefinition:
    """One step, then a wait for a signal."""
    step = TaskBuilder("step").with_job_function("nothing").build()
    wait = TaskBuilder("wait").with_wait_for("go").with_dependency("step").build()
    return WorkflowBuilder("wait").with_task(step, wait).build()


async def _at_once(count: int, act: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """`act` for every number, so many at the same time; what each gave."""
    found: list[Any] = [None] * count
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            found[number] = await act(number)

    await asyncio.gather(*(worker() for _ in range(min(count, _OUTSTANDING))))
    return found


async def _start(engine: Engine, definition: WorkflowDefinition, count: int) -> list[str]:
    """Started, their step done, and parked: out of memory."""
    await engine.register_workflow(definition)
    started = await _at_once(count, lambda _: engine.execute_workflow(definition.id))
    # An instance leaves memory when its park is committed, and nothing tells of that.
    while any(actor.actor_class == "InstanceActor" for actor in engine.actors()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return started


async def _measure(dsn: str, sleepers: int, waiters: int, due: int) -> dict[str, float]:
    async with engine_on(dsn) as engine:
        await _start(engine, _sleeping("1d"), min(sleepers, _OUTSTANDING))  # warm
        gc.collect()
        before_mb, began_s = resident_mb(), time.perf_counter()
        await _start(engine, _sleeping("1d"), sleepers)
        spent_s = time.perf_counter() - began_s
        gc.collect()
        grown_mb = resident_mb() - before_mb
        late_s = await _wake(engine, due)
        signals = await _signal(engine, waiters)
    asleep = ask(dsn, "SELECT count(*) FROM tasks WHERE state = 'Waiting'")[0][0]
    assert asleep == sleepers + min(sleepers, _OUTSTANDING), f"{asleep} sleep"
    return {
        "rate": sleepers / spent_s,
        "bytes": grown_mb * 1e6 / sleepers,
        "late": max(late_s),
        "signals": signals,
    }


async def _wake(engine: Engine, count: int) -> Sequence[float]:
    """How much later than due each of some sleepers had ended."""
    instances = await _start(engine, _sleeping(f"{_NAP_S:g}s"), count)
    await _at_once(count, lambda number: engine.wait_for_instance(instances[number]))
    late = []
    for instance in instances:
        step, nap = await engine.get_tasks(instance)
        assert (step.status, nap.status) == ("Success", "Success")
        assert step.finished_at is not None
        assert nap.finished_at is not None
        assert nap.started_at is not None
        late.append((nap.finished_at - nap.started_at).total_seconds() - _NAP_S)
    return late


async def _signal(engine: Engine, count: int) -> float:
    """Signals a second, each to an instance of its own, until all have ended."""
    instances = await _start(engine, _waiting(), count)
    began_s = time.perf_counter()

    async def release(number: int) -> None:
        await engine.signal_instance(instances[number], "go", number)
        view = await engine.wait_for_instance(instances[number])
        assert view.status == "Success"

    await _at_once(count, release)
    rate = count / (time.perf_counter() - began_s)
    for number in range(0, count, max(1, count // 100)):
        assert (await engine.get_task(instances[number], "wait")).result == number, "each its own"
    return rate


def run(settings: Settings) -> Outcome:
    """One sample: a million takes its time."""
    sleepers, waiters, due = (500, 200, 50) if settings.small else (SLEEPERS, WAITERS, DUE)
    tune()
    with scratch() as folder, database(settings.store, folder, "sleepers") as dsn:
        found = asyncio.run(_measure(dsn, sleepers, waiters, due))
    asleep = f"{sleepers:,} asleep"
    return Outcome(
        workload="w4",
        figures=[
            Figure(name=f"{asleep}: started", unit="wf/s", samples=[found["rate"]], at_least=3_000),
            Figure(name=f"{asleep}: memory of each", unit="bytes", samples=[found["bytes"]], at_most=500),
            Figure(name=f"{due:,} of them due: the latest", unit="s", samples=[found["late"]], at_most=1.0),
            Figure(name=f"{waiters:,} signals to as many", unit="signals/s", samples=[found["signals"]]),
        ],
        facts={"instances": sleepers},
    )
