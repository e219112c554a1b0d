"""Many wall-clock timers on one heap and one armed call of the clock."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any, Final

from taskengine.actors.ref import ActorRef
from taskengine.ambient import Log, StandardLog
from taskengine.clock import Clock, Micros, TimerHandle
from taskengine.errors import Unavailable

__all__ = ["Timer", "Timers"]

_RECHECK_S: Final = 60.0
_BATCH: Final = 256
_COMPACT_FROM: Final = 64


class Timer:
    """Handle of one entry. `cancel` may come twice or too late."""

    __slots__ = ("_owner", "callback")

    def __init__(self, owner: "Timers", callback: Callable[[], object]) -> None:
        self._owner = owner
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Never call back; what the callback held is let go at once. O(1), amortised."""
        if self.callback is not None:
            self.callback = None
            self._owner.count_cancelled()

    @property
    def pending(self) -> bool:
        """Neither fired nor cancelled."""
        return self.callback is not None


class Timers:
    """Calls back when the wall clock has reached a time. For the loop's thread.

    Due times are absolute microseconds UTC, so they survive a restart; the wall clock is read again at least
    every 60 s, so a clock that somebody sets is followed with that delay. Past times fire soon, never inside
    `at`. Equal times fire in the order of their `at`; at most 256 fire in one go, then the loop gets its turn.
    A callback that raises is logged and stops nobody else. Nothing survives a crash: owners arm again.
    """

    def __init__(self, clock: Clock, log: Log | None = None) -> None:
        self._clock = clock
        self._log = log or StandardLog()
        self._heap: list[tuple[int, int, Timer]] = []
        self._order = itertools.count()
        self._cancelled = 0
        self._armed: TimerHandle | None = None
        self._armed_s = 0.0  # the monotonic time it is armed for
        self._closed = False

    def __len__(self) -> int:
        """How many are pending."""
        return len(self._heap) - self._cancelled

    def at(self, due_us: Micros, callback: Callable[[], object]) -> Timer:
        """Call back at `due_us`. Raises Unavailable after `close`."""
        if self._closed:
            raise Unavailable("the timers are closed")
        timer = Timer(self, callback)
        heapq.heappush(self._heap, (due_us, next(self._order), timer))
        # Compared in monotonic time: after a jump of the wall clock an armed re-check may be the later one.
        if self._armed is None or self._when_s(due_us) < self._armed_s:
            self._arm()
        return timer

    def tell_at(self, due_us: Micros, ref: ActorRef[Any], message: object) -> Timer:
        """Tell an actor at `due_us`; a dead letter if it has stopped by then."""
        return self.at(due_us, lambda: ref.tell(message))

    def next_due(self) -> Micros | None:
        """When the earliest pending one is due, or None."""
        self._drop_cancelled()
        return Micros(self._heap[0][0]) if self._heap else None

    def close(self) -> None:
        """Forget everything. May be called twice."""
        self._closed = True
        self._disarm()
        self._heap.clear()
        self._cancelled = 0

    def count_cancelled(self) -> None:
        """One entry of the heap is dead. When they outnumber the living, the heap is built anew."""
        if self._closed:
            return
        self._cancelled += 1
        if self._cancelled >= _COMPACT_FROM and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def _drop_cancelled(self) -> None:
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
            self._cancelled -= 1

    def _disarm(self) -> None:
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None

    def _arm(self) -> None:
        self._disarm()
        self._drop_cancelled()
        if not self._heap or self._closed:
            return
        self._armed_s = min(self._when_s(self._heap[0][0]), self._clock.monotonic() + _RECHECK_S)
        self._armed = self._clock.call_at(self._armed_s, self._fire)

    def _when_s(self, due_us: int) -> float:
        return self._clock.monotonic() + max(0, due_us - self._clock.now_us()) / 1_000_000

    def _fire(self) -> None:
        self._armed = None
        now_us = self._clock.now_us()
        for _ in range(_BATCH):
            self._drop_cancelled()
            if not self._heap or self._heap[0][0] > now_us:
                break
            timer = heapq.heappop(self._heap)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                self._call(callback)
        self._arm()

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception as exc:
            self._log.error("timer.failed", exc=exc)
