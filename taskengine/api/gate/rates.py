"""How often something may happen. Pure counting with the time passed in; all times are monotonic seconds."""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Final

__all__ = ["FailureTable", "TokenBucket", "neighbourhood"]

_HOST_BITS: Final = 64


class TokenBucket:
    """`rate_s` a second, and `burst` at once after a rest. `rate_s` 0: no limit."""

    def __init__(self, rate_s: float, burst: float) -> None:
        self._rate_s = rate_s
        self._burst = max(1.0, burst)
        self._left = self._burst
        self._at_s: float | None = None

    def take(self, now_s: float) -> float:
        """Take one; the answer is 0.0, or the seconds after which there will be one."""
        if self._rate_s <= 0:
            return 0.0
        self._refill(now_s)
        if self._left >= 1.0:
            self._left -= 1.0
            return 0.0
        return (1.0 - self._left) / self._rate_s

    def _refill(self, now_s: float) -> None:
        if self._at_s is not None:
            self._left = min(self._burst, self._left + max(0.0, now_s - self._at_s) * self._rate_s)
        self._at_s = now_s


def neighbourhood(peer: str) -> str:
    """Whom one counts as one: an address, or the /64 of an IPv6 address, all of which one machine may call its own."""
    try:
        address = ip_address(peer)
    except ValueError:
        return peer
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> _HOST_BITS << _HOST_BITS)}/64"


class FailureTable:
    """Wrong tokens by peer: `per_minute` each, refilled evenly. Of at most `peers`; the one unseen longest goes first.

    Whoever fills the table with many addresses makes others be forgotten, never locked out.
    """

    def __init__(self, per_minute: int, peers: int = 4096) -> None:
        self._per_minute = per_minute
        self._peers = peers
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def failed(self, peer: str, now_s: float) -> float:
        """Count one failure; the answer is 0.0 while the peer is within its limit, else the seconds to wait."""
        peer = neighbourhood(peer)
        bucket = self._buckets.get(peer)
        if bucket is None:
            bucket = self._buckets[peer] = TokenBucket(self._per_minute / 60.0, self._per_minute)
            if len(self._buckets) > self._peers:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(peer)
        return bucket.take(now_s)
