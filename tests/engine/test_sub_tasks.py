"""Tasks that are added while the graph runs: `for_each`, `add_sub_tasks`, their tolerance, their repair, a crash."""

import asyncio
import threading
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, eventually, finished, flow, states, until_task

from taskengine import SyncTaskContext, TaskBuilder, TaskContext
from taskengine.clock import Micros
from taskengine.engine.engine import Engine
from taskengine.errors import Conflict, InvalidInput, NotFound
from taskengine.model.definition import OnFailure, RetryPolicy, TaskSpec, Trigger
from taskengine.model.progress import Progress
from taskengine.store.artifacts import FolderArtifacts, MemoryArtifacts


async def double(x: int) -> int:
    return 2 * x


async def refuse(x: int, bad: list[int]) -> int:
    if x in bad:
        raise ValueError(f"{x} 不好")
    return x


async def total(rows: list[int | None]) -> dict[str, int]:
    return {"sum": sum(row or 0 for row in rows), "none": sum(row is None for row in rows)}


JOBS = {"double": double, "refuse": refuse, "total": total}


def fan(items: Any, job: str = "double", **more: Any) -> TaskSpec:
    return TaskSpec(name="扇", job=job, for_each=items, params=more.pop("params", {"x": "${{ item }}"}), **more)


def gather(**more: Any) -> TaskSpec:
    return TaskSpec(name="和", job="total", depends_on=("扇",), params={"rows": "${{ tasks.扇.result }}"}, **more)


@pytest.mark.parametrize("count", [0, 1, 7, 2500])
async def test_a_job_runs_once_for_each_item(world: World, count: int) -> None:
    engine = await world.start(JOBS)
    done = await finished(engine, flow(fan(list(range(count))), gather()))
    assert (done.status, done.progress) == ("Success", Progress(completed=count + 2))
    assert await engine.result(done.id) == {"和": {"sum": count * (count - 1), "none": 0}}
    found = await engine.get_tasks(done.id)
    assert [task.name for task in found[2:]] == [f"扇/{at}" for at in range(count)]
    assert await engine.get_tasks(done.id, after=1, limit=3) == found[2:5]


@pytest.mark.parametrize(("count", "shown"), [(0, True), (3, True), (1001, False)])
async def test_the_list_is_the_result_of_an_instance_that_ends_with_it(world: World, count: int, shown: bool) -> None:
    engine = await world.start(JOBS)
    done = await finished(engine, flow(fan(list(range(count)))))
    assert await engine.result(done.id) == ({"扇": [2 * x for x in range(count)]} if shown else {})


async def test_items_come_from_an_expression_and_know_their_place(world: World) -> None:
    engine = await world.start({**JOBS, "list": lambda: ["甲", "乙"], "name": lambda at, what, day: f"{at}{what}{day}"})
    spread = fan(
        "${{ tasks.单.result }}",
        "name",
        depends_on=("单",),
        params={"at": "${{ index }}", "what": "${{ item }}", "day": "${{ params.day }}"},
    )
    done = await finished(engine, flow(TaskSpec(name="单", job="list"), spread), {"day": "一"})
    assert [task.result for task in (await engine.get_tasks(done.id))[2:]] == ["0甲一", "1乙一"]


@pytest.mark.parametrize("items", ["${{ params.rows }}", "${{ params.gone.rows }}"])
async def test_what_is_no_list_fails_the_task(world: World, items: str) -> None:
    engine = await world.start(JOBS)
    done = await finished(engine, flow(fan(items), gather()), {"rows": {"a": 1}})
    assert (done.status, await states(engine, done.id)) == ("Failed", {"扇": "Failed", "和": "UpstreamFailed"})


async def test_an_unknown_job_fails_once_and_not_for_each_item(world: World) -> None:
    engine = await world.start(JOBS)
    done = await finished(engine, flow(fan([1, 2, 3], "nobody")))
    assert (done.status, done.progress) == ("Failed", Progress(failed=1))


