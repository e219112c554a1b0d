"""A run whose process died is still Running in its store; who looks at it is told that nobody runs it."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from taskengine.cli.local.runs import RunRecord, Runs
from taskengine.clock import Micros
from taskengine.model.ids import InstanceId
from taskengine.store.lock import FileLock, holder_of


def record_at(path: Path, *, own: bool = True) -> RunRecord:
    return RunRecord(id=InstanceId("i"), dsn=str(path), own=own, created_us=Micros(0))


def a_pid_that_is_gone() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_store_whose_holder_is_alive_is_not_abandoned(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "a.db")
    lock.acquire()
    assert holder_of(tmp_path / "a.db").pid == os.getpid()
    assert not Runs().seems_abandoned(record_at(tmp_path / "a.db"))
    lock.release()
    assert Runs().seems_abandoned(record_at(tmp_path / "a.db")), "a clean end leaves no note"


def test_a_store_whose_holder_was_killed_is_abandoned(tmp_path: Path) -> None:
    (tmp_path / "a.db.lock").write_bytes(msgspec.json.encode({"pid": a_pid_that_is_gone()}))
    assert Runs().seems_abandoned(record_at(tmp_path / "a.db"))


def test_of_a_shared_database_nothing_is_said(tmp_path: Path) -> None:
    assert not Runs().seems_abandoned(record_at(tmp_path / "a.db", own=False))
