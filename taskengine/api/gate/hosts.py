"""Where a request comes from and whom it means. Nothing here trusts a header that a stranger can write.

A browser can be made to send requests to a server on this machine; the name in its Host header (against rebinding of
names) and its Origin (against foreign pages) give it away.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec

__all__ = ["LOOPBACK_NAMES", "HostRules", "Networks", "Sender", "host_name"]

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}

Headers = Sequence[tuple[bytes, bytes]]


class HostRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which names, foreign pages and proxies are accepted.

    hosts    names in the Host header besides the loopback ones and the bound address, lower case, without a port
    origins  pages of other origins that may call, e.g. `https://ops.example.com`
    proxies  peers whose X-Forwarded-* headers count
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    proxies: "Networks" = msgspec.field(default_factory=lambda: Networks())

    @classmethod
    def of(cls, hosts: Sequence[str] = (), origins: Sequence[str] = (), proxies: Sequence[str] = ()) -> Self:
        """From settings. Raises ValueError with the text that is no address, network or origin."""
        return cls(
            hosts=frozenset(host_name(host) for host in hosts),
            origins=frozenset(_origin(origin) for origin in origins),
            proxies=Networks(proxies),
        )

    def allows_host(self, host: str, bound: str) -> bool:
        """`host` as it stands in the header; `bound` is the server's own address, e.g. `http://10.0.0.5:8080`."""
        name = host_name(host)
        return bool(name) and (
            name in LOOPBACK_NAMES or name in self.hosts or name == host_name(urlsplit(bound).netloc)
        )

    def allows_origin(self, origin: str, sender: "Sender") -> bool:
        """The page is one of ours (the same scheme, host and port) or one that was configured. `null` never is."""
        try:
            given = _origin(origin)
        except ValueError:
            return False
        return given in self.origins or given == _origin(f"{sender.scheme}://{sender.host}")


class Networks:
    """Some addresses. From texts such as `10.0.0.0/8` or `127.0.0.1`; raises ValueError for anything else."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self._networks = tuple(ip_network(text, strict=False) for text in texts)

    def __contains__(self, peer: str) -> bool:
        """Whether this address is one of them; an IPv4 address in IPv6 dress is looked at without it."""
        if not self._networks:
            return False
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        plain = getattr(address, "ipv4_mapped", None) or address
        return any(plain in network for network in self._networks)


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, after the proxies that are trusted have been looked through.

    peer       address at the other end of the connection
    client     address of the one who asks: the last forwarded one that is no trusted proxy, else `peer`
    forwarded  X-Forwarded-For as it came, from a trusted proxy only
    host       the Host header, or what a trusted proxy says it was
    """

    peer: str
    client: str
    host: str
    scheme: str
    forwarded: str = ""

    @classmethod
    def of(cls, peer: str, scheme: str, host: str, headers: Headers, rules: HostRules) -> Self:
        plain = cls(peer=peer, client=peer, host=host, scheme=_WEB_SCHEMES.get(scheme, scheme))
        return plain if peer not in rules.proxies else plain._through_proxy(headers, rules)

    def _through_proxy(self, headers: Headers, rules: HostRules) -> Self:
        forwarded = ",".join(_headers(headers, b"x-forwarded-for"))
        hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
        client = next((hop for hop in reversed(hops) if hop not in rules.proxies), self.peer)
        proto = _last(_header(headers, b"x-forwarded-proto")).lower()
        return msgspec.structs.replace(
            self,
            client=client[:100],
            forwarded=forwarded[:500],
            host=_last(_header(headers, b"x-forwarded-host")) or self.host,
            scheme=_WEB_SCHEMES.get(proto, self.scheme),
        )


_WEB_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@lru_cache(64)  # nearly all requests name the same few
def host_name(host: str) -> str:
    """The name of `name:port` or `[v6]:port`, lower case; empty when it is neither."""
    text = host.strip().lower()
    name, colon, port = (text, "", "") if text.endswith("]") else text.rpartition(":")
    if not colon:
        name, port = text, "0"
    if not port.isascii() or not port.isdigit():
        return ""
    if name.startswith("["):
        return name if name.endswith("]") else ""
    return "" if not name or set(name) & _NOT_IN_A_NAME else name.removesuffix(".")


_NOT_IN_A_NAME: Final = frozenset(":/\\@[]?#% \t,;")


def _origin(text: str) -> str:
    """Scheme, host and port of an origin, the default port left out. Raises ValueError."""
    parts = urlsplit(text.strip().lower())
    if parts.scheme not in _DEFAULT_PORTS or not host_name(parts.netloc) or parts.path not in ("", "/") or parts.query:
        raise ValueError(f"{text!r} is no origin; one looks like https://ops.example.com")
    return f"{parts.scheme}://{parts.netloc.removesuffix(_DEFAULT_PORTS[parts.scheme])}"


def _headers(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


def _header(headers: Headers, name: bytes) -> str:
    found = _headers(headers, name)
    return found[-1] if found else ""


def _last(text: str) -> str:
    """What the nearest proxy said, where several have added to a list."""
    return text.rpartition(",")[2].strip()
