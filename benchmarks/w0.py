"""The floor alone: what this machine's disk and interpreter give to the same durable work without an engine."""

import asyncio
from statistics import median

from benchmarks import jobs, w1, w2
from benchmarks.figures import Figure, Outcome, Settings
from benchmarks.rig import in_turns, scratch, tune

__all__ = ["run"]


def run(settings: Settings) -> Outcome:
    """W1 and W2 as the floor does them, and the time of four commits one after the other."""
    total, outstanding, count, width = (60, 20, 5, 200) if settings.small else (6000, 1000, 300, 10_000)
    tune()
    with scratch() as folder:
        legs = asyncio.run(
            in_turns(
                settings.runs,
                folder,
                many=lambda path: w1.many_on_floor(path, total, outstanding),
                fan=lambda path: w2.on_floor(path, width),
            )
        )
        alone = [asyncio.run(w1.alone_on_floor(folder / f"alone{n}.db", count)) for n in range(settings.runs)]
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
