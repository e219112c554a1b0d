"""The address of a MySQL or MariaDB database, as its driver takes it. Pure."""

import ssl
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from taskengine.config.dsn import shown_dsn
from taskengine.errors import InvalidConfiguration

__all__ = ["connect_options"]

_EXAMPLE: Final = "mysql://user:password@host:3306/database?ssl_mode=verify_identity&ssl_ca=/etc/ssl/ca.pem"
_MODES: Final = ("disabled", "required", "verify_ca", "verify_identity")
_KNOWN: Final = frozenset({"charset", "ssl_mode", "ssl_ca", "ssl_cert", "ssl_key", "unix_socket"})


def connect_options(dsn: str) -> dict[str, Any]:
    """Host, port, user, password, database, TLS or socket, by the names of `asyncmy.connect`.

    Raises InvalidConfiguration, without the password.
    """
    parts, shown = urlsplit(dsn), shown_dsn(dsn)
    try:
        port = parts.port
    except ValueError:
        raise _wrong(shown, "its port is not a number from 1 to 65535") from None
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database:
        raise _wrong(shown, "it has to name one database behind the host")
    said = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(said.keys() - _KNOWN):
        raise _wrong(shown, f"no option {unknown[0]!r}; there are {', '.join(sorted(_KNOWN))}")
    if said.get("charset", "utf8mb4") != "utf8mb4":
        raise _wrong(shown, "the character set is always utf8mb4")
    found: dict[str, Any] = {
        "host": parts.hostname or "localhost",
        "port": port or 3306,
        "user": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password or "").encode(),  # the driver would encode a text as Latin-1
        "database": database,
        "ssl": _tls(said, shown),
    }
    if said.get("unix_socket"):
        found["unix_socket"] = said["unix_socket"]
    return found


def _tls(said: dict[str, str], shown: str) -> ssl.SSLContext | None:
    """None: the connection is not encrypted."""
    files = [said.get(name) or None for name in ("ssl_ca", "ssl_cert", "ssl_key")]
    mode = said.get("ssl_mode", "verify_identity" if files[0] else "required" if any(files) else "disabled").lower()
    if mode not in _MODES:
        raise _wrong(shown, f"ssl_mode is one of {', '.join(_MODES)}, not {mode!r}")
    if mode == "disabled":
        if any(files):
            raise _wrong(shown, "ssl_mode is disabled, so ssl_ca, ssl_cert and ssl_key mean nothing")
        return None
    try:
        context = ssl.create_default_context(cafile=files[0])
        if files[1]:
            context.load_cert_chain(files[1], files[2])
    except (OSError, ValueError) as exc:  # a file that is missing or is no certificate; ssl.SSLError is an OSError
        raise _wrong(shown, f"its certificates cannot be read: {exc}") from exc
    context.check_hostname = mode == "verify_identity"
    if mode == "required":
        context.verify_mode = ssl.CERT_NONE
    return context


def _wrong(shown: str, why: str) -> InvalidConfiguration:
    return InvalidConfiguration(f"{shown} is no address of a MySQL database: {why}; such as {_EXAMPLE}")
