"""How much anyone may ask for. Every number is a bound at the edge; behind the gate nothing is refused for its size."""

import msgspec

__all__ = ["Limits"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one server.

    definition_bytes          body of an upload or a validation
    body_bytes                any other body
    read_timeout_s            for a whole body to arrive, from the first look at it; then 408
    failed_logins_per_minute  wrong tokens of one peer, before they are answered 429
    starts_per_s              instances that may be started, over all callers; 0: as many as they like
    starts_burst              how many starts may come at once before `starts_per_s` counts
    websockets                streams open at once: WebSockets, event streams, followed logs
    websockets_per_principal  streams open at once with one token
    """

    definition_bytes: int = 1024 * 1024
    body_bytes: int = 256 * 1024
    read_timeout_s: float = 30.0
    failed_logins_per_minute: int = 20
    starts_per_s: float = 0.0
    starts_burst: int = 100
    websockets: int = 1000
    websockets_per_principal: int = 100
