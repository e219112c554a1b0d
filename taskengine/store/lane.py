"""One lane of the checkpointer: a queue whose batches are committed one after another.

No timer and no linger. A batch that comes back makes room for the next one first; only then are its callers told,
so the disk works while they think. The unit is the decision: it commits, splits and fails as one.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from taskengine.ambient import Ambient
from taskengine.errors import BatchRefused, CommitFailed, DuplicateKey, LostInstance, StoreFull, StoreUnavailable
from taskengine.model.ids import InstanceId
from taskengine.model.records import Decision, InstanceRemoval, LogBatch, Sweep, Write
from taskengine.store.batch import merge
from taskengine.store.interface import Store

__all__ = ["Ack", "Lane"]

Ack = Callable[[BaseException | None], None]
"""Called on the loop's thread with None once the write is durable, or with why it was not saved."""

FIRST_DELAY_S: Final = 0.05
LONGEST_DELAY_S: Final = 5.0


class _Entry:
    """One save that is not answered yet. `failure` is set when it is known never to commit."""

    __slots__ = ("ack", "at_s", "failure", "rows", "write")

    def __init__(self, write: Write, ack: Ack, rows: int, at_s: float, failure: BaseException | None) -> None:
        self.write, self.ack, self.rows, self.at_s, self.failure = write, ack, rows, at_s, failure


