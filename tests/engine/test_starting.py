"""Starts: once per key, whoever asks and however often; versions; what a restarted engine finds."""

import asyncio
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, finished, flow

from taskengine.errors import Conflict, NotFound, StoreLocked
from taskengine.model.definition import ParamSpec, TaskSpec


async def echo(value: Any = None) -> Any:
    return value


def echoing(value: str = "${{ params.value }}") -> Any:
    return flow(TaskSpec(name="t", job="echo", params={"value": value}), params={"value": ParamSpec(default=1)})


async def test_the_same_key_is_the_same_instance_for_many_at_once(world: World) -> None:
    calls: list[int] = []

    async def count() -> None:
        calls.append(1)

    engine = await world.start({"count": count})
    workflow = flow(TaskSpec(name="t", job="count"))
    ids = await asyncio.gather(*(engine.execute_workflow(workflow, idempotency_key="一次") for _ in range(64)))
    assert len(set(ids)) == 1
    assert (await engine.wait_for_instance(ids[0], LIMIT_S)).status == "Success"
    assert await engine.execute_workflow(workflow, idempotency_key="一次") == ids[0]
    assert len(calls) == 1
    assert len(await engine.list_instances()) == 1


async def test_the_same_key_with_other_params_is_a_conflict(world: World) -> None:
    engine = await world.start({"echo": echo})
    await engine.execute_workflow(echoing(), {"value": 1}, idempotency_key="k")
    with pytest.raises(Conflict, match="k"):
        await engine.execute_workflow(echoing(), {"value": 2}, idempotency_key="k")
    answers = await asyncio.gather(
        *(engine.execute_workflow(echoing(), {"value": n % 2}, idempotency_key="new") for n in range(10)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Conflict) for answer in answers) == 5


async def test_a_key_holds_over_a_restart(sqlite_world: World) -> None:
    first = await sqlite_world.start({"echo": echo})
    instance = await first.execute_workflow(echoing(), idempotency_key="k")
    await first.stop()
    second = await sqlite_world.start({"echo": echo})
    assert await second.execute_workflow(echoing(), idempotency_key="k") == instance


async def test_a_workflow_is_started_by_its_id_in_its_current_version(world: World) -> None:
    engine = await world.start({"echo": echo})
    with pytest.raises(NotFound):
        await engine.execute_workflow("流程")
    old = (await engine.register_workflow(echoing("old"))).version
    new = (await engine.register_workflow(echoing("new"))).version
    assert old != new
    view = await engine.wait_for_instance(await engine.execute_workflow("流程"), LIMIT_S)
    assert (view.version, await engine.result(view.id)) == (new, {"t": "new"})


async def test_an_empty_workflow_succeeds_at_once(world: World) -> None:
    engine = await world.start()
    assert (await finished(engine, flow())).status == "Success"


async def test_without_recovery_unfinished_instances_stay_until_somebody_asks(sqlite_world: World) -> None:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    first = await sqlite_world.start({"wait": wait})
    instance = await first.execute_workflow(flow(TaskSpec(name="t", job="wait")))
    await first.stop()
    gate.set()
    second = await sqlite_world.start({"wait": wait}, recovery=False)
    assert (await second.get_instance(instance)).status == "Running"
    assert (await second.pause_instance(instance)).status == "Paused"
    await second.stop()
    third = await sqlite_world.start({"wait": wait})
    await third.resume_instance(instance)
    assert (await third.wait_for_instance(instance, LIMIT_S)).status == "Success"


async def test_a_second_engine_on_the_same_file_is_refused(sqlite_world: World) -> None:
    await sqlite_world.start()
    with pytest.raises(StoreLocked):
        await sqlite_world.start()
