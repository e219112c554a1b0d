"""Time and ids behind one interface, so that tests and the simulation own both.

Wall time is an integer count of microseconds since the Unix epoch, UTC (`Micros`); it is what rows hold.
Monotonic time is a float of seconds; it is what waiting is measured with.
"""

import asyncio
import heapq
import itertools
import random
import secrets
import time
from collections.abc import Callable
from typing import NewType, Protocol

__all__ = [
    "Clock",
    "IdSource",
    "ManualClock",
    "Micros",
    "SeededIds",
    "SystemClock",
    "SystemIds",
    "TimerHandle",
    "seconds",
    "uuid7_time_us",
]

Micros = NewType("Micros", int)
"""Microseconds: since the Unix epoch for an instant, plain for a span."""


def seconds(span_s: float) -> Micros:
    """A span of seconds as microseconds, rounded to the nearest one."""
    return Micros(round(span_s * 1_000_000))


class TimerHandle(Protocol):
    """What `Clock.call_at` gives back."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """The only source of time in the engine."""

    def now_us(self) -> Micros:
        """Wall time, UTC. May jump when somebody sets the machine's clock."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow; the zero point means nothing."""
        ...

    def call_at(self, when_s: float, callback: Callable[[], object]) -> TimerHandle:
        """Call back once `monotonic()` has reached `when_s`, on the loop's thread. A past time means soon."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Wait; cancelling the waiting task cancels the wait."""
        ...


class SystemClock:
    """The machine's clock; timers run on the running asyncio loop."""

    def now_us(self) -> Micros:
        return Micros(time.time_ns() // 1000)

    def monotonic(self) -> float:
        return time.monotonic()

    def call_at(self, when_s: float, callback: Callable[[], object]) -> TimerHandle:
        loop = asyncio.get_running_loop()
        # Not loop.call_at: uvloop's zero point is its own, so only the difference travels.
        return loop.call_later(max(0.0, when_s - time.monotonic()), callback)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(max(0.0, delay_s))


class _ManualTimer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """A clock that moves only when a test says so. Single-threaded."""

    def __init__(self, start_us: int = 1_700_000_000_000_000) -> None:
        self._start_us = start_us
        self._elapsed_us = 0
        self._skew_us = 0
        self._order = itertools.count()
        self._heap: list[tuple[float, int, _ManualTimer]] = []

    def now_us(self) -> Micros:
        return Micros(self._start_us + self._elapsed_us + self._skew_us)

    def monotonic(self) -> float:
        return self._elapsed_us / 1_000_000

    def call_at(self, when_s: float, callback: Callable[[], object]) -> TimerHandle:
        timer = _ManualTimer(callback)
        heapq.heappush(self._heap, (when_s, next(self._order), timer))
        return timer

    async def sleep(self, delay_s: float) -> None:
        done = asyncio.Event()
        timer = self.call_at(self.monotonic() + delay_s, done.set)
        try:
            await done.wait()
        finally:
            timer.cancel()

    def set_wall(self, now_us: int) -> None:
        """Make the wall clock jump, as an administrator or NTP would; monotonic time does not move."""
        self._skew_us += now_us - self.now_us()

    def tick(self, span_s: float) -> None:
        """Move time and run every timer that became due, in order; the loop gets no turn."""
        goal_us = self._elapsed_us + seconds(span_s)
        while self._heap and self._heap[0][0] * 1_000_000 <= goal_us:
            when_s, _, timer = heapq.heappop(self._heap)
            self._elapsed_us = max(self._elapsed_us, round(when_s * 1_000_000))
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
        self._elapsed_us = goal_us

    def next_timer(self) -> float | None:
        """Monotonic time of the earliest live timer, or None."""
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    async def advance(self, span_s: float) -> None:
        """Move time, letting the loop settle before and after, so that what a timer started has begun."""
        await self._settle()
        self.tick(span_s)
        await self._settle()

    @staticmethod
    async def _settle() -> None:
        # Twenty turns: enough for a message to cross every actor of the engine and back.
        for _ in range(20):
            await asyncio.sleep(0)


class IdSource(Protocol):
    """Where new identifiers come from."""

    def uuid7(self) -> str:
        """A new UUIDv7 in canonical form; later ones of one source sort after earlier ones."""
        ...


class SystemIds:
    """UUIDv7 from the machine's time and randomness; increasing within a process (RFC 9562, method 1).

    The 12 bits behind the millisecond count up, so 4,096 ids fit into one millisecond; the 4,097th takes the
    next millisecond's number ahead of time. Not thread-safe: one source for one thread.
    """

    def __init__(self, clock: Clock | None = None, bits: Callable[[int], int] | None = None) -> None:
        self._clock = clock or SystemClock()
        # Ids are unique, not secret: the system's randomness seeds a generator, since each look at it costs 5 µs.
        self._bits = bits or random.Random(secrets.randbits(256)).getrandbits
        self._last = 0

    def uuid7(self) -> str:
        stamp = (self._clock.now_us() // 1000) << 12
        self._last = stamp if stamp > self._last else self._last + 1
        return _format_uuid7(self._last >> 12, self._last & 0xFFF, self._bits(62))


class SeededIds(SystemIds):
    """The same ids for the same seed and the same clock; for tests and the simulation."""

    def __init__(self, clock: Clock, seed: int) -> None:
        super().__init__(clock, random.Random(seed).getrandbits)


def _format_uuid7(ms: int, counter: int, rand62: int) -> str:
    value = (ms & (1 << 48) - 1) << 80 | 0x7 << 76 | counter << 64 | 0b10 << 62 | rand62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uuid7_time_us(text: str) -> Micros:
    """When a UUIDv7 was made, to the millisecond."""
    return Micros(int(text.replace("-", "")[:12], 16) * 1000)
