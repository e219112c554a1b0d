"""The pruner's manners: small commits, others first, whoever collects is told."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from taskengine.ambient import Ambient
from taskengine.bus import Bus
from taskengine.clock import ManualClock, Micros
from taskengine.engine.directory import Directory
from taskengine.engine.logbook import Logbook, Speaker
from taskengine.engine.pruner import EVERY_S, FIRST_S, REMOVED_AT_ONCE, SHARE, SLICE, Pruner
from taskengine.engine.retention import RETENTION
from taskengine.errors import CommitFailed, StoreUnavailable
from taskengine.functions import LogLine
from taskengine.model.definition import Retention
from taskengine.model.events import EventBody
from taskengine.model.ids import InstanceId, WorkflowId
from taskengine.model.records import Decision, EventRow, InstanceChange, InstanceRow
from taskengine.model.states import InstanceState, Phase
from taskengine.store.batch import Batch
from taskengine.store.checkpointer import Checkpointer
from taskengine.store.memory import MemoryStore
from taskengine.telemetry.masking import Mask

COMMIT_S = 2.0
DAY_S = 86_400


class SlowStore(MemoryStore):
    """Each commit takes the same time; what it did and when is kept."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(Ambient(clock=clock))
        self.clock, self.batches, self.times_s = clock, [], []
        self.failure: Exception | None = None
        self.commit_s = COMMIT_S

    async def commit(self, batch: Batch) -> None:
        if self.failure is not None:
            raise self.failure
        self.batches.append(batch)
        self.times_s.append(self.clock.monotonic())
        self.clock.tick(self.commit_s)
        await super().commit(batch)


