"""One connection to a MySQL or MariaDB server, through asyncmy.

Two questions at once on such a connection wait for ever, and the driver sets no limit to any wait: a link has one
coroutine at a time (see `served.py`), and a timer that breaks the line. Being cancelled in the middle ends the
connection, which the driver does by itself; the statement may go on at the server.
"""

import asyncio
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from asyncmy.errors import MySQLError

from taskengine.clock import Clock
from taskengine.errors import BatchRefused, StoreError, StoreLocked, StoreUnavailable
from taskengine.model.records import Sweep
from taskengine.store import codec, select
from taskengine.store.batch import Batch
from taskengine.store.mysql_batch import Statement, insert, packets, statements
from taskengine.store.mysql_errors import (
    DEADLOCK,
    DUPLICATE,
    MOVED,
    NO_EPOCH,
    UNFIT,
    ends_link,
    number_of,
    translate,
)
from taskengine.store.mysql_sweep import count, noted, sweeping
from taskengine.store.mysql_text import filled, literal
from taskengine.store.reading import Look
from taskengine.store.tables import Table

__all__ = ["MySqlLink"]

_T = TypeVar("_T")

_WAIT_S: Final = 30.0
"""No answer of the server takes longer, or the link is ended."""
_BYE_S: Final = 1.0
_TRIES: Final = 3
"""Of a batch that lost a deadlock. The other one goes on then, so a second try seldom meets it."""

_KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}
"""As far as this system has them: seconds, seconds, probes, milliseconds."""

_SEE: Final = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"


