"""The schema's numbered steps: forward only, each in a transaction of its own together with its record.

A process that dies in the middle of a step leaves nothing of it; the next open goes on with that step.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from importlib.resources.abc import Traversable
from typing import Final

import msgspec

from taskengine.clock import Micros
from taskengine.errors import InvalidConfiguration, SchemaTooNew

__all__ = ["Migration", "applied", "load", "migrate", "only_adds", "refuse_newer", "stand_in"]

_TABLE: Final = """CREATE TABLE IF NOT EXISTS schema_migrations (
    number INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    at_us INTEGER NOT NULL
) STRICT"""
_IS_OURS: Final = "SELECT count(*) FROM sqlite_schema WHERE name = 'schema_migrations'"
_IS_NEW: Final = "SELECT count(*) = 0 FROM sqlite_schema"
_APPLIED: Final = "SELECT number FROM schema_migrations ORDER BY number"
_NEW_TABLE: Final = "CREATE TABLE "
_NEW_INDEX: Final = "CREATE INDEX "
_NEW_UNIQUE: Final = "CREATE UNIQUE INDEX "
_NEW_VIEW: Final = "CREATE VIEW "
_RECORD: Final = "INSERT INTO schema_migrations (number, name, at_us) VALUES (?, ?, ?)"


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One step, from a file such as `0001_first.sql`."""

    number: int
    name: str
    statements: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.number:04}_{self.name}"


def load(folder: Traversable) -> tuple[Migration, ...]:
    """The steps of a dialect by number, which count from 1 without holes. Raises ValueError when they do not."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.name[:4].isdigit() and entry.name.endswith(".sql"))
    found = []
    for name in names:
        text = folder.joinpath(name).read_text("utf-8")
        found.append(Migration(number=int(name[:4]), name=name[5:-4], statements=tuple(_split(text))))
    if [step.number for step in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"the migrations do not count from 1 without holes: {', '.join(names)}")
    return tuple(found)


def _split(script: str) -> Iterator[str]:
    """The statements of a script. SQLite itself says where one is complete: at this `;`, or is it inside a text?"""
    statement = ""
    for line in script.splitlines():
        if not statement and (not line.strip() or line.startswith("--")):
            continue
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""
    if statement.strip():
        raise ValueError(f"a statement without its end: {statement.strip()[:60]}")


def applied(db: sqlite3.Connection) -> int:
    """The number of the newest step in this database; 0 for an empty one.

    Raises InvalidConfiguration for a database that belongs to another program.
    """
    if db.execute(_IS_OURS).fetchone()[0]:
        return max((number for (number,) in db.execute(_APPLIED)), default=0)
    if not db.execute(_IS_NEW).fetchone()[0]:
        raise InvalidConfiguration("this SQLite database belongs to another program: it has tables, but none of ours")
    return 0


def refuse_newer(found: int, steps: Sequence[Migration]) -> None:
    """Raises SchemaTooNew when the database has had a step that this program does not know."""
    known = steps[-1].number if steps else 0
    if found > known:
        raise SchemaTooNew(found, known)


def only_adds(steps: Sequence[Migration]) -> bool:
    """Do these steps only make tables, indexes and views? Then a file that has not had them reads as one where the
    tables are empty. (The views are for people: no query of ours asks one.)"""
    adding = (_NEW_TABLE, _NEW_INDEX, _NEW_UNIQUE, _NEW_VIEW)
    return all(statement.startswith(adding) for step in steps for statement in step.statements)


def stand_in(db: sqlite3.Connection, steps: Sequence[Migration]) -> None:
    """Empty tables, in this connection's memory only, for those that the steps would make.

    For a connection that may only read, so that what an older release left can still be looked at. Only when
    `only_adds`. The tables hide those that an owner makes meanwhile: good for a look, not for a long stay.
    """
    db.execute("PRAGMA temp_store = MEMORY")
    for step in steps:
        for statement in step.statements:
            if statement.startswith(_NEW_TABLE):
                db.execute(statement.replace(_NEW_TABLE, "CREATE TEMP TABLE ", 1))


def migrate(db: sqlite3.Connection, steps: Sequence[Migration], now_us: Micros) -> int:
    """Take the steps that are missing; gives the newest number. On the connection's own thread.

    `db` is in autocommit mode and owns the database alone. A failing step is rolled back, those before it stay.
    """
    found = applied(db)
    refuse_newer(found, steps)
    for step in steps[found:]:
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute(_TABLE)
            for statement in step.statements:
                db.execute(statement)
            db.execute(_RECORD, (step.number, step.name, now_us))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    return max(found, len(steps))
