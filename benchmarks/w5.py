"""W5: the process dies by SIGKILL with many instances in flight; how soon has the next one all of them again?

Each instance has done its first step and is in the middle of the second when the process dies. The clock starts with
the first line of the next process, before its imports, and stops when the last instance has committed its recovery
and stands in the queue. Step one leaves a line in a file: none may be there twice whose success was committed.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.figures import Figure, Outcome, Settings
from benchmarks.grounds import ask, database
from benchmarks.rig import scratch

__all__ = ["run"]

_CHILD: Final = (
    "import time; began_s = time.time(); from benchmarks import w5_child; w5_child.{}({!r}, {!r}, {!r}, began_s)"
)


class _Life(msgspec.Struct):
    """What one restart showed."""

    seconds: float
    lost: int
    twice: int


def _child(life: str, folder: Path, dsn: str, count: int) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path) or "."}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a program in use has its bytecode; compiling it costs 0.15 s
    script = _CHILD.format(life, str(folder), dsn, count)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment)


def _said(child: "subprocess.Popen[bytes]", word: str) -> float:
    """The number behind the word that the child says next. Raises AssertionError when it says something else."""
    assert child.stdout is not None
    line = child.stdout.readline().decode().split()
    assert line[:1] == [word], f"the child should have said {word!r} and said {line}"
    return float(line[1]) if line[1:] else 0.0


def _crash(folder: Path, dsn: str, count: int) -> set[str]:
    """Live until all are in flight, then die; gives the instances whose first step is committed."""
    with _child("first_life", folder, dsn, count) as child:
        _said(child, "flying")
        os.kill(child.pid, signal.SIGKILL)
    found = ask(dsn, "SELECT instance_id FROM tasks WHERE ordinal = 0 AND state = 'Success'")
    return {row[0] for row in found}


def _restart(folder: Path, dsn: str, count: int, committed: set[str]) -> _Life:
    with _child("second_life", folder, dsn, count) as child:
        seconds = _said(child, "queued")
        _said(child, "done")
    assert child.returncode == 0, "the second life should end in order"
    ends = ask(dsn, "SELECT count(*) FROM instances WHERE state = 'Success'")[0][0]
    ran = Counter((folder / "first-steps").read_text().split())
    return _Life(seconds, lost=count - ends, twice=sum(ran[instance] != 1 for instance in committed))


def run(settings: Settings) -> Outcome:
    """As many lives and deaths as there are runs, each on a new file."""
    count = 50 if settings.small else 10_000
    lives, took = [], []
    for _ in range(settings.runs):
        with scratch() as folder, database(settings.store, folder, "w5") as dsn:
            committed = _crash(folder, dsn, count)
            began_s = time.perf_counter()
            lives.append(_restart(folder, dsn, count, committed))
            took.append(time.perf_counter() - began_s)
    return Outcome(
        workload="w5",
        figures=[
            Figure(name="first line to all queued", unit="s", samples=[life.seconds for life in lives], at_most=2.0),
            Figure(name="first line to all done", unit="s", samples=took),
            Figure(name="instances lost", unit="", samples=[life.lost for life in lives], at_most=0),
            Figure(name="committed steps run twice", unit="", samples=[life.twice for life in lives], at_most=0),
        ],
        facts={"instances": count},
    )
