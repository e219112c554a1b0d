"""PostgreSQL, through psycopg's awaiting connections.

Ways to write a batch, measured on two shared cores with rows of 21 columns, the client's CPU a row in batches of 3
and of 3,000: one call with JSON lists 39 and 6 µs, `unnest` of binary arrays 74 and 9, `executemany` 82 and 37. COPY
(55 and 4) has no way to update or to check in the same turn.
"""

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict

from taskengine.ambient import Ambient
from taskengine.clock import Clock
from taskengine.config.dsn import shown_dsn
from taskengine.errors import BatchRefused, InvalidConfiguration, StoreError, StoreFull, StoreLocked, StoreUnavailable
from taskengine.store import codec
from taskengine.store.batch import Batch
from taskengine.store.dialect import Dialect
from taskengine.store.interface import Durability
from taskengine.store.memory_tables import check_fit
from taskengine.store.migrations import Migration, refuse_newer
from taskengine.store.postgresql_batch import arguments
from taskengine.store.queries import queries
from taskengine.store.reading import Look
from taskengine.store.select import Statement
from taskengine.store.served import Link, Purpose
from taskengine.store.tables import Table

__all__ = ["POSTGRESQL", "PostgresDriver", "translate"]

_T = TypeVar("_T")

POSTGRESQL: Final = Dialect(
    name="postgresql",
    mark="%s",
    blob="convert_to({}, 'UTF8')",
    texts='(SELECT value COLLATE "C" AS value FROM json_array_elements_text(?::json))',
    numbers="(SELECT value::bigint FROM json_array_elements_text(?::json))",
    in_texts='= ANY (ARRAY(SELECT value COLLATE "C" FROM json_array_elements_text(?::json)))',
    in_numbers="= ANY (ARRAY(SELECT value::bigint FROM json_array_elements_text(?::json)))",
    aside="({} || '')",
    legs_apart=True,
    holds_nul=False,
    length="octet_length({})",
)
LANES: Final = 2
_SQL: Final = {name: POSTGRESQL.marked(sql) for name, sql in queries(POSTGRESQL).items()}

_MOVED_ON, _MOVED = "TE001", "TE002"  # raised by our own function
_WAIT_S: Final = 30.0
"""No answer of the server takes longer, or the link is ended."""
_LOCK_WAIT_S: Final = 3

_DEFAULTS: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "application_name": "taskengine",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_AGAIN_CLASSES: Final = frozenset({"08", "40", "53", "57"})  # connection, rollback, resources, operator
_AGAIN: Final = frozenset({"25006", "25P03", "55P03", "58000", "58030"})  # read only (a standby), time-outs, I/O
_DISK_FULL: Final = "53100"
_UNFIT_CLASSES: Final = frozenset({"22", "23", "54"})  # data, constraint, limits


def translate(exc: psycopg.Error, where: str) -> StoreError:
    """Retry or fatal, by SQLSTATE; an error without one is the connection's."""
    state = exc.sqlstate or ""
    text = f"{where}: {state} {exc}".strip() if state else f"{where}: {exc}"
    if state == _DISK_FULL:
        return StoreFull(text)
    if state[:2] in _AGAIN_CLASSES or state in _AGAIN:
        return StoreUnavailable(text)
    if not state and isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreUnavailable(text)
    return StoreError(text)


