"""What tasks say while they run: numbered, masked, told to the bus, stored in batches behind their backs."""

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from taskengine.ambient import Ambient
from taskengine.bus import Bus, LogFrame
from taskengine.clock import TimerHandle
from taskengine.engine.directory import Directory
from taskengine.functions import LogLine
from taskengine.model.ids import InstanceId, WorkflowId
from taskengine.model.records import LogBatch, LogRow
from taskengine.store.checkpointer import Checkpointer
from taskengine.store.interface import Store
from taskengine.telemetry.masking import Mask

__all__ = ["Logbook", "Speaker"]

BATCH_S: Final = 0.25
BATCH_LINES: Final = 500
LARGE_BATCH_LINES: Final = 2000
MOST_LINES: Final = 100_000
MOST_CHARS: Final = 64 * 1024 * 1024
MOST_KNOWN: Final = 10_000
"""Instances whose last id is remembered; those that have something under way come on top."""


class Speaker(msgspec.Struct, frozen=True):
    """Whose line it is.

    fresh  the instance was started by this engine and has been in memory since: no earlier line is stored
    """

    instance_id: InstanceId
    workflow_id: WorkflowId
    task: str
    attempt: int
    fresh: bool = False


class _Page:
    """The lines of one instance. `last`: the id that was given last; None while the store is being asked.

    unsaved  lines that have an id and are not committed
    waiting  lines that wait for the store's answer
    """

    __slots__ = ("asking", "last", "unsaved", "waiting")

    def __init__(self, last: int | None) -> None:
        self.last = last
        self.unsaved = 0
        self.asking = False
        self.waiting: list[tuple[Speaker, LogLine]] = []


