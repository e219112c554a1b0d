"""What a body is given and what it gives back: params, results of any size, when, triggers, services."""

import asyncio
import json
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, eventually, finished, flow, states, until_task

from taskengine import SyncTaskContext, TaskContext
from taskengine.ambient import Ambient
from taskengine.engine.builder import EngineBuilder
from taskengine.model.definition import OnFailure, ParamSpec, TaskSpec, Trigger


async def give(size: int) -> dict[str, Any]:
    return {"text": "数" * size, "size": size}


async def measure(got: dict[str, Any]) -> dict[str, Any]:
    assert got["text"] == "数" * got["size"]
    return {"text": got["text"], "size": got["size"]}


async def fail() -> None:
    raise ValueError("坏")


async def quick() -> str:
    return "好"


JOBS = {"give": give, "measure": measure, "fail_now": fail, "quick": quick}


def chain(length: int, size: int) -> Any:
    """Each task hands what it got to the next one."""
    first = TaskSpec(name="t0", job="give", params={"size": size})
    rest = [
        TaskSpec(
            name=f"t{n}",
            job="measure",
            params={"got": "${{ tasks.t" + str(n - 1) + ".result }}"},
            depends_on=(f"t{n - 1}",),
        )
        for n in range(1, length)
    ]
    return flow(first, *rest)


@pytest.mark.parametrize("size", [10, 2000, 350_000], ids=["small", "over_4_KiB", "1_MiB"])
async def test_results_of_any_size_reach_their_readers(world: World, size: int) -> None:
    engine = await world.start(JOBS)
    view = await finished(engine, chain(4, size))
    assert view.status == "Success"
    assert (await engine.result(view.id))["t3"] == {"text": "数" * size, "size": size}


