"""The address of a database: which kind it is, and what people may see of it."""

import re
from collections.abc import Mapping
from typing import Final, Literal
from urllib.parse import unquote

__all__ = ["KINDS", "DatabaseKind", "database_kind", "password_of", "shown_dsn"]

DatabaseKind = Literal["sqlite", "memory", "postgresql", "mysql"]
KINDS: Final[Mapping[str, DatabaseKind]] = {
    "sqlite": "sqlite",
    "memory": "memory",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
"""By the scheme of the address."""

_SECRETS: Final = re.compile(r"(?P<key>[?&](?:password|passwd|pwd|sslpassword)=)(?P<value>[^&#]*)", re.IGNORECASE)
_HIDDEN: Final = "***"


def database_kind(dsn: str) -> DatabaseKind | None:
    """By the scheme of the address; a path is a SQLite file. None: no scheme that we know."""
    scheme, mark, _ = dsn.partition("://")
    return KINDS.get(scheme.lower()) if mark else "sqlite"


def shown_dsn(dsn: str) -> str:
    """The address without its password."""
    scheme, mark, rest = dsn.partition("://")
    if not mark:
        return dsn
    user, at, host = rest.rpartition("@")
    name, colon, _ = user.partition(":")
    shown = f"{name}:{_HIDDEN}@{host}" if at and colon else rest
    return f"{scheme}://{_SECRETS.sub(lambda match: match['key'] + _HIDDEN, shown)}"


def password_of(dsn: str) -> str:
    """The password in it, decoded; empty without one."""
    _, mark, rest = dsn.partition("://")
    if not mark:
        return ""
    user, at, _ = rest.rpartition("@")
    _, colon, password = user.partition(":")
    if at and colon:
        return unquote(password)
    match = _SECRETS.search(rest)
    return unquote(match["value"]) if match else ""
