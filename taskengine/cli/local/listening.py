"""News of an instance that an engine in this process runs."""

import asyncio
import contextlib

from taskengine.api.shapes import instance_detail
from taskengine.api.stream.frames import time_of
from taskengine.bus import Frame, Gap
from taskengine.cli.live.watching import PATIENCE_S
from taskengine.cli.local.frames import frames_of
from taskengine.clock import Clock
from taskengine.engine.engine import Engine
from taskengine.model.ids import InstanceId
from taskengine.wire import InstanceDetail, Snapshot, StreamFrame

__all__ = ["BusFeed", "look_at"]


class BusFeed:
    """Listens from its making on, so that nothing of what begins then is missed."""

    def __init__(self, engine: Engine, instance_id: InstanceId, clock: Clock) -> None:
        self._engine, self._instance_id, self._clock = engine, instance_id, clock
        self._frames = engine.bus.subscribe(self._concerns)

    async def news(self) -> list[StreamFrame]:
        """Raises Unavailable when the engine has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._frames.wait()
        found, gap = self._drain()
        if gap or self._frames.closed:
            detail = await look_at(self._engine, self._instance_id)
            found.append(Snapshot(instances=[detail], tasks=detail.tasks, timestamp=time_of(self._clock.now_us())))
        return found

    def rest(self) -> list[StreamFrame]:
        """What is there now; for after the engine has stopped."""
        return self._drain()[0]

    def _concerns(self, frame: Frame) -> bool:
        return frame.instance_id == self._instance_id

    def _drain(self) -> tuple[list[StreamFrame], bool]:
        """Everything that is there, and whether something was lost."""
        found: list[StreamFrame] = []
        gap = False
        for frame in self._frames.drain():
            if isinstance(frame, Gap):
                gap = True
            else:
                found += frames_of(frame, self._clock.now_us())
        return found, gap


async def look_at(engine: Engine, instance_id: InstanceId) -> InstanceDetail:
    """The instance with its tasks and results, as it is committed."""
    return instance_detail(
        await engine.get_instance(instance_id),
        await engine.get_tasks(instance_id),
        result=await engine.result(instance_id),
        attempts=await engine.get_attempts(instance_id),
    )
