"""The message bus: what the engine tells, to whoever listens. Telling never waits and never fails.

Committed events are the truth and carry a `seq`; log and progress frames are passing remarks without one. Each
subscription has a bounded queue of its own. A reader that is too slow loses frames and finds a `Gap` in their place:
it should look at the store again. Who serves many readers takes a tap instead: one call for each frame, no queue, and
the distribution is his own. Everything here belongs to the loop's thread.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, Self

import msgspec

from taskengine.ambient import Ambient
from taskengine.clock import Micros
from taskengine.model.events import Event
from taskengine.model.ids import InstanceId, WorkflowId

__all__ = ["Bus", "Frame", "FrameFilter", "Gap", "LogFrame", "OverflowPolicy", "ProgressFrame", "Subscription", "Tap"]

DEFAULT_CAPACITY: Final = 10_000


class LogFrame(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One line that a job logged. `level` is one of debug, info, warning, error, stdout, stderr.

    id  of the stored line, growing within its instance; 0: this one is not stored
    """

    instance_id: InstanceId
    workflow_id: WorkflowId
    task: str
    attempt: int
    level: str
    message: str
    at_us: Micros
    id: int = 0


class ProgressFrame(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How far a job says it is. `fraction` 0..1."""

    instance_id: InstanceId
    workflow_id: WorkflowId
    task: str
    fraction: float
    message: str = ""


class Gap(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Here `dropped` frames are missing, because the reader was too slow."""

    dropped: int


Frame = Event | LogFrame | ProgressFrame
FrameFilter = Callable[[Frame], bool]
OverflowPolicy = Literal["drop_oldest", "drop_newest"]
Tap = Callable[[Frame], object]


def _nothing() -> None:
    pass


class Subscription:
    """The reading end. One reader at a time, by `async for` or by `drain`; use as a context manager to close it."""

    def __init__(self, bus: "Bus", wanted: FrameFilter | None, capacity: int, policy: OverflowPolicy) -> None:
        if capacity < 1:
            raise ValueError("a subscription holds at least one frame")
        self._bus = bus
        self._wanted = wanted
        self._capacity = capacity
        self._keep_old = policy == "drop_newest"
        self._queue: deque[Frame | Gap] = deque()
        self._lost = 0
        self._closed = False
        self._failure: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None

    @property
    def closed(self) -> bool:
        """No more frames will come in; there may be some to read."""
        return self._closed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame | Gap:
        """The next frame, waiting for it. Ends after `close`; raises what the filter raised."""
        while (frame := self._take()) is None:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise StopAsyncIteration
            await self.wait()
        return frame

    async def wait(self) -> None:
        """Until there is something to take, or the subscription is closed."""
        if self._closed or self._queue or self._lost:
            return
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def drain(self) -> list[Frame | Gap]:
        """Everything that is there, oldest first; does not wait. Raises what the filter raised, behind the last one."""
        frames: list[Frame | Gap] = []
        while (frame := self._take()) is not None:
            frames.append(frame)
        if not frames and self._failure is not None:
            raise self._failure
        return frames

    def close(self) -> None:
        """No more frames come in. What is there may still be read, then iteration ends. Idempotent."""
        self._closed = True
        self._bus.forget(self)
        self._wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def offer(self, frame: Frame) -> int:
        """For the bus: queue the frame if it is wanted; says how many frames were dropped for that."""
        try:
            if self._wanted is not None and not self._wanted(frame):
                return 0
        except Exception as exc:
            # Its reader must hear of it, the engine must not.
            self._failure = exc
            self.close()
            return 0
        dropped = self._push(frame)
        self._wake()
        return dropped

    def _push(self, frame: Frame) -> int:
        full = len(self._queue) >= self._capacity
        if full:
            self._lost += 1
            if self._keep_old:
                return 1
            self._queue.popleft()
        elif self._keep_old and self._lost:
            self._queue.append(self._gap())
        self._queue.append(frame)
        return int(full)

    def _take(self) -> Frame | Gap | None:
        # Dropping the oldest leaves the hole before the queue, dropping the newest behind it.
        if self._lost and (not self._keep_old or not self._queue):
            return self._gap()
        return self._queue.popleft() if self._queue else None

    def _gap(self) -> Gap:
        gap, self._lost = Gap(dropped=self._lost), 0
        return gap

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Bus:
    """The writing end. Order is kept per subscription; a subscription sees what was published after it was made."""

    def __init__(self, ambient: Ambient) -> None:
        self._metrics = ambient.metrics
        self._log = ambient.log
        # Tuples that are replaced: publishing goes on over the old one while somebody leaves.
        self._subscriptions: tuple[Subscription, ...] = ()
        self._taps: tuple[tuple[Tap, Callable[[], object]], ...] = ()

    @property
    def listened(self) -> bool:
        """Whether anybody would get a frame; spares its making."""
        return bool(self._subscriptions or self._taps)

    def publish(self, frame: Frame) -> None:
        """Give a frame to every tap, and to every subscription that wants it. Never waits, never raises."""
        if self._taps:
            self._pour(frame)
        if self._subscriptions:
            self._deliver(frame)

    def tap(self, take: Tap, on_close: Callable[[], object] = _nothing) -> Callable[[], None]:
        """Call `take` with every frame, inside of `publish`: it should put the frame aside and return.

        on_close   called once when the bus closes
        Result: ends it; idempotent, and no call of `on_close` follows. A `take` that raises is our bug: it is logged,
        counted, and misses that frame.
        """
        entry = (take, on_close)
        self._taps += (entry,)

        def end() -> None:
            self._taps = tuple(other for other in self._taps if other is not entry)

        return end

    def subscribe(
        self,
        wanted: FrameFilter | None = None,
        *,
        capacity: int = DEFAULT_CAPACITY,
        policy: OverflowPolicy = "drop_oldest",
    ) -> Subscription:
        """A new reading end. `wanted` is called on the loop for each frame; it should be a comparison or two."""
        subscription = Subscription(self, wanted, capacity, policy)
        self._subscriptions += (subscription,)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """For a subscription that closes."""
        self._subscriptions = tuple(other for other in self._subscriptions if other is not subscription)

    def close(self) -> None:
        """End every subscription; their readers get what is queued. Idempotent."""
        for subscription in self._subscriptions:
            subscription.close()
        taps, self._taps = self._taps, ()
        for _, on_close in taps:
            on_close()

    def _pour(self, frame: Frame) -> None:
        for take, _ in self._taps:
            try:
                take(frame)
            except Exception as exc:
                self._log.error("bus.tap_failed", exc=exc)
                self._metrics.count("bus.dropped")

    def _deliver(self, frame: Frame) -> None:
        for subscription in self._subscriptions:
            if dropped := subscription.offer(frame):
                self._metrics.count("bus.dropped", dropped)
