"""The guard at each handler: what this very handler object allows, and to whom. No path is looked at."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import anyio
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from taskengine.api.gate.body import bounded_receive, takes_media_type, too_large
from taskengine.api.gate.limits import Limits
from taskengine.api.gate.passage import Facts, Passage, passage_of
from taskengine.api.gate.rates import TokenBucket
from taskengine.api.gate.seats import Seats, busy
from taskengine.api.gate.tokens import Principal, TokenBook, allows
from taskengine.api.problems import Refusal
from taskengine.clock import Clock

__all__ = ["SAFE_METHODS", "SCOPES", "Guard", "require_scopes"]

SCOPES: Final = frozenset({"open", "read", "operate", "define", "admin"})
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Guard:
    """Decides for the handlers of one application. `at` is the middleware that stands before each of them.

    allow  the methods of each path template, for those who ask by OPTIONS
    """

    def __init__(self, limits: Limits, clock: Clock, tokens: TokenBook, *, read_only: bool) -> None:
        self._limits = limits
        self._clock = clock
        self._read_only = read_only
        self._seats = Seats(limits, tokens)
        self._starts = TokenBucket(limits.starts_per_s, limits.starts_burst)
        self.allow: Mapping[str, str] = {}

    def at(self, app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            facts = cast(Facts, scope)
            passage = passage_of(facts)
            handler: BaseRouteHandler = scope["route_handler"]
            refusal = self._judge(facts, handler.opt, passage)
            if refusal is not None:
                await passage.refuse(refusal)
                return
            passage.cleared = True
            scope["user"] = passage.principal
            if passage.has_body and facts["type"] == "http":
                limit = self._body_limit(handler.opt)
                receive = bounded_receive(
                    receive, limit, self._limits.read_timeout_s, self._clock.monotonic, passage.leave
                )
            if facts["type"] == "websocket" or handler.opt.get("stream"):
                await self._stay(app, scope, receive, send)
            else:
                await app(scope, receive, send)

        return guarded

    async def _stay(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Run what is a stream or may become one, for as long as the token of who asked is good."""
        passage = passage_of(scope)
        with anyio.CancelScope() as stay:
            passage.seat = seat = self._seats.seat(passage.principal, stay.cancel)
            try:
                refusal = None if scope["route_handler"].opt.get("stream") == "maybe" else seat.take()
                if refusal is None:
                    await app(scope, receive, send)
                else:
                    await passage.refuse(refusal)
            finally:
                seat.leave()
        if seat.ended:
            await passage.end()

    def _judge(self, scope: Facts, opt: Mapping[str, Any], passage: Passage) -> Refusal | None:
        """The first reason to refuse; who asks comes before what is asked."""
        needed = opt.get("scope")
        if needed != "open":
            if passage.principal is None:
                return passage.denial
            passage.mutating = _is_mutating(scope, opt)
            if scope["type"] == "http" and scope["method"] == "OPTIONS":
                # The router answers OPTIONS by itself, for pages of other origins; there are none here.
                allow = self.allow.get(str(scope.get("path_template")), "")
                return Refusal(405, "this path does not know OPTIONS", {"Allow": allow})
            if not allows(passage.principal.scope, str(needed)):
                return _too_little(passage.principal, str(needed))
        if passage.mutating and self._read_only:
            return Refusal(403, "this server is read-only: it was started with --read-only and changes nothing")
        return self._judge_body(scope, opt, passage) or self._judge_rate(opt)

    def _judge_body(self, scope: Facts, opt: Mapping[str, Any], passage: Passage) -> Refusal | None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            return None
        if passage.length > self._body_limit(opt):
            return too_large(self._body_limit(opt))
        if not passage.kind and not passage.has_body:
            return None
        reason = takes_media_type(passage.kind, definition=opt.get("body") == "definition")
        return Refusal(415, reason) if reason else None

    def _judge_rate(self, opt: Mapping[str, Any]) -> Refusal | None:
        wait_s = self._starts.take(self._clock.monotonic()) if opt.get("starts") else 0.0
        if not wait_s:
            return None
        text = f"more than {self._limits.starts_per_s:g} instances a second; nothing was started, try again"
        return busy(429, text, wait_s)

    def _body_limit(self, opt: Mapping[str, Any]) -> int:
        return self._limits.definition_bytes if opt.get("body") == "definition" else self._limits.body_bytes


def require_scopes(handlers: Iterable[BaseRouteHandler]) -> None:
    """Raises ValueError when a handler does not say who may call it: then the application must not start."""
    for handler in handlers:
        if handler.opt.get("scope") not in SCOPES:
            listed = ", ".join(sorted(SCOPES))
            raise ValueError(
                f"the route {sorted(handler.paths)} says no scope; give it opt={{'scope': …}}, one of {listed}"
            )


def _is_mutating(scope: Facts, opt: Mapping[str, Any]) -> bool:
    """A POST that needs no more than `read` only looks, e.g. a validation."""
    return scope["type"] == "http" and scope["method"] not in SAFE_METHODS and opt.get("scope") not in ("open", "read")


def _too_little(principal: Principal, needed: str) -> Refusal:
    if needed not in SCOPES:
        return Refusal(403, "this route says no scope, so nobody may use it")
    return Refusal(403, f"this needs the scope {needed!r}; the token {principal.name!r} has {principal.scope!r}")
