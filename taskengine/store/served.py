"""The store on a database server: links that come back by themselves, one for each lane and some that read.

What is said to one kind of server is its driver's: postgresql.py, mysql.py. Nothing here is ever told by the clock of
a server, and no link waits for ever: a wait that takes too long ends the link, and what was asked counts as unknown.

The link of lane 0 holds the lock that makes this process the owner. A server gives it back when the link ends, so it
is taken again before lane 0 goes on; whoever took it meanwhile has a newer epoch, which every batch is checked against.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from taskengine.ambient import Ambient
from taskengine.errors import StoreError, StoreLocked, StoreUnavailable, Unavailable
from taskengine.store import codec
from taskengine.store.batch import Batch
from taskengine.store.dialect import Dialect
from taskengine.store.interface import MoveNote, StoreStatus
from taskengine.store.lock import Holder
from taskengine.store.migrations import Migration, load, refuse_newer
from taskengine.store.queries import folder
from taskengine.store.reading import Look
from taskengine.store.select import Statement
from taskengine.store.sql_store import SqlStore, read_move, refuse_older, refuse_unfinished
from taskengine.store.tables import TABLES, Table

__all__ = ["Driver", "Link", "Purpose", "ServedStore"]

_T = TypeVar("_T")

Purpose = Literal["owner", "lane", "reader"]
"""What a link is for. The owner's is lane 0."""

_PAUSE_S: Final = 0.5
"""After a connection could not be made, so long nobody tries again: who asks meanwhile hears the same."""


_KEEP_AFTER_S: Final = 20.0
"""Drivers tell their servers to end a lane that has been silent for several times as long."""


class Link(Protocol):
    """One connection; one coroutine at a time. Errors come translated; after a StoreUnavailable see `alive`.

    alive    it can be used. fresh: it has not been used yet, so its end is no old story
    rows     of one query, outside of any transaction
    see      the look's questions in one read-only transaction
    commit   see `interface.Store.commit`
    copy_in  rows as `pages.page` gives them, then these statements, in one transaction
    """

    @property
    def alive(self) -> bool: ...

    @property
    def fresh(self) -> bool: ...

    async def rows(self, sql: str, values: Sequence[object]) -> Sequence[codec.Values]: ...

    async def see(self, look: Look[_T]) -> _T: ...

    async def commit(self, batch: Batch) -> None: ...

    async def copy_in(self, table: Table, rows: Sequence[codec.Values], then: Sequence[Statement]) -> None:
        """Raises StoreError when a row does not fit."""
        ...

    async def close(self) -> None: ...


class Driver(Protocol):
    """How to speak to one kind of server.

    address  for people, without a password
    """

    dialect: Dialect
    address: str
    lanes: int

    async def connect(self, purpose: Purpose) -> Link:
        """Raises InvalidConfiguration where trying again is of no use, StoreUnavailable where it is."""
        ...

    async def lock(self, link: Link) -> bool:
        """Take the owner's lock, which ends with the link; waits a moment for a holder that is dying."""
        ...

    async def locked(self, link: Link) -> bool:
        """Whether anybody has it."""
        ...

    async def bury(self, link: Link, dead: Link) -> None:
        """End what is left on the server of a link that has ended here. As well as it can; raises nothing for that."""
        ...

    async def migrate(self, link: Link, steps: Sequence[Migration], now_us: int) -> int: ...

    async def applied(self, link: Link) -> int:
        """Number of the newest step; 0 for an empty database. Raises InvalidConfiguration if it is not ours."""
        ...


