"""What the builder is told, and that it really holds."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from engine.worlds import World, finished, flow

from taskengine.engine.builder import EngineBuilder
from taskengine.errors import InvalidConfiguration
from taskengine.functions import TaskContext, job
from taskengine.model.definition import RetryPolicy, TaskSpec

SOON = RetryPolicy(count=2, interval_us=1000)  # type: ignore[arg-type]


async def fail(ctx: TaskContext) -> None:
    raise ValueError("no")


async def never() -> None:
    await asyncio.Event().wait()


async def test_the_default_timeout_holds_where_definition_and_job_state_none(world: World) -> None:
    @job(timeout=0.03)
    async def own() -> None:
        await asyncio.Event().wait()

    engine = await world.start({"never": never, "own": own}, default_timeout=0.02)
    tasks = (
        TaskSpec(name="默认", job="never"),
        TaskSpec(name="函数", job="own"),
        TaskSpec(name="定义", job="never", timeout_us=40_000),  # type: ignore[arg-type]
    )
    view = await finished(engine, flow(*tasks, on_failure="continue"))
    said = {task.name: task.error.message for task in await engine.get_tasks(view.id) if task.error}
    assert {name: text.rpartition("timeout of ")[2] for name, text in said.items()} == {
        "默认": "0.02 s",
        "函数": "0.03 s",
        "定义": "0.04 s",
    }


async def test_the_default_retry_holds_where_definition_and_job_state_none(world: World) -> None:
    @job(retry=RetryPolicy(count=1, interval_us=1000))  # type: ignore[arg-type]
    async def own(ctx: TaskContext) -> None:
        raise ValueError("no")

    engine = await world.start({"bad": fail, "own": own}, default_retry=SOON)
    tasks = (
        TaskSpec(name="默认", job="bad"),
        TaskSpec(name="函数", job="own"),
        TaskSpec(name="定义", job="bad", retry=RetryPolicy(count=0)),
        TaskSpec(name="至多一次", job="bad", at_most_once=True),
    )
    view = await finished(engine, flow(*tasks, on_failure="continue"))
    tries = {task.name: task.tries for task in await engine.get_tasks(view.id)}
    assert tries == {"默认": 3, "函数": 2, "定义": 1, "至多一次": 1}


async def test_a_builtin_that_is_not_enabled_is_refused_and_its_error_names_the_line(world: World) -> None:
    engine = await world.start(builtin=["noop", "log"])
    assert [view.name for view in engine.functions()] == ["log", "noop"]
    assert "shell_command" not in engine.registry.names()
    spec = TaskSpec(name="t", job="shell_command", params={"script": "true"}, retry=SOON)
    view = await finished(engine, flow(spec))
    (task,) = await engine.get_tasks(view.id)
    assert (task.status, task.tries) == ("Failed", 1)
    assert task.error is not None
    assert "functions.builtin: [log, noop, shell_command]" in task.error.message


async def test_without_a_list_all_builtins_are_enabled(world: World) -> None:
    engine = await world.start(builtin=None)
    assert {view.name for view in engine.functions() if view.builtin} >= {"noop", "shell_command", "http_request"}


def test_a_builtin_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match="no built-in job 'nop'"):
        EngineBuilder().with_builtin(["nop"])


def test_own_function_may_have_the_name_of_a_builtin_that_is_off() -> None:
    builder = EngineBuilder().with_builtin([]).with_job_func("noop", fail)
    with pytest.raises(InvalidConfiguration, match="'noop' is the name of"):
        builder.with_builtin(None)


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("normal", 1)])
async def test_durability_and_readers_reach_the_store(
    sqlite_world: World, monkeypatch: pytest.MonkeyPatch, durability: str, synchronous: int
) -> None:
    opened: list[str] = []
    connect = sqlite3.connect

    def watched(path: str, *args: object, **options: object) -> sqlite3.Connection:
        opened.append(str(path))
        return connect(path, *args, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sqlite3, "connect", watched)
    engine = await sqlite_world.start(durability=durability, readers=5)
    writer = engine.store._writer  # type: ignore[attr-defined]  # the only place where it shows
    ((found,),) = await writer.run(lambda db: db.execute("PRAGMA synchronous").fetchall())
    assert found == synchronous
    assert len(engine.store._readers) == 5  # type: ignore[attr-defined]


def test_values_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for wrong in (
        lambda: EngineBuilder().with_default_timeout(0),
        lambda: EngineBuilder().with_default_timeout(-1),
        lambda: EngineBuilder().with_log_cap(-1),
        lambda: EngineBuilder().with_readers(0),
        lambda: EngineBuilder().with_durability("sometimes").build(),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidConfiguration):
            wrong()


async def test_a_cap_of_nothing_keeps_nothing_and_says_so(world: World) -> None:
    async def speak(ctx: TaskContext) -> None:
        ctx.log.info("x")

    engine = await world.start({"speak": speak}, log_cap=0)
    view = await finished(engine, flow(TaskSpec(name="t", job="speak")))
    (row,) = await engine.get_logs(view.id)
    assert row.message.startswith("1 further line")
