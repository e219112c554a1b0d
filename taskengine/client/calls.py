"""What a request is made of, and how one asks within a verb."""

from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from taskengine.errors import InvalidInput, TaskEngineError
from taskengine.wire.envelope import Envelope
from taskengine.wire.system import Scope

__all__ = [
    "JSON",
    "YAML",
    "Call",
    "Flow",
    "Query",
    "api_path",
    "ask",
    "encode",
    "enveloped",
    "text",
    "whole_path",
    "with_query",
]

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

JSON = "application/json"
YAML = "application/yaml"

Query = tuple[tuple[str, str], ...]


class Call(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One request to the server and how to read its answer.

    path      from the root of the server, quoted
    decode    the body of a good answer to what the caller gets; raises msgspec.DecodeError or UnicodeDecodeError
    scope     what the token must allow; the server decides, this is for the message
    wait_s    how long the server was asked to hold the answer back
    key       Idempotency-Key of a POST; empty: the client makes one
    repeated  what to make of an error when an earlier sending of this call may have had its effect; it gives what the
              call gives, or raises
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    decode: Callable[[bytes], T]
    scope: Scope | Literal["open"]
    query: Query = ()
    body: bytes = b""
    content_type: str = ""
    accept: str = JSON
    wait_s: float = 0.0
    key: str = ""
    repeated: Callable[[TaskEngineError], T] | None = None


Flow = Generator[Call[Any], Any, T]
"""What a verb does: it yields calls, is sent what they gave, and returns its own result."""


def ask(call: Call[T]) -> Flow[T]:
    """Make one call. Inside a longer verb: `answer = yield from ask(call)`."""
    answer: T = yield call
    return answer


def api_path(*parts: str) -> str:
    """`/api/v1/` and the parts, each quoted, so that no id becomes a path of its own."""
    return "/api/v1/" + "/".join(quote(part, safe="") for part in parts)


def with_query(**values: object) -> Query:
    """The query of the values that were given: None and empty ones are left out, True is `true`, a list is repeated."""
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        many = value if isinstance(value, list | tuple) else [value]
        pairs += [(name, _query_text(each)) for each in many if each is not None and each != "" and each is not False]
    return tuple(pairs)


def _query_text(value: object) -> str:
    if value is True:
        return "true"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidInput(f"the time {value.isoformat()} has no time zone; say one: datetime(..., tzinfo=UTC)")
        return value.isoformat()
    return str(value)


def whole_path(path: str, query: Iterable[tuple[str, str]]) -> str:
    """Path and query as they stand in a request."""
    encoded = urlencode(list(query))
    return f"{path}?{encoded}" if encoded else path


def encode(body: msgspec.Struct | Mapping[str, Any]) -> bytes:
    """The JSON of a request. Raises InvalidInput for a value that has none."""
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"this cannot be sent as JSON: {error}") from None


def enveloped(shape: type[T]) -> Callable[[bytes], T]:
    """A decoder for `Envelope[shape]`, made once, that gives what is inside."""
    decoder: msgspec.json.Decoder[Envelope[T]] = msgspec.json.Decoder(Envelope[shape])  # type: ignore[valid-type]
    return lambda body: decoder.decode(body).data


def text(body: bytes) -> str:
    """The decoder for bodies that are text."""
    return body.decode("utf-8")
