"""`store.moving`: every row arrives in every kind of database, or the target says that it is a part."""

import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from databases.filling import fill

from taskengine.ambient import Ambient
from taskengine.clock import ManualClock
from taskengine.errors import Conflict, InvalidInput, MoveUnfinished, StoreError, StoreLocked, StoreUnavailable
from taskengine.store import codec, pages
from taskengine.store.checksums import Checksum, checksum
from taskengine.store.interface import MoveNote, Store
from taskengine.store.moving import Moved, move
from taskengine.store.opening import open_store
from taskengine.store.sql_store import SqlStore
from taskengine.store.tables import TABLES, Table

KINDS = ("sqlite", "postgresql", "mysql")
INSTANCES = 2_000


def heard(table: str, rows: int) -> None:
    """Nobody listens."""


class World:
    """Opens and closes databases and moves one into another."""

    def __init__(self, new_dsn: Callable[[str], str], at_end: AsyncExitStack) -> None:
        self.new, self._at_end = new_dsn, at_end

    async def open(self, dsn: str, **options: Any) -> SqlStore:
        store = open_store(dsn, Ambient(clock=ManualClock()), **options)
        assert isinstance(store, SqlStore)
        self._at_end.push_async_callback(store.close)
        await store.open()
        return store

    async def filled(self, kind: str, instances: int = 40, **how: Any) -> str:
        dsn = self.new(kind)
        store = await self.open(dsn)
        await fill(store, instances, **how)
        await store.close()
        return dsn

    async def sides(self, source: str, target: str) -> tuple[SqlStore, SqlStore]:
        return await self.open(source, read_only=True, locked=True), await self.open(target, partial=True)

    async def move(
        self,
        source: str,
        target: str,
        *,
        resume: bool = False,
        told: Callable[[str, int], object] = heard,
        spoil: Callable[[SqlStore], object] = lambda store: None,
    ) -> Moved:
        """spoil: does something to the open target before."""
        here, there = await self.sides(source, target)
        spoil(there)
        try:
            return await move(here, there, ManualClock(), resume=resume, told=told)
        finally:
            await here.close()
            await there.close()

    async def sums(self, dsn: str, **how: Any) -> list[Checksum]:
        store = await self.open(dsn, read_only=True, partial=True)
        try:
            return [await checksum(store, table, **how) for table in TABLES]
        finally:
            await store.close()


@pytest.fixture
async def world(new_dsn: Callable[[str], str]) -> AsyncIterator[World]:
    async with AsyncExitStack() as at_end:
        yield World(new_dsn, at_end)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


# -- what arrives


@pytest.mark.servers
async def test_all_rows_go_around_all_databases_and_come_back_the_same(world: World, everything: Any) -> None:
    first = await world.filled("sqlite", INSTANCES)
    told = await everything(await world.open(first, read_only=True))
    sums = await world.sums(first)
    assert {found.table for found in sums if not found.rows} == set(), "every table has rows"
    here = first
    for there in (world.new("postgresql"), world.new("mysql"), world.new("sqlite")):
        moved = await world.move(here, there)
        assert moved.equal
        assert [each.target for each in moved.tables] == sums == await world.sums(there)
        here = there
    assert await everything(await world.open(here, read_only=True)) == told


@pytest.mark.parametrize(("source", "target"), [("postgresql", "sqlite"), ("mysql", "postgresql"), ("sqlite", "mysql")])
async def test_a_store_goes_on_where_it_was_after_a_move(
    world: World, rows: Any, everything: Any, source: str, target: str
) -> None:
    here, there = await world.filled(source), world.new(target)
    told = await everything(await world.open(here, read_only=True))
    assert (await world.move(here, there)).equal
    store = await world.open(there)
    assert await everything(store) == told
    # New definitions and commands come behind those that were moved: their numbers go on.
    newest = rows.definition("zz", "w0", created_us=max(row.created_us for row in await store.versions("w0")))
    await rows.commit(store, newest)
    assert (await store.versions("w0"))[0] == newest
    row = (await store.instances(limit=1))[0]
    before = await store.commands(row.id)
    seq = (await store.last_event(row.id)).seq + 1  # type: ignore[union-attr]
    commands = [rows.command(f"{n}") for n in (2, 1, 0)]
    await rows.commit(store, rows.decision(row.id, seq, commands=commands))
    assert [it.id for it in await store.commands(row.id)] == [*(it.id for it in before), "2", "1", "0"]


