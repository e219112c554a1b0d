"""The queue in front of one client: bounded, never waited for, and honest about what it lost.

Everything here belongs to the loop's thread. The hub puts in, the client's own handler takes out.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from taskengine.api.stream.interest import ALL, Interest
from taskengine.api.stream.parcel import Parcel

__all__ = ["MAX_BYTES", "MAX_PARCELS", "Client", "Ending"]

MAX_PARCELS: Final = 5_000
MAX_BYTES: Final = 4 * 1024 * 1024


class Ending(msgspec.Struct, frozen=True):
    """Why a client is sent away, as a WebSocket says it.

    code     1000 there is nothing more, 1008 it misbehaved, 1009 its message was too long, 1012 the server stops,
             1013 it was too slow
    reason   at most 123 bytes, for people and for resuming
    metric   label of `stream.closed`
    """

    code: int
    reason: str
    metric: str


class Client:
    """One client of the hub.

    interest       what it wants
    told           number of the newest parcel that was taken, 0 for none: of the instance, or position in the ring
    lost           why its queue was thrown away; until `reopen` nothing is queued. Empty: nothing is missing
    ending         set: it is to go, by nobody's fault or its own
    blocked_s      monotonic time since when it does not take what it should; None: it is not asked to take anything
    silent_s       monotonic time since when nothing was sent
    cut            set by its handler: stops whatever it waits for
    unsent         set by its handler: bytes that were handed over and have not left yet
    """

    def __init__(
        self, interest: Interest, *, max_parcels: int = MAX_PARCELS, max_bytes: int = MAX_BYTES, now_s: float = 0.0
    ) -> None:
        self.interest = interest
        self.told = 0
        self.lost = ""
        self.ending: Ending | None = None
        self.blocked_s: float | None = None
        self.silent_s = now_s
        self.cut: Callable[[], object] | None = None
        self.unsent: Callable[[], int] | None = None
        self._unsent_before = 0
        self._max_parcels = max_parcels
        self._max_bytes = max_bytes
        self._queue: deque[Parcel] = deque()
        self._bytes = 0
        self._beat = False
        self._is_cut = False
        self._waiting: asyncio.Future[None] | None = None

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def queued_bytes(self) -> int:
        return self._bytes

    # -- for the hub -------------------------------------------------------------------------------------------

    def offer(self, parcel: Parcel) -> None:
        """Queue it. When there is no room log and progress frames go first; then everything, and the client is lost."""
        if self.lost or self.ending is not None:
            return
        if not self._has_room(parcel):
            if parcel.droppable:
                return
            self._drop_remarks()
            if not self._has_room(parcel):
                self.lose("too slow")
                return
        self._queue.append(parcel)
        self._bytes += parcel.size
        self._wake()

    def lose(self, why: str) -> None:
        """What is queued goes; the client will hear of a gap and get a fresh snapshot."""
        self._clear()
        self.lost = why
        self._wake()

    def is_moving(self) -> bool:
        """Whether it has taken some of what was handed over since the last time this was asked."""
        unsent = 0 if self.unsent is None else self.unsent()
        before, self._unsent_before = self._unsent_before, unsent
        return unsent < before

    def beat(self) -> None:
        """It shall hear that the connection lives."""
        self._beat = True
        self._wake()

    def end(self, ending: Ending, *, now: bool = False) -> None:
        """Send it away, after what is queued, or at once. The first reason stays, but one at once outdoes one that
        was to wait for the queue: what was queued then is missing, and a friendly end would hide that."""
        if self.ending is None or (now and not self._is_cut):
            self.ending = ending
        if now:
            self._is_cut = True
            self._clear()
            if self.cut is not None:
                self.cut()
        self._wake()

    # -- for its handler ---------------------------------------------------------------------------------------

    async def wait(self) -> None:
        """Until there is something to do: to take, to tell of a loss, to beat, to end."""
        if self._queue or self.lost or self._beat or self.ending is not None:
            return
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def take(self, max_bytes: int) -> list[Parcel]:
        """What comes next, oldest first: at least one parcel if there is one, and not much more than `max_bytes`."""
        parcels: list[Parcel] = []
        size = 0
        while self._queue and (not parcels or size + self._queue[0].size <= max_bytes):
            parcel = self._queue.popleft()
            self._bytes -= parcel.size
            if self._is_news(parcel):
                parcels.append(parcel)
                size += parcel.size
        return parcels

    def take_beat(self) -> bool:
        """Whether a heartbeat is due; it is then no longer."""
        beat, self._beat = self._beat, False
        return beat

    def reopen(self) -> None:
        """Queue again from now on: somebody is about to read how things are."""
        self._clear()
        self.lost = ""

    # -- inside ------------------------------------------------------------------------------------------------

    def _is_news(self, parcel: Parcel) -> bool:
        """Not told before. In a stream of one instance the numbers must have no hole; a hole is a loss."""
        if parcel.droppable:
            return True
        number = parcel.seq if self.interest.is_one else parcel.position
        if number <= self.told:
            return False
        if self.interest.is_one and self.interest.choice == ALL and number != self.told + 1:
            self.lose("an update was not told")
            return False
        self.told = number
        return True

    def _has_room(self, parcel: Parcel) -> bool:
        if not self._queue:
            return True
        return len(self._queue) < self._max_parcels and self._bytes + parcel.size <= self._max_bytes

    def _drop_remarks(self) -> None:
        self._queue = deque(parcel for parcel in self._queue if not parcel.droppable)
        self._bytes = sum(parcel.size for parcel in self._queue)

    def _clear(self) -> None:
        self._queue.clear()
        self._bytes = 0

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
