"""Laws of streams at the gate: all kinds share one limit, and none outlives the token that it was opened with."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
import websockets
from api.apiworld import GENEROUS, LIMIT_S, ApiWorld, api_world, listening, until
from litestar import get

from taskengine.api.gate import Limits
from taskengine.api.gate.tokens import TokenBook
from taskengine.api.replies import Lines, Reply
from taskengine.clock import ManualClock, Micros
from taskengine.definition import read_yaml

LONG = "id: long\ntasks:\n  - {name: t, job: sleep, params: {duration: 1h}}\n"
KINDS = ("socket", "events", "logs")
HOUR_US = 3_600_000_000


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[tuple[ApiWorld, str]]:
    """A server with one instance that does not end."""
    async with api_world(**options) as world, listening(world, ws="websockets-sansio"):
        await world.engine.register_workflow(read_yaml(LONG))
        yield world, await world.engine.execute_workflow("long")


@asynccontextmanager
async def opened(
    world: ApiWorld, kind: str, instance_id: str, secret: str
) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """A stream that has begun; gives a function that waits for its end, and how it ended.

    Raises HTTPStatusError or InvalidStatus when it is refused.
    """
    headers, place = {"Authorization": f"Bearer {secret}"}, f"127.0.0.1:{world.port}/api/v1"
    if kind == "socket":
        address = f"ws://{place}/ws/instances/{instance_id}"
        async with websockets.connect(address, additional_headers=headers, proxy=None) as socket:
            await socket.recv()  # the snapshot
            yield partial(_socket_end, socket)
        return
    path = f"/events?instance_id={instance_id}" if kind == "events" else f"/instances/{instance_id}/logs?follow=true"
    async with (
        httpx.AsyncClient(timeout=LIMIT_S) as client,
        client.stream("GET", f"http://{place}{path}", headers=headers) as answer,
    ):
        answer.raise_for_status()
        yield partial(_answer_end, answer)


async def _socket_end(socket: websockets.ClientConnection) -> tuple[int | None, str | None]:
    with suppress(websockets.ConnectionClosedError):
        async with asyncio.timeout(LIMIT_S):
            async for _ in socket:
                pass
    return socket.close_code, socket.close_reason


async def _answer_end(answer: httpx.Response) -> str:
    async with asyncio.timeout(LIMIT_S):
        return "".join([text async for text in answer.aiter_text()])


async def status_of(world: ApiWorld, kind: str, instance_id: str, secret: str) -> int:
    """0: it has begun."""
    try:
        async with opened(world, kind, instance_id, secret):
            return 0
    except httpx.HTTPStatusError as error:
        return error.response.status_code
    except websockets.InvalidStatus as error:
        return error.response.status_code


async def until_free(world: ApiWorld, kind: str, instance_id: str) -> None:
    """Until there is a seat: nobody announces that the server has seen somebody leave."""
    async with asyncio.timeout(LIMIT_S):
        while await status_of(world, kind, instance_id, world.secrets["read"]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# -- how many --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_all_kinds_of_streams_share_one_limit(kind: str) -> None:
    limits = msgspec.structs.replace(GENEROUS, websockets=4, websockets_per_principal=3)
    async with running(limits=limits) as (world, instance_id), AsyncExitStack() as stack:
        for each in KINDS:
            await stack.enter_async_context(opened(world, each, instance_id, world.secrets["read"]))
        assert await status_of(world, kind, instance_id, world.secrets["read"]) == 429
        async with opened(world, kind, instance_id, world.secrets["admin"]):
            assert await status_of(world, kind, instance_id, world.secrets["define"]) == 503
        await stack.aclose()
        await until_free(world, kind, instance_id)
        assert world.log.events("error") == []


async def test_a_page_of_log_lines_needs_no_seat() -> None:
    limits = msgspec.structs.replace(GENEROUS, websockets_per_principal=1)
    async with (
        running(limits=limits) as (world, instance_id),
        opened(world, "logs", instance_id, world.secrets["read"]),
        world.client("read") as client,
    ):
        assert (await client.get(f"/api/v1/instances/{instance_id}/logs")).status_code == 200
        answer = await client.get(f"/api/v1/instances/{instance_id}/logs?f%6fllow=1")
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
        assert "retry-after" in answer.headers


@pytest.mark.parametrize("path", ["/api/v1/instances/{}/logs?follow=true", "/api/v1/events?instance_id={}"])
async def test_ten_thousand_streams_of_one_token_are_refused_beyond_its_limit(path: str) -> None:
    """They come at once and never hang up by themselves; only those that have a seat cost something from then on."""
    limits = msgspec.structs.replace(GENEROUS, websockets_per_principal=50)
    async with api_world(limits=limits) as world:
        await world.engine.register_workflow(read_yaml(LONG))
        target = path.format(await world.engine.execute_workflow("long"))
        leave, statuses = asyncio.Event(), []
        crowd = [asyncio.create_task(_ask(world, target, leave, statuses.append)) for _ in range(10_000)]
        await until(lambda: len(statuses) == 10_000)
        assert statuses.count(200) == 50
        assert statuses.count(429) == 9_950
        await asyncio.wait_for(asyncio.gather(*[task for task in crowd if task.done()]), LIMIT_S)
        assert sum(not task.done() for task in crowd) == 50
        leave.set()
        await asyncio.wait_for(asyncio.gather(*crowd), LIMIT_S)
        assert world.parts.hub.clients == 0
        assert world.log.events("error") == []


async def _ask(world: ApiWorld, target: str, leave: asyncio.Event, tell: Callable[[int], None]) -> None:
    """One request without a socket."""
    path, _, query = target.partition("?")
    asked = False

    async def receive() -> Any:
        nonlocal asked
        if asked:
            await leave.wait()
            return {"type": "http.disconnect"}
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            tell(message["status"])

    token = f"Bearer {world.secrets['read']}".encode()
    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"localhost"), (b"authorization", token)],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        "root_path": "",
        "http_version": "1.1",
    }
    await world.app(scope, receive, send)


async def test_a_route_that_does_not_say_that_it_streams_cannot() -> None:
    begun = []

    async def pieces() -> AsyncGenerator[bytes, None]:
        begun.append(1)
        yield b"{}\n"

    @get("/sly", opt={"scope": "read"})
    async def sly() -> Reply[Any]:
        return Lines(pieces(), "application/x-ndjson")

    async with api_world(handlers=[sly]) as world, world.client("read") as client:
        answer = await client.get("/sly")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert begun == []


# -- how long --------------------------------------------------------------------------------------------------------


def check_end(kind: str, end: Any) -> None:
    """A socket says why; an answer just ends, and whoever asks again is told."""
    assert kind != "socket" or end == (1008, "this token was revoked or has expired")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_ends_when_its_token_is_revoked(kind: str) -> None:
    async with running() as (world, instance_id):
        row, secret = await world.tokens.create("short lived", "read")
        async with (
            opened(world, kind, instance_id, world.secrets["read"]) as other,
            opened(world, kind, instance_id, secret) as end,
        ):
            await world.tokens.revoke(row.id)
            async with asyncio.timeout(2):
                check_end(kind, await end())
            assert await status_of(world, kind, instance_id, secret) == 401
            assert await status_of(world, kind, instance_id, world.secrets["read"]) == 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):  # the other one goes on; that something does not happen takes its time
                    await other()
        assert world.log.events("error") == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_ends_when_its_token_expires(kind: str) -> None:
    clock = ManualClock()
    async with running(clock=clock) as (world, instance_id):
        _, secret = await world.tokens.create("short lived", "read", Micros(clock.now_us() + HOUR_US // 60))
        async with opened(world, kind, instance_id, secret) as end:
            await clock.advance(59.9)
            assert await status_of(world, kind, instance_id, secret) == 0
            await clock.advance(0.2)
            check_end(kind, await end())
            assert await status_of(world, kind, instance_id, secret) == 401


async def test_a_rotation_ends_the_streams_of_the_old_secret(tmp_path: Any) -> None:
    async with running(dsn=tmp_path / "引擎.db") as (world, instance_id):
        await world.tokens.ensure_local(tmp_path / "token")
        secret = (tmp_path / "token").read_text().strip()
        async with opened(world, "socket", instance_id, secret) as end:
            await world.tokens.rotate_local()
            check_end("socket", await end())


async def test_a_socket_that_takes_nothing_ends_with_its_token_too() -> None:
    """Its last words do not get through; it is given up, and its seat is free."""
    async with api_world() as world:
        await world.engine.register_workflow(read_yaml(LONG))
        instance_id = await world.engine.execute_workflow("long")
        row, secret = await world.tokens.create("short lived", "read")
        stuck, never = asyncio.Event(), asyncio.Event()

        messages: Any = iter([{"type": "websocket.connect"}])

        async def receive() -> Any:
            return next(messages, None) or await never.wait()

        async def send(message: Any) -> None:
            if message["type"] != "websocket.accept":
                stuck.set()
                await never.wait()

        scope: Any = {
            "type": "websocket",
            "path": f"/api/v1/ws/instances/{instance_id}",
            "raw_path": b"",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"authorization", f"Bearer {secret}".encode())],
            "subprotocols": [],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "scheme": "ws",
            "root_path": "",
        }
        stream = asyncio.create_task(world.app(scope, receive, send))
        await asyncio.wait_for(stuck.wait(), LIMIT_S)
        await world.tokens.revoke(row.id)
        await asyncio.wait_for(stream, 5)
        assert world.parts.hub.clients == 0


# -- watching --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def book(clock: ManualClock) -> AsyncIterator[TokenBook]:
    async with api_world(clock=clock, limits=Limits()) as world:
        yield world.tokens


async def test_whoever_watches_is_told_once() -> None:
    clock, told = ManualClock(), []
    async with book(clock) as tokens:
        row, _ = await tokens.create("a", "read", Micros(clock.now_us() + 10 * HOUR_US))
        other, _ = await tokens.create("b", "read")
        tokens.watch(row.id, partial(told.append, 1))
        forget = tokens.watch(row.id, partial(told.append, 2))
        tokens.watch(row.id, partial(told.append, 3))
        tokens.watch(other.id, partial(told.append, 4))
        forget()
        forget()
        await tokens.revoke(row.id)
        await tokens.revoke(row.id)
        await clock.advance(36_001)
        assert told == [1, 3]


async def test_whoever_watches_a_token_that_has_ended_is_told_at_once() -> None:
    clock, told = ManualClock(), []
    async with book(clock) as tokens:
        row, _ = await tokens.create("a", "read")
        await tokens.revoke(row.id)
        tokens.watch(row.id, partial(told.append, "revoked"))
        tokens.watch("expired", partial(told.append, "expired"))
        tokens.watch("nobody", partial(told.append, "unknown"))
        assert told == ["revoked", "expired", "unknown"]


async def test_an_expiry_is_seen_within_a_minute_when_the_clock_is_set_forward() -> None:
    clock, told = ManualClock(), []
    async with book(clock) as tokens:
        row, _ = await tokens.create("a", "read", Micros(clock.now_us() + 10 * HOUR_US))
        tokens.watch(row.id, partial(told.append, 1))
        clock.set_wall(clock.now_us() + 11 * HOUR_US)
        await clock.advance(60)
        assert told == [1]


async def test_nobody_watching_leaves_no_timer() -> None:
    clock = ManualClock()
    async with book(clock) as tokens:
        row, _ = await tokens.create("a", "read", Micros(clock.now_us() + 30_000_000))
        before = clock.next_timer()
        forget = tokens.watch(row.id, lambda: None)
        assert clock.next_timer() == min(filter(None, (before, clock.monotonic() + 30)))
        forget()
        assert clock.next_timer() == before