async def test_the_source_stays_as_it_was(world: World, kind: str) -> None:
    here = await world.filled(kind)
    store = await world.open(here, read_only=True)
    epoch, sums = await store.last_epoch(), await world.sums(here)
    await world.move(here, world.new("sqlite"))
    assert (await store.last_epoch(), await world.sums(here), await store.move_note()) == (epoch, sums, None)


@pytest.mark.servers
async def test_a_text_that_the_target_cannot_hold_is_replaced_and_counted(world: World) -> None:
    here = await world.filled("sqlite", nul=True)
    through = world.new("postgresql")
    moved = await world.move(here, through)
    assert moved.equal
    assert moved.replaced > 10
    assert await world.sums(here, holds_nul=False) == await world.sums(through) != await world.sums(here)
    back = await world.move(through, world.new("mysql"))
    assert (back.equal, back.replaced) == (True, 0)
    kept = await world.move(here, world.new("mysql"))
    assert (kept.equal, kept.replaced) == (True, 0)


@pytest.mark.servers
async def test_a_name_that_the_target_cannot_hold_ends_the_move(world: World, rows: Any) -> None:
    here, there = world.new("sqlite"), world.new("postgresql")
    store = await world.open(here)
    await rows.commit(store, rows.start("a\0b"))
    await store.close()
    with pytest.raises(StoreError, match=r"instances has the character U\+0000 in its id"):
        await world.move(here, there)
    with pytest.raises(MoveUnfinished):
        await world.open(there)


async def test_an_empty_database_is_moved_as_well(world: World, kind: str) -> None:
    here, there = world.new("sqlite"), world.new(kind)
    await (await world.open(here)).close()
    assert (await world.move(here, there)).equal
    await world.open(there)


# -- pages


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE_ROWS", 3)


async def _all(store: SqlStore, table: Table) -> list[list[codec.Values]]:
    found: list[list[codec.Values]] = []
    after = None
    while rows := list(await store.copy_out(table, after)):
        found.append(rows)
        after = pages.key_of(table, rows[-1])
    return found


