"""Addresses of servers: checked and written one way."""

import ipaddress
import re
from urllib.parse import urlsplit

from taskengine.errors import InvalidConfiguration

__all__ = ["DEFAULT_PORTS", "is_loopback", "parse_address", "same_server", "websocket_address"]

DEFAULT_PORTS = {"http": 80, "https": 443}


def parse_address(text: str) -> str:
    """`scheme://host[:port][/prefix]` without a slash at the end.

    A prefix is what a proxy puts before the paths of the server. Raises InvalidConfiguration.
    """
    if "://" not in text:
        raise InvalidConfiguration(f"server address {text!r}: say http:// or https:// too, e.g. http://127.0.0.1:8080")
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidConfiguration(f"server address {_shown(text)!r}: {error}") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise InvalidConfiguration(f"server address {_shown(text)!r}: the scheme is http or https")
    if parts.username is not None or parts.password is not None:
        raise InvalidConfiguration(
            f"server address {_shown(text)!r}: no user or password belongs there; a token is read from a file"
        )
    if not host or parts.query or parts.fragment or re.search(r"[\s\\%]", host):
        raise InvalidConfiguration(f"server address {text!r}: it is scheme, host and port, e.g. http://127.0.0.1:8080")
    try:
        host.encode("idna")  # as sockets do, which do not say it as an OSError
    except UnicodeError:
        raise InvalidConfiguration(
            f"server address {text!r}: no machine has such a name; the parts between the dots have 1 to 63 characters"
        ) from None
    shown_host = f"[{host}]" if ":" in host else host
    shown_port = "" if port is None or port == DEFAULT_PORTS[parts.scheme] else f":{port}"
    return f"{parts.scheme}://{shown_host}{shown_port}{parts.path.rstrip('/')}"


def _shown(text: str) -> str:
    """Without what stands before the `@`, which may be a password."""
    scheme, mark, rest = text.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def is_loopback(address: str) -> bool:
    """Whether what is sent to it stays on this machine."""
    host = urlsplit(address).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def same_server(one: str, other: str) -> bool:
    """Whether two addresses of this machine lead to one server: `localhost` and `127.0.0.1` are the same there."""
    first, second = urlsplit(one), urlsplit(other)
    ports = {parts.port or DEFAULT_PORTS.get(parts.scheme) for parts in (first, second)}
    if len(ports) > 1 or first.scheme != second.scheme:
        return False
    return first.hostname == second.hostname or (is_loopback(one) and is_loopback(other))


def websocket_address(address: str) -> str:
    """The same place, as WebSockets write it."""
    return "ws" + address.removeprefix("http")
