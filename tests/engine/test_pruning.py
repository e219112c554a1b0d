"""Ended instances go when their retention is over, and nothing else does."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, eventually, finished, flow, in_time, until_task

from taskengine.clock import ManualClock
from taskengine.engine.engine import Engine
from taskengine.errors import CommitFailed, InvalidConfiguration, InvalidInput, NotFound, Unavailable
from taskengine.functions import TaskContext
from taskengine.model.definition import Retention, TaskSpec
from taskengine.model.states import InstanceState

DAY_S = 86_400.0
DAY_US = 86_400_000_000
KEPT = {"success": "10d", "failed": "20d"}


async def good(ctx: TaskContext) -> str:
    ctx.log.info("好")
    return "好"


async def bad() -> None:
    raise ValueError("坏")


GOOD = flow(TaskSpec(name="好", job="good"), name="good")
BAD = flow(TaskSpec(name="坏", job="bad"), name="bad")
SLEEPS = flow(TaskSpec(name="睡", job="sleep", params={"duration": 365 * DAY_S}), name="sleeps")


async def started(world: World, **settings: Any) -> tuple[Engine, ManualClock]:
    clock = world.manual()
    return await world.start({"good": good, "bad": bad}, **settings), clock


async def ids(engine: Engine) -> set[str]:
    return {view.id for view in await engine.list_instances(limit=1000)}


async def pruned(engine: Engine, **asked: Any) -> int:
    """How many went, with everything."""
    found: int = (await engine.prune(**asked)).instances
    await engine.sweep()
    return found


def later(clock: ManualClock, span_s: float) -> None:
    """The calendar goes on and nothing else: the engine's own passes do not come in between."""
    clock.set_wall(clock.now_us() + round(span_s * 1_000_000))


async def test_each_goes_when_its_time_is_over(world: World) -> None:
    engine, clock = await started(world, retention=KEPT)
    ok, failed = await finished(engine, GOOD), await finished(engine, BAD)
    sleeps = [await engine.execute_workflow(SLEEPS) for _ in range(3)]
    for sleeping in sleeps:
        await until_task(engine, sleeping, "睡", "Waiting")
    cancelled, paused, waiting = sleeps
    await engine.cancel_instance(cancelled)
    await engine.wait_for_instance(cancelled, LIMIT_S)
    await engine.pause_instance(paused)
    everything = {ok.id, failed.id, *sleeps}
    for days, gone in ((9.9, set()), (0.2, {ok.id}), (9.8, {ok.id}), (0.2, {ok.id, failed.id, cancelled})):
        later(clock, days * DAY_S)
        await pruned(engine)
        assert await ids(engine) == everything - gone
    later(clock, 300 * DAY_S)
    await pruned(engine)
    assert await ids(engine) == {paused, waiting}


async def test_an_embedded_engine_keeps_all_unless_it_is_told(world: World) -> None:
    engine, clock = await started(world)
    ended = {(await finished(engine, workflow)).id for workflow in (GOOD, BAD)}
    later(clock, 10_000 * DAY_S)
    assert await pruned(engine) == 0
    assert await ids(engine) == ended


async def test_a_workflow_says_for_itself_how_long(world: World) -> None:
    engine, clock = await started(world, retention=KEPT)
    short = flow(*GOOD.tasks, name="good", retention=Retention(success_us=DAY_US))
    ever = flow(*GOOD.tasks, name="ever", retention=Retention(success_us=None))
    left = flow(*BAD.tasks, name="left", retention=Retention(success_us=DAY_US))
    long = flow(*BAD.tasks, name="long", retention=Retention(failed_us=30 * DAY_US))
    named = {}
    for name, workflow in {"plain": GOOD, "short": short, "ever": ever, "left": left, "long": long}.items():
        named[(await finished(engine, workflow)).id] = name
    for days, kept in (
        (0.9, {"plain", "short", "ever", "left", "long"}),
        (0.2, {"plain", "ever", "left", "long"}),  # an older version of the same workflow stays
        (9, {"ever", "left", "long"}),
        (10, {"ever", "long"}),
        (10, {"ever"}),
        (1000, {"ever"}),
    ):
        later(clock, days * DAY_S)
        await pruned(engine)
        assert {named[each] for each in await ids(engine)} == kept


