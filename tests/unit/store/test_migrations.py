"""Numbered steps: forward only, all or nothing, resumable."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from taskengine.ambient import Ambient
from taskengine.clock import ManualClock, Micros
from taskengine.errors import InvalidConfiguration, SchemaTooNew
from taskengine.model.records import DefinitionRow, LogBatch, LogRow
from taskengine.store.batch import Batch, merge
from taskengine.store.dialect import SQLITE
from taskengine.store.migrations import Migration, applied, load, migrate, only_adds
from taskengine.store.queries import folder, parse, queries
from taskengine.store.sqlite import SqliteStore
from taskengine.store.sqlite_batch import apply

NOW = Micros(5)
FIRST = Migration(number=1, name="first", statements=("CREATE TABLE a (x)", "INSERT INTO a VALUES (1)"))
SECOND = Migration(number=2, name="second", statements=("CREATE TABLE b (x)", "INSERT INTO b SELECT x + 1 FROM a"))
BROKEN = Migration(number=2, name="second", statements=("CREATE TABLE b (x)", "INSERT INTO nowhere VALUES (1)"))


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    yield connection
    connection.close()


def test_missing_steps_are_taken_once(db: sqlite3.Connection) -> None:
    assert applied(db) == 0
    assert migrate(db, [FIRST], NOW) == 1
    assert migrate(db, [FIRST, SECOND], NOW) == 2
    assert migrate(db, [FIRST, SECOND], NOW) == 2
    assert db.execute("SELECT x FROM a").fetchall() == [(1,)]
    assert db.execute("SELECT number, name, at_us FROM schema_migrations").fetchall() == [
        (1, "first", 5),
        (2, "second", 5),
    ]


def test_a_failing_step_leaves_nothing_and_keeps_those_before(db: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, [FIRST, BROKEN], NOW)
    assert (applied(db), db.in_transaction) == (1, False)
    assert migrate(db, [FIRST, SECOND], NOW) == 2


def test_an_older_program_refuses_a_newer_database(db: sqlite3.Connection) -> None:
    migrate(db, [FIRST, SECOND], NOW)
    with pytest.raises(SchemaTooNew):
        migrate(db, [FIRST], NOW)


def test_a_foreign_database_is_refused(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE theirs (x)")
    with pytest.raises(InvalidConfiguration):
        migrate(db, [FIRST], NOW)


KILLED = """
import os, signal, sqlite3, sys
from taskengine.store.migrations import Migration, load, migrate
from taskengine.store.dialect import SQLITE
from taskengine.store.queries import folder

db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
die_at = int(sys.argv[2])
seen = 0

def count(statement):
    global seen
    seen += 1
    if seen == die_at:
        os.kill(os.getpid(), signal.SIGKILL)

