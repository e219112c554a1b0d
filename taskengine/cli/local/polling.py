"""News of an instance from its database, beside the process that works on it: by looking again and again."""

from collections.abc import AsyncGenerator

from taskengine.api.shapes import log_line
from taskengine.api.stream.frames import event_frames, time_of
from taskengine.cli.live.watching import log_frame
from taskengine.cli.local.reading import Look
from taskengine.clock import Clock
from taskengine.model.ids import InstanceId
from taskengine.model.states import INSTANCE_FINAL
from taskengine.wire import LogLine, Snapshot, StreamFrame

__all__ = ["PollFeed", "poll_logs"]

_EVERY_S = 0.25
_PAGE = 500


class PollFeed:
    """First how things are, then everything that is committed after it.

    What a job says of its progress is not stored, so it is not told.
    """

    def __init__(
        self,
        look: Look,
        instance_id: InstanceId,
        workflow_id: str,
        clock: Clock,
        *,
        logs: bool,
        logs_since: int | None,
    ) -> None:
        self._look, self._instance_id, self._workflow_id, self._clock = look, instance_id, workflow_id, clock
        self._seq: int | None = None
        self._logs, self._log = logs, logs_since

    async def news(self) -> list[StreamFrame]:
        if self._seq is None:
            return [await self._first()]
        await self._clock.sleep(_EVERY_S)
        # Events before lines: what was said before the last event is there, then.
        events = await self._look.reading.events(self._instance_id, self._seq, _PAGE)
        lines = await self._lines() if self._logs else []
        self._seq = max((event.seq for event in events), default=self._seq)
        return [*lines, *(frame for event in events for frame in event_frames(event))]

    async def _lines(self) -> list[StreamFrame]:
        found: list[StreamFrame] = []
        while True:
            rows = await self._look.reading.logs(
                self._instance_id, task=None, after=self._log or 0, limit=_PAGE, tail=None
            )
            found += [log_frame(log_line(row), self._workflow_id) for row in rows]
            self._log = max((row.id for row in rows), default=self._log)
            if len(rows) < _PAGE:
                return found

    async def _first(self) -> Snapshot:
        # The numbers come first: what happens meanwhile is told twice rather than not at all.
        last = await self._look.store.last_event(self._instance_id)
        self._seq = 0 if last is None else last.seq
        if self._log is None:
            self._log = await self._look.store.last_log(self._instance_id)
        detail = await self._look.detail(self._instance_id)
        return Snapshot(instances=[detail], tasks=detail.tasks, timestamp=time_of(self._clock.now_us()), seq=self._seq)


async def poll_logs(
    look: Look, instance_id: InstanceId, clock: Clock, *, task: str | None, since: int
) -> AsyncGenerator[LogLine, None]:
    """Lines behind `since` as they are stored, until the instance has ended."""
    while True:
        # Asked before the lines are read: what was said until the end is there then.
        ended = (await look.reading.instance(instance_id)).status in INSTANCE_FINAL
        rows = await look.reading.logs(instance_id, task=task, after=since, limit=_PAGE, tail=None)
        for row in rows:
            since = row.id
            yield log_line(row)
        if ended and not rows:
            return
        if not rows:
            await clock.sleep(_EVERY_S)