async def test_what_a_workflow_says_counts_in_an_engine_that_keeps_all(world: World) -> None:
    engine, clock = await started(world)
    await finished(engine, flow(*GOOD.tasks, retention=Retention(success_us=DAY_US)))
    kept = await finished(engine, GOOD)
    later(clock, 2 * DAY_S)
    assert await pruned(engine) == 1
    assert await ids(engine) == {kept.id}


async def test_a_key_is_good_for_a_day_whatever_the_retention(world: World) -> None:
    engine, clock = await started(world, retention={"success": 60})
    first = await engine.execute_workflow(GOOD, idempotency_key="k")
    plain = await finished(engine, GOOD)
    await engine.wait_for_instance(first, LIMIT_S)
    later(clock, DAY_S - 5)
    assert await pruned(engine) == 1
    assert await pruned(engine, older_than_s=0) == 0
    assert await engine.execute_workflow(GOOD, idempotency_key="k") == first
    later(clock, 10)
    assert await pruned(engine) == 1
    again = await engine.execute_workflow(GOOD, idempotency_key="k")
    assert again not in (first, plain.id)


async def test_age_counts_from_the_end_and_not_from_the_start(world: World) -> None:
    engine, clock = await started(world, retention=KEPT)
    late = await engine.execute_workflow(SLEEPS)
    await until_task(engine, late, "睡", "Waiting")
    later(clock, 100 * DAY_S)
    await engine.cancel_instance(late)
    await engine.wait_for_instance(late, LIMIT_S)
    later(clock, 19 * DAY_S)
    assert await pruned(engine) == 0
    later(clock, 2 * DAY_S)
    assert await pruned(engine) == 1


async def test_a_retry_begins_a_new_age(world: World) -> None:
    engine, clock = await started(world, retention=KEPT)
    failed = await finished(engine, BAD)
    later(clock, 19 * DAY_S)
    await engine.retry_instance(failed.id)
    await engine.wait_for_instance(failed.id, LIMIT_S)
    later(clock, 19 * DAY_S)
    assert await pruned(engine) == 0
    later(clock, 2 * DAY_S)
    assert await pruned(engine) == 1


async def test_only_what_is_asked_for_goes(world: World) -> None:
    engine, clock = await started(world)
    kept_for_ever = flow(*GOOD.tasks, name="ever", retention=Retention(success_us=None))
    for workflow in (GOOD, GOOD, BAD, kept_for_ever):
        await finished(engine, workflow)
    later(clock, 100)
    assert (await engine.prune(older_than_s=101)).instances == 0
    assert (await engine.prune(older_than_s=99, dry_run=True)).instances == 4
    assert (await engine.prune(older_than_s=99, workflow_id="good", dry_run=True)).instances == 2
    assert (await engine.prune(older_than_s=99, workflow_id="nobody's", dry_run=True)).instances == 0
    assert await pruned(engine, older_than_s=99, states=[InstanceState.FAILED]) == 1
    assert await pruned(engine, older_than_s=99, states=[InstanceState.FAILED], workflow_id="good") == 0
    assert await pruned(engine, older_than_s=99, states=[InstanceState.SUCCESS], workflow_id="good") == 2
    assert {view.workflow_id for view in await engine.list_instances()} == {"ever"}
    assert await pruned(engine) == 0
    assert await pruned(engine, older_than_s=99) == 1


async def test_a_narrower_question_keeps_to_the_retention(world: World) -> None:
    engine, clock = await started(world, retention=KEPT)
    for workflow in (GOOD, BAD, flow(*GOOD.tasks, name="good", retention=Retention(success_us=5 * DAY_US))):
        await finished(engine, workflow)
    later(clock, 6 * DAY_S)
    assert await pruned(engine, workflow_id="bad") == await pruned(engine, states=[InstanceState.FAILED]) == 0
    assert await pruned(engine, workflow_id="good") == 1
    later(clock, 5 * DAY_S)
    assert await pruned(engine, states=[InstanceState.SUCCESS]) == 1
    assert len(await ids(engine)) == 1


@pytest.mark.parametrize("asked", [{"states": [InstanceState.RUNNING]}, {"older_than_s": -1}, {"older_than_s": 1e12}])
async def test_what_makes_no_sense_is_refused(world: World, asked: dict[str, Any]) -> None:
    engine, _ = await started(world)
    with pytest.raises(InvalidInput):
        await engine.prune(**asked)


