"""Asks an HTTP server."""

import asyncio
import email.utils
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from taskengine.clock import Clock
from taskengine.errors import BadArguments, JobError, NotSupportedYet, RetryAfter
from taskengine.functions.context import TaskContext

if TYPE_CHECKING:
    import httpx

__all__ = ["MAX_BODY", "Auth", "HTTPStatusError", "HTTPTryLater", "http_request"]

MAX_BODY: Final = 10 * 1024 * 1024
"""Bytes of an answer, after unpacking."""

_DEFAULT_TIMEOUT_S: Final = 60.0
_SHOWN: Final = 500
_LATER: Final = frozenset({429, 503})

Scalar = str | int | float | bool


class Basic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    username: str
    password: str


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the two."""

    basic: Basic | None = None
    bearer: str | None = None


class HTTPStatusError(JobError):
    """The server answered with a status that was not expected."""

    code = "http_status"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status, self.message = status, message

    def __str__(self) -> str:
        return self.message


class HTTPTryLater(HTTPStatusError, RetryAfter):
    """Such an answer with a `Retry-After`: the next attempt waits that long."""

    def __init__(self, status: int, message: str, delay_s: float) -> None:
        HTTPStatusError.__init__(self, status, message)
        self.args = (status, message, delay_s)
        self.delay_s = delay_s


async def http_request(
    ctx: TaskContext,
    url: str,
    method: str = "GET",
    headers: Mapping[str, Scalar] | None = None,
    query: Mapping[str, Scalar | Sequence[Scalar] | None] | None = None,
    json: Any = msgspec.UNSET,
    body: str | None = None,
    auth: Auth | None = None,
    expected_status: int | Sequence[int] | None = None,
    save_as: str | None = None,
) -> dict[str, Any]:
    """Sends one request, follows redirects, and gives `{status, headers, json or text, elapsed}`.

    A status outside of `expected_status` (2xx where nothing is said) fails the attempt with HTTPStatusError; a
    `Retry-After` of a 429 or 503 sets the delay. The answer has at most 10 MiB. Without a task timeout, a server that
    says nothing for 60 s fails the attempt with TimeoutError.
    """
    if save_as is not None:
        raise NotSupportedYet("save_as is not supported yet; see docs/not-yet.md")
    if body is not None and json is not msgspec.UNSET:
        raise BadArguments("give either json or body")
    if ctx.shared is None:
        raise BadArguments("http_request runs on the loop only; leave out the executor")
    client = await ctx.shared.get("http", _make_client)
    request = _request(client, method.upper(), url, headers or {}, query, json, body, auth, ctx.time_left_s)
    status, told, data, elapsed_s = await _send(client, request, ctx.clock)
    _check_status(request, status, told, data, expected_status, ctx.clock)
    return {"status": status, "headers": _plain_headers(told), **_content(told, data), "elapsed": elapsed_s}


async def _make_client() -> "httpx.AsyncClient":
    # httpx and its certificates take a third of a second, in which the loop must go on.
    return await asyncio.to_thread(_new_client)


def _new_client() -> "httpx.AsyncClient":
    import httpx

    return httpx.AsyncClient(follow_redirects=True)


def _request(
    client: "httpx.AsyncClient",
    method: str,
    url: str,
    headers: Mapping[str, Scalar],
    query: Mapping[str, Any] | None,
    json: Any,
    body: str | None,
    auth: Auth | None,
    time_left_s: float | None,
) -> "httpx.Request":
    import httpx

    content: bytes | None = None if body is None else body.encode()
    sent = {name: _text(value) for name, value in headers.items()}
    if json is not msgspec.UNSET:
        content = msgspec.json.encode(json)
        sent = {"content-type": "application/json", **{name.lower(): value for name, value in sent.items()}}
    limit_s = _DEFAULT_TIMEOUT_S if time_left_s is None else max(time_left_s, 0.001)
    try:
        request = client.build_request(
            method, url, headers=sent, params=_query(query), content=content, timeout=httpx.Timeout(limit_s)
        )
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise BadArguments(f"the request cannot be made: {error}") from None
    if request.url.scheme not in ("http", "https") or not request.url.host:
        raise BadArguments(f"argument 'url' is no http or https address: {_shown(request)}")
    return _authorized(request, auth)


def _query(query: Mapping[str, Any] | None) -> "httpx.QueryParams | None":
    """Lists repeat their name, null leaves it out. None keeps the query that the address has itself."""
    import httpx

    if not query:
        return None
    return httpx.QueryParams({name: value for name, value in query.items() if value is not None})


def _authorized(request: "httpx.Request", auth: Auth | None) -> "httpx.Request":
    import httpx

    if auth is None:
        return request
    if (auth.basic is None) == (auth.bearer is None):
        raise BadArguments("argument 'auth': give either basic or bearer")
    if auth.bearer is not None:
        request.headers["authorization"] = f"Bearer {auth.bearer}"
        return request
    assert auth.basic is not None
    return next(httpx.BasicAuth(auth.basic.username, auth.basic.password).auth_flow(request))


async def _send(
    client: "httpx.AsyncClient", request: "httpx.Request", clock: Clock
) -> tuple[int, "httpx.Headers", bytes, float]:
    """Status, headers, body and seconds. Errors of the network become Python's own, which retry policies know."""
    import httpx

    began_s = clock.monotonic()
    where = f"{request.method} {_shown(request)}"
    try:
        response = await client.send(request, stream=True)
        try:
            data = await _read(response, where)
        finally:
            await response.aclose()
    except httpx.TimeoutException:
        raise TimeoutError(f"{where}: no answer in {clock.monotonic() - began_s:.1f} s") from None
    except httpx.LocalProtocolError:
        # Without httpx's words: they hold the header, which may be a secret.
        raise BadArguments(f"{where}: the request holds what HTTP does not allow, such as a line break") from None
    except httpx.TransportError as error:
        raise ConnectionError(f"{where}: {error or type(error).__name__}") from None
    except httpx.HTTPError as error:
        raise JobError(f"{where}: {error}") from None
    return response.status_code, response.headers, data, round(clock.monotonic() - began_s, 6)


