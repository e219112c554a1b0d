"""The views for people: the same columns and the same values in every database, and those of the API."""

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from databases.asking import ask, kind_of
from databases.filling import fill
from databases.fixtures import every_database

from taskengine.ambient import Ambient
from taskengine.api.shapes import instance_body, task_body
from taskengine.clock import ManualClock
from taskengine.definition import read_yaml
from taskengine.engine.builder import EngineBuilder
from taskengine.model.artifacts import ArtifactRef, reference
from taskengine.model.definition import canonical_form, version_of
from taskengine.model.events import EventBody, Transition
from taskengine.model.progress import Progress
from taskengine.model.records import EventRow
from taskengine.model.states import TASK_FINAL, InstanceState, Phase, TaskMove, TaskState
from taskengine.store.interface import Store
from taskengine.store.opening import open_store

PAGE: Final = Path(__file__).parents[3] / "docs/sql-views.md"

COLUMNS: Final[dict[str, str]] = {
    "v_workflows": "id name description task_count version created_at",
    "v_instances": "id workflow_id workflow_name version status run percent tasks_total tasks_completed tasks_failed "
    "tasks_running tasks_pending tasks_skipped tasks_cancelled tasks_compensation params idempotency_key created_at "
    "started_at finished_at duration_s error_message",
    "v_tasks": "instance_id ordinal name status attempt tries started_at finished_at duration_s due_at reason result "
    "artifact_digest artifact_size error_type error_message",
    "v_attempts": "instance_id task attempt run outcome started_at finished_at duration_s error_type error_message",
    "v_events": "instance_id seq at status run reason transitions",
    "v_logs": "instance_id id task attempt level at message",
}
"""Written down a second time: what people's queries stand on does not change by the way."""

AT_US: Final = 1_709_164_799_000_001  # 2024-02-28T23:59:59.000001Z
AT: Final = datetime(2024, 2, 28, 23, 59, 59, 1, UTC)

LARGE: Final = ArtifactRef(digest="0123456789abcdef" * 4, size=5_000_000_000)

FLOW: Final = """
id: flow
name: 每日同步
description: Daily
tasks:
  - {name: a, job: noop}
  - {name: b, job: noop, depends_on: [a]}
  - {name: c, job: noop, depends_on: [b]}
"""


def select(dsn: str, sql: str) -> tuple[list[str], list[Sequence[Any]]]:
    """Names of the columns, and rows, as somebody's own client gets them."""
    if "://" in dsn:
        return [], ask(dsn, sql)[0]
    db = sqlite3.connect(dsn)
    try:
        cursor = db.execute(sql)
        return [str(column[0]) for column in cursor.description], cursor.fetchall()
    finally:
        db.close()


def columns_of(dsn: str, view: str) -> list[str]:
    if "://" not in dsn:
        return select(dsn, f"SELECT * FROM {view}")[0]
    schema = "'public'" if kind_of(dsn) == "postgresql" else "database()"
    query = f"""SELECT column_name FROM information_schema.columns
        WHERE table_schema = {schema} AND table_name = '{view}' ORDER BY ordinal_position"""
    return [str(name) for (name,) in ask(dsn, query)[0]]


def plain(value: Any) -> Any:
    """One form for what is one value: times aware and UTC, numbers as numbers."""
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, str) and len(value) == 27 and value.endswith("Z"):
        return datetime.fromisoformat(value)
    if isinstance(value, bytes):
        return value.decode()
    return value if value is None or isinstance(value, str | int) else float(value)


