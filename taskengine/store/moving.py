"""All rows of one database into another one of any kind, and the proof that they arrived.

Both are locked, so nobody else changes them, and the source is only read. Tables come one after the other, in pages by
their key; each page is one transaction together with a note how far it goes, so a move that was cut off goes on behind
its last page. Until both sides were compared, the note says that the target is a part, and nobody else opens it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import msgspec

from taskengine.clock import Clock
from taskengine.errors import Conflict, InvalidInput
from taskengine.store import codec
from taskengine.store.checksums import Checksum, checksum, pages_of
from taskengine.store.interface import MoveNote
from taskengine.store.pages import Key, key_of, without_nul
from taskengine.store.sql_store import SqlStore
from taskengine.store.tables import TABLES, Table

__all__ = ["Compared", "Moved", "move"]

_EVERYTHING: Final = tuple(table.name for table in TABLES)

Told = Callable[[str, int], object]
"""Hears the name of a table, empty while both sides are compared, and how many rows of all tables are done."""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One table on both sides."""

    source: Checksum
    target: Checksum

    @property
    def equal(self) -> bool:
        return self.source == self.target


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """How a move ended.

    replaced  texts whose U+0000 became U+FFFD, because the target cannot hold it
    """

    tables: tuple[Compared, ...]
    replaced: int

    @property
    def equal(self) -> bool:
        return all(table.equal for table in self.tables)


async def move(source: SqlStore, target: SqlStore, clock: Clock, *, resume: bool, told: Told) -> Moved:
    """Fill `target` from `source` and compare. Where they are equal, the target is complete from then on.

    Raises Conflict when the target has rows of its own, or when there is another or no move to go on with; StoreError
    when a row cannot be held there. What is there stays, and `resume` goes on with it.
    """
    if source.address == target.address:
        raise InvalidInput(f"both are {source.address}; a database is moved to another one")
    note = await _begin(source, target, clock, resume=resume)
    holds_nul = target.dialect.holds_nul or not source.dialect.holds_nul
    replaced = 0
    told(note.table, note.rows)
    for table in TABLES[_EVERYTHING.index(note.table) :] if note.table else ():
        note = msgspec.structs.replace(note, table=table.name, after=note.after if note.table == table.name else None)
        async for rows, found in _fitting(source, table, note.after, holds_nul=holds_nul):
            note = msgspec.structs.replace(note, after=key_of(table, rows[-1]), rows=note.rows + len(rows))
            await target.copy_in(table, rows, note)
            told(table.name, note.rows)
            replaced += found
    note = msgspec.structs.replace(note, table="", after=None)
    await target.note_move(note)
    moved = Moved(tables=await _compare(source, target, holds_nul=holds_nul, told=told), replaced=replaced)
    await _refuse_changed(source, target, note)  # a server may have lost its lock to another process meanwhile
    if moved.equal:
        await target.note_move(msgspec.structs.replace(note, finished_us=clock.now_us()))
    return moved


async def _begin(source: SqlStore, target: SqlStore, clock: Clock, *, resume: bool) -> MoveNote:
    """The note to go on from."""
    note = await target.move_note()
    if note is None or note.finished_us is not None:
        await _refuse_filled(target, note)
        if resume:
            raise Conflict(f"{target.address} is empty; there is no move to go on with, so leave out --resume")
        epoch = await source.last_epoch()
        note = MoveNote(source=source.address, epoch=epoch, started_us=clock.now_us(), table=_EVERYTHING[0])
        await target.note_move(note)
        return note
    _refuse_other(source, target, note, resume=resume)
    await _refuse_changed(source, target, note)
    return note


async def _refuse_filled(target: SqlStore, note: MoveNote | None) -> None:
    for table in TABLES:
        if await target.copy_out(table, None):
            since = f"; it was filled from {note.source}, completely" if note is not None else ""
            raise Conflict(
                f"{target.address} has rows in {table.name}{since}; a database is moved into an empty one only"
            )


def _refuse_other(source: SqlStore, target: SqlStore, note: MoveNote, *, resume: bool) -> None:
    anew = "or start anew with another, empty database"
    if note.source != source.address:
        raise Conflict(
            f"{target.address} was filled in part from {note.source}, not from {source.address}; name that, {anew}"
        )
    if not resume:
        raise Conflict(
            f"{target.address} was filled in part from {source.address} already; go on with --resume, {anew}"
        )


async def _refuse_changed(source: SqlStore, target: SqlStore, note: MoveNote) -> None:
    if await source.last_epoch() != note.epoch:
        raise Conflict(
            f"{source.address} was opened by somebody since the move began, so what is in {target.address} may be old; "
            "start anew with another, empty database"
        )


async def _fitting(
    source: SqlStore, table: Table, after: Key | None, *, holds_nul: bool
) -> AsyncIterator[tuple[Sequence[codec.Values], int]]:
    """Pages as the target can hold them, and in how many texts something was replaced for that."""
    async for rows in pages_of(source, table, after):
        yield (rows, 0) if holds_nul else without_nul(table, rows)


async def _compare(source: SqlStore, target: SqlStore, *, holds_nul: bool, told: Told) -> tuple[Compared, ...]:
    """Both sides at the same time, table by table."""
    found: list[Compared] = []
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        told("", done)

    for table in TABLES:
        here, there = await asyncio.gather(
            checksum(source, table, holds_nul=holds_nul), checksum(target, table, told=count)
        )
        found.append(Compared(source=here, target=there))
    return tuple(found)
