"""A copy of a database in use: whole, of one moment, and nothing under its name until it is."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from databases.filling import fill

from taskengine.ambient import Ambient
from taskengine.clock import ManualClock
from taskengine.errors import Conflict, InvalidConfiguration, InvalidInput, StoreCorrupt, StoreError
from taskengine.store import sqlite_backup
from taskengine.store.batch import merge
from taskengine.store.checksums import checksum
from taskengine.store.migrations import load
from taskengine.store.queries import folder
from taskengine.store.sqlite import SqliteStore
from taskengine.store.sqlite_backup import Backup, back_up
from taskengine.store.tables import TABLES

SCHEMA = len(load(folder("sqlite")))


def unheard(done: int, total: int) -> None:
    """Nobody listens."""


def copy(source: Path, target: Path, **how: Any) -> Backup:
    return back_up(source, target, **{"force": False, "told": unheard, **how})


@pytest.fixture
async def source(tmp_path: Path) -> Path:
    """A database with some thousand pages."""
    store = SqliteStore(tmp_path / "live" / "engine.db", Ambient(clock=ManualClock()))
    await store.open()
    await fill(store, 400)
    await store.close()
    return store.path


async def sums(path: Path) -> list[Any]:
    store = SqliteStore(path, Ambient(clock=ManualClock()), read_only=True)
    await store.open()
    try:
        return [await checksum(store, table) for table in TABLES]
    finally:
        await store.close()


def leftovers(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


async def test_a_copy_is_the_same_and_can_be_opened(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "副本.db"
    made = copy(source, target)
    assert (made.path, made.schema, made.size_bytes) == (str(target), SCHEMA, target.stat().st_size)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert leftovers(tmp_path) == ["live", "副本.db"]
    assert await sums(target) == await sums(source)
    store = SqliteStore(target, Ambient())
    await store.open()
    assert store.epoch == 2
    await store.close()


async def test_a_copy_is_of_one_moment_while_the_owner_writes(
    source: Path, tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner commits between every two slices, and empties its log; the copy neither sees it nor begins again."""
    monkeypatch.setattr(sqlite_backup, "SLICE_PAGES", 50)
    before = await sums(source)
    owner = sqlite3.connect(source, isolation_level=None, check_same_thread=False)
    steps: list[int] = []

    def write(done: int, total: int) -> None:
        steps.append(done)
        owner.execute("INSERT INTO workflows VALUES (?, 'v')", (f"new {len(steps)}",))
        owner.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    copy(source, tmp_path / "b.db", told=write)
    owner.close()
    assert len(steps) > 10
    assert steps == sorted(set(steps)), "it never began again"
    assert await sums(tmp_path / "b.db") == before
    after = await sums(source)
    assert [found.table for found, was in zip(after, before, strict=True) if found != was] == ["workflows"]


async def test_the_owner_is_not_held_up(tmp_path: Path, make: Any) -> None:
    """Its store commits on while somebody else's copy stands still."""
    path = tmp_path / "engine.db"
    store = SqliteStore(path, Ambient(clock=ManualClock()))
    await store.open()
    await fill(store, 200)
    standing, going_on = threading.Event(), threading.Event()

    def stand(done: int, total: int) -> None:
        standing.set()
        assert going_on.wait(30)

    thread = threading.Thread(target=copy, args=(path, tmp_path / "b.db"), kwargs={"told": stand})
    thread.start()
    try:
        assert standing.wait(30)
        rows = [make.start(f"late {n}") for n in range(50)]
        for number, row in enumerate(rows, 1):
            await store.commit(merge([row], epoch=store.epoch, lane=0, number=1000 + number, acknowledged=0))
    finally:
        going_on.set()
        thread.join()
        await store.close()
    looker = SqliteStore(tmp_path / "b.db", Ambient(), read_only=True)
    await looker.open()
    assert await looker.count_instances() == 200
    await looker.close()


