"""What the web server's own rules leave open: peers that never finish a request's head or never read their answer.

uvicorn has no limit for either. A look at all connections each second costs less than a timer for each.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from taskengine.api.stream.protocol import StreamHttpProtocol
from taskengine.clock import Clock, TimerHandle

__all__ = ["HttpConnection", "Sweeper"]

_PERIOD_S: Final = 1.0
_CLOSING_S: Final = 5.0
_MAX_HEAD: Final = 64 * 1024
_TOO_LONG: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class HttpConnection(StreamHttpProtocol):
    """That of streams, with a bound for the head of a request: the parser takes any number of headers.

    heads  how many were read
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head = 0
        self.heads = 0

    @property
    def awaits_head(self) -> bool:
        """Nothing is under way, and either nothing came yet or something has begun to come."""
        idle = self.cycle is None or self.cycle.response_complete
        return idle and self.timeout_keep_alive_task is None

    def data_received(self, data: bytes) -> None:
        self._head += len(data)
        super().data_received(data)
        if self._head > _MAX_HEAD and self.awaits_head and not self.transport.is_closing():
            self.transport.write(_TOO_LONG)
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._head, self.heads = 0, self.heads + 1
        super().on_headers_complete()


class Sweeper:
    """Drops connections that stand still. Belongs to the loop's thread.

    head_s   for the head of a request
    write_s  without progress on an answer; streams have their own rules, unless they are being closed
    """

    def __init__(self, clock: Clock, connections: Callable[[], Iterable[Any]], head_s: float, write_s: float) -> None:
        self._clock, self._connections = clock, connections
        self._head_s, self._write_s = head_s, write_s
        self._seen: dict[Any, tuple[str, int, float]] = {}
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        self._timer = self._clock.call_at(self._clock.monotonic() + _PERIOD_S, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._seen.clear()

    def _look(self) -> None:
        now_s, seen = self._clock.monotonic(), {}
        for connection in list(self._connections()):
            state, amount = _state(connection)
            if state == "moving":
                continue
            before = self._seen.get(connection)
            # The same state and no less in the buffer than a second ago: it stands still since then.
            still = before is not None and before[0] == state and amount >= before[1]
            since_s = before[2] if before is not None and still else now_s
            if now_s - since_s >= self._limit_s(state):
                connection.transport.abort()
            else:
                seen[connection] = (state, amount, since_s)
        self._seen = seen
        self.start()

    def _limit_s(self, state: str) -> float:
        return {"head": self._head_s, "writing": self._write_s}.get(state, min(_CLOSING_S, self._write_s))


def _state(connection: Any) -> tuple[str, int]:
    """What a connection waits for, and how many bytes its peer has not taken."""
    transport = connection.transport
    if transport is None:
        return "moving", 0
    waiting = transport.get_write_buffer_size()
    if transport.is_closing() or getattr(connection, "close_sent", False):
        return ("closing", waiting) if waiting else ("moving", 0)
    if not isinstance(connection, HttpConnection):
        return "moving", 0  # a WebSocket: who is too slow for it is sent away by the hub
    if connection.awaits_head:
        return "head", -connection.heads  # one more head since the last look is progress
    return ("writing", waiting) if waiting and not _streams(connection) else ("moving", 0)


def _streams(connection: HttpConnection) -> bool:
    passage = connection.cycle.scope.get("taskengine.gate") if connection.cycle is not None else None
    return bool(getattr(passage, "streaming", False))
