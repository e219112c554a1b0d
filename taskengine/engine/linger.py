"""Running rows that wait for company, and the one timer that ends their waiting."""

from typing import Any, Final

from taskengine.actors import ActorRef
from taskengine.clock import Clock, TimerHandle
from taskengine.engine.mail import FLUSH

__all__ = ["Linger"]

SPAN_S: Final = 0.05


class Linger:
    """Instances whose dispatches are not written yet: told `Flush` after one to two spans.

    One timer for all, since most bodies are over before it fires. Belongs to the loop's thread.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._young: dict[ActorRef[Any], None] = {}
        self._old: dict[ActorRef[Any], None] = {}
        self._timer: TimerHandle | None = None

    def add(self, ref: ActorRef[Any]) -> None:
        """It has begun to wait; a second call does not make it wait for longer."""
        if ref not in self._old:
            self._young[ref] = None
            if self._timer is None:
                self._arm()

    def close(self) -> None:
        """Nobody is told any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        self._timer = self._clock.call_at(self._clock.monotonic() + SPAN_S, self._tick)

    def _tick(self) -> None:
        overdue, self._old, self._young = self._old, self._young, {}
        self._timer = None
        if self._old:
            self._arm()
        for ref in overdue:
            ref.tell(FLUSH)
