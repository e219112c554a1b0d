"""The floor's writers on database servers: one connection, the engine's own statements, whatever came goes together."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Self

import msgspec
import psycopg

from benchmarks.floor_rows import Row
from taskengine.ambient import Ambient
from taskengine.store import columns
from taskengine.store.batch import Batch
from taskengine.store.mysql import MySqlDriver
from taskengine.store.mysql_batch import CHANGES, Statement, framed, insert, update
from taskengine.store.postgresql import POSTGRESQL, PostgresDriver
from taskengine.store.queries import queries

__all__ = ["MySqlWriter", "PostgresWriter"]

_COLUMNS = {
    "insert_instance": ("instances", columns.INSTANCE),
    "change_instance": ("instances", columns.INSTANCE_CHANGE),
    "insert_task": ("tasks", columns.TASK),
    "change_task": ("tasks", columns.TASK_CHANGE),
    "insert_event": ("events", columns.EVENT),
}
_encode = msgspec.json.Encoder().encode


class _Writer:
    """Whatever arrives while a commit runs goes into the next one."""

    def __init__(self, link: Any, epoch: int) -> None:
        self._link, self._epoch, self._busy, self.commits, self.rows = link, epoch, False, 0, 0
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
            lists: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _COLUMNS}
            for rows, _ in batch:
                for name, values in rows:
                    lists[name].append(values)
            self.commits += 1
            self.rows += sum(map(len, lists.values()))
            await self._commit(lists)
            for _, saved in batch:
                saved.set_result(None)
        self._busy = False

    async def _commit(self, lists: dict[str, list[tuple[Any, ...]]]) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        await self._link.close()


class PostgresWriter(_Writer):
    """One call of the session's function a commit."""

    @classmethod
    async def begin(cls, dsn: str, epoch: int) -> Self:
        return cls(await PostgresDriver(dsn, Ambient(), durability="full").connect("lane"), epoch)

    async def _commit(self, lists: dict[str, list[tuple[Any, ...]]]) -> None:
        made = {
            name: _encode([dict(zip(_COLUMNS[name][1], row, strict=True)) for row in rows]).decode() if rows else None
            for name, rows in lists.items()
        }
        asked = (
            *(self._epoch, 0, self.commits, self.commits - 1, None, made["insert_instance"], made["change_instance"]),
            *(len(lists["change_instance"]), made["insert_task"], made["change_task"], len(lists["change_task"])),
            *(None, made["insert_event"], None),
        )
        try:
            await self._link.rows(_CALL, asked)
        except psycopg.Error as error:
            raise RuntimeError("a row is not where it was left") from error


_CALL = POSTGRESQL.marked(queries(POSTGRESQL)["commit_batch"])


class MySqlWriter(_Writer):
    """All statements in one packet, then the COMMIT."""

    @classmethod
    async def begin(cls, dsn: str, epoch: int) -> Self:
        return cls(await MySqlDriver(dsn, Ambient(), durability="full").connect("lane"), epoch)

    async def _commit(self, lists: dict[str, list[tuple[Any, ...]]]) -> None:
        batch = Batch(epoch=self._epoch, lane=0, number=self.commits, acknowledged=self.commits - 1)
        await self._link.run(framed(batch, self._rows(lists)), batch)

    def _rows(self, lists: dict[str, list[tuple[Any, ...]]]) -> Iterator[Statement]:
        for name, rows in lists.items():
            table, names = _COLUMNS[name]
            each = [(row,) for row in rows]
            if name.startswith("insert"):
                yield from insert(table, names, _same, each)
            else:
                yield from update(CHANGES[table], _same, each)


def _same(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row
