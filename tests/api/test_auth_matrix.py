"""Every route, every kind of token, every way to write a path, over a raw socket: nothing opens without a right token.

What should be open, and which scope each route needs, is written down here a second time and not taken from the
handlers: a handler that says the wrong thing turns this red.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from api.apiworld import LIMIT_S, LINEAR, ApiWorld, api_world, listening
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute, WebSocketRoute

from taskengine.definition import read_yaml

Route = tuple[str, str]
WS: Final = "WEBSOCKET"

EXPECTED: Final[dict[Route, str]] = {
    ("GET", "/livez"): "open",
    ("GET", "/readyz"): "open",
    ("GET", "/health"): "open",
    ("GET", "/schema"): "open",
    ("GET", "/schema/openapi.json"): "open",
    ("GET", "/version"): "read",
    ("GET", "/metrics"): "read",
    ("GET", "/api/v1/status"): "read",
    ("GET", "/api/v1/nodes"): "read",
    ("GET", "/api/v1/functions"): "read",
    ("GET", "/api/v1/events"): "read",
    ("GET", "/api/v1/workflows"): "read",
    ("POST", "/api/v1/workflows"): "define",
    ("POST", "/api/v1/validate"): "read",
    ("GET", "/api/v1/workflows/{workflow_id}"): "read",
    ("DELETE", "/api/v1/workflows/{workflow_id}"): "define",
    ("GET", "/api/v1/workflows/{workflow_id}/versions"): "read",
    ("GET", "/api/v1/workflows/{workflow_id}/graph"): "read",
    ("GET", "/api/v1/workflows/{workflow_id}/export"): "read",
    ("POST", "/api/v1/workflows/{workflow_id}/execute"): "operate",
    ("GET", "/api/v1/workflows/{workflow_id}/history"): "read",
    ("GET", "/api/v1/instances"): "read",
    ("GET", "/api/v1/instances/{instance_id}"): "read",
    ("GET", "/api/v1/instances/{instance_id}/tasks"): "read",
    ("GET", "/api/v1/instances/{instance_id}/tasks/{task_name}"): "read",
    ("GET", "/api/v1/instances/{instance_id}/explain"): "read",
    ("GET", "/api/v1/instances/{instance_id}/events"): "read",
    ("GET", "/api/v1/instances/{instance_id}/logs"): "read",
    ("POST", "/api/v1/instances/{instance_id}/pause"): "operate",
    ("POST", "/api/v1/instances/{instance_id}/resume"): "operate",
    ("POST", "/api/v1/instances/{instance_id}/cancel"): "operate",
    ("POST", "/api/v1/instances/{instance_id}/retry"): "operate",
    ("POST", "/api/v1/instances/{instance_id}/fork"): "operate",
    ("POST", "/api/v1/instances/{instance_id}/tasks"): "operate",
    ("POST", "/api/v1/instances/{instance_id}/signals/{signal_name}"): "operate",
    ("GET", "/api/v1/admin/database"): "admin",
    ("POST", "/api/v1/admin/prune"): "admin",
    ("GET", "/api/v1/admin/tokens"): "admin",
    ("POST", "/api/v1/admin/tokens"): "admin",
    ("DELETE", "/api/v1/admin/tokens/{token_id}"): "admin",
    ("POST", "/api/v1/admin/tokens/rotate-local"): "admin",
    (WS, "/api/v1/ws/events"): "read",
    (WS, "/api/v1/ws/instances/{instance_id}"): "read",
    (WS, "/api/v1/ws/workflows/{workflow_id}"): "read",
}

SCOPES: Final = ("read", "operate", "define", "admin")
NOBODY: Final = (None, "wrong", "revoked", "expired")

TRICKS: Final[dict[str, Callable[[str], str]]] = {
    "plain": lambda path: path,
    "slash behind": lambda path: path + "/",
    "two slashes before": lambda path: "/" + path,
    "two slashes everywhere": lambda path: path.replace("/", "//"),
    "encoded slash": lambda path: "/" + path[1:].replace("/", "%2f"),
    "encoded slash, capital": lambda path: "/" + path[1:].replace("/", "%2F"),
    "encoded letters": lambda path: "/" + "".join(f"%{ord(c):02x}" if c.isalpha() else c for c in path[1:]),
    "doubly encoded": lambda path: path.replace("/api", "/%2561pi"),
    "health behind": lambda path: path + "/health",
    "livez behind, encoded": lambda path: path + "%2flivez",
    "health as query": lambda path: path + "?/health",
    "health as fragment": lambda path: path + "#/health",
    "health as parameter": lambda path: path + ";/health",
    "x as parameter": lambda path: path + ";x",
    "under an open route": lambda path: "/livez/.." + path,
    "under an open route, encoded": lambda path: "/livez/%2e%2e" + path,
    "under the document": lambda path: "/schema/openapi.json/../.." + path,
    "behind an open route": lambda path: "/health" + path,
    "dot segments": lambda path: "/." + path,
    "capital letters": lambda path: path.upper(),
    "mixed case": lambda path: path.title(),
    "NUL": lambda path: path + "%00",
    "newline": lambda path: path + "%0a",
    "header smuggled": lambda path: path + "%0d%0aAuthorization:%20Bearer%20x",
    "backslash": lambda path: path.replace("/", "\\"),
    "absolute form": lambda path: "http://localhost" + path,
    "absolute form of an open route": lambda path: "http://localhost/health" + path,
    "no slash": lambda path: path[1:],
    "overlong utf-8": lambda path: path.replace("/", "%c0%af"),
    "fullwidth": lambda path: path.replace("a", "%ef%bd%81", 1),
}


def routes_of(world: ApiWorld) -> Iterator[tuple[Route, BaseRouteHandler]]:
    """What the application really answers to."""
    for route in world.app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                if method != "OPTIONS":
                    yield (str(method), route.path_format), handler
        else:
            assert isinstance(route, WebSocketRoute), f"a mounted application: {route.path}"
            yield (WS, route.path_format), route.route_handler


@asynccontextmanager
async def server() -> AsyncIterator[tuple[ApiWorld, dict[str, str]]]:
    """A server with a workflow and an instance, and what stands in the places of its paths."""
    async with api_world() as world, listening(world):
        await world.engine.register_workflow(read_yaml(LINEAR))
        instance = await world.engine.execute_workflow("linear")
        await world.engine.wait_for_instance(instance, LIMIT_S)
        yield (
            world,
            {
                "workflow_id": "linear",
                "instance_id": instance,
                "signal_name": "s",
                "task_name": "first",
                "token_id": "absent",
            },
        )


class Wire:
    """One connection that writes requests as they are and tells the status of each answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> "Wire":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.hang_up()

    async def hang_up(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            self._reader = self._writer = None

    async def status(self, method: str, target: str, secret: str | None) -> int:
        """Of the answer; 0: the connection was closed without one."""
        if self._reader is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        assert self._writer is not None
        self._writer.write(_request(method, target, secret))
        try:
            head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), LIMIT_S)).lower()
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.hang_up()
            return 0
        status = int(head.split(b" ", 2)[1])
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if method in (WS, "HEAD") or not length or b"connection: close" in head:
            await self.hang_up()
        else:
            await asyncio.wait_for(self._reader.readexactly(int(length)), LIMIT_S)
        return status


