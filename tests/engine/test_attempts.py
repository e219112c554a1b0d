"""Attempts: retries and their delays, timeouts that really end a body, in every place where bodies run."""

import asyncio
import gc
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, eventually, finished, flow, live_actors, states, until_task

from taskengine import SyncTaskContext, TaskContext, job
from taskengine.clock import Micros
from taskengine.engine.task import TaskActor
from taskengine.errors import JobError, NonRetryable, RetryAfter
from taskengine.functions.calls import AsyncCall
from taskengine.model.definition import Executor, RetryPolicy, TaskSpec

S = 1_000_000


class Failing:
    """Fails so many times; notes when it was called on the test's clock."""

    def __init__(self, world: World, times: int, error: type[Exception] = ConnectionError) -> None:
        self.world, self.times, self.error = world, times, error
        self.called_s: list[float] = []

    async def run(self) -> str:
        self.called_s.append(self.world.clock.monotonic())
        if len(self.called_s) <= self.times:
            raise self.error("坏")
        return "好"


async def test_delays_grow_by_the_backoff_up_to_the_longest(world: World) -> None:
    clock, failing = world.manual(), Failing(world, 4)
    engine = await world.start({"failing": failing.run})
    policy = RetryPolicy(count=4, interval_us=Micros(10 * S), backoff=2.0, max_interval_us=Micros(30 * S))
    instance = await engine.execute_workflow(flow(TaskSpec(name="t", job="failing", retry=policy)))
    for attempt, delay in enumerate([10, 20, 30, 30], start=1):
        await until_task(engine, instance, "t", "Retrying")
        await clock.advance(delay - 0.5)
        assert len(failing.called_s) == attempt, "too early"
        await clock.advance(1)
        await eventually(lambda wanted=attempt + 1: len(failing.called_s) == wanted)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
    (task,) = await engine.get_tasks(instance)
    assert (task.attempt, task.tries, task.result) == (5, 4, "好")
    assert [view.outcome.value for view in await engine.get_attempts(instance)] == ["fail"] * 4


async def test_no_more_attempts_than_the_policy_allows(world: World) -> None:
    failing = Failing(world, 99)
    engine = await world.start({"failing": failing.run})
    policy = RetryPolicy(count=2, interval_us=Micros(0))
    view = await finished(engine, flow(TaskSpec(name="t", job="failing", retry=policy)))
    (task,) = await engine.get_tasks(view.id)
    assert (view.status, len(failing.called_s)) == ("Failed", 3)
    assert task.error is not None
    assert (task.error.type, task.error.message) == ("ConnectionError", "坏")


@pytest.mark.parametrize(
    ("error", "on", "calls"),
    [
        (NonRetryable, (), 1),
        (KeyError, ("LookupError",), 3),
        (ValueError, ("LookupError",), 1),
    ],
)
async def test_only_failures_that_the_policy_names_are_repeated(
    world: World, error: type[Exception], on: tuple[str, ...], calls: int
) -> None:
    failing = Failing(world, 99, error)
    engine = await world.start({"failing": failing.run})
    policy = RetryPolicy(count=2, interval_us=Micros(0), on=on)
    await finished(engine, flow(TaskSpec(name="t", job="failing", retry=policy)))
    assert len(failing.called_s) == calls


async def test_a_job_may_ask_for_its_own_delay(world: World) -> None:
    clock, calls = world.manual(), []

    async def busy() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RetryAfter(90, "忙")

    engine = await world.start({"busy": busy})
    policy = RetryPolicy(count=1, interval_us=Micros(1 * S))
    instance = await engine.execute_workflow(flow(TaskSpec(name="t", job="busy", retry=policy)))
    await until_task(engine, instance, "t", "Retrying")
    await clock.advance(89)
    assert len(calls) == 1
    await clock.advance(2)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"


async def test_a_timeout_cancels_a_body_on_the_loop(world: World) -> None:
    clock, ends = world.manual(), []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("out")

    engine = await world.start({"slow": slow})
    instance = await engine.execute_workflow(flow(TaskSpec(name="t", job="slow", timeout_us=Micros(30 * S))))
    await eventually(lambda: any(name.startswith("TaskActor") for name in live_actors(engine)))
    await clock.advance(29)
    assert ends == []
    await clock.advance(2)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Failed"
    (task,) = await engine.get_tasks(instance)
    assert (task.status, ends) == ("TimedOut", ["out"])
    assert task.error is not None
    assert task.error.type == "TimeoutError"


async def test_a_timeout_tells_a_thread(world: World) -> None:
    seen = threading.Event()

    def slow(ctx: SyncTaskContext) -> str:
        give_up_s = time.monotonic() + LIMIT_S
        while not ctx.cancelled and time.monotonic() < give_up_s:
            time.sleep(0.001)  # what a polite job in a thread does
        seen.set()
        return "too late"

    engine = await world.start({"slow": slow})
    view = await finished(engine, flow(TaskSpec(name="t", job="slow", timeout_us=Micros(20_000))))
    assert seen.is_set()
    assert await states(engine, view.id) == {"t": "TimedOut"}