class PostgresDriver:
    """See `served.Driver`.

    dsn  as libpq takes it, `postgresql://user:password@host/database?sslmode=require`
    """

    dialect = POSTGRESQL
    lanes = LANES

    def __init__(self, dsn: str, ambient: Ambient, *, durability: Durability) -> None:
        self.address = shown_dsn(dsn)
        self._clock = ambient.clock
        self._durability = durability
        try:
            self._said = {**_DEFAULTS, **conninfo_to_dict(dsn)}
        except psycopg.Error as exc:
            raise InvalidConfiguration(f"{self.address} is no address of a PostgreSQL database: {exc}") from None

    async def connect(self, purpose: Purpose) -> Link:
        try:
            connection = await AsyncConnection.connect(**self._said, autocommit=True)
        except psycopg.Error as exc:
            raise self._refused(exc) from exc
        link = _PostgresLink(connection, self._clock, self.address)
        try:
            await self._set_up(link, purpose)
        except BaseException:
            await link.close()
            raise
        link.used = False
        return link

    def _refused(self, exc: psycopg.Error) -> StoreError | InvalidConfiguration:
        """A login that fails comes without SQLSTATE, so a server that answers at all and refuses cannot be told from
        one that is away; `open` says so to whoever waits."""
        return translate(exc, self.address)

    async def _set_up(self, link: "_PostgresLink", purpose: Purpose) -> None:
        if purpose == "reader":
            await link.rows(_SQL["set_up_reader"], ())
            return
        await link.rows(_SQL["set_up_lane"], ())
        ((synchronous,),) = await link.rows("SHOW synchronous_commit", ())
        if self._durability == "normal":
            await link.rows("SET synchronous_commit = off", ())
        elif synchronous == "off":
            await link.rows("SET synchronous_commit = on", ())
        await link.rows(_SQL["make_commit_batch"], ())

    async def lock(self, link: Link) -> bool:
        """A server sees the end of a connection when it next looks; after a kill that takes a moment."""
        await link.rows(f"SET lock_timeout = '{_LOCK_WAIT_S}s'", ())
        try:
            await link.rows(_SQL["lock"], ())
        except StoreUnavailable as exc:
            if isinstance(exc.__cause__, psycopg.errors.LockNotAvailable):
                return False
            raise
        await link.rows("SET lock_timeout = DEFAULT", ())
        return True

    async def locked(self, link: Link) -> bool:
        ((locked,),) = await link.rows(_SQL["is_locked"], ())
        return bool(locked)

    async def bury(self, link: Link, dead: Link) -> None:
        assert isinstance(dead, _PostgresLink), "links come from `connect`"
        with suppress(StoreError):
            await link.rows("SELECT pg_terminate_backend(%s)", (dead.number,))

    async def applied(self, link: Link) -> int:
        ((tables, ours),) = await link.rows(_SQL["our_tables"], ())
        if ours:
            ((number,),) = await link.rows(_SQL["applied"], ())
            return int(number)
        if tables:
            raise InvalidConfiguration(
                f"{self.address} has tables with our names that are not ours: use a database or a schema of its own, "
                "such as …?options=-csearch_path%3Dtaskengine"
            )
        return 0

    async def migrate(self, link: Link, steps: Sequence[Migration], now_us: int) -> int:
        """Each step is a transaction: one that was cut off has left nothing."""
        assert isinstance(link, _PostgresLink), "links come from `connect`"
        found = await self.applied(link)
        refuse_newer(found, steps)
        for step in steps[found:]:
            begin = () if found else (_SQL["make_migrations"],)
            note = (_SQL["note_migration"], (step.number, step.name, now_us))
            await link.transact([*((sql, None) for sql in (*begin, *step.statements)), note])
            found = step.number
        return max(found, len(steps))