async def test_a_retention_that_is_none_is_refused(world: World) -> None:
    with pytest.raises(InvalidConfiguration, match="retention: success: `soon` is no duration"):
        await world.start(retention={"success": "soon"})


async def test_a_limit_leaves_the_rest_for_the_next_time(world: World) -> None:
    engine, clock = await started(world)
    for _ in range(5):
        await finished(engine, GOOD)
    later(clock, 100)
    found = await engine.prune(older_than_s=60, limit=2)
    assert (found.instances, found.more) == (2, True)
    found = await engine.prune(older_than_s=60, limit=100)
    assert (found.instances, found.more) == (3, False)


async def test_nobody_sees_it_any_more(world: World) -> None:
    """Also who has looked at it a moment ago, and so has it in memory."""
    engine, clock = await started(world)
    gone, kept = await finished(engine, GOOD), await finished(engine, GOOD)
    for instance in (gone.id, kept.id):
        assert await engine.result(instance) == {"好": "好"}
    later(clock, 100)
    assert await pruned(engine, older_than_s=50, workflow_id="good") == 2
    for instance in (gone.id, kept.id):
        for ask in (engine.get_instance, engine.get_tasks, engine.get_events, engine.get_logs, engine.result):
            with pytest.raises(NotFound):
                await ask(instance)
        with pytest.raises(NotFound):
            await engine.retry_instance(instance)
        with pytest.raises(NotFound):
            await engine.wait_for_instance(instance, 1)
    assert world.metrics.counted["retention.removed"] == 2


async def test_a_look_that_began_before_the_removal_leaves_no_copy(world: World) -> None:
    engine, clock = await started(world)
    gone = await finished(engine, GOOD)
    later(clock, 100)
    honest = engine.store.sight
    looked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*asked: Any) -> Any:
        found = await honest(*asked)
        looked.set()
        await go_on.wait()
        return found

    engine.store.sight = slow  # type: ignore[method-assign]
    engine._directory.sights.forget(gone.id)
    look = asyncio.ensure_future(engine.get_instance(gone.id))
    await looked.wait()
    assert await pruned(engine, older_than_s=50) == 1
    go_on.set()
    assert (await look).id == gone.id
    engine.store.sight = honest  # type: ignore[method-assign]
    with pytest.raises(NotFound):
        await engine.get_instance(gone.id)


async def test_an_instance_whose_body_goes_on_stays(world: World) -> None:
    """It may still write lines, and its slot is taken."""
    release = threading.Event()

    def deaf() -> None:
        release.wait(LIMIT_S)

    engine = await world.start({"deaf": deaf}, grace=0.01)
    instance = await engine.execute_workflow(flow(TaskSpec(name="聋", job="deaf")))
    await until_task(engine, instance, "聋", "Running")
    await engine.cancel_instance(instance)
    await engine.wait_for_instance(instance, LIMIT_S)
    try:
        assert (await engine.prune(older_than_s=0)).instances == 0
    finally:
        release.set()
    await eventually(lambda: not engine._directory.bodies)
    assert (await engine.prune(older_than_s=0)).instances == 1


async def test_an_id_can_be_used_again_once_nothing_is_left_of_it(world: World) -> None:
    engine, clock = await started(world)
    await engine.execute_workflow(GOOD, instance_id="mine")
    await engine.wait_for_instance("mine", LIMIT_S)
    later(clock, 1)
    await engine.prune(older_than_s=0)
    await engine.sweep()
    await engine.execute_workflow(BAD, instance_id="mine")
    assert (await engine.wait_for_instance("mine", LIMIT_S)).status == "Failed"
    assert (await engine.get_events("mine"))[0].seq == 1


RACES = 40


async def after(turns: int, ask: Callable[..., Any], *values: Any, **named: Any) -> Any:
    for _ in range(turns):
        await asyncio.sleep(0)  # turns of the loop, to shift two things against each other
    return await ask(*values, **named)


