"""A new instance that takes over what another one has done: what runs again, what cannot be taken over."""

from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, finished, flow, states

from taskengine import TaskContext
from taskengine.errors import Conflict, InvalidParams, NotFound
from taskengine.model.definition import Compensation, ParamSpec, TaskSpec, Trigger, WorkflowDefinition
from taskengine.model.states import InstanceState


class Jobs:
    """`do` notes that it ran; it fails for the names in `broken`."""

    def __init__(self) -> None:
        self.ran: list[Any] = []
        self.undone: list[Any] = []
        self.broken: list[Any] = []

    async def do(self, x: Any) -> Any:
        self.ran.append(x)
        if x in self.broken:
            raise ValueError(f"{x} 坏了")
        return x

    async def undo(self, result: Any) -> None:
        self.undone.append(result)

    @property
    def all(self) -> dict[str, Any]:
        return {"do": self.do, "undo": self.undo}


def do(name: str, *needs: str, x: Any = None, **rest: Any) -> TaskSpec:
    params = {"x": name if x is None else x}
    return TaskSpec(name=name, job="do", depends_on=needs, params=params, **rest)


def chain() -> WorkflowDefinition:
    """a → b → c, and d beside them."""
    return flow(do("a"), do("b", "a"), do("c", "b", x="${{ tasks.b.result }}${{ tasks.a.result }}"), do("d"))


async def test_what_is_above_is_taken_over_and_all_below_runs_again(world: World) -> None:
    jobs = Jobs()
    engine = await world.start(jobs.all)
    done = await finished(engine, chain())
    jobs.ran.clear()
    fork = await engine.fork_instance(done.id, "b")
    view = await engine.wait_for_instance(fork, LIMIT_S)
    assert (view.status, jobs.ran) == (InstanceState.SUCCESS, ["b", "ba"])
    assert await engine.result(fork) == {"c": "ba", "d": "d"}
    assert view.progress.total == view.progress.completed == 4
    assert {task.name: task.attempt for task in await engine.get_tasks(fork)} == {"a": 1, "b": 1, "c": 1, "d": 1}
    (first, *_) = await engine.get_events(fork)
    assert first.body.reason == f"forked from {done.id} at 'b'"
    assert (await engine.get_instance(done.id)).status == "Success"


async def test_fix_the_definition_and_go_on_from_the_task_that_failed(world: World) -> None:
    jobs = Jobs()
    jobs.broken.append("b")
    engine = await world.start(jobs.all)
    await engine.register_workflow(flow(do("a"), do("b", "a"), do("c", "b")))
    failed = await engine.wait_for_instance(await engine.execute_workflow("流程"), LIMIT_S)
    assert failed.status == "Failed"
    mended = flow(do("a"), do("b", "a", x="好"), do("neu", "b"), do("c", "neu"))
    await engine.register_workflow(mended)
    jobs.ran.clear()
    fork = await engine.fork_instance(failed.id, "b", version="latest")
    assert (await engine.wait_for_instance(fork, LIMIT_S)).status == "Success"
    assert jobs.ran == ["好", "neu", "c"]
    old = await engine.fork_instance(failed.id, "b")
    assert (await engine.wait_for_instance(old, LIMIT_S)).status == "Failed", "its own version, as it was"
    by_hash = await engine.fork_instance(failed.id, "b", version=(await engine.get_instance(fork)).version[:12])
    assert (await engine.wait_for_instance(by_hash, LIMIT_S)).status == "Success"
    with pytest.raises(NotFound, match="workflow versions"):
        await engine.fork_instance(failed.id, "b", version="zzz")


