"""Work for a connection's thread: what is handed in together travels together, and nobody hears another's fault."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import aiosqlite
import pytest

from taskengine.errors import StoreError, Unavailable
from taskengine.store.sqlite_thread import WorkThread

LIMIT_S = 20.0


@pytest.fixture
async def thread(tmp_path: Path) -> AsyncIterator[WorkThread]:
    path = tmp_path / "t.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")
    db.close()
    work = WorkThread(path, read_only=False)
    await work.open()
    yield work
    await work.close()


class _Busy:
    """Keeps the thread at work until the test says so."""

    def __init__(self, thread: WorkThread) -> None:
        self._gate, self._begun = threading.Event(), threading.Event()
        self._thread = thread

    def work(self, db: sqlite3.Connection) -> None:
        self._begun.set()
        assert self._gate.wait(LIMIT_S)

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._thread.run(self.work))
        assert await asyncio.to_thread(self._begun.wait, LIMIT_S)

    async def __aexit__(self, *exc_info: object) -> None:
        self._gate.set()
        await self._task


def _insert(n: int) -> object:
    def work(db: sqlite3.Connection) -> int:
        db.execute("BEGIN")
        db.execute("INSERT INTO numbers VALUES (?)", (n,))
        return n

    return work


async def _numbers(thread: WorkThread) -> list[int]:
    return await thread.run(lambda db: [n for (n,) in db.execute("SELECT n FROM numbers ORDER BY n")])


async def test_short_pieces_that_wait_wake_the_thread_once(thread: WorkThread, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    commit = aiosqlite.Connection.commit

    async def counted(self: aiosqlite.Connection) -> None:
        calls.append(1)
        await commit(self)

    monkeypatch.setattr(aiosqlite.Connection, "commit", counted)
    async with _Busy(thread):
        asked = [asyncio.create_task(thread.run(lambda db, n=n: n, alone=False)) for n in range(50)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*asked) == list(range(50))
    assert len(calls) == 2, "one for what kept it busy, one for all the others"
    assert (thread.queued, thread.long) == (0, 0)


async def test_each_piece_has_its_own_outcome_and_transaction(thread: WorkThread) -> None:
    async with _Busy(thread):
        asked = [asyncio.create_task(thread.run(_insert(n), alone=False)) for n in (1, 2, 1, 3)]  # type: ignore[arg-type]
        asked.append(asyncio.create_task(thread.run(lambda db: 1 // 0, alone=False)))
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [outcomes[n] for n in (0, 1, 3)] == [1, 2, 3]
    assert isinstance(outcomes[2], StoreError)
    assert isinstance(outcomes[4], ZeroDivisionError)
    assert await _numbers(thread) == [1, 2, 3]


@pytest.mark.parametrize("first", [True, False])
async def test_who_stops_waiting_does_not_take_the_others_answers(thread: WorkThread, first: bool) -> None:
    async with _Busy(thread):
        asked = [asyncio.create_task(thread.run(_insert(n), alone=False)) for n in range(3)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        gone = asked.pop(0 if first else -1)
        gone.cancel()
        await asyncio.sleep(0)
        assert gone.cancelled()
    assert await asyncio.wait_for(asyncio.gather(*asked), LIMIT_S) == ([1, 2] if first else [0, 1])
    assert await _numbers(thread) == [0, 1, 2], "the work is done all the same"
    assert thread.queued == 0


async def test_long_work_is_not_joined_and_pieces_keep_their_order(thread: WorkThread) -> None:
    order: list[str] = []

    def piece(name: str) -> object:
        return lambda db: order.append(name)

    async with _Busy(thread):
        asked = []
        for name, alone in (("a", False), ("b", False), ("long", True), ("c", False), ("d", False)):
            asked.append(asyncio.create_task(thread.run(piece(name), alone=alone)))  # type: ignore[arg-type]
            await asyncio.sleep(0)
        assert (thread.queued, thread.long) == (6, 2)
    await asyncio.gather(*asked)
    assert order == ["a", "b", "long", "c", "d"]


async def test_what_was_handed_in_before_the_close_is_answered(thread: WorkThread) -> None:
    asked = [asyncio.create_task(thread.run(_insert(n), alone=False)) for n in range(5)]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await thread.close()
    assert await asyncio.wait_for(asyncio.gather(*asked), LIMIT_S) == list(range(5))
    with pytest.raises(Unavailable):
        await thread.run(lambda db: None)


def test_an_open_that_fails_leaves_no_thread_behind(tmp_path: Path) -> None:
    async def fail() -> int:
        before = threading.active_count()
        with pytest.raises(StoreError):
            await WorkThread(tmp_path, read_only=True).open()  # a folder
        return threading.active_count() - before

    assert [asyncio.run(fail()) for _ in range(50)] == [0] * 50
