"""One pool at work."""

from typing import Final

from taskengine.clock import TimerHandle
from taskengine.engine.meter import Meter, Token
from taskengine.engine.turns import TaskOffer, Turns
from taskengine.model.ids import InstanceId
from taskengine.model.pools import Pool

__all__ = ["PoolQueue"]


class PoolQueue:
    """Who waits for a pool, how many more may run in it, and when the next one may start. The runner's alone.

    turns         offers that wait
    free          attempts that may begin in it before one has to end
    meter         of its rate; None: there is none
    tokens        of the meter, that attempts in its slots have taken
    timer         armed for the next token, while an offer waits for nothing else
    rank, number  its entry in the runner's heap of pools that can go on; number 0: it has none
    """

    __slots__ = ("free", "meter", "number", "pool", "rank", "timer", "tokens", "turns")

    def __init__(self, pool: Pool) -> None:
        self.pool: Final = pool
        self.turns = Turns()
        self.free = pool.slots
        self.meter = None if pool.rate is None else Meter(pool.rate)
        self.tokens: dict[tuple[InstanceId, TaskOffer], Token] = {}
        self.timer: TimerHandle | None = None
        self.rank = self.number = 0

    @property
    def running(self) -> int:
        """Attempts that hold one of its slots."""
        return self.pool.slots - self.free
