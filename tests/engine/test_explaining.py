"""Why instances and tasks of a real engine are where they are, and that few rows are read for it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, eventually, finished, flow, until_task

from taskengine import TaskContext
from taskengine.engine.engine import Engine
from taskengine.errors import NotFound
from taskengine.model.definition import Compensation, RetryPolicy, TaskSpec, Trigger
from taskengine.wire import Explanation


def task(name: str, *needs: str, job: str = "noop", **settings: Any) -> TaskSpec:
    return TaskSpec(name=name, job=job, depends_on=needs, **settings)


def wait(name: str, *needs: str, **params: Any) -> TaskSpec:
    return task(name, *needs, job="wait_for", params={"timeout": "1h", **params})


async def bad() -> None:
    raise ValueError("没有 disk")


def reasons(found: Explanation) -> Mapping[str, str]:
    return {cause.task: cause.reason for cause in found.because}


def commands(found: Explanation) -> Sequence[str]:
    return [release.command.replace(found.instance_id, "ID") for release in found.releases if release.command]


async def ended(engine: Engine, *tasks: TaskSpec, **settings: Any) -> str:
    return str((await finished(engine, flow(*tasks, **settings))).id)


async def test_a_task_behind_a_chain_is_told_where_it_begins_and_what_to_type(world: World) -> None:
    engine = await world.start()
    instance = await engine.execute_workflow(flow(wait("准许", approval=True), task("a", "准许"), task("b", "a")))
    await until_task(engine, instance, "准许", "Waiting")
    found = await engine.explain(instance, "b")
    assert found.why.startswith(
        "`b` waits for `a`; that begins with `准许`, which waits for the approval `准许` until "
    )
    assert list(reasons(found)) == ["a", "准许"]
    assert commands(found) == ["taskengine instance approve ID '准许'", "taskengine instance reject ID '准许'"]
    whole = await engine.explain(instance)
    assert whole.why.endswith(", and 2 tasks behind it.")
    assert (list(reasons(whole)), whole.more, whole.task) == (["准许"], 0, None)
    await engine.signal_instance(instance, "准许", {"approved": True})
    await engine.wait_for_instance(instance, LIMIT_S)
    assert (await engine.explain(instance)).releases == []
    assert (await engine.explain(instance, "b")).why == "`b` has succeeded, in attempt 1."


async def test_failures_and_skips_lead_back_to_the_task_that_began_it(world: World) -> None:
    engine = await world.start({"bad": bad})
    tasks = [
        task("w", when="${{ 1 == 2 }}"),
        task("x", "w"),
        task("y", "x", "ok"),
        task("ok"),
        task("f", "ok", job="bad", retry=RetryPolicy(count=1, interval_us=0)),
        task("g", "f"),
        task("h", "g", "ok"),
        task("c", "g", trigger=Trigger.ONE_FAILED),
    ]
    instance = await ended(engine, *tasks)
    why = {name: (await engine.explain(instance, name)).why for name in "wxyfghc"}
    assert why["w"] == "`w` was skipped: its `when` was false: `${{ 1 == 2 }}`."
    assert "`x`; that begins with `w`, which was skipped: its `when` was false" in why["y"]
    assert why["f"] == "`f` failed: ValueError: 没有 disk; all of its 2 attempts were used."
    assert "because of `f`, which failed: ValueError: 没有 disk." in why["g"]
    assert "because of `g`; that begins with `f`, which failed: ValueError: 没有 disk." in why["h"]
    assert why["c"] == "`c` has succeeded, in attempt 1."
    assert commands(await engine.explain(instance, "h")) == [
        "taskengine instance retry ID",
        "taskengine instance retry ID --from f",
    ]
    whole = await engine.explain(instance)
    assert reasons(whole) == {"f": "failed: ValueError: 没有 disk"}
    assert commands(whole) == ["taskengine instance retry ID"]


async def test_a_stop_and_a_cancel_are_told_apart(world: World) -> None:
    engine = await world.start({"bad": bad})
    instance = await ended(
        engine, task("f", job="bad"), task("nap", job="sleep", params={"duration": 0.01}), task("t", "nap")
    )
    found = await engine.explain(instance, "t")
    assert found.why == "`t` was stopped by a failure: task 'f' failed: ValueError: 没有 disk."
    assert list(reasons(found)) == ["f"]
    cancelled = await engine.execute_workflow(flow(wait("go"), task("t", "go")))
    await engine.cancel_instance(cancelled, "今天不行")
    await engine.wait_for_instance(cancelled, LIMIT_S)
    assert (await engine.explain(cancelled, "t")).why == "`t` was cancelled with its instance: 今天不行."
    assert list(reasons(await engine.explain(cancelled))) == ["go", "t"]


async def test_a_pause_is_told_with_the_command_that_ends_it(world: World) -> None:
    engine = await world.start()
    instance = await engine.execute_workflow(flow(wait("go"), task("t", "go")))
    await until_task(engine, instance, "go", "Waiting")
    await engine.pause_instance(instance)
    assert commands(await engine.explain(instance))[0] == "taskengine instance resume ID"
    assert (await engine.explain(instance, "t")).why.endswith("; besides, the instance is paused.")
    await engine.signal_instance(instance, "go", None)
    await until_task(engine, instance, "go", "Success")
    free = await engine.explain(instance, "t")
    assert (free.why, commands(free)) == (
        "`t` could begin, but the instance is paused.",
        ["taskengine instance resume ID"],
    )


async def test_what_waits_for_a_place_is_told_who_has_it(world: World) -> None:
    gate = asyncio.Event()

    async def hold() -> None:
        await gate.wait()

    engine = await world.start({"hold": hold}, workers=1)
    narrow = await engine.execute_workflow(flow(task("a", job="hold"), task("b"), max_concurrent_tasks=1))
    await until_task(engine, narrow, "a", "Running")
    found = await engine.explain(narrow, "b")
    assert found.why == "`b` waits for a place: 1 task may be under way at once (`max_concurrent_tasks`)."
    assert list(reasons(found)) == ["a"]
    wide = await engine.execute_workflow(flow(task("c")))
    assert (await engine.explain(wide, "c")).why == "`c` waits for a free worker."
    gate.set()
    await engine.wait_for_instance(wide, LIMIT_S)


async def test_a_parent_counts_its_open_sub_tasks_and_names_the_first(world: World) -> None:
    async def spread(ctx: TaskContext) -> None:
        nap = {"job": "sleep", "params": {"duration": "1h"}}
        await ctx.add_sub_tasks([{"name": f"n{n:02}", **nap} for n in range(30)])
        await ctx.add_sub_tasks([{"name": "last", "job": "noop", "depends_on": ["n00"]}, {"name": "ok", "job": "noop"}])

    engine = await world.start({"spread": spread})
    instance = await engine.execute_workflow(flow(task("p", job="spread"), task("t", "p")))
    await until_task(engine, instance, "p/ok", "Success")
    await until_task(engine, instance, "p/n29", "Waiting")
    found = await engine.explain(instance, "p")
    assert found.why == "`p` waits for its sub-tasks: 31 of 32 have not ended."
    assert (len(found.because), found.more) == (20, 11)
    below = await engine.explain(instance, "p/last")
    assert below.why.startswith("`p/last` waits for `p/n00`, which sleeps until ")
    assert (await engine.explain(instance, "t")).why == "`t` waits for `p`, which waits for its sub-tasks."
    whole = await engine.explain(instance)
    assert (len(whole.because), whole.more) == (20, 11), "the parent and thirty that sleep"
    assert "31 tasks hold it up, and 2 tasks behind them" in whole.why


async def test_a_parent_that_failed_names_those_by_which(world: World) -> None:
    engine = await world.start({"bad": bad})
    instance = await ended(engine, task("list", job="bad", for_each=[1, 2, 3]))
    found = await engine.explain(instance, "list")
    assert "SubTasksFailed" in found.why
    assert list(reasons(found)) == ["list/0", "list/1", "list/2"]
    assert (await engine.explain(instance, "list/1")).why.startswith("`list/1` failed: ValueError: 没有 disk;")


async def test_what_was_undone_says_why(world: World) -> None:
    engine = await world.start({"bad": bad})
    undo, stuck = Compensation(job="noop"), Compensation(job="bad")
    instance = await ended(
        engine, task("a", compensation=undo), task("b", "a", compensation=stuck), task("f", "b", job="bad")
    )
    assert (await engine.explain(instance, "a")).why.startswith("`a` was undone, for the instance did not end well: ")
    assert "could not be undone: ValueError: 没有 disk" in (await engine.explain(instance, "b")).why
    whole = await engine.explain(instance)
    assert (whole.status, list(reasons(whole))) == ("CompensationFailed", ["b"])
    assert commands(whole) == ["taskengine instance retry ID"]


async def test_a_child_leads_on_to_its_own_explanation(world: World) -> None:
    engine = await world.start()
    await engine.register_workflow(flow(wait("go"), name="child"))
    parent = await engine.execute_workflow(flow(task("run", job="workflow", params={"workflow": "child"})))
    await until_task(engine, parent, "run", "Waiting")
    found = await engine.explain(parent, "run")
    (line,) = commands(found)
    child = line.removeprefix("taskengine explain ")

    async def waits() -> bool:
        try:
            return "`go` waits for the signal `go`" in (await engine.explain(child)).why
        except NotFound:
            return False

    await eventually(waits)


class Reads:
    """What is read of a store's tasks: rows, and states."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = self.states = self.questions = 0
        tasks, states = engine.store.tasks, engine.store.task_states

        async def counted_tasks(*arguments: Any, **named: Any) -> Any:
            found = await tasks(*arguments, **named)
            self.rows += len(found)
            self.questions += 1
            return found

        async def counted_states(instance_id: Any, ordinals: Any) -> Any:
            self.states += len(ordinals)
            self.questions += 1
            return await states(instance_id, ordinals)

        monkeypatch.setattr(engine.store, "tasks", counted_tasks)
        monkeypatch.setattr(engine.store, "task_states", counted_states)