class Rig:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = SlowStore(self.clock)
        self.ambient = Ambient(clock=self.clock)
        self.tasks: list[asyncio.Task[None]] = []
        self.directory = Directory()
        self.busy = False
        self.collected: list[Micros] = []
        self.checkpointer = Checkpointer(self.store, self.ambient, self.spawn, on_fatal=lambda error: None)
        self.logbook = Logbook(
            self.ambient, self.store, self.checkpointer, self.directory, Bus(self.ambient), self.spawn, Mask()
        )
        self.pruner = self.made()

    def spawn(self, work: Any) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    def made(self) -> Pruner:
        async def collect() -> None:
            self.collected.append(self.clock.now_us())

        return Pruner(
            self.ambient,
            self.store,
            self.checkpointer,
            self.directory,
            self.logbook,
            Retention(success_us=Micros(60_000_000), failed_us=None),
            self.spawn,
            lambda: self.busy,
            collect,
        )

    async def fill(self, count: int, *, events: int = 1) -> None:
        """Instances that ended a day ago."""
        failures: list[BaseException] = []

        def note(error: BaseException | None) -> None:
            failures.extend([] if error is None else [error])

        at_us = Micros(self.clock.now_us() - DAY_S * 1_000_000)
        for number in range(count):
            instance_id = InstanceId(f"i{number:05}")
            row = InstanceRow(
                id=instance_id,
                workflow_id=WorkflowId("w"),
                version="v",  # type: ignore[arg-type]
                phase=Phase.END,
                final=InstanceState.SUCCESS,
                created_us=at_us,
                finished_us=at_us,
            )
            for seq in range(1, events + 1):
                event = EventRow(instance_id=instance_id, seq=seq, at_us=at_us, body=EventBody(state=row.state))
                change = InstanceChange(row) if seq == 1 else None
                self.checkpointer.save(Decision(instance_id=instance_id, event=event, instance=change), note)
        await self.rest()
        assert not failures
        self.store.batches.clear()
        self.store.times_s.clear()

    def gaps(self) -> set[float]:
        """From the begin of each commit to that of the next."""
        times_s = self.store.times_s
        return {round(after - before, 3) for before, after in itertools.pairwise(times_s)}

    async def rest(self) -> None:
        for _ in range(200):
            await asyncio.sleep(0)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    await made.store.open()
    made.checkpointer.start()
    yield made
    made.pruner.close()
    await made.checkpointer.stop()
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_commits_are_small(rig: Rig) -> None:
    await rig.fill(REMOVED_AT_ONCE * 7 // 2, events=30)
    assert (await rig.pruner.prune(RETENTION)).instances == REMOVED_AT_ONCE * 7 // 2
    removed = [len(batch.instance_removals) for batch in rig.store.batches]
    assert removed == [REMOVED_AT_ONCE] * 3 + [REMOVED_AT_ONCE // 2]
    rig.store.batches.clear()
    await rig.pruner.sweep()
    assert {(batch.sweep, batch.rows) for batch in rig.store.batches} == {(SLICE, 0)}
    assert len(rig.store.batches) >= sum(removed) * 30 // (SLICE.rows + SLICE.instances)
    assert await rig.store.removed() == []


@pytest.mark.parametrize("busy", [False, True])
async def test_while_others_work_most_of_the_time_is_theirs(rig: Rig, busy: bool) -> None:
    await rig.fill(3 * REMOVED_AT_ONCE)
    rig.busy = busy
    rig.spawn(rig.pruner._pass())
    for _ in range(200):
        await rig.clock.advance(COMMIT_S)
    assert len(rig.store.times_s) >= 6
    assert rig.gaps() == {COMMIT_S / SHARE if busy else COMMIT_S}


async def test_that_a_commit_takes_long_because_of_others_slows_nobody_down_twice(rig: Rig) -> None:
    await rig.fill(2 * REMOVED_AT_ONCE)
    await rig.pruner.prune(RETENTION)
    await rig.pruner.sweep()
    await rig.fill(2 * REMOVED_AT_ONCE)
    rig.busy, rig.store.commit_s = True, 10 * COMMIT_S
    rig.spawn(rig.pruner._pass())
    for _ in range(200):
        await rig.clock.advance(COMMIT_S)
    assert max(rig.gaps()) < 2 * COMMIT_S / SHARE


async def test_the_rest_is_collected_once_a_day_and_after_a_removal_but_not_twice_in_an_hour(rig: Rig) -> None:
    async def passes(count: int) -> int:
        before = len(rig.collected)
        for _ in range(count):
            await rig.clock.advance(EVERY_S)
            await rig.rest()
        return len(rig.collected) - before

    rig.pruner.start()
    await rig.clock.advance(FIRST_S)
    await rig.rest()
    assert len(rig.collected) == 1
    a_day = DAY_S // int(EVERY_S)
    assert await passes(a_day - 1) == 0
    assert await passes(1) == 1
    await rig.fill(3)
    assert await passes(3) == 0
    assert await rig.store.removed() == []
    await rig.fill(3)
    assert await passes(3) == 0
    await rig.fill(3)
    assert await passes(1) == 1


async def test_a_commit_that_fails_ends_the_pass_and_not_the_pruner(rig: Rig) -> None:
    await rig.fill(2)
    rig.store.failure = StoreUnavailable("away")
    waits = asyncio.ensure_future(rig.pruner.prune(RETENTION))
    await rig.clock.advance(1)
    rig.store.failure = None
    for _ in range(10):
        await rig.clock.advance(5)
    assert (await waits).instances == 2
    assert rig.directory.leaving == set()


async def test_what_cannot_be_saved_is_told_and_is_there_as_before(rig: Rig) -> None:
    await rig.fill(2)
    await rig.checkpointer.stop()
    with pytest.raises(CommitFailed):
        await rig.pruner.prune(RETENTION)
    assert rig.directory.leaving == set()
    assert await rig.store.count_instances() == 2


Hold = Callable[[Rig, InstanceId], None]

HOLDS: dict[str, Hold] = {
    "in memory": lambda rig, it: rig.directory.enter(it, object()),  # type: ignore[arg-type]
    "on its way into memory": lambda rig, it: rig.directory.coming.add(it),
    "a body goes on": lambda rig, it: rig.directory.bodies.add((it, 0, 1)),
    "lines are not saved": lambda rig, it: rig.logbook.add(
        Speaker(it, WorkflowId("w"), "t", 1, fresh=True), LogLine("info", "last words", Micros(1))
    ),
}


@pytest.mark.parametrize("why", HOLDS)
async def test_what_somebody_holds_stays(rig: Rig, why: str) -> None:
    await rig.fill(3)
    HOLDS[why](rig, InstanceId("i00001"))
    assert (await rig.pruner.prune(RETENTION)).instances == 2
    assert [row.id for row in await rig.store.instances()] == ["i00001"]


async def test_it_ends_when_it_is_told_to(rig: Rig) -> None:
    await rig.fill(3 * REMOVED_AT_ONCE)
    rig.busy = True
    rig.pruner.start()
    await rig.clock.advance(FIRST_S)
    await rig.rest()
    rig.pruner.close()
    for _ in range(100):
        await rig.clock.advance(EVERY_S)
    assert len(rig.store.batches) == 1
    assert await rig.store.count_instances() == 2 * REMOVED_AT_ONCE
