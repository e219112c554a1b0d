"""The readers of W6, in a process of their own: raw sockets, so that they cost as little as they can.

Speaks lines of JSON: hears `{"port", "token", "instances", "everything", "deaf"}`, connects these readers too, and
answers `{"ready": n}` when all have their snapshots. An empty line is answered with what was seen since the last one.
"""

import asyncio
import base64
import os
import socket
import sys
import time
from datetime import datetime
from typing import Any, Final

import msgspec

__all__ = ["Report", "main"]

_HANDSHAKE: Final = (
    "GET /api/v1/ws/{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nAuthorization: Bearer {token}\r\n\r\n"
)
_AT_ONCE: Final = 50
_TEXT: Final = 0x81
_PING: Final = 0x89
_PONG: Final = 0x8A


class Report(msgspec.Struct):
    """What the readers saw: latencies in seconds, of whole numbers, from the decision to here."""

    own: list[float]
    everything: list[float]
    gaps: int
    closed: int


class _Frame(msgspec.Struct):
    """As much of a frame as is needed."""

    type: str
    timestamp: datetime
    more: bool = False


_DECODER: Final = msgspec.json.Decoder(_Frame)


class _Reader(asyncio.Protocol):
    """One WebSocket: server frames are whole texts without a mask."""

    def __init__(self, request: bytes, seen: list[float], report: Report) -> None:
        self._request = request
        self._rest = b""
        self._in_frames = False
        self.seen = seen
        self._report = report
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._report.closed += 1
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(self._rest[:300].decode(errors="replace")))

    def data_received(self, data: bytes) -> None:
        now_s = time.time()
        data = self._rest + data if self._rest else data
        if not self._in_frames:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end or b" 101 " not in head[:20]:
                self._rest = head + end + data
                return
            self._in_frames = True
        at = 0
        while (parsed := _frame(data, at)) is not None:
            code, payload, at = parsed
            if code == _TEXT:
                self._take(payload, now_s)
            elif code == _PING:  # a client masks what it says; with zeros it stays as it is
                self._transport.write(bytes((_PONG, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
        self._rest = data[at:]

    def _take(self, payload: bytes, now_s: float) -> None:
        frame = _DECODER.decode(payload)
        if frame.type == "snapshot":
            if not self.ready.done():
                self.ready.set_result(None)
        elif frame.type == "gap":
            self._report.gaps += 1
        elif frame.type in ("task_status", "instance_status") and not frame.more:
            self.seen.append(now_s - frame.timestamp.timestamp())


def _frame(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    """The first byte of the next frame, its payload, and where it ends. None: it is not whole yet."""
    if len(data) < at + 2:
        return None
    size, start = data[at + 1], at + 2
    if size >= 126:
        width = 2 if size == 126 else 8
        if len(data) < start + width:
            return None
        size, start = int.from_bytes(data[start : start + width]), start + width
    if len(data) < start + size:
        return None
    return data[at], data[start : start + size], start + size


class _Readers:
    def __init__(self) -> None:
        self.report = Report([], [], 0, 0)
        self._readers: list[_Reader] = []
        self._silent: list[socket.socket] = []

    async def connect(self, order: dict[str, Any]) -> int:
        """Returns how many have got their snapshots by now."""
        paths = [f"instances/{name}" for name in order["instances"]] + ["events"] * order["everything"]
        for start in range(0, len(paths), _AT_ONCE):
            await asyncio.gather(*[self._read(order, path) for path in paths[start : start + _AT_ONCE]])
        for _ in range(order["deaf"]):
            made = socket.socket()
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.connect(("127.0.0.1", order["port"]))
            made.sendall(_request(order, "events"))
            self._silent.append(made)
        return len(self._readers)

    async def _read(self, order: dict[str, Any], path: str) -> None:
        seen = self.report.everything if path == "events" else self.report.own
        _, reader = await asyncio.get_running_loop().create_connection(
            lambda: _Reader(_request(order, path), seen, self.report), "127.0.0.1", order["port"]
        )
        self._readers.append(reader)
        await reader.ready

    def take(self) -> Report:
        """What was seen since the last time."""
        found = msgspec.structs.replace(self.report, own=[*self.report.own], everything=[*self.report.everything])
        self.report.own.clear()
        self.report.everything.clear()
        return found


def _request(order: dict[str, Any], path: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return _HANDSHAKE.format(path=path, port=order["port"], key=key, token=order["token"]).encode()


async def _live() -> None:
    loop, readers = asyncio.get_running_loop(), _Readers()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        if line.strip():
            answer = msgspec.json.encode({"ready": await readers.connect(msgspec.json.decode(line))})
        else:
            answer = msgspec.json.encode(readers.take())
        print(answer.decode(), flush=True)


def main() -> None:
    """Until stdin ends."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(_live())
    else:
        uvloop.run(_live())


if __name__ == "__main__":
    main()
