"""From the address of a store to the store."""

from typing import TYPE_CHECKING, Final, assert_never, get_args
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from taskengine.ambient import Ambient
from taskengine.config.dsn import database_kind
from taskengine.errors import InvalidConfiguration
from taskengine.store.interface import DEFAULT_READERS, Durability, Store
from taskengine.store.memory import MemoryStore

if TYPE_CHECKING:
    from taskengine.store.served import Driver

__all__ = ["open_store"]

_MOST_READERS: Final = 64
_EXAMPLES: Final = (
    "use a path such as data/engine.db, sqlite:///var/lib/engine.db, sqlite:///./engine.db, "
    "postgresql://user:password@host/database, mysql://user:password@host/database or memory://"
)


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    """What an address does not say."""

    read_only: bool
    durability: Durability
    readers: int
    partial: bool
    locked: bool


def open_store(
    dsn: str,
    ambient: Ambient,
    *,
    read_only: bool = False,
    durability: Durability = "full",
    readers: int = DEFAULT_READERS,
    partial: bool = False,
    locked: bool = False,
) -> Store:
    """The store of an address; not opened yet, nothing is touched.

    dsn     a path; `sqlite:///absolute/path`, or `sqlite:///./path`, `sqlite:///../path` and `sqlite:///~/path`,
            percent-encoded, with `?allow_network=true` to trust a network file system;
            `postgresql://user:password@host:port/database` with any option of libpq behind a `?`;
            `mysql://user:password@host:port/database`, also as `mariadb://`, with `ssl_mode` (disabled, required,
            verify_ca, verify_identity), `ssl_ca`, `ssl_cert`, `ssl_key` or `unix_socket`; `memory://`
    durability  full: a commit that was answered survives a power cut. normal: it survives the death of the process,
                also by kill -9, but a power cut or a crash of the machine may take the last commits with it, in
                their order, and leaves a consistent store; it saves the fsync of each commit. MySQL and MariaDB
                set this for the whole server: nothing is changed there, and `full` warns when less is set
    readers     how many reads may run at the same time, 1 to 64. Each has a connection and a thread
    partial     also a database that a move has not finished filling; else opening one raises MoveUnfinished
    locked      with read_only: take the owner's lock all the same, so that nobody writes meanwhile
    Both `durability` and `readers` mean nothing in memory, and are checked all the same.
    Raises  InvalidConfiguration. No message repeats more of the address than its scheme, since a
            password may follow it.
    """
    _check(durability, readers)
    options = _Options(read_only=read_only, durability=durability, readers=readers, partial=partial, locked=locked)
    match database_kind(dsn):
        case "sqlite":
            return _sqlite_url(dsn, ambient, options) if "://" in dsn else _sqlite(dsn, ambient, options)
        case "memory":
            return MemoryStore(ambient, read_only=read_only)
        case "postgresql":
            return _postgresql(dsn, ambient, options)
        case "mysql":
            return _mysql(dsn, ambient, options)
        case None:
            scheme = dsn.partition("://")[0]
            raise InvalidConfiguration(f"no store of the kind {scheme!r}; {_EXAMPLES}")
        case _ as never:
            assert_never(never)


def _postgresql(dsn: str, ambient: Ambient, options: _Options) -> Store:
    # Deferred: a driver is loaded when an address asks for it.
    from taskengine.store.postgresql import PostgresDriver

    return _served(PostgresDriver(dsn, ambient, durability=options.durability), ambient, options)


def _mysql(dsn: str, ambient: Ambient, options: _Options) -> Store:
    # Deferred, as above.
    from taskengine.store.mysql import MySqlDriver

    return _served(MySqlDriver(dsn, ambient, durability=options.durability), ambient, options)


def _served(driver: "Driver", ambient: Ambient, options: _Options) -> Store:
    from taskengine.store.served import ServedStore

    return ServedStore(
        driver,
        ambient,
        read_only=options.read_only,
        readers=options.readers,
        partial=options.partial,
        locked=options.locked,
    )


def _check(durability: object, readers: object) -> None:
    """Both come from configuration, so their types prove nothing."""
    if durability not in get_args(Durability):
        raise InvalidConfiguration(f"durability is {' or '.join(get_args(Durability))}, not {durability!r}")
    if type(readers) is not int or not 1 <= readers <= _MOST_READERS:
        raise InvalidConfiguration(f"readers is a whole number from 1 to {_MOST_READERS}, not {readers!r}")


def _sqlite_url(dsn: str, ambient: Ambient, options: _Options) -> Store:
    parts = urlsplit(dsn)
    if parts.netloc:
        raise InvalidConfiguration(f"a SQLite address has three slashes before its path; {_EXAMPLES}")
    said = dict(parse_qsl(parts.query, keep_blank_values=True))
    allowed = said.pop("allow_network", "false")
    if said or allowed not in ("true", "false"):
        raise InvalidConfiguration("the only option of a SQLite address is allow_network=true or false")
    path = unquote(parts.path)
    if path.startswith(("/./", "/../", "/~")):
        path = path[1:]
    return _sqlite(path.removesuffix("/"), ambient, options, allow_network=allowed == "true")


def _sqlite(path: str, ambient: Ambient, options: _Options, *, allow_network: bool = False) -> Store:
    if not path.strip() or "\0" in path:
        raise InvalidConfiguration(f"the address of the store names no file; {_EXAMPLES}")
    # Deferred: a driver is loaded when an address asks for it.
    from taskengine.store.sqlite import SqliteStore

    return SqliteStore(
        path,
        ambient,
        read_only=options.read_only,
        durability=options.durability,
        readers=options.readers,
        allow_network=allow_network,
        partial=options.partial,
        locked=options.locked,
    )
