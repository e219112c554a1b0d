"""What an error of a MySQL or MariaDB server means: by its number, never by its text."""

from typing import Final

from asyncmy.errors import MySQLError

from taskengine.errors import InvalidConfiguration, StoreError, StoreFull, StoreUnavailable

__all__ = ["ALREADY_DONE", "DEADLOCK", "DUPLICATE", "MOVED", "NO_EPOCH", "UNFIT", "ends_link", "number_of", "translate"]

# https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html
# https://mariadb.com/docs/server/reference/error-codes
DUPLICATE: Final = frozenset({1022, 1062, 1586})
DEADLOCK: Final = 1213
NO_EPOCH: Final = 1048  # NULL for a column that takes none
MOVED: Final = 1690  # a number beyond its type

UNFIT: Final = frozenset(
    {
        *(1048, 1118, 1153, 1264, 1265, 1292, 1300, 1301, 1364, 1366, 1367, 1406, 1411, 1690),
        *(3140, 3141, 3819, 4025),
    }
)
"""A value that does not fit its column, a row too large, a condition that is not met."""

ALREADY_DONE: Final = frozenset({1050, 1060, 1061, 1091})
"""A table, column or index is there, or is gone, already."""

_FULL: Final = frozenset({1021, 1114})
_AGAIN: Final = frozenset(
    {
        *(1205, DEADLOCK, 1206, 1637, 3572),  # locks and transactions
        *(1037, 1038, 1040, 1041, 1135, 1203, 1226),  # resources: memory, connections, threads
        *(1290, 1792, 1836),  # read only: a replica, or a primary that changes places with one
        *(1317, 1969, 3024),  # interrupted, took too long
        *(1030, 1047, 1180, 3100, 3101),  # the storage engine, or the other nodes of a cluster
    }
)
_LOST: Final = frozenset({1043, 1053, 1077, 1079, 1152, *range(1156, 1162), 1184, 1927, 3169, 4031})
"""The server ends, or has ended this connection. 2000 to 2999 are the client's own and mean the same."""

_LOGIN: Final = frozenset({1045, 1698, 1251, 1275, 1862, 1820, 3118, 3159, 4151, 2058, 2059, 2061})
_NO_DATABASE: Final = 1049
_PRIVILEGE: Final = frozenset({1044, 1142, 1143, 1227, 1370})
_HOST: Final = frozenset({1129, 1130})
_STATEMENT_LOG: Final = 1665


def number_of(exc: MySQLError) -> int:
    """0: the driver's own, when the connection cannot be used."""
    first = exc.args[0] if exc.args else 0
    return first if isinstance(first, int) else 0


def ends_link(exc: MySQLError) -> bool:
    """After this error the connection cannot be used any more, or should not."""
    number = number_of(exc)
    return number < 1000 or 2000 <= number < 3000 or number in _LOST


def translate(exc: MySQLError, where: str) -> StoreError | InvalidConfiguration:
    """Retry, configuration or fatal."""
    number = number_of(exc)
    text = f"{where}: {number} {exc.args[1]}" if len(exc.args) > 1 else f"{where}: {exc}"
    if (advice := _advice(number)) is not None:
        return InvalidConfiguration(f"{text}; {advice}")
    if number in _FULL:
        return StoreFull(text)
    if number in _AGAIN or ends_link(exc):
        return StoreUnavailable(text)
    return StoreError(text)


def _advice(number: int) -> str | None:
    """What to do where trying again is of no use."""
    if number in _LOGIN:
        return "check the user, the password and ssl_mode of database.dsn, and that the user may log in from this host"
    if number == _NO_DATABASE:
        return "make it with: CREATE DATABASE name CHARACTER SET utf8mb4"
    if number in _PRIVILEGE:
        return "the user needs all rights on this database: GRANT ALL ON name.* TO 'user'@'host'"
    if number in _HOST:
        return "the server takes no connections from this host: CREATE USER 'user'@'host', or FLUSH HOSTS"
    if number == _STATEMENT_LOG:
        return "set binlog_format to ROW in the server's configuration"
    return None
