"""Bodies in and out: requests are decoded strictly, answers are encoded once and sent as they are.

Litestar would build a response object for each answer, look through its encoders and copy headers; for the routes that
programs ask a thousand times a second that is half of the time. The annotations of the handlers stay the truth of the
OpenAPI document.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final, Generic, TypeVar

import anyio
import msgspec
from litestar import Response
from litestar.types import Receive, Scope, Send

from taskengine.errors import InvalidInput

__all__ = ["Empty", "Headers", "Lines", "Reply", "Text", "decode_body"]

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
Headers = Sequence[tuple[bytes, bytes]]

_ENCODER: Final = msgspec.json.Encoder()
_JSON: Final = (b"content-type", b"application/json")


class Reply(Response[T], Generic[T]):
    """A JSON answer, encoded at its making. It is its own ASGI application."""

    def __init__(self, body: T, status: int = 200, headers: Headers = ()) -> None:
        self._send_later(_ENCODER.encode(body), status, (_JSON, *headers))

    def _send_later(self, payload: bytes, status: int, headers: Headers) -> None:
        self._payload, self._status = payload, status
        self._headers = [*headers, (b"content-length", b"%d" % len(payload))]

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """For Litestar: what to call with the connection."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._payload, "more_body": False})


class Text(Reply[str]):
    """Any text, in UTF-8."""

    def __init__(self, text: str | bytes, media_type: str, headers: Headers = ()) -> None:
        payload = text.encode() if isinstance(text, str) else text
        self._send_later(payload, 200, ((b"content-type", media_type.encode()), *headers))


class Empty(Reply[None]):
    """An answer without a body: 204, 304."""

    def __init__(self, status: int, headers: Headers = ()) -> None:
        self._payload, self._status, self._headers = b"", status, list(headers)


class Lines(Reply[Any]):
    """An answer that grows: pieces are sent as they come, until there are no more or the client has left."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], media_type: str) -> None:
        self._pieces = pieces
        self._media_type = media_type.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", self._media_type), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with anyio.create_task_group() as group:
            group.start_soon(_until_gone, receive, group.cancel_scope)
            async with aclosing(self._pieces) as pieces:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            group.cancel_scope.cancel()


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def decode_body(decoder: msgspec.json.Decoder[S], body: bytes) -> S:
    """The request's struct; an empty body stands for `{}`. Raises InvalidInput, which says where the fault is."""
    try:
        return decoder.decode(body.strip() or b"{}")
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the body does not fit: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"the body is no JSON: {error}") from None
