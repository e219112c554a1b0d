"""Workflows as steps of others: result, failure, cancel and pause in both directions, what a crash leaves of them."""

import asyncio
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, eventually, finished, flow, states, until_task

from taskengine import Engine, TaskBuilder, WorkflowBuilder
from taskengine.errors import InvalidDefinition, InvalidInput, StoreCorrupt, StoreUnavailable
from taskengine.model.children import MOST_LEVELS, ChildOf, parent_of
from taskengine.model.definition import Compensation, ParamSpec, RetryPolicy, TaskSpec, WorkflowDefinition
from taskengine.model.ids import InstanceId, Ordinal, WorkflowId
from taskengine.model.states import InstanceState
from taskengine.store.interface import InstanceQuery


def child(name: str = "子", workflow: str = "儿", params: dict[str, Any] | None = None, **rest: Any) -> TaskSpec:
    said: dict[str, Any] = {"workflow": workflow, **({"params": params} if params else {})}
    return TaskSpec(name=name, job="workflow", params=said, **rest)


def echo() -> WorkflowDefinition:
    """Its result is what it got."""
    said = TaskSpec(name="说", job="transform", params={"value": "${{ params.话 }}"})
    return flow(said, name="儿", params={"话": ParamSpec(type="string", required=True)})


def waiting() -> WorkflowDefinition:
    return flow(TaskSpec(name="等", job="wait_for"), name="儿")


async def child_of(engine: Engine, instance: str, ordinal: int = 0, attempt: int = 1) -> str:
    """The child of that attempt, once it is there."""
    found = ChildOf(InstanceId(instance), Ordinal(ordinal), attempt).child
    await eventually(lambda: engine.find_instances(found), "the child never came")
    return found


async def until(engine: Engine, instance: str, status: str) -> None:
    async def holds() -> bool:
        return (await engine.get_instance(instance)).status == status

    await eventually(holds, f"never {status}")


def test_a_child_and_its_parent_name_each_other() -> None:
    link = ChildOf(InstanceId("019a/odd"), Ordinal(7), 3)
    assert parent_of(link.key) == link
    assert link.child == ChildOf(InstanceId("019a/odd"), Ordinal(7), 3).child
    assert len({link.child, *(ChildOf(InstanceId("019a/odd"), Ordinal(7), n).child for n in range(3))}) == 4
    for key in (None, "", "order-7", "child-of:", "child-of:x", "child-of:x/1", "child-of:x/a/b", "child-of:/1/2"):
        assert parent_of(key) is None


async def test_the_result_of_the_child_is_that_of_the_task(world: World) -> None:
    engine = await world.start()
    await engine.register_workflow(echo())
    after = TaskSpec(
        name="后", job="transform", depends_on=("子",), params={"value": "${{ tasks['子'].result['说'] ~ '!' }}"}
    )
    definition = flow(child(params={"话": "${{ params.名 }}"}), after, params={"名": ParamSpec(default="你好")})
    done = await finished(engine, definition)
    assert (done.status, await engine.result(done.id)) == (InstanceState.SUCCESS, {"后": "你好!"})
    view = await engine.get_instance(await child_of(engine, done.id))
    assert (view.workflow_id, view.status, view.params) == ("儿", InstanceState.SUCCESS, {"话": "你好"})


async def test_one_child_for_each_item(world: World) -> None:
    engine = await world.start()
    await engine.register_workflow(echo())
    each = child(params={"话": "${{ item }}"}, for_each=["甲", "乙", "丙"], max_parallel=2)
    after = TaskSpec(name="后", job="transform", depends_on=("子",), params={"value": "${{ tasks['子'].result }}"})
    done = await finished(engine, flow(each, after))
    assert await engine.result(done.id) == {"后": [{"说": "甲"}, {"说": "乙"}, {"说": "丙"}]}


async def test_a_large_result_of_a_child_is_whole(world: World) -> None:
    engine = await world.start(result_limits={"inline": 1000})
    await engine.register_workflow(echo())
    text = "长" * 8_000
    done = await finished(engine, flow(child(params={"话": text})))
    assert await engine.result(done.id) == {"子": {"说": text}}


