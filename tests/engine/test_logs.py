"""What tasks say: where it is kept, in which order, how much of it, and what is left out."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, eventually, finished, flow

from taskengine.bus import LogFrame
from taskengine.engine import logbook
from taskengine.engine.engine import Engine
from taskengine.errors import NotFound, StoreUnavailable
from taskengine.functions import SyncTaskContext, TaskContext
from taskengine.model.definition import RetryPolicy, TaskSpec

JOB_FILE = """
import logging
import threading
from taskengine import SyncTaskContext, job

logger = logging.getLogger("行情.下载")

@job(executor="process")
def told(ctx: SyncTaskContext) -> None:
    logger.info("读取 %d 行", 5)
    logger.debug("not asked for")
    try:
        raise ValueError("坏行")
    except ValueError:
        logger.exception("no good")

@job(executor="process")
def chatty(ctx: SyncTaskContext) -> None:
    for n in range(100):
        ctx.log.info("%d", n)
"""


@contextlib.contextmanager
def unconfigured() -> Iterator[None]:
    """The root logger as a program finds it that does nothing about logging.

    To be entered inside of a test: pytest puts handlers there after the fixtures.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def said(rows: Any) -> list[tuple[str, str]]:
    return [(row.level, row.message) for row in rows]


async def logs_of(engine: Engine, instance_id: str, count: int, **asked: Any) -> list[Any]:
    """All lines, once so many are stored."""

    async def there() -> list[Any]:
        rows = await engine.get_logs(instance_id, **asked)
        return rows if len(rows) >= count else []

    found: list[Any] = await eventually(there, f"never {count} lines")
    return found


async def test_lines_of_async_and_thread_jobs_are_stored_before_the_end_is_told(world: World) -> None:
    async def first(ctx: TaskContext) -> None:
        ctx.log.info("读取 %d 行", 5)
        ctx.log.error("坏", row=3)

    def second(ctx: SyncTaskContext) -> None:
        ctx.log.debug("d")
        ctx.log.warning("w")

    engine = await world.start({"first": first, "second": second})
    view = await finished(
        engine, flow(TaskSpec(name="一", job="first"), TaskSpec(name="二", job="second", depends_on=("一",)))
    )
    rows = await engine.get_logs(view.id)
    assert said(rows) == [("info", "读取 5 行"), ("error", "坏 row=3"), ("debug", "d"), ("warning", "w")]
    assert [row.id for row in rows] == [1, 2, 3, 4]
    assert [(row.task, row.attempt) for row in rows] == [("一", 1), ("一", 1), ("二", 1), ("二", 1)]
    assert said(await engine.get_logs(view.id, task="二", tail=1)) == [("warning", "w")]
    assert said(await engine.get_logs(view.id, after=3)) == [("warning", "w")]
    assert world.metrics.counted["logs.lines"] == 4


async def test_lines_are_told_to_listeners_with_the_ids_they_are_stored_under(world: World) -> None:
    async def speak(ctx: TaskContext) -> None:
        ctx.log.info("你好")

    engine = await world.start({"speak": speak})
    with engine.bus.subscribe(lambda frame: isinstance(frame, LogFrame)) as frames:
        view = await finished(engine, flow(TaskSpec(name="t", job="speak")))
        (frame,) = frames.drain()
    (row,) = await engine.get_logs(view.id)
    assert isinstance(frame, LogFrame)
    assert (frame.instance_id, frame.workflow_id, frame.id) == (view.id, "流程", row.id)
    assert (frame.task, frame.attempt, frame.level, frame.message) == ("t", 1, "info", "你好")
    assert frame.at_us == row.at_us


async def test_ids_go_on_after_a_restart(sqlite_world: World) -> None:
    gate = asyncio.Event()

    async def speak(ctx: TaskContext) -> None:
        ctx.log.info("attempt %d", ctx.attempt)
        await gate.wait()

    first = await sqlite_world.start({"speak": speak})
    instance = await first.execute_workflow(flow(TaskSpec(name="t", job="speak")))
    await logs_of(first, instance, 1)
    await first.stop()
    gate.set()
    second = await sqlite_world.start({"speak": speak})
    await second.wait_for_instance(instance, LIMIT_S)
    rows = await logs_of(second, instance, 2)
    assert [row.id for row in rows] == [1, 2]
    assert rows[0].attempt < rows[1].attempt