async def _read(response: "httpx.Response", where: str) -> bytes:
    data = bytearray()
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) > MAX_BODY:
            raise JobError(f"{where}: the answer has more than {MAX_BODY:,} bytes")
    return bytes(data)


def _check_status(
    request: "httpx.Request",
    status: int,
    headers: "httpx.Headers",
    data: bytes,
    expected: int | Sequence[int] | None,
    clock: Clock,
) -> None:
    if expected is None:
        wanted = 200 <= status < 300
    else:
        wanted = status in ([expected] if isinstance(expected, int) else expected)
    if wanted:
        return
    said = _decoded(headers, data)[:_SHOWN].strip()
    message = f"{request.method} {_shown(request)} answered {status}" + (f": {said}" if said else "")
    delay_s = _retry_after(headers.get("retry-after", ""), clock) if status in _LATER else None
    raise HTTPStatusError(status, message) if delay_s is None else HTTPTryLater(status, message, delay_s)


def _retry_after(value: str, clock: Clock) -> float | None:
    """Seconds, from a number of them or from a date (RFC 9110, 10.2.3); None for what is neither."""
    try:
        delay_s = float(value)
    except ValueError:
        try:
            at = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        delay_s = at.timestamp() - clock.now_us() / 1_000_000
    return max(0.0, delay_s) if math.isfinite(delay_s) else None


def _content(headers: "httpx.Headers", data: bytes) -> dict[str, Any]:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return {"json": msgspec.json.decode(data)}
        except (msgspec.DecodeError, RecursionError):  # called JSON and is none: the text says what it is
            pass
    return {"text": _decoded(headers, data)}


def _decoded(headers: "httpx.Headers", data: bytes) -> str:
    _, _, charset = headers.get("content-type", "").lower().partition("charset=")
    try:
        return data.decode(charset.partition(";")[0].strip("\"' ") or "utf-8", "replace")
    except LookupError:
        return data.decode("utf-8", "replace")


def _plain_headers(headers: "httpx.Headers") -> dict[str, str]:
    return dict(headers.items())


def _shown(request: "httpx.Request") -> str:
    """The address without what may be secret: user, password, query."""
    return str(request.url.copy_with(userinfo=b"", query=None, fragment=None))


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
