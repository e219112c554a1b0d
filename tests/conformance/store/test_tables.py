"""`store.tables` names every table and column that there really is, in every database: none can be forgotten."""

import sqlite3
from collections.abc import Callable, Mapping

import pytest
from databases.asking import ask
from databases.fixtures import every_database

from taskengine.ambient import Ambient
from taskengine.store.dialect import Dialect
from taskengine.store.opening import open_store
from taskengine.store.sql_store import SqlStore
from taskengine.store.tables import BESIDE, TABLES

Schema = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""Columns in their order, and those of the key in theirs, by table."""

MIGRATIONS = frozenset({"schema_migrations", "taskengine_migrations"})


def _sqlite(path: str) -> Schema:
    db = sqlite3.connect(path)
    try:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found: Schema = {}
        for name in names:
            columns = db.execute("SELECT name, pk FROM pragma_table_info(?)", (name,)).fetchall()
            key = sorted((place, column) for column, place in columns if place)
            found[name] = (tuple(column for column, _ in columns), tuple(column for _, column in key))
        return found
    finally:
        db.close()


_COLUMNS = {
    "postgresql": """
        SELECT c.table_name, c.column_name FROM information_schema.columns AS c
        JOIN information_schema.tables AS t ON t.table_name = c.table_name AND t.table_schema = c.table_schema
        WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.is_generated = 'NEVER'
        ORDER BY c.table_name, c.ordinal_position""",
    "mysql": """
        SELECT c.table_name, c.column_name FROM information_schema.columns AS c
        JOIN information_schema.tables AS t ON t.table_name = c.table_name AND t.table_schema = c.table_schema
        WHERE c.table_schema = database() AND t.table_type = 'BASE TABLE' AND coalesce(c.generation_expression, '') = ''
        ORDER BY c.table_name, c.ordinal_position""",
}
_KEYS = {
    "postgresql": """
        SELECT k.table_name, k.column_name FROM information_schema.key_column_usage AS k
        JOIN information_schema.table_constraints AS t USING (constraint_name, table_schema, table_name)
        WHERE k.table_schema = 'public' AND t.constraint_type = 'PRIMARY KEY'
        ORDER BY k.table_name, k.ordinal_position""",
    "mysql": """
        SELECT table_name, column_name FROM information_schema.key_column_usage
        WHERE table_schema = database() AND constraint_name = 'PRIMARY' ORDER BY table_name, ordinal_position""",
}


def _served(dsn: str, kind: str) -> Schema:
    columns: dict[str, list[str]] = {}
    keys: dict[str, list[str]] = {}
    for query, into in ((_COLUMNS, columns), (_KEYS, keys)):
        for table, column in ask(dsn, query[kind])[0]:
            into.setdefault(str(table), []).append(str(column))
    return {table: (tuple(found), tuple(keys.get(table, ()))) for table, found in columns.items()}


def schema_of(dsn: str, dialect: Dialect) -> Schema:
    return _sqlite(dsn) if dialect.name == "sqlite" else _served(dsn, dialect.name)


def faults(found: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]], dialect: Dialect) -> list[str]:
    """What the list of tables does not say as it is."""
    known = {table.name: table for table in TABLES}
    told = [f"{name} is in no list" for name in found if name not in {*known, *BESIDE, *MIGRATIONS}]
    for name, table in known.items():
        columns, key = found.get(name, ((), ()))
        wanted = [place for place in table.places(dialect) if place != "rowid"]
        if sorted(columns) != sorted(wanted):
            told.append(f"{name} has the columns {columns}, not {wanted}")
        if key != table.key:
            told.append(f"{name} has the key {key}, not {table.key}")
    return told


@pytest.fixture
async def kept(dsn: str) -> SqlStore:
    """A store with its tables made, closed again."""
    store = open_store(dsn, Ambient())
    assert isinstance(store, SqlStore)
    await store.open()
    await store.close()
    return store


@every_database
async def test_every_table_is_data_or_said_not_to_be(dsn: str, kept: SqlStore) -> None:
    assert faults(schema_of(dsn, kept.dialect), kept.dialect) == []


CHANGES: Mapping[str, Callable[[Schema], object]] = {
    "a new table": lambda schema: schema.update(forgotten=(("id",), ("id",))),
    "a new column": lambda schema: schema.update(tasks=((*schema["tasks"][0], "colour"), schema["tasks"][1])),
    "a column less": lambda schema: schema.update(logs=(schema["logs"][0][1:], schema["logs"][1])),
    "another key": lambda schema: schema.update(events=(schema["events"][0], ("seq", "instance_id"))),
}


@pytest.mark.parametrize("dsn", ["sqlite"], indirect=True)
@pytest.mark.parametrize("change", CHANGES)
async def test_what_was_forgotten_is_found(dsn: str, kept: SqlStore, change: str) -> None:
    schema = schema_of(dsn, kept.dialect)
    CHANGES[change](schema)
    assert len(faults(schema, kept.dialect)) == 1


def test_numbered_tables_and_wide_columns_are_there() -> None:
    for table in TABLES:
        assert set(table.wide) <= set(table.columns)
        assert set(table.key) <= set(table.columns)
    assert {table.name for table in TABLES if table.numbered} == {"definitions", "commands"}