def _request(method: str, target: str, secret: str | None) -> bytes:
    lines = ["Host: localhost"]
    if secret is not None:
        lines.append(f"Authorization: Bearer {secret}")
    if method == WS:
        key = base64.b64encode(b"0123456789abcdef").decode()
        lines += ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
    elif method != "GET":
        lines += ["Content-Type: application/json", "Content-Length: 2"]
    body = "{}" if method not in ("GET", WS) else ""
    verb = "GET" if method == WS else method
    return "\r\n".join((f"{verb} {target} HTTP/1.1", *lines, "", body)).encode()


def opened(status: int) -> bool:
    return status == 101 or 200 <= status < 400


async def leaks(world: ApiWorld, places: dict[str, str], tricks: dict[str, Callable[[str], str]]) -> list[str]:
    """What answered although it should not have."""
    found = []
    async with Wire(world.port) as wire:
        for method, template in EXPECTED:
            needed = EXPECTED[method, template]
            if needed == "open":
                continue
            short = [scope for scope in SCOPES if SCOPES.index(scope) < SCOPES.index(needed)]
            for trick, change in tricks.items():
                target = change(template.format(**places))
                for who in (*NOBODY, *short):
                    status = await wire.status(method, target, None if who is None else world.secrets[who])
                    if opened(status) or (trick == "plain" and status != (403 if who in short else 401)):
                        found.append(f"{method} {target} as {who} ({trick}): {status}")
    return found


async def test_the_table_names_every_route_and_its_scope() -> None:
    async with api_world() as world:
        assert {route: handler.opt["scope"] for route, handler in routes_of(world)} == EXPECTED


async def test_nothing_opens_without_the_right_token() -> None:
    async with server() as (world, places):
        assert await leaks(world, places, TRICKS) == []
        assert world.log.events("error") == []


async def test_the_right_token_opens_every_route() -> None:
    async with server() as (world, places), Wire(world.port) as wire:
        for (method, template), needed in EXPECTED.items():
            if template.endswith("/rotate-local") or needed == "open":
                continue
            status = await wire.status(method, template.format(**places), world.secrets[needed])
            await wire.hang_up()  # the event stream would go on
            assert status not in (0, 401, 403, 405, 500), (method, template, status)


async def test_open_routes_open_and_their_neighbours_do_not() -> None:
    async with server() as (world, _), Wire(world.port) as wire:
        for method, template in (route for route, scope in EXPECTED.items() if scope == "open"):
            for who in NOBODY:
                secret = None if who is None else world.secrets[who]
                assert await wire.status(method, template, secret) == 200
                for near in ("x", "/x", "/..", "/../api/v1/workflows", "%2f..%2fapi", ";x", "%00", ".json", "z"):
                    status = await wire.status(method, template + near, secret)
                    assert not opened(status), f"{template}{near}: {status}"
                for other in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"):
                    status = await wire.status(other, template, secret)
                    assert not opened(status), f"{other} {template}: {status}"


@pytest.mark.parametrize(
    ("route", "said"),
    [
        (("GET", "/api/v1/workflows"), "open"),
        (("POST", "/api/v1/instances/{instance_id}/cancel"), "read"),
        ((WS, "/api/v1/ws/instances/{instance_id}"), "open"),
        (("GET", "/api/v1/admin/tokens"), "read"),
    ],
)
async def test_a_handler_that_says_the_wrong_scope_is_found(route: Route, said: str) -> None:
    async with server() as (world, places):
        handler = dict(routes_of(world))[route]
        handler.opt["scope"] = said
        found = await leaks(world, places, {"plain": TRICKS["plain"]})
        assert found
        assert all(line.startswith(f"{route[0]} {route[1].format(**places)} ") for line in found)
