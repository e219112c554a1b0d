"""MySQL 8.0.20 and MariaDB 10.6, or later; and nothing that one of the two lacks."""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Literal

import asyncmy
from asyncmy.constants import CLIENT
from asyncmy.errors import MySQLError

from taskengine.ambient import Ambient
from taskengine.config.dsn import shown_dsn
from taskengine.errors import InvalidConfiguration, StoreError, StoreUnavailable
from taskengine.store.dialect import Dialect
from taskengine.store.interface import Durability
from taskengine.store.migrations import Migration, refuse_newer
from taskengine.store.mysql_address import connect_options
from taskengine.store.mysql_errors import ALREADY_DONE, number_of, translate
from taskengine.store.mysql_link import MySqlLink
from taskengine.store.queries import queries
from taskengine.store.served import Link, Purpose

__all__ = ["MYSQL", "MySqlDriver", "kind_of"]

MYSQL: Final = Dialect(
    name="mysql",
    mark="%s",
    quote="`",
    blob="CAST({} AS BINARY)",
    texts="?",
    numbers="?",
    binds_lists=True,
    aside="concat({}, '')",
    lead=" FORCE INDEX ({})",
    rows_in_order=False,
    legs_apart=True,
)
LANES: Final = 2
_SQL: Final = {name: MYSQL.marked(sql) for name, sql in queries(MYSQL).items()}

_CONNECT_S: Final = 5.0
_LOCK_WAIT_S: Final = 3
_ROW_LOCK_S: Final = 10
_STATEMENT_S: Final = 3600.0
"""Of a migration: a large table may take so long."""
_IDLE_S: Final = 90
"""After so long without a word the server ends a lane's connection, and with it a transaction or a lock that its client
can no longer let go of. `keep` says a word much more often."""
_READER_IDLE_S: Final = 600
_READ_S: Final = 30

Kind = Literal["MySQL", "MariaDB"]
_OLDEST: Final[dict[Kind, tuple[int, int, int]]] = {"MySQL": (8, 0, 20), "MariaDB": (10, 6, 0)}
_EXACT: Final[dict[Kind, str]] = {"MySQL": "utf8mb4_0900_bin", "MariaDB": "utf8mb4_nopad_bin"}
"""Collations by code points in which spaces at the end count. In utf8mb4_bin 'a' and 'a ' would be one key."""
_READ_LIMIT: Final[dict[Kind, str]] = {
    "MySQL": f"max_execution_time = {_READ_S * 1000}, information_schema_stats_expiry = 0",
    "MariaDB": f"max_statement_time = {_READ_S}",
}
_VERSION: Final = re.compile(r"(?:5\.5\.5-)?(\d+)\.(\d+)\.(\d+)")  # the prefix is what MariaDB says to old programs

_PLAIN: Final = (
    "SET NAMES utf8mb4 COLLATE {exact}",
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', sql_notes = 0",
    "SET SESSION lock_wait_timeout = {row_lock_s}",
)
_LANE: Final = (
    *_PLAIN,
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION innodb_lock_wait_timeout = {row_lock_s}, wait_timeout = {idle_s}",
)
_READER: Final = (
    *_PLAIN,
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SET SESSION wait_timeout = {reader_idle_s}, {read_limit}",
)
_ABOUT: Final = (
    "SELECT @@max_allowed_packet, @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog, "
    "IF(@@lower_case_table_names = 0, DATABASE(), LOWER(DATABASE())), GET_LOCK(%s, 0)"
)