class Lane:
    """Calls `Store.commit` with batches of its number, one at a time. `save` belongs to the loop's thread.

    spawn          runs the coroutine that commits, as a task of its own; must not cancel it before `stop` returned
    max_rows       of one batch; a larger decision still goes as a whole
    retry_limit_s  how long an unavailable store is asked again with the same batch
    on_settled     called after each batch, before its callers are told
    on_told        called when the callers of a batch have been told and nothing waits to be committed
    on_fatal       told when nothing can be committed any more, before those who wait are
    """

    def __init__(
        self,
        number: int,
        store: Store,
        ambient: Ambient,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        *,
        max_rows: int,
        retry_limit_s: float,
        on_settled: Callable[[], object],
        on_fatal: Callable[[BaseException], object],
        on_told: Callable[[], object],
    ) -> None:
        self.lane = number
        self._store, self._spawn = store, spawn
        self._on_settled, self._on_fatal, self._on_told = on_settled, on_fatal, on_told
        self._clock, self._probe = ambient.clock, ambient.probe
        self._log, self._metrics = ambient.log, ambient.metrics
        self._max_rows, self._retry_limit_s = max_rows, retry_limit_s
        self._waiting: deque[_Entry] = deque()
        self._flying: Sequence[_Entry] = ()
        self._settled: deque[Sequence[_Entry]] = deque()
        self._rows = 0
        self._number = 0
        self._acknowledged = 0
        # Instances with a refused decision of which nobody has been told yet: what they save now builds on it.
        self._lost: dict[InstanceId, _Entry] = {}
        self._stalled = False
        self._started = False
        self._stopping = False
        self._over: str = ""
        self._idle: asyncio.Future[None] | None = None
        self._ended = asyncio.Event()

    @property
    def backlog(self) -> int:
        """Rows that were saved and are not committed yet, those of the batch in flight included."""
        return self._rows

    @property
    def oldest_s(self) -> float:
        """How long the oldest uncommitted save has waited, in seconds; 0 when there is none."""
        oldest = self._flying[0] if self._flying else self._waiting[0] if self._waiting else None
        return 0.0 if oldest is None else self._clock.monotonic() - oldest.at_s

    @property
    def stalled(self) -> bool:
        """The store is unavailable and the batch in flight is being tried again."""
        return self._stalled

    def start(self) -> None:
        """Begin to commit, also what was saved before. A second call changes nothing."""
        if not self._started and not self._over:
            self._started = True
            self._spawn(self._run())

    def save(self, write: Write, ack: Ack) -> None:
        """Commit `write` soon. Never blocks; the ack comes in a later turn of the loop, in the order of the saves."""
        if self._over:
            asyncio.get_running_loop().call_soon(ack, CommitFailed(self._over))
            return
        rows, failure = 1, None
        if type(write) is Decision:
            rows = write.rows
            if self._lost and write.instance_id in self._lost:
                failure = _follows(write.instance_id)
        elif type(write) is LogBatch:
            rows = len(write.rows)
        elif type(write) is Sweep:
            rows = write.rows  # at most; it takes the room of as many
        self._waiting.append(_Entry(write, ack, rows, self._clock.monotonic(), failure))
        self._rows += rows
        self._wake()

    def finish(self) -> None:
        """Commit what is there and then no more; `ended` tells when. Idempotent."""
        self._stopping = True
        if not self._started:
            self.give_up("the engine stopped before it began to commit")
            self._ended.set()
        else:
            self._wake()

    async def ended(self) -> None:
        """Until nothing is committed any more, or it is abandoned."""
        await self._ended.wait()

    def abandon(self) -> None:
        """Whoever waits for the end waits no longer; the batch in flight may commit or not."""
        self._ended.set()

    async def _run(self) -> None:
        try:
            while batch := await self._next():
                await self._settle(batch)
                if self._over:  # `stop` lost its patience meanwhile and has answered everybody
                    return
                self._rows -= sum(entry.rows for entry in batch)
                self._on_settled()
                self._flying = ()
                self._settled.append(batch)
                if self._waiting:
                    # Not called but queued: the next batch goes to the database within this turn of the loop, its
                    # predecessor's callers hear in the next one.
                    asyncio.get_running_loop().call_soon(self._acknowledge)
                else:
                    self._acknowledge()
                    self._on_told()
        except Exception as exc:
            self._log.error("commit.fatal", exc=exc)
            if not self._over:
                self._on_fatal(exc)
            self.give_up(f"the store is gone: {exc}")
        except BaseException:
            self._over = self._over or "the committing task was cancelled"
            raise
        finally:
            self._over = self._over or "the engine has stopped"
            self._ended.set()

    async def _next(self) -> Sequence[_Entry]:
        """The entries of the next batch; none: stop."""
        while not self._waiting:
            if self._stopping:
                return ()
            if await self._rest():
                await self._keep()
        self._flying = self._take()
        return self._flying

    async def _rest(self) -> bool:
        """Until there is something to do; True: nothing for so long that the store wants to be kept."""
        self._idle = asyncio.get_running_loop().create_future()
        after_s = self._store.keep_after_s
        timer = None if after_s is None else self._clock.call_at(self._clock.monotonic() + after_s, self._wake)
        try:
            await self._idle
        finally:
            self._idle = None
            if timer is not None:
                timer.cancel()
        return not self._waiting and not self._stopping

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _keep(self) -> None:
        """A store that is away now is asked again when there is something to commit, or the next time."""
        try:
            await self._store.keep(self.lane)
        except StoreUnavailable as exc:
            self._log.debug("commit.lane_lost", lane=self.lane, error=str(exc))

    def _take(self) -> list[_Entry]:
        waiting, room = self._waiting, self._max_rows
        if self._rows <= room:  # nothing is in flight now, so these are all of them
            self._waiting = deque()
            return list(waiting)
        taken = [waiting.popleft()]
        room -= taken[0].rows
        while waiting and waiting[0].rows <= room:
            entry = waiting.popleft()
            room -= entry.rows
            taken.append(entry)
        return taken

    async def _settle(self, batch: Sequence[_Entry]) -> None:
        """Commit every entry or find out why not. Raises when nothing can be committed any more."""
        live = [entry for entry in batch if entry.failure is None]
        if live and (refused := await self._commit(live)) is not None:
            self._metrics.count("commit.splits")
            await self._split(live, refused)

    async def _split(self, entries: Sequence[_Entry], refused: BatchRefused) -> None:
        """Entries that were refused together: find the culprits, in order, and commit all others.

        By halves and not one by one: a culprit among thousands costs some twenty commits instead of thousands.
        """
        if len(entries) == 1:
            self._refuse(entries[0], refused)
            return
        middle = len(entries) // 2
        for half in (entries[:middle], entries[middle:]):
            live = [entry for entry in half if not self._is_lost(entry)]
            if live and (again := await self._commit(live)) is not None:
                await self._split(live, again)

    def _is_lost(self, entry: _Entry) -> bool:
        """Does it follow a refused decision of its instance? Then it fails as well."""
        owner = _owner(entry.write)
        if owner is None or owner not in self._lost:
            return False
        entry.failure = _follows(owner)
        return True

    async def _commit(self, entries: Sequence[_Entry]) -> BatchRefused | None:
        """As one batch, all or nothing; gives the refusal back."""
        self._number += 1
        number, began_s = self._number, self._clock.monotonic()
        try:
            batch = merge(
                [entry.write for entry in entries],
                epoch=self._store.epoch,
                lane=self.lane,
                number=number,
                acknowledged=self._acknowledged,
            )
            self._probe.reach("commit.begin")
            await self._insist(batch.number, lambda: self._store.commit(batch))
        except BatchRefused as exc:
            return exc
        self._probe.reach("commit.done")
        self._acknowledged = number
        self._metrics.observe("commit.rows", batch.rows)
        self._metrics.observe("commit.seconds", self._clock.monotonic() - began_s)
        return None

    async def _insist(self, number: int, commit: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """The same batch again while the store is unavailable, ever more slowly, up to the limit.

        A full disk has no limit: the process would only end to find it full again, and meanwhile it can be read from.
        """
        delay_s, limit_s = FIRST_DELAY_S, self._clock.monotonic() + self._retry_limit_s
        while True:
            try:
                await commit()
            except StoreUnavailable as exc:
                self._stalled = True
                self._metrics.count("commit.unavailable")
                self._log.warning("commit.unavailable", batch=number, error=str(exc), again_in_s=delay_s)
                if self._clock.monotonic() >= limit_s and not isinstance(exc, StoreFull):
                    raise
                await self._clock.sleep(delay_s)
                if self._over:
                    raise
                delay_s = min(delay_s * 2, LONGEST_DELAY_S)
            else:
                self._stalled = False
                return

    def _refuse(self, entry: _Entry, refused: BatchRefused) -> None:
        """This one is the culprit: it fails, and so does what its instance has saved since."""
        entry.failure = _failure(entry.write, refused)
        self._metrics.count("commit.refused")
        if not isinstance(entry.failure, DuplicateKey):  # that is an answer, and its caller finds the first start
            self._log.warning("commit.refused", write=_name(entry.write), error=str(refused))
        owner = _owner(entry.write)
        if owner is None:
            return
        self._lost[owner] = entry
        for later in self._waiting:
            if later.failure is None and _owner(later.write) == owner:
                later.failure = _follows(owner)

    def _acknowledge(self) -> None:
        while self._settled:
            for entry in self._settled.popleft():
                self._tell(entry, entry.failure)
            self._probe.reach("commit.acknowledged")

    def _tell(self, entry: _Entry, failure: BaseException | None) -> None:
        owner = _owner(entry.write)
        if failure is not None and owner is not None and self._lost.get(owner) is entry:
            del self._lost[owner]
        try:
            entry.ack(failure)
        except Exception as exc:
            self._log.error("commit.ack_failed", exc=exc, write=_name(entry.write))

    def give_up(self, why: str) -> None:
        """Everything that is not answered yet fails, after what has been settled. Idempotent."""
        self._over = self._over or why
        self._acknowledge()
        left = [*self._flying, *self._waiting]
        self._flying, self._waiting, self._rows = (), deque(), 0
        self._lost.clear()
        for entry in left:
            self._tell(entry, entry.failure or CommitFailed(self._over))


def _owner(write: Write) -> InstanceId | None:
    return write.instance_id if type(write) is Decision else None


def _name(write: Write) -> str:
    owner = _owner(write)
    return type(write).__name__ if owner is None else f"instance {owner}"


def _follows(owner: InstanceId) -> CommitFailed:
    return CommitFailed(f"instance {owner}: an earlier decision was not saved")


def _failure(write: Write, refused: BatchRefused) -> BaseException:
    """What the caller hears. `refused` becomes the cause."""
    error: BaseException = CommitFailed(f"{_name(write)}: {refused}")
    if type(write) is Decision:
        new = write.instance.row if write.instance is not None and write.instance.expect is None else None
        if refused.reason == "key" and new is not None and new.idempotency_key is not None:
            error = DuplicateKey(new.workflow_id, new.idempotency_key)
        elif refused.reason in ("moved", "exists"):
            error = LostInstance(f"instance {write.instance_id}: {refused}")
    elif type(write) is InstanceRemoval and refused.reason == "moved":
        error = LostInstance(f"instance {write.instance_id} has gone on, or is gone already")
    error.__cause__ = refused
    return error
