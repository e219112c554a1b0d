"""One connection on its way through the gate, and what may leave on it.

Closed by default: until the guard of the matched handler has let it pass, an answer that the inside makes is replaced
by "who are you?" for everyone without a valid token. So an unknown path, a wrong method and a route that somebody
forgot to guard all look alike from outside.
"""

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final

from litestar.types import Message, Send

from taskengine.api.gate.hosts import Sender
from taskengine.api.gate.tokens import Principal
from taskengine.api.problems import Answer, Refusal
from taskengine.wire import PROBLEM_TYPE

__all__ = ["Facts", "Passage", "passage_of"]

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


class Passage:
    """State of one connection. Made by the gate, completed by the guard; `send` is the only way out.

    denial    the answer for somebody without a valid token
    cleared   the guard has let it pass
    error     what the inside raised last
    gone      the other end takes and sends nothing any more
    status    of the answer that went out, 0: none; 101 for an accepted WebSocket
    """

    __slots__ = (
        "_answer",
        "_out",
        "_scope",
        "_shut",
        "cleared",
        "denial",
        "error",
        "gone",
        "mutating",
        "principal",
        "sender",
        "started",
        "status",
        "streaming",
    )

    def __init__(self, scope: Facts, send: Send, answer: Callable[[Exception], Answer]) -> None:
        self._scope = scope
        self._out = send
        self._answer = answer
        self._shut = False
        self.sender = Sender(peer="", client="", host="", scheme="")
        self.principal: Principal | None = None
        self.denial = Refusal(401, "")
        self.cleared = False
        self.mutating = False
        self.gone = False
        self.error: Exception | None = None
        self.started = False
        self.status = 0
        self.streaming = False
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
        """What the inside wants to say."""
        if self._shut:
            return
        match message["type"]:
            case "http.response.start" | "websocket.accept" if not self.cleared and not self._harmless(message):
                await self.refuse(self.denial if self.principal is None else Refusal(500, "no guard has let this pass"))
            case "http.response.start":
                await self._begin(message["status"], message)
            case "websocket.accept":
                await self._begin(101, message)
            case "websocket.close" if not self.started:
                await self.refuse(self._reason())
            case _:
                await self._tell(message)

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

    async def _begin(self, status: int, message: Any) -> None:
        self.started, self.status = True, status
        given = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers") or ()]
        self.streaming = any(name == b"content-type" and value.startswith(_STREAMS) for name, value in given)
        if message["type"] == "http.response.start":
            message = {**message, "headers": with_defaults(given)}
        await self._tell(message)

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
