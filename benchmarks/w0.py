"""The floor alone: what this machine's disk and interpreter give to the same durable work without an engine."""

import asyncio
from pathlib import Path
from statistics import median

from benchmarks import jobs, w1, w2
from benchmarks.figures import Figure, Outcome, Settings
from benchmarks.grounds import database
from benchmarks.rig import in_turns, scratch, tune

__all__ = ["run"]


def _alone(store: str, folder: Path, number: int, count: int) -> list[float]:
    with database(store, folder, f"alone{number}") as dsn:
        return asyncio.run(w1.alone_on_floor(dsn, count))


def run(settings: Settings) -> Outcome:
    """W1 and W2 as the floor does them, and the time of four commits one after the other."""
    total, outstanding, count, width = (60, 20, 5, 200) if settings.small else (6000, 1000, 300, 10_000)
    tune()
    with scratch() as folder:
        legs = in_turns(
            settings,
            folder,
            many=lambda dsn: w1.many_on_floor(dsn, total, outstanding),
            fan=lambda dsn: w2.on_floor(dsn, width),
        )
        alone = [_alone(settings.store, folder, n, count) for n in range(settings.runs)]
    return Outcome(
        workload="floor",
        figures=[
            Figure(name=f"W1, {outstanding:,} outstanding", unit="wf/s", samples=[leg.rate for leg in legs["many"]]),
            Figure(name="W1, four commits, p50", unit="ms", samples=[median(sample) for sample in alone]),
            Figure(name=f"W2, 1 → {width:,} → 1", unit="tasks/s", samples=[leg.rate for leg in legs["fan"]]),
        ],
        facts={
            "rows per workflow": legs["many"][0].rows / total,
            "rows per task": legs["fan"][0].rows / (width + 2),
            "functions called": [jobs.add_one.__name__, jobs.nothing.__name__],
        },
    )
