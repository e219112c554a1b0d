"""Who does not read: coalesced, then sent away, in bounded memory, and nobody else notices."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from api.apiworld import LIMIT_S, ApiWorld
from api.stream_rig import all_frames, dial, end_of, frames_until, moved, next_frame, seqs, stream_world, until
from websockets.asyncio.client import ClientConnection

TEXT = "x" * 4000


@contextmanager
def deaf(world: ApiWorld, path: str = "events") -> Iterator[socket.socket]:
    """A WebSocket client that shakes hands and never reads."""
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.connect(("127.0.0.1", world.port))
        made.sendall(
            f"GET /api/v1/ws/{path} HTTP/1.1\r\nHost: 127.0.0.1:{world.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Authorization: Bearer {world.secrets['read']}\r\n\r\n".encode()
        )
        yield made


class Publisher:
    """Makes one instance move, on the bus alone."""

    def __init__(self, world: ApiWorld, instance: str = "busy") -> None:
        self._bus, self._instance, self.seq = world.engine.bus, instance, 0

    def tell(self, count: int, text: str = TEXT) -> None:
        for _ in range(count):
            self.seq += 1
            self._bus.publish(moved(self.seq, self._instance, text=text))

    async def tell_until(self, holds: Any) -> None:
        """On and on, in the loop's own time."""

        def more() -> Any:
            self.tell(20)
            return holds()

        await until(more)


async def test_who_never_reads_is_sent_away_and_its_socket_is_dropped() -> None:
    async with stream_world(patience_s=0.3, linger_s=0) as world:
        publisher = Publisher(world)
        with deaf(world) as never:
            await until(lambda: world.parts.hub.clients)
            await publisher.tell_until(lambda: not world.parts.hub.clients)
            assert world.metrics.total("stream.closed", reason="too_slow") == 1
            never.settimeout(LIMIT_S)
            received = await asyncio.to_thread(_read_all, never)
        assert len(received) < 3_000_000  # what the buffers held, and not what was told


def _read_all(made: socket.socket) -> bytes:
    """Up to the end, or to the reset by a server that waited no longer."""
    received = b""
    try:
        while piece := made.recv(65_536):
            received += piece
    except ConnectionResetError:
        pass
    return received


async def test_a_slow_reader_hears_of_the_gap_and_gets_how_things_are_now() -> None:
    async with stream_world(max_parcels=50, linger_s=0) as world:
        publisher = Publisher(world)
        async with dial(world, "events", max_queue=1) as slow:
            await next_frame(slow)
            slow.transport.pause_reading()
            await publisher.tell_until(lambda: world.metrics.total("stream.frames") > 2000)
            slow.transport.resume_reading()
            frames = await frames_until(slow, lambda frame: frame["type"] == "snapshot")
            numbers = seqs(frames)
            assert numbers == list(range(1, len(numbers) + 1))
            assert [frame["type"] for frame in frames[-2:]] == ["gap", "snapshot"]
            publisher.tell(1)
            (after,) = seqs([await _next_status(slow)])
            assert after == publisher.seq
        assert world.metrics.total("stream.closed", reason="too_slow") == 0


async def _next_status(socket: ClientConnection) -> dict[str, Any]:
    frames = await frames_until(socket, lambda frame: frame["type"] == "task_status" and not frame.get("more"))
    return frames[-1]


async def test_who_is_sent_away_may_come_back_where_it_was() -> None:
    """1013 arrives when the client reads again in time; its cursor leads exactly to the rest."""
    plenty = {"max_parcels": 100_000, "max_bytes": 1 << 30, "ring_bytes": 1 << 30}
    async with stream_world(patience_s=0.3, linger_s=0, **plenty) as world:
        publisher = Publisher(world)
        async with dial(world, "events", max_queue=1) as slow:
            await next_frame(slow)
            slow.transport.pause_reading()
            publisher.tell(2500)  # more than the sockets' buffers hold
            await until(lambda: world.metrics.total("stream.closed"))
            slow.transport.resume_reading()
            frames = await all_frames(slow)
            code, reason = await end_of(slow)
        assert code == 1013
        assert reason
        cursor = reason.partition("since=")[2]
        assert cursor == frames[-1]["cursor"]
        missing = publisher.seq - seqs(frames)[-1]
        async with dial(world, f"events?since={cursor}") as again:
            rest = [await next_frame(again) for _ in range(missing)]
        assert seqs(frames) + seqs(rest) == list(range(1, publisher.seq + 1))


async def test_one_that_never_reads_among_fifty_hurts_nobody() -> None:
    async with stream_world(patience_s=60, linger_s=0) as world, AsyncExitStack() as stack:
        hub, publisher = world.parts.hub, Publisher(world)
        publisher.tell(1)  # the first number is one of the instance itself, which all would hear
        stack.enter_context(deaf(world))
        await until(lambda: hub.clients == 1)
        (never,) = hub._clients
        others = [await stack.enter_async_context(dial(world, "events?types=instance_status")) for _ in range(50)]
        for each in others:
            await next_frame(each)
        loop, late = asyncio.get_running_loop(), 0.0
        for number in range(40):
            publisher.tell(200)
            began_s = loop.time()
            world.engine.bus.publish(moved(1, f"probe-{number}", final=True))
            for each in others:
                assert (await next_frame(each))["instance_id"] == f"probe-{number}"
            late = max(late, loop.time() - began_s)
            assert never.queued <= 5000
            assert never.queued_bytes <= 4 << 20
        assert never.blocked_s is not None, "32 MB went nowhere"
        assert never.lost, "its queue was thrown away"
        assert late < 2, f"the others waited {late:.2f} s"
        await hub.stop(0.1)


async def test_without_our_connections_who_never_reads_is_given_up_as_well() -> None:
    async with stream_world(patience_s=0.3, linger_s=0, stock=True) as world:
        publisher = Publisher(world)
        with deaf(world):
            await until(lambda: world.parts.hub.clients)
            await publisher.tell_until(lambda: not world.parts.hub.clients)
        assert world.metrics.total("stream.closed", reason="too_slow") == 1


async def test_an_event_stream_that_is_never_read_is_given_up_and_dropped() -> None:
    async with stream_world(patience_s=0.3, linger_s=0) as world:
        publisher = Publisher(world)
        with socket.socket() as never:
            never.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            never.connect(("127.0.0.1", world.port))
            token = world.secrets["read"]
            never.sendall(
                f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{world.port}\r\n"
                f"Authorization: Bearer {token}\r\n\r\n".encode()
            )
            await until(lambda: world.parts.hub.clients)
            await publisher.tell_until(lambda: not world.parts.hub.clients)
            never.settimeout(LIMIT_S)
            await asyncio.to_thread(_read_all, never)
        assert world.metrics.total("stream.closed", reason="too_slow") == 1
        assert world.log.events("error") == []


async def test_a_hub_stops_although_somebody_never_reads() -> None:
    async with stream_world(linger_s=0) as world:
        publisher = Publisher(world)
        with deaf(world):
            await until(lambda: world.parts.hub.clients)
            await publisher.tell_until(lambda: any(client.blocked_s is not None for client in world.parts.hub._clients))
            async with asyncio.timeout(LIMIT_S):
                await world.parts.hub.stop(0.2)
            assert world.parts.hub.clients == 0
