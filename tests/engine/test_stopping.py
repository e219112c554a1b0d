"""The orderly end: nothing new starts, what runs is interrupted and recorded, the next start goes on."""

import asyncio
import contextlib
import threading
import time

import pytest
from engine.worlds import LIMIT_S, World, eventually, flow, states, until_task

from taskengine import SyncTaskContext
from taskengine.clock import Micros
from taskengine.errors import Unavailable
from taskengine.model.definition import TaskSpec
from taskengine.store.sqlite import SqliteStore


class Long:
    """Runs until it is interrupted the first time, and ends at once after that."""

    def __init__(self) -> None:
        self.entered: list[str] = []

    async def run(self) -> int:
        self.entered.append("now")
        if len(self.entered) == 1:
            await asyncio.Event().wait()
        return len(self.entered)


async def test_a_stop_records_what_it_interrupted_and_the_next_start_goes_on(sqlite_world: World) -> None:
    long = Long()
    first = await sqlite_world.start({"long": long.run}, workers=1)
    instance = await first.execute_workflow(flow(TaskSpec(name="a", job="long"), TaskSpec(name="b", job="long")))
    await eventually(lambda: long.entered)
    await first.stop()
    second = await sqlite_world.start({"long": long.run}, workers=1)
    assert (await second.wait_for_instance(instance, LIMIT_S)).status == "Success"
    attempts = await second.get_attempts(instance)
    assert [(view.task, view.outcome.value) for view in attempts] == [("a", "interrupted")]
    assert [(task.name, task.tries) for task in await second.get_tasks(instance)] == [("a", 0), ("b", 0)]


async def test_a_body_that_must_run_at_most_once_is_not_repeated_after_a_stop(sqlite_world: World) -> None:
    long = Long()
    first = await sqlite_world.start({"long": long.run})
    instance = await first.execute_workflow(flow(TaskSpec(name="t", job="long", at_most_once=True)))
    await eventually(lambda: long.entered)
    await first.stop()
    second = await sqlite_world.start({"long": long.run})
    assert (await second.wait_for_instance(instance, LIMIT_S)).status == "Failed"
    (task,) = await second.get_tasks(instance)
    assert task.error is not None
    assert task.error.type == "lost"
    assert len(long.entered) == 1


async def test_a_body_that_is_granted_during_a_stop_is_not_failed(
    sqlite_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its Running row has to be committed before it may begin, and when that has happened nobody takes bodies."""
    entered: list[int] = []

    async def once() -> None:
        entered.append(1)

    engine = await sqlite_world.start({"once": once})
    commit, slow, waits = SqliteStore.commit, asyncio.Event(), asyncio.Event()

    async def late(self: SqliteStore, batch: object) -> None:
        if any(change.row.state == "Running" for _, change in batch.tasks):  # type: ignore[attr-defined]
            waits.set()
            await slow.wait()
        await commit(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteStore, "commit", late)
    instance = await engine.execute_workflow(flow(TaskSpec(name="t", job="once", at_most_once=True)))
    await asyncio.wait_for(waits.wait(), LIMIT_S)
    stopping = asyncio.ensure_future(engine.stop())
    for _ in range(50):
        await asyncio.sleep(0)
    slow.set()
    await asyncio.wait_for(stopping, LIMIT_S)
    monkeypatch.undo()
    again = await sqlite_world.start({"once": once})
    view = await again.wait_for_instance(instance, LIMIT_S)
    (task,) = await again.get_tasks(instance)
    assert (view.status, len(entered)) in (("Success", 1), ("Failed", 0)), "begun at most once"
    assert task.error is None or task.error.type == "lost", "never blamed on the job"


async def test_a_stop_waits_for_threads_as_long_as_it_was_told(sqlite_world: World) -> None:
    may_end, entered = threading.Event(), threading.Event()

    def deaf(ctx: SyncTaskContext) -> None:
        entered.set()
        may_end.wait(LIMIT_S)

    engine = await sqlite_world.start({"deaf": deaf}, grace=0.01)
    instance = await engine.execute_workflow(flow(TaskSpec(name="t", job="deaf")))
    await eventually(entered.is_set)
    await asyncio.wait_for(engine.stop(grace_s=0.1), LIMIT_S)
    may_end.set()
    again = await sqlite_world.start({"deaf": deaf})
    assert (await again.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert [view.outcome.value for view in await again.get_attempts(instance)] == ["interrupted"]
    assert [task.tries for task in await again.get_tasks(instance)] == [0]


async def test_a_timeout_that_a_stop_cuts_short_still_counts(sqlite_world: World) -> None:
    may_end, heard, entered = threading.Event(), threading.Event(), list[int]()

    def deaf(ctx: SyncTaskContext) -> None:
        entered.append(ctx.attempt)
        while not ctx.cancelled:
            time.sleep(0.01)  # the context has nothing to wait for
        heard.set()
        may_end.wait(LIMIT_S)

    engine = await sqlite_world.start({"deaf": deaf})
    spec = TaskSpec(name="t", job="deaf", timeout_us=Micros(20_000))
    instance = await engine.execute_workflow(flow(spec))
    await eventually(heard.is_set)
    await asyncio.wait_for(engine.stop(grace_s=0.1), LIMIT_S)
    may_end.set()
    again = await sqlite_world.start({"deaf": deaf})
    assert (await again.wait_for_instance(instance, LIMIT_S)).status == "Failed"
    assert (await states(again, instance), entered) == ({"t": "TimedOut"}, [1])


async def test_a_stop_does_not_wait_for_a_coroutine_that_swallows_its_cancellation(sqlite_world: World) -> None:
    may_end, entered = asyncio.Event(), asyncio.Event()

    async def deaf() -> None:
        entered.set()
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()

    engine = await sqlite_world.start({"deaf": deaf})
    instance = await engine.execute_workflow(flow(TaskSpec(name="t", job="deaf")))
    await asyncio.wait_for(entered.wait(), LIMIT_S)
    await asyncio.wait_for(engine.stop(grace_s=0.1), LIMIT_S)
    may_end.set()
    again = await sqlite_world.start({"deaf": deaf})
    assert (await again.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert [view.outcome.value for view in await again.get_attempts(instance)] == ["interrupted"]


async def test_a_stopped_engine_says_so(world: World) -> None:
    engine = await world.start()
    await engine.stop()
    await engine.stop()
    with pytest.raises(Unavailable):
        await engine.execute_workflow(flow(TaskSpec(name="t", job="noop")))


async def test_an_offer_that_was_never_granted_starts_after_the_restart(sqlite_world: World) -> None:
    long = Long()
    first = await sqlite_world.start({"long": long.run}, workers=1)
    instance = await first.execute_workflow(flow(*(TaskSpec(name=f"t{n}", job="long") for n in range(5))))
    await until_task(first, instance, "t4", "Ready")
    await first.stop()
    second = await sqlite_world.start({"long": long.run}, workers=1)
    assert (await second.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert set((await states(second, instance)).values()) == {"Success"}
