"""A token bucket: how often something may begin."""

from collections import deque
from typing import Final

from taskengine.model.pools import Rate

__all__ = ["Meter", "Token"]

_BURST_S: Final = 0.1
_SLACK_S: Final = 0.001
"""Timers of event loops are not finer. A start that comes that much too early makes none of the later ones earlier,
one that comes that much too late none of them later."""
_REMEMBERED: Final = 256


class Token:
    """What a start has taken. `full_s`: when the bucket would have been full without it."""

    __slots__ = ("full_s", "unused")

    def __init__(self, full_s: float) -> None:
        self.full_s = full_s
        self.unused = False


class Meter:
    """Tokens come evenly; each start takes one. Times are seconds of the monotonic clock.

    The bucket holds what comes in a tenth of a second, at least one token, and is full at first. So in any span of
    time begin at most as many as the rate gives for that span and a tenth of a second (and the slack of timers): of
    50/s never more than 55 in a second, five of them at once; of 10/m one every six seconds.

    What is kept is the time at which the bucket will be full again, so nothing adds up errors (the generic cell rate
    algorithm of ITU-T I.371). Nothing survives the process: it begins with a full bucket.
    """

    __slots__ = ("_ahead_s", "_each_s", "_full_s", "_taken")

    def __init__(self, rate: Rate) -> None:
        self._each_s = rate.interval_s
        self._ahead_s = max(_SLACK_S, _BURST_S - self._each_s)
        self._full_s = float("-inf")
        self._taken: deque[Token] = deque(maxlen=_REMEMBERED)

    @property
    def due_s(self) -> float:
        """When the next token is there; in the past: it is."""
        return self._full_s - self._ahead_s

    def ready(self, now_s: float) -> bool:
        """Whether something may begin now."""
        return self.due_s <= now_s + _SLACK_S

    def take(self, now_s: float) -> Token:
        """Something begins; it was ready."""
        token = Token(self._full_s)
        self._taken.append(token)
        self._full_s = max(self._full_s, now_s) + self._each_s
        return token

    def give_back(self, token: Token) -> None:
        """It did not begin after all.

        The token is there again when all that were taken after it are given back too: what has begun since has had
        to wait for it, and a start in its place now would come too soon after those.
        """
        token.unused = True
        while self._taken and self._taken[-1].unused:
            self._full_s = self._taken.pop().full_s
