"""The address a server would listen on, its certificate, and the servers that run."""

import socket
from collections.abc import Iterator
from typing import Final

from taskengine.cli.doctor.finding import Finding, fail, ok, warn
from taskengine.config import ServerConfig
from taskengine.config.presence import live_servers
from taskengine.errors import InvalidConfiguration
from taskengine.server.listening import exposure_fault, is_wildcard, resolve, who_listens
from taskengine.server.web import tls_context

__all__ = ["check_address", "check_servers"]

_PATIENCE_S: Final = 2.0


def check_address(server: ServerConfig, store: str) -> Iterator[Finding]:
    """Whether it may be listened on, and whether it is free, or taken by the server of this `store`."""
    try:
        family, resolved = resolve(server.host)
        context = tls_context(server)
    except InvalidConfiguration as error:
        yield fail("address", str(error), "see docs/serving.md")
        return
    fault = exposure_fault(server, resolved)
    if fault:
        yield fail("address", *fault.split("\n", 1))
    elif is_wildcard(resolved) and not server.allowed_hosts:
        advice = "name this machine in server.allowed_hosts, else only requests for a loopback name are answered"
        yield warn("address", f"{server.host}: all addresses of this machine", advice)
    else:
        yield ok("address", f"{server.host}{', TLS' if context else ''}")
    yield _check_port(family, resolved, server.port, store)


def _check_port(family: socket.AddressFamily, resolved: str, port: int, store: str) -> Finding:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((resolved, port))
        except OSError as error:
            who = who_listens(port)
            if any(note.address in who and note.store == store for note in live_servers()):
                return ok("port", f"{port} is that of {who}, which has this database")
            detail = f"{port} cannot be used: {error.strerror}{f' ({who})' if who else ''}"
            return fail("port", detail, "choose another one with --port, or --port 0 for a free one")
    return ok("port", f"{port} is free" if port else "a free one will be taken")


def check_servers() -> Iterator[Finding]:
    """Whether each running server of this user answers. No token is sent."""
    import httpx

    for note in live_servers():
        try:
            # Of the certificate nothing depends here: only whether somebody answers is asked.
            answer = httpx.get(f"{note.address}/livez", timeout=_PATIENCE_S, verify=False, trust_env=False)
            said = f"answers {answer.status_code}"
        except httpx.HTTPError as error:
            said = f"does not answer ({type(error).__name__})"
            advice = f"look at its log; `kill {note.pid}` asks it to end, and a new start goes on with its work"
            yield fail("server", f"{note.address} (pid {note.pid}) {said}", advice)
        else:
            yield ok("server", f"{note.address} (pid {note.pid}, {note.store}) {said}")