class _PostgresLink:
    """See `served.Link`. `number` is the process of the connection, on the server."""

    def __init__(self, connection: AsyncConnection[Any], clock: Clock, where: str) -> None:
        self.number = connection.info.backend_pid
        self._connection, self._clock, self._where = connection, clock, where
        self._cursor = connection.cursor(binary=True)
        self.used = False

    @property
    def alive(self) -> bool:
        return not self._connection.closed

    @property
    def fresh(self) -> bool:
        return not self.used

    async def rows(self, sql: str, values: Sequence[object]) -> Sequence[codec.Values]:
        with self._in_time():
            return await self._execute(sql, values)

    async def _execute(self, sql: str, values: Sequence[object] | None) -> Sequence[codec.Values]:
        cursor = self._cursor
        await cursor.execute(sql, values or None)
        return await cursor.fetchall() if cursor.description else []

    async def see(self, look: Look[_T]) -> _T:
        with self._in_time():
            await self._execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", None)
            try:
                query, values = next(look)
                while True:
                    query, values = look.send(await self._execute(query, values))
            except StopIteration as end:
                found: _T = end.value
            except BaseException:
                await self._roll_back()
                raise
            await self._execute("COMMIT", None)
        return found

    async def copy_in(self, table: Table, rows: Sequence[codec.Values], then: Sequence[Statement]) -> None:
        """COPY, and behind it the counter of a table's own numbers, which has to go on after the largest."""
        places = ", ".join(POSTGRESQL.quoted(name) for name in table.places(POSTGRESQL))
        with self._in_time():
            await self._execute("BEGIN", None)
            try:
                if rows:
                    await self._copy(f"COPY {table.name} ({places}) FROM STDIN", rows)
                if rows and table.numbered:
                    await self._execute(_SQL["count_on"], (table.name, table.name, max(row[-1] for row in rows)))
                for sql, values in then:
                    await self._execute(sql, values)
                await self._execute("COMMIT", None)
            except BaseException:
                await self._roll_back()
                raise

    async def _copy(self, sql: str, rows: Sequence[codec.Values]) -> None:
        async with self._cursor.copy(sql) as copy:
            for row in rows:
                await copy.write_row(row)

    async def transact(self, statements: Sequence[tuple[str, Sequence[object] | None]]) -> None:
        with self._in_time():
            await self._execute("BEGIN", None)
            try:
                for sql, values in statements:
                    await self._execute(sql, values)
                await self._execute("COMMIT", None)
            except BaseException:
                await self._roll_back()
                raise

    async def _roll_back(self) -> None:
        with suppress(psycopg.Error):
            await self._execute("ROLLBACK", None)

    async def commit(self, batch: Batch) -> None:
        asked = arguments(batch)
        try:
            with self._in_time():
                await self._execute(_SQL["commit_batch"], asked)
        except StoreError as exc:
            if not isinstance(exc.__cause__, psycopg.Error):
                raise
            refused = _refusal(exc.__cause__, self._where, batch)
            if refused is _COMMITTED_BEFORE:
                return
            if isinstance(refused, StoreError):
                raise refused from exc.__cause__
            raise

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Errors translated; after too long a wait the socket is shut, which psycopg hears at once. Being cancelled
        instead would make it ask the server to stop, and wait ten seconds more on a line that is dead."""
        self.used = True
        timer = self._clock.call_at(self._clock.monotonic() + _WAIT_S, self._shut)
        try:
            yield
        except psycopg.Error as exc:
            raise translate(exc, self._where) from exc
        finally:
            timer.cancel()

    def _shut(self) -> None:
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        with suppress(psycopg.Error, asyncio.CancelledError):
            await self._connection.close()


_COMMITTED_BEFORE: Final = object()


def _refusal(exc: psycopg.Error, where: str, batch: Batch) -> object:
    """What an error of the committing function means, beyond retry or fatal: None, a StoreError, or that the batch had
    committed before."""
    state, table = exc.sqlstate or "", exc.diag.table_name or ""
    if state == _MOVED_ON:
        return StoreLocked(where, "another process has a newer epoch")
    if state == _MOVED:
        return BatchRefused(table, "moved")
    if state == "23505":
        if table == "batches":
            return _COMMITTED_BEFORE
        by_key = exc.diag.constraint_name == "instances_by_key"
        return BatchRefused(table, "key" if by_key else "exists")
    if state[:2] in _UNFIT_CLASSES:
        check_fit(batch)  # a value that no database takes; it knows the table, where the server says only the value
        return BatchRefused(table or "tables", "unfit", str(exc).partition("\n")[0])
    return None
