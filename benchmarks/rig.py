"""What workloads share: files on a real disk, the process tuned as its owner would, engine and floor in turns."""

import gc
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from benchmarks import jobs
from benchmarks.floor import Writer
from taskengine.ambient import Ambient, SilentMetrics
from taskengine.clock import Micros
from taskengine.engine.builder import EngineBuilder
from taskengine.engine.engine import Engine
from taskengine.store import migrations, place
from taskengine.store.dialect import SQLITE
from taskengine.store.queries import folder, queries
from taskengine.store.sqlite_thread import WorkThread

__all__ = ["Leg", "engine_on", "in_turns", "ratios", "resident_mb", "scratch", "tune", "writer_on"]


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
async def engine_on(path: Path, *, workers: int = 1000, ambient: Ambient | None = None) -> AsyncIterator[Engine]:
    """An engine on a SQLite file, with the jobs of the workloads."""
    builder = EngineBuilder(ambient).with_store(path).with_workers(workers).with_threads(4)
    for name, function in jobs.ALL.items():
        builder.with_job_func(name, function)
    async with builder.build() as engine:
        yield engine


@asynccontextmanager
async def writer_on(path: Path) -> AsyncIterator[Writer]:
    """The floor's writer on a new SQLite file with the engine's schema and settings."""
    place.make_file(path)
    thread = WorkThread(path, read_only=False)
    await thread.open()
    for setting in "journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 4096", "temp_store = MEMORY":
        await thread.run(lambda db, setting=setting: db.execute(f"PRAGMA {setting}").fetchall())  # type: ignore[misc]
    await thread.run(lambda db: migrations.migrate(db, migrations.load(folder("sqlite")), Micros(0)))
    await thread.run(lambda db: db.execute(queries(SQLITE)["next_epoch"]).fetchall())
    yield Writer(thread)
    await thread.close()


async def in_turns(runs: int, folder: Path, **legs: Callable[[Path], Awaitable[Leg]]) -> Mapping[str, Sequence[Leg]]:
    """Each leg `runs` times on new files, in turns, so that a busy hour meets all alike. One round before warms up."""
    done: dict[str, list[Leg]] = {name: [] for name in legs}
    for number in range(-1, runs):
        for name, leg in legs.items():
            gc.collect()
            measured = await leg(folder / f"{name}{number}.db")
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
