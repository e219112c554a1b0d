"""Instances that only wait: no actor, no slot, and back in time."""

import asyncio
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, eventually, flow, in_time, live_actors, states, until_task

from taskengine.clock import Micros
from taskengine.errors import NotFound, WaitTimeout
from taskengine.model.definition import RetryPolicy, TaskSpec


async def quick() -> str:
    return "好"


def sleeper(duration: float = 3600, name: str = "等") -> TaskSpec:
    return TaskSpec(name=name, job="sleep", params={"duration": duration})


async def test_an_instance_that_sleeps_has_no_actor_and_comes_back(world: World) -> None:
    clock = world.manual()
    engine = await world.start({"quick": quick}, workers=1)
    after = TaskSpec(name="后", job="quick", depends_on=("等",))
    instances = [await engine.execute_workflow(flow(sleeper(), after)) for _ in range(3)]
    for instance in instances:
        await until_task(engine, instance, "等", "Waiting")
    await eventually(lambda: live_actors(engine) == [])
    await clock.advance(3599)
    assert await states(engine, instances[0]) == {"等": "Waiting", "后": "Pending"}
    await clock.advance(2)
    for instance in instances:
        assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert live_actors(engine) == []


async def test_a_far_sleep_after_a_near_one_leaves_memory_too(world: World) -> None:
    clock = world.manual()
    engine = await world.start()
    far = TaskSpec(name="远", job="sleep", params={"duration": 3600}, depends_on=("近",))
    instance = await engine.execute_workflow(flow(sleeper(1, "近"), far))
    await until_task(engine, instance, "近", "Waiting")
    await clock.advance(1)
    await until_task(engine, instance, "远", "Waiting")
    await eventually(lambda: live_actors(engine) == [], "it waits an hour and stays in memory")


async def test_a_paused_instance_has_no_actor(world: World) -> None:
    engine = await world.start({"quick": quick})
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    engine.registry.add("wait", wait)
    instance = await engine.execute_workflow(
        flow(TaskSpec(name="a", job="wait"), TaskSpec(name="b", job="quick", depends_on=("a",)))
    )
    await engine.pause_instance(instance)
    gate.set()
    await until_task(engine, instance, "a", "Success")
    await eventually(lambda: live_actors(engine) == [])
    assert await states(engine, instance) == {"a": "Success", "b": "Pending"}
    await engine.resume_instance(instance)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"


async def test_a_long_retry_delay_holds_neither_actor_nor_slot(world: World) -> None:
    clock = world.manual()
    tries: list[int] = []

    async def fails_once() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("暂时")

    engine = await world.start({"fails_once": fails_once, "quick": quick}, workers=1)
    policy = RetryPolicy(count=1, interval_us=Micros(600_000_000))
    waits = await engine.execute_workflow(flow(TaskSpec(name="t", job="fails_once", retry=policy)))
    await until_task(engine, waits, "t", "Retrying")
    await eventually(lambda: live_actors(engine) == [])
    other = await engine.execute_workflow(flow(TaskSpec(name="t", job="quick")))
    assert (await engine.wait_for_instance(other, LIMIT_S)).status == "Success"
    await clock.advance(600)
    assert (await engine.wait_for_instance(waits, LIMIT_S)).status == "Success"
    assert len(tries) == 2


async def test_a_sleep_keeps_its_due_time_over_a_restart(sqlite_world: World) -> None:
    clock = sqlite_world.manual()
    first = await sqlite_world.start()
    instance = await first.execute_workflow(flow(sleeper(100)))
    await until_task(first, instance, "等", "Waiting")
    await first.stop()
    clock.tick(60)
    second = await sqlite_world.start()
    await until_task(second, instance, "等", "Waiting")
    await clock.advance(39)
    assert await states(second, instance) == {"等": "Waiting"}
    await clock.advance(2)

    async def slept() -> bool:
        return (await second.get_instance(instance)).status == "Success"

    await in_time(clock, slept)
    assert await second.result(instance) == {"等": {"slept": 100.0}}


async def test_waiting_for_an_instance_has_a_limit_and_a_name(world: World) -> None:
    world.manual()
    engine = await world.start()
    instance = await engine.execute_workflow(flow(sleeper()))
    with pytest.raises(WaitTimeout, match=instance):
        await engine.wait_for_instance(instance, 0.01)
    with pytest.raises(NotFound):
        await engine.wait_for_instance("没有", LIMIT_S)


async def test_the_workflow_timeout_ends_a_sleeping_instance(world: World) -> None:
    clock = world.manual()
    engine = await world.start()
    instance = await engine.execute_workflow(flow(sleeper(), timeout_us=Micros(60_000_000)))
    await until_task(engine, instance, "等", "Waiting")
    await clock.advance(61)
    view: Any = await engine.wait_for_instance(instance, LIMIT_S)
    assert view.status == "TimedOut"
    assert await states(engine, instance) == {"等": "Cancelled"}
