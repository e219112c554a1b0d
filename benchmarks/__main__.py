"""`python -m benchmarks [WORKLOAD ...] [--store KIND] [--json FILE] [--runs 3]`: measure, compare, print.

Each workload runs in a process of its own. Exit code 1 when a bar was missed, 2 for a wrong call.
"""

import argparse
import importlib
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.figures import Outcome, Settings, table
from benchmarks.grounds import STORES

__all__ = ["WORKLOADS", "main", "measure"]

WORKLOADS: Final = {
    "floor": "benchmarks.w0",
    "w1": "benchmarks.w1",
    "w2": "benchmarks.w2",
    "w3": "benchmarks.w3",
    "w4": "benchmarks.w4",
    "w5": "benchmarks.w5",
    "w6": "benchmarks.w6",
    "w7": "benchmarks.w7",
    "w8": "benchmarks.w8_dispatcher",
    "w10": "benchmarks.w10",
}
_ON_SERVERS: Final = ("floor", "w1", "w2", "w4", "w5", "w10")
_INSIDE: Final = "TASKENGINE_BENCH_INSIDE"
"""Where the process of one workload leaves its outcome."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the engine against the floor.")
    parser.add_argument("workload", nargs="*", help=f"{', '.join(WORKLOADS)}; without any: all")
    parser.add_argument("--store", choices=STORES, default="sqlite")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures there")
    parser.add_argument("--runs", type=int, default=3, help="samples of every figure, at least 3 for a spread (3)")
    parser.add_argument("--small", action="store_true", help="tiny sizes: does it run? The figures mean nothing")
    asked = parser.parse_args(arguments)
    names = [name.lower() for name in asked.workload] or list(WORKLOADS)
    if unknown := [name for name in names if name not in WORKLOADS]:
        parser.error(f"no workload {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    elsewhere = [name for name in names if asked.store != "sqlite" and name not in _ON_SERVERS]
    if elsewhere and asked.workload:
        parser.error(
            f"{', '.join(elsewhere)} has nothing to do with --store; with it there are {', '.join(_ON_SERVERS)}"
        )
    names = [name for name in names if name not in elsewhere]
    settings = Settings(runs=max(1, asked.runs), small=asked.small, store=asked.store)
    if inside := os.environ.get(_INSIDE):
        Path(inside).write_bytes(msgspec.json.encode(measure(names[0], settings)))
        return 0
    return _report(names, settings, asked.json)


def measure(name: str, settings: Settings) -> Outcome:
    """One workload, in this process."""
    outcome: Outcome = importlib.import_module(WORKLOADS[name]).run(settings)
    return outcome


def _report(names: Sequence[str], settings: Settings, raw: Path | None) -> int:
    outcomes = []
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        outcomes.append(_in_fresh_process(name, settings))
    print(table(outcomes))
    for outcome in outcomes:
        for fact, value in outcome.facts.items():
            print(
                f"{outcome.workload}: {fact} {value:,.4g}"
                if isinstance(value, float)
                else f"{outcome.workload}: {fact} {value}"
            )
    if raw is not None:
        raw.write_bytes(msgspec.json.format(msgspec.json.encode(_record(outcomes, settings)), indent=2) + b"\n")
    missed = any(figure.verdict == "MISS" for outcome in outcomes for figure in outcome.figures)
    return 1 if missed and not settings.small else 0


def _in_fresh_process(name: str, settings: Settings) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="taskengine-bench-") as folder:
        answer = Path(folder) / "outcome.json"
        command = [sys.executable, "-m", "benchmarks", name, "--runs", str(settings.runs), "--store", settings.store]
        command += ["--small"] if settings.small else []
        subprocess.run(command, env={**os.environ, _INSIDE: str(answer)}, check=True, stdout=sys.stderr)
        return msgspec.json.decode(answer.read_bytes(), type=Outcome)


def _record(outcomes: Sequence[Outcome], settings: Settings) -> dict[str, object]:
    """Everything that is needed to compare with another day; no name of the machine."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()},
        "versions": {
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "sqlite": sqlite3.sqlite_version,
            **{name: version(name) for name in ("taskengine", "pykka", "msgspec", "aiosqlite")},
        },
        "settings": settings,
        "outcomes": [
            {
                "workload": outcome.workload,
                "facts": outcome.facts,
                "figures": [
                    {**msgspec.to_builtins(it), "median": it.median, "bar": it.bar, "verdict": it.verdict}
                    for it in outcome.figures
                ],
            }
            for outcome in outcomes
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
