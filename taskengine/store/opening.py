"""From the address of a store to the store."""

from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from taskengine.ambient import Ambient
from taskengine.errors import InvalidConfiguration, NotSupportedYet
from taskengine.store.interface import Store
from taskengine.store.memory import MemoryStore

__all__ = ["open_store"]

_LATER: Final = {"postgresql": "PostgreSQL", "postgres": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}
_EXAMPLES: Final = "use a path such as data/engine.db, sqlite:///var/lib/engine.db, sqlite:///./engine.db or memory://"


def open_store(dsn: str, ambient: Ambient, *, read_only: bool = False) -> Store:
    """The store of an address; not opened yet, nothing is touched.

    dsn     a path; `sqlite:///absolute/path`, or `sqlite:///./path`, `sqlite:///../path` and `sqlite:///~/path`,
            percent-encoded, with `?allow_network=true` to trust a network file system; `memory://`
    Raises  InvalidConfiguration, NotSupportedYet. No message repeats more of the address than its scheme, since a
            password may follow it.
    """
    scheme, mark, _ = dsn.partition("://")
    if not mark:
        return _sqlite(dsn, ambient, read_only=read_only, allow_network=False)
    scheme = scheme.lower()
    if scheme == "memory":
        return MemoryStore(ambient)
    if scheme == "sqlite":
        return _sqlite_url(dsn, ambient, read_only=read_only)
    if scheme in _LATER:
        raise NotSupportedYet(f"a store in {_LATER[scheme]} comes with a later release; {_EXAMPLES}")
    raise InvalidConfiguration(f"no store of the kind {scheme!r}; {_EXAMPLES}")


def _sqlite_url(dsn: str, ambient: Ambient, *, read_only: bool) -> Store:
    parts = urlsplit(dsn)
    if parts.netloc:
        raise InvalidConfiguration(f"a SQLite address has three slashes before its path; {_EXAMPLES}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    allowed = options.pop("allow_network", "false")
    if options or allowed not in ("true", "false"):
        raise InvalidConfiguration("the only option of a SQLite address is allow_network=true or false")
    path = unquote(parts.path)
    if path.startswith(("/./", "/../", "/~")):
        path = path[1:]
    return _sqlite(path.removesuffix("/"), ambient, read_only=read_only, allow_network=allowed == "true")


def _sqlite(path: str, ambient: Ambient, *, read_only: bool, allow_network: bool) -> Store:
    if not path.strip() or "\0" in path:
        raise InvalidConfiguration(f"the address of the store names no file; {_EXAMPLES}")
    # Deferred: a driver is loaded when an address asks for it.
    from taskengine.store.sqlite import SqliteStore

    return SqliteStore(path, ambient, read_only=read_only, allow_network=allow_network)
