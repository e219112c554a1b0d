"""What only the store in a file can do wrong: its lock, its log, its modes, its readers, its full disk."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskengine.ambient import Ambient
from taskengine.clock import ManualClock
from taskengine.errors import (
    InvalidConfiguration,
    SchemaTooNew,
    StoreCorrupt,
    StoreError,
    StoreLocked,
    StoreUnavailable,
    Unavailable,
)
from taskengine.model.states import TaskState
from taskengine.probe import Probe
from taskengine.store import codec, migrations, place, sqlite, sqlite_thread
from taskengine.store.batch import Batch, merge
from taskengine.store.lock import Holder, holder_of
from taskengine.store.queries import folder
from taskengine.store.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "工作" / "engine 100%?.db"


New = Callable[..., SqliteStore]


@pytest.fixture
async def new() -> AsyncIterator[New]:
    """Makes stores and closes them: the thread of a forgotten one would keep the test run from ending."""
    made: list[SqliteStore] = []

    def build(path: Path, ambient: Ambient | None = None, **options: Any) -> SqliteStore:
        made.append(SqliteStore(path, ambient or Ambient(clock=ManualClock()), **options))
        return made[-1]

    yield build
    for store in made:
        await store.close()


@pytest.fixture
async def store(new: New, path: Path) -> SqliteStore:
    store = new(path)
    await store.open()
    return store


def _batch(store: SqliteStore, number: int, *writes: Any) -> Batch:
    return merge(writes, epoch=store.epoch, lane=0, number=number, acknowledged=number - 1)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _size(path: Path) -> int:
    return path.stat().st_size


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def _query(path: Path, sql: str) -> list[Any]:
    db = sqlite3.connect(path)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


Child = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def child() -> Iterator[Child]:
    """Starts a Python that runs a script; it is gone at the end of the test."""
    running: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", script, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


HOLD = """
import asyncio, sys
from taskengine.ambient import Ambient
from taskengine.store.sqlite import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1], Ambient())
    await store.open()
    await store.note_address("http://127.0.0.1:7878")
    print(store.epoch, flush=True)
    sys.stdin.read()
    await store.close()

