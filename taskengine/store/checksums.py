"""What a table adds up to, computed here and not by a database: the same wherever its rows are."""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import msgspec

from taskengine.store import codec
from taskengine.store.pages import Key, key_of, without_nul
from taskengine.store.sql_store import SqlStore
from taskengine.store.tables import Table

__all__ = ["Checksum", "checksum", "pages_of"]

_ENCODE: Final = msgspec.json.Encoder().encode


class Checksum(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a table in a number and a hash.

    digest  SHA-256, in hex, over the rows in the order of their key: of each the JSON array of its values, in the order
            of `Table.columns` with the row's own number last where it has one, and a line end
    """

    table: str
    rows: int
    digest: str


async def pages_of(store: SqlStore, table: Table, after: Key | None = None) -> AsyncIterator[Sequence[codec.Values]]:
    """All rows, in pages, from behind a key."""
    while rows := await store.copy_out(table, after):
        yield rows
        after = key_of(table, rows[-1])


async def checksum(
    store: SqlStore, table: Table, *, holds_nul: bool = True, told: Callable[[int], object] = lambda rows: None
) -> Checksum:
    """Reads the whole table; while somebody writes into it, that is of no single moment.

    holds_nul  False: as the rows stand in a database that cannot hold U+0000
    told       called with the number of rows of each page
    """
    digest, count = hashlib.sha256(), 0
    async for rows in pages_of(store, table):
        for row in rows if holds_nul else without_nul(table, rows)[0]:
            digest.update(_ENCODE(row))
            digest.update(b"\n")
        count += len(rows)
        told(len(rows))
    return Checksum(table=table.name, rows=count, digest=digest.hexdigest())