def rows_of(dsn: str, view: str, order: str) -> list[dict[str, Any]]:
    names = COLUMNS[view].split()
    listed = ", ".join(names)
    _, found = select(dsn, f"SELECT {listed} FROM {view} ORDER BY {order}")
    return [dict(zip(names, map(plain, row), strict=True)) for row in found]


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[Store]:
    store = open_store(dsn, Ambient(clock=ManualClock()))
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def filled(dsn: str, store: Store, rows: Any) -> Store:
    """One workflow; an instance that failed, and one that has not begun."""
    definition = read_yaml(FLOW)
    canonical = canonical_form(definition)
    version = version_of(canonical)
    failure = json.dumps({"type": "ValueError", "message": "no \0 way\\", "retryable": False}).encode()
    ended = rows.instance(
        "ended",
        workflow_id="flow",
        version=version,
        params=b'{"day":"\\u0000"}',
        phase=Phase.END,
        final=InstanceState.FAILED,
        created_us=AT_US,
        started_us=AT_US + 1_000_000,
        finished_us=AT_US + 3_500_000,
        error="b failed",
        idempotency_key="k",
        run=2,
    )
    tasks = [
        rows.task(
            0, TaskState.SUCCESS, 1, name="a", started_us=AT_US + 1, finished_us=AT_US + 250_001, result=b'{"x": [1]}'
        ),
        rows.task(1, TaskState.FAILED, 2, name="b", started_us=AT_US, finished_us=AT_US + 5, error=failure),
        rows.task(2, TaskState.UPSTREAM_FAILED, 0, name="c", reason="b failed"),
        rows.task(3, TaskState.RETRYING, 3, name="d", started_us=AT_US, finished_us=AT_US + 9, due_us=AT_US),
        rows.task(4, TaskState.SUCCESS, 1, name="e", result=reference(LARGE)),
    ]
    body = EventBody(
        state=InstanceState.FAILED,
        run=2,
        transitions=(Transition(1, "b", TaskMove.GIVE_UP, TaskState.FAILED, 2, "no \0 way"),),
        progress=Progress(completed=1, failed=2, running=1, pending=3, skipped=1),
        reason="b failed",
    )
    attempt = rows.attempt(1, 1, started_us=AT_US, finished_us=AT_US + 2_000_000, error=failure)
    await rows.commit(
        store,
        rows.definition(version, "flow", canonical=canonical, created_us=AT_US),
        rows.decision(
            "ended",
            1,
            instance=rows.new(ended),
            tasks=[rows.change(task) for task in tasks],
            attempts=[attempt],
            event=EventRow(instance_id="ended", seq=1, at_us=AT_US, body=EventBody(state=InstanceState.RUNNING)),
        ),
        rows.lines(1, instance_id="ended", task="a", message="数据 🚀", at_us=AT_US),
    )
    await rows.commit(
        store, rows.decision("ended", 2, event=EventRow(instance_id="ended", seq=2, at_us=AT_US + 1, body=body))
    )
    await rows.commit(store, rows.start("new", workflow_id="gone", version="unknown", created_us=AT_US + 1))
    return store


@every_database
async def test_the_columns_are_those_that_are_promised(dsn: str, store: Store) -> None:
    assert {view: " ".join(columns_of(dsn, view)) for view in COLUMNS} == COLUMNS


@every_database
async def test_an_instance_reads_as_the_api_tells_it(dsn: str, filled: Store) -> None:
    ended, new = rows_of(dsn, "v_instances", "id")
    version = ended.pop("version")
    assert len(version) == 64
    assert ended == {
        "id": "ended",
        "workflow_id": "flow",
        "workflow_name": "每日同步",
        "status": "Failed",
        "run": 2,
        "percent": 50,
        "tasks_total": 8,
        "tasks_completed": 1,
        "tasks_failed": 2,
        "tasks_running": 1,
        "tasks_pending": 3,
        "tasks_skipped": 1,
        "tasks_cancelled": 0,
        "tasks_compensation": 0,
        "params": '{"day":"\\u0000"}',
        "idempotency_key": "k",
        "created_at": AT,
        "started_at": AT.replace(minute=0, second=0, hour=0, day=29),
        "finished_at": AT.replace(minute=0, second=2, hour=0, day=29, microsecond=500_001),
        "duration_s": 2.5,
        "error_message": "b failed",
    }
    assert (new["workflow_name"], new["status"], new["percent"], new["tasks_total"]) == ("gone", "Running", 100, 0)
    assert [new[name] for name in ("started_at", "finished_at", "duration_s", "error_message", "idempotency_key")] == [
        None
    ] * 5


@every_database
async def test_tasks_read_as_the_api_tells_them(dsn: str, filled: Store) -> None:
    a, b, c, d, e = rows_of(dsn, "v_tasks", "ordinal")
    assert (a["status"], a["duration_s"], a["error_type"], a["reason"]) == ("Success", 0.25, None, None)
    assert json.loads(a["result"]) == {"x": [1]}
    assert (a["started_at"], a["finished_at"]) == (AT.replace(microsecond=2), AT.replace(microsecond=250_002))
    assert (b["error_type"], b["attempt"], b["duration_s"]) == ("ValueError", 2, 0.000005)
    assert b["error_message"] in ("no \0 way\\", "no \ufffd way\\")
    assert (c["reason"], c["started_at"], c["duration_s"], c["due_at"]) == ("b failed", None, None, None)
    assert (d["status"], d["duration_s"], d["due_at"]) == ("Retrying", None, AT), "it has not ended"
    assert [task["artifact_digest"] for task in (a, b, c, d)] == [None] * 4
    assert (e["result"], e["artifact_digest"], e["artifact_size"]) == (None, LARGE.digest, LARGE.size)


