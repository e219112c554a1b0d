"""MySQL and MariaDB, through asyncmy. A batch is two ways there and back: all its statements, and the COMMIT."""

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncmy
from asyncmy.constants import CLIENT
from asyncmy.errors import MySQLError

from taskengine.ambient import Ambient
from taskengine.clock import Clock
from taskengine.config.dsn import shown_dsn
from taskengine.errors import (
    BatchRefused,
    InvalidConfiguration,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreUnavailable,
)
from taskengine.store import codec
from taskengine.store.batch import Batch
from taskengine.store.dialect import Dialect
from taskengine.store.interface import Durability
from taskengine.store.memory_tables import check_fit
from taskengine.store.migrations import Migration, refuse_newer
from taskengine.store.mysql_batch import Statement, statements
from taskengine.store.queries import queries
from taskengine.store.reading import Look
from taskengine.store.served import Link, Purpose

__all__ = ["MYSQL", "MySqlDriver", "translate"]

_T = TypeVar("_T")

MYSQL: Final = Dialect(
    name="mysql",
    mark="%s",
    blob="CAST({} AS BINARY)",
    texts="(SELECT value FROM json_table(?, '$[*]' COLUMNS (value VARCHAR(255) PATH '$')) AS list)",
    numbers="(SELECT value FROM json_table(?, '$[*]' COLUMNS (value BIGINT PATH '$')) AS list)",
    aside="concat({}, '')",
    forced="FORCE INDEX ({})",
    rows_in_order=False,
    legs_apart=True,
)
LANES: Final = 2
_SQL: Final = {name: MYSQL.marked(sql) for name, sql in queries(MYSQL).items()}

_WAIT_S: Final = 30.0
"""No answer of the server takes longer, or the link is ended."""
_ROW_LOCK_WAIT_S: Final = 10
_LOCK_WAIT_S: Final = 3
_CONNECT_S: Final = 5
_COLLATIONS: Final = ("utf8mb4_nopad_bin", "utf8mb4_0900_bin")  # MariaDB's name and MySQL's
_MODE: Final = "STRICT_ALL_TABLES,ANSI_QUOTES,NO_ENGINE_SUBSTITUTION"
_LEAST_PACKET: Final = 1 << 20

# https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html, https://mariadb.com/kb/en/mariadb-error-codes/
_FULL: Final = frozenset({1021, 1114})
_GONE: Final = frozenset({0, 1040, 1042, 1043, 1047, 1053, 1077, 1080, 1129, 1152, 1156, 1158, 1159, 1160, 1161, 1184})
_GONE_CLIENT: Final = range(2000, 2100)
_AGAIN: Final = frozenset({1015, 1036, 1037, 1038, 1041, 1203, 1205, 1213, 1226, 1290, 1317, 1614, 1792, 1836, 1927})
_DUPLICATE: Final = frozenset({1062, 1586})
_UNFIT: Final = frozenset({1048, 1118, 1153, 1264, 1265, 1300, 1301, 1366, 1367, 1406, 1690, 3140, 3988})
_CONFIGURATION: Final = frozenset({1044, 1045, 1046, 1049, 1095, 1142, 1227, 1251, 1524, 1698, 3118, 3159})
_THERE_ALREADY: Final = frozenset({1050, 1060, 1061})
_TOO_LARGE: Final = 1153


def _number(exc: BaseException) -> int:
    return exc.args[0] if isinstance(exc, MySQLError) and exc.args and isinstance(exc.args[0], int) else 0


def translate(exc: BaseException, where: str) -> StoreError:
    """Retry or fatal, by the server's number; what is no error of the server's is the connection's."""
    number = _number(exc)
    text = f"{where}: {number} {exc.args[1] if len(exc.args) > 1 else exc}" if number else f"{where}: {exc}"
    if number in _FULL:
        return StoreFull(text)
    if number in _GONE or number in _GONE_CLIENT or number in _AGAIN or not isinstance(exc, MySQLError):
        return StoreUnavailable(text)
    return StoreError(text)