@job("记-pid", executor="process")
def forever(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(1)  # until it is killed


async def test_a_timeout_kills_a_worker_process(world: World, tmp_path: Path) -> None:
    engine = await world.start({"记-pid": forever}, processes=1, grace=0.1)
    path = tmp_path / "pid"
    task = TaskSpec(name="t", job="记-pid", params={"path": str(path)}, timeout_us=Micros(3 * S))
    instance = await engine.execute_workflow(flow(task))
    await eventually(lambda: path.exists() and path.read_text())
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Failed"
    assert await states(engine, instance) == {"t": "TimedOut"}
    pid = int(path.read_text())
    await eventually(lambda: not Path(f"/proc/{pid}").exists() or not _alive(pid))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@job("算", executor="process")
def squared(number: int) -> dict[str, int]:
    return {"square": number * number, "pid": os.getpid()}


async def test_a_process_job_runs_in_another_process(world: World) -> None:
    engine = await world.start({"算": squared}, processes=1)
    view = await finished(engine, flow(TaskSpec(name="t", job="算", params={"number": 12})))
    result = (await engine.result(view.id))["t"]
    assert result["square"] == 144
    assert result["pid"] != os.getpid()


async def test_a_task_may_choose_its_executor(world: World) -> None:
    async def where(ctx: TaskContext) -> str:
        return threading.current_thread().name

    engine = await world.start({"where": where})
    view = await finished(
        engine,
        flow(TaskSpec(name="loop", job="where"), TaskSpec(name="thread", job="where", executor=Executor.THREAD)),
    )
    result = await engine.result(view.id)
    assert result["loop"] == threading.current_thread().name
    assert result["thread"].startswith("job-")


def copied(database: str) -> str:
    """The file and its log as a kill would leave them now."""
    for end in ("", "-wal"):
        source = Path(database + end)
        if source.exists():
            Path(database + ".copy" + end).write_bytes(source.read_bytes())
    return database + ".copy"


async def test_an_attempt_that_was_found_running_is_lost_and_repeated_or_not(sqlite_world: World) -> None:
    """What a kill leaves behind is here a copy of the file; see tests/crash for the real thing."""
    gate, entered = asyncio.Event(), []

    async def run(ctx: TaskContext) -> None:
        entered.append((ctx.task_name, ctx.attempt))
        if len(entered) <= 2:
            await gate.wait()

    first = await sqlite_world.start({"run": run})
    workflow = flow(TaskSpec(name="again", job="run"), TaskSpec(name="once", job="run", at_most_once=True))
    instance = await first.execute_workflow(workflow)
    await until_task(first, instance, "again", "Running")
    await until_task(first, instance, "once", "Running")
    sqlite_world.dsn = copied(sqlite_world.dsn)
    second = await sqlite_world.start({"run": run})
    assert (await second.wait_for_instance(instance, LIMIT_S)).status == "Failed"
    assert await states(second, instance) == {"again": "Success", "once": "Failed"}
    assert entered[2:] == [("again", 2)]
    assert [view.outcome.value for view in await second.get_attempts(instance)] == ["lost"]
    gate.set()


async def test_nothing_is_sent_to_the_dead_in_normal_operation(world: World) -> None:
    failing = Failing(world, 3)
    engine = await world.start({"failing": failing.run}, workers=3)
    policy = RetryPolicy(count=3, interval_us=Micros(0))
    tasks = [TaskSpec(name=f"t{n}", job="failing", retry=policy) for n in range(30)]
    await finished(engine, flow(*tasks, TaskSpec(name="末", job="sleep", params={"duration": 0.01})))
    cancelled = await engine.execute_workflow(flow(TaskSpec(name="睡", job="sleep", params={"duration": 60})))
    await engine.cancel_instance(cancelled)
    await engine.wait_for_instance(cancelled, LIMIT_S)
    await engine.stop()
    assert world.metrics.counted["actors.dead_letters"] == 0
    assert world.log.lines == []


def test_the_errors_a_job_may_raise_are_job_errors() -> None:
    errors: list[Any] = [NonRetryable, RetryAfter]
    assert all(issubclass(error, JobError) for error in errors)


async def test_an_attempt_leaves_nothing_for_the_collector(world: World) -> None:
    """A circle for each attempt would bring the collector, and it looks at all that there is."""

    async def nothing() -> None: ...

    engine = await world.start({"nothing": nothing})
    gc.collect()
    gc.disable()
    try:
        done = await finished(engine, flow(*[TaskSpec(name=f"t{n}", job="nothing") for n in range(200)]))
        left = sum(isinstance(each, AsyncCall | TaskActor) for each in gc.get_objects())
    finally:
        gc.enable()
    assert done.status == "Success"
    assert left < 20, f"{left} of 200 attempts are still there"