class Logbook:
    """Takes every line of every attempt and never makes anybody wait. Belongs to the loop's thread.

    Lines go to the store through the checkpointer, at most every 250 ms or as soon as there are 500; one batch of
    them is under way at a time, so that a chatty task does not fill the commits of the others. When the store does
    not keep up, at most 100,000 lines (64 Mi characters) wait; what comes then is dropped, and a later line of the
    same attempt says how many. After a crash the lines of the last moments are missing.
    """

    def __init__(
        self,
        ambient: Ambient,
        store: Store,
        checkpointer: Checkpointer,
        directory: Directory,
        bus: Bus,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        mask: Mask,
    ) -> None:
        self._clock, self._log, self._metrics = ambient.clock, ambient.log, ambient.metrics
        self._store, self._checkpointer, self._directory = store, checkpointer, directory
        self._bus, self._spawn, self._mask = bus, spawn, mask
        self._pages: dict[InstanceId, _Page] = {}
        self._pending: deque[LogRow] = deque()
        self._lost: dict[Speaker, int] = {}
        self._lines = 0  # taken and not committed, those that wait for an id included
        self._chars = 0
        self._flying = 0  # batches at the checkpointer
        self._timer: TimerHandle | None = None
        self._sweep_at = MOST_KNOWN
        self._closed = False

    def add(self, speaker: Speaker, line: LogLine) -> None:
        """One line. It is told at once, or as soon as its id is known."""
        if self._closed or self._lines >= MOST_LINES or self._chars >= MOST_CHARS:
            self._drop(speaker, 1, "backlog")
            return
        self._take(speaker, msgspec.structs.replace(line, message=self._mask.apply(line.message)))

    def flush(self, instance_id: InstanceId) -> None:
        """The instance ends: its lines go to the checkpointer now, ahead of the decision that says so."""
        page = self._pages.get(instance_id)
        if page is not None and page.unsaved:
            self._save_all()

    def owes(self, instance_id: InstanceId) -> bool:
        """Whether lines of the instance are not committed yet."""
        page = self._pages.get(instance_id)
        return page is not None and bool(page.unsaved or page.waiting)

    async def close(self) -> None:
        """Hand everything to the checkpointer, before it stops. Lines whose ids cannot be found out are lost."""
        for instance_id in [key for key, page in self._pages.items() if page.waiting]:
            await self._ask(instance_id)
        self._own_up()
        self._save_all()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    # -- ids -------------------------------------------------------------------------------------------------------

    def _take(self, speaker: Speaker, line: LogLine) -> None:
        self._lines += 1
        self._chars += len(line.message)
        page = self._pages.get(speaker.instance_id)
        if page is None:
            page = self._pages[speaker.instance_id] = _Page(0 if speaker.fresh else None)
        if page.last is None:
            page.waiting.append((speaker, line))
            if not page.asking:
                page.asking = True
                self._spawn(self._ask(speaker.instance_id))
        else:
            self._write(page, speaker, line)

    async def _ask(self, instance_id: InstanceId) -> None:
        """Only an instance without unsaved lines is forgotten, so what the store says is the whole truth."""
        page = self._pages[instance_id]
        try:
            last = await self._store.last_log(instance_id)
        except Exception as error:
            self._log.warning("logs.no_id", instance=instance_id, error=repr(error))
            self._give_up(page)
            return
        finally:
            page.asking = False
        if page.last is None:  # `close` asks too
            page.last = last
        waiting, page.waiting = page.waiting, []
        for speaker, line in waiting:
            self._write(page, speaker, line)

    def _give_up(self, page: _Page) -> None:
        for speaker, line in page.waiting:
            self._lines -= 1
            self._chars -= len(line.message)
            self._drop(speaker, 1, "store")
        page.waiting.clear()

    def _write(self, page: _Page, speaker: Speaker, line: LogLine) -> None:
        assert page.last is not None
        page.last += 1
        page.unsaved += 1
        row = LogRow(
            instance_id=speaker.instance_id,
            id=page.last,
            task=speaker.task,
            attempt=speaker.attempt,
            level=line.level,
            message=line.message,
            at_us=line.at_us,
        )
        self._pending.append(row)
        if self._bus.listened:
            self._bus.publish(_frame(speaker, row))
        if not self._flying and len(self._pending) >= BATCH_LINES:
            self._save()
        elif self._timer is None:
            self._timer = self._clock.call_at(self._clock.monotonic() + BATCH_S, self._tick)

    # -- saving ----------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._timer = None
        if not self._flying:
            self._save()

    def _save_all(self) -> None:
        while self._pending:
            self._save()

    def _save(self) -> None:
        pending = self._pending
        most = min(max(BATCH_LINES, len(pending) // 2), LARGE_BATCH_LINES)  # larger ones only to catch up
        rows = tuple(pending.popleft() for _ in range(min(most, len(pending))))
        if rows:
            self._flying += 1
            self._checkpointer.save(LogBatch(rows), lambda error: self._saved(rows, error))

    def _saved(self, rows: tuple[LogRow, ...], error: BaseException | None) -> None:
        self._flying -= 1
        self._lines -= len(rows)
        for row in rows:
            self._chars -= len(row.message)
            self._pages[row.instance_id].unsaved -= 1
        if error is None:
            self._metrics.count("logs.lines", len(rows))
            if self._lost and self._lines < MOST_LINES // 2:
                self._own_up()
        else:
            self._log.warning("logs.not_saved", lines=len(rows), error=str(error))
            self._metrics.count("logs.dropped", len(rows), reason="store")
        if len(self._pages) > self._sweep_at:
            self._forget()
        if self._pending and not self._flying and (len(self._pending) >= BATCH_LINES or self._timer is None):
            self._save()

    def _forget(self) -> None:
        """Instances that have left memory and owe nothing; they are asked for again if they speak again."""
        gone = [
            key
            for key, page in self._pages.items()
            if not page.unsaved and not page.waiting and not page.asking and self._directory.get(key) is None
        ]
        for key in gone:
            del self._pages[key]
        self._sweep_at = max(MOST_KNOWN, 2 * len(self._pages))

    # -- losses ----------------------------------------------------------------------------------------------------

    def _drop(self, speaker: Speaker, lines: int, reason: str) -> None:
        self._lost[speaker] = self._lost.get(speaker, 0) + lines
        self._metrics.count("logs.dropped", lines, reason=reason)

    def _own_up(self) -> None:
        """Say what was dropped, once there is room again."""
        lost, self._lost = self._lost, {}
        for speaker, lines in lost.items():
            note = f"{lines:,} lines were dropped here: the store did not keep up"
            self._take(speaker, LogLine("warning", note, self._clock.now_us()))


def _frame(speaker: Speaker, row: LogRow) -> LogFrame:
    return LogFrame(
        instance_id=row.instance_id,
        workflow_id=speaker.workflow_id,
        task=row.task,
        attempt=row.attempt,
        level=row.level,
        message=row.message,
        at_us=row.at_us,
        id=row.id,
    )