asyncio.run(main())
"""


async def test_a_file_has_one_process_and_a_killed_one_frees_it(new: New, path: Path, child: Child) -> None:
    holder = child(HOLD, path)
    assert _line(holder) == "1"
    second = new(path)
    with pytest.raises(StoreLocked) as locked:
        await second.open()
    assert locked.value.args == (str(path), f"pid {holder.pid}, http://127.0.0.1:7878")
    holder.kill()
    holder.wait()
    await second.open()
    assert second.epoch == 2


async def test_a_program_that_is_started_meanwhile_does_not_inherit_the_lock(
    new: New, path: Path, child: Child
) -> None:
    store = new(path)
    await store.open()
    other = child("import sys; print('ready', flush=True); sys.stdin.read()")
    assert _line(other) == "ready"
    await store.close()
    await store.open()
    await store.close()


async def test_two_names_of_one_file_share_its_lock(new: New, store: SqliteStore, path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with pytest.raises(StoreLocked, match=f"pid {os.getpid()}"):
        await new(link).open()


async def test_a_store_that_failed_to_open_can_be_opened_later(new: New, store: SqliteStore, path: Path) -> None:
    second = new(path)
    with pytest.raises(StoreLocked):
        await second.open()
    await store.close()
    await second.open()
    await second.close()


async def test_a_deleted_lock_file_does_not_make_two_writers(
    new: New, store: SqliteStore, path: Path, make: Any
) -> None:
    path.with_name(path.name + ".lock").unlink()
    thief = new(path)
    await thief.open()
    with pytest.raises(StoreLocked, match="epoch 2 after our 1"):
        await store.commit(_batch(store, 1, make.start("a")))
    await thief.commit(_batch(thief, 1, make.start("b")))
    assert [row.id for row in await thief.instances()] == ["b"]


async def test_files_are_for_nobody_else(store: SqliteStore, path: Path, make: Any) -> None:
    await store.commit(_batch(store, 1, make.start("a")))
    modes = {entry.name.removeprefix(path.name): _mode(entry) for entry in path.parent.iterdir()}
    assert modes == dict.fromkeys(["", "-wal", "-shm", ".lock"], 0o600)
    assert _mode(path.parent) == 0o700


async def test_the_folder_of_others_keeps_its_mode(new: New, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    store = new(tmp_path / "a.db")
    await store.open()
    await store.close()
    assert _mode(tmp_path) == 0o755


async def test_a_folder_that_cannot_be_made_is_a_clear_error(new: New, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidConfiguration, match="file"):
        await new(tmp_path / "file" / "a.db").open()


async def test_the_writer_syncs_every_commit(store: SqliteStore) -> None:
    def settings(db: sqlite3.Connection) -> list[Any]:
        names = ("journal_mode", "synchronous", "wal_autocheckpoint", "foreign_keys")
        return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await store._writer.run(settings) == ["wal", 2, 0, 0]


async def test_rows_are_readable_with_any_client(store: SqliteStore, path: Path, make: Any) -> None:
    await store.commit(_batch(store, 1, make.start("a", params='{"表": "x"}'.encode())))
    assert _query(path, "SELECT id, state, params ->> '$.表' FROM instances") == [("a", "Running", "x")]
    assert _query(path, "SELECT ordinal, state FROM tasks") == [(0, "Ready")]
    assert _query(path, "SELECT body ->> '$.state' FROM events") == [("Running",)]


async def test_old_batch_rows_are_forgotten(store: SqliteStore, path: Path) -> None:
    for number in range(1, 8):
        await store.commit(_batch(store, number))
    assert _query(path, "SELECT number FROM batches") == [(6,), (7,)]
    await store.close()
    await store.open()
    assert _query(path, "SELECT number FROM batches") == []


async def test_a_reader_sees_only_what_is_committed(new: New, path: Path, make: Any) -> None:
    applied, go = threading.Event(), threading.Event()

    class Holds(Probe):
        """Stands still behind the last statement, before COMMIT."""

        def reach(self, point: str) -> None:
            if point == "commit.applied":
                applied.set()
                assert go.wait(10)

    store = new(path, Ambient(probe=Holds()))
    reader = new(path, read_only=True)
    await store.open()
    await reader.open()
    commit = asyncio.get_running_loop().create_task(store.commit(_batch(store, 1, make.start("a"))))
    assert await asyncio.to_thread(applied.wait, 10)
    assert [await it.instance("a") for it in (store, reader)] == [None, None]
    go.set()
    await commit
    assert [(await it.load(["a"]))["a"].last_seq for it in (store, reader)] == [1, 1]


async def test_an_instance_is_loaded_as_of_one_moment(
    store: SqliteStore, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.commit(_batch(store, 1, make.start("a")))
    reading, go = threading.Event(), threading.Event()
    task_row = codec.task_row

    def slow(values: codec.Values) -> Any:
        reading.set()
        assert go.wait(10)
        return task_row(values)

    monkeypatch.setattr(codec, "task_row", slow)
    load = asyncio.get_running_loop().create_task(store.load(["a"]))
    assert await asyncio.to_thread(reading.wait, 10)
    await store.commit(_batch(store, 2, make.move("a", 2)))
    go.set()
    loaded = (await load)["a"]
    assert (loaded.tasks[0].state, loaded.last_seq) == (TaskState.READY, 1)
    assert (await store.load(["a"]))["a"].last_seq == 2


async def test_a_cancelled_wait_neither_stops_a_commit_nor_mixes_up_answers(store: SqliteStore, make: Any) -> None:
    commit = asyncio.get_running_loop().create_task(store.commit(_batch(store, 1, make.start("a"))))
    read = asyncio.get_running_loop().create_task(store.count_instances())
    await asyncio.sleep(0)
    commit.cancel()
    read.cancel()
    await asyncio.gather(commit, read, return_exceptions=True)
    await store.commit(_batch(store, 2, make.start("b")))
    assert {row.id for row in await store.instances()} == {"a", "b"}


async def _reads_at_once(store: SqliteStore, wanted: int, patience_s: float) -> int:
    """How many of `wanted` reads are inside their connections' threads at the same time."""
    inside, go = threading.Semaphore(0), threading.Event()

    def slow(db: sqlite3.Connection) -> int:
        inside.release()
        assert go.wait(10)
        return int(db.execute("SELECT count(*) FROM instances").fetchone()[0])

    reads = [asyncio.get_running_loop().create_task(store._read(slow)) for _ in range(wanted)]
    try:
        arrived = [await asyncio.to_thread(inside.acquire, timeout=patience_s) for _ in range(wanted)]
    finally:
        go.set()
        await asyncio.gather(*reads)
    return sum(arrived)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("readers", [1, 2, 3])
