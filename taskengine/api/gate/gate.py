"""The gate itself: the outermost layer, in front of the router, for HTTP and WebSocket alike."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import ceil
from typing import Any, Final, cast

import msgspec
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from taskengine.ambient import Ambient
from taskengine.api.gate.audit import AuditEntry, AuditLog
from taskengine.api.gate.guard import SAFE_METHODS
from taskengine.api.gate.hosts import HostRules, Sender
from taskengine.api.gate.limits import Limits
from taskengine.api.gate.passage import Facts, Passage
from taskengine.api.gate.rates import FailureTable
from taskengine.api.gate.tokens import TokenBook
from taskengine.api.problems import Answer, Refusal, is_a_bug, problem_of

__all__ = ["SUBPROTOCOL", "TOKEN_SUBPROTOCOL", "Gate", "presented_token"]

SUBPROTOCOL: Final = "taskengine.v1"
TOKEN_SUBPROTOCOL: Final = "taskengine.token."
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CREDENTIALS: Final = frozenset({b"authorization", b"sec-websocket-protocol", b"cookie"})
_UNMATCHED: Final = "unmatched"
_LONGEST_ID: Final = 200


class GateParts(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate needs of the server. `address`: as in ApiParts."""

    tokens: TokenBook
    limits: Limits
    hosts: HostRules
    audit: AuditLog
    address: Callable[[], str]
    ambient: Ambient


class Gate:
    """An ASGI application around another one. The inside sees who asks, and never the credentials."""

    def __init__(self, app: ASGIApp, parts: GateParts) -> None:
        self._app = app
        self._parts = parts
        self._clock = parts.ambient.clock
        self._failures = FailureTable(parts.limits.failed_logins_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began_s = self._clock.monotonic()
        facts = cast(Facts, scope)
        passage = Passage(facts, send, self.answer)
        refusal = self._enter(facts, passage)
        try:
            if refusal is not None:
                await passage.refuse(refusal)
            else:
                await self._app(scope, receive, self._timed(passage))
        except Exception as error:
            await self._end(error, passage)
        finally:
            self._account(facts, passage, self._clock.monotonic() - began_s)

    def answer(self, error: Exception) -> Answer:
        """What an error looks like outside; a bug goes into the log, once, under the id that is answered."""
        if not is_a_bug(error):
            return problem_of(error, "")
        occurrence = self._parts.ambient.ids.uuid7()
        self._parts.ambient.log.error("api.failed", exc=error, id=occurrence)
        return problem_of(error, occurrence)

    # -- entering ----------------------------------------------------------------------------------------------

    def _enter(self, scope: Facts, passage: Passage) -> Refusal | None:
        """Fill in who asks. A Refusal is for what nobody may send, with a token or without."""
        headers = scope["headers"]
        peer = (scope.get("client") or ("", 0))[0]
        passage.sender = sender = Sender.of(peer, scope.get("scheme", "http"), headers, self._parts.hosts)
        scope["user"] = None
        if sum(name == b"host" for name, _ in headers) != 1:
            return Refusal(400, "a request has one Host header")
        if not self._parts.hosts.allows_host(sender.host, self._parts.address()):
            return _misdirected(sender.host)
        unsafe = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        if unsafe and not all(self._parts.hosts.allows_origin(origin, sender) for origin in origins):
            return Refusal(
                403, "pages of other origins may not call this server; see `allowed_origins` in its settings"
            )
        self._authenticate(scope, passage)
        return None

    def _authenticate(self, scope: Facts, passage: Passage) -> None:
        """Find out who asks, then take the credentials out of the scope: nothing behind the gate can log them."""
        secret = presented_token(scope)
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in _CREDENTIALS]
        if scope["type"] == "websocket":
            offered = scope.get("subprotocols") or []
            scope["subprotocols"] = [name for name in offered if not name.startswith(TOKEN_SUBPROTOCOL)]
        if secret is None:
            passage.denial = _unknown("a token is needed: send it as `Authorization: Bearer <token>`")
            return
        passage.principal = self._parts.tokens.check(secret)
        if passage.principal is None:
            passage.denial = self._wrong_token(scope, passage)

    def _wrong_token(self, scope: Facts, passage: Passage) -> Refusal:
        wait_s = self._failures.failed(passage.sender.client, self._clock.monotonic())
        if wait_s:
            return Refusal(429, "too many wrong tokens from this address", {"Retry-After": str(ceil(wait_s))})
        self._parts.ambient.log.warning("gate.wrong_token", client=passage.sender.client, peer=passage.sender.peer)
        self._record(scope, passage, 401)
        return _unknown("this token is not valid: it is unknown here, was revoked, or has expired")

    # -- leaving -----------------------------------------------------------------------------------------------

    def _timed(self, passage: Passage) -> Send:
        """`send` that gives up on a reader who takes nothing. A stream goes on for as long as its reader likes."""
        limit_s = self._parts.limits.write_timeout_s

        async def timed(message: Message) -> None:
            if message["type"] != "http.response.body" or passage.streaming:
                await passage.send(message)
                return
            try:
                async with asyncio.timeout(limit_s):
                    await passage.send(message)
            except TimeoutError:
                passage.leave()
                raise _ReaderGone from None

        return timed

    async def _end(self, error: Exception, passage: Passage) -> None:
        """Nobody inside has answered this error. A half-sent answer stays so: the server cuts the connection."""
        if not passage.started:
            await passage.refuse(error)
        elif not passage.gone:
            self._parts.ambient.log.error("api.answer_broken", exc=_root(error))

    def _account(self, scope: Facts, passage: Passage, took_s: float) -> None:
        """Count, and write the audit line of a call that could change something."""
        method = scope["method"] if scope["type"] == "http" else "WEBSOCKET"
        route = str(scope.get("path_template") or _UNMATCHED)
        metrics = self._parts.ambient.metrics
        metrics.count(
            "http.requests",
            method=method if method in {*_METHODS, "WEBSOCKET"} else "OTHER",
            route=route,
            status=str(passage.status),
        )
        if scope["type"] == "http" and not passage.streaming:
            metrics.observe("http.duration_s", took_s, route=route)
        if passage.status in _REFUSED:
            metrics.count("gate.refused", reason=_REFUSED[passage.status])
        if passage.mutating and passage.principal is not None:
            self._record(scope, passage, passage.status)

    def _record(self, scope: Facts, passage: Passage, status: int) -> None:
        principal, sender = passage.principal, passage.sender
        ids: Mapping[str, Any] = scope.get("path_params") or {}
        self._parts.audit.record(
            AuditEntry(
                at=datetime.fromtimestamp(self._clock.now_us() / 1_000_000, UTC),
                principal_id=principal.id if principal else "",
                principal=principal.name if principal else "",
                method=scope.get("method", "WEBSOCKET")[:20],
                route=str(scope.get("path_template") or _UNMATCHED),
                ids={name: _whole(str(value))[:_LONGEST_ID] for name, value in ids.items()},
                peer=sender.peer,
                client=sender.client,
                forwarded=sender.forwarded,
                status=status,
            )
        )