async def test_pages_are_all_rows_once_in_the_order_of_their_key(
    world: World, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await world.open(await world.filled(kind))
    whole = {table.name: [row for page in await _all(store, table) for row in page] for table in TABLES}
    for size in (1, 3, 7):
        monkeypatch.setattr(pages, "PAGE_ROWS", size)
        for table in TABLES:
            found = await _all(store, table)
            assert all(len(page) == size for page in found[:-1])
            assert [row for page in found for row in page] == whole[table.name]
            keys = [pages.key_of(table, row) for row in whole[table.name]]
            assert keys == sorted(set(keys))


async def test_a_page_is_bounded_in_bytes_whatever_its_rows_are(world: World, kind: str, rows: Any) -> None:
    store = await world.open(world.new(kind))
    sizes = [10, 3_000_000, 10, 2_000_000, 6_000_000, 10, 10]
    tasks = [rows.task(n, result=b'"%s"' % (b"\xc3\xa9" * (size // 2))) for n, size in enumerate(sizes)]
    await rows.commit(store, rows.start("i", *tasks))
    (table,) = [table for table in TABLES if table.name == "tasks"]
    found = await _all(store, table)
    assert [[row[1] for row in page] for page in found] == [[0, 1, 2], [3], [4], [5, 6]]


# -- cut off, and resumed


class Cut(Exception):
    """The process ends here, for a test that has but one."""


def cutting(page: int, *, before: bool) -> Callable[[SqlStore], None]:
    """The target fails at the n-th page, before it is there or behind it."""

    def spoil(store: SqlStore) -> None:
        copy_in, count = store.copy_in, 0

        async def failing(table: Table, rows: Sequence[codec.Values], note: MoveNote) -> None:
            nonlocal count
            count += 1
            if count == page and before:
                raise Cut
            await copy_in(table, rows, note)
            if count == page:
                raise Cut

        store.copy_in = failing  # type: ignore[method-assign]

    return spoil


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("target", KINDS)
async def test_a_move_that_was_cut_off_anywhere_goes_on_and_is_whole(world: World, target: str) -> None:
    here = await world.filled("sqlite", 6)
    sums = await world.sums(here)
    there = world.new(target)
    for cuts, page in enumerate((1, 3, 5, 9, 2)):
        with pytest.raises(Cut):
            await world.move(here, there, resume=cuts > 0, spoil=cutting(page, before=cuts % 2 == 0))
        with pytest.raises(MoveUnfinished, match="--resume"):
            await world.open(there)
        with pytest.raises(MoveUnfinished):
            await world.open(there, read_only=True)
    steps: list[tuple[str, int]] = []
    moved = await world.move(here, there, resume=True, told=lambda table, rows: steps.append((table, rows)))
    assert moved.equal
    assert await world.sums(there) == sums
    assert steps[0][1] > 20, "it did not begin anew"
    assert (await (await world.open(there)).move_note()).finished_us is not None  # type: ignore[union-attr]


async def test_a_move_that_was_cut_off_while_it_compared_compares_again(world: World) -> None:
    here, there = await world.filled("sqlite"), world.new("sqlite")

    def leave(table: str, rows: int) -> None:
        if not table:
            raise Cut

    with pytest.raises(Cut):
        await world.move(here, there, told=leave)
    with pytest.raises(MoveUnfinished):
        await world.open(there)
    steps: list[str] = []
    assert (await world.move(here, there, resume=True, told=lambda table, rows: steps.append(table))).equal
    assert set(steps) == {""}


async def test_a_resumed_move_needs_the_source_as_it_was(world: World) -> None:
    here, there = await world.filled("sqlite"), world.new("sqlite")
    with pytest.raises(Cut):
        await world.move(here, there, spoil=cutting(3, before=False))
    with pytest.raises(Conflict, match="--resume"):
        await world.move(here, there)
    with pytest.raises(Conflict, match="not from"):
        await world.move(await world.filled("sqlite"), there, resume=True)
    await (await world.open(here)).close()  # a server, say
    with pytest.raises(Conflict, match="opened by somebody"):
        await world.move(here, there, resume=True)


# -- what is refused


async def test_a_target_with_rows_of_its_own_is_refused(world: World, kind: str) -> None:
    here, there = await world.filled("sqlite"), await world.filled(kind, 1)
    sums = await world.sums(there)
    with pytest.raises(Conflict, match="has rows in definitions"):
        await world.move(here, there)
    assert await world.sums(there) == sums
    await world.open(there)


async def test_there_is_nothing_to_resume_in_an_empty_target(world: World) -> None:
    here, there = await world.filled("sqlite"), world.new("sqlite")
    with pytest.raises(Conflict, match="no move to go on with"):
        await world.move(here, there, resume=True)
    assert (await world.move(here, there)).equal
    with pytest.raises(Conflict, match="completely"):
        await world.move(here, there)


async def test_both_sides_are_locked_meanwhile(world: World, kind: str) -> None:
    here, there = await world.filled(kind), world.new("sqlite")
    await world.sides(here, there)
    for dsn in (here, there):
        with pytest.raises(StoreLocked):
            await world.open(dsn)
    with pytest.raises(StoreLocked):
        await world.open(here, read_only=True, locked=True)


async def test_a_source_that_somebody_has_is_not_moved(world: World, kind: str) -> None:
    here = await world.filled(kind)
    await world.open(here)
    with pytest.raises(StoreLocked):
        await world.move(here, world.new("sqlite"))


async def test_a_database_is_not_moved_into_itself(world: World) -> None:
    here = await world.open(await world.filled("sqlite"))
    with pytest.raises(InvalidInput, match="another one"):
        await move(here, here, ManualClock(), resume=False, told=heard)


# -- the proof


def losing(store: SqlStore) -> None:
    """The last row of each page goes amiss."""
    copy_in = store.copy_in

    async def lossy(table: Table, rows: Sequence[codec.Values], note: MoveNote) -> None:
        await copy_in(table, rows[:-1] if table.name == "events" else rows, note)

    store.copy_in = lossy  # type: ignore[method-assign]


def changing(store: SqlStore) -> None:
    """One character of one row."""
    copy_in = store.copy_in

    async def sloppy(table: Table, rows: Sequence[codec.Values], note: MoveNote) -> None:
        if table.name == "logs":
            rows = [*rows[:-1], (*rows[-1][:-1], rows[-1][-1] + " ")]
        await copy_in(table, rows, note)

    store.copy_in = sloppy  # type: ignore[method-assign]


def renumbering(store: SqlStore) -> None:
    """The commands in another order than they were accepted in."""
    copy_in = store.copy_in

    async def shuffled(table: Table, rows: Sequence[codec.Values], note: MoveNote) -> None:
        if table.name == "commands":
            rows = [(*row[:-1], 1_000_000 - row[-1]) for row in rows]
        await copy_in(table, rows, note)

    store.copy_in = shuffled  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("spoil", "table"), [(losing, "events"), (changing, "logs"), (renumbering, "commands")], ids=lambda it: str(it)[:16]
)
async def test_what_is_not_the_same_is_told_and_never_opened(
    world: World, kind: str, spoil: Callable[[SqlStore], None], table: str
) -> None:
    here, there = await world.filled("sqlite"), world.new(kind)
    moved = await world.move(here, there, spoil=spoil)
    assert [each.source.table for each in moved.tables if not each.equal] == [table]
    assert not moved.equal
    with pytest.raises(MoveUnfinished):
        await world.open(there)


@pytest.mark.servers
async def test_a_source_that_was_taken_from_the_move_is_noticed(world: World) -> None:
    """A server that lost the connection with the lock on it gives the lock to the next one who asks."""
    here, there = await world.filled("postgresql"), world.new("sqlite")
    source, target = await world.sides(here, there)
    thieves: list[Store] = []

    async def robbed(table: Table, after: Any) -> Any:
        if not thieves:
            await source._lanes[0].close()  # type: ignore[attr-defined]  # what a cut does; there is no seam for it
            thieves.append(await world.open(here))
        return await copy_out(table, after)

    copy_out, source.copy_out = source.copy_out, robbed  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="opened by somebody"):
        await move(source, target, ManualClock(), resume=False, told=heard)
    await target.close()
    with pytest.raises(MoveUnfinished):
        await world.open(there)


async def test_a_page_whose_answer_was_lost_is_not_there_twice(world: World, kind: str) -> None:
    """The note is of the same transaction, so whoever goes on knows."""
    here, there = await world.filled("sqlite"), world.new(kind)

    def lost(store: SqlStore) -> None:
        copy_in = store.copy_in

        async def silent(table: Table, rows: Sequence[codec.Values], note: MoveNote) -> None:
            await copy_in(table, rows, note)
            if table.name == "tasks":
                raise StoreUnavailable("the connection is gone")

        store.copy_in = silent  # type: ignore[method-assign]

    with pytest.raises(StoreUnavailable):
        await world.move(here, there, spoil=lost)
    assert (await world.move(here, there, resume=True)).equal


async def test_the_checksum_is_what_its_description_says(world: World) -> None:
    """Computed once more with other tools."""
    path = await world.filled("sqlite", 20)
    sums = await world.sums(path)
    db = sqlite3.connect(path)
    try:
        for table, found in zip(TABLES, sums, strict=True):
            columns = [*table.columns, *(["rowid"] if table.numbered else [])]
            rows: Iterator[Any] = db.execute(
                f"SELECT {', '.join(columns)} FROM {table.name} ORDER BY {', '.join(table.key)}"
            )
            lines = [json.dumps(list(row), ensure_ascii=False, separators=(",", ":")) for row in rows]
            assert found.rows == len(lines)
            text = "".join(f"{line}\n" for line in lines)
            assert found.digest == hashlib.sha256(text.encode()).hexdigest(), table.name
    finally:
        db.close()
