"""The address of a database as people may see it."""

import re
from typing import Final
from urllib.parse import unquote

__all__ = ["password_of", "shown_dsn"]

_SECRETS: Final = re.compile(r"(?P<key>[?&](?:password|passwd|pwd|sslpassword)=)(?P<value>[^&#]*)", re.IGNORECASE)
_HIDDEN: Final = "***"


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
