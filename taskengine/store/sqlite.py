"""The store in a SQLite file: write-ahead log, one fsync per commit, one process, one connection that writes.

All writes and all checkpoints go through the writer's thread: SQLite before 3.51.3 can corrupt the log when two
connections do that at once. Readers have connections and threads of their own and never hold a transaction longer
than one piece of work, so the log can be emptied.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from taskengine.ambient import Ambient
from taskengine.errors import InvalidConfiguration, StoreError, Unavailable
from taskengine.store import codec, migrations, place
from taskengine.store.batch import Batch
from taskengine.store.dialect import SQLITE
from taskengine.store.interface import (
    DEFAULT_READERS,
    Durability,
    MoveNote,
    StoreStatus,
)
from taskengine.store.lock import FileLock, Holder, holder_of, is_locked
from taskengine.store.pages import insertion
from taskengine.store.queries import folder
from taskengine.store.reading import Look
from taskengine.store.sql_store import SqlStore, read_move, refuse_older, refuse_unfinished
from taskengine.store.sqlite_batch import apply
from taskengine.store.sqlite_thread import WorkThread, translate
from taskengine.store.tables import Table

__all__ = ["SqliteStore"]

_T = TypeVar("_T")

LOG_LIMIT_BYTES: Final = 16 << 20
"""Above this the log is copied into the database file. Its room is kept: overwriting syncs faster than growing."""


class SqliteStore(SqlStore):
    """See `interface.Store`.

    path           of the database file; it and its folder are made when missing, unless read_only
    read_only      no lock and no writing: any process may read beside the one that owns the file
    locked         with the lock all the same, so that nobody writes meanwhile
    durability     full: a commit is on the disk when it returns. normal: it is with the operating system, which
                   writes it soon; a dying process loses nothing, a power cut may lose the last commits, and what
                   stays is consistent. Saves the fsync of each commit
    readers        connections, and so threads, that read; so many reads run at the same time
    allow_network  trust the locks of a network file system
    partial        open also a file that a move has not finished filling
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        ambient: Ambient,
        *,
        read_only: bool = False,
        durability: Durability = "full",
        readers: int = DEFAULT_READERS,
        allow_network: bool = False,
        partial: bool = False,
        locked: bool = False,
    ) -> None:
        super().__init__(SQLITE)
        self.path = place.resolve(path)
        self._ambient = ambient
        self._read_only, self._locked = read_only, locked or not read_only
        self._allow_network, self._partial = allow_network, partial
        self._synchronous = _SYNCHRONOUS[durability]
        self._lock = FileLock(self.path)
        self._log_path = self.path.with_name(self.path.name + "-wal")
        self._log_name = str(self._log_path)  # looked at after each commit, and a Path takes 8 µs more
        self._writer = WorkThread(self.path, read_only=False)
        self._readers = [WorkThread(self.path, read_only=True) for _ in range(readers)]
        self._epoch = 0
        self._schema = 0
        self._next_checkpoint = LOG_LIMIT_BYTES
        self._is_open = False
        self._closing = asyncio.Lock()

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def address(self) -> str:
        return f"sqlite://{self.path}"

    @property
    def lanes(self) -> int:
        return 1  # one connection writes

    @property
    def keep_after_s(self) -> float | None:
        return None

    async def keep(self, lane: int) -> None:
        """There is nobody to tell."""

    async def open(self) -> None:
        if self._is_open:
            raise StoreError(f"{self.path} is open already")
        if not self._allow_network:
            place.refuse_network(self.path)
        self._is_open = True
        try:
            if self._read_only:
                await self._open_reading()
            else:
                await self._open_writing()
        except BaseException:
            await self.close()
            raise

    async def _open_writing(self) -> None:
        self._take_lock()
        await self._writer.open()
        await self._writer.run(lambda db: _set_up_writer(db, self._synchronous))
        steps, now_us = migrations.load(folder("sqlite")), self._ambient.clock.now_us()
        self._schema = await self._writer.run(lambda db: migrations.migrate(db, steps, now_us))
        await self._writer.run(self._refuse_unfinished)
        self._epoch = await self._writer.run(self._take_epoch)
        for reader in self._readers:
            await reader.open()

    def _take_lock(self) -> None:
        try:
            if not self._read_only:
                place.make_file(self.path)
            self._lock.acquire()
        except OSError as exc:
            raise InvalidConfiguration(f"{self.path}: {exc.strerror}") from exc

    async def _open_reading(self) -> None:
        if not self.path.exists():
            raise InvalidConfiguration(f"{self.path}: there is no such database")
        if self._locked:
            self._take_lock()
        steps = migrations.load(folder("sqlite"))
        for reader in self._readers:
            await reader.open()
        self._schema = await self._readers[0].run(migrations.applied)
        migrations.refuse_newer(self._schema, steps)
        missing = steps[self._schema :]
        if not self._schema or not migrations.only_adds(missing):
            refuse_older(self.address, self._schema, steps)
        for reader in self._readers:
            await reader.run(lambda db: migrations.stand_in(db, missing))
        await self._readers[0].run(self._refuse_unfinished)

    def _refuse_unfinished(self, db: sqlite3.Connection) -> None:
        if not self._partial:
            refuse_unfinished(self.address, _answer(db, read_move(self._sql["read_move"])))

    def _take_epoch(self, db: sqlite3.Connection) -> int:
        db.execute("BEGIN IMMEDIATE")
        (epoch,) = db.execute(self._sql["next_epoch"]).fetchone()
        db.execute(self._sql["forget_epochs"], (epoch,))
        return int(epoch)

    async def close(self) -> None:
        async with self._closing, AsyncExitStack() as last_first:
            last_first.callback(self._closed)
            last_first.push_async_callback(self._writer.close)
            last_first.push_async_callback(self._empty_log)
            for reader in self._readers:
                last_first.push_async_callback(reader.close)

    async def _empty_log(self) -> None:
        """What SQLite does when the last connection goes, but here an error is heard."""
        if self._epoch:
            try:
                await self._writer.run(lambda db: self._checkpoint(db, "TRUNCATE"))
            except StoreError as exc:
                self._ambient.log.error("store.last_checkpoint_failed", path=str(self.path), exc=exc)

    def _closed(self) -> None:
        self._epoch, self._is_open = 0, False
        self._lock.release()

    async def note_address(self, address: str) -> None:
        """Say in the lock file where this process serves, for whoever finds the file locked."""
        if self._epoch:
            self._lock.note(address)
        elif not self._is_open:
            raise Unavailable("the store is not open")

    async def commit(self, batch: Batch) -> None:
        if self._read_only:
            raise StoreError(f"{self.path} was opened for reading only")
        await self._writer.run(lambda db: self._commit(db, batch))

    def _commit(self, db: sqlite3.Connection, batch: Batch) -> None:
        if apply(db, batch, self._sql, lambda: self._ambient.probe.reach("commit.applied")):
            db.execute("COMMIT")
            self._bound_log(db)
        else:
            db.execute("ROLLBACK")

    def _bound_log(self, db: sqlite3.Connection) -> None:
        """Copy a long log into the database file. The batch is committed, so only a failed fsync may speak here.

        Done here because SQLite, left to itself, ignores errors of this step: it would try the fsync again, hear
        from the kernel that all is well, and drop the log of pages that never reached the disk. SQLite reuses the
        log's room when every reader has gone on, and cuts it down to the limit; so a file above the limit is a long
        log and not an old one.
        """
        try:
            size = os.stat(self._log_name).st_size
        except FileNotFoundError:
            return
        if size <= LOG_LIMIT_BYTES:
            self._next_checkpoint = LOG_LIMIT_BYTES
        elif size > self._next_checkpoint:
            self._next_checkpoint = size + LOG_LIMIT_BYTES // 4
            self._checkpoint(db, "PASSIVE")

    def _checkpoint(self, db: sqlite3.Connection, mode: str) -> None:
        try:
            db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error as exc:
            if getattr(exc, "sqlite_errorcode", 0) in _FSYNC_FAILED:
                raise
            self._ambient.log.warning("store.checkpoint_failed", error=str(translate(exc, str(self.path))))

    async def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Work that may take long, with the reader that has least of it; the last one before the first."""
        return await min(reversed(self._readers), key=lambda reader: (reader.long, reader.queued)).run(work)

    async def _look(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """A few rows by their key. Such questions go to one reader, where they travel together."""
        return await min(self._readers, key=lambda reader: reader.long).run(work, alone=False)

    async def _ask(self, query: str, values: Sequence[object], made: Callable[[codec.Values], _T]) -> list[_T]:
        """`made` of each row, on the reader's thread."""
        wanted = self._askable(values)
        if wanted is None:
            return []
        return await self._read(lambda db: [made(found) for found in db.execute(query, wanted)])

    async def _few(self, name: str, *values: object) -> list[codec.Values]:
        """Rows of a query that is always quick."""
        wanted, query = self._askable(values), self._sql[name]
        if wanted is None:
            return []
        return await self._look(lambda db: db.execute(query, wanted).fetchall())

    async def _see(self, look: Callable[[], Look[_T]], *, quick: bool = False) -> _T:
        return await (self._look if quick else self._read)(lambda db: _answer(db, look()))

    # -- for whoever looks after it -------------------------------------------------------------------------------

    async def _outline(self) -> tuple[int, Holder | None]:
        holder = holder_of(self.path) if is_locked(self.path) else None
        if self._is_open or not self.path.exists():
            return self._schema, holder
        looker = WorkThread(self.path, read_only=True)
        await looker.open()
        try:
            return await looker.run(migrations.applied), holder
        finally:
            await looker.close()

    async def copy_in(self, table: Table, rows: Sequence[codec.Values], note: MoveNote) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            try:
                db.executemany(insertion(self._dialect, table), rows)
            except sqlite3.IntegrityError as exc:
                raise StoreError(f"{self.address} cannot hold a row of {table.name}: {exc}") from exc
            self._write_note(db, note)

        await self._as_owner(work)

    async def note_move(self, note: MoveNote) -> None:
        await self._as_owner(lambda db: self._write_note(db, note))

    def _write_note(self, db: sqlite3.Connection, note: MoveNote) -> None:
        db.execute(self._sql["forget_move"])
        db.execute(self._sql["note_move"], (msgspec.json.encode(note).decode(),))

    async def _as_owner(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """One transaction of the writer; the log is kept short, as behind every commit."""
        if not self._epoch:
            raise Unavailable(f"{self.address} is not open for writing")
        await self._writer.run(work)
        await self._writer.run(self._bound_log)

    async def status(self) -> StoreStatus:
        counts = await self._count_by_state()
        size = sum(_size(path) for path in (self.path, self._log_path))
        return StoreStatus(address=self.address, schema=self._schema, size_bytes=size, instances=counts)


_FSYNC_FAILED: Final = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})


_SYNCHRONOUS: Final[Mapping[Durability, str]] = {"full": "FULL", "normal": "NORMAL"}


def _answer(db: sqlite3.Connection, look: Look[_T]) -> _T:
    """On a reader's thread: the questions of a look, in one transaction so that they see one moment."""
    db.execute("BEGIN")
    try:
        query, values = next(look)
        while True:
            query, values = look.send(db.execute(query, values).fetchall())
    except StopIteration as end:
        found: _T = end.value
        return found


def _set_up_writer(db: sqlite3.Connection, synchronous: str) -> None:
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(f"no write-ahead log on this file system (journal mode {mode}): use a local disk")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone stops at the drive's cache; no effect elsewhere
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT_BYTES}")
    db.execute("PRAGMA temp_store = MEMORY")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
