"""`ctx.sleep`: a durable wait inside a body, which after a crash goes on with the rest."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from engine.test_attempts import copied
from engine.worlds import LIMIT_S, World, eventually, finished, flow, until_task

from taskengine import Engine, SyncTaskContext, TaskContext
from taskengine.clock import ManualClock, Micros
from taskengine.model.definition import RetryPolicy, TaskSpec
from taskengine.model.ids import InstanceId


async def in_seconds(clock: ManualClock, holds: Callable[[], bool]) -> None:
    """As `in_time`, in larger steps."""

    async def moved() -> bool:
        await clock.advance(0.5)
        return holds()

    await eventually(moved)


async def slept(engine: Engine, instance: str, times: int) -> None:
    """When so many sleeps end is committed."""

    async def holds() -> bool:
        kinds = [row.kind for row in await engine.store.commands(InstanceId(instance))]
        return kinds.count("nap") == times

    await eventually(holds, "never slept so often")


async def test_a_body_sleeps_on_the_clock_of_the_engine(world: World) -> None:
    clock = world.manual()
    woke: list[int] = []

    async def naps(ctx: TaskContext) -> str:
        begun_us = ctx.clock.now_us()
        for span in (60, "1m", timedelta(minutes=1)):
            await ctx.sleep(span)
            woke.append(round((ctx.clock.now_us() - begun_us) / 1_000_000))
        return "wach"

    engine = await world.start({"naps": naps})
    instance = await engine.execute_workflow(flow(TaskSpec(name="睡", job="naps")))
    for minute in (1, 2, 3):
        await slept(engine, instance, minute)
        await clock.advance(55)
        assert len(woke) < minute
        await in_seconds(clock, lambda minute=minute: len(woke) == minute)  # type: ignore[misc]  # a default binds it
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert await engine.result(instance) == {"睡": "wach"}


def a_moment(ctx: SyncTaskContext) -> str:
    """In a thread, and in a worker process."""
    begun_s = time.monotonic()
    ctx.sleep("50ms")
    ctx.sleep(0)
    return "kurz" if time.monotonic() - begun_s < 0.05 else "genug"


@pytest.mark.parametrize("executor", ["thread", "process"])
async def test_a_body_elsewhere_sleeps_too(world: World, executor: Any) -> None:
    engine = await world.start({"a_moment": a_moment})
    done = await finished(engine, flow(TaskSpec(name="睡", job="a_moment", executor=executor)))
    assert (done.status, await engine.result(done.id)) == ("Success", {"睡": "genug"})


async def test_after_a_crash_a_body_sleeps_only_for_the_rest(sqlite_world: World) -> None:
    """What a kill leaves behind is here a copy of the file; see tests/crash for the real thing."""
    clock = sqlite_world.manual()

    def naps(waited: list[float]) -> Callable[..., Any]:
        async def body(ctx: TaskContext) -> None:
            for span in (0, 100, 50):
                begun_us = ctx.clock.now_us()
                await ctx.sleep(span)
                waited.append((ctx.clock.now_us() - begun_us) / 1_000_000)

        return body

    before: list[float] = []
    after: list[float] = []
    first = await sqlite_world.start({"naps": naps(before)})
    instance = await first.execute_workflow(flow(TaskSpec(name="睡", job="naps")))
    await slept(first, instance, 1)
    await in_seconds(clock, lambda: len(before) == 1)
    await slept(first, instance, 2)
    await clock.advance(70)
    sqlite_world.dsn = copied(sqlite_world.dsn)
    second = await sqlite_world.start({"naps": naps(after)})
    await in_seconds(clock, lambda: len(after) == 2)
    assert after[0] == pytest.approx(0, abs=2)
    assert after[1] == pytest.approx(30, abs=8), "and not 100"
    await slept(second, instance, 3)
    await in_seconds(clock, lambda: len(after) == 3)
    assert after[2] == pytest.approx(50, abs=2)
    assert (await second.wait_for_instance(instance, LIMIT_S)).status == "Success"


async def test_an_interruption_goes_on_with_the_rest_and_a_failure_sleeps_anew(world: World) -> None:
    clock = world.manual()
    begun: list[int] = []
    woke: list[int] = []

    async def naps(ctx: TaskContext) -> None:
        begun.append(ctx.attempt)
        await ctx.sleep(100)
        woke.append(round(ctx.clock.now_us() / 1_000_000))
        if len(woke) == 1:
            raise ConnectionError("once")

    engine = await world.start({"naps": naps})
    start_s = round(clock.now_us() / 1_000_000)
    spec = TaskSpec(name="睡", job="naps", retry=RetryPolicy(count=1, interval_us=Micros(0)))
    instance = await engine.execute_workflow(flow(spec))
    await slept(engine, instance, 1)
    await clock.advance(60)
    await engine.pause_instance(instance, now=True)
    await until_task(engine, instance, "睡", "Pending")
    await engine.resume_instance(instance)
    await eventually(lambda: len(begun) == 2)
    await clock.advance(35)
    assert not woke
    await in_seconds(clock, lambda: len(begun) == 3)
    await slept(engine, instance, 2)
    assert woke[0] - start_s == pytest.approx(100, abs=4)
    await clock.advance(90)
    assert len(woke) == 1, "the next try has slept for 90 s of 100"
    await in_seconds(clock, lambda: len(woke) == 2)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"


@pytest.mark.parametrize("executor", ["async", "thread"])
async def test_a_cancel_and_a_timeout_end_a_sleep_at_once(world: World, executor: Any) -> None:
    entered = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def on_the_loop(ctx: TaskContext) -> None:
        entered.set()
        await ctx.sleep("1h")

    def in_a_thread(ctx: SyncTaskContext) -> None:
        loop.call_soon_threadsafe(entered.set)
        ctx.sleep("1h")

    engine = await world.start({"naps": on_the_loop if executor == "async" else in_a_thread})
    instance = await engine.execute_workflow(flow(TaskSpec(name="睡", job="naps", executor=executor)))
    await entered.wait()
    begun_s = time.monotonic()
    await engine.cancel_instance(instance)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Cancelled"
    timed = await finished(engine, flow(TaskSpec(name="睡", job="naps", executor=executor, timeout_us=Micros(100_000))))
    assert timed.status == "Failed"
    assert (await engine.get_task(timed.id, "睡")).status == "TimedOut"
    assert time.monotonic() - begun_s < 5


@pytest.mark.parametrize("span", [-1, float("nan"), "bald", None, True])
async def test_what_is_no_span_is_refused(world: World, span: Any) -> None:
    async def naps(ctx: TaskContext) -> None:
        await ctx.sleep(span)

    engine = await world.start({"naps": naps})
    done = await finished(engine, flow(TaskSpec(name="睡", job="naps")))
    error = (await engine.get_task(done.id, "睡")).error
    assert error is not None
    assert error.message.startswith("ctx.sleep: ")


async def test_too_many_sleeps_are_refused(world: World) -> None:
    async def naps(ctx: TaskContext) -> None:
        for _ in range(2_000):
            await ctx.sleep(0)

    engine = await world.start({"naps": naps})
    done = await finished(engine, flow(TaskSpec(name="睡", job="naps")))
    assert done.status == "Failed"
    assert "more than 1,000 sleeps in one attempt" in done.error
