"""A scripted server on the loopback that misbehaves as it is told, and one way to drive both clients."""

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, closing, contextmanager
from itertools import islice
from typing import Any

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Request as SocketRequest
from websockets.http11 import Response as SocketResponse
from websockets.sync.server import ServerConnection, serve
from websockets.utils import accept_key

from taskengine.client import AsyncClient, Client, Pace
from taskengine.wire import Envelope, ProblemBody

LIMIT_S = 20.0


class TestTime:
    """Time that passes only by resting; every rest is written down."""

    __test__ = False

    def __init__(self) -> None:
        self.rests: list[float] = []
        self.now_s = 0.0
        self.keys = 0
        self.on_rest: Callable[[], object] = lambda: None

    def pace(self) -> Pace:
        return Pace(
            monotonic=lambda: self.now_s,
            sleep=self._sleep,
            sleep_async=self._sleep_async,
            chance=lambda: 1.0,
            new_key=self._new_key,
        )

    def _sleep(self, delay_s: float) -> None:
        self.rests.append(delay_s)
        self.now_s += delay_s
        self.on_rest()

    async def _sleep_async(self, delay_s: float) -> None:
        self._sleep(delay_s)

    def _new_key(self) -> str:
        self.keys += 1
        return f"key-{self.keys}"


class Seen(msgspec.Struct):
    """One request, as the scripted server read it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Reply(msgspec.Struct, kw_only=True):
    """What to do with one request.

    cut_at   send so many bytes of the answer and cut the connection; None: all of it
    hang     answer nothing until the client has gone
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = {}
    cut_at: int | None = None
    hang: bool = False


def good(data: Any, **more: Any) -> Reply:
    return Reply(body=msgspec.json.encode(Envelope(data=data)), **more)


def problem(status: int, code: str, detail: str, **headers: str) -> Reply:
    body = ProblemBody(title="", status=status, detail=detail, code=code, message=detail)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, body=msgspec.json.encode(body), content_type="application/problem+json", headers=named)


class ScriptedServer:
    """Answers the n-th request with the n-th reply; the last one stays."""

    def __init__(self, replies: Sequence[Reply | Callable[[Seen], Reply]]) -> None:
        self.replies = list(replies)
        self.seen: list[Seen] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, name="scripted server")]
        self._threads[0].start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept
        self._listener.close()
        for thread in self._threads:
            thread.join(LIMIT_S)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=[connection])
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as stream:
            connection.settimeout(LIMIT_S)
            while (seen := _read_request(stream)) is not None and not self._stopping.is_set():
                with self._lock:
                    self.seen.append(seen)
                    chosen = self.replies[min(len(self.seen), len(self.replies)) - 1]
                reply = chosen if isinstance(chosen, Reply) else chosen(seen)
                if reply.hang:
                    connection.recv(1)
                    return
                data = _encoded(reply)
                connection.sendall(data[: reply.cut_at])
                if reply.cut_at is not None:
                    # With a linger of nothing the other side gets a reset and not an orderly end.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return


def _read_request(stream: Any) -> Seen | None:
    first = stream.readline().decode().split()
    if len(first) < 2:
        return None
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    return Seen(first[0], first[1], headers, body)


def _encoded(reply: Reply) -> bytes:
    headers = {"content-type": reply.content_type, "content-length": str(len(reply.body)), **reply.headers}
    if "transfer-encoding" in headers:
        del headers["content-length"]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {reply.status} Said\r\n{lines}\r\n".encode() + reply.body


@contextmanager
def scripted(*replies: Reply | Callable[[Seen], Reply]) -> Iterator[ScriptedServer]:
    with closing(ScriptedServer(replies)) as server:
        yield server


class SocketScript(msgspec.Struct, kw_only=True):
    """One WebSocket connection: refuse it, or say these things and end so. `code` None: cut without a goodbye."""

    refuse: int | None = None
    refusal: bytes = b""
    refusal_type: str = "application/problem+json"
    messages: list[bytes] = []
    code: int | None = 1000
    reason: str = ""


