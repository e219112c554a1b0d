"""Takes ended instances away when their time is over, and sweeps up what they have left behind.

A minute after the start, then every ten minutes, and when somebody asks. In small slices through the same checkpointer
as everything else; while others work too, a twentieth of the time is its share. What a crash cuts off goes on after the
next start: what is removed is noted in the store.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from taskengine.ambient import Ambient
from taskengine.clock import Micros, TimerHandle
from taskengine.engine.directory import Directory
from taskengine.engine.logbook import Logbook
from taskengine.engine.retention import RETENTION, Pruning, due
from taskengine.engine.saving import saved
from taskengine.engine.views import Pruned
from taskengine.errors import LostInstance
from taskengine.model.definition import Retention
from taskengine.model.records import Aged, InstanceRemoval, Sweep
from taskengine.store.checkpointer import Checkpointer
from taskengine.store.interface import Store

__all__ = ["Pruner"]

FIRST_S: Final = 60.0
EVERY_S: Final = 600.0
REMOVED_AT_ONCE: Final = 50
SLICE: Final = Sweep(instances=50, rows=500)
SHARE: Final = 0.05
"""Of the time, while others work."""
_FORGET: Final = 1.1
"""By so much the cost of a slice is taken to grow while all commits are slow."""
_HOUR_US: Final = 3_600_000_000
_DAY_US: Final = 24 * _HOUR_US


class Pruner:
    """Lives on the loop. Nothing of it survives a crash, and nothing needs to.

    retention  of instances whose version says nothing
    spawn      runs a coroutine as a task of its own
    is_busy    whether others want the store or the loop now
    collect    takes away what no row names any more; called once a day, and after a pass that removed something, but
               not twice in an hour: it may look through all there is
    """

    def __init__(
        self,
        ambient: Ambient,
        store: Store,
        checkpointer: Checkpointer,
        directory: Directory,
        logbook: Logbook,
        retention: Retention,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        is_busy: Callable[[], bool],
        collect: Callable[[], Awaitable[object]],
    ) -> None:
        self._clock, self._log, self._metrics = ambient.clock, ambient.log, ambient.metrics
        self._store, self._checkpointer = store, checkpointer
        self._directory, self._logbook = directory, logbook
        self._retention, self._spawn, self._is_busy, self._collect = retention, spawn, is_busy, collect
        self._turn, self._broom = asyncio.Lock(), asyncio.Lock()
        self._timer: TimerHandle | None = None
        self._collected_us: Micros | None = None
        self._cost_s = math.inf
        self._closed = False

    def start(self) -> None:
        """The first pass comes in a minute."""
        self._arm(FIRST_S)

    def close(self) -> None:
        """Begin nothing more; what is being committed is committed. Before the checkpointer stops."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, delay_s: float) -> None:
        if not self._closed:
            self._timer = self._clock.call_at(self._clock.monotonic() + delay_s, lambda: self._spawn(self._pass()))

    async def _pass(self) -> None:
        began_s = self._clock.monotonic()
        try:
            removed = (await self.prune(RETENTION)).instances
            await self.sweep()
            await self._collect_rest(removed)
        except Exception as error:  # the store may be away; the next pass finds the same
            if not self._closed:
                self._log.warning("retention.pass_failed", error=repr(error))
        else:
            if removed:
                took_s = self._clock.monotonic() - began_s
                self._log.info("retention.pruned", instances=removed, took_s=round(took_s, 3))
        self._arm(EVERY_S)

    async def _collect_rest(self, removed: int) -> None:
        now_us, last_us = self._clock.now_us(), self._collected_us
        if last_us is None or now_us - last_us >= (_HOUR_US if removed else _DAY_US):
            self._collected_us = now_us
            await self._collect()

    async def count(self, pruning: Pruning) -> Pruned:
        """How many are due."""
        pages = due(self._store, self._retention, pruning, self._clock.now_us())
        return Pruned(instances=sum([len(page) async for page in pages]))

    # -- removing --------------------------------------------------------------------------------------------------

    async def prune(self, pruning: Pruning, limit: int | None = None) -> Pruned:
        """Remove what is due, at most `limit` instances. What they have left behind is swept up later.

        Raises CommitFailed, StoreUnavailable; what was removed until then stays removed.
        """
        removed = 0
        async with self._turn:
            async for page in due(self._store, self._retention, pruning, self._clock.now_us()):
                while page:
                    room = REMOVED_AT_ONCE if limit is None else min(REMOVED_AT_ONCE, limit - removed)
                    if self._closed or not room:
                        return Pruned(instances=removed, more=True)
                    part, page = page[:room], page[room:]
                    began_s = self._clock.monotonic()
                    removed += await self._remove(part)
                    await self._give_way(began_s)
        return Pruned(instances=removed)

    async def _remove(self, aged: Sequence[Aged]) -> int:
        """Those of them that nobody holds; gives how many went."""
        free = self._directory.free([each.id for each in aged])
        going = [each for each in aged if each.id in free and not self._logbook.owes(each.id)]
        if not going:
            return 0
        outcome = _Outcome(len(going))
        for each in going:
            self._send_off(each, outcome)
        return await outcome.known

    def _send_off(self, aged: Aged, outcome: "_Outcome") -> None:
        instance_id, directory = aged.id, self._directory
        directory.leaving.add(instance_id)

        def told(error: BaseException | None) -> None:
            directory.leaving.discard(instance_id)
            if error is None:
                directory.sights.forget(instance_id)
                self._metrics.count("retention.removed")
            outcome.add(error)

        self._checkpointer.save(InstanceRemoval(instance_id=instance_id, run=aged.run), told)

    # -- sweeping --------------------------------------------------------------------------------------------------

    def sweep_soon(self) -> None:
        """Do not wait for the next pass."""
        self._spawn(self._sweep_quietly())

    async def _sweep_quietly(self) -> None:
        try:
            await self.sweep()
        except Exception as error:  # the next pass goes on with it
            if not self._closed:
                self._log.warning("retention.sweep_failed", error=repr(error))

    async def sweep(self) -> None:
        """Until nothing is left of removed instances. Raises CommitFailed, StoreUnavailable."""
        async with self._broom:
            while not self._closed and await self._store.removed(1):
                began_s = self._clock.monotonic()
                await saved(self._checkpointer, SLICE)
                await self._give_way(began_s)

    async def _give_way(self, began_s: float) -> None:
        """A commit that others share takes as long as theirs; what a slice costs is seen in the quickest ones."""
        took_s = self._clock.monotonic() - began_s
        self._cost_s = min(took_s, _FORGET * self._cost_s)
        pause_s = self._cost_s / SHARE - took_s
        if pause_s > 0 and self._is_busy():
            await self._clock.sleep(pause_s)


class _Outcome:
    """How many of so many removals were done; raises what failed for another reason than a retry that came first."""

    def __init__(self, waiting: int) -> None:
        self.known: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting, self._done = waiting, 0
        self._error: BaseException | None = None

    def add(self, error: BaseException | None) -> None:
        self._waiting -= 1
        if error is None:
            self._done += 1
        elif not isinstance(error, LostInstance):
            self._error = error
        if self._waiting or self.known.done():
            return
        if self._error is not None:
            self.known.set_exception(self._error)
        else:
            self.known.set_result(self._done)
