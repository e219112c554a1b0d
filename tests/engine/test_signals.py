"""Tasks that wait for somebody outside: signals, approvals, their timeouts, and what a crash leaves of them."""

import asyncio
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, finished, flow, in_time, states, until_task

from taskengine import TaskBuilder, WorkflowBuilder
from taskengine.errors import Conflict, InvalidInput, InvalidParams, NotFound, TooManyRequests
from taskengine.model.definition import TaskSpec
from taskengine.model.progress import Progress


def waiting(name: str = "等", **params: Any) -> TaskSpec:
    return TaskSpec(name=name, job="wait_for", params=params)


def after(*names: str) -> TaskSpec:
    return TaskSpec(
        name="后", job="transform", depends_on=names, params={"value": f"${{{{ tasks.{names[0]}.result }}}}"}
    )


async def test_a_signal_releases_the_task_and_is_its_result(world: World) -> None:
    engine = await world.start()
    instance = await engine.execute_workflow(flow(waiting(), after("等")))
    await until_task(engine, instance, "等", "Waiting")
    told = await engine.signal_instance(instance, "等", {"行": [1, 2]}, by="王", command_id="一")
    assert told.changed
    done = await engine.wait_for_instance(instance, LIMIT_S)
    assert (done.status, await engine.result(instance)) == ("Success", {"后": {"行": [1, 2]}})
    assert (await engine.signal_instance(instance, "等", {"行": [3]}, command_id="一")).changed, "the same command"
    with pytest.raises(Conflict, match="nobody waits"):
        await engine.signal_instance(instance, "等")


async def test_an_early_signal_waits_for_who_wants_it(world: World) -> None:
    gate = asyncio.Event()

    async def hold() -> None:
        await gate.wait()

    engine = await world.start({"hold": hold})
    late = TaskSpec(name="等", job="wait_for", params={"signal": "go"}, depends_on=("先",))
    instance = await engine.execute_workflow(flow(TaskSpec(name="先", job="hold"), late))
    await engine.signal_instance(instance, "go", 1)
    gate.set()
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert (await engine.get_task(instance, "等")).result == 1


async def test_one_signal_is_for_one_task_in_their_order(world: World) -> None:
    engine = await world.start()
    tasks = [waiting(f"等{n}", signal="go") for n in range(3)]
    instance = await engine.execute_workflow(flow(*tasks))
    for n in range(3):
        await until_task(engine, instance, f"等{n}", "Waiting")
    for n in range(3):
        await engine.signal_instance(instance, "go", n)
    done = await engine.wait_for_instance(instance, LIMIT_S)
    assert done.progress == Progress(completed=3)
    assert sorted([(await engine.get_task(instance, f"等{n}")).result for n in range(3)]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("on_timeout", "status", "task"), [("fail", "Failed", "TimedOut"), ("continue", "Success", "Success")]
)
async def test_nobody_comes(world: World, on_timeout: str, status: str, task: str) -> None:
    clock = world.manual()
    engine = await world.start()
    instance = await engine.execute_workflow(flow(waiting(timeout="1h", on_timeout=on_timeout), after("等")))

    async def is_waiting() -> bool:
        return (await states(engine, instance))["等"] == "Waiting"

    await in_time(clock, is_waiting)
    await clock.advance(3599)
    assert await is_waiting()
    await clock.advance(2)

    async def ended() -> bool:
        return (await engine.get_instance(instance)).status == status

    await in_time(clock, ended)
    assert (await states(engine, instance))["等"] == task


@pytest.mark.parametrize("approved", [True, False])
async def test_an_approval_is_a_yes_or_a_no_with_who_said_it(world: World, approved: bool) -> None:
    engine = await world.start()
    instance = await engine.execute_workflow(flow(waiting(approval=True), after("等")))
    await until_task(engine, instance, "等", "Waiting")
    for wrong in (None, {}, {"approved": "yes"}, {"approved": True, "coment": "x"}):
        with pytest.raises(InvalidInput, match="approval"):
            await engine.signal_instance(instance, "等", wrong)
    await engine.signal_instance(instance, "等", {"approved": approved, "comment": "看过"}, by="李")
    done = await engine.wait_for_instance(instance, LIMIT_S)
    task = await engine.get_task(instance, "等")
    if approved:
        assert (done.status, task.result) == ("Success", {"approved": True, "by": "李", "comment": "看过"})
    else:
        assert done.status == "Failed"
        assert task.error is not None
        assert (task.error.type, task.error.message) == ("Rejected", "rejected by 李: 看过")


