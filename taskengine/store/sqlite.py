"""The store in a SQLite file: write-ahead log, one fsync per commit, one process, one connection that writes.

All writes and all checkpoints go through the writer's thread: SQLite before 3.51.3 can corrupt the log when two
connections do that at once. Readers have connections and threads of their own and never hold a transaction longer
than one piece of work, so the log can be emptied.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from taskengine.ambient import Ambient
from taskengine.clock import Micros
from taskengine.errors import InvalidConfiguration, StoreError, Unavailable
from taskengine.model.ids import CommandId, InstanceId, Ordinal, Version, WorkflowId
from taskengine.model.records import (
    AttemptRow,
    CommandRow,
    DefinitionRow,
    EventRow,
    FunctionRow,
    InstanceRow,
    LogRow,
    TaskRow,
    TokenRow,
)
from taskengine.model.states import InstanceState, Phase, TaskState
from taskengine.store import codec, migrations, place
from taskengine.store.batch import Batch
from taskengine.store.interface import (
    ALL_INSTANCES,
    DEFAULT_READERS,
    MAX_ORDINAL,
    PENDING,
    RUNNING,
    Durability,
    InstanceQuery,
    Loaded,
    OpenTasks,
    Sight,
    StoreStatus,
)
from taskengine.store.lock import FileLock
from taskengine.store.queries import folder, queries
from taskengine.store.sqlite_batch import apply
from taskengine.store.sqlite_select import select_count, select_page
from taskengine.store.sqlite_thread import WorkThread, translate

__all__ = ["SqliteStore"]

_T = TypeVar("_T")

LOG_LIMIT_BYTES: Final = 16 << 20
"""Above this the log is copied into the database file. Its room is kept: overwriting syncs faster than growing."""

PAGE: Final = 200
"""Instances read at once by `unfinished`."""

_UNFINISHED: Final = " WHERE phase <> 'end' AND (created_us, id) > (?, ?) ORDER BY created_us, id LIMIT ?"


class SqliteStore:
    """See `interface.Store`.

    path           of the database file; it and its folder are made when missing, unless read_only
    read_only      no lock and no writing: any process may read beside the one that owns the file
    durability     full: a commit is on the disk when it returns. normal: it is with the operating system, which
                   writes it soon; a dying process loses nothing, a power cut may lose the last commits, and what
                   stays is consistent. Saves the fsync of each commit
    readers        connections, and so threads, that read; so many reads run at the same time
    allow_network  trust the locks of a network file system
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
    ) -> None:
        self.path = place.resolve(path)
        self._ambient = ambient
        self._read_only, self._allow_network = read_only, allow_network
        self._synchronous = _SYNCHRONOUS[durability]
        self._lock = FileLock(self.path)
        self._log_path = self.path.with_name(self.path.name + "-wal")
        self._log_name = str(self._log_path)  # looked at after each commit, and a Path takes 8 µs more
        self._writer = WorkThread(self.path, read_only=False)
        self._readers = [WorkThread(self.path, read_only=True) for _ in range(readers)]
        self._sql = _with_instances(queries("sqlite"))
        self._epoch = 0
        self._schema = 0
        self._next_checkpoint = LOG_LIMIT_BYTES
        self._is_open = False
        self._closing = asyncio.Lock()

    @property
    def epoch(self) -> int:
        return self._epoch

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
        try:
            place.make_file(self.path)
            self._lock.acquire()
        except OSError as exc:
            raise InvalidConfiguration(f"{self.path}: {exc.strerror}") from exc
        await self._writer.open()
        await self._writer.run(lambda db: _set_up_writer(db, self._synchronous))
        steps, now_us = migrations.load(folder("sqlite")), self._ambient.clock.now_us()
        self._schema = await self._writer.run(lambda db: migrations.migrate(db, steps, now_us))
        self._epoch = await self._writer.run(self._take_epoch)
        for reader in self._readers:
            await reader.open()

    async def _open_reading(self) -> None:
        if not self.path.exists():
            raise InvalidConfiguration(f"{self.path}: there is no such database")
        steps = migrations.load(folder("sqlite"))
        for reader in self._readers:
            await reader.open()
        self._schema = await self._readers[0].run(migrations.applied)
        migrations.refuse_newer(self._schema, steps)
        missing = steps[self._schema :]
        if not self._schema or not migrations.only_adds(missing):
            raise StoreError(
                f"{self.path} has schema {self._schema} and this program reads {len(steps)}; open it for writing once"
            )
        for reader in self._readers:
            await reader.run(lambda db: migrations.stand_in(db, missing))

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

    def note_address(self, address: str) -> None:
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

    async def _rows(self, name: str, *values: object) -> list[codec.Values]:
        return await self._ask(self._sql[name], values, _as_it_is)

    async def _ask(self, query: str, values: Sequence[object], made: Callable[[codec.Values], _T]) -> list[_T]:
        """`made` of each row, on the reader's thread."""
        wanted = codec.askable(values)
        if wanted is None:
            return []
        return await self._read(lambda db: [made(found) for found in db.execute(query, wanted)])

    async def _few(self, name: str, *values: object) -> list[codec.Values]:
        """Rows of a query that is always quick."""
        wanted, query = codec.askable(values), self._sql[name]
        if wanted is None:
            return []
        return await self._look(lambda db: db.execute(query, wanted).fetchall())

    async def instance(self, instance_id: InstanceId) -> InstanceRow | None:
        return next(map(codec.instance_row, await self._few("instance", instance_id)), None)

    async def sight(self, instance_id: InstanceId, wanted: Callable[[Version], Collection[int]]) -> Sight | None:
        if codec.askable((instance_id,)) is None:
            return None
        return await self._look(lambda db: self._sight(db, instance_id, wanted))

    def _sight(
        self, db: sqlite3.Connection, instance_id: InstanceId, wanted: Callable[[Version], Collection[int]]
    ) -> Sight | None:
        db.execute("BEGIN")  # the queries see one moment
        found = db.execute(self._sql["instance"], (instance_id,)).fetchone()
        if found is None:
            return None
        row = codec.instance_row(found)
        last = db.execute(self._sql["last_event"], (instance_id,)).fetchone()
        results: dict[Ordinal, bytes] = {}
        if row.phase is Phase.END and (ordinals := wanted(row.version)):
            asked = (instance_id, msgspec.json.encode(list(ordinals)).decode())
            results = dict(db.execute(self._sql["results"], asked))
        return Sight(row=row, last=None if last is None else codec.event_row(last), results=results)

    async def instances(
        self,
        query: InstanceQuery = ALL_INSTANCES,
        *,
        limit: int = 20,
        offset: int = 0,
        descending: bool = True,
        after: tuple[Micros, InstanceId] | None = None,
    ) -> list[InstanceRow]:
        columns = self._sql["instance_columns"]
        return await self._found(
            *select_page(columns, query, limit=limit, offset=offset, descending=descending, after=after)
        )

    async def count_instances(self, query: InstanceQuery = ALL_INSTANCES) -> int:
        return sum([count for (count,) in await self._ask(*select_count(query), _as_it_is)])

    async def unfinished(self) -> AsyncIterator[InstanceRow]:
        query = self._sql["instance_columns"] + _UNFINISHED
        last: tuple[int, str] = (-(1 << 63), "")
        while page := await self._found(query, (*last, PAGE)):
            for row in page:
                yield row
            last = (page[-1].created_us, page[-1].id)

    async def _found(self, query: str, values: Sequence[object]) -> list[InstanceRow]:
        return await self._ask(query, values, codec.instance_row)

    async def load(self, instance_ids: Collection[InstanceId]) -> dict[InstanceId, Loaded]:
        return await self._read(lambda db: self._load(db, list(instance_ids)))

    def _load(self, db: sqlite3.Connection, instance_ids: list[InstanceId]) -> dict[InstanceId, Loaded]:
        wanted = (msgspec.json.encode(instance_ids).decode(),)
        db.execute("BEGIN")  # the four queries see one moment
        query = self._sql["instance_columns"] + " WHERE id IN (SELECT value FROM json_each(?))"
        loaded = {
            row.id: Loaded(row=row, tasks=[], commands=[], last_seq=0)
            for row in map(codec.instance_row, db.execute(query, wanted))
        }
        for instance_id, *task in db.execute(self._sql["light_tasks"], wanted):
            loaded[instance_id].tasks.append(codec.task_row(task))
        for instance_id, *command in db.execute(self._sql["commands_of"], wanted):
            loaded[instance_id].commands.append(codec.command_row(command))
        for instance_id, last_seq in db.execute(self._sql["last_seqs"], wanted):
            loaded[instance_id] = msgspec.structs.replace(loaded[instance_id], last_seq=last_seq)
        return loaded

    async def tasks(self, instance_id: InstanceId, *, after: int = -1, limit: int = 500) -> list[TaskRow]:
        return [codec.task_row(found) for found in await self._rows("whole_tasks", instance_id, after, limit)]

    async def task_states(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, TaskState]:
        wanted = msgspec.json.encode(list(ordinals)).decode()
        rows = await self._rows("task_states", instance_id, wanted)
        return {Ordinal(ordinal): TaskState(state) for ordinal, state in rows}

    async def open_tasks(self, instance_id: InstanceId, count: int, *, limit: int = 100) -> OpenTasks:
        if codec.askable((instance_id,)) is None:
            return OpenTasks(running=[], pending=[Ordinal(n) for n in range(min(count, limit))])
        return await self._read(lambda db: self._open_tasks(db, instance_id, count, limit))

    def _open_tasks(self, db: sqlite3.Connection, instance_id: InstanceId, count: int, limit: int) -> OpenTasks:
        db.execute("BEGIN")  # the queries see one moment

        def ordinals(name: str, states: str) -> list[Ordinal]:
            return [ordinal for (ordinal,) in db.execute(self._sql[name], (instance_id, count, states, limit))]

        return OpenTasks(running=ordinals("tasks_in", _RUNNING), pending=ordinals("tasks_not_in", _NOT_PENDING))

    async def results(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, bytes]:
        wanted = msgspec.json.encode(list(ordinals)).decode()
        return {Ordinal(ordinal): result for ordinal, result in await self._rows("results", instance_id, wanted)}

    async def task_errors(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, bytes]:
        wanted = msgspec.json.encode(list(ordinals)).decode()
        return {Ordinal(ordinal): error for ordinal, error in await self._rows("task_errors", instance_id, wanted)}

    async def events(self, instance_id: InstanceId, *, after: int = 0, limit: int = 500) -> list[EventRow]:
        return [codec.event_row(found) for found in await self._rows("events", instance_id, after, limit)]

    async def last_event(self, instance_id: InstanceId) -> EventRow | None:
        return next(map(codec.event_row, await self._few("last_event", instance_id)), None)

    async def last_events(self, instance_ids: Collection[InstanceId]) -> dict[InstanceId, EventRow]:
        wanted = msgspec.json.encode(list(instance_ids)).decode()
        return {values[0]: codec.event_row(values) for values in await self._rows("last_events", wanted)}

    async def attempts(
        self, instance_id: InstanceId, ordinal: int | None = None, *, after: int = -1, last: int = MAX_ORDINAL
    ) -> list[AttemptRow]:
        if ordinal is None:
            found = await self._rows("attempts", instance_id, after, last)
        else:
            found = await self._rows("attempts_of_task", instance_id, ordinal)
        return [codec.attempt_row(values) for values in found]

    async def command(self, instance_id: InstanceId, command_id: CommandId) -> CommandRow | None:
        return next(map(codec.command_row, await self._few("command", instance_id, command_id)), None)

    async def commands(self, instance_id: InstanceId) -> list[CommandRow]:
        return [codec.command_row(found) for found in await self._rows("commands", instance_id)]

    async def instance_by_key(self, workflow_id: WorkflowId, key: str) -> InstanceRow | None:
        return next(map(codec.instance_row, await self._few("instance_by_key", workflow_id, key)), None)

    async def definition(self, version: Version) -> DefinitionRow | None:
        return next(map(codec.definition_row, await self._few("definition", version)), None)

    async def current(self, workflow_id: WorkflowId) -> DefinitionRow | None:
        return next(map(codec.definition_row, await self._few("current", workflow_id)), None)

    async def workflows(self) -> list[DefinitionRow]:
        return [codec.definition_row(found) for found in await self._rows("workflows")]

    async def versions(self, workflow_id: WorkflowId) -> list[DefinitionRow]:
        return [codec.definition_row(found) for found in await self._rows("versions", workflow_id)]

    async def functions(self) -> list[FunctionRow]:
        return [codec.function_row(found) for found in await self._rows("functions")]

    async def logs(
        self,
        instance_id: InstanceId,
        *,
        task: str | None = None,
        after: int = 0,
        limit: int = 1000,
        tail: int | None = None,
    ) -> list[LogRow]:
        name = "logs" if tail is None else "last_logs"
        count = limit if tail is None else tail
        if task is None:
            found = await self._rows(name, instance_id, after, count)
        else:
            found = await self._rows(f"{name}_of_task", instance_id, after, task, count)
        rows = [codec.log_row(values) for values in found]
        return rows if tail is None else rows[::-1]

    async def last_log(self, instance_id: InstanceId) -> int:
        return sum([last for (last,) in await self._rows("last_log", instance_id)])

    async def tokens(self) -> list[TokenRow]:
        return [codec.token_row(found) for found in await self._rows("tokens")]

    async def status(self) -> StoreStatus:
        counts = {InstanceState(state): count for state, count in await self._rows("count_by_state")}
        size = sum(_size(path) for path in (self.path, self._log_path))
        return StoreStatus(address=f"sqlite://{self.path}", schema=self._schema, size_bytes=size, instances=counts)


_FSYNC_FAILED: Final = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})


_SYNCHRONOUS: Final[Mapping[Durability, str]] = {"full": "FULL", "normal": "NORMAL"}


_RUNNING: Final = msgspec.json.encode(sorted(RUNNING)).decode()
_NOT_PENDING: Final = msgspec.json.encode(sorted(frozenset(TaskState) - PENDING)).decode()


def _with_instances(known: Mapping[str, str]) -> Mapping[str, str]:
    """Besides the queries of the file those that read whole instances, whose columns stand there once."""
    columns = known["instance_columns"]
    return {
        **known,
        "instance": f"{columns} WHERE id = ?",
        "instance_by_key": f"{columns} WHERE workflow_id = ? AND idempotency_key = ?",
    }


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


def _as_it_is(row: codec.Values) -> codec.Values:
    return row


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
