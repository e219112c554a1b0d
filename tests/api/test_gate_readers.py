"""`write_timeout` on a real server: whoever takes nothing of an answer is dropped, whoever takes it slowly is not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import anyio
from api.apiworld import LIMIT_S, ApiWorld, api_world
from litestar import get

from taskengine.api.replies import Reply, Text
from taskengine.clock import SystemClock
from taskengine.config import ServerConfig
from taskengine.server.web import WebServer

SIZE = 16 * 1024 * 1024
"""More than the system keeps for a connection."""

PATIENCE_S = 4.0
"""`write_timeout` of the hasty servers here, and some looks at their connections, which come once a second."""


@get("/large", opt={"scope": "read"})
async def large() -> Reply[str]:
    return Text(b"x" * SIZE, "text/plain")


@asynccontextmanager
async def serving(write_s: float) -> AsyncIterator[ApiWorld]:
    """A world behind the server that `taskengine serve` has."""
    settings = ServerConfig(write_timeout=timedelta(seconds=write_s))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        async with api_world(handlers=[large]) as world, anyio.create_task_group() as group:
            world.port = listener.getsockname()[1]
            server = WebServer(world.app, listener, settings, None, SystemClock())
            group.start_soon(server.run)
            try:
                yield world
            finally:
                await server.stop(1.0)


async def asked(world: ApiWorld) -> socket.socket:
    """A connection with a small window, on which the large answer was asked for and nothing of it was taken."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", world.port))
    token = world.secrets["read"]
    head = f"GET /large HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    await loop.sock_sendall(connection, head.encode())
    return connection


async def taken(connection: socket.socket, pause_s: float = 0.0, piece: int = 1024 * 1024) -> int:
    """How many bytes come until the end, a reset or the whole answer, with a pause between pieces."""
    loop, count = asyncio.get_running_loop(), 0
    with suppress(ConnectionError):
        while count < SIZE and (data := await asyncio.wait_for(loop.sock_recv(connection, piece), LIMIT_S)):
            count += len(data)
            await asyncio.sleep(pause_s)  # a reader's own pace
    return count


async def test_who_takes_nothing_of_an_answer_is_dropped() -> None:
    async with serving(0.5) as world:
        with await asked(world) as connection:
            await asyncio.sleep(PATIENCE_S)  # a reader who takes nothing is not told that he was dropped
            assert await taken(connection) < SIZE
        assert world.log.events("error") == []


async def test_before_that_time_nobody_is_dropped() -> None:
    async with serving(60) as world:
        with await asked(world) as connection:
            await asyncio.sleep(PATIENCE_S)  # as long as the one who was dropped
            assert await taken(connection) >= SIZE


async def test_who_takes_it_slowly_gets_all_of_it() -> None:
    """Patience counts from the last byte that left, not from the beginning."""
    async with serving(1.0) as world:
        loop = asyncio.get_running_loop()
        with await asked(world) as connection:
            began_s = loop.time()
            assert await taken(connection, pause_s=0.05, piece=192 * 1024) >= SIZE
            assert loop.time() - began_s > PATIENCE_S