async def test_a_child_that_fails_fails_its_task_and_says_which_and_why(world: World) -> None:
    engine = await world.start()
    await engine.register_workflow(flow(TaskSpec(name="坏", job="fail", params={"message": "没有"}), name="儿"))
    done = await finished(engine, flow(child(retry=RetryPolicy(count=1, interval_us=1000))))
    task = await engine.get_task(done.id, "子")
    assert (done.status, task.status, task.tries) == ("Failed", "Failed", 2)
    second = await child_of(engine, done.id, attempt=2)
    assert task.error is not None
    assert task.error.type == "ChildFailed"
    assert task.error.message.startswith(f"instance {second} of workflow '儿' ended Failed: task '坏' failed")
    assert (await engine.get_instance(await child_of(engine, done.id))).status == "Failed", "each attempt has its own"


@pytest.mark.parametrize(
    ("params", "kind", "text"),
    [({}, "InvalidParams", "话"), ({"话": 7}, "InvalidParams", "话"), ({"话": "", "多": 1}, "InvalidParams", "多")],
)
async def test_params_that_the_child_does_not_take_fail_the_task(
    world: World, params: dict[str, Any], kind: str, text: str
) -> None:
    engine = await world.start()
    await engine.register_workflow(echo())
    done = await finished(engine, flow(child(params=params, retry=RetryPolicy(count=3))))
    error = (await engine.get_task(done.id, "子")).error
    assert error is not None
    assert (done.status, error.type) == ("Failed", kind), "and it is not tried again"
    assert text in error.message


async def test_a_workflow_that_nobody_has_uploaded(world: World) -> None:
    engine = await world.start()
    done = await finished(engine, flow(child(workflow="无")))
    error = (await engine.get_task(done.id, "子")).error
    assert error is not None
    assert (done.status, error.type) == ("Failed", "NotFound")
    assert "workflow upload" in error.message


async def test_no_workflow_runs_below_itself(world: World) -> None:
    engine = await world.start()
    await engine.register_workflow(flow(child(workflow="乙"), name="甲"))
    await engine.register_workflow(flow(child(workflow="甲"), name="乙"))
    done = await engine.wait_for_instance(await engine.execute_workflow("甲"), LIMIT_S)
    assert done.status == "Failed"
    inner = await engine.get_task(await child_of(engine, done.id), "子")
    assert inner.error is not None
    assert inner.error.message.endswith("甲 → 乙 → 甲")
    with pytest.raises(InvalidDefinition, match="below itself"):
        WorkflowBuilder("甲").with_task(TaskBuilder("子").with_workflow("甲")).build()


async def test_not_more_levels_than_the_limit(world: World) -> None:
    engine = await world.start()
    for level in range(MOST_LEVELS + 1):
        await engine.register_workflow(flow(child(workflow=f"层{level + 1}"), name=f"层{level}"))
    await engine.register_workflow(flow(name=f"层{MOST_LEVELS + 1}"))
    assert (await engine.wait_for_instance(await engine.execute_workflow("层2"), LIMIT_S)).status == "Success"
    deep = await engine.wait_for_instance(await engine.execute_workflow("层0"), LIMIT_S)
    assert deep.status == "Failed"
    assert "below each other" in deep.error


async def test_a_cancel_goes_down_and_the_parent_ends_after_its_child(world: World) -> None:
    engine = await world.start()
    await engine.register_workflow(waiting())
    instance = await engine.execute_workflow(flow(child()))
    inner = await child_of(engine, instance)
    await until_task(engine, inner, "等", "Waiting")
    await engine.cancel_instance(instance, "够了")
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Cancelled"
    below = await engine.get_instance(inner)
    assert (below.status, below.error) == ("Cancelled", "够了")
    assert await states(engine, instance) == {"子": "Cancelled"}