class _Seat:
    """A place for one link, which is made when it is needed and made anew when it has ended."""

    def __init__(
        self,
        connect: Callable[[Link | None], Awaitable[Link]],
        monotonic: Callable[[], float],
    ) -> None:
        self._connect, self._monotonic = connect, monotonic
        self._dead: Link | None = None
        self._link: Link | None = None
        self._turn = asyncio.Lock()
        self._failed: StoreUnavailable | None = None
        self._again_s = 0.0
        self.queued = 0

    @asynccontextmanager
    async def taken(self, *, patient: bool = False) -> AsyncIterator[Link]:
        """The link, for one piece of work. patient: a connection that failed a moment ago is tried again at once."""
        self.queued += 1
        try:
            async with self._turn:
                yield await self._linked(patient=patient)
                if self._link is not None and not self._link.alive:
                    await self._drop()
        except BaseException:
            if self._link is not None and not self._link.alive:
                await self._drop()
            raise
        finally:
            self.queued -= 1

    async def _linked(self, *, patient: bool) -> Link:
        if self._link is not None and self._link.alive:
            return self._link
        await self._drop()
        if self._failed is not None and not patient and self._monotonic() < self._again_s:
            raise self._failed
        try:
            self._link = await self._connect(self._dead)
        except StoreUnavailable as exc:
            self._failed, self._again_s = exc, self._monotonic() + _PAUSE_S
            raise
        self._failed = self._dead = None
        return self._link

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            if not link.alive:
                self._dead = link
            await link.close()

    async def close(self) -> None:
        async with self._turn:
            await self._drop()


