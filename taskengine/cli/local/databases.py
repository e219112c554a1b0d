"""Databases as whoever looks after them opens them: beside the process that has one, or instead of it."""

import contextlib
from collections.abc import AsyncIterator
from typing import Protocol, TypeVar

from taskengine.ambient import Ambient
from taskengine.api.shapes import database_body, holder_body
from taskengine.errors import InvalidInput, SchemaTooOld
from taskengine.store.interface import Store
from taskengine.store.opening import open_store
from taskengine.store.sql_store import SqlStore
from taskengine.wire import DatabaseBody

__all__ = ["describe", "kept", "opened"]


class _Opens(Protocol):
    async def open(self) -> None: ...

    async def close(self) -> None: ...


_S = TypeVar("_S", bound=_Opens)


def kept(store: Store) -> SqlStore:
    """The store, if its rows outlive a process. Raises InvalidInput for one in memory."""
    if not isinstance(store, SqlStore):
        raise InvalidInput("a store in memory ends with its server, and nobody else sees it; name a database with --db")
    return store


@contextlib.asynccontextmanager
async def opened(store: _S) -> AsyncIterator[_S]:
    """Open it, and close it again."""
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def describe(dsn: str, ambient: Ambient) -> DatabaseBody:
    """What the server on it would say; of one with an older schema, or half filled by a move, as much as can be read.

    Raises as `Store.open` does.
    """
    store = open_store(dsn, ambient, read_only=True, partial=True)
    try:
        async with opened(store):
            return database_body(await store.figures())
    except SchemaTooOld:
        old = kept(store)
        schema = await old.schema()
        return DatabaseBody(
            kind=old.dialect.name,
            address=old.address,
            schema=schema.found,
            missing_steps=list(schema.missing),
            holder=holder_body(schema.holder),
        )
