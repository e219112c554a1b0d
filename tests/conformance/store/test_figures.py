"""`Store.figures` and `SqlStore.schema`: what whoever looks after a store wants to know, without reading it all."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import pytest
from databases.asking import ask, kind_of
from databases.filling import fill
from databases.fixtures import every_database, every_store

from taskengine.ambient import Ambient
from taskengine.clock import ManualClock
from taskengine.errors import InvalidConfiguration, SchemaTooOld
from taskengine.model.states import InstanceState, Phase
from taskengine.store import figures, migrations, served
from taskengine.store.interface import Store
from taskengine.store.lock import Holder
from taskengine.store.migrations import Migration
from taskengine.store.opening import open_store
from taskengine.store.queries import folder
from taskengine.store.sql_store import SqlStore
from taskengine.store.tables import TABLES


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[Store]:
    store = open_store(dsn, Ambient(clock=ManualClock()))
    await store.open()
    yield store
    await store.close()


def counted(found: Any) -> dict[str, int]:
    return {table.table: table.rows for table in found.tables}


@every_store
async def test_small_tables_are_counted(dsn: str, store: Store, rows: Any) -> None:
    found = await store.figures()
    assert counted(found) == {table.name: 0 for table in TABLES}
    assert (found.oldest, found.move) == (None, None)
    await fill(store, 50)
    found = await store.figures()
    assert all(table.exact for table in found.tables)
    numbers = counted(found)
    assert (numbers["instances"], numbers["workflows"], numbers["functions"], numbers["tokens"]) == (50, 2, 5, 5)
    assert numbers["definitions"] == 20
    assert numbers["tasks"] == sum([len(await store.tasks(row.id)) for row in await store.instances(limit=50)])
    assert sum(found.status.instances.values()) == 50
    assert min(numbers.values()) > 0


@every_store
async def test_the_oldest_unfinished_instance_is_named(dsn: str, store: Store, rows: Any) -> None:
    ended = {"phase": Phase.END, "final": InstanceState.SUCCESS}
    await rows.commit(
        store, rows.start("c", created_us=30), rows.start("b", created_us=20), rows.start("d", created_us=20)
    )
    await rows.commit(store, rows.start("a", created_us=10, **ended))
    oldest = (await store.figures()).oldest
    assert oldest is not None
    assert oldest.id == "b"


@every_database
async def test_large_tables_are_estimated_and_say_so(
    dsn: str, store: Store, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "EXACT_ROWS", 100)
    for at in range(0, 1000, 250):
        starts = [
            rows.start(f"{n:04}", *(rows.task(m) for m in range(3 if n % 2 else 5)), created_us=n * 1000)
            for n in range(at, at + 250)
        ]
        await rows.commit(store, *starts, rows.lines(1, instance_id=f"{at:04}"))
    found = {table.table: table for table in (await store.figures()).tables}
    assert (found["instances"].rows, found["instances"].exact) == (1000, True)
    assert (found["logs"].rows, found["logs"].exact) == (4, True)
    assert not found["tasks"].exact
    assert found["tasks"].rows == pytest.approx(4000, rel=0.1)
    assert (found["events"].rows, found["events"].exact) == (1000, False)


@every_database
async def test_an_instance_with_very_many_rows_does_not_make_it_slow(
    dsn: str, store: Store, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "EXACT_ROWS", 100)
    monkeypatch.setattr(figures, "SAMPLE_ROWS", 200)
    for n in range(30):
        await rows.commit(store, rows.start(f"{n:04}", *(rows.task(m) for m in range(50)), created_us=n))
    found = {table.table: table.rows for table in (await store.figures()).tables}
    assert found["tasks"] == pytest.approx(1500, rel=0.1), "from fewer of the instances"


@every_database
async def test_who_has_the_database_is_told_from_outside(dsn: str, store: Store) -> None:
    await store.note_address("http://127.0.0.1:1")
    outside = open_store(dsn, Ambient(), read_only=True)
    assert isinstance(outside, SqlStore)
    schema = await outside.schema()
    assert schema.found == len(schema.steps) > 1
    assert schema.missing == ()
    assert schema.holder is not None
    assert (schema.holder.pid, schema.holder.address) == (os.getpid(), "http://127.0.0.1:1")
    await outside.open()
    assert (await outside.figures()).holder == schema.holder == (await store.figures()).holder
    await store.close()
    for _ in range(500):
        if (await outside.figures()).holder is None:  # although the note is there: it is history
            break
        await asyncio.sleep(0.01)  # a server sees the end of a connection when it next looks
    await outside.close()
    assert (await outside.schema()).holder is None


async def test_a_store_in_memory_is_its_process_s() -> None:
    store = open_store("memory://", Ambient())
    await store.open()
    found = await store.figures()
    assert (found.kind, found.holder, found.steps) == ("memory", Holder(pid=os.getpid()), ())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mysql"])
async def test_a_database_that_is_not_there_yet_lacks_every_step(kind: str, new_dsn: Any) -> None:
    store = open_store(new_dsn(kind), Ambient(), read_only=True)
    assert isinstance(store, SqlStore)
    schema = await store.schema()
    assert (schema.found, schema.holder, schema.missing) == (0, None, schema.steps)
    assert schema.steps[0] == "0001_first"


@every_database
async def test_a_schema_that_lacks_what_changes_tables_is_not_read(
    dsn: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.close()
    steps = migrations.load(folder(kind_of_store(dsn)))
    step = Migration(number=len(steps) + 1, name="later", statements=("ALTER TABLE logs ADD colour TEXT",))
    for module in (served, migrations):
        monkeypatch.setattr(module, "load", lambda folder: (*steps, step))
    older = open_store(dsn, Ambient(), read_only=True)
    with pytest.raises(SchemaTooOld, match="db migrate"):
        await older.open()


def kind_of_store(dsn: str) -> str:
    return kind_of(dsn) if "://" in dsn else "sqlite"


@every_database
async def test_a_database_of_somebody_else_is_refused(dsn: str, new_dsn: Any) -> None:
    theirs = new_dsn(kind_of_store(dsn))
    if "://" not in dsn:
        db = sqlite3.connect(theirs)
        db.execute("CREATE TABLE instances (id INTEGER)")
        db.close()
    else:
        ask(theirs, "CREATE TABLE instances (id INTEGER)")
    store = open_store(theirs, Ambient(), read_only=True)
    assert isinstance(store, SqlStore)
    with pytest.raises(InvalidConfiguration):
        await store.schema()
