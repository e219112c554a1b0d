"""What `taskengine db move` does: show how far it is, and end with what both sides add up to."""

import asyncio
import shlex
import sys
from pathlib import Path
from typing import Final, TextIO

import msgspec

from taskengine.ambient import Ambient
from taskengine.cli import exits
from taskengine.cli.listing import show_table
from taskengine.cli.live.counter import Counter
from taskengine.cli.live.interrupts import interrupts_cancel
from taskengine.cli.local.databases import kept, opened
from taskengine.cli.output import Format, Output, write_data
from taskengine.cli.problems import say
from taskengine.cli.targets.naming import address_of
from taskengine.cli.terminal import is_animated
from taskengine.config.dsn import password_of, shown_dsn
from taskengine.errors import InvalidInput, StoreUnavailable
from taskengine.store.artifacts import default_folder
from taskengine.store.moving import Compared, Moved, move
from taskengine.store.opening import open_store
from taskengine.store.sql_store import SqlStore

__all__ = ["move_database"]

_HEADS: Final = ("TABLE", "ROWS", "SHA-256", "EQUAL")


class MovedTable(msgspec.Struct, frozen=True, kw_only=True):
    """One table as it is in the source, and whether it is the same in the target; if not, as it is there."""

    table: str
    rows: int
    sha256: str
    equal: bool
    target_rows: int
    target_sha256: str


def move_database(ambient: Ambient | None, *, source: str, target: str, resume: bool, output: Output) -> int:
    """0 when both are equal, 1 when they are not, 130 when somebody interrupted it."""
    ambient = ambient or Ambient()
    here = kept(open_store(address_of(source), ambient, read_only=True, locked=True))
    there = kept(open_store(address_of(target), ambient, partial=True))
    if here.address == there.address:
        raise InvalidInput(f"both are {here.address}; a database is moved to another one")
    again = f"taskengine db move {shlex.quote(_shown(source))} {shlex.quote(_shown(target))} --resume"
    moved = asyncio.run(_move(here, there, ambient, again, resume=resume, output=output))
    if moved is None:
        say(f"Interrupted. What has arrived stays; go on with it:  {again}")
        return exits.INTERRUPTED
    tables = [_table(each) for each in moved.tables]
    write_data(
        tables,
        output.form or Format.TABLE,
        table=lambda stream: _print(tables, stream, headers=output.headers),
        key="table",
    )
    return _report(moved, here, there, default_folder(address_of(source)), output)


async def _move(
    source: SqlStore, target: SqlStore, ambient: Ambient, again: str, *, resume: bool, output: Output
) -> Moved | None:
    """None: interrupted."""
    task = asyncio.current_task()
    assert task is not None
    with (
        interrupts_cancel(task, drawing=is_animated(sys.stderr)) as interrupts,
        Counter(sys.stderr, ambient.clock, quiet=output.quiet) as counter,
    ):
        try:
            async with opened(source), opened(target):
                total = sum(table.rows for table in (await source.figures()).tables)
                told = _Telling(counter, total).told
                try:
                    return await move(source, target, ambient.clock, resume=resume, told=told)
                except StoreUnavailable:
                    say(f"What has arrived stays; go on with it:  {again}")
                    raise
        except asyncio.CancelledError:
            if not interrupts.count:
                raise
            task.uncancel()
            return None


def _shown(typed: str) -> str:
    """An address as it was typed, unless a password was typed with it."""
    password = password_of(typed)
    return typed if not password or password.startswith("${ENV:") else shown_dsn(typed)


class _Telling:
    """Copying and comparing are a phase each."""

    def __init__(self, counter: Counter, total: int) -> None:
        self._counter, self._total = counter, total
        self._comparing = False

    def told(self, table: str, rows: int) -> None:
        if not table and not self._comparing:
            self._counter.begin()
            self._comparing = True
        self._counter.told(table or "comparing", rows, self._total)


def _table(compared: Compared) -> MovedTable:
    source, target = compared.source, compared.target
    return MovedTable(
        table=source.table,
        rows=source.rows,
        sha256=source.digest,
        equal=compared.equal,
        target_rows=target.rows,
        target_sha256=target.digest,
    )


def _print(tables: list[MovedTable], stream: TextIO, *, headers: bool) -> None:
    rows = [[each.table, f"{each.rows:,}", each.sha256, "yes" if each.equal else "no"] for each in tables]
    show_table(_HEADS, rows, stream, headers=headers)


def _report(moved: Moved, source: SqlStore, target: SqlStore, artifacts: Path, output: Output) -> int:
    if moved.replaced:
        say(
            f"{moved.replaced:,} texts had the character U+0000, which this kind of database cannot hold; "
            "it stands there as U+FFFD."
        )
    if not moved.equal:
        say(
            f"Error: {source.address} and {target.address} differ. No server opens the second one; "
            "move into another, empty database."
        )
        return exits.ERROR
    large = sum(each.source.rows for each in moved.tables if each.source.table == "artifacts")
    if large:
        say(
            f"{large:,} large results are files and stay where they are, by default in {artifacts}; "
            "name that place in the configuration (task-engine.storage.artifacts.url)."
        )
    output.hint(
        f"Both are equal. {source.address} is as it was; name {target.address} in the configuration of the server "
        "(task-engine.storage.database.dsn), or with --db."
    )
    return exits.OK