class MySqlDriver:
    """See `served.Driver`.

    dsn  `mysql://user:password@host:port/database`, percent-encoded, with `?ssl=true` for TLS, or `?ssl_ca=file` to
         trust the authorities in that file
    """

    dialect = MYSQL
    lanes = LANES

    def __init__(self, dsn: str, ambient: Ambient, *, durability: Durability) -> None:
        self.address = shown_dsn(dsn)
        self._clock, self._log, self._durability = ambient.clock, ambient.log, durability
        self._said = self._read(dsn)
        self._collation = _COLLATIONS[0]

    def _read(self, dsn: str) -> dict[str, Any]:
        try:
            parts = urlsplit(dsn)
            port = parts.port or 3306
        except ValueError as exc:
            raise InvalidConfiguration(f"{self.address} is no address of a database: {exc}") from None
        database = unquote(parts.path.strip("/"))
        if not parts.hostname or not database or "/" in database:
            raise InvalidConfiguration(
                f"{self.address} names no database; an address is mysql://user:password@host:3306/database"
            )
        return {
            "host": parts.hostname,
            "port": port,
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "database": database,
            "ssl": self._tls(dict(parse_qsl(parts.query, keep_blank_values=True))),
        }

    def _tls(self, said: dict[str, str]) -> ssl.SSLContext | None:
        wanted, authorities = said.pop("ssl", "true" if "ssl_ca" in said else "false"), said.pop("ssl_ca", None)
        if said or wanted not in ("true", "false"):
            raise InvalidConfiguration(f"{self.address}: the options of a MySQL address are ssl=true and ssl_ca=FILE")
        try:
            return ssl.create_default_context(cafile=authorities) if wanted == "true" else None
        except (OSError, ssl.SSLError) as exc:
            raise InvalidConfiguration(f"{self.address}: ssl_ca={authorities} cannot be read: {exc}") from exc

    async def connect(self, purpose: Purpose) -> Link:
        flags = CLIENT.FOUND_ROWS | (0 if purpose == "reader" else CLIENT.MULTI_STATEMENTS)
        try:
            async with asyncio.timeout(_CONNECT_S):  # the driver's own ends when the line is there, before the login
                connection = await asyncmy.connect(
                    **self._said, charset="utf8mb4", autocommit=True, client_flag=flags, program_name="taskengine"
                )
        except (MySQLError, OSError, EOFError, RuntimeError) as exc:  # RuntimeError: cut before its options were set
            raise self._refused(exc) from exc
        link = _MySqlLink(connection, self._clock, self.address)
        try:
            await self._set_up(link, purpose)
        except BaseException:
            await link.close()
            raise
        link.used = False
        return link

    def _refused(self, exc: BaseException) -> StoreError | InvalidConfiguration:
        if _number(exc) in _CONFIGURATION:
            return InvalidConfiguration(f"{self.address}: {exc.args[1]}; {self._advice(_number(exc))}")
        return translate(exc, self.address)

    def _advice(self, number: int) -> str:
        if number == 1049:
            return f"make it with CREATE DATABASE {self._said['database']}"
        return "correct the user and the password of the address, or grant that user all rights on the database"

    async def _set_up(self, link: "_MySqlLink", purpose: Purpose) -> None:
        ((version, packet, flush, binary_log, synced),) = await link.rows(
            "SELECT version(), @@max_allowed_packet, @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog", ()
        )
        self._collation = _COLLATIONS["mariadb" not in str(version).lower()]
        link.longest = max(_LEAST_PACKET, int(packet)) - 1024
        await link.rows(f"SET SESSION sql_mode = '{_MODE}'", ())
        await link.rows(f"SET NAMES utf8mb4 COLLATE {self._collation}", ())
        await link.rows("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", ())
        await link.rows(f"SET SESSION innodb_lock_wait_timeout = {_ROW_LOCK_WAIT_S}", ())
        if purpose == "owner" and self._durability == "full":
            self._look_at_durability(int(flush), int(binary_log), int(synced))

    def _look_at_durability(self, flush: int, binary_log: int, synced: int) -> None:
        """What a commit is worth is a setting of the whole server, which is not ours to change."""
        if flush != 1 or (binary_log and synced != 1):
            self._log.warning(
                "store.not_durable",
                address=self.address,
                advice="set innodb_flush_log_at_trx_commit = 1 and sync_binlog = 1 on the server, or a power cut "
                "there takes acknowledged work with it; durability: normal says that this is meant",
            )

    async def lock(self, link: Link) -> bool:
        ((taken,),) = await link.rows(_SQL["lock"], (_LOCK_WAIT_S,))
        return bool(taken)

    async def bury(self, link: Link, dead: Link) -> None:
        """A transaction of a connection that was cut may live on over there and hold its rows."""
        assert isinstance(dead, _MySqlLink), "links come from `connect`"
        with suppress(StoreError):
            await link.rows(f"KILL {dead.number}", ())

    async def applied(self, link: Link) -> int:
        ((tables, ours),) = await link.rows(_SQL["our_tables"], ())
        if ours:
            ((number,),) = await link.rows(_SQL["applied"], ())
            return int(number)
        if tables:
            raise InvalidConfiguration(
                f"{self.address} has tables with our names that are not ours: use a database of its own"
            )
        return 0

    async def migrate(self, link: Link, steps: Sequence[Migration], now_us: int) -> int:
        """What makes a table commits by itself, so it is noted how far a step is; one that was cut off goes on."""
        found = await self.applied(link)
        refuse_newer(found, steps)
        if steps[found:]:
            await link.rows(self._collated(_SQL["make_migrations"]), ())
        for step in steps[found:]:
            ((done,),) = await link.rows(_SQL["statements_done"], (step.number,))
            for count, statement in enumerate(step.statements[int(done) :], int(done) + 1):
                await self._take(link, self._collated(statement))
                await link.rows(_SQL["note_migration"], (step.number, step.name, now_us, count, 0))
            await link.rows(_SQL["note_migration"], (step.number, step.name, now_us, len(step.statements), 1))
        return max(found, len(steps))

    async def _take(self, link: Link, statement: str) -> None:
        try:
            await link.rows(statement, ())
        except StoreError as exc:
            if _number(exc.__cause__ or exc) not in _THERE_ALREADY:  # cut off before it was noted
                raise

    def _collated(self, statement: str) -> str:
        return statement.replace(_COLLATIONS[0], self._collation)


