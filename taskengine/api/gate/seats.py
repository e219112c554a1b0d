"""Streams: how many may be open, and how long. A token that opens nothing any more holds nothing open either."""

from collections import Counter
from collections.abc import Callable
from math import ceil

from taskengine.api.gate.limits import Limits
from taskengine.api.gate.tokens import Principal, TokenBook
from taskengine.api.problems import RETRY_S, Refusal

__all__ = ["Seat", "Seats", "busy"]


class Seats:
    """How many streams are open, in all and for each token. Belongs to the loop's thread."""

    def __init__(self, limits: Limits, tokens: TokenBook) -> None:
        self._limits = limits
        self._tokens = tokens
        self._taken: Counter[str] = Counter()
        self._all = 0

    def __len__(self) -> int:
        return self._all

    def seat(self, principal: Principal | None, cut: Callable[[], object]) -> "Seat":
        """A seat that is not taken yet. `cut` is called when the token ends while it is taken."""
        return Seat(self, self._tokens, "" if principal is None else principal.id, cut)

    def refusal(self, principal_id: str) -> Refusal | None:
        if self._all >= self._limits.websockets:
            return busy(503, f"{self._limits.websockets} streams are open, which is all that this server allows")
        most = self._limits.websockets_per_principal
        if self._taken[principal_id] >= most:
            return busy(429, f"{most} streams are open with this token, which is all that it may have")
        return None

    def change(self, principal_id: str, by: int) -> None:
        self._all += by
        self._taken[principal_id] += by
        if not self._taken[principal_id]:
            del self._taken[principal_id]


class Seat:
    """The place of one connection among the streams.

    ended  the token was revoked or has expired since the seat was taken
    """

    def __init__(self, seats: Seats, tokens: TokenBook, principal_id: str, cut: Callable[[], object]) -> None:
        self._seats, self._tokens = seats, tokens
        self._principal_id = principal_id
        self._cut = cut
        self._forget: Callable[[], object] | None = None
        self.ended = False

    def take(self) -> Refusal | None:
        """Sit down, if there is room. Idempotent."""
        if self._forget is not None:
            return None
        refusal = self._seats.refusal(self._principal_id)
        if refusal is None:
            self._seats.change(self._principal_id, 1)
            self._forget = self._tokens.watch(self._principal_id, self._end) if self._principal_id else _nothing
        return refusal

    def leave(self) -> None:
        """Idempotent."""
        if self._forget is not None:
            self._forget()
            self._forget = None
            self._seats.change(self._principal_id, -1)

    def _end(self) -> None:
        self.ended = True
        self._cut()


def busy(status: int, detail: str, wait_s: float = RETRY_S) -> Refusal:
    """A refusal of what may be tried again after that many seconds."""
    return Refusal(status, detail, {"Retry-After": str(max(1, ceil(wait_s)))})


def _nothing() -> None:
    pass