async def test_what_has_not_ended_well_elsewhere_runs_again_too(world: World) -> None:
    jobs = Jobs()
    jobs.broken.append("x")
    engine = await world.start(jobs.all)
    definition = flow(
        do("x", retry=None), do("after", "x"), do("clean", "x", trigger=Trigger.ALL_DONE), do("a"), do("b", "a")
    )
    done = await finished(engine, definition)
    assert done.status == "Failed"
    jobs.broken.clear()
    jobs.ran.clear()
    fork = await engine.fork_instance(done.id, "b")
    assert (await engine.wait_for_instance(fork, LIMIT_S)).status == "Success"
    assert sorted(jobs.ran) == sorted({"x", "after", "clean", "b"} | ({"a"} & set(jobs.ran)))
    assert set((await states(engine, fork)).values()) == {"Success"}


async def test_sub_tasks_are_taken_over_with_their_parent(world: World) -> None:
    jobs = Jobs()
    engine = await world.start(jobs.all)
    each = do("each", x="${{ item }}", for_each=["甲", "乙", "丙"])
    definition = flow(each, do("sum", "each", x="${{ tasks.each.result }}"))
    done = await finished(engine, definition)
    jobs.ran.clear()
    fork = await engine.fork_instance(done.id, "sum")
    view = await engine.wait_for_instance(fork, LIMIT_S)
    assert (view.status, jobs.ran, view.progress.total) == ("Success", [["甲", "乙", "丙"]], 5)
    jobs.ran.clear()
    again = await engine.wait_for_instance(await engine.fork_instance(done.id, "each"), LIMIT_S)
    assert (again.status, sorted(map(str, jobs.ran))) == ("Success", sorted(["甲", "乙", "丙", "['甲', '乙', '丙']"]))
    assert again.progress.total == 5
    with pytest.raises(Conflict, match="fork from 'each'"):
        await engine.fork_instance(done.id, "each/1")


async def test_a_fork_that_fails_undoes_what_it_took_over_in_the_same_order(world: World) -> None:
    jobs = Jobs()
    engine = await world.start(jobs.all)
    undo = Compensation(job="undo")
    names = ("a", "b", "c")
    tasks = [do(name, *names[max(0, at - 1) : at], compensation=undo) for at, name in enumerate(names)]
    done = await finished(engine, flow(*tasks, do("last", "c")))
    assert (done.status, jobs.undone) == ("Success", [])
    jobs.broken.append("last")
    fork = await engine.wait_for_instance(await engine.fork_instance(done.id, "last"), LIMIT_S)
    assert (fork.status, jobs.undone) == ("Compensated", ["c", "b", "a"])
    assert (await engine.get_instance(done.id)).status == "Success"


async def test_what_would_have_to_be_undone_stays_in_the_workflow(world: World) -> None:
    engine = await world.start(Jobs().all)
    pay, a, last = do("pay", compensation=Compensation(job="undo")), do("a"), do("last", "a")
    await engine.register_workflow(flow(pay, do("pure"), a, last))
    done = await engine.wait_for_instance(await engine.execute_workflow("流程"), LIMIT_S)
    await engine.register_workflow(flow(a, last))
    with pytest.raises(Conflict, match="not in this version, and done in the instance: 'pay';"):
        await engine.fork_instance(done.id, "last", version="latest")
    await engine.register_workflow(flow(pay, a, last))
    fork = await engine.fork_instance(done.id, "last", version="latest")
    assert (await engine.wait_for_instance(fork, LIMIT_S)).status == "Success"