class _MySqlLink:
    """See `served.Link`.

    number   of the connection, on the server
    longest  bytes of one packet
    """

    def __init__(self, connection: Any, clock: Clock, where: str) -> None:
        self._connection, self._clock, self._where = connection, clock, where
        self._broken = False
        self.number = int(connection.thread_id())
        self.longest = _LEAST_PACKET
        self.used = False

    @property
    def alive(self) -> bool:
        return not self._broken and bool(self._connection.connected)

    @property
    def fresh(self) -> bool:
        return not self.used

    async def rows(self, sql: str, values: Sequence[object]) -> Sequence[codec.Values]:
        with self._in_time():
            return await self._execute(sql, values)

    async def _execute(self, sql: str, values: Sequence[object]) -> Sequence[codec.Values]:
        async with self._connection.cursor() as cursor:
            await cursor.execute(sql, tuple(values) or None)
            found: Sequence[codec.Values] = await cursor.fetchall() if cursor.description else ()
            return found

    async def see(self, look: Look[_T]) -> _T:
        with self._in_time():
            await self._execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", ())
            await self._execute("START TRANSACTION WITH CONSISTENT SNAPSHOT", ())
            try:
                query, values = next(look)
                while True:
                    query, values = look.send(await self._execute(query, values))
            except StopIteration as end:
                found: _T = end.value
            except BaseException:
                await self._roll_back()
                raise
            await self._execute("COMMIT", ())
        return found

    async def commit(self, batch: Batch) -> None:
        await self.run([Statement("", "START TRANSACTION"), *statements(batch)], batch)

    async def run(self, asked: Sequence[Statement], batch: Batch) -> None:
        """Statements that begin a transaction, and the COMMIT. `batch` is what they are for, when they are refused."""
        with self._in_time():
            try:
                at = 0
                for packet in self._packets(asked):
                    at = await self._send(packet, asked, at, batch)
                await self._execute("COMMIT", ())
            except _CommittedBefore:
                await self._roll_back()
            except BaseException:
                await self._roll_back()
                raise

    def _packets(self, asked: Sequence[Statement]) -> Iterator[bytes]:
        """As many statements together as the server takes in one packet."""
        texts: list[bytes] = []
        size = 0
        for statement in asked:
            text = statement.sql.encode()
            if texts and size + len(text) > self.longest:
                yield b";".join(texts)
                texts, size = [], 0
            texts.append(text)
            size += len(text) + 1
        yield b";".join(texts)

    async def _send(self, packet: bytes, asked: Sequence[Statement], at: int, batch: Batch) -> int:
        """Run a packet whose first statement is `asked[at]`; gives the number of the next one."""
        connection = self._connection
        affected = None
        while True:
            statement = asked[at]
            try:
                affected = await (connection.query(packet) if affected is None else connection.next_result())
            except MySQLError as exc:
                await self._refuse(exc, statement, batch)
                raise
            if statement.wanted is not None and affected != statement.wanted:
                if statement.table == "batches":
                    raise StoreLocked(self._where, "another process has a newer epoch")
                raise BatchRefused(statement.table, "moved")
            at += 1
            if not connection._result.has_next:
                return at

    async def _refuse(self, exc: MySQLError, statement: Statement, batch: Batch) -> None:
        """Raise what an error means beyond retry or fatal, if it does."""
        number, table = _number(exc), statement.table
        if number in _DUPLICATE:
            if table == "batches":
                raise _CommittedBefore
            raise BatchRefused(table, await self._clash(table, batch)) from exc
        if number in _UNFIT:
            check_fit(batch)  # a value that no database takes; it knows the table of that value
            raise BatchRefused(table, "unfit", str(exc.args[1])) from exc

    async def _clash(self, table: str, batch: Batch) -> Any:
        """Which of the two unique keys of an instance is taken; the error says it in words only."""
        if table != "instances":
            return "exists"
        names = [it.row.id for it in batch.instances if it.expect is None]
        marks = ", ".join(["%s"] * len(names))
        found = await self._execute(f"SELECT 1 FROM instances WHERE id IN ({marks}) LIMIT 1", names)
        return "exists" if found else "key"

    async def _roll_back(self) -> None:
        """Also of what the server has not answered yet. A link that cannot is of no use any more."""
        connection = self._connection
        try:
            while connection._result is not None and connection._result.has_next:
                with suppress(MySQLError):
                    await connection.next_result()
            await self._execute("ROLLBACK", ())
        except (MySQLError, OSError, EOFError):
            self._broken = True

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Errors translated; after too long a wait the connection is aborted, which the driver hears at once."""
        self.used = True
        timer = self._clock.call_at(self._clock.monotonic() + _WAIT_S, self._abort)
        try:
            yield
        except (MySQLError, OSError, EOFError) as exc:
            error = translate(exc, self._where)
            self._broken = self._broken or not isinstance(exc, MySQLError) or _is_connection(_number(exc))
            raise error from exc
        except asyncio.CancelledError:
            self._broken = True  # the driver has closed it; what was asked may still run
            raise
        finally:
            timer.cancel()

    def _abort(self) -> None:
        self._broken = True
        transport = self._connection._transport  # the driver has no public way to end a wait
        if transport is not None:
            transport.abort()

    async def close(self) -> None:
        if self.alive:
            with suppress(MySQLError, OSError, EOFError):
                await self._connection.ensure_closed()
        else:
            self._connection.close()


class _CommittedBefore(Exception):
    """The batch's own row is there."""


def _is_connection(number: int) -> bool:
    return number in _GONE_CLIENT or number in _GONE