class MySqlDriver:
    """See `served.Driver`.

    dsn         `mysql://user:password@host:port/database`, with options as in mysql_address.py
    durability  what the server does at a commit is set for all of its databases, so nothing is changed for us. full:
                a warning in the log when its settings promise less
    """

    dialect = MYSQL
    lanes = LANES

    def __init__(self, dsn: str, ambient: Ambient, *, durability: Durability) -> None:
        self.address = shown_dsn(dsn)
        self._ambient, self._durability = ambient, durability
        self._said = connect_options(dsn)
        self._database = ""

    async def connect(self, purpose: Purpose) -> Link:
        link = await self._connected()
        try:
            await self._set_up(link, purpose)
        except BaseException:
            await link.close()
            raise
        link.used = False
        return link

    async def _connected(self) -> MySqlLink:
        try:
            async with asyncio.timeout(_CONNECT_S):  # the driver's own ends before the server has said anything
                connection = await asyncmy.connect(
                    **self._said,
                    charset="utf8mb4",
                    autocommit=True,
                    connect_timeout=_CONNECT_S,
                    client_flag=CLIENT.FOUND_ROWS,
                    program_name="taskengine",
                )
        except TimeoutError as exc:
            raise StoreUnavailable(f"{self.address}: no answer within {_CONNECT_S:g} s") from exc
        except MySQLError as exc:
            raise translate(exc, self.address) from exc
        except (OSError, EOFError, RuntimeError) as exc:
            # RuntimeError: cut before its options were set; or a way to log in for which the driver lacks a package
            raise StoreUnavailable(f"{self.address}: {exc}") from exc
        return MySqlLink(connection, self._ambient.clock, self.address)

    async def _set_up(self, link: MySqlLink, purpose: Purpose) -> None:
        kind = kind_of(link.server, self.address)
        settings = [
            statement.format(
                exact=_EXACT[kind],
                row_lock_s=_ROW_LOCK_S,
                idle_s=_IDLE_S,
                reader_idle_s=_READER_IDLE_S,
                read_limit=_READ_LIMIT[kind],
            )
            for statement in (_READER if purpose == "reader" else _LANE)
        ]
        name = f"taskengine link {self._ambient.ids.uuid7()}"
        ((most_bytes, flush, binlog, sync_binlog, database, _),) = await link.rows(_ABOUT, (name,), leading=settings)
        link.name, link.most_bytes, self._database = name, int(most_bytes) - 1024, database
        if purpose == "owner" and self._durability == "full":
            self._warn(flush, binlog, sync_binlog)

    def _warn(self, flush: int, binlog: int, sync_binlog: int) -> None:
        wanted = [("innodb_flush_log_at_trx_commit", flush)]
        if binlog:
            wanted.append(("sync_binlog", sync_binlog))
        for setting, value in wanted:
            if int(value) != 1:
                self._ambient.log.warning(
                    "store.durability_weak",
                    setting=setting,
                    value=int(value),
                    wanted=1,
                    meaning="a power cut may take the last commits with it",
                )

    async def bury(self, link: Link, dead: Link) -> None:
        """It is found by the lock that it holds while it lives: after a restart of the server, its number could be that
        of somebody else's connection."""
        assert isinstance(dead, MySqlLink), "links come from `connect`"
        ((number,),) = await link.rows(_SQL["used_lock"], (dead.name,))
        if number is not None:
            with suppress(StoreError):
                await link.rows(f"KILL {int(number)}", ())

    async def lock(self, link: Link) -> bool:
        """A server sees the end of a connection when it next looks; after a kill that takes a moment."""
        ((got,),) = await link.rows(_SQL["lock"], (_lock_name(self._database), _LOCK_WAIT_S))
        return bool(got == 1)

    async def locked(self, link: Link) -> bool:
        ((number,),) = await link.rows(_SQL["used_lock"], (_lock_name(self._database),))
        return number is not None

    async def applied(self, link: Link) -> int:
        ((tables, ours),) = await link.rows(_SQL["our_tables"], ())
        if ours:
            ((number,),) = await link.rows(_SQL["applied"], ())
            return int(number)
        if tables:
            raise InvalidConfiguration(
                f"{self.address} has tables with our names that are not ours: use a database of its own, "
                "made with CREATE DATABASE taskengine CHARACTER SET utf8mb4"
            )
        return 0

    async def migrate(self, link: Link, steps: Sequence[Migration], now_us: int) -> int:
        """A statement that changes the schema commits by itself, so each is noted when it is done. One that was done
        but not noted is run again, and says that there is nothing left to do."""
        assert isinstance(link, MySqlLink), "links come from `connect`"
        found = await self.applied(link)
        refuse_newer(found, steps)
        if found < len(steps):
            await link.rows(_SQL["make_migrations"], ())
        for step in steps[found:]:
            await self._take(link, step, now_us)
        return max(found, len(steps))

    async def _take(self, link: MySqlLink, step: Migration, now_us: int) -> None:
        begun = await link.rows(_SQL["begun_step"], (step.number,))
        if not begun:
            await link.rows(_SQL["begin_step"], (step.number, step.name))
        done = int(begun[0][0]) if begun else 0
        for at, statement in enumerate(step.statements[done:], done + 1):
            said = statement.replace("{exact}", _EXACT[kind_of(link.server, self.address)]).replace("%", "%%")
            try:
                await link.rows(said, (), limit_s=_STATEMENT_S)
            except StoreError as exc:
                if not (begun and at == done + 1 and _already_done(exc.__cause__)):
                    raise
            await link.rows(_SQL["note_statement"], (at, now_us if at == len(step.statements) else None, step.number))


def kind_of(version: str, where: str) -> Kind:
    """Of a server, by what it says that it is. Raises InvalidConfiguration for one that is too old."""
    kind: Kind = "MariaDB" if "MariaDB" in version else "MySQL"
    numbers = _VERSION.match(version)
    if numbers is None or tuple(map(int, numbers.groups())) < _OLDEST[kind]:
        oldest = " or ".join(f"{name} {'.'.join(map(str, least))}" for name, least in _OLDEST.items())
        raise InvalidConfiguration(f"{where} is {kind} {version}; needed is {oldest}, or later")
    return kind


def _already_done(exc: Any) -> bool:
    return isinstance(exc, MySQLError) and number_of(exc) in ALREADY_DONE


def _lock_name(database: str) -> str:
    """MySQL takes 64 characters."""
    return f"taskengine {hashlib.sha256(database.encode()).hexdigest()[:32]}"