async def test_a_cancel_right_after_the_start_leaves_no_orphan(world: World) -> None:
    engine = await world.start()
    await engine.register_workflow(waiting())
    for _ in range(20):
        instance = await engine.execute_workflow(flow(child()))
        await asyncio.sleep(0)  # at any step on the way of the child
        await engine.cancel_instance(instance)
        assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Cancelled"
    left = [view.status for view in await engine.list_instances(InstanceQuery(workflow_id=WorkflowId("儿")), limit=100)]
    assert set(left) <= {"Cancelled"}


async def test_a_child_that_was_cancelled_by_itself_fails_its_task(world: World) -> None:
    engine = await world.start()
    await engine.register_workflow(waiting())
    instance = await engine.execute_workflow(flow(child(retry=RetryPolicy(count=5))))
    await engine.cancel_instance(await child_of(engine, instance), "不要")
    done = await engine.wait_for_instance(instance, LIMIT_S)
    assert done.status == "Failed"
    assert "ended Cancelled: 不要" in done.error


async def test_a_timeout_of_the_parent_cancels_the_child(world: World) -> None:
    engine = await world.start()
    await engine.register_workflow(waiting())
    done = await finished(engine, flow(child(), timeout_us=200_000))
    assert done.status == "TimedOut"
    assert (await engine.get_instance(await child_of(engine, done.id))).status == "Cancelled"


async def test_a_failure_beside_it_cancels_the_child_if_so_asked(world: World) -> None:
    gate = asyncio.Event()

    async def bad() -> None:
        await gate.wait()
        raise ValueError("坏")

    engine = await world.start({"bad": bad})
    await engine.register_workflow(waiting())
    definition = (
        WorkflowBuilder("流程")
        .with_task(TaskBuilder("子").with_workflow("儿"))
        .with_task(TaskBuilder("坏").with_job_function("bad"))
        .with_on_failure("cancel")
        .build()
    )
    instance = await engine.execute_workflow(definition)
    inner = await child_of(engine, instance)
    gate.set()
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Failed"
    assert (await engine.get_instance(inner)).status == "Cancelled"
    assert (await states(engine, instance))["子"] == "Cancelled"


async def test_pause_and_resume_travel_down(world: World) -> None:
    engine = await world.start()
    await engine.register_workflow(waiting())
    instance = await engine.execute_workflow(flow(child()))
    inner = await child_of(engine, instance)
    assert (await engine.get_task(instance, "子")).reason == f"runs as instance {inner}"
    await engine.pause_instance(instance)
    await until(engine, inner, "Paused")
    await engine.signal_instance(inner, "等", 1)
    await engine.resume_instance(instance)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert await engine.result(instance) == {"子": {"等": 1}}


async def test_a_retry_of_the_parent_has_a_new_child(world: World) -> None:
    broken = [True]

    async def shaky() -> str:
        if broken[0]:
            raise ValueError("坏")
        return "好"

    engine = await world.start({"shaky": shaky})
    await engine.register_workflow(flow(TaskSpec(name="动", job="shaky"), name="儿"))
    done = await finished(engine, flow(child()))
    assert done.status == "Failed"
    broken[0] = False
    await engine.retry_instance(done.id)
    again = await engine.wait_for_instance(done.id, LIMIT_S)
    assert (again.status, await engine.result(done.id)) == ("Success", {"子": {"动": "好"}})
    assert await engine.count_instances(InstanceQuery(workflow_id=WorkflowId("儿"))) == 2


async def test_word_of_the_child_of_an_earlier_attempt_changes_nothing(world: World) -> None:
    calls: list[int] = []

    async def once_bad() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("坏")

    engine = await world.start({"once_bad": once_bad})
    wait = TaskSpec(name="等", job="wait_for", depends_on=("动",))
    await engine.register_workflow(flow(TaskSpec(name="动", job="once_bad"), wait, name="儿"))
    instance = await engine.execute_workflow(flow(child(retry=RetryPolicy(count=1, interval_us=1000))))
    first, second = await child_of(engine, instance), await child_of(engine, instance, attempt=2)
    await engine.retry_instance(first)
    await engine.signal_instance(first, "等", "旧")
    assert (await engine.wait_for_instance(first, LIMIT_S)).status == "Success"
    assert await states(engine, instance) == {"子": "Waiting"}
    await engine.signal_instance(second, "等", "新")
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert await engine.result(instance) == {"子": {"等": "新"}}


