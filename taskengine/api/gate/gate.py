"""The gate itself: the outermost layer, in front of the router, for HTTP and WebSocket alike."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Any, Final, cast

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from taskengine.ambient import Ambient
from taskengine.api.gate.audit import AuditEntry, AuditLog
from taskengine.api.gate.guard import SAFE_METHODS
from taskengine.api.gate.hosts import HostRules, Sender
from taskengine.api.gate.limits import Limits
from taskengine.api.gate.passage import Facts, Passage, Unseated
from taskengine.api.gate.rates import FailureTable
from taskengine.api.gate.tokens import TokenBook
from taskengine.api.problems import RETRY_S, Answer, Refusal, is_a_bug, problem_of

__all__ = ["SUBPROTOCOL", "TOKEN_SUBPROTOCOL", "Gate"]

SUBPROTOCOL: Final = "taskengine.v1"
TOKEN_SUBPROTOCOL: Final = "taskengine.token."
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})
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
                await self._app(scope, receive, passage.send)
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
        rules = self._parts.hosts
        peer = (scope.get("client") or ("", 0))[0]
        scope["user"] = None
        seen = _look_through(scope, passage)
        host = seen.hosts[-1] if seen.hosts else ""
        passage.sender = sender = Sender.of(peer, scope.get("scheme", "http"), host, scope["headers"], rules)
        if len(seen.hosts) != 1:
            return Refusal(400, "a request has one Host header")
        if not rules.allows_host(sender.host, self._parts.address()):
            return _misdirected(sender.host)
        unsafe = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        if unsafe and not all(rules.allows_origin(origin, sender) for origin in seen.origins):
            return Refusal(
                403, "pages of other origins may not call this server; see `allowed_origins` in its settings"
            )
        self._authenticate(scope, passage, seen)
        return None

    def _authenticate(self, scope: Facts, passage: Passage, seen: "_Seen") -> None:
        """Find out who asks, then take the credentials out of the scope: nothing behind the gate can log them."""
        secret = _bearer(seen.credentials)
        scope["headers"] = seen.harmless
        if scope["type"] == "websocket":
            offered = scope.get("subprotocols") or []
            secret = secret if seen.credentials else _offered(offered)
            scope["subprotocols"] = [name for name in offered if not name.startswith(TOKEN_SUBPROTOCOL)]
        if secret is None:
            passage.denial = _unknown("a token is needed: send it as `Authorization: Bearer <token>`")
            return
        passage.principal = self._parts.tokens.check(secret)
        if passage.principal is None:
            passage.denial = self._wrong_token(scope, passage) if self._parts.tokens.loaded else _starting()

    def _wrong_token(self, scope: Facts, passage: Passage) -> Refusal:
        wait_s = self._failures.failed(passage.sender.client, self._clock.monotonic())
        if wait_s:
            return Refusal(429, "too many wrong tokens from this address", {"Retry-After": str(ceil(wait_s))})
        self._parts.ambient.log.warning("gate.wrong_token", client=passage.sender.client, peer=passage.sender.peer)
        self._record(scope, passage, 401)
        return _unknown("this token is not valid: it is unknown here, was revoked, or has expired")

    # -- leaving -----------------------------------------------------------------------------------------------

    async def _end(self, error: Exception, passage: Passage) -> None:
        """Nobody inside has answered this error. A half-sent answer stays so: the server cuts the connection."""
        cause = _root(error)
        if not passage.started:
            await passage.refuse(error if passage.cleared or passage.principal is not None else passage.denial)
        elif not passage.gone and not isinstance(cause, Unseated):
            self._parts.ambient.log.error("api.answer_broken", exc=cause)

    def _account(self, scope: Facts, passage: Passage, took_s: float) -> None:
        """Count, and write the audit line of a call that could change something."""
        method = scope["method"] if scope["type"] == "http" else "WEBSOCKET"
        route = str(scope.get("path_template") or _UNMATCHED)
        metrics = self._parts.ambient.metrics
        metrics.count(
            "http.requests",
            method=method if method in _METHODS else "OTHER",
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


class _Seen:
    """What the gate wants to know of the headers, collected in one walk."""

    __slots__ = ("credentials", "harmless", "hosts", "origins")

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.origins: list[str] = []
        self.credentials: list[str] = []
        self.harmless: list[tuple[bytes, bytes]] = []


def _look_through(scope: Facts, passage: Passage) -> _Seen:
    seen = _Seen()
    for pair in scope["headers"]:
        name, value = pair
        if name in _CREDENTIALS:
            if name == b"authorization":
                seen.credentials.append(value.decode("latin-1"))
            continue
        seen.harmless.append(pair)
        if name == b"host":
            seen.hosts.append(value.decode("latin-1"))
        elif name == b"origin":
            seen.origins.append(value.decode("latin-1"))
        elif name == b"content-type":
            passage.kind = value.decode("latin-1")
        elif name == b"content-length":
            passage.length = max(passage.length, int(value[:20]) if value.isdigit() else 0)
            passage.has_body = passage.has_body or value.strip(b"0") != b""
        elif name == b"transfer-encoding":
            passage.has_body = True
    return seen


def _bearer(credentials: Sequence[str]) -> str | None:
    """The token of `Authorization: Bearer <token>`; None: there is no such header. Several are no token at all."""
    if not credentials:
        return None
    scheme, _, token = credentials[0].partition(" ")
    return token.strip() if len(credentials) == 1 and scheme.lower() == "bearer" else ""


def _offered(subprotocols: Sequence[str]) -> str | None:
    """The token among the subprotocols of a WebSocket, where browsers can set no header."""
    for name in subprotocols:
        if name.startswith(TOKEN_SUBPROTOCOL):
            return str(name).removeprefix(TOKEN_SUBPROTOCOL)
    return None


def _root(error: BaseException) -> BaseException:
    """What really happened; the router wraps an error that comes after the beginning of an answer, layer by layer."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _starting() -> Refusal:
    """A client that was connected before a restart has to try again, not to give up."""
    return Refusal(503, "the server is starting: it does not know its tokens yet", {"Retry-After": str(RETRY_S)})


def _unknown(detail: str) -> Refusal:
    return Refusal(401, detail, {"WWW-Authenticate": 'Bearer realm="taskengine"'})


def _misdirected(host: str) -> Refusal:
    return Refusal(
        421, f"this server does not answer to the name {host[:100]!r}; list it under `allowed_hosts` in its settings"
    )


def _whole(text: str) -> str:
    return text.encode(errors="replace").decode()