async def test_max_parallel_bounds_how_many_run_at_once(world: World) -> None:
    running, most = 0, 0

    async def counted(x: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return x

    engine = await world.start({**JOBS, "counted": counted})
    done = await finished(engine, flow(fan(list(range(40)), "counted", max_parallel=3), gather()))
    assert (done.status, most) == ("Success", 3)


TOLERANCES = [(0.0, "Failed"), (0.1, "Failed"), (0.2, "Success"), (1.0, "Success")]


@pytest.mark.parametrize(("tolerance", "status"), TOLERANCES)
@pytest.mark.parametrize("where", ["task", "workflow"])
async def test_failures_up_to_the_tolerance(world: World, tolerance: float, status: str, where: str) -> None:
    engine = await world.start(JOBS)
    own = {"tolerance": tolerance} if where == "task" else {}
    spread = fan(list(range(10)), "refuse", params={"x": "${{ item }}", "bad": [3, 7]}, **own)
    settings = {} if where == "task" else {"sub_task_error_tolerance": tolerance}
    done = await finished(engine, flow(spread, gather(trigger=Trigger.ALL_DONE), **settings))
    assert done.status == status
    assert await engine.result(done.id) == {"和": {"sum": 35, "none": 2}}, "the aggregate runs in any case"
    task = await engine.get_task(done.id, "扇")
    if status == "Failed":
        assert task.error is not None
        assert "2 of 10 sub-tasks failed" in task.error.message
        assert "'扇/3', '扇/7'" in task.error.message


async def test_a_retry_repeats_only_what_failed(world: World) -> None:
    bad, ran = {3, 7}, []

    async def picky(x: int) -> int:
        ran.append(x)
        if x in bad:
            raise ValueError("不")
        return x

    engine = await world.start({**JOBS, "picky": picky})
    done = await finished(engine, flow(fan(list(range(10)), "picky"), gather()))
    assert done.status == "Failed"
    bad.clear()
    ran.clear()
    await engine.retry_instance(done.id)
    again = await engine.wait_for_instance(done.id, LIMIT_S)
    assert (again.status, sorted(ran), again.progress) == ("Success", [3, 7], Progress(completed=12))
    assert await engine.result(done.id) == {"和": {"sum": 45, "none": 0}}


async def test_a_retry_from_the_parent_makes_its_sub_tasks_anew(world: World) -> None:
    ran: list[int] = []

    async def noting(x: int) -> int:
        ran.append(x)
        return x

    engine = await world.start({**JOBS, "noting": noting})
    done = await finished(engine, flow(fan([1, 2, 3], "noting"), gather()))
    await engine.retry_instance(done.id, from_task="扇")
    again = await engine.wait_for_instance(done.id, LIMIT_S)
    assert (again.status, again.progress, sorted(ran)) == ("Success", Progress(completed=5), [1, 1, 2, 2, 3, 3])
    assert [task.name for task in await engine.get_tasks(done.id)] == ["扇", "和", "扇/0", "扇/1", "扇/2"]
    await engine.retry_instance(done.id, only_task="扇/1")
    again = await engine.wait_for_instance(done.id, LIMIT_S)
    assert (again.status, again.progress, len(ran)) == ("Success", Progress(completed=5), 7)


# -- added by bodies


async def adds(ctx: TaskContext, count: int = 3) -> int:
    return await ctx.add_sub_tasks({"name": f"子{at}", "job": "double", "params": {"x": at}} for at in range(count))


def adds_in_a_thread(ctx: SyncTaskContext) -> int:
    assert threading.current_thread() is not threading.main_thread()
    built = TaskBuilder("乙").with_job_function("double", {"x": 2}).with_dependency("甲")
    return ctx.add_sub_tasks([built, {"name": "甲", "job": "double", "params": {"x": 1}}])


async def sees(ctx: TaskContext, task: str) -> dict[str, Any]:
    found = await ctx.sub_tasks(task)
    assert [each.name for each in found] == [each.name for each in await ctx.sub_tasks(task, limit=2_000)]
    return {
        "results": {each.name: each.result for each in found},
        "failed": [each.name for each in await ctx.failed_sub_tasks(task)],
        "count": await ctx.sub_task_count(task),
        "all": await ctx.all_sub_tasks_succeeded(task),
        "pages": [each.name for each in await ctx.sub_tasks(task, after=found[0].ordinal, limit=1)] if found else [],
    }


def sees_in_a_thread(ctx: SyncTaskContext, task: str) -> dict[str, Any]:
    return {each.name: each.result for each in ctx.successful_sub_tasks(task)}


async def test_a_body_adds_and_a_later_one_sees_what_became_of_it(world: World) -> None:
    engine = await world.start({**JOBS, "adds": adds, "sees": sees, "sees_too": sees_in_a_thread})
    one = TaskSpec(name="父", job="adds", params={"count": 3})
    two = TaskSpec(name="看", job="sees", params={"task": "父"}, depends_on=("父",))
    three = TaskSpec(name="也看", job="sees_too", params={"task": "父"}, depends_on=("父",))
    done = await finished(engine, flow(one, two, three))
    assert (done.status, done.progress) == ("Success", Progress(completed=6))
    results = {"子0": 0, "子1": 2, "子2": 4}
    assert await engine.result(done.id) == {
        "看": {"results": results, "failed": [], "count": 3, "all": True, "pages": ["子1"]},
        "也看": results,
    }
    assert (await engine.get_task(done.id, "父")).result == 3
    assert (await engine.get_task(done.id, "父/子2")).result == 4


async def test_a_thread_adds_tasks_that_depend_on_each_other(world: World) -> None:
    engine = await world.start({**JOBS, "adds": adds_in_a_thread})
    done = await finished(engine, flow(TaskSpec(name="父", job="adds")))
    assert (done.status, done.progress) == ("Success", Progress(completed=3))
    tasks = {task.name: task for task in await engine.get_tasks(done.id)}
    assert tasks["父/乙"].depends_on == ("父/甲",)
    assert tasks["父/甲"].finished_at <= tasks["父/乙"].started_at


async def test_sub_tasks_of_sub_tasks(world: World) -> None:
    async def branch(ctx: TaskContext, depth: int) -> int:
        if depth:
            tasks = [{"name": f"枝{n}", "job": "branch", "params": {"depth": depth - 1}} for n in range(3)]
            await ctx.add_sub_tasks(tasks)
        return depth

    engine = await world.start({"branch": branch})
    done = await finished(engine, flow(TaskSpec(name="根", job="branch", params={"depth": 2})))
    assert (done.status, done.progress) == ("Success", Progress(completed=1 + 3 + 9))
    order = {task.name: task.finished_at for task in await engine.get_tasks(done.id)}
    assert order["根"] == max(order.values()), "a parent ends after all below it"


BAD_BATCHES: list[tuple[list[Any], str]] = [
    ([{"name": "a", "job": "double"}, {"name": "a", "job": "double"}], "two sub-tasks `a`"),
    ([{"name": "a", "job": "double"}, {"name": "b", "job": "double", "depends_on": ["外"]}], "no sub-task of the same"),
    ([{"name": "a", "job": "x", "depends_on": ["b"]}, {"name": "b", "job": "x", "depends_on": ["a"]}], "circle"),
    ([{"name": "a", "job": "double"}, {"name": "b"}], "`job`"),
    ([{"name": "a", "job": "double"}, {"name": "b/c", "job": "double"}], "b/c"),
    ([{"name": "a", "job": "double"}, {"name": "b", "job": "double", "when": "false"}], "`when`"),
    ([{"name": "a", "job": "double"}, 7], "a sub-task is a mapping"),
    ([{"name": "a", "job": "double"}, {"name": "b", "jbo": "double"}], "did you mean"),
]


@pytest.mark.parametrize(("tasks", "said"), BAD_BATCHES)
async def test_of_a_bad_batch_nothing_remains(world: World, tasks: list[Any], said: str) -> None:
    async def tries(ctx: TaskContext) -> str:
        try:
            await ctx.add_sub_tasks(tasks)
        except InvalidInput as error:
            return str(error)
        return ""

    engine = await world.start({**JOBS, "tries": tries})
    done = await finished(engine, flow(TaskSpec(name="父", job="tries")))
    assert (done.status, done.progress) == ("Success", Progress(completed=1))
    assert said in (await engine.get_task(done.id, "父")).result


async def test_the_set_is_that_of_the_attempt_that_succeeds(world: World) -> None:
    """The first attempt adds a, b and fails; the second adds b (another one) and c."""

    async def shifting(ctx: TaskContext) -> None:
        if ctx.attempt == 1:
            await ctx.add_sub_tasks([{"name": n, "job": "double", "params": {"x": 1}} for n in ("a", "b")])
            raise ValueError("again")
        await ctx.add_sub_tasks([{"name": n, "job": "double", "params": {"x": 5}} for n in ("b", "c")])
        await ctx.add_sub_tasks([{"name": "c", "job": "double", "params": {"x": 5}}])

    engine = await world.start({**JOBS, "shifting": shifting})
    policy = RetryPolicy(count=1, interval_us=Micros(0))
    done = await finished(engine, flow(TaskSpec(name="父", job="shifting", retry=policy)))
    assert (done.status, done.progress) == ("Success", Progress(completed=3))
    assert {task.name: task.result for task in await engine.get_tasks(done.id)} == {"父": None, "父/b": 10, "父/c": 10}


async def test_a_body_that_fails_for_good_takes_its_sub_tasks_with_it(world: World) -> None:
    async def fails(ctx: TaskContext) -> None:
        await adds(ctx)
        raise ValueError("坏")

    engine = await world.start({**JOBS, "fails": fails})
    done = await finished(
        engine, flow(TaskSpec(name="父", job="fails"), TaskSpec(name="后", job="double", depends_on=("父",)))
    )
    assert (done.status, done.progress) == ("Failed", Progress(failed=5))
    assert (await states(engine, done.id))["父/子1"] == "UpstreamFailed"


@pytest.mark.parametrize("on_failure", list(OnFailure))
async def test_a_failure_elsewhere_ends_the_family_too(world: World, on_failure: OnFailure) -> None:
    """No hang, whatever the failure does to the rest."""
    gate = asyncio.Event()

    async def waits(x: int) -> int:
        await gate.wait()
        return x

    async def breaks() -> None:
        await eventually(lambda: begun.is_set())
        asyncio.get_running_loop().call_later(0.05, gate.set)
        raise ValueError("坏")

    begun = asyncio.Event()

    async def first(x: int) -> int:
        begun.set()
        return await waits(x)

    engine = await world.start({**JOBS, "first": first, "breaks": breaks}, workers=4)
    spread = fan(list(range(20)), "first", max_parallel=2)
    done = await finished(engine, flow(spread, TaskSpec(name="坏", job="breaks"), on_failure=on_failure))
    assert done.status == "Failed"
    assert done.progress.pending == done.progress.running == 0
    assert done.progress.total == 22
    expected = {OnFailure.STOP: "Cancelled", OnFailure.CANCEL: "Cancelled", OnFailure.CONTINUE: "Success"}
    assert (await states(engine, done.id))["扇"] == expected[on_failure]


async def test_a_cancel_while_tasks_are_added(world: World) -> None:
    added = asyncio.Event()

    async def endless(ctx: TaskContext) -> None:
        for n in range(1_000_000):
            await ctx.add_sub_tasks([{"name": f"子{n}", "job": "double", "params": {"x": n}}])
            added.set()

    engine: Engine = await world.start({**JOBS, "endless": endless})
    instance = await engine.execute_workflow(flow(TaskSpec(name="父", job="endless")))
    await added.wait()
    await engine.cancel_instance(instance)
    done = await engine.wait_for_instance(instance, LIMIT_S)
    assert (done.status, done.progress.pending, done.progress.running) == ("Cancelled", 0, 0)


async def test_a_cancel_while_a_for_each_is_spread_is_no_failure(world: World) -> None:
    """The batch that comes too late is refused, since the instance ends: that is not what the task ended by."""
    engine = await world.start(JOBS)
    for moment in range(12):
        spread = TaskSpec(name="扇", job="double", params={"x": 1}, for_each=list(range(3_500)))
        instance = await engine.execute_workflow(flow(spread))
        for _ in range(moment):
            await asyncio.sleep(0)  # at any step on the way
        await engine.cancel_instance(instance)
        done = await engine.wait_for_instance(instance, LIMIT_S)
        assert (done.status, (await engine.get_task(instance, "扇")).status) == ("Cancelled", "Cancelled")


async def test_to_count_sub_tasks_no_result_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    async def long(x: int) -> str:
        return "长" * 500 + str(x)

    async def asks(ctx: TaskContext) -> None:
        with monkeypatch.context() as patch:
            patch.delattr(MemoryArtifacts if world.dsn == "memory://" else FolderArtifacts, "get")
            seen["count"] = await ctx.sub_task_count("扇")
            seen["all"] = await ctx.all_sub_tasks_succeeded("扇")
        seen["results"] = [len(each.result) for each in await ctx.successful_sub_tasks("扇")]

    engine = await world.start({"long": long, "asks": asks}, result_limits={"inline": 100})
    ask = TaskSpec(name="问", job="asks", depends_on=("扇",))
    done = await finished(engine, flow(fan(list(range(3)), "long"), ask))
    assert (done.status, seen) == ("Success", {"count": 3, "all": True, "results": [501] * 3})


async def test_a_pause_lets_no_sub_task_start(world: World) -> None:
    gate, ran = asyncio.Event(), []

    async def opens(ctx: TaskContext) -> None:
        await ctx.add_sub_tasks([{"name": f"子{n}", "job": "notes", "params": {"x": n}} for n in range(3)])
        await gate.wait()

    async def notes(x: int) -> None:
        ran.append(x)

    engine = await world.start({"opens": opens, "notes": notes})
    instance = await engine.execute_workflow(flow(TaskSpec(name="父", job="opens")))
    await eventually(lambda: _total(engine, instance, 4))
    await engine.pause_instance(instance)
    gate.set()
    await until_task(engine, instance, "父", "Waiting")
    assert not ran
    await engine.resume_instance(instance)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert sorted(ran) == [0, 1, 2]


async def _total(engine: Engine, instance: Any, total: int) -> bool:
    return (await engine.get_instance(instance)).progress.total == total


async def test_a_later_engine_goes_on_with_the_family(sqlite_world: World) -> None:
    """The body has succeeded, two of its sub-tasks too: neither runs again, and the rest does."""
    gate, ran = asyncio.Event(), []

    async def held(x: int) -> int:
        ran.append(x)
        if x > 1:
            await gate.wait()
        return x

    bodies: list[int] = []

    async def parent(ctx: TaskContext) -> None:
        bodies.append(ctx.attempt)
        await ctx.add_sub_tasks([{"name": f"子{n}", "job": "held", "params": {"x": n}} for n in range(4)])

    jobs = {**JOBS, "held": held, "parent": parent, "sees": sees}
    workflow = flow(
        TaskSpec(name="父", job="parent"),
        TaskSpec(name="看", job="sees", params={"task": "父"}, depends_on=("父",)),
    )
    first = await sqlite_world.start(jobs)
    instance = await first.execute_workflow(workflow)
    await until_task(first, instance, "父/子1", "Success")
    await eventually(lambda: len(ran) == 4)
    await first.stop(grace_s=0)
    gate.set()
    second = await sqlite_world.start(jobs)
    done = await second.wait_for_instance(instance, LIMIT_S)
    assert (done.status, done.progress) == ("Success", Progress(completed=6))
    assert bodies == [1], "the parent's body does not run again"
    assert sorted(ran) == [0, 1, 2, 2, 3, 3]
    assert (await second.result(instance))["看"]["count"] == 4


# -- added from outside


async def test_tasks_are_added_from_outside(world: World) -> None:
    gate = asyncio.Event()

    async def waits() -> None:
        await gate.wait()

    engine = await world.start({**JOBS, "waits": waits})
    instance = await engine.execute_workflow(flow(TaskSpec(name="父", job="waits"), TaskSpec(name="等", job="waits")))
    tasks = [{"name": n, "job": "double", "params": {"x": 3}} for n in ("甲", "乙")]
    assert await engine.add_tasks(instance, tasks, parent="父", command_id="一") == 2
    assert await engine.add_tasks(instance, tasks, parent="父", command_id="一") == 2, "the same command"
    assert await engine.add_tasks(instance, tasks, parent="父") == 0, "they are there"
    assert (
        await engine.add_tasks(instance, [{"name": "旁", "job": "double", "params": {"x": 4}, "depends_on": ["父"]}])
        == 1
    )
    with pytest.raises(InvalidInput, match="another one"):
        await engine.add_tasks(instance, [{"name": "甲", "job": "double", "params": {"x": 4}}], parent="父")
    with pytest.raises(InvalidInput, match="not a task of the instance"):
        await engine.add_tasks(instance, [{"name": "无", "job": "double", "depends_on": ["谁"]}])
    with pytest.raises(NotFound):
        await engine.add_tasks(instance, tasks, parent="谁")
    assert (await engine.get_instance(instance)).progress.total == 5
    gate.set()
    done = await engine.wait_for_instance(instance, LIMIT_S)
    assert (done.status, done.progress) == ("Success", Progress(completed=5))
    assert (await engine.get_task(instance, "旁")).result == 8
    with pytest.raises(Conflict, match="nothing can be added"):
        await engine.add_tasks(instance, [{"name": "晚", "job": "double"}])
