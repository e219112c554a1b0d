"""Who may run at the same time: workers, an instance's own limit, turns of instances, threads that will not end."""

import asyncio
import threading
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, eventually, finished, flow, states, until_task

from taskengine import SyncTaskContext, TaskContext
from taskengine.clock import Micros
from taskengine.model.definition import RetryPolicy, TaskSpec


class Gauge:
    """A body that counts how many of it run at once."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.now = self.most = 0
        self.order: list[str] = []

    async def run(self, ctx: TaskContext) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.order.append(ctx.workflow_id)
        await asyncio.sleep(self.seconds)
        self.now -= 1


def many(count: int, **settings: Any) -> Any:
    return flow(*(TaskSpec(name=f"t{number}", job="body") for number in range(count)), **settings)


async def test_no_more_bodies_run_than_there_are_workers(world: World) -> None:
    gauge = Gauge(0.005)
    engine = await world.start({"body": gauge.run}, workers=7)
    await finished(engine, many(100))
    assert gauge.most == 7


async def test_the_limit_of_an_instance_is_exact(world: World) -> None:
    gauge = Gauge(0.005)
    engine = await world.start({"body": gauge.run}, workers=20)
    await finished(engine, many(60, max_concurrent_tasks=3))
    assert gauge.most == 3


async def test_a_large_fan_out_does_not_starve_a_small_instance(world: World) -> None:
    gauge = Gauge(0.002)
    engine = await world.start({"body": gauge.run}, workers=4)
    large = await engine.execute_workflow(many(10_000, name="large"))
    await eventually(lambda: len(gauge.order) > 100)
    begun = len(gauge.order)
    assert (await finished(engine, many(8, name="small"))).status == "Success"
    assert len(gauge.order) - begun < 2000, "its eight tasks took their turns"
    assert (await engine.get_instance(large)).progress.pending > 1000
    await engine.cancel_instance(large)
    assert (await engine.wait_for_instance(large, LIMIT_S)).status == "Cancelled"


class Deaf:
    """A thread that does not hear that it was cancelled."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.entered = 0

    def run(self, ctx: SyncTaskContext) -> None:
        self.entered += 1
        self.may_end.wait(LIMIT_S)


@pytest.fixture
def deaf() -> Any:
    made = Deaf()
    yield made
    made.may_end.set()


async def test_a_thread_that_ignores_its_cancel_is_abandoned_and_keeps_its_slot(world: World, deaf: Deaf) -> None:
    async def quick() -> str:
        return "到"

    engine = await world.start({"deaf": deaf.run, "quick": quick}, workers=1, grace=0.05)
    stuck = await engine.execute_workflow(flow(TaskSpec(name="t", job="deaf")))
    await eventually(lambda: deaf.entered)
    await engine.cancel_instance(stuck)
    assert (await engine.wait_for_instance(stuck, LIMIT_S)).status == "Cancelled"
    assert world.log.events("warning") == ["task.abandoned"]
    other = await engine.execute_workflow(flow(TaskSpec(name="t", job="quick")))
    for _ in range(50):
        await asyncio.sleep(0)
    assert await states(engine, other) == {"t": "Ready"}, "the only slot is still taken"
    deaf.may_end.set()
    assert (await engine.wait_for_instance(other, LIMIT_S)).status == "Success"


async def test_a_retry_in_a_thread_never_overlaps_its_predecessor(world: World, deaf: Deaf) -> None:
    engine = await world.start({"deaf": deaf.run}, workers=2)
    policy = RetryPolicy(count=1, interval_us=Micros(0))
    task = TaskSpec(name="t", job="deaf", timeout_us=Micros(20_000), retry=policy)
    instance = await engine.execute_workflow(flow(task))
    await eventually(lambda: deaf.entered)
    late_s = world.clock.monotonic() + 0.2
    await eventually(lambda: world.clock.monotonic() > late_s)
    assert deaf.entered == 1, "the function that timed out has not returned"
    deaf.may_end.set()
    await until_task(engine, instance, "t", "Success")
    assert deaf.entered == 2
