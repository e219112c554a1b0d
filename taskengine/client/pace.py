"""How long a client waits and how often it tries: numbers, and where its time comes from."""

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable

import msgspec

__all__ = ["Pace", "Patience"]


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, all of them.

    connect_s   for a connection to come about
    read_s      without a byte of an answer; a request that asks the server to wait gets that time on top
    total_s     from the first sending to the last repetition: cut connections, a busy server (503, 429)
    refused_s   the same while nobody listens there at all, which rarely heals by itself; 0: one try
    first_s     before the first repetition; doubles up to longest_s
    lost_s      how long a stream that had a connection tries to get one again; None: until it is closed
    ping_s      between two pings of a stream; one that stays without an answer as long means that it is cut
    """

    connect_s: float = 5.0
    read_s: float = 60.0
    total_s: float = 30.0
    refused_s: float = 1.0
    first_s: float = 0.25
    longest_s: float = 5.0
    lost_s: float | None = None
    ping_s: float = 20.0


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Where time, rest and chance come from. Tests hand in their own."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    sleep_async: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random
    new_key: Callable[[], str] = secrets.token_urlsafe

    def spread(self, delay_s: float) -> float:
        """Between a half and the whole of it, so that many clients do not come back in one moment."""
        return delay_s * (0.5 + self.chance() / 2)