async def test_a_long_chain_is_followed_in_few_steps_and_a_very_long_one_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await world.start()
    chain = [wait("go"), *(task(f"t{n}", "go" if n == 0 else f"t{n - 1}") for n in range(12_000))]
    instance = await engine.execute_workflow(flow(*chain))
    await until_task(engine, instance, "go", "Waiting")
    reads = Reads(engine, monkeypatch)
    found = await engine.explain(instance, "t4000")
    assert found.why.startswith("`t4000` waits for `t3999`; that begins with `go`, which waits for the signal `go`")
    assert (reads.rows, reads.states <= 5_000, reads.questions <= 30) == (1, True, True), "the others have no rows"
    far = await engine.explain(instance, "t11999")
    assert far.why == "`t11999` waits for `t11998`; too many tasks stand above to say where that begins."
    assert reads.states <= 20_000
    reads.rows = 0
    whole = await engine.explain(instance)
    assert "and 12,000 tasks behind it" in whole.why
    assert reads.rows == 1


async def test_a_wide_instance_names_twenty_and_counts_the_rest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await world.start()
    waits = [wait(f"w{n}") for n in range(60)]
    instance = await engine.execute_workflow(flow(*waits, task("all", *(spec.name for spec in waits))))
    await until_task(engine, instance, "w59", "Waiting")
    reads = Reads(engine, monkeypatch)
    found = await engine.explain(instance, "all")
    assert found.why.startswith("`all` waits for `w0`, `w1`, `w2` and 57 more; `w0` waits for the signal `w0`")
    assert (len(found.because), found.more) == (20, 40)
    assert len(commands(found)) == 5
    assert reads.rows <= 21
    whole = await engine.explain(instance)
    assert (len(whole.because), whole.more) == (20, 40)
    assert "60 tasks hold it up, and 1 task behind them" in whole.why


async def test_what_is_not_there_is_not_found(world: World) -> None:
    engine = await world.start()
    instance = await ended(engine, task("report"))
    with pytest.raises(NotFound, match="nobody"):
        await engine.explain("nobody")
    with pytest.raises(NotFound, match="did you mean `report`"):
        await engine.explain(instance, "reprot")