async def test_ids_go_on_when_an_instance_has_left_memory_and_come_back(world: World) -> None:
    async def speak(ctx: TaskContext) -> None:
        ctx.log.info("run %s", ctx.run_id[-1])

    engine = await world.start({"speak": speak})
    view = await finished(engine, flow(TaskSpec(name="t", job="speak")))
    await engine.retry_instance(view.id, only_task="t")
    await eventually(lambda: _runs(engine, view.id, 2))
    rows = await logs_of(engine, view.id, 2)
    assert [(row.id, row.message, row.attempt) for row in rows] == [(1, "run 1", 1), (2, "run 2", 2)]


async def _runs(engine: Engine, instance_id: str, run: int) -> bool:
    view = await engine.get_instance(instance_id)
    return view.run == run and view.status == "Success"


async def test_nothing_is_lost_at_a_stop(sqlite_world: World) -> None:
    told, gate = asyncio.Event(), asyncio.Event()

    async def speak(ctx: TaskContext) -> None:
        ctx.log.info("just before the stop")
        told.set()
        await gate.wait()

    engine = await sqlite_world.start({"speak": speak})
    instance = await engine.execute_workflow(flow(TaskSpec(name="t", job="speak")))
    await asyncio.wait_for(told.wait(), LIMIT_S)
    await engine.stop()
    gate.set()
    again = await sqlite_world.start({"speak": speak}, recovery=False)
    assert said(await again.get_logs(instance)) == [("info", "just before the stop")]


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_an_attempt_may_say_so_much_and_then_one_line_says_how_much_more_there_was(
    world: World, kind: str
) -> None:
    async def on_loop(ctx: TaskContext) -> None:
        for n in range(50):
            ctx.log.info("%d", n)

    def in_thread(ctx: SyncTaskContext) -> None:
        for n in range(50):
            ctx.log.info("%d", n)

    engine = await world.start({"job": on_loop if kind == "async" else in_thread}, log_cap=10)
    view = await finished(engine, flow(TaskSpec(name="t", job="job")))
    rows = await engine.get_logs(view.id)
    assert said(rows)[:10] == [("info", str(n)) for n in range(10)]
    assert [row.level for row in rows[10:]] == ["warning"]
    assert rows[10].message.startswith("40 further lines were not kept")


async def test_each_attempt_has_a_cap_of_its_own(world: World) -> None:
    async def speak(ctx: TaskContext) -> None:
        for n in range(3):
            ctx.log.info("%d", n)
        if ctx.attempt == 1:
            raise ValueError("again")

    engine = await world.start({"speak": speak}, log_cap=3)
    policy = RetryPolicy(count=1, interval_us=1000)  # type: ignore[arg-type]
    view = await finished(engine, flow(TaskSpec(name="t", job="speak", retry=policy)))
    rows = await engine.get_logs(view.id)
    assert [(row.attempt, row.message) for row in rows] == [(a, str(n)) for a in (1, 2) for n in range(3)]


async def test_secrets_are_not_stored_and_not_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKENGINE_SECRET_BROKER", "s3cr3t-令牌")

    async def speak(ctx: TaskContext) -> None:
        ctx.log.info("token=s3cr3t-令牌!")
        ctx.set_progress(0.5, "with s3cr3t-令牌")

    engine = await world.start({"speak": speak})
    with engine.bus.subscribe(lambda frame: not hasattr(frame, "body")) as frames:
        view = await finished(engine, flow(TaskSpec(name="t", job="speak")))
        told = frames.drain()
    assert [frame.message for frame in told] == ["token=***!", "with ***"]  # type: ignore[union-attr]
    assert said(await engine.get_logs(view.id)) == [("info", "token=***!")]


async def test_standard_logging_inside_jobs_is_heard_and_outside_is_not(sqlite_world: World) -> None:
    logger = logging.getLogger("行情")

    async def on_loop() -> None:
        logger.info("on the loop %d", 1)
        logger.debug("too low")

    def in_thread() -> None:
        try:
            raise ValueError("坏行")
        except ValueError:
            logger.exception("in a thread")

    with unconfigured():
        engine = await sqlite_world.start({"on_loop": on_loop, "in_thread": in_thread})
        logger.info("of nobody")
        view = await finished(
            engine, flow(TaskSpec(name="一", job="on_loop"), TaskSpec(name="二", job="in_thread", depends_on=("一",)))
        )
        await engine.stop()
        assert (logging.getLogger().level, logging.getLogger().handlers) == (logging.WARNING, [])
        engine = await sqlite_world.start()
    first, second = await engine.get_logs(view.id)
    assert (first.task, first.level, first.message) == ("一", "info", "on the loop 1")
    assert (second.task, second.level) == ("二", "error")
    assert second.message.startswith("in a thread\nTraceback")
    assert second.message.endswith("ValueError: 坏行")


