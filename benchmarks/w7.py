"""W7: instances started through the HTTP API over 64 connections, and looked at, against a bare Litestar handler.

The servers run in processes of their own, in turns; this process makes the load. An answer to a start comes after its
commit, and the instance (one no-op task) runs to its end besides.
"""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Final

import msgspec
import uvloop

from benchmarks.figures import Figure, Outcome, Settings
from benchmarks.rig import ratios, scratch
from benchmarks.w7_load import Answers, drive, request

__all__ = ["run"]

CONNECTIONS: Final = 64
_CHILD: Final = "from benchmarks import w7_child; w7_child.{}({!r})"
_START_S: Final = 30.0
_DEFINITION: Final = b'{"id": "w7", "params": {"n": 0}, "tasks": [{"name": "only", "job": "noop"}]}'


class _Round(msgspec.Struct):
    """Requests a second, and what one of them took."""

    starts: float
    gets: float
    cold_gets: float
    start_p99_ms: float
    get_p99_ms: float


@contextmanager
def _server(kind: str, folder: Path) -> Iterator[str]:
    """A server process; gives its address once it answers."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path) or "."}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", _CHILD.format(kind, str(folder))]
    with open(folder / "said", "wb") as said, subprocess.Popen(command, env=environment, stderr=said) as child:
        try:
            yield _address(kind, folder, child)
        finally:
            child.terminate()
            child.wait(60)


def _address(kind: str, folder: Path, child: "subprocess.Popen[bytes]") -> str:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s and child.poll() is None:
        if kind == "bare" and (folder / "address").exists() and (text := (folder / "address").read_text()):
            return text
        for note in (folder / "servers").glob("*.json"):
            found: str = msgspec.json.decode(note.read_bytes())["address"]
            return found
        time.sleep(0.05)  # another process writes a file; there is nothing to wait on
    said = (folder / "said").read_text()[-2000:]
    raise AssertionError(f"the {kind} server did not start, exit code {child.poll()}: {said}")


def _run(address: str, requests: list[bytes]) -> Answers:
    return uvloop.run(drive(address, requests, CONNECTIONS))


def _execute(token: str, n: int) -> bytes:
    return request("POST", "/api/v1/workflows/w7/execute", token, b'{"params": {"n": %d}}' % n)


def _get(token: str, instance_id: str) -> bytes:
    return request("GET", f"/api/v1/instances/{instance_id}", token)


def _bare(folder: Path, starts: int, gets: int) -> _Round:
    with _server("bare", folder) as address:
        _run(address, [_execute("", n) for n in range(200)])
        started = _run(address, [_execute("", n) for n in range(starts)])
        looked = _run(address, [_get("", "0192f3c1-0000-7000-8000-000000000000")] * gets)
    return _round(started, looked, looked, starts, gets)


def _whole(folder: Path, starts: int, gets: int) -> _Round:
    with _server("whole", folder) as address:
        token = (folder / "token").read_text().strip()
        uploaded = _run(address, [request("POST", "/api/v1/workflows", token, _DEFINITION)])
        assert uploaded.statuses == {201: 1}, uploaded.bodies
        _run(address, [_execute(token, n) for n in range(200)])
        started = _run(address, [_execute(token, n) for n in range(starts)])
        ids = [msgspec.json.decode(body)["data"]["instance_id"] for body in started.bodies]
        _rest(folder, starts + 200)
        looked = _run(address, [_get(token, ids[n % len(ids)]) for n in range(gets)])
    with _server("whole", folder) as address:  # a new process, which has seen none of them
        cold = _run(address, [_get(token, each) for each in ids])
    assert len(set(ids)) == starts, "an instance was told twice"
    assert all(b'"Success"' in body for body in looked.bodies + cold.bodies), "an instance did not succeed"
    return _round(started, looked, cold, starts, gets)


def _rest(folder: Path, total: int) -> None:
    """Until every instance has ended, so that looking is measured alone. Raises AssertionError when one is missing."""
    db = sqlite3.connect(folder / "w7.db")
    deadline_s = time.monotonic() + 60
    ended = 0
    while ended != total and time.monotonic() < deadline_s:
        time.sleep(0.1)  # another process commits; there is nothing to wait on
        (ended,) = db.execute("SELECT count(*) FROM instances WHERE state = 'Success'").fetchone()
    db.close()
    assert ended == total, f"{ended} of {total} instances have succeeded"


def _round(started: Answers, looked: Answers, cold: Answers, starts: int, gets: int) -> _Round:
    assert started.statuses == {202: starts}, started.statuses
    assert looked.statuses == {200: gets}, looked.statuses
    return _Round(
        starts=starts / started.took_s,
        gets=gets / looked.took_s,
        cold_gets=len(cold.bodies) / cold.took_s,
        start_p99_ms=quantiles(started.latencies_s, n=100)[98] * 1e3,
        get_p99_ms=quantiles(looked.latencies_s, n=100)[98] * 1e3,
    )


def run(settings: Settings) -> Outcome:
    """Bare and whole in turns, each on new files."""
    starts, gets = (150, 150) if settings.small else (10_000, 20_000)
    bare, whole = [], []
    for _ in range(settings.runs):
        with scratch() as folder:
            bare.append(_bare(folder, starts, gets))
        with scratch() as folder:
            whole.append(_whole(folder, starts, gets))
    started, looked = [each.starts for each in whole], [each.gets for each in whole]
    bare_started, bare_looked = [each.starts for each in bare], [each.gets for each in bare]
    return Outcome(
        workload="w7",
        figures=[
            Figure(name="durable starts", unit="1/s", samples=started),
            Figure(name="a bare handler's", unit="1/s", samples=bare_started),
            Figure(name="share of the bare handler", unit="", samples=ratios(started, bare_started), at_least=0.35),
            Figure(name="a start, p99", unit="ms", samples=[each.start_p99_ms for each in whole]),
            Figure(name="GET of an instance", unit="1/s", samples=looked),
            Figure(name="a bare handler's", unit="1/s", samples=bare_looked),
            Figure(name="share of the bare handler", unit="", samples=ratios(looked, bare_looked), at_least=0.5),
            Figure(name="GET of one not in memory", unit="1/s", samples=[each.cold_gets for each in whole]),
            Figure(name="a GET, p99", unit="ms", samples=[each.get_p99_ms for each in whole]),
        ],
        facts={"connections": CONNECTIONS, "starts": starts, "looks": gets},
    )
