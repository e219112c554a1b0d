"""The ways to a client: a WebSocket, with or without our own protocol class below it, and an event stream."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import anyio
from litestar.types import Scope, Send

from taskengine.api.stream.client import Ending
from taskengine.api.stream.parcel import Parcel

__all__ = ["ABORT", "WIRE", "AsgiSink", "EventSink", "Wire", "WireSink", "abort_of", "wire_of"]

WIRE: Final = "taskengine.wire"
"""Extension of a WebSocket's scope: its `Wire`."""

ABORT: Final = "taskengine.abort"
"""Extension of an HTTP scope: drops the connection, with what is unsent."""

_CLOSE_S: Final = 1.0


class Wire(Protocol):
    """A WebSocket connection without ASGI between: frames that are equal for many clients are written as they are."""

    async def ready(self) -> None:
        """Until the connection can take more, or is lost."""

    def write(self, frames: bytes) -> None:
        """Finished WebSocket frames. Nothing happens on a connection that is lost or closed."""

    def unsent(self) -> int:
        """Bytes that were written and have not left this process."""

    def finish(self, code: int, reason: str) -> None:
        """Say why and close; who does not take that within some seconds is dropped. Idempotent."""


def wire_of(scope: Scope) -> Wire | None:
    wire: Wire | None = _extensions(scope).get(WIRE)
    return wire


def abort_of(scope: Scope) -> Callable[[], object] | None:
    abort: Callable[[], object] | None = _extensions(scope).get(ABORT)
    return abort


def _extensions(scope: Scope) -> dict[str, Any]:
    found: Any = scope.get("extensions")
    return found or {}


class WireSink:
    """The usual one."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def ready(self) -> None:
        await self._wire.ready()

    def unsent(self) -> int:
        return self._wire.unsent()

    async def send(self, parcels: Sequence[Parcel]) -> None:
        self._wire.write(parcels[0].wire if len(parcels) == 1 else b"".join([parcel.wire for parcel in parcels]))

    async def beat(self, heartbeat: Parcel) -> None:
        self._wire.write(heartbeat.wire)

    async def close(self, ending: Ending) -> None:
        self._wire.finish(ending.code, ending.reason)


class AsgiSink:
    """A WebSocket of any other ASGI server: one message for each frame, and `send` is where it makes us wait."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def ready(self) -> None:
        return

    def unsent(self) -> int:
        return 0  # ASGI does not tell

    async def send(self, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            for payload in parcel.payloads:
                await self._send({"type": "websocket.send", "text": payload.decode(), "bytes": None})

    async def beat(self, heartbeat: Parcel) -> None:
        await self.send([heartbeat])

    async def close(self, ending: Ending) -> None:
        with anyio.move_on_after(_CLOSE_S):
            await self._send({"type": "websocket.close", "code": ending.code, "reason": ending.reason})


class EventSink:
    """The body of an answer of `text/event-stream`."""

    def __init__(self, send: Send, abort: Callable[[], object] | None) -> None:
        self._send = send
        self._abort = abort

    async def ready(self) -> None:
        return

    def unsent(self) -> int:
        return 0  # ASGI does not tell

    async def send(self, parcels: Sequence[Parcel]) -> None:
        await self._write(b"".join([parcel.events for parcel in parcels]))

    async def beat(self, heartbeat: Parcel) -> None:
        """A comment, which no program sees; the id alone moves what a reader will come back with."""
        resume = f"id: {heartbeat.resume}\n" if heartbeat.resume else ""
        await self._write(f": heartbeat\n{resume}\n".encode())

    async def close(self, ending: Ending) -> None:
        with anyio.move_on_after(_CLOSE_S) as scope:
            await self._write(f": {ending.reason}\n\n".encode())
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        if scope.cancelled_caught and self._abort is not None:
            self._abort()

    async def _write(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
