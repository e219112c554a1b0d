"""One connection on its way through the gate, and what may leave on it.

Closed by default: until the guard of the matched handler has let it pass, an answer that the inside makes is replaced
by "who are you?" for everyone without a valid token. So an unknown path, a wrong method and a route that somebody
forgot to guard all look alike from outside.
"""

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final

import anyio
from litestar.types import Message, Send

from taskengine.api.gate.hosts import Sender
from taskengine.api.gate.seats import Seat
from taskengine.api.gate.tokens import Principal
from taskengine.api.problems import Answer, Refusal
from taskengine.wire import PROBLEM_TYPE

__all__ = ["Facts", "Passage", "Unseated", "passage_of"]

Facts = MutableMapping[str, Any]
"""An ASGI scope of HTTP or WebSocket; its keys depend on which."""

_KEY: Final = "taskengine.gate"
_STREAMS: Final = (b"text/event-stream", b"application/x-ndjson")
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


_ENDED: Final = "this token was revoked or has expired"
_CLOSE_S: Final = 1.0


class Unseated(Exception):
    """Stops a handler that began a stream for which there is no room; by then the client has been told."""


class Passage:
    """State of one connection. Made by the gate, completed by the guard; `send` is the only way out.

    sender     where it comes from
    denial     the answer for somebody without a valid token
    seat       its place among the streams, if its route may stream
    has_body   it says that a body follows, of `length` bytes (0: it does not say) and of type `kind`
    cleared    the guard has let it pass
    mutating   it could change something
    gone       the other end takes and sends nothing any more
    error      what the inside raised last
    streaming  its answer has begun and goes on for as long as the client likes
    status     of the answer that went out, 0: none; 101 for an accepted WebSocket
    """

    sender: Sender
    denial = Refusal(401, "a token is needed")
    principal: Principal | None = None
    seat: Seat | None = None
    has_body = False
    length = 0
    kind = ""
    cleared = False
    mutating = False
    gone = False
    error: Exception | None = None
    started = False
    streaming = False
    status = 0
    _shut = False

    def __init__(self, scope: Facts, send: Send, answer: Callable[[Exception], Answer]) -> None:
        self._scope = scope
        self._out = send
        self._answer = answer
        scope[_KEY] = self

    def leave(self) -> None:
        """The client has gone: what the inside then complains about is no fault."""
        self.gone = True

    async def refuse(self, refusal: Exception) -> None:
        """Answer with a problem and let nothing else out."""
        if self.started or self._shut:
            return
        self._shut = True
        await self._problem(self._answer(refusal))

    async def send(self, message: Message) -> None:
        """What the inside wants to say. Raises Unseated when it begins a stream for which there is no room."""
        if self._shut:
            return
        kind = message["type"]
        if kind == "http.response.body" or kind == "websocket.send":
            await self._tell(message)
        elif kind == "http.response.start" or kind == "websocket.accept":
            if self.cleared or self._harmless(message):
                await self._begin(message)
            else:
                await self.refuse(self.denial if self.principal is None else Refusal(500, "no guard has let this pass"))
        elif kind == "websocket.close" and not self.started:
            await self.refuse(self._reason())
        else:
            await self._tell(message)

    async def end(self) -> None:
        """The token of who asked has ended, and with it the stream; nothing more is said by the inside."""
        if self._shut:
            return
        if not self.started:
            await self.refuse(Refusal(401, _ENDED, {"WWW-Authenticate": 'Bearer realm="taskengine"'}))
            return
        self._shut = True
        with anyio.move_on_after(_CLOSE_S), suppress(OSError):
            if self._scope["type"] == "websocket":
                await self._tell({"type": "websocket.close", "code": 1008, "reason": _ENDED})
            else:
                await self._tell({"type": "http.response.body", "body": b"", "more_body": False})

    def _harmless(self, message: Message) -> bool:
        """A router's refusal, told to somebody with a valid token."""
        return self.principal is not None and message.get("status", 101) >= 400  # type: ignore[operator]

    def _reason(self) -> Exception:
        """Why a WebSocket was closed before it was accepted."""
        if not self.cleared and self.principal is None:
            return self.denial
        return self.error or Refusal(403, "the connection was not accepted")

    async def _tell(self, message: Any) -> None:
        """ASGI's way to say that the other end has gone is an OSError of `send`."""
        try:
            await self._out(message)
        except OSError:
            self.gone = True
            raise

    async def _begin(self, message: Any) -> None:
        given: list[tuple[bytes, bytes]] = []
        names: set[bytes] = set()
        for name, value in message.get("headers") or ():
            name = bytes(name).lower()
            names.add(name)
            given.append((name, bytes(value)))
            if name == b"content-type" and value.startswith(_STREAMS):
                await self._be_seated()
                self.streaming = True
        self.started = True
        if message["type"] == "websocket.accept":
            self.status = 101
            await self._tell(message)
            return
        self.status = message["status"]
        given += [pair for pair in _ALWAYS if pair[0] not in names]
        await self._tell({"type": "http.response.start", "status": self.status, "headers": given})

    async def _be_seated(self) -> None:
        """No stream goes out that nobody counts."""
        unsaid = Refusal(500, "this route does not say that it streams, so it may not")
        refusal = unsaid if self.seat is None else self.seat.take()
        if refusal is not None:
            await self.refuse(refusal)
            raise Unseated

    async def _problem(self, answer: Answer) -> None:
        self.started, self.status = True, answer.body.status
        body = answer.encoded()
        headers = _problem_headers(answer.headers, len(body))
        if self._scope["type"] != "websocket":
            await self._tell({"type": "http.response.start", "status": self.status, "headers": headers})
            await self._tell({"type": "http.response.body", "body": body, "more_body": False})
        elif "websocket.http.response" in (self._scope.get("extensions") or {}):
            start = {"type": "websocket.http.response.start", "status": self.status, "headers": headers}
            end = {"type": "websocket.http.response.body", "body": body, "more_body": False}
            await self._tell(start)
            await self._tell(end)
        else:
            await self._tell({"type": "websocket.close", "code": 1008, "reason": answer.body.code})


def passage_of(scope: Mapping[str, Any]) -> Passage:
    """The passage that the gate put into this scope. KeyError: the request did not come through the gate."""
    found: Passage = scope[_KEY]
    return found


def with_defaults(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers that every answer has, unless its handler chose otherwise."""
    given = list(headers)
    names = {name for name, _ in given}
    return given + [(name, value) for name, value in _ALWAYS if name not in names]


def _problem_headers(extra: Mapping[str, str], length: int) -> list[tuple[bytes, bytes]]:
    own = {"Content-Type": PROBLEM_TYPE, "Content-Length": str(length), **extra}
    return with_defaults((name.lower().encode(), value.encode("latin-1")) for name, value in own.items())