async def test_what_a_child_did_is_undone_by_the_compensation_of_its_task(world: World) -> None:
    undone: list[Any] = []

    async def undo(result: dict[str, Any]) -> None:
        undone.append(result)

    engine = await world.start({"undo": undo})
    await engine.register_workflow(echo())
    bad = TaskSpec(name="坏", job="fail", depends_on=("子",))
    done = await finished(engine, flow(child(params={"话": "做"}, compensation=Compensation(job="undo")), bad))
    assert (done.status, undone) == ("Compensated", [{"说": "做"}])


async def test_parent_and_child_come_back_after_a_restart(sqlite_world: World) -> None:
    engine = await sqlite_world.start()
    await engine.register_workflow(waiting())
    instance = await engine.execute_workflow(flow(child()))
    inner = await child_of(engine, instance)
    await until_task(engine, inner, "等", "Waiting")
    await engine.stop()
    engine = await sqlite_world.start()
    await engine.signal_instance(inner, "等", "早")
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert await engine.result(instance) == {"子": {"等": "早"}}


async def test_the_end_of_a_child_that_nobody_heard_is_found_out(sqlite_world: World) -> None:
    """As after a crash between the child's last commit and its parent's."""
    engine = await sqlite_world.start()
    await engine.register_workflow(waiting())
    instance = await engine.execute_workflow(flow(child()))
    inner = await child_of(engine, instance)
    await until_task(engine, inner, "等", "Waiting")
    staff = engine._staff
    assert staff is not None
    staff.children.ended = lambda _row: None  # type: ignore[method-assign]  # the process dies before it says so
    await engine.signal_instance(inner, "等", 5)
    assert (await engine.wait_for_instance(inner, LIMIT_S)).status == "Success"
    assert (await engine.get_instance(instance)).status == "Running"
    await engine.stop()
    engine = await sqlite_world.start()
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert await engine.result(instance) == {"子": {"等": 5}}


async def test_a_child_whose_result_cannot_be_read_fails_its_task(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await world.start()
    await engine.register_workflow(echo())

    async def broken(*_given: Any) -> None:
        raise StoreCorrupt("a page is gone")

    monkeypatch.setattr(engine._reading, "result", broken)
    other = await engine.execute_workflow(flow(child(params={"话": "y"})))
    assert (await engine.wait_for_instance(other, LIMIT_S)).status == "Failed"
    error = (await engine.get_task(other, "子")).error
    assert error is not None
    assert (error.type, "a page is gone" in error.message) == ("StoreCorrupt", True)
    assert "child.given_up" in world.log.events("error")


async def test_a_store_that_is_away_for_a_moment_delays_a_child_and_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await world.start()
    await engine.register_workflow(waiting())
    real, away = engine.store.instance, [2]

    async def shaky(instance_id: InstanceId) -> Any:
        if away[0]:
            away[0] -= 1
            raise StoreUnavailable("gone for a moment")
        return await real(instance_id)

    monkeypatch.setattr(engine.store, "instance", shaky)
    instance = await engine.execute_workflow(flow(child()))
    inner = await child_of(engine, instance)
    away[0] = 2
    await engine.cancel_instance(instance)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Cancelled"
    assert (await engine.get_instance(inner)).status == "Cancelled"
    assert "child.again" in world.log.events("warning")


async def test_nobody_else_may_use_the_key_of_a_child(world: World) -> None:
    engine = await world.start()
    await engine.register_workflow(echo())
    taken = ChildOf(InstanceId("019a"), Ordinal(0), 1).key
    with pytest.raises(InvalidInput, match="belong to child instances"):
        await engine.execute_workflow("儿", {"话": "x"}, idempotency_key=taken)
