"""uvicorn's connections, with what streams need of them and ASGI has no words for.

A WebSocket is a `Wire`: frames that were made once are written as they are, and a client that takes nothing any more
is dropped at the end instead of being waited for. uvicorn itself closes such a connection only after its buffer is
empty, which it never is (`transport.close()` in 0.54), and its `send` cannot say goodbye while the buffer is full.
"""

from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.http11 import Request

from taskengine.api.stream.sinks import ABORT, WIRE

__all__ = ["MAX_INBOUND", "StreamHttpProtocol", "StreamProtocol", "uvicorn_options"]

MAX_INBOUND: Final = 64 * 1024
"""Bytes of one message of a client; a longer one ends the connection with 1009."""

_LINGER_S: Final = 5.0
_STOPPING: Final = "the server is stopping"


class StreamProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        # A refused handshake has no scope. The application's task has been made and has not begun.
        if self.response.status_code == 101:
            cast(dict[str, Any], self.scope["extensions"])[WIRE] = self

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            # An answered refusal is a complete handshake; uvicorn logs an error and answers 500 behind it.
            self.handshake_complete = True

    async def ready(self) -> None:
        await self.writable.wait()

    def write(self, frames: bytes) -> None:
        if not (self.close_sent or self.disconnected or self.transport.is_closing()):
            self.transport.write(frames)

    def unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def finish(self, code: int, reason: str) -> None:
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        try:
            self.conn.send_close(code, reason)
        except InvalidState:
            return
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(_LINGER_S, self.transport.abort)

    def shutdown(self) -> None:
        """The server stops: uvicorn's own way has no reason and waits for those who do not read."""
        self.stop_keepalive()
        if self.handshake_complete and not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1012, "reason": _STOPPING})
            self.finish(1012, _STOPPING)
        elif not self.handshake_complete:
            super().shutdown()

    def keepalive_timeout(self) -> None:
        # No pong for so long: nobody is there, or nobody reads.
        super().keepalive_timeout()
        self._drop_later()

    def send_receive_event_to_app(self) -> None:
        """Text that is none ends the connection; it is no news for the server's log."""
        if self.curr_msg_data_type == "text" and not _is_text(b"".join(self.frames)):
            self.frames = []
            self.conn.fail(1007, "not UTF-8")
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self._drop_later()

    def _drop_later(self) -> None:
        """Closing waits for the buffer to empty; this does not."""
        if not self.disconnected:
            self.loop.call_later(_LINGER_S, self.transport.abort)


class StreamHttpProtocol(HttpToolsProtocol):
    """One HTTP connection. Its requests know how to drop it."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:
            scope = cast(dict[str, Any], self.scope)
            scope["extensions"] = {**(scope.get("extensions") or {}), ABORT: self.transport.abort}


def uvicorn_options() -> dict[str, Any]:
    """For `uvicorn.Config`: our connections, and no compression, which would make each client's frames its own."""
    return {
        "ws": StreamProtocol,
        "http": StreamHttpProtocol,
        "ws_max_size": MAX_INBOUND,
        "ws_per_message_deflate": False,
    }


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