async def test_a_file_that_is_there_is_replaced_only_by_force(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.db"
    target.write_text("precious")
    with pytest.raises(Conflict, match="--force"):
        copy(source, target)
    assert target.read_text() == "precious"
    copy(source, target, force=True)
    assert leftovers(tmp_path) == ["b.db", "live"]
    assert await sums(target) == await sums(source)


async def test_a_file_that_somebody_puts_there_meanwhile_stays(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.db"
    with pytest.raises(Conflict, match="--force"):
        copy(source, target, told=lambda done, total: target.write_text("precious"))
    assert target.read_text() == "precious"
    assert leftovers(tmp_path) == ["b.db", "live"]


@pytest.mark.parametrize("name", ["engine.db", "engine.db-wal", "engine.db-shm", "engine.db.lock", "link"])
async def test_the_database_itself_is_never_written_over(source: Path, name: str) -> None:
    (source.parent / "link").symlink_to(source)
    before = await sums(source)
    with pytest.raises(InvalidInput, match="belongs to the database"):
        copy(source, source.with_name(name), force=True)
    assert await sums(source) == before


async def test_a_target_that_can_be_none_is_told_before_anything_is_read(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"is a folder; .*/engine\.db"):
        copy(source, tmp_path)
    with pytest.raises(InvalidInput, match="no such folder"):
        copy(source, tmp_path / "nowhere" / "b.db")
    with pytest.raises(InvalidConfiguration, match="no such database"):
        copy(tmp_path / "nothing.db", tmp_path / "b.db")
    assert leftovers(tmp_path) == ["live"]


def test_what_is_no_database_of_ours_is_not_copied(tmp_path: Path) -> None:
    empty, theirs, rubbish = (tmp_path / name for name in ("empty.db", "theirs.db", "rubbish.db"))
    empty.touch()
    db = sqlite3.connect(theirs)
    db.execute("CREATE TABLE a (x)")
    db.close()
    rubbish.write_text("no database " * 1000)
    for path, error in ((empty, InvalidConfiguration), (theirs, InvalidConfiguration), (rubbish, StoreCorrupt)):
        with pytest.raises(error):
            copy(path, tmp_path / "b.db")
    assert leftovers(tmp_path) == ["empty.db", "rubbish.db", "theirs.db"]


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 8192 * 4096)
        file.write(os.urandom(16_384))


async def test_a_damaged_database_is_not_taken_for_a_good_copy(source: Path, tmp_path: Path) -> None:
    damage(source)
    with pytest.raises(StoreError):
        copy(source, tmp_path / "b.db")
    assert leftovers(tmp_path) == ["live"]


class Stop(Exception):
    """Ctrl-C, say."""


async def test_nothing_remains_of_a_copy_that_was_interrupted(source: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        copy(source, tmp_path / "b.db", told=stop)
    assert leftovers(tmp_path) == ["live"]


KILLED = """
import os, signal, sys
from pathlib import Path
from taskengine.store import sqlite_backup
from taskengine.store.batch import merge

sqlite_backup.SLICE_PAGES = 50
die_in = sys.argv[3]

def die(*anything, **more):
    os.kill(os.getpid(), signal.SIGKILL)

if die_in != "copying":
    setattr(sqlite_backup, die_in, die)
sqlite_backup.back_up(Path(sys.argv[1]), Path(sys.argv[2]), force=True, told=die if die_in == "copying" else print)
"""


def kill_in(moment: str, source: Path, target: Path) -> int:
    command = [sys.executable, "-c", KILLED, str(source), str(target), moment]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False, timeout=60).returncode


@pytest.mark.parametrize("moment", ["copying", "_check", "_sync", "_name"])
async def test_a_copy_that_was_killed_leaves_the_one_before(source: Path, tmp_path: Path, moment: str) -> None:
    target = tmp_path / "b.db"
    copy(source, target)
    db = sqlite3.connect(source)
    db.execute("DELETE FROM logs")
    db.commit()
    db.close()
    before = target.read_bytes()
    assert kill_in(moment, source, target) == -signal.SIGKILL
    assert target.read_bytes() == before
    assert [name for name in leftovers(tmp_path) if not name.endswith(".partial")] == ["b.db", "live"]
    copy(source, target, force=True)
    assert await sums(target) == await sums(source)