class MySqlLink:
    """See `served.Link`.

    name         of the lock that the connection holds as long as it lives, by which it can be found again
    most_bytes   that the server takes in one packet
    """

    def __init__(self, connection: Any, clock: Clock, where: str) -> None:
        self._connection, self._clock, self._where = connection, clock, where
        self._lost = False
        self.used = False
        self.name = ""
        self.most_bytes = 1 << 20
        transport = _transport(connection)
        line = None if transport is None else transport.get_extra_info("socket")
        if line is not None and line.family in (socket.AF_INET, socket.AF_INET6):
            for option, value in _KEEP_ALIVE.items():
                if hasattr(socket, option):
                    line.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    @property
    def server(self) -> str:
        """What it says that it is, such as 8.0.36 or 5.5.5-10.11.19-MariaDB."""
        said: str = self._connection.get_server_info()
        return said

    @property
    def alive(self) -> bool:
        return not self._lost and bool(self._connection.connected)

    @property
    def fresh(self) -> bool:
        return not self.used

    async def rows(
        self, sql: str, values: Sequence[object], *, leading: Sequence[str] = (), limit_s: float | None = None
    ) -> Sequence[codec.Values]:
        """leading: statements without values that travel ahead."""
        with self._in_time(limit_s or _WAIT_S):
            return await self._ask("; ".join([*leading, filled(sql, values)]), leading=len(leading))

    async def _ask(self, sql: str, *, leading: int = 0) -> Sequence[codec.Values]:
        """Rows of the statement behind so many leading ones."""
        cursor = self._connection.cursor()
        await cursor.execute(sql)
        for _ in range(leading):
            await cursor.nextset()
        found: Sequence[codec.Values] = await cursor.fetchall()
        return found

    async def see(self, look: Look[_T]) -> _T:
        with self._in_time(_WAIT_S):
            begun = False
            try:
                query, values = next(look)
                while True:
                    asked = filled(query, values)
                    rows = await (self._ask(asked) if begun else self._ask(f"{_SEE}; {asked}", leading=1))
                    begun = True
                    query, values = look.send(rows)
            except StopIteration as end:
                found: _T = end.value
            except BaseException:
                await self._roll_back()
                raise
            if begun:
                await self._connection.query("COMMIT")
        return found

    async def _roll_back(self) -> None:
        if self._connection.connected:
            with suppress(MySQLError):
                await self._connection.query("ROLLBACK")

    # -- writing ---------------------------------------------------------------------------------------------------

    async def commit(self, batch: Batch) -> None:
        for left in reversed(range(_TRIES)):
            try:
                await self._commit(batch)
            except StoreUnavailable as exc:
                lost_a_race = isinstance(exc.__cause__, MySQLError) and number_of(exc.__cause__) == DEADLOCK
                if not (lost_a_race and left):
                    raise
            else:
                return

    async def _commit(self, batch: Batch) -> None:
        more = [] if batch.sweep is None else await self._sweep(batch.sweep)
        await self.run(statements(batch, more), batch)

    async def _sweep(self, sweep: Sweep) -> list[Statement]:
        with self._in_time(_WAIT_S):
            instances = [str(instance_id) for (instance_id,) in await self._ask(noted(sweep))]
            if not instances:
                return []
            (counts,) = await self._ask(count(sweep, instances))
        return list(sweeping(sweep, instances, counts))

    async def run(self, asked: Iterable[Statement], batch: Batch) -> None:
        """A whole transaction. `batch` is what it is for, when it is refused."""
        parts = list(packets(asked, self.most_bytes))
        with self._in_time(_WAIT_S):
            for part in parts:
                failed = await self._send(part)
                if failed is None:
                    continue
                statement, exc = failed
                await self._roll_back()
                if statement.what == "own" and number_of(exc) in DUPLICATE:
                    return  # it had committed before
                refused = await self._refusal(statement, exc, batch)
                raise exc if refused is None else refused from exc

    async def copy_in(self, table: Table, rows: Sequence[codec.Values], then: Sequence[select.Statement]) -> None:
        names = (*table.columns, "number") if table.numbered else table.columns
        noting = [Statement("frame", "", filled(sql, values).encode()) for sql, values in then]
        whole = [_BEGIN, *insert(table.name, names, _as_it_is, [(row,) for row in rows]), *noting, _COMMIT]
        parts = list(packets(whole, self.most_bytes))
        with self._in_time(_WAIT_S):
            for part in parts:
                failed = await self._send(part)
                if failed is not None:
                    await self._roll_back()
                    raise failed[1]

    async def _send(self, part: Sequence[Statement]) -> tuple[Statement, MySQLError] | None:
        """The statement that failed, and why; the server has left out those behind it."""
        statement = part[0]
        try:
            await self._connection.query(b";".join([it.text for it in part]))
            for statement in part[1:]:  # noqa: B007
                await self._connection.next_result()
        except MySQLError as exc:
            return statement, exc
        return None

    async def _refusal(self, statement: Statement, exc: MySQLError, batch: Batch) -> StoreError | None:
        """What a failed statement says about the batch; None: nothing. Called after the rollback."""
        number = number_of(exc)
        if statement.what == "own" and number == NO_EPOCH:
            return StoreLocked(self._where, "another process has a newer epoch")
        if statement.what == "check" and number == MOVED:
            return BatchRefused(statement.table, "moved")
        if number in DUPLICATE:
            taken = statement.table == "instances" and not await self._has_one_of(batch)
            return BatchRefused(statement.table, "key" if taken else "exists")
        if number in UNFIT:
            return BatchRefused(statement.table, "unfit", str(exc.args[-1]))
        return None

    async def _has_one_of(self, batch: Batch) -> bool:
        """Is an instance that the batch makes there already? If not, it was a key that is taken. The error itself
        names the index in its text only."""
        ids = literal([it.row.id for it in batch.instances if it.expect is None]).decode()
        return bool(await self._ask(f"SELECT id FROM instances WHERE id IN {ids} LIMIT 1"))

    # -- life ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _in_time(self, limit_s: float) -> Iterator[None]:
        """Errors translated; after too long a wait the line is broken, which the driver hears at once."""
        self.used = True
        timer = self._clock.call_at(self._clock.monotonic() + limit_s, self._break)
        try:
            yield
        except MySQLError as exc:
            if ends_link(exc):
                self._lost = True
            raise translate(exc, self._where) from exc
        finally:
            timer.cancel()

    def _break(self) -> None:
        """Not `close`, which would first wait until everything is sent."""
        self._lost = True
        transport = _transport(self._connection)
        if transport is not None:
            transport.abort()

    async def close(self) -> None:
        if not self.alive:
            self._break()
            return
        timer = self._clock.call_at(self._clock.monotonic() + _BYE_S, self._break)
        try:
            with suppress(MySQLError):
                await self._connection.ensure_closed()
        finally:
            timer.cancel()
            self._break()


def _transport(connection: Any) -> asyncio.WriteTransport | None:
    """asyncmy has no other way to its socket, and none to end a connection at once."""
    found: asyncio.WriteTransport | None = getattr(connection, "_transport", None)
    return found


def _as_it_is(row: codec.Values) -> codec.Values:
    return row


_BEGIN: Final = Statement("frame", "", b"START TRANSACTION")
_COMMIT: Final = Statement("frame", "", b"COMMIT")