class ServedStore(SqlStore):
    """See `interface.Store`.

    driver     of the kind of server
    read_only  no lock and no writing: beside the process that owns the database
    readers    links that read; so many reads run at the same time
    partial    open also a database that a move has not finished filling
    locked     with read_only: take the lock all the same, so that nobody writes meanwhile
    """

    def __init__(
        self,
        driver: Driver,
        ambient: Ambient,
        *,
        read_only: bool,
        readers: int,
        partial: bool = False,
        locked: bool = False,
    ) -> None:
        super().__init__(driver.dialect)
        self._driver, self._ambient = driver, ambient
        self._read_only, self._partial, self._locked = read_only, partial, locked
        self._lanes = [self._seat("lane" if n else "owner") for n in range(driver.lanes)]
        self._readers = [self._seat("reader") for _ in range(readers)]
        self._address = ""
        self._epoch = 0
        self._schema = 0
        self._is_open = False
        self._closing = asyncio.Lock()

    def _seat(self, purpose: Purpose) -> _Seat:
        return _Seat(lambda dead: self._connect(purpose, dead), self._ambient.clock.monotonic)

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def address(self) -> str:
        return self._driver.address

    @property
    def lanes(self) -> int:
        return len(self._lanes)

    # -- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        if self._is_open:
            raise StoreError(f"{self._driver.address} is open already")
        self._is_open = True
        try:
            if self._read_only:
                await self._open_reading()
            else:
                await self._open_writing()
        except BaseException:
            await self.close()
            raise

    async def _connect(self, purpose: Purpose, dead: Link | None) -> Link:
        """A link in the place of one that has ended here. Over there it may live on, with a transaction or, on lane 0,
        the very lock that is needed now; so it is buried first. A lock that another process has is lost for good."""
        link = await self._driver.connect(purpose)
        try:
            if dead is not None:
                await self._driver.bury(link, dead)
            if purpose == "owner" and not await self._driver.lock(link):
                raise StoreLocked(self._driver.address, str(await self._noted(link)))
        except BaseException:
            await link.close()
            raise
        return link

    async def _noted(self, link: Link) -> Holder:
        """Who says to have the lock; a database that is being made says nothing yet."""
        notes = await link.rows(self._sql["read_holder"], ()) if await self._driver.applied(link) else ()
        return next((Holder.read(note.encode()) for (note,) in notes), Holder())

    async def _open_writing(self) -> None:
        steps, now_us = load(folder(self._dialect.name)), self._ambient.clock.now_us()
        async with self._lanes[0].taken() as link:
            self._schema = await self._driver.migrate(link, steps, now_us)
            await self._refuse_unfinished(link)
            await link.rows(self._sql["advance_epoch"], (Holder.here(host=_here()).note(),))
            ((epoch,),) = await link.rows(self._sql["read_epoch"], ())
            await link.rows(self._sql["forget_epochs"], (epoch,))
        self._epoch = int(epoch)

    async def _open_reading(self) -> None:
        steps = load(folder(self._dialect.name))
        if self._locked:
            async with self._lanes[0].taken():
                pass  # the link stays, and the lock on it
        async with self._readers[0].taken() as link:
            self._schema = await self._driver.applied(link)
        refuse_newer(self._schema, steps)
        refuse_older(self.address, self._schema, steps)
        async with self._readers[0].taken() as link:
            await self._refuse_unfinished(link)

    async def _refuse_unfinished(self, link: Link) -> None:
        if not self._partial:
            refuse_unfinished(self.address, await link.see(read_move(self._sql["read_move"])))

    async def close(self) -> None:
        async with self._closing, AsyncExitStack() as last_first:
            last_first.callback(self._closed)
            for seat in self._lanes:  # lane 0 goes last, and the lock with it
                last_first.push_async_callback(seat.close)
            for seat in self._readers:
                last_first.push_async_callback(seat.close)

    def _closed(self) -> None:
        self._epoch, self._is_open = 0, False

    async def note_address(self, address: str) -> None:
        if self._epoch:
            async with self._lanes[0].taken() as link:
                await link.rows(self._sql["note_holder"], (Holder.here(address, host=_here()).note(), self._epoch))
        elif not self._is_open:
            raise Unavailable("the store is not open")

    # -- writing ---------------------------------------------------------------------------------------------------

    async def commit(self, batch: Batch) -> None:
        if self._read_only:
            raise StoreError(f"{self._driver.address} was opened for reading only")
        if not self._epoch:
            raise Unavailable("the store is not open")
        async with self._lanes[batch.lane].taken(patient=True) as link:
            self._ambient.probe.reach("commit.applied")
            await link.commit(batch)

    @property
    def keep_after_s(self) -> float | None:
        return _KEEP_AFTER_S

    async def keep(self, lane: int) -> None:
        if self._epoch:
            async with self._lanes[lane].taken(patient=True) as link:
                await link.rows("SELECT 1", ())

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _read(self, work: Callable[[Link], Awaitable[_T]]) -> _T:
        """With the reader that has least to do. A link that was cut while it idled is made anew, once."""
        if not self._is_open:
            raise Unavailable("the store is not open")
        seat = min(self._readers, key=lambda reader: reader.queued)
        async with seat.taken() as link:
            try:
                return await work(link)
            except StoreUnavailable:
                if link.alive or link.fresh:
                    raise
        async with seat.taken() as link:
            return await work(link)

    async def _ask(self, query: str, values: Sequence[object], made: Callable[[codec.Values], _T]) -> list[_T]:
        wanted = self._askable(values)
        if wanted is None:
            return []
        return [made(found) for found in await self._read(lambda link: link.rows(query, wanted))]

    async def _few(self, name: str, *values: object) -> Sequence[codec.Values]:
        wanted = self._askable(values)
        if wanted is None:
            return []
        return await self._read(lambda link: link.rows(self._sql[name], wanted))

    async def _see(self, look: Callable[[], Look[_T]], *, quick: bool = False) -> _T:
        return await self._read(lambda link: link.see(look()))

    # -- for whoever looks after it --------------------------------------------------------------------------------

    async def _outline(self) -> tuple[int, Holder | None]:
        if self._is_open:
            return await self._read(self._look_outside)
        link = await self._driver.connect("reader")
        try:
            return await self._look_outside(link)
        finally:
            await link.close()

    async def _look_outside(self, link: Link) -> tuple[int, Holder | None]:
        found = await self._driver.applied(link)
        return found, await self._noted(link) if await self._driver.locked(link) else None

    async def copy_in(self, table: Table, rows: Sequence[codec.Values], note: MoveNote) -> None:
        async with self._lanes[0].taken() as link:
            await link.copy_in(table, rows, self._noting(note))

    async def note_move(self, note: MoveNote) -> None:
        async with self._lanes[0].taken() as link:
            await link.copy_in(TABLES[0], (), self._noting(note))

    def _noting(self, note: MoveNote) -> Sequence[Statement]:
        if not self._epoch:
            raise Unavailable(f"{self.address} is not open for writing")
        text = msgspec.json.encode(note).decode()
        return (self._sql["forget_move"], []), (self._sql["note_move"], [text])

    async def status(self) -> StoreStatus:
        counts, size = await self._count_by_state(), await self._few("size")
        return StoreStatus(
            address=self._driver.address, schema=self._schema, size_bytes=int(size[0][0] or 0), instances=counts
        )


def _here() -> str:
    return socket.gethostname()