@contextmanager
def scripted_socket(script: Callable[[str], SocketScript]) -> Iterator[tuple[str, list[SocketRequest]]]:
    """A WebSocket server; `script` gets the path with its query, once for each connection."""
    requests: list[SocketRequest] = []
    chosen: dict[int, SocketScript] = {}

    def choose(connection: ServerConnection, request: SocketRequest) -> SocketResponse | None:
        requests.append(request)
        plan = chosen[id(connection)] = script(request.path)
        if plan.refuse is None:
            return None
        headers = Headers({"Content-Type": plan.refusal_type, "Content-Length": str(len(plan.refusal))})
        return SocketResponse(plan.refuse, "Said", headers, plan.refusal)

    def handle(connection: ServerConnection) -> None:
        plan = chosen[id(connection)]
        for message in plan.messages:
            connection.send(message.decode())
        if plan.code is None:
            connection.socket.shutdown(socket.SHUT_RDWR)
        else:
            connection.close(plan.code, plan.reason)

    with serve(handle, "127.0.0.1", 0, process_request=choose, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}", requests
        finally:
            server.shutdown()
            thread.join(LIMIT_S)


@contextmanager
def silent_socket() -> Iterator[str]:
    """Opens one WebSocket and then says nothing more, not even to a ping, as a machine without power."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def open_it() -> None:
            with server.accept()[0] as connection, connection.makefile("rb") as stream:
                connection.settimeout(LIMIT_S)
                seen = _read_request(stream)
                assert seen is not None
                accept = accept_key(seen.headers["sec-websocket-key"])
                head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                connection.sendall(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
                with contextlib.suppress(OSError):
                    while connection.recv(65536):
                        pass

        thread = threading.Thread(target=open_it)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(LIMIT_S)


class CuttingWire:
    """Forwards to a server. Each connection is cut after the next of `cuts`, in bytes of answers; then none is."""

    def __init__(self, port: int, cuts: Iterator[int]) -> None:
        self._port, self._cuts = port, cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self.connections = 0
        self._threads[0].start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            _hang_up(each)
        for thread in self._threads:
            thread.join(LIMIT_S)
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            far = socket.create_connection(("127.0.0.1", self._port))
            self._open += [near, far]
            for source, goal, budget in ((near, far, None), (far, near, next(self._cuts, None))):
                thread = threading.Thread(target=self._pump, args=[source, goal, budget])
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, goal: socket.socket, budget: int | None) -> None:
        with contextlib.suppress(OSError):
            while budget is None or budget > 0:
                data = source.recv(65536 if budget is None else budget)
                if not data:
                    break
                goal.sendall(data)
                budget = None if budget is None else budget - len(data)
        _hang_up(source), _hang_up(goal)


def _hang_up(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


class Either:
    """Drives one of the two clients by the names of its verbs, so that one test is a law of both."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return self.kind

    def ask(
        self, address: str | None, verb: str, *args: Any, options: dict[str, Any] | None = None, **named: Any
    ) -> Any:
        """One call with a client of its own."""
        if self.kind == "blocking":
            with Client(address, **(options or {})) as client:
                return getattr(client, verb)(*args, **named)

        async def run() -> Any:
            async with AsyncClient(address, **(options or {})) as client:
                return await getattr(client, verb)(*args, **named)

        return asyncio.run(asyncio.wait_for(run(), LIMIT_S))

    def take(
        self,
        address: str | None,
        verb: str,
        *args: Any,
        count: int | None = None,
        options: dict[str, Any] | None = None,
        **named: Any,
    ) -> list[Any]:
        """What an iterating verb gives: the first `count`, or everything."""
        if self.kind == "blocking":
            with Client(address, **(options or {})) as client:
                items = getattr(client, verb)(*args, **named)
                with closing(items):
                    return list(islice(items, count))

        async def run() -> list[Any]:
            async with AsyncClient(address, **(options or {})) as client:
                items = getattr(client, verb)(*args, **named)
                async with aclosing(items):
                    return [item async for item in first_of(items, count)]

        return asyncio.run(asyncio.wait_for(run(), LIMIT_S))


async def first_of(items: AsyncIterator[Any], count: int | None) -> AsyncIterator[Any]:
    if count == 0:
        return
    given = 0
    async for item in items:
        yield item
        given += 1
        if given == count:
            return


def ndjson(lines: Iterable[Any]) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def chunked(parts: Iterable[bytes], *, complete: bool) -> bytes:
    """A chunked body; without its end the client sees that it was cut."""
    coded = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part)
    return coded + (b"0\r\n\r\n" if complete else b"")


def as_json(data: bytes) -> Any:
    return json.loads(data)
