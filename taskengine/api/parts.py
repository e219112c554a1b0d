"""What the API is made of, as one record: it is handed to every handler as the dependency `parts`.

A handler says by `opt` what the gate shall know about it:

    scope   "read" | "operate" | "define" | "admin", or "open" for everyone. Without it the app does not start.
    body    "definition": the larger limit counts, and YAML is taken besides JSON
    starts  True: counts against the limit of starts
    stream  True: its answer goes on for as long as the client likes, so it counts against the limits of streams, ends
            with its token, and `write_timeout` and the durations leave it out; "maybe": for some requests. Other routes
            cannot answer with NDJSON or server-sent events. A WebSocket is a stream always.

A handler takes `parts: Parts`, and `principal: Asker` when it wants to know who asks.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from taskengine.ambient import Ambient
from taskengine.api.gate import AuditLog, HostRules, Limits, Principal, TokenBook
from taskengine.api.stream.hub import Hub
from taskengine.clock import Clock
from taskengine.engine.engine import Engine

__all__ = ["ApiParts", "Asker", "HostRules", "Limits", "Parts", "Principal"]


class ApiParts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything below the API; made by whoever starts a server.

    address   of this server once it listens, e.g. `http://127.0.0.1:8080`
    health    one word for everyone
    metrics   Prometheus text
    loop_lag  seconds by which the loop lately came late
    ambient   log, metrics and ids of the process; its clock is `clock`
    """

    engine: Engine
    tokens: TokenBook
    limits: Limits
    hosts: HostRules
    read_only: bool
    audit: AuditLog
    started_at: datetime
    address: Callable[[], str]
    node_id: str
    health: Callable[[], Literal["ok", "starting", "degraded", "stopping"]]
    metrics: Callable[[], bytes]
    loop_lag: Callable[[], float]
    clock: Clock
    hub: Hub
    ambient: Ambient = msgspec.field(default_factory=Ambient)


Parts = NamedDependency[SkipValidation[ApiParts]]
"""The type of a handler's argument `parts`."""

Asker = NamedDependency[SkipValidation[Principal]]
"""The type of a handler's argument `principal`: who asks."""