_REFUSED: Final[Mapping[int, str]] = {
    401: "no_token",
    403: "not_allowed",
    408: "too_slow",
    413: "too_large",
    415: "unsupported_type",
    421: "host",
    429: "rate",
}


class _ReaderGone(Exception):
    """The reader of an answer takes nothing any more; the connection is given up."""


def presented_token(scope: Facts) -> str | None:
    """The token that a connection was opened with; None: there is none. The query is never looked at.

    From `Authorization: Bearer <token>`; a WebSocket may also offer it as a subprotocol, since browsers can set no
    header there. Several Authorization headers are no token at all.
    """
    given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
    if given:
        scheme, _, token = given[0].partition(" ")
        return token.strip() if len(given) == 1 and scheme.lower() == "bearer" else ""
    if scope["type"] == "websocket":
        for name in scope.get("subprotocols") or []:
            if name.startswith(TOKEN_SUBPROTOCOL):
                return str(name).removeprefix(TOKEN_SUBPROTOCOL)
    return None


def _root(error: BaseException) -> BaseException:
    """What really happened; the router wraps an error that comes after the beginning of an answer, layer by layer."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _unknown(detail: str) -> Refusal:
    return Refusal(401, detail, {"WWW-Authenticate": 'Bearer realm="taskengine"'})


def _misdirected(host: str) -> Refusal:
    return Refusal(
        421, f"this server does not answer to the name {host[:100]!r}; list it under `allowed_hosts` in its settings"
    )


def _whole(text: str) -> str:
    return text.encode(errors="replace").decode()