async def test_what_was_undone_runs_again_also_if_it_was_a_sub_task(world: World) -> None:
    jobs = Jobs()

    async def split(ctx: TaskContext) -> None:
        jobs.ran.append("split")
        await ctx.add_sub_tasks([{"name": "s", "job": "do", "params": {"x": "s"}, "compensation": {"job": "undo"}}])

    engine = await world.start({**jobs.all, "split": split})
    undo = Compensation(job="undo")
    each = do("each", x="${{ item }}", for_each=["甲", "乙"], compensation=undo)
    parts = (each, TaskSpec(name="split", job="split"), do("one", compensation=undo), do("pure"))
    jobs.broken.append("last")
    done = await finished(engine, flow(*parts, do("last", "each", "split", "one", "pure")))
    assert (done.status, sorted(jobs.undone)) == ("Compensated", sorted(["甲", "乙", "s", "one"]))
    assert (await states(engine, done.id))["each"] == "Success", "although nothing of it is left"
    jobs.broken.clear()
    jobs.ran.clear()
    fork = await engine.wait_for_instance(await engine.fork_instance(done.id, "last"), LIMIT_S)
    assert (fork.status, sorted(jobs.ran)) == ("Success", sorted(["甲", "乙", "split", "s", "one", "last"]))
    assert set((await states(engine, fork.id)).values()) == {"Success"}
    assert fork.progress.total == 8


async def test_what_could_not_be_undone_is_not_done_twice(world: World) -> None:
    jobs = Jobs()
    locked = ["乙"]

    async def undo(result: Any) -> None:
        if result in locked:
            raise ValueError("zu")
        jobs.undone.append(result)

    engine = await world.start({**jobs.all, "undo": undo})
    each = do("each", x="${{ item }}", for_each=["甲", "乙"], compensation=Compensation(job="undo"))
    jobs.broken.append("last")
    done = await finished(engine, flow(each, do("last", "each")))
    assert done.status == "CompensationFailed"
    with pytest.raises(Conflict, match=r"could not be undone: 'each/1'.*Retry the instance"):
        await engine.fork_instance(done.id, "last")
    locked.clear()
    await engine.retry_instance(done.id)
    assert (await engine.wait_for_instance(done.id, LIMIT_S)).status == "Compensated"
    jobs.broken.clear()
    assert (await engine.wait_for_instance(await engine.fork_instance(done.id, "last"), LIMIT_S)).status == "Success"


async def test_params_may_change_below_and_only_there(world: World) -> None:
    jobs = Jobs()
    engine = await world.start(jobs.all)
    params = {"日": ParamSpec(type="string", default="1"), "量": ParamSpec(type="integer", default=1)}
    definition = flow(do("a", x="${{ params.日 }}"), do("b", "a", x="${{ params.量 }}"), params=params)
    done = await finished(engine, definition, {"日": "2"})
    jobs.ran.clear()
    fork = await engine.fork_instance(done.id, "b", params={"量": 5})
    view = await engine.wait_for_instance(fork, LIMIT_S)
    assert (view.status, view.params, jobs.ran) == ("Success", {"日": "2", "量": 5}, [5])
    with pytest.raises(Conflict, match="'a', which is not below 'b'"):
        await engine.fork_instance(done.id, "b", params={"日": "3"})
    with pytest.raises(InvalidParams, match="量"):
        await engine.fork_instance(done.id, "b", params={"量": "viel"})
    same = await engine.fork_instance(done.id, "b", params={"量": 7}, idempotency_key="k")
    assert await engine.fork_instance(done.id, "b", params={"量": 7}, idempotency_key="k") == same
    with pytest.raises(Conflict, match="other params"):
        await engine.fork_instance(done.id, "b", params={"量": 8}, idempotency_key="k")