async def test_worker_processes_log_to_their_task_and_keep_their_cap(sqlite_world: World, tmp_path: Path) -> None:
    path = tmp_path / "工作进程任务.py"
    path.write_text(JOB_FILE)
    with unconfigured():
        engine = await sqlite_world.start(app=path, processes=1, log_cap=20)
        view = await finished(
            engine, flow(TaskSpec(name="一", job="told"), TaskSpec(name="二", job="chatty", depends_on=("一",)))
        )
    rows = await engine.get_logs(view.id)
    first = [row for row in rows if row.task == "一"]
    assert said(first)[0] == ("info", "读取 5 行")
    assert [row.level for row in first] == ["info", "error"]
    assert first[1].message.endswith("ValueError: 坏行")
    second = [row for row in rows if row.task == "二"]
    assert [row.message for row in second[:20]] == [str(n) for n in range(20)]
    assert [row.message[:16] for row in second[20:]] == ["80 further lines"]


async def test_a_command_is_heard_line_by_line_while_it_runs(sqlite_world: World, tmp_path: Path) -> None:
    go_on = tmp_path / "go"
    engine = await sqlite_world.start()
    script = f"echo 一; echo 二 >&2; while [ ! -e '{go_on}' ]; do sleep 0.01; done; printf '三\\377'"
    spec = TaskSpec(name="t", job="shell_command", params={"script": script})
    instance = await engine.execute_workflow(flow(spec))
    rows = await logs_of(engine, instance, 2)
    assert sorted(said(rows)) == [("stderr", "二"), ("stdout", "一")]
    go_on.touch()
    await engine.wait_for_instance(instance, LIMIT_S)
    assert said(await engine.get_logs(instance, after=2)) == [("stdout", "三\ufffd")]


async def test_a_store_that_stands_still_costs_lines_but_no_memory_and_that_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logbook, "MOST_LINES", 100)
    broken = False
    gate, spoken = asyncio.Event(), asyncio.Event()

    async def speak(ctx: TaskContext) -> None:
        await gate.wait()
        for n in range(1000):
            ctx.log.info("%d", n)
        spoken.set()

    engine = await world.start({"speak": speak})
    instance = await engine.execute_workflow(flow(TaskSpec(name="t", job="speak")))
    commit = engine.store.commit

    async def fails(batch: Any) -> None:
        if broken:
            raise StoreUnavailable("the disk is away")
        await commit(batch)

    monkeypatch.setattr(engine.store, "commit", fails)
    broken = True
    gate.set()
    await asyncio.wait_for(spoken.wait(), LIMIT_S)
    broken = False
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
    rows = await logs_of(engine, instance, 101)
    assert [row.message for row in rows[:100]] == [str(n) for n in range(100)]
    assert rows[100].message == "900 lines were dropped here: the store did not keep up"
    assert world.metrics.counted["logs.dropped{reason=backlog}"] == 900


async def test_a_late_thread_is_not_listened_to(world: World) -> None:
    told, late = threading.Event(), threading.Event()

    def stubborn(ctx: SyncTaskContext) -> None:
        ctx.log.info("in time")
        told.set()
        late.wait(LIMIT_S)
        ctx.log.info("too late")

    engine = await world.start({"stubborn": stubborn}, grace=0.01)
    instance = await engine.execute_workflow(flow(TaskSpec(name="t", job="stubborn")))
    await eventually(told.is_set)
    await engine.cancel_instance(instance)
    await engine.wait_for_instance(instance, LIMIT_S)
    late.set()
    await eventually(lambda: _idle(engine))
    assert said(await engine.get_logs(instance)) == [("info", "in time")]


async def _idle(engine: Engine) -> bool:
    return (await engine.status()).running == 0


async def test_logs_of_an_instance_that_is_not_there_are_refused(world: World) -> None:
    engine = await world.start()
    with pytest.raises(NotFound):
        await engine.get_logs("没有")