async def test_so_many_reads_overlap_as_there_are_readers(
    new: New, store: SqliteStore, path: Path, readers: int, read_only: bool
) -> None:
    await store.close()
    other = new(path, read_only=read_only, readers=readers)
    await other.open()
    # All that can come in do so at once; only the one too many makes us wait, and not for long.
    assert await _reads_at_once(other, readers, patience_s=10) == readers
    assert await _reads_at_once(other, readers + 1, patience_s=0.3) == readers


READ = """
import asyncio, sys
from taskengine.ambient import Ambient
from taskengine.store.sqlite import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1], Ambient(), read_only=True)
    await store.open()
    for line in sys.stdin:
        print(await store.count_instances(), store.epoch, flush=True)
    await store.close()

asyncio.run(main())
"""


async def test_another_process_reads_while_this_one_writes(
    store: SqliteStore, path: Path, make: Any, child: Child
) -> None:
    reader = child(READ, path)
    assert reader.stdin is not None
    for number in range(3):
        print(file=reader.stdin, flush=True)
        assert _line(reader) == f"{number} 0"
        await store.commit(_batch(store, number + 1, make.start(f"i{number}")))


async def test_a_file_can_be_read_when_nobody_has_it_open(new: New, store: SqliteStore, path: Path, make: Any) -> None:
    await store.commit(_batch(store, 1, make.start("a")))
    await store.close()
    reader = new(path, read_only=True)
    await reader.open()
    assert [row.id for row in await reader.instances()] == ["a"]
    with pytest.raises(StoreError, match="reading only"):
        await reader.commit(Batch(epoch=1, lane=0, number=2, acknowledged=1))


async def test_reading_makes_no_file(new: New, path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="no such database"):
        await new(path, read_only=True).open()
    assert not path.parent.exists()


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_newer_schema_is_refused(new: New, store: SqliteStore, path: Path, read_only: bool) -> None:
    await store.close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("INSERT INTO schema_migrations VALUES (99, 'future', 0)")
    db.close()
    with pytest.raises(SchemaTooNew) as refused:
        await new(path, read_only=read_only).open()
    assert refused.value.args == (99, len(migrations.load(folder("sqlite"))))


async def test_an_older_schema_is_not_read(new: New, path: Path) -> None:
    _put(path, "")
    with pytest.raises(StoreError, match="schema 0"):
        await new(path, read_only=True).open()


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_file_that_is_no_database_is_refused(new: New, path: Path, read_only: bool) -> None:
    _put(path, "名单\n" * 500)
    with pytest.raises(StoreCorrupt, match="NOTADB"):
        await new(path, read_only=read_only).open()
    assert _size(path) == len("名单\n".encode()) * 500


async def test_the_database_of_another_program_is_left_alone(new: New, path: Path) -> None:
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE bookmarks (url TEXT)")
    db.close()
    with pytest.raises(InvalidConfiguration, match="another program"):
        await new(path).open()
    assert _query(path, "SELECT name FROM sqlite_schema") == [("bookmarks",)]


