"""The two lives of W5's process. Each says on stdout how far it is; the parent listens, and kills the first one."""

import asyncio
import os
import time
from pathlib import Path

from benchmarks.rig import tune
from taskengine.definition import TaskBuilder, WorkflowBuilder
from taskengine.engine.builder import EngineBuilder
from taskengine.engine.engine import Engine
from taskengine.functions import TaskContext
from taskengine.model.definition import WorkflowDefinition
from taskengine.model.events import Event
from taskengine.model.states import TaskMove

__all__ = ["first_life", "second_life"]


def _definition() -> WorkflowDefinition:
    second = TaskBuilder("second").with_job_function("second").with_dependency("first")
    return WorkflowBuilder("w5").with_task(TaskBuilder("first").with_job_function("first"), second).build()


class _Jobs:
    """`first` leaves the instance's name in a file; `second` waits for ever in the first life."""

    def __init__(self, folder: Path, *, endless_for: int) -> None:
        self._file = os.open(folder / "first-steps", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._endless_for = endless_for
        self._waiting = 0
        self.all_waiting = asyncio.Event()

    async def first(self, ctx: TaskContext) -> None:
        os.write(self._file, f"{ctx.instance_id}\n".encode())

    async def second(self) -> None:
        if self._endless_for:
            self._waiting += 1
            if self._waiting == self._endless_for:
                self.all_waiting.set()
            await asyncio.Event().wait()

    def engine(self, dsn: str, workers: int) -> Engine:
        builder = EngineBuilder().with_store(dsn).with_workers(workers)
        return builder.with_job_func("first", self.first).with_job_func("second", self.second).build()


def first_life(folder: str, dsn: str, count: int, began_s: float) -> None:
    """Bring all instances into their second step, and wait for the end."""
    tune()
    asyncio.run(_fly(Path(folder), dsn, count))


async def _fly(folder: Path, dsn: str, count: int) -> None:
    jobs, definition = _Jobs(folder, endless_for=count), _definition()
    async with jobs.engine(dsn, count) as engine:
        for start in range(0, count, 1000):
            await asyncio.gather(*[engine.execute_workflow(definition) for _ in range(start, min(count, start + 1000))])
        await jobs.all_waiting.wait()
        print("flying", flush=True)
        await asyncio.Event().wait()


def second_life(folder: str, dsn: str, count: int, began_s: float) -> None:
    """Take up what is there, say how long that took from `began_s` (as time.time() tells), and finish it."""
    asyncio.run(_recover(Path(folder), dsn, count, began_s))


async def _recover(folder: Path, dsn: str, count: int, began_s: float) -> None:
    engine = _Jobs(folder, endless_for=0).engine(dsn, 1000)
    tune()
    with engine.bus.subscribe(lambda frame: isinstance(frame, Event), capacity=count * 10) as events:
        async with engine:
            seen: set[str] = set()
            ended = 0
            async for event in events:
                assert isinstance(event, Event), "the subscription is large enough for all"
                if any(move.move is TaskMove.OFFER for move in event.body.transitions):
                    seen.add(event.instance_id)
                    if len(seen) == count:
                        print("queued", time.time() - began_s, flush=True)
                ended += event.body.progress.completed == 2
                if ended == count:
                    break
    print("done", flush=True)
