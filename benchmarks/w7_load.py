"""W7's load: connections that each send one request, wait for its answer, and send the next. No pipelining."""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

__all__ = ["Answers", "drive", "request"]


class Answers:
    """What came back: statuses, bodies and the time that it all took."""

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.bodies: list[bytes] = []
        self.latencies_s: list[float] = []
        self.took_s = 0.0


def request(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    """A whole HTTP/1.1 request."""
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n"
    if token:
        head += f"authorization: Bearer {token}\r\n"
    if body:
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class _Connection(asyncio.Protocol):
    """Takes requests from `requests` until there are none."""

    def __init__(self, take: Callable[[], bytes | None], answers: Answers) -> None:
        self._take, self._answers = take, answers
        self._buffer = b""
        self._sent_s = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.lower().index(b"content-length: ", 0, head + 2) + 16
        length = int(self._buffer[at : self._buffer.index(b"\r", at)])
        end = head + 4 + length
        if len(self._buffer) < end:
            return
        status = int(self._buffer[9:12])
        self._answers.statuses[status] = self._answers.statuses.get(status, 0) + 1
        self._answers.bodies.append(self._buffer[head + 4 : end])
        self._answers.latencies_s.append(perf_counter() - self._sent_s)
        self._buffer = self._buffer[end:]
        self._next()

    def _next(self) -> None:
        asked = self._take()
        if asked is None:
            self._transport.close()
            return
        self._sent_s = perf_counter()
        self._transport.write(asked)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def drive(address: str, requests: Sequence[bytes], connections: int) -> Answers:
    """Send all requests over so many connections, in their order."""
    place = urlsplit(address)
    host, port = place.hostname or "", place.port or 80
    todo = iter(requests)
    answers = Answers()
    loop = asyncio.get_running_loop()
    began_s = perf_counter()
    made = await asyncio.gather(
        *[
            loop.create_connection(lambda: _Connection(lambda: next(todo, None), answers), host, port)
            for _ in range(connections)
        ]
    )
    await asyncio.gather(*[connection.done for _, connection in made])
    answers.took_s = perf_counter() - began_s
    return answers