async def test_a_foreign_write_lock_is_no_refusal(
    store: SqliteStore, path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.close()
    monkeypatch.setattr(sqlite_thread, "BUSY_TIMEOUT_S", 0.01)
    await store.open()
    other = sqlite3.connect(path, isolation_level=None)
    batch = _batch(store, 1, make.start("a"))
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
            await store.commit(batch)
        other.execute("ROLLBACK")
        await store.commit(batch)
    finally:
        other.close()
    assert [row.id for row in await store.instances()] == ["a"]


@pytest.fixture
def small_log(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sqlite, "LOG_LIMIT_BYTES", 1 << 20)
    return 1 << 20


async def _grow(store: SqliteStore, make: Any) -> list[int]:
    """Sizes of the log while forty commits of a quarter of a megabyte each are made."""
    await store.open()
    sizes = []
    for number in range(1, 41):
        params = b'"' + b"x" * (1 << 18) + b'"'
        await store.commit(_batch(store, number, make.start(f"i{number}", params=params)))
        sizes.append(_size(store.path.with_name(store.path.name + "-wal")))
    assert await store.count_instances() == 40
    return sizes


async def test_the_log_stays_short(new: New, path: Path, make: Any, small_log: int) -> None:
    store = new(path)
    assert max(await _grow(store, make)) < 2 * small_log
    await store.close()
    assert not path.with_name(path.name + "-wal").exists()


async def test_a_log_without_bound_is_noticed(
    new: New, path: Path, make: Any, small_log: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteStore, "_bound_log", lambda self, db: None)
    assert max(await _grow(new(path), make)) > 8 * small_log


FULL = """
import asyncio, resource, sys
from pathlib import Path
from taskengine.ambient import Ambient
from taskengine.errors import StoreUnavailable
from taskengine.model.events import EventBody
from taskengine.model.records import *
from taskengine.model.states import InstanceState
from taskengine.store.batch import merge
from taskengine.store.sqlite import SqliteStore

def start(name):
    event = EventRow(instance_id=name, seq=1, at_us=1, body=EventBody(state=InstanceState.RUNNING))
    row = InstanceRow(id=name, workflow_id="w", version="v", params=b'"' + b"x" * 200_000 + b'"')
    return Decision(instance_id=name, event=event, instance=InstanceChange(row))

async def main():
    path = Path(sys.argv[1])
    store = SqliteStore(path, Ambient())
    await store.open()
    def batch(number):
        return merge([start(f"i{number}")], epoch=store.epoch, lane=0, number=number, acknowledged=number - 1)
    try:
        await store.commit(batch(1))
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        number = 1
        try:
            while True:
                number += 1
                await store.commit(batch(number))
        except StoreUnavailable as exc:
            print("refused", exc)
        for _ in range(2):
            try:
                await store.commit(batch(number))
                print("committed?")
            except StoreUnavailable:
                pass
        print("readable", await store.count_instances() == number - 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await store.commit(batch(number))
        await store.commit(batch(number + 1))
        print("goes on", await store.count_instances() == number + 1)
    finally:
        await store.close()

asyncio.run(main())
"""


def test_a_full_disk_is_survived(path: Path, child: Child) -> None:
    process = child(FULL, path)
    said, _ = process.communicate(timeout=60)
    lines = said.splitlines()
    assert process.returncode == 0, said
    assert "SQLITE_IOERR_WRITE" in lines[0]
    assert lines[1:] == ["readable True", "goes on True"]
    assert _query(path, "PRAGMA integrity_check") == [("ok",)]


async def test_a_full_database_is_unavailable_until_there_is_room(store: SqliteStore, make: Any) -> None:
    await store.commit(_batch(store, 1, make.start("a")))
    await store._writer.run(lambda db: db.execute("PRAGMA max_page_count = 40").fetchall())
    batch = _batch(store, 2, make.start("b", params=b'"' + b"x" * 200_000 + b'"'))
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="SQLITE_FULL"):
            await store.commit(batch)
    assert [row.id for row in await store.instances()] == ["a"]
    await store._writer.run(lambda db: db.execute("PRAGMA max_page_count = 4000").fetchall())
    await store.commit(batch)
    assert await store.count_instances() == 2


