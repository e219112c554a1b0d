"""One committer for everybody: whatever was saved while the last commit ran goes into the next one.

A store may commit several batches at the same time, one on each of its lanes. An instance keeps its lane, so what it
saves commits in the order in which it was saved; between instances there is no order.
"""

from collections.abc import Callable, Coroutine
from typing import Any
from zlib import crc32

from taskengine.ambient import Ambient
from taskengine.model.ids import InstanceId
from taskengine.model.records import Decision, InstanceRemoval, LogBatch, LogRow, Write
from taskengine.store.interface import Store
from taskengine.store.lane import Ack, Lane

__all__ = ["Ack", "Checkpointer"]


class Checkpointer:
    """The only caller of `Store.commit`. Lives on one loop; `save` may be called from that loop's thread only.

    spawn          runs the coroutines that commit, each as a task of its own; must not cancel them before `stop`
                   returned
    max_rows       of one batch; a larger decision still goes as a whole
    retry_limit_s  how long an unavailable store is asked again with the same batch
    on_told        called when the callers of a batch have been told and nothing of its lane waits to be committed
    on_fatal       told once when nothing can be committed any more; the process should end. After it, everything
                   that waits or comes fails with CommitFailed
    """

    def __init__(
        self,
        store: Store,
        ambient: Ambient,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        *,
        max_rows: int = 4000,
        retry_limit_s: float = 60.0,
        on_fatal: Callable[[BaseException], object],
        on_told: Callable[[], object] = lambda: None,
    ) -> None:
        self._clock, self._metrics, self._on_fatal = ambient.clock, ambient.metrics, on_fatal
        self._failed = self._stopping = False
        self._lanes = [
            Lane(
                number,
                store,
                ambient,
                spawn,
                max_rows=max_rows,
                retry_limit_s=retry_limit_s,
                on_settled=self._note_backlog,
                on_fatal=self._fail,
                on_told=on_told,
            )
            for number in range(store.lanes)
        ]
        self._first = self._lanes[0]
        self._only = self._first if len(self._lanes) == 1 else None

    @property
    def backlog(self) -> int:
        """Rows that were saved and are not committed yet, those of the batches in flight included."""
        return sum([lane.backlog for lane in self._lanes])

    @property
    def oldest_s(self) -> float:
        """How long the oldest uncommitted save has waited, in seconds; 0 when there is none."""
        return max(lane.oldest_s for lane in self._lanes)

    @property
    def stalled(self) -> bool:
        """The store is unavailable, and a batch in flight is being tried again."""
        return any(lane.stalled for lane in self._lanes)

    def start(self) -> None:
        """Begin to commit, also what was saved before. A second call changes nothing."""
        for lane in self._lanes:
            lane.start()

    def lane_of(self, instance_id: InstanceId) -> int:
        """The number of the instance's lane, the same in every process."""
        return crc32(instance_id.encode("utf-8", "surrogatepass")) % len(self._lanes)

    def save(self, write: Write, ack: Ack, *, beside: InstanceId | None = None) -> None:
        """Commit `write` soon. Never blocks; the ack comes in a later turn of the loop, on each lane in the order of
        the saves.

        A decision goes on its instance's lane, and so do its removal and log lines: whoever sees an instance's end has
        seen what was logged before it. Everything else goes on the first lane.

        beside  on the lane of this instance, ahead of what is saved for it next
        """
        if self._only is not None:
            self._only.save(write, ack)
        elif type(write) is Decision or type(write) is InstanceRemoval:
            self._lanes[self.lane_of(write.instance_id)].save(write, ack)
        elif type(write) is LogBatch:
            self._save_lines(write, ack)
        elif beside is not None:
            self._lanes[self.lane_of(beside)].save(write, ack)
        else:
            self._first.save(write, ack)

    def _save_lines(self, batch: LogBatch, ack: Ack) -> None:
        """Each on its instance's lane; one ack when all have ended, with the first failure if there was one."""
        parts: dict[int, list[LogRow]] = {}
        for row in batch.rows:
            parts.setdefault(self.lane_of(row.instance_id), []).append(row)
        left, failure = len(parts), None

        def ended(error: BaseException | None) -> None:
            nonlocal left, failure
            left, failure = left - 1, failure or error
            if not left:
                ack(failure)

        for number, rows in parts.items():
            self._lanes[number].save(LogBatch(tuple(rows)), ended)

    async def stop(self, *, patience_s: float = 10.0) -> None:
        """Commit what is there, then return; nothing that is saved later is committed. Idempotent.

        After `patience_s` what is still uncommitted fails: whether the batches in flight committed is then unknown,
        and their callers may ask again with the same key.
        """
        for lane in self._lanes:
            lane.finish()
        timer = self._clock.call_at(self._clock.monotonic() + patience_s, self._lose_patience)
        try:
            for lane in self._lanes:
                await lane.ended()
        finally:
            timer.cancel()
        self._give_up("the engine has stopped")

    def _lose_patience(self) -> None:
        for lane in self._lanes:
            lane.abandon()

    def _give_up(self, why: str) -> None:
        for lane in self._lanes:
            lane.give_up(why)

    def _fail(self, error: BaseException) -> None:
        """One lane cannot commit any more, so none may: what they hold belongs together."""
        if not self._failed:
            self._failed = True
            self._on_fatal(error)
        self._give_up(f"the store is gone: {error}")

    def _note_backlog(self) -> None:
        self._metrics.gauge("commit.backlog", self.backlog)
