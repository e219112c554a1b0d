"""The floor: the durable work of W1 and W2 without an engine. The engine is judged as a share of it.

Plain asyncio, one writer that commits for everybody, the engine's own tables, statements and guards, the same
`synchronous = FULL`, one hop to the database's thread for a whole transaction, no-op functions called in between.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from benchmarks.floor_rows import Row, done, ended, event, ready, started
from taskengine.ambient import Ambient
from taskengine.store.dialect import SQLITE
from taskengine.store.queries import queries
from taskengine.store.sqlite_thread import WorkThread

__all__ = ["Writer", "w1", "w2"]

Body = Callable[..., Coroutine[Any, Any, Any]]
SQL: Final = queries(SQLITE)
WRITES: Final = ("insert_instance", "change_instance", "insert_task", "change_task", "insert_event")
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode
clock, ids = Ambient().clock, Ambient().ids


class Writer:
    """Whatever arrives while a commit runs goes into the next one."""

    def __init__(self, thread: WorkThread) -> None:
        self._thread, self._busy, self.commits, self.rows = thread, False, 0, 0
        self._waiting: list[tuple[Sequence[Row], asyncio.Future[None]]] = []

    def save(self, *rows: Row) -> "asyncio.Future[None]":
        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, saved))
        if not self._busy:
            self._busy, self._task = True, asyncio.create_task(self._drain())
        return saved

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._thread.run(partial(self._write, [rows for rows, _ in batch]))
            for _, saved in batch:
                saved.set_result(None)
        self._busy = False

    def _write(self, batch: Sequence[Sequence[Row]], db: sqlite3.Connection) -> None:
        by_statement: dict[str, list[tuple[Any, ...]]] = {name: [] for name in WRITES}
        for decision in batch:
            for name, values in decision:
                by_statement[name].append(values)
        self.commits += 1
        db.execute("BEGIN IMMEDIATE")
        db.execute(SQL["begin_batch"], (1, 0, self.commits))
        for name, rows in by_statement.items():
            if rows and db.executemany(SQL[name], rows).rowcount != len(rows):
                raise RuntimeError(f"{name}: a row is not where it was left")
            self.rows += len(rows)
        db.execute(SQL["forget_batches"], (1, 0, self.commits - 1))
        db.execute("COMMIT")


async def w1(writer: Writer, bodies: Sequence[Body], x: int) -> int:
    """Functions one after the other, each result durable before the next: three of them are four commits."""
    key, began = ids.uuid7(), clock.now_us()
    first = event(key, 1, began, [[0, "step-0", "offer", "Ready", 1, ""]], (0, 0, 0, len(bodies), 0, 0, 0))
    await writer.save(started(key, encode({"x": x}), began), ready(key, 0, "step-0"), first)
    for n, body in enumerate(bodies, 1):
        result, now, name, last = encode(await body(x=x)), clock.now_us(), f"step-{n - 1}", n == len(bodies)
        moves = [[n - 1, name, "dispatch", "Running", 1, ""], [n - 1, name, "succeed", "Success", 1, ""]]
        if not last:
            moves.append([n, f"step-{n}", "offer", "Ready", 1, ""])
        then = ended(key, began, now) if last else ready(key, n, f"step-{n}")
        happened = event(key, n + 1, now, moves, (n, 0, 0, len(bodies) - n, 0, 0, 0))
        await writer.save(done(key, n - 1, name, n, now, result), then, happened)
        x = decode(result)
    return x


async def w2(writer: Writer, body: Body, width: int, chunk: int = 256) -> None:
    """One function, then `width` of them at the same time, then one: a fan-out saved and run in chunks."""
    key, began = ids.uuid7(), clock.now_us()
    seq, names, total = iter(range(1, 1 << 30)), [f"task-{n}" for n in range(width + 2)], width + 2

    async def offer(tasks: range, *more: Row) -> None:
        moves = [[n, names[n], "offer", "Ready", 1, ""] for n in tasks]
        rows = [ready(key, n, names[n]) for n in tasks]
        await writer.save(*more, *rows, event(key, next(seq), began, moves, (0, 0, 0, total, 0, 0, 0)))

    async def run(tasks: range, *more: Row) -> None:
        results, now = await asyncio.gather(*[body() for _ in tasks]), clock.now_us()
        rows = [done(key, n, names[n], n + 1, now, encode(it)) for n, it in zip(tasks, results, strict=True)]
        both = (("dispatch", "Running"), ("succeed", "Success"))
        moves = [[n, names[n], *move, 1, ""] for n in tasks for move in both]
        await writer.save(*rows, *more, event(key, next(seq), now, moves, (0, 0, 0, total, 0, 0, 0)))

    async def offer_and_run(tasks: range) -> None:
        await offer(tasks)
        await run(tasks)

    await offer(range(1), started(key, b"{}", began))
    await run(range(1))
    middle = range(1, width + 1)
    await asyncio.gather(*[offer_and_run(middle[at : at + chunk]) for at in range(0, width, chunk)])
    await offer(range(width + 1, width + 2))
    await run(range(width + 1, width + 2), ended(key, began, clock.now_us()))
