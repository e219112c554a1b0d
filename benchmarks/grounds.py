"""Where a workload's rows lie: an empty database of a kind, what the floor writes with there, plain SQL for checks.

Servers are found as the tests find them: TASKENGINE_TEST_POSTGRESQL and TASKENGINE_TEST_MYSQL, else the usual local
addresses.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.floor import Writer
from benchmarks.floor_servers import MySqlWriter, PostgresWriter
from taskengine.ambient import Ambient
from taskengine.clock import Micros
from taskengine.store import migrations, place
from taskengine.store.dialect import SQLITE
from taskengine.store.opening import open_store
from taskengine.store.queries import folder, queries
from taskengine.store.sqlite_thread import WorkThread

__all__ = ["STORES", "ask", "database", "one_lane", "writer_on"]

STORES: Final = ("sqlite", "postgresql", "mysql")
_SERVERS: Final = {
    "postgresql": ("TASKENGINE_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/test"),
    "mysql": ("TASKENGINE_TEST_MYSQL", "mysql://root@127.0.0.1:3306/test"),
}


def _server(store: str) -> str:
    variable, usual = _SERVERS[store]
    return os.environ.get(variable) or usual


@contextmanager
def database(store: str, folder: Path, name: str) -> Iterator[str]:
    """The address of an empty database, which is gone afterwards."""
    if store == "sqlite":
        yield str(folder / f"{name}.db")
        return
    server = _server(store)
    called = f"taskengine_bench_{os.getpid()}_{name.replace('-', '_')}"
    ask(server, f"DROP DATABASE IF EXISTS {called}")
    ask(server, f"CREATE DATABASE {called}")
    try:
        yield urlsplit(server)._replace(path=f"/{called}").geturl()
    finally:
        ask(server, f"DROP DATABASE {called}" + (" WITH (FORCE)" if store == "postgresql" else ""))


def ask(dsn: str, sql: str) -> list[Sequence[Any]]:
    """The rows of a query, or nothing of a statement; not for use inside of a running loop."""
    if dsn.startswith("postgresql:"):
        import psycopg

        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return list(cursor.fetchall()) if cursor.description else []
    if dsn.startswith("mysql:"):
        return asyncio.run(_ask_mysql(dsn, sql))
    file = sqlite3.connect(dsn)
    try:
        return file.execute(sql).fetchall()
    finally:
        file.close()


async def _ask_mysql(dsn: str, sql: str) -> list[Sequence[Any]]:
    from taskengine.store.mysql import MySqlDriver

    link = await MySqlDriver(dsn, Ambient(), durability="full").connect("lane")
    try:
        return list(await link.rows(sql.replace("%", "%%"), ()))  # it fills values in, and there are none
    finally:
        await link.close()


@contextmanager
def one_lane(store: str) -> Iterator[None]:
    """Stores that are made meanwhile commit on one lane only."""
    from taskengine.store import mysql, postgresql

    driver: Any = postgresql.PostgresDriver if store == "postgresql" else mysql.MySqlDriver
    before, driver.lanes = driver.lanes, 1
    try:
        yield
    finally:
        driver.lanes = before


@asynccontextmanager
async def writer_on(dsn: str) -> AsyncIterator[Any]:
    """The floor's writer on an empty database, with the engine's schema and settings."""
    if "://" in dsn:
        store = open_store(dsn, Ambient())
        await store.open()  # makes the tables, and is the owner meanwhile
        kind: Callable[..., Any] = PostgresWriter if dsn.startswith("postgresql:") else MySqlWriter
        writer = await kind.begin(dsn, store.epoch)  # type: ignore[attr-defined]
        try:
            yield writer
        finally:
            await writer.close()
            await store.close()
        return
    path = Path(dsn)
    place.make_file(path)
    thread = WorkThread(path, read_only=False)
    await thread.open()
    for setting in "journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 4096", "temp_store = MEMORY":
        await thread.run(lambda db, setting=setting: db.execute(f"PRAGMA {setting}").fetchall())  # type: ignore[misc]
    await thread.run(lambda db: migrations.migrate(db, migrations.load(folder("sqlite")), Micros(0)))
    await thread.run(lambda db: db.execute(queries(SQLITE)["next_epoch"]).fetchall())
    yield Writer(thread)
    await thread.close()