db.set_trace_callback(count)
migrate(db, load(folder("sqlite")), 5)
print(seen)
"""


def _run_killed(path: Path, die_at: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", KILLED, str(path), str(die_at)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _schema(path: Path) -> list[tuple[str, str]]:
    db = sqlite3.connect(path)
    try:
        return db.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
    finally:
        db.close()


def test_a_migration_that_was_killed_anywhere_is_resumed(tmp_path: Path) -> None:
    whole = tmp_path / "whole.db"
    statements = int(_run_killed(whole, 0).stdout)
    assert statements > 15
    complete = _schemas_after_each_step(tmp_path / "steps.db")
    for die_at in (3, 5, statements // 2, statements - 3, statements - 1, statements):
        path = tmp_path / f"{die_at}.db"
        assert _run_killed(path, die_at).returncode == -signal.SIGKILL
        assert _schema(path) in complete[:-1]
        _migrate_file(path, load(folder("sqlite")))
        assert _schema(path) == _schema(whole) == complete[-1]


def _migrate_file(path: Path, steps: Sequence[Migration]) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        assert migrate(db, steps, NOW) == len(steps)
    finally:
        db.close()


def _schemas_after_each_step(path: Path) -> list[list[tuple[str, str]]]:
    """The first one is that of an empty file."""
    steps, found = load(folder("sqlite")), []
    for count in range(len(steps) + 1):
        if count:
            _migrate_file(path, steps[:count])
        found.append(_schema(path))
    return found


def test_migrations_without_transactions_are_noticed(tmp_path: Path) -> None:
    """The law above would see half a schema."""
    script = KILLED.replace("migrate(db, load", "import taskengine.store.migrations as m\nmigrate(db, load")
    script = script.replace("db.set_trace", "db.execute('PRAGMA user_version')\ndb.set_trace")
    half = script.replace(
        'migrate(db, load(folder("sqlite")), 5)',
        '[db.execute(sql) for step in load(folder("sqlite")) for sql in step.statements]',
    )
    path = tmp_path / "half.db"
    done = subprocess.run([sys.executable, "-c", half, str(path), "6"], capture_output=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert _schema(path) != []


async def test_a_database_of_the_first_version_keeps_its_rows(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "old.db"
    _migrate_file(path, load(folder("sqlite"))[:1])
    definition = DefinitionRow(workflow_id="流程", version="v", canonical=b"{}", created_us=3)
    decisions = [make.start(name, tasks=2, workflow_id="流程", created_us=at) for at, name in enumerate("ab")]
    _write_first_version(path, merge([definition, *decisions], epoch=1, lane=0, number=1, acknowledged=0))
    store = SqliteStore(path, Ambient(clock=ManualClock()))
    await store.open()
    try:
        assert [row.id for row in await store.instances(descending=False)] == ["a", "b"]
        assert [task.name for task in await store.tasks("a")] == ["t0", "t1"]
        assert await store.events("b") == [decisions[1].event]
        assert await store.versions("流程") == [definition] == await store.workflows()
        assert (store.epoch, (await store.status()).schema) == (2, len(load(folder("sqlite"))))
        assert await store.logs("a") == await store.tokens() == []
        line = LogRow(instance_id="a", id=1, task="t0", attempt=1, level="info", message="行", at_us=1)
        await store.commit(merge([LogBatch((line,))], epoch=2, lane=0, number=1, acknowledged=0))
        assert await store.logs("a") == [line]
    finally:
        await store.close()


async def test_a_file_of_the_first_version_can_be_looked_at_and_stays_as_it_is(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "old.db"
    _migrate_file(path, load(folder("sqlite"))[:1])
    definition = DefinitionRow(workflow_id="w", version="v", canonical=b"{}", created_us=3)
    _write_first_version(path, merge([definition, make.start("a")], epoch=1, lane=0, number=1, acknowledged=0))
    before = path.read_bytes()
    store = SqliteStore(path, Ambient(clock=ManualClock()), read_only=True, readers=2)
    await store.open()
    try:
        for _ in range(4):  # whichever reader answers
            assert [row.id for row in await store.instances()] == ["a"]
            assert await store.logs("a") == await store.tokens() == []
            assert await store.versions("w") == [definition]
        assert (await store.status()).schema == 1
    finally:
        await store.close()
    assert path.read_bytes() == before


CHANGES = [
    "ALTER TABLE a ADD y",
    "DROP TABLE a",
    "UPDATE a SET x = 2",
    "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1",
]


@pytest.mark.parametrize("statement", CHANGES)
def test_a_step_that_changes_something_cannot_be_stood_in_for(statement: str) -> None:
    made = ("CREATE TABLE b (x)", "CREATE UNIQUE INDEX c ON b (x)", "CREATE VIEW v AS SELECT x FROM b")
    add = Migration(number=2, name="add", statements=made)
    assert only_adds([add])
    assert not only_adds([add, Migration(number=3, name="change", statements=(statement,))])


def _write_first_version(path: Path, batch: Batch) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("INSERT INTO nodes VALUES ('local', 1)")
        assert apply(db, batch, queries(SQLITE), lambda: None)
        db.execute("COMMIT")
    finally:
        db.close()


@pytest.mark.parametrize("names", [("0001_a.sql", "0003_b.sql"), ("0002_a.sql",)], ids=str)
def test_numbers_have_no_holes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(ValueError, match="without holes"):
        load(tmp_path)


def test_statements_end_where_sqlite_says(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text(
        "-- first; comment\nCREATE TABLE a (x);\n\n"
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n  SELECT 1;\n  SELECT ';';\nEND;\n"
    )
    (step,) = load(tmp_path)
    assert step.name == "a"
    assert [statement.split()[1] for statement in step.statements] == ["TABLE", "TRIGGER"]
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE a (x)")
    with pytest.raises(ValueError, match="without its end"):
        load(tmp_path)


CONDITIONS = ("contains", "has_label")


def test_every_query_is_valid_sql_of_the_newest_schema(db: sqlite3.Connection) -> None:
    migrate(db, load(folder("sqlite")), NOW)
    for name, sql in queries(SQLITE).items():
        marks = 4 if "?4" in sql else 3 if "?3" in sql else sql.count("?")
        whole = f"SELECT 1 FROM instances WHERE {sql}" if name in CONDITIONS else sql
        assert db.execute(f"EXPLAIN {whole}", [0] * marks).fetchall(), name


INDEXES = {
    queries(SQLITE)["unfinished"]: "instances_unfinished (created_us>?)",
    "SELECT * FROM instances WHERE workflow_id = 'w' AND idempotency_key = 'k'": "instances_by_key",
    "SELECT instance_id FROM tasks WHERE due_us < 5 ORDER BY due_us": "tasks_due",
    queries(SQLITE)["count_by_state"]: "COVERING INDEX instances_by_state",
    queries(SQLITE)["versions"]: "definitions_by_workflow (workflow_id=?)",
    **{
        queries(SQLITE)[name]: "PRIMARY KEY (instance_id=? AND id>?)"
        for name in ("logs", "logs_of_task", "last_logs", "last_logs_of_task")
    },
    queries(SQLITE)["last_log"]: "PRIMARY KEY (instance_id=?)",
}


@pytest.mark.parametrize("sql", INDEXES)
def test_questions_asked_often_have_an_index(db: sqlite3.Connection, sql: str) -> None:
    migrate(db, load(folder("sqlite")), NOW)
    plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", [0] * sql.count("?")))
    assert INDEXES[sql] in plan
    assert "TEMP B-TREE" not in plan


def test_named_queries_are_taken_apart() -> None:
    text = "-- preface\n-- name: one\n-- why\nSELECT 1;\n\n-- name: two\nSELECT\n  2;\n"
    assert dict(parse(text)) == {"one": "SELECT 1", "two": "SELECT\n  2"}
    for wrong in ("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;", "-- name: a\n-- nothing\n"):
        with pytest.raises(ValueError, match="'a'"):
            dict(parse(wrong))
