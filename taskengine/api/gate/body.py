"""Reading a body within its limits, whatever its headers said about it."""

import asyncio
from collections.abc import Callable
from typing import Final

from litestar.types import HTTPReceiveMessage, Receive

from taskengine.api.problems import Refusal

__all__ = ["ClientGone", "bounded_receive", "media_type", "takes_media_type", "too_large"]

_JSON: Final = frozenset({"application/json"})
_YAML: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})


class ClientGone(Refusal):
    """The connection ended in the middle of the body; there is nobody to tell."""

    def __init__(self) -> None:
        super().__init__(400, "the connection ended before the body did")


def bounded_receive(
    receive: Receive, limit: int, timeout_s: float, now: Callable[[], float], on_gone: Callable[[], object]
) -> Receive:
    """`receive` of a request with a body, that raises Refusal: 413 after `limit` bytes, 408 when the body is not whole
    `timeout_s` after the first look at it. Once it is whole, waiting for the client to hang up has no limit.

    on_gone  called when the client leaves in the middle of the body, before ClientGone is raised
    """
    read = 0
    whole = False
    deadline: float | None = None

    async def bounded() -> HTTPReceiveMessage:
        nonlocal read, whole, deadline
        if whole:
            return await receive()  # type: ignore[return-value]  # an HTTP connection gets HTTP messages
        deadline = now() + timeout_s if deadline is None else deadline
        try:
            async with asyncio.timeout(max(0.0, deadline - now())):
                message = await receive()
        except TimeoutError:
            raise Refusal(408, f"the body was not there after {timeout_s:g} s", {"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            on_gone()
            raise ClientGone
        read += len(message.get("body", b""))  # type: ignore[arg-type]
        if read > limit:
            raise too_large(limit)
        whole = not message.get("more_body", False)
        return message  # type: ignore[return-value]

    return bounded


def too_large(limit: int) -> Refusal:
    """413. The connection stays open and what still comes is thrown away by the server: a connection that is closed in
    the middle of a body is reset, and then many clients never see the answer."""
    return Refusal(413, f"a body here has at most {limit} bytes")


def media_type(value: str) -> str:
    """`type/subtype` in lower case, without its parameters."""
    return value.partition(";")[0].strip().lower()


def takes_media_type(value: str, *, definition: bool) -> str:
    """Why a body of this Content-Type is not taken; empty: it is."""
    wanted = _JSON | _YAML if definition else _JSON
    if media_type(value) in wanted:
        return ""
    known = "application/json or application/yaml" if definition else "application/json"
    what = f"not {media_type(value)[:100]!r}" if value else "and says so in Content-Type"
    return f"a body here is {known}, {what}"
