"""The socket a server listens on: to whom it may be open, what its address is, and who has the port instead."""

import errno
import os
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from taskengine.config import ServerConfig
from taskengine.config.presence import live_servers
from taskengine.errors import InvalidConfiguration

__all__ = ["address_of", "exposure_fault", "is_wildcard", "listen", "resolve", "who_listens"]

_BACKLOG: Final = 1024
_LISTENING: Final = "0A"  # TCP_LISTEN as /proc/net/tcp writes it

Address = tuple[socket.AddressFamily, str]


def resolve(host: str) -> Address:
    """The first address of a host name or address. Raises InvalidConfiguration."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise InvalidConfiguration(
            f"server.host: nobody knows the address of {host!r}; use one of this machine, such as 127.0.0.1"
        ) from None
    family, _, _, _, place = found[0]
    return family, str(place[0])


def exposure_fault(server: ServerConfig, resolved: str) -> str:
    """Why this address must not be listened on, and what to do; empty: it may. `resolved` is that of `server.host`."""
    if ip_address(resolved.partition("%")[0]).is_loopback or server.tls_cert is not None or server.behind_proxy:
        return ""
    return (
        f"{server.host} can be reached from other machines, and without TLS the tokens could be read on the way.\n"
        "Listen on this machine only (--host 127.0.0.1), or encrypt (--tls-cert CERT --tls-key KEY), or, when a proxy "
        "in front of it does that, name the proxy's address (--behind-proxy ADDRESS)"
    )


def listen(server: ServerConfig) -> socket.socket:
    """A bound and listening socket. Raises InvalidConfiguration for an exposed address, OSError for a taken port."""
    family, resolved = resolve(server.host)
    fault = exposure_fault(server, resolved)
    if fault:
        raise InvalidConfiguration(fault)
    # With the protocol named: asyncio switches Nagle's delay off only for a socket that says that it is TCP.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((resolved, server.port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise OSError(_bind_fault(server, resolved, error)) from None
    return sock


def _bind_fault(server: ServerConfig, resolved: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        who = who_listens(server.port)
        return (
            f"port {server.port} of {server.host} is taken{f' by {who}' if who else ''}; "
            "choose another one with --port, or a free one with --port 0"
        )
    if error.errno == errno.EACCES:
        return f"this user may not listen on port {server.port}; choose one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{server.host} ({resolved}) is no address of this machine; choose another one with --host"
    return f"cannot listen on {server.host}, port {server.port}: {error.strerror}"


def is_wildcard(resolved: str) -> bool:
    """Whether it stands for all addresses of the machine."""
    return ip_address(resolved.partition("%")[0]).is_unspecified


def address_of(sock: socket.socket, *, tls: bool, host: str = "") -> str:
    """Where it can be reached from this machine, e.g. `http://127.0.0.1:8080`. `host`: the name it was asked for."""
    resolved, port = sock.getsockname()[:2]
    if is_wildcard(resolved):
        host = "::1" if sock.family == socket.AF_INET6 else "127.0.0.1"
    shown = (host or resolved).strip("[]")
    return f"{'https' if tls else 'http'}://{f'[{shown}]' if ':' in shown else shown}:{port}"


# -- who has a port ----------------------------------------------------------------------------------------------


def who_listens(port: int) -> str:
    """The process that listens on a port of this machine, for people; empty when that cannot be seen."""
    pids = _listeners(port)
    for note in live_servers():
        if note.pid in pids or note.address.endswith(f":{port}"):
            return f"the taskengine server at {note.address} (pid {note.pid})"
    return f"pid {pids[0]} ({_program(pids[0])})" if pids else ""


def _listeners(port: int) -> list[int]:
    """Processes of this user that listen there, by /proc; none where there is no /proc."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _inodes(Path("/proc/net") / table, port)}
    if not inodes:
        return []
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _has_one(folder / "fd", inodes)]


def _inodes(table: Path, port: int) -> list[str]:
    try:
        lines = table.read_text("ascii").splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port]


def _has_one(folder: Path, inodes: set[str]) -> bool:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    try:
        return any(os.readlink(folder / name) in wanted for name in os.listdir(folder))
    except OSError:  # somebody else's process, or one that has just ended
        return False


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "ended meanwhile"
