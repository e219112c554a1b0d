"""A store on a database server, with the line to it cut, silent, slow and refused."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from databases.asking import ask, kind_of
from databases.fixtures import every_server

from faults.proxy import Proxy
from taskengine.ambient import Ambient
from taskengine.errors import BatchRefused, StoreLocked, StoreUnavailable
from taskengine.model.events import EventBody
from taskengine.model.ids import InstanceId, Version, WorkflowId
from taskengine.model.records import Decision, EventRow, InstanceChange, InstanceRow
from taskengine.model.states import InstanceState, Phase
from taskengine.store.batch import Batch, merge
from taskengine.store.interface import Store
from taskengine.store.opening import open_store

pytestmark = every_server


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    with Proxy(dsn) as line:
        yield line


@pytest.fixture
async def store(proxy: Proxy) -> Any:
    opened = open_store(proxy.dsn, Ambient())
    await opened.open()
    yield opened
    proxy.let_pass()
    proxy.accept()
    await opened.close()


def batch(store: Store, number: int, lane: int = 0) -> Batch:
    """The start of an instance that is called by the number."""
    name = InstanceId(f"i{number}")
    row = InstanceRow(id=name, workflow_id=WorkflowId("w"), version=Version("v"), phase=Phase.RUN)
    event = EventRow(instance_id=name, seq=1, at_us=1, body=EventBody(state=InstanceState.RUNNING))
    start = Decision(instance_id=name, event=event, instance=InstanceChange(row))
    return merge([start], epoch=store.epoch, lane=lane, number=number, acknowledged=0)


async def insist(store: Store, made: Batch) -> None:
    """As the checkpointer does: the same batch again. A lane that was cut while it idled says so once."""
    for left in (2, 1, 0):
        try:
            await store.commit(made)
        except StoreUnavailable:
            if not left:
                raise
        else:
            return


async def stored(store: Store) -> list[str]:
    return [row.id for row in await store.instances(descending=False)]


async def test_a_commit_whose_answer_was_cut_off_is_known_when_it_is_sent_again(store: Store, proxy: Proxy) -> None:
    proxy.cut_commit("after")
    first = batch(store, 1)
    with pytest.raises(StoreUnavailable):
        await store.commit(first)
    await store.commit(first)
    assert await stored(store) == ["i1"]
    await store.commit(batch(store, 2))
    assert await stored(store) == ["i1", "i2"]


async def test_a_commit_that_never_arrived_happens_when_it_is_sent_again(store: Store, proxy: Proxy) -> None:
    proxy.cut_commit("before")
    first = batch(store, 1)
    with pytest.raises(StoreUnavailable):
        await store.commit(first)
    assert await stored(store) == []
    await store.commit(first)
    assert await stored(store) == ["i1"]


async def test_another_number_for_the_same_batch_is_found_out(store: Store, proxy: Proxy) -> None:
    """Else the two laws above would hold for a store that forgets what it did."""
    proxy.cut_commit("after")
    with pytest.raises(StoreUnavailable):
        await store.commit(batch(store, 1))
    again = batch(store, 1)
    with pytest.raises(BatchRefused):
        await store.commit(merge_as(again, 2))


def merge_as(made: Batch, number: int) -> Batch:
    return Batch(
        epoch=made.epoch, lane=made.lane, number=number, acknowledged=0, instances=made.instances, events=made.events
    )


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
async def test_links_that_were_cut_while_they_idled_come_back(store: Store, proxy: Proxy, reset: bool) -> None:
    """A reader's at once; a lane's says so, since what was sent may have arrived."""
    await store.commit(batch(store, 1))
    assert await stored(store) == ["i1"]
    proxy.cut_all(reset=reset)
    assert await stored(store) == ["i1"]
    await insist(store, batch(store, 2))
    assert await stored(store) == ["i1", "i2"]


async def test_a_server_that_refuses_is_unavailable_and_then_there_again(store: Store, proxy: Proxy) -> None:
    proxy.refuse()
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await store.instance(InstanceId("i1"))
        with pytest.raises(StoreUnavailable):
            await store.commit(batch(store, 1))
    proxy.accept()
    await store.commit(batch(store, 1))
    await asyncio.sleep(0.6)  # after a refusal a reader tries again half a second later
    assert await stored(store) == ["i1"]


async def test_a_line_that_is_silent_ends_the_wait(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    module = "postgresql" if kind_of(dsn) == "postgresql" else "mysql_link"
    monkeypatch.setattr(f"taskengine.store.{module}._WAIT_S", 0.3)
    await store.commit(batch(store, 1))
    assert await stored(store) == ["i1"]
    proxy.swallow()
    second = batch(store, 2)
    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailable):
            await store.commit(second)
        with pytest.raises(StoreUnavailable):
            await store.instance(InstanceId("i1"))
    proxy.cut_all()
    proxy.let_pass()
    await asyncio.sleep(0.6)  # after a failed connection a reader tries again half a second later
    await insist(store, second)
    assert await stored(store) == ["i1", "i2"]


async def test_a_slow_line_only_takes_its_time(store: Store, proxy: Proxy) -> None:
    proxy.delay_s = 0.2
    await store.commit(batch(store, 1))
    assert await stored(store) == ["i1"]


async def test_a_reader_that_is_cancelled_does_no_harm(store: Store, proxy: Proxy) -> None:
    await store.commit(batch(store, 1))
    proxy.delay_s = 0.5
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await store.instances()
    proxy.delay_s = 0
    assert await stored(store) == ["i1"]


async def test_backends_that_an_administrator_ends_come_back(store: Store, dsn: str) -> None:
    await store.commit(batch(store, 1))
    if kind_of(dsn) == "postgresql":
        ask(dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip
    else:
        others = "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
        for (number,) in ask(dsn, others)[0]:
            ask(dsn, f"KILL {number}")
    assert await stored(store) == ["i1"]
    await insist(store, batch(store, 2))
    assert await stored(store) == ["i1", "i2"]


async def test_a_second_owner_is_refused_and_told_who_is_there(store: Store, dsn: str) -> None:
    other = open_store(dsn, Ambient())
    await store.note_address("http://127.0.0.1:7777")
    with pytest.raises(StoreLocked, match=r"pid \d+ on .*, http://127.0.0.1:7777"):
        await other.open()
    await other.close()


async def test_whoever_loses_the_lock_can_write_no_more(store: Store, proxy: Proxy, dsn: str) -> None:
    """The line of the owner is silent for so long that the server ends it, and another process takes over."""
    await store.commit(batch(store, 1))
    proxy.refuse()
    other = open_store(dsn, Ambient())
    for _ in range(50):
        try:
            await other.open()
        except StoreLocked:
            await asyncio.sleep(0.1)  # the server has not yet seen that the connection is gone
        else:
            break
    proxy.accept()
    with pytest.raises(StoreLocked):
        await insist(store, batch(store, 2))
    with pytest.raises(StoreLocked):
        await insist(store, batch(store, 3, lane=1))
    assert await stored(other) == ["i1"]
    await other.close()


async def test_a_connection_of_ours_that_lives_on_over_there_does_not_keep_us_out(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    """It has the owner's lock, and soon the very batch that is sent again; nobody tells the server that it is dead."""
    module = "postgresql" if kind_of(dsn) == "postgresql" else "mysql_link"
    for lane in (0, 1):
        await store.commit(batch(store, lane, lane))
    with monkeypatch.context() as patch:
        patch.setattr(f"taskengine.store.{module}._WAIT_S", 0.3)
        proxy.hide_the_dead()
        proxy.swallow()
        for lane in (0, 1):
            with pytest.raises(StoreUnavailable):
                await store.commit(batch(store, 2 + lane, lane))
    proxy.let_pass()
    for lane in (0, 1):
        await insist(store, batch(store, 2 + lane, lane))
    assert await stored(store) == ["i0", "i1", "i2", "i3"]
    await store.keep(0)
    await store.commit(batch(store, 4))
    assert await stored(store) == ["i0", "i1", "i2", "i3", "i4"]
