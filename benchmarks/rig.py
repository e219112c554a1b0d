"""What workloads share: files on a real disk, the process tuned as its owner would, engine and floor in turns."""

import asyncio
import gc
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import jobs
from benchmarks.figures import Settings
from benchmarks.grounds import database
from taskengine.ambient import Ambient, SilentMetrics
from taskengine.engine.builder import EngineBuilder
from taskengine.engine.engine import Engine

__all__ = ["CommitMetrics", "Leg", "engine_on", "in_turns", "ratios", "resident_mb", "scratch", "tune"]


class Leg(msgspec.Struct, frozen=True):
    """One measured stretch: how much a second, in how many commits of how many rows."""

    rate: float
    commits: int
    rows: int


class CommitMetrics(SilentMetrics):
    """Counts what the checkpointer says of its commits."""

    def __init__(self) -> None:
        self.commits = self.rows = 0

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        if name == "commit.rows":
            self.commits += 1
            self.rows += int(value)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards. TMPDIR decides the disk; a file system in memory makes fsync free."""
    with tempfile.TemporaryDirectory(prefix="taskengine-bench-") as path:
        yield Path(path)


def tune() -> None:
    """What the owner of a long-lived process does about garbage collection after its imports."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@asynccontextmanager
async def engine_on(dsn: str | Path, *, workers: int = 1000, ambient: Ambient | None = None) -> AsyncIterator[Engine]:
    """An engine with the jobs of the workloads."""
    builder = EngineBuilder(ambient).with_store(dsn).with_workers(workers).with_threads(4)
    for name, function in jobs.ALL.items():
        builder.with_job_func(name, function)
    async with builder.build() as engine:
        yield engine


def in_turns(
    settings: Settings, folder: Path, **legs: Callable[[str], Coroutine[Any, Any, Leg]]
) -> Mapping[str, Sequence[Leg]]:
    """Each leg as often as there are runs, each time on a new database, in turns, so that a busy hour meets all alike.
    One round before warms up."""
    done: dict[str, list[Leg]] = {name: [] for name in legs}
    for number in range(-1, settings.runs):
        for name, leg in legs.items():
            gc.collect()
            with database(settings.store, folder, f"{name}-{max(number, 0)}{'w' * (number < 0)}") as dsn:
                measured = asyncio.run(leg(dsn))
            if number >= 0:
                done[name].append(measured)
    return done


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Pair by pair."""
    return [one / other for one, other in zip(over, under, strict=True)]


def resident_mb() -> float:
    """Resident memory of this process now."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