@every_database
async def test_all_else_reads_as_the_api_tells_it(dsn: str, filled: Store) -> None:
    (workflow,) = rows_of(dsn, "v_workflows", "id")
    assert len(workflow.pop("version")) == 64
    assert workflow == {
        "id": "flow",
        "name": "每日同步",
        "description": "Daily",
        "task_count": 3,
        "created_at": AT,
    }
    (attempt,) = rows_of(dsn, "v_attempts", "task")
    assert (attempt["instance_id"], attempt["task"], attempt["attempt"], attempt["run"]) == ("ended", "b", 1, 1)
    assert (attempt["outcome"], attempt["duration_s"], attempt["error_type"]) == ("fail", 2.0, "ValueError")
    first, last, _ = rows_of(dsn, "v_events", "instance_id, seq")
    assert (first["status"], first["run"], first["reason"], first["transitions"]) == ("Running", 1, None, None)
    assert (last["status"], last["run"], last["reason"], last["at"]) == (
        "Failed",
        2,
        "b failed",
        AT.replace(microsecond=2),
    )
    ((ordinal, task, move, state, number, reason),) = json.loads(last["transitions"])
    assert (ordinal, task, move, state, number) == (1, "b", "give_up", "Failed", 2)
    assert reason in ("no \0 way", "no \ufffd way")
    (line,) = rows_of(dsn, "v_logs", "id")
    assert line == {
        "instance_id": "ended",
        "id": 1,
        "task": "a",
        "attempt": 1,
        "level": "info",
        "at": AT,
        "message": "数据 🚀",
    }


@every_database
async def test_the_states_that_end_a_task_are_the_engine_s(dsn: str, store: Store, rows: Any) -> None:
    tasks = [
        rows.task(n, state, name=state.value, started_us=AT_US, finished_us=AT_US + 1_000_000)
        for n, state in enumerate(TaskState)
    ]
    await rows.commit(store, rows.start("i", *tasks))
    found = {row["name"] for row in rows_of(dsn, "v_tasks", "ordinal") if row["duration_s"] is not None}
    assert found == {state.value for state in TASK_FINAL}


@every_database
async def test_what_an_engine_did_reads_the_same_as_its_answers(dsn: str) -> None:
    definition = read_yaml(FLOW)
    async with EngineBuilder().with_store(dsn).build() as engine:
        await engine.register_workflow(definition)
        instance_id = await engine.execute_workflow("flow")
        await engine.wait_until_resting(instance_id)
        body = instance_body(await engine.get_instance(instance_id))
        tasks = [task_body(view) for view in await engine.get_tasks(instance_id)]
        (row,) = rows_of(dsn, "v_instances", "id")
        shown = rows_of(dsn, "v_tasks", "ordinal")
    progress = body.progress
    told = {name: getattr(progress, name.removeprefix("tasks_")) for name in row if name.startswith("tasks_")}
    assert told == {name: row[name] for name in told}
    assert (row["percent"], row["status"], row["run"]) == (progress.percent, body.status, body.run)
    for name in ("id", "workflow_id", "workflow_name", "version", "created_at", "started_at", "finished_at"):
        assert row[name] == getattr(body, name), name
    assert row["duration_s"] == pytest.approx(body.duration)
    for task, one in zip(tasks, shown, strict=True):
        assert (one["name"], one["status"], one["attempt"]) == (task.name, task.status, task.attempt)
        assert (one["started_at"], one["finished_at"]) == (task.started_at, task.finished_at)
        assert one["duration_s"] == pytest.approx(task.duration)


@every_database
async def test_no_row_makes_a_view_fail(dsn: str, store: Store) -> None:
    """One text that a database's JSON cannot read would take the whole view with it."""
    await fill(store, 300)
    for view in COLUMNS:
        _, found = select(dsn, f"SELECT * FROM {view}")
        assert found, view


def test_the_page_describes_every_column() -> None:
    page = PAGE.read_text()
    for view, columns in COLUMNS.items():
        section = page.partition(f"## {view}")[2].partition("\n## ")[0]
        assert section, view
        assert [name for name in columns.split() if f"`{name}`" not in section] == [], view


@every_database
async def test_the_examples_of_the_page_can_be_asked(dsn: str, filled: Store) -> None:
    examples = PAGE.read_text().split("```sql\n")[1:]
    assert len(examples) > 1
    for example in examples:
        select(dsn, example.partition("```")[0].replace("daily-sync", "flow").strip().removesuffix(";"))