async def test_closing_twice_at_once_keeps_the_lock_until_the_end(store: SqliteStore, path: Path) -> None:
    first, second = (asyncio.get_running_loop().create_task(store.close()) for _ in range(2))
    await second
    assert first.done()
    await store.open()


async def test_the_noted_address_goes_with_the_lock(new: New, store: SqliteStore, path: Path) -> None:
    await store.note_address("http://127.0.0.1:8080")
    reader = new(path, read_only=True)
    await reader.open()
    await reader.note_address("http://127.0.0.1:9")
    assert holder_of(path) == Holder(pid=os.getpid(), address="http://127.0.0.1:8080")
    await store.note_address("")
    assert holder_of(path) == Holder(pid=os.getpid())
    await store.close()
    with pytest.raises(Unavailable):
        await store.note_address("http://127.0.0.1:8080")
    assert holder_of(path) == Holder()


async def test_normal_durability_survives_a_kill(new: New, path: Path, child: Child) -> None:
    process = child(CRASH.replace("sys.argv[1], ", 'sys.argv[1], durability="normal", ambient='), path)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (-9, "i1\n")
    store = new(path)
    await store.open()
    assert [row.id for row in await store.instances()] == ["i1"]


CRASH = """
import asyncio, os, signal, sys
from taskengine.ambient import Ambient
from taskengine.model.events import EventBody
from taskengine.model.records import *
from taskengine.model.states import InstanceState
from taskengine.probe import Probe
from taskengine.store.batch import merge
from taskengine.store.sqlite import SqliteStore

class Dies(Probe):
    armed = False
    def reach(self, point):
        if self.armed:
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    probe = Dies()
    store = SqliteStore(sys.argv[1], Ambient(probe=probe))
    await store.open()
    for number in (1, 2):
        event = EventRow(instance_id=f"i{number}", seq=1, at_us=1, body=EventBody(state=InstanceState.RUNNING))
        row = InstanceRow(id=f"i{number}", workflow_id="w", version="v")
        decision = Decision(instance_id=row.id, event=event, instance=InstanceChange(row))
        line = LogRow(instance_id=row.id, id=number, task="t", attempt=1, level="info", message="", at_us=1)
        token = TokenRow(id=row.id, name="n", scope="read", digest="00", created_us=1)
        definition = DefinitionRow(workflow_id="w", version="v", canonical=b"{}", created_us=1)
        writes = [decision, LogBatch((line,)), token, definition if number == 1 else WorkflowRemoval(workflow_id="w")]
        await store.commit(merge(writes, epoch=store.epoch, lane=0, number=number, acknowledged=number - 1))
        print(row.id, flush=True)
        Dies.armed = True
    await store.close()

asyncio.run(main())
"""


async def test_a_kill_before_commit_leaves_nothing_of_the_batch(new: New, path: Path, child: Child) -> None:
    process = child(CRASH, path)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (-9, "i1\n")
    store = new(path)
    await store.open()
    assert [row.id for row in await store.instances()] == ["i1"]
    assert await store.events("i2") == await store.logs("i2") == []
    assert [line.id for line in await store.logs("i1")] == [1]
    assert [token.id for token in await store.tokens()] == ["i1"]
    assert await store.current("w") is not None


async def test_a_network_file_system_is_refused_unless_insisted(
    new: New, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = path.parent.parent / "mountinfo"
    mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:9 / {path.parent.parent} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr(place, "_MOUNTS", mounts)
    for read_only in (False, True):
        with pytest.raises(InvalidConfiguration, match=r"network file system \(nfs4\)"):
            await new(path, read_only=read_only).open()
    assert not path.parent.exists()
    store = new(path, allow_network=True)
    await store.open()
    await store.close()
