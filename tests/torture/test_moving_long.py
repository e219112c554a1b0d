"""`db move` of a hundred thousand instances through all databases and back: the same data, in bounded memory."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from databases.filling import fill
from torture.figures import note

from taskengine.ambient import Ambient
from taskengine.store.opening import open_store

pytestmark = [pytest.mark.torture, pytest.mark.servers]

INSTANCES = int(os.environ.get("TASKENGINE_TEST_MOVED_INSTANCES", "100000"))
MOST_MB = 300.0
PATIENCE_S = 1800.0


_MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, end="")
sys.exit(code)
"""
"""A small process in between: a child's peak counts what its parent had when it was made, and a test run is large."""


def db(*words: str) -> list[str]:
    return [sys.executable, "-m", "taskengine", "db", *words]


def checksums(dsn: str) -> Any:
    done = subprocess.run(
        db("status", "--db", dsn, "--checksums", "--json", "-q"), capture_output=True, check=True, timeout=PATIENCE_S
    )
    return json.loads(done.stdout)["checksums"]


def ended(command: Sequence[str]) -> tuple[list[dict[str, Any]], float, float]:
    """What it printed, the seconds it took, and the most memory that it had, in MB."""
    began_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", _MEASURED, *command], stdout=subprocess.PIPE, timeout=PATIENCE_S)
    assert done.returncode == 0
    out, most_kb = done.stdout.rsplit(b"\n", 1)
    return json.loads(out), time.monotonic() - began_s, int(most_kb) / 1024


def moved(source: str, target: str) -> tuple[list[dict[str, Any]], float, float]:
    """Killed once in its middle, and resumed. The seconds are of both."""
    began_s = time.monotonic()
    first = subprocess.Popen(db("move", source, target, "-q"), stdout=subprocess.DEVNULL)
    try:
        first.wait(max(3.0, INSTANCES / 20_000))
    except subprocess.TimeoutExpired:
        first.send_signal(signal.SIGKILL)
    killed = first.wait(PATIENCE_S) == -signal.SIGKILL
    assert killed, "it was over before it could be killed: more instances are needed"
    spent_s = time.monotonic() - began_s
    tables, took_s, most_mb = ended(db("move", source, target, "--resume", "--json", "-q"))
    return tables, spent_s + took_s, most_mb


def test_a_long_life_is_moved_through_all_databases_and_back(tmp_path: Path, new_dsn: Callable[[str], str]) -> None:
    first = new_dsn("sqlite")

    async def make() -> None:
        store = open_store(first, Ambient())
        await store.open()
        await fill(store, INSTANCES, longest=100)
        await store.close()

    asyncio.run(make())
    sums = checksums(first)
    rows = sum(each["rows"] for each in sums)
    here = first
    for kind in ("postgresql", "mysql", "sqlite"):
        there = new_dsn(kind)
        tables, took_s, most_mb = moved(here, there)
        assert [(each["table"], each["rows"], each["sha256"], each["equal"]) for each in tables] == [
            (each["table"], each["rows"], each["sha256"], True) for each in sums
        ]
        assert most_mb < MOST_MB
        note(
            "moving", to=kind, instances=INSTANCES, rows=rows, seconds=took_s, rows_per_s=rows / took_s, most_mb=most_mb
        )
        here = there
    assert checksums(here) == sums