async def test_a_retry_and_a_removal_at_once_agree_on_who_was_first(world: World) -> None:
    """Either it was retried and is there, or it is gone and the retry was told so; never half of both."""
    engine = await world.start({"good": good, "bad": bad})
    outcomes = set()
    for number in range(RACES):
        failed = (await finished(engine, BAD)).id
        prune = asyncio.ensure_future(after(number // 2 if number % 2 else 0, engine.prune, older_than_s=0))
        retry = asyncio.ensure_future(after(0 if number % 2 else number // 2, engine.retry_instance, failed))
        removed = (await prune).instances
        try:
            await retry
            outcomes.add("retried")
        except (NotFound, Unavailable, CommitFailed):
            assert removed == 1
            outcomes.add("removed")
        if removed:  # perhaps behind the second end
            with pytest.raises(NotFound):
                await engine.get_instance(failed)
        else:
            assert (await engine.wait_for_instance(failed, LIMIT_S)).run == 2
            assert [event.seq for event in await engine.get_events(failed)] == [1, 2, 3, 4]
            outcomes.add("kept")
        await engine.prune(older_than_s=0)
        await engine.sweep()
    assert outcomes == {"retried", "removed", "kept"}
    assert world.log.events("error") == []


async def minutes(clock: ManualClock, holds: Callable[[], Any]) -> int:
    """Let minutes go by until it holds; how many. A pass takes real time, in which the test's clock goes on."""
    gone = 0

    async def moved() -> Any:
        nonlocal gone
        gone += 1
        await clock.advance(60)
        found = holds()
        return await found if asyncio.iscoroutine(found) else found

    await eventually(moved)
    return gone


async def test_it_comes_by_itself_a_minute_after_the_start_and_then_every_ten(world: World) -> None:
    engine, clock = await started(world, retention={"success": 0})
    first = await finished(engine, GOOD)
    await clock.advance(59)
    assert (await engine.get_instance(first.id)).status == "Success"

    async def all_gone() -> bool:
        return not await ids(engine) and not await engine.store.removed()

    await minutes(clock, all_gone)
    second = await finished(engine, GOOD)
    assert await minutes(clock, all_gone) >= 9
    for gone in (first, second):
        with pytest.raises(NotFound):
            await engine.get_instance(gone.id)


async def test_what_an_earlier_life_left_is_swept_up(sqlite_world: World) -> None:
    world = sqlite_world
    engine, clock = await started(world)
    for _ in range(3):
        await finished(engine, GOOD)
    await clock.advance(10)
    engine._staff.pruner.sweep_soon = lambda: None  # type: ignore[union-attr,method-assign]
    await engine.prune(older_than_s=0)
    await engine.stop()
    assert rows_of(world) == {"removed": 3, "tasks": 3, "events": 6, "logs": 3}
    engine, clock = await started(world)
    await clock.advance(61)
    await in_time(clock, lambda: rows_of(world) == {})


async def test_rows_of_no_table_are_left(sqlite_world: World) -> None:
    engine, clock = await started(sqlite_world)
    instance = await finished(engine, BAD)
    await engine.retry_instance(instance.id, command_id="once more")
    await engine.wait_for_instance(instance.id, LIMIT_S)
    await finished(engine, GOOD)
    await clock.advance(10)
    before = rows_of(sqlite_world)
    assert {"instances", "tasks", "attempts", "events", "commands", "logs"} <= set(before)
    await pruned(engine, older_than_s=0)
    assert rows_of(sqlite_world) == {}


def rows_of(world: World) -> dict[str, int]:
    """How many there are in each table that has any, of those that belong to instances."""
    with sqlite3.connect(world.dsn) as db:
        tables = ("instances", "removed", "tasks", "attempts", "events", "commands", "logs")
        found = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
    db.close()
    return {table: count for table, count in found.items() if count}


async def test_a_store_that_is_away_is_asked_again_by_the_next_pass(world: World) -> None:
    engine, clock = await started(world, retention={"success": 60})
    await finished(engine, GOOD)
    honest: Callable[..., Any] = engine.store.aged

    async def away(*asked: Any, **more: Any) -> Any:
        raise Unavailable("just now")

    engine.store.aged = away  # type: ignore[method-assign]
    await clock.advance(61)
    await in_time(clock, lambda: "retention.pass_failed" in world.log.events("warning"))
    engine.store.aged = honest  # type: ignore[method-assign]
    await clock.advance(600)
    await in_time(clock, lambda: world.metrics.counted["retention.removed"] == 1)


async def test_a_stop_in_the_middle_is_quiet(world: World) -> None:
    engine, clock = await started(world, retention={"success": 60})
    for _ in range(5):
        await finished(engine, GOOD)
    await clock.advance(61)
    await engine.stop()
    assert world.log.lines == []