async def test_a_payload_that_does_not_fit_changes_nothing(world: World) -> None:
    engine = await world.start()
    schema = {"n": {"type": "integer", "required": True, "minimum": 1}, "note": {"default": "无"}}
    instance = await engine.execute_workflow(flow(waiting(schema=schema), after("等")))
    await until_task(engine, instance, "等", "Waiting")
    for wrong in ({"n": 0}, {"n": "x"}, {}, {"n": 1, "m": 2}):
        with pytest.raises(InvalidParams):
            await engine.signal_instance(instance, "等", wrong)
    for odd in ([1], float("nan"), "x" * 70_000):
        with pytest.raises(InvalidInput):
            await engine.signal_instance(instance, "等", odd)
    with pytest.raises(NotFound, match="waits for: 等"):
        await engine.signal_instance(instance, "登", {"n": 1})
    await engine.signal_instance(instance, "等", {"n": 1})
    await engine.wait_for_instance(instance, LIMIT_S)
    assert (await engine.get_task(instance, "等")).result == {"n": 1, "note": "无"}


async def test_signals_that_nobody_takes_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskengine.engine.planner.signals.MOST_KEPT", 3)
    engine = await world.start()
    late = TaskSpec(name="等", job="wait_for", depends_on=("先",))
    instance = await engine.execute_workflow(flow(TaskSpec(name="先", job="sleep", params={"duration": "1h"}), late))
    for n in range(3):
        await engine.signal_instance(instance, "等", n)
    with pytest.raises(TooManyRequests):
        await engine.signal_instance(instance, "等", 3)


async def test_a_pause_keeps_what_comes_and_a_cancel_ends_the_wait(world: World) -> None:
    engine = await world.start()
    instance = await engine.execute_workflow(flow(waiting("甲"), waiting("乙"), after("甲")))
    await until_task(engine, instance, "乙", "Waiting")
    await engine.pause_instance(instance)
    await engine.signal_instance(instance, "甲", 5)
    assert (await states(engine, instance))["甲"] == "Success"
    assert (await states(engine, instance))["后"] in ("Pending", "Ready")
    await engine.resume_instance(instance)
    await until_task(engine, instance, "后", "Success")
    await engine.cancel_instance(instance)
    done = await engine.wait_for_instance(instance, LIMIT_S)
    assert (done.status, (await states(engine, instance))["乙"]) == ("Cancelled", "Cancelled")


async def test_a_later_engine_knows_who_waits_and_what_has_come(sqlite_world: World) -> None:
    first = await sqlite_world.start()
    late = TaskSpec(name="丙", job="wait_for", params={"signal": "go"}, depends_on=("乙",))
    instance = await first.execute_workflow(flow(waiting("甲", signal="go"), waiting("乙"), late))
    await until_task(first, instance, "乙", "Waiting")
    await first.signal_instance(instance, "go", 1)
    await first.signal_instance(instance, "go", 2)
    await first.stop(grace_s=0)
    second = await sqlite_world.start()
    await second.signal_instance(instance, "乙", "好")
    done = await second.wait_for_instance(instance, LIMIT_S)
    assert done.status == "Success"
    assert [(await second.get_task(instance, name)).result for name in ("甲", "乙", "丙")] == [1, "好", 2]


async def test_the_builder_says_the_same(world: World) -> None:
    built = WorkflowBuilder("w").with_task(TaskBuilder("等").with_wait_for(timeout="1d", approval=True)).build()
    assert built.tasks[0] == TaskSpec(name="等", job="wait_for", params={"timeout": "1d", "approval": True})
    engine = await world.start()
    assert (await finished(engine, flow())).status == "Success"
    instance = await engine.execute_workflow(built)
    await engine.signal_instance(instance, "等", {"approved": True})
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