@pytest.mark.parametrize("size", [10, 2000], ids=["small", "large"])
async def test_results_reach_their_readers_over_a_restart(sqlite_world: World, size: int) -> None:
    entered: list[int] = []

    async def hold(got: dict[str, Any], ctx: TaskContext) -> dict[str, Any]:
        entered.append(ctx.attempt)
        if len(entered) == 1:
            await asyncio.Event().wait()
        return got

    tasks = list(chain(4, size).tasks)
    tasks[2] = TaskSpec(name="t2", job="hold", params={"got": "${{ tasks.t1.result }}"}, depends_on=("t1",))
    first = await sqlite_world.start({**JOBS, "hold": hold})
    instance = await first.execute_workflow(flow(*tasks))
    await eventually(lambda: entered)
    await first.stop()
    second = await sqlite_world.start({**JOBS, "hold": hold})
    assert (await second.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert (await second.result(instance))["t3"]["size"] == size


async def test_a_false_when_skips_and_its_dependents_follow_their_trigger(world: World) -> None:
    engine = await world.start(JOBS)
    view = await finished(
        engine,
        flow(
            TaskSpec(name="a", job="give", params={"size": 0}),
            TaskSpec(name="skipped", job="quick", depends_on=("a",), when="${{ tasks.a.result.size > 0 }}"),
            TaskSpec(name="taken", job="quick", depends_on=("a",), when="${{ tasks.a.result.size == 0 }}"),
            TaskSpec(name="all", job="quick", depends_on=("skipped", "taken")),
            TaskSpec(name="none_failed", job="quick", depends_on=("skipped", "taken"), trigger=Trigger.NONE_FAILED),
        ),
    )
    assert view.status == "Success"
    assert await states(engine, view.id) == {
        "a": "Success",
        "skipped": "Skipped",
        "taken": "Success",
        "all": "Skipped",
        "none_failed": "Success",
    }


async def test_triggers_decide_after_a_tolerated_and_a_bad_end(world: World) -> None:
    engine = await world.start(JOBS)

    def after(name: str, trigger: Trigger, *needs: str) -> TaskSpec:
        return TaskSpec(name=name, job="quick", depends_on=needs, trigger=trigger)

    view = await finished(
        engine,
        flow(
            TaskSpec(name="good", job="quick"),
            TaskSpec(name="bad", job="fail_now"),
            TaskSpec(name="tolerated", job="fail_now", continue_on_failure=True),
            after("after_tolerated", Trigger.ALL_SUCCESS, "tolerated"),
            after("after_bad", Trigger.ALL_SUCCESS, "bad", "good"),
            after("one_success", Trigger.ONE_SUCCESS, "bad", "good"),
            after("one_failed", Trigger.ONE_FAILED, "bad", "good"),
            after("no_failure", Trigger.ONE_FAILED, "good"),
            after("all_done", Trigger.ALL_DONE, "bad", "good"),
            on_failure=OnFailure.CONTINUE,
        ),
    )
    assert view.status == "Failed"
    assert await states(engine, view.id) == {
        "good": "Success",
        "bad": "Failed",
        "tolerated": "Failed",
        "after_tolerated": "Success",
        "after_bad": "UpstreamFailed",
        "one_success": "Success",
        "one_failed": "Success",
        "no_failure": "Skipped",
        "all_done": "Success",
    }


async def test_an_upstream_error_can_be_read(world: World) -> None:
    async def read(kind: str, status: str) -> str:
        return f"{kind} {status}"

    engine = await world.start({**JOBS, "read": read})
    params = {"kind": "${{ tasks.bad.error.type }}", "status": "${{ tasks.bad.status }}"}
    view = await finished(
        engine,
        flow(
            TaskSpec(name="bad", job="fail_now", continue_on_failure=True),
            TaskSpec(name="t", job="read", params=params, depends_on=("bad",)),
        ),
    )
    assert (await engine.result(view.id))["t"] == "ValueError Failed"


async def test_an_expression_that_cannot_be_evaluated_fails_its_task_alone(world: World) -> None:
    engine = await world.start(JOBS)
    view = await finished(
        engine,
        flow(
            TaskSpec(name="a", job="quick"),
            TaskSpec(name="t", job="give", params={"size": "${{ tasks.a.result.missing }}"}, depends_on=("a",)),
        ),
    )
    assert view.status == "Failed"
    assert await states(engine, view.id) == {"a": "Success", "t": "Failed"}


async def test_required_params_come_from_dependencies_or_the_task_fails(world: World) -> None:
    async def named(size: int) -> int:
        return size

    async def renamed(length: int) -> int:
        return length

    engine = await world.start({**JOBS, "renamed": renamed, "named": named})

    def after(name: str, job: str, **settings: Any) -> TaskSpec:
        return TaskSpec(name=name, job=job, depends_on=("a",), **settings)

    view = await finished(
        engine,
        flow(
            TaskSpec(name="a", job="give", params={"size": 7}),
            after("found", "named", required_params=("size",)),
            after("given", "named", required_params=("size",), params={"size": 8}),
            after("mapped", "renamed", result_mapping={"length": "size"}),
            after("missing", "named", required_params=("weight",)),
            on_failure=OnFailure.CONTINUE,
        ),
    )
    tasks = {task.name: task for task in await engine.get_tasks(view.id)}
    assert [tasks[name].result for name in ("found", "given", "mapped")] == [7, 8, 7]
    assert tasks["missing"].error is not None
    assert "weight" in tasks["missing"].error.message


async def test_params_are_checked_before_anything_is_stored(world: World) -> None:
    engine = await world.start(JOBS)
    params = {"size": ParamSpec(type="integer", required=True, minimum=1)}
    workflow = flow(TaskSpec(name="t", job="give", params={"size": "${{ params.size }}"}), params=params)
    for wrong in ({}, {"size": "viel"}, {"size": 0}, {"size": 1, "other": 2}):
        with pytest.raises(Exception, match=r"size|other"):
            await engine.execute_workflow(workflow, wrong)
    assert await engine.list_instances() == []
    view = await finished(engine, workflow, {"size": 3})
    assert (await engine.result(view.id))["t"]["size"] == 3


class Database:
    def __init__(self) -> None:
        self.rows = ["一", "二"]


async def test_services_reach_bodies_by_name_and_by_type(world: World) -> None:
    async def by_name(ctx: TaskContext) -> int:
        return len(ctx.service("db").rows)

    def by_type(db: Database, ctx: SyncTaskContext) -> str:
        return json.dumps(db.rows)

    database = Database()
    builder = EngineBuilder(Ambient(metrics=world.metrics, log=world.log)).with_store(world.dsn)
    builder.with_service("db", database).with_service(Database, database)
    engine = builder.with_job_func("by_name", by_name).with_job_func("by_type", by_type).build()
    async with engine:
        view = await finished(engine, flow(TaskSpec(name="a", job="by_name"), TaskSpec(name="b", job="by_type")))
        assert await engine.result(view.id) == {"a": 2, "b": json.dumps(["一", "二"])}


async def test_an_unknown_job_fails_its_task_with_advice(world: World) -> None:
    engine = await world.start(JOBS)
    view = await finished(engine, flow(TaskSpec(name="t", job="measur")))
    (task,) = await engine.get_tasks(view.id)
    assert task.error is not None
    assert "did you mean 'measure'" in task.error.message


async def test_a_result_that_has_no_json_form_fails_the_attempt_and_not_the_commit(world: World) -> None:
    async def odd() -> object:
        return object()

    engine = await world.start({"odd": odd, "quick": quick})
    view = await finished(
        engine, flow(TaskSpec(name="t", job="odd", continue_on_failure=True), TaskSpec(name="u", job="quick"))
    )
    assert view.status == "Success"
    assert await states(engine, view.id) == {"t": "Failed", "u": "Success"}
    await until_task(engine, view.id, "u", "Success")
    assert world.metrics.counted["commit.refused"] == 0
