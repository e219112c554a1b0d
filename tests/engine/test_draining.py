"""A drain: nothing new begins, what runs may finish, what does not fit is left for `stop`."""

import asyncio

import pytest
from engine.worlds import LIMIT_S, World, eventually, flow, states, until_task

from taskengine.engine.engine import Engine
from taskengine.errors import Unavailable
from taskengine.model.definition import TaskSpec


class Gate:
    """Bodies that wait until they are let through."""

    def __init__(self) -> None:
        self.entered = 0
        self.opened = asyncio.Event()

    async def wait(self) -> int:
        self.entered += 1
        await self.opened.wait()
        return self.entered


async def begun(world: World, gate: Gate, *tasks: TaskSpec) -> tuple[Engine, str]:
    engine = await world.start({"wait": gate.wait}, workers=1)
    instance = await engine.execute_workflow(flow(*tasks))
    await eventually(lambda: gate.entered)
    return engine, instance


async def test_what_runs_finishes_and_what_follows_waits_for_the_next_start(sqlite_world: World) -> None:
    gate = Gate()
    engine, instance = await begun(
        sqlite_world, gate, TaskSpec(name="a", job="wait"), TaskSpec(name="b", job="wait", depends_on=("a",))
    )
    draining = asyncio.ensure_future(engine.drain(LIMIT_S))
    await asyncio.sleep(0)
    gate.opened.set()
    assert await asyncio.wait_for(draining, LIMIT_S) is True
    await until_task(engine, instance, "a", "Success")  # its commit is under way
    assert await states(engine, instance) == {"a": "Success", "b": "Ready"}
    await engine.stop()
    second = await sqlite_world.start({"wait": gate.wait})
    assert (await second.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert await second.get_attempts(instance) == []
    assert gate.entered == 2


async def test_what_does_not_fit_is_interrupted_by_the_stop_and_runs_again(sqlite_world: World) -> None:
    gate = Gate()
    engine, instance = await begun(sqlite_world, gate, TaskSpec(name="a", job="wait"))
    assert await asyncio.wait_for(engine.drain(0.05), LIMIT_S) is False
    await engine.stop(grace_s=1)
    gate.opened.set()
    second = await sqlite_world.start({"wait": gate.wait})
    assert (await second.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert [view.outcome.value for view in await second.get_attempts(instance)] == ["interrupted"]


async def test_a_drain_refuses_starts_and_answers_everything_else(sqlite_world: World) -> None:
    gate = Gate()
    engine, instance = await begun(sqlite_world, gate, TaskSpec(name="a", job="wait"))
    draining = asyncio.ensure_future(engine.drain(LIMIT_S))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="is stopping"):
        await engine.execute_workflow(flow(TaskSpec(name="x", job="wait")))
    await engine.pause_instance(instance)
    assert (await engine.get_instance(instance)).status == "Paused"
    gate.opened.set()
    assert await asyncio.wait_for(draining, LIMIT_S) is True


async def test_an_idle_engine_is_drained_at_once(sqlite_world: World) -> None:
    engine = await sqlite_world.start()
    assert await asyncio.wait_for(engine.drain(LIMIT_S), 1) is True
    assert await engine.drain(0) is True
    await engine.stop()
    assert await engine.drain(LIMIT_S) is True
