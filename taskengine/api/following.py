"""Log lines of one instance as they come, without asking again and again.

The bus tells of each line when it is said, and a moment later the store has it. Ids of lines count up within an
instance, so whoever follows sees when something is missing between what was told, and only then reads the store.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Final

import anyio

from taskengine.api.shapes import log_line
from taskengine.bus import Frame, Gap, LogFrame
from taskengine.engine.engine import Engine
from taskengine.model.events import Event
from taskengine.model.ids import InstanceId
from taskengine.model.records import LogRow
from taskengine.model.states import INSTANCE_FINAL
from taskengine.wire import LogLine

__all__ = ["follow_lines"]

_PAGE: Final = 500
_CAPACITY: Final = 2000
_SETTLE_S: Final = 0.6
"""Lines that were said are stored by then; they are written in batches, a few times a second."""


async def follow_lines(
    engine: Engine, instance_id: str, *, task: str | None = None, after: int = 0, tail: int | None = None
) -> AsyncGenerator[list[LogLine], None]:
    """Bunches of lines by id, each line once: the stored ones behind `after` (the last `tail` of them), then new ones.

    Ends when the instance has ended and all its lines were given, or the engine stops. A client that leaves closes the
    generator, and with it the subscription. Raises NotFound.
    """
    known = InstanceId(instance_id)

    def wanted(frame: Frame) -> bool:
        if isinstance(frame, LogFrame):
            return frame.instance_id == known and frame.id > 0
        return isinstance(frame, Event) and frame.instance_id == known

    with engine.bus.subscribe(wanted, capacity=_CAPACITY) as news:
        reader = _Reader(engine, known, task, after)
        ended = (await engine.get_instance(instance_id)).status in INSTANCE_FINAL
        if tail is not None:
            yield await reader.skip_to_tail(tail)
        settled = False  # whether what was said before we listened is stored for certain
        while True:
            while lines := await reader.read():
                yield lines
            if ended:
                return
            frames: Sequence[Frame | Gap] = ()
            while not frames and not news.closed:
                with anyio.move_on_after(None if settled and not reader.misses else _SETTLE_S) as patience:
                    await news.wait()
                frames = news.drain()
                if patience.cancelled_caught and not frames:
                    settled = True
                    break
            if lines := reader.take(frames):
                yield lines
            ended = news.closed or any(isinstance(it, Event) and it.body.state in INSTANCE_FINAL for it in frames)


class _Reader:
    """`_seen`: every line up to this id was given, or is none of the task that was asked for."""

    def __init__(self, engine: Engine, instance_id: InstanceId, task: str | None, after: int) -> None:
        self._engine, self._instance_id, self._task = engine, instance_id, task
        self._seen = after
        self._ahead: dict[int, LogFrame] = {}
        self._stale = True

    @property
    def misses(self) -> bool:
        """Lines are known of which the ones before are not."""
        return bool(self._ahead)

    async def skip_to_tail(self, count: int) -> list[LogLine]:
        """The last `count` stored lines; everything before counts as given."""
        last = await self._engine.store.last_log(self._instance_id)
        rows = await self._rows(tail=count) if count else []
        self._seen = max(self._seen, last, rows[-1].id if rows else 0)
        return [log_line(row) for row in rows]

    async def read(self) -> list[LogLine]:
        """The next stored lines, if anything may be missing; empty when there are none."""
        if not self._stale:
            return []
        last = await self._engine.store.last_log(self._instance_id)  # before the rows: then they are at least those
        rows = await self._rows()
        self._stale = len(rows) == _PAGE
        self._seen = rows[-1].id if self._stale else max(self._seen, last, rows[-1].id if rows else 0)
        return [log_line(row) for row in rows] + self._catch_up()

    def take(self, frames: Sequence[Frame | Gap]) -> list[LogLine]:
        """What the bus told, as far as nothing is missing before it. No frames: time has gone by, look at the store."""
        self._stale = not frames
        for frame in frames:
            if isinstance(frame, LogFrame):
                self._ahead[frame.id] = frame
            else:
                self._stale = True  # a hole in the news, or a moment at which everything is stored
        lines = self._catch_up()
        if len(self._ahead) > _CAPACITY:
            self._ahead.clear()  # the store has them, too
        self._stale = self._stale or self.misses
        return lines

    def _catch_up(self) -> list[LogLine]:
        lines = []
        while (frame := self._ahead.pop(self._seen + 1, None)) is not None:
            self._seen = frame.id
            if self._task is None or frame.task == self._task:
                lines.append(_line(frame))
        if self._ahead:
            self._ahead = {number: frame for number, frame in self._ahead.items() if number > self._seen}
        return lines

    async def _rows(self, tail: int | None = None) -> list[LogRow]:
        return await self._engine.get_logs(self._instance_id, task=self._task, after=self._seen, limit=_PAGE, tail=tail)


def _line(frame: LogFrame) -> LogLine:
    row = LogRow(
        instance_id=frame.instance_id,
        id=frame.id,
        task=frame.task,
        attempt=frame.attempt,
        level=frame.level,
        message=frame.message,
        at_us=frame.at_us,
    )
    return log_line(row)
