"""The process is killed while it removes instances: each is wholly there or gone, the next life ends the work."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from taskengine.engine.builder import EngineBuilder
from taskengine.functions import TaskContext
from taskengine.model.definition import RetryPolicy, TaskSpec, WorkflowDefinition
from taskengine.model.ids import WorkflowId

ROOT = Path(__file__).parents[2]
LIFE = Path(__file__).with_name("pruning_life.py")
LIMIT_S = 60
OLD, KEPT = 350, 20
POINTS = ("commit.begin", "commit.applied", "commit.done", "commit.acknowledged")
TABLES = ("tasks", "attempts", "events", "commands", "logs")

Rows = dict[str, list[tuple[object, ...]]]


async def speak(ctx: TaskContext) -> str:
    ctx.log.info("一行")
    if ctx.attempt == 1:
        raise ConnectionError("once")
    return "好"


def _workflow(name: str, *tasks: TaskSpec) -> WorkflowDefinition:
    return WorkflowDefinition(id=WorkflowId(name), tasks=tasks)


async def _fill(database: Path) -> None:
    """Old ones that have ended, kept ones of another workflow, and old ones that have not ended."""
    policy = RetryPolicy(count=1, interval_us=1)  # type: ignore[arg-type]
    tasks = (TaskSpec(name="说", job="speak", retry=policy), TaskSpec(name="后", job="noop", depends_on=("说",)))
    asleep = TaskSpec(name="睡", job="sleep", params={"duration": 86_400})
    async with EngineBuilder().with_store(database).with_job_func("speak", speak).build() as engine:
        started = [await engine.execute_workflow(_workflow("旧", *tasks)) for _ in range(OLD)]
        started += [await engine.execute_workflow(_workflow("新", *tasks)) for _ in range(KEPT)]
        for instance in started:
            assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
        for _ in range(KEPT):
            await engine.pause_instance(await engine.execute_workflow(_workflow("旧", asleep)))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = tmp_path_factory.mktemp("filled") / "库.db"
    asyncio.run(_fill(database))
    return database


def _rows(database: Path) -> tuple[Rows, Rows, set[str]]:
    """By instance: its own row, and all others. And who is noted as removed."""
    own: Rows = defaultdict(list)
    others: Rows = defaultdict(list)
    with sqlite3.connect(database) as db:
        for row in db.execute("SELECT * FROM instances"):
            own[row[0]].append(row)
        for table in TABLES:
            for row in db.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3"):
                others[row[0]].append((table, *row))
        noted = {instance for (instance,) in db.execute("SELECT instance_id FROM removed")}
    db.close()
    return own, others, noted


def _live(database: Path, kill: str = "") -> int:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-W", "error", str(LIFE), str(database), *([kill] if kill else [])]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def _judge(before: tuple[Rows, Rows, set[str]], after: tuple[Rows, Rows, set[str]], going: set[str]) -> int:
    """How many are gone. None is there in part, and what stays is what it was."""
    for instance, row in before[0].items():
        if instance in after[0]:
            assert after[0][instance] == row
            assert after[1][instance] == before[1][instance]
            assert instance not in after[2]
        else:
            assert instance in going
            assert instance in after[2] or instance not in after[1]
    return len(before[0]) - len(after[0])


def _kill_and_go_on(filled: Path, folder: Path, kills: Sequence[str]) -> int:
    database = folder / "库.db"
    shutil.copy(filled, database)
    before = _rows(database)
    going = {instance for instance, (row,) in before[0].items() if row[1] == "旧" and "Success" in row}
    assert len(going) == OLD
    gone = 0
    for kill in kills:
        assert _live(database, kill) == -signal.SIGKILL, f"{kill} was not reached"
        found = _judge(before, _rows(database), going)
        assert found >= gone
        gone = found
    assert _live(database) == 0
    after = _rows(database)
    assert _judge(before, after, going) == OLD
    assert after[2] == set()
    assert set(after[1]) == set(before[1]) - going
    return gone


@pytest.mark.parametrize(("point", "times"), [("commit.applied", 3), ("commit.done", 2), ("commit.applied", 12)])
def test_a_kill_leaves_no_instance_in_part(filled: Path, tmp_path: Path, point: str, times: int) -> None:
    gone = _kill_and_go_on(filled, tmp_path, [f"{point}:{times}"])
    assert 0 < gone <= OLD


def test_one_kill_after_the_other_leaves_no_instance_in_part(filled: Path, tmp_path: Path) -> None:
    _kill_and_go_on(
        filled, tmp_path, ["commit.applied:1", "commit.done:1", "commit.acknowledged:2", "commit.applied:4"]
    )


@pytest.mark.torture
@pytest.mark.parametrize("times", range(1, 16))
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_commit_leaves_no_instance_in_part(filled: Path, tmp_path: Path, point: str, times: int) -> None:
    _kill_and_go_on(filled, tmp_path, [f"{point}:{times}"])