async def test_a_key_gives_the_same_fork_and_no_other_start(world: World) -> None:
    engine = await world.start(Jobs().all)
    await engine.register_workflow(flow(do("a"), TaskSpec(name="等", job="wait_for", depends_on=("a",)), do("c", "等")))
    source = await engine.execute_workflow("流程", idempotency_key="start")
    await engine.signal_instance(source, "等", 1)
    await engine.wait_for_instance(source, LIMIT_S)
    fork = await engine.fork_instance(source, "c", idempotency_key="fork")
    assert await engine.fork_instance(source, "c", idempotency_key="fork") == fork
    latest = await engine.fork_instance(source, "c", version="latest", idempotency_key="latest")
    with pytest.raises(Conflict, match="another start"):
        await engine.fork_instance(source, "c", idempotency_key="start")
    with pytest.raises(Conflict, match="another start"):
        await engine.fork_instance(source, "a", idempotency_key="fork")
    with pytest.raises(Conflict, match="another start"):
        await engine.fork_instance(fork, "c", idempotency_key="fork")
    with pytest.raises(Conflict, match="another start"):
        await engine.execute_workflow("流程", idempotency_key="fork")
    newer = flow(do("a"), TaskSpec(name="等", job="wait_for", depends_on=("a",)), do("c", "等", x="neu"))
    version = (await engine.register_workflow(newer)).version
    assert await engine.fork_instance(source, "c", version="latest", idempotency_key="latest") == latest
    with pytest.raises(Conflict, match="another start"):
        await engine.fork_instance(source, "c", version=version, idempotency_key="fork")
    await engine.retry_instance(source, from_task="等")
    assert await engine.fork_instance(source, "c", idempotency_key="fork") == fork, "an answer that was lost is told"
    with pytest.raises(Conflict, match="only one that has ended"):
        await engine.fork_instance(source, "c", idempotency_key="neu")


async def test_a_fork_that_ends_at_once_is_still_known_by_its_key(world: World) -> None:
    engine = await world.start(Jobs().all)
    done = await finished(engine, flow(do("a"), do("b", "a", trigger=Trigger.ONE_FAILED)))
    fork = await engine.fork_instance(done.id, "b", idempotency_key="k")
    assert (await engine.wait_for_instance(fork, LIMIT_S)).status == "Success"
    assert await engine.fork_instance(done.id, "b", idempotency_key="k") == fork


async def test_what_cannot_be_forked_says_why(world: World) -> None:
    jobs = Jobs()
    engine = await world.start(jobs.all)
    await engine.register_workflow(chain())
    done = await engine.wait_for_instance(await engine.execute_workflow("流程"), LIMIT_S)
    with pytest.raises(NotFound, match="instance"):
        await engine.fork_instance("nobody", "a")
    with pytest.raises(NotFound, match="task"):
        await engine.fork_instance(done.id, "bb")
    await engine.register_workflow(flow(do("a", x="ander"), do("b", "a"), do("c", "b"), do("e")))
    with pytest.raises(Conflict, match="not below 'b', and other than in the version of the instance: 'a', 'e'"):
        await engine.fork_instance(done.id, "b", version="latest")
    waits = await engine.execute_workflow(flow(TaskSpec(name="等", job="wait_for"), name="wait"))
    with pytest.raises(Conflict, match="only one that has ended"):
        await engine.fork_instance(waits, "等")


async def test_a_large_result_is_taken_over(world: World) -> None:
    jobs = Jobs()
    engine = await world.start(jobs.all, result_limits={"inline": 100})
    text = "长" * 1_000
    done = await finished(engine, flow(do("a", x=text), do("b", "a", x="${{ tasks.a.result }}")))
    fork = await engine.fork_instance(done.id, "b")
    assert (await engine.wait_for_instance(fork, LIMIT_S)).status == "Success"
    assert await engine.result(fork) == {"b": text}


async def test_a_fork_is_there_as_a_whole_after_a_restart(sqlite_world: World) -> None:
    jobs = Jobs()
    engine = await sqlite_world.start(jobs.all)
    tasks = (do("a"), TaskSpec(name="等", job="wait_for", depends_on=("a",)), do("c", "等"))
    instance = await engine.execute_workflow(flow(*tasks))
    await engine.signal_instance(instance, "等", 1)
    await engine.wait_for_instance(instance, LIMIT_S)
    fork = await engine.fork_instance(instance, "等")
    await engine.stop()
    jobs.ran.clear()
    engine = await sqlite_world.start(jobs.all)
    await engine.signal_instance(fork, "等", 2)
    assert (await engine.wait_for_instance(fork, LIMIT_S)).status == "Success"
    assert jobs.ran == ["c"]
