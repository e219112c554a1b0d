"""`db migrate` in a process of its own, killed at any statement: the next one goes on, and the schema is whole."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from databases.asking import ask
from databases.filling import fill

from taskengine.ambient import Ambient
from taskengine.cli.root import main
from taskengine.clock import ManualClock
from taskengine.store.opening import open_store
from taskengine.store.sql_store import SqlStore

KINDS = ("sqlite", "postgresql", "mysql")

KILLED = """
import os, signal, sys

kind, dsn, die_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
seen = 0

def count(*anything):
    global seen
    seen += 1
    if seen == die_at:
        os.kill(os.getpid(), signal.SIGKILL)

if kind == "sqlite":
    from taskengine.store import migrations
    migrate = migrations.migrate

    def traced(db, steps, now_us):
        db.set_trace_callback(count)
        return migrate(db, steps, now_us)

    migrations.migrate = traced
else:
    if kind == "postgresql":
        from taskengine.store.postgresql import _PostgresLink as Link
        name = "_execute"
    else:
        from taskengine.store.mysql_link import MySqlLink as Link
        name = "_ask"
    execute = getattr(Link, name)

    async def counted(self, *anything, **more):
        count()
        found = await execute(self, *anything, **more)
        count()
        return found

    setattr(Link, name, counted)

from taskengine.cli.root import main

code = main(["db", "migrate", "--db", dsn, "-o", "id"])
print(seen)
sys.exit(code)
"""

_SCHEMA = {
    "sqlite": ("SELECT type, name, sql FROM sqlite_schema ORDER BY name",),
    "postgresql": (
        """SELECT table_name, column_name, data_type, is_nullable, collation_name FROM information_schema.columns
        WHERE table_schema = 'public' ORDER BY table_name, ordinal_position""",
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname",
        "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY viewname",
        "SELECT number, name FROM taskengine_migrations ORDER BY number",
    ),
    "mysql": (
        """SELECT table_name, column_name, column_type, is_nullable, collation_name FROM information_schema.columns
        WHERE table_schema = database() ORDER BY table_name, ordinal_position""",
        """SELECT table_name, index_name, column_name FROM information_schema.statistics
        WHERE table_schema = database() ORDER BY table_name, index_name, seq_in_index""",
        "SELECT number, name, done, at_us IS NOT NULL FROM taskengine_migrations ORDER BY number",
    ),
}


def killed(kind: str, dsn: str, die_at: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", KILLED, kind, dsn, str(die_at)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def schema(kind: str, dsn: str) -> list[Any]:
    if kind != "sqlite":
        return [list(map(tuple, rows)) for rows in ask(dsn, *_SCHEMA[kind])]
    db = sqlite3.connect(dsn)
    try:
        return [db.execute(query).fetchall() for query in _SCHEMA[kind]]
    finally:
        db.close()


async def check_use(dsn: str) -> None:
    """A store on it does what stores do."""
    store = open_store(dsn, Ambient(clock=ManualClock()))
    assert isinstance(store, SqlStore)
    await store.open()
    try:
        await fill(store, 3)
        assert await store.count_instances() == 3
        assert (await store.schema()).missing == ()
    finally:
        await store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_migration_that_was_killed_anywhere_is_resumed(kind: str, new_dsn: Callable[[str], str]) -> None:
    whole = new_dsn(kind)
    done = killed(kind, whole, 0)
    assert done.returncode == 0, done.stderr
    statements = int(done.stdout.splitlines()[-1])
    assert statements > 30
    lacking = 0
    for die_at in (statements // 5, statements // 2, statements // 2 + 1, statements * 4 // 5, statements - 4):
        dsn = new_dsn(kind)
        assert killed(kind, dsn, die_at).returncode == -signal.SIGKILL
        killed(kind, dsn, statements // 4)  # once more, in what is left, if there is as much
        lacking += main(["db", "migrate", "--db", dsn, "--check", "-o", "id"])
        assert main(["db", "migrate", "--db", dsn, "-o", "id"]) == 0
        assert main(["db", "migrate", "--db", dsn, "--check", "-o", "id"]) == 0
        assert schema(kind, dsn) == schema(kind, whole)
    assert lacking >= 3
    asyncio.run(check_use(dsn))
