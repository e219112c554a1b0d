"""Group commit: what goes together, in which order callers hear, what a bad decision and a bad day cost."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from taskengine.ambient import Ambient
from taskengine.clock import ManualClock
from taskengine.errors import BatchRefused, CommitFailed, DuplicateKey, LostInstance, StoreLocked, StoreUnavailable
from taskengine.model.ids import InstanceId
from taskengine.model.records import (
    DefinitionRow,
    FunctionRow,
    InstanceRemoval,
    LogBatch,
    LogRow,
    Sweep,
    TokenRow,
    Write,
)
from taskengine.model.states import InstanceState, Phase, TaskState
from taskengine.probe import Probe
from taskengine.store.batch import Batch
from taskengine.store.checkpointer import Checkpointer
from taskengine.store.lane import Lane
from taskengine.store.memory import MemoryStore


class FaultyStore(MemoryStore):
    """Commits when the test lets it, and fails when the test says so."""

    def __init__(self, ambient: Ambient, lanes: int) -> None:
        super().__init__(ambient, lanes=lanes)
        self.batches: list[Batch] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.gates: dict[int, asyncio.Event] = {}  # of single lanes, besides
        self.before: list[BaseException] = []  # raised instead of the next commits
        self.after: list[BaseException] = []  # raised although the next commits happen
        self.flying: list[int] = []  # lanes
        self.kept: list[int] = []  # lanes
        self.keeps: list[BaseException] = []  # raised by `keep`, one after the other
        self.most = 0

    async def commit(self, batch: Batch) -> None:
        self.batches.append(batch)
        assert batch.lane not in self.flying, "two commits at once"
        self.flying.append(batch.lane)
        self.most = max(self.most, len(self.flying))
        try:
            await self.gate.wait()
            if batch.lane in self.gates:
                await self.gates[batch.lane].wait()
            if self.before:
                raise self.before.pop(0)
            await super().commit(batch)
            if self.after:
                raise self.after.pop(0)
        finally:
            self.flying.remove(batch.lane)


class KeptStore(FaultyStore):
    """Its lanes want a word after twenty seconds."""

    @property
    def keep_after_s(self) -> float | None:
        return 20.0

    async def keep(self, lane: int) -> None:
        self.kept.append(lane)
        if self.keeps:
            raise self.keeps.pop(0)


class RecordingProbe(Probe):
    __slots__ = ("points", "then")

    def __init__(self) -> None:
        self.points: list[str] = []
        self.then: Callable[[str], object] = lambda point: None

    def reach(self, point: str) -> None:
        self.points.append(point)
        self.then(point)


class Numbers:
    """Metrics that remember."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.values: dict[str, list[float]] = {}

    def count(self, name: str, amount: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + amount

    def gauge(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    observe = gauge


class Rig:
    """A checkpointer on a faulty store, with everything recorded that its callers heard."""

    def __init__(self, log: Any, lanes: int = 1, store: type[FaultyStore] = FaultyStore, **options: Any) -> None:
        self.clock, self.probe, self.numbers = ManualClock(), RecordingProbe(), Numbers()
        self.ambient = Ambient(clock=self.clock, probe=self.probe, log=log, metrics=self.numbers)
        self.store = store(self.ambient, lanes)
        self.heard: list[tuple[Any, BaseException | None]] = []
        self.fatal: list[BaseException] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.checkpointer = Checkpointer(
            self.store,
            self.ambient,
            lambda work: self.tasks.append(asyncio.get_running_loop().create_task(work)),
            on_fatal=self.fatal.append,
            **options,
        )

    def save(self, write: Write, name: Any, then: Callable[[], None] = lambda: None) -> None:
        def ack(error: BaseException | None) -> None:
            self.heard.append((name, error))
            then()

        self.checkpointer.save(write, ack)

    async def settle(self) -> None:
        await self.clock.advance(0)

    @property
    def answers(self) -> dict[Any, type[BaseException] | None]:
        return {name: None if error is None else type(error) for name, error in self.heard}

    @property
    def order(self) -> list[Any]:
        return [name for name, _ in self.heard]


@pytest.fixture
def rigs(log: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes rigs with an open store and a started checkpointer; `kind` of its lanes, for sabotage."""

    async def build(kind: type[Lane] = Lane, **options: Any) -> Rig:
        monkeypatch.setattr("taskengine.store.checkpointer.Lane", kind)
        rig = Rig(log, **options)
        await rig.store.open()
        rig.checkpointer.start()
        await rig.settle()
        return rig

    return build


async def _finish(rig: Rig) -> None:
    rig.store.gate.set()
    stopping = asyncio.get_running_loop().create_task(rig.checkpointer.stop())
    await rig.settle()
    assert stopping.done()
    await stopping
    assert all(task.done() for task in rig.tasks)


async def test_what_arrives_during_a_commit_goes_into_the_next_one(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.store.gate.clear()
    rig.save(make.start("a"), "a")
    await rig.settle()
    for name in "bcd":
        rig.save(make.start(name), name)
    await rig.settle()
    assert [len(batch.events) for batch in rig.store.batches] == [1]
    rig.store.gate.set()
    await rig.settle()
    assert [len(batch.events) for batch in rig.store.batches] == [1, 3]
    assert rig.heard == [(name, None) for name in "abcd"]
    await _finish(rig)


async def test_saves_of_one_turn_of_the_loop_go_together(rigs: Any, make: Any) -> None:
    rig = await rigs()
    for name in "abc":
        rig.save(make.start(name), name)
    assert rig.store.batches == []
    await rig.settle()
    assert [len(batch.events) for batch in rig.store.batches] == [3]
    await _finish(rig)


async def _watch_order(rigs: Any, make: Any, kind: type[Checkpointer]) -> list[str]:
    """What happened in which order, with a second batch waiting when the first comes back."""
    rig = await rigs(kind)
    story: list[str] = []
    commit = rig.store.commit

    async def watched(batch: Batch) -> None:
        story.append(f"out {batch.events[0].instance_id}")
        await commit(batch)
        story.append(f"back {batch.events[0].instance_id}")

    rig.store.commit = watched
    rig.store.gate.clear()
    rig.save(make.start("a"), "a", lambda: story.append("told a"))
    await rig.settle()
    rig.save(make.start("b"), "b", lambda: story.append("told b"))
    await rig.settle()
    rig.store.gate.set()
    await rig.settle()
    await _finish(rig)
    return story


IN_ORDER = ["out a", "back a", "out b", "told a", "back b", "told b"]


async def test_the_next_batch_goes_out_before_the_last_is_acknowledged(rigs: Any, make: Any) -> None:
    assert await _watch_order(rigs, make, Lane) == IN_ORDER


class TellsBeforeTheCommit(Lane):
    async def _settle(self, batch: Any) -> None:
        for entry in batch:
            self._tell(entry, None)
            entry.ack = lambda error: None
        await super()._settle(batch)


async def test_an_acknowledgement_before_the_commit_is_noticed(rigs: Any, make: Any) -> None:
    story = await _watch_order(rigs, make, TellsBeforeTheCommit)
    assert story.index("told a") < story.index("back a")
    assert story != IN_ORDER


class TellsAtOnce(Lane):
    async def _settle(self, batch: Any) -> None:
        await super()._settle(batch)
        for entry in batch:
            self._tell(entry, entry.failure)
            entry.ack = lambda error: None


async def test_an_idle_disk_while_callers_are_told_is_noticed(rigs: Any, make: Any) -> None:
    assert await _watch_order(rigs, make, TellsAtOnce) != IN_ORDER


async def test_acknowledgements_come_in_the_order_of_the_saves(rigs: Any, make: Any) -> None:
    rig = await rigs(max_rows=7)
    names = [f"i{number}" for number in range(20)]
    for at, name in enumerate(names):
        rig.save(make.start(name, tasks=at % 4), name)
        if at % 3 == 0:
            rig.save(make.stale(name, 2), f"{name} stale")
    await rig.settle()
    await rig.settle()
    expected = [it for at, name in enumerate(names) for it in ([name, f"{name} stale"] if at % 3 == 0 else [name])]
    assert rig.order == expected
    assert [name for name, error in rig.heard if error is not None] == [it for it in expected if "stale" in it]
    await _finish(rig)


async def test_the_cap_never_cuts_a_decision(rigs: Any, make: Any) -> None:
    rig = await rigs(max_rows=10)
    for name, tasks in (("a", 3), ("b", 30), ("c", 3), ("d", 3), ("e", 0)):
        rig.save(make.start(name, tasks), name)
    assert rig.checkpointer.backlog == 5 + 32 + 5 + 5 + 2
    await rig.settle()
    assert [[event.instance_id for event in batch.events] for batch in rig.store.batches] == [
        ["a"],
        ["b"],
        ["c", "d"],
        ["e"],
    ]
    assert rig.checkpointer.backlog == 0
    await _finish(rig)


def _lines(*numbers: int, message: str = "") -> LogBatch:
    return LogBatch(
        tuple(
            LogRow(instance_id="a", id=number, task="t", attempt=1, level="info", message=message, at_us=1)
            for number in numbers
        )
    )


async def test_lines_of_a_log_count_one_by_one_and_stay_together(rigs: Any, make: Any) -> None:
    rig = await rigs(max_rows=10)
    for name, count in (("a", 5), ("b", 5), ("c", 12), ("d", 0)):
        rig.save(_lines(*range(count)), name)
    assert rig.checkpointer.backlog == 22
    await rig.settle()
    assert [len(batch.logs) for batch in rig.store.batches] == [10, 12, 0]
    assert rig.answers == dict.fromkeys("abcd")
    assert rig.checkpointer.backlog == 0
    await _finish(rig)


async def test_a_line_that_is_there_costs_nobody_anything(rigs: Any, make: Any) -> None:
    rig = await rigs()
    for name, write in enumerate((_lines(1), make.start("a"), _lines(1, 2, message="again"), make.move("a", 2))):
        rig.save(write, name)
    await rig.settle()
    assert rig.answers == dict.fromkeys(range(4))
    assert [(line.id, line.message) for line in await rig.store.logs("a")] == [(1, ""), (2, "again")]
    assert (len(rig.store.batches), rig.numbers.counts) == (1, {})
    await _finish(rig)


async def test_lines_that_cannot_be_stored_fail_alone(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.save(make.start("a"), "decision")
    rig.save(_lines(1), "lines")
    rig.save(_lines(2, 3, message="\ud83d"), "half a character")
    rig.save(make.move("a", 2), "next decision")
    rig.save(TokenRow(id="t", name="n", scope="read", digest="00", created_us=1), "token")
    await rig.settle()
    assert rig.answers == dict.fromkeys(["decision", "lines", "next decision", "token"]) | {
        "half a character": CommitFailed
    }
    assert [line.id for line in await rig.store.logs("a")] == [1]
    assert len(await rig.store.tokens()) == 1
    await _finish(rig)


async def test_decisions_of_one_instance_merge(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.save(make.start("a"), 1)
    rig.save(make.move("a", 2), 2)
    rig.save(make.move("a", 3, TaskState.RUNNING, TaskState.SUCCESS), 3)
    await rig.settle()
    (batch,) = rig.store.batches
    assert (len(batch.tasks), len(batch.events)) == (1, 3)
    assert (await rig.store.tasks("a"))[0].state is TaskState.SUCCESS
    await _finish(rig)


async def test_a_bad_record_fails_alone(rigs: Any, make: Any) -> None:
    rig = await rigs()
    for number in range(9):
        rig.save(make.stale("bad", 2) if number == 4 else make.start(f"i{number}"), number)
    await rig.settle()
    assert rig.answers == {number: LostInstance if number == 4 else None for number in range(9)}
    assert await rig.store.count_instances() == 8
    assert isinstance(rig.heard[4][1].__cause__, BatchRefused)
    assert rig.numbers.counts == {"commit.splits": 1, "commit.refused": 1}
    await _finish(rig)


async def test_one_bad_record_among_many_costs_few_commits(rigs: Any, make: Any) -> None:
    rig = await rigs()
    for number in range(500):
        rig.save(make.stale("bad", 2) if number == 321 else make.start(f"i{number}"), number)
    await rig.settle()
    await rig.settle()
    assert rig.order == list(range(500))
    assert [number for number, error in rig.heard if error is not None] == [321]
    assert len(rig.store.batches) < 25
    await _finish(rig)


class FailsTheBatch(Lane):
    async def _settle(self, batch: Any) -> None:
        refused = await self._commit(batch)
        for entry in batch:
            entry.failure = refused


async def test_a_batch_that_fails_as_a_whole_is_noticed(rigs: Any, make: Any) -> None:
    rig = await rigs(FailsTheBatch)
    for number in range(3):
        rig.save(make.stale("bad", 2) if number == 1 else make.start(f"i{number}"), number)
    await rig.settle()
    assert rig.answers[0] is not None
    await _finish(rig)


async def test_a_broken_chain_within_a_batch_fails_only_its_end(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.save(make.start("a"), 1)
    rig.save(make.start("b"), 2)
    rig.save(make.stale("a", 2), 3)
    await rig.settle()
    assert rig.answers == {1: None, 2: None, 3: LostInstance}
    await _finish(rig)


async def test_what_its_instance_saved_later_fails_too(rigs: Any, make: Any) -> None:
    rig = await rigs(max_rows=6)
    rig.save(make.start("a"), 1)
    await rig.settle()
    rig.store.gate.clear()
    rig.save(make.start("b"), 2)
    await rig.settle()  # in flight
    rig.save(make.stale("a", 2), 3)
    rig.save(make.decision("a", 3), 4)  # same batch
    rig.save(make.start("c"), 5)
    rig.save(make.decision("a", 4), 6)  # a batch later
    rig.save(make.start("d"), 7)
    rig.store.gate.set()
    await rig.settle()
    await rig.settle()
    assert rig.order == [1, 2, 3, 4, 5, 6, 7]
    expected = {1: None, 2: None, 3: LostInstance, 4: CommitFailed, 5: None, 6: CommitFailed, 7: None}
    assert rig.answers == expected
    assert [event.seq for event in await rig.store.events("a")] == [1]
    await _finish(rig)


async def test_what_its_instance_saves_before_it_is_told_fails_too(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.save(make.start("a"), 1)
    await rig.settle()

    def meanwhile(point: str) -> None:
        """The actor goes on while its refused decision is on its way back."""
        if point == "commit.done":
            rig.save(make.decision("a", 3), "meanwhile")

    rig.probe.then = meanwhile
    rig.save(make.stale("a", 2), 2)
    rig.save(make.start("b"), 3)  # commits after the refusal, and before it is told
    await rig.settle()
    assert rig.answers == {1: None, 2: LostInstance, 3: None, "meanwhile": CommitFailed}
    assert [event.seq for event in await rig.store.events("a")] == [1]
    rig.probe.then = lambda point: None
    rig.save(make.decision("a", 2), "rebuilt")  # told and rebuilt: it may go on
    await rig.settle()
    assert rig.answers["rebuilt"] is None
    await _finish(rig)


async def test_a_removal_that_comes_too_late_fails_alone(rigs: Any, make: Any) -> None:
    """What its instance saves afterwards does not build on it."""
    rig = await rigs()
    rig.save(make.start("a"), 1)
    rig.save(make.start("gone", phase=Phase.END, final=InstanceState.SUCCESS), 2)
    await rig.settle()
    rig.save(make.start("b"), 3)
    rig.save(InstanceRemoval(instance_id=InstanceId("a"), run=1), 4)
    rig.save(InstanceRemoval(instance_id=InstanceId("gone"), run=1), 5)
    rig.save(make.decision("a", 2), 6)
    await rig.settle()
    assert rig.answers == {1: None, 2: None, 3: None, 4: LostInstance, 5: None, 6: None}
    assert [row.id for row in await rig.store.instances()] == ["b", "a"]
    assert await rig.store.removed() == ["gone"]
    await _finish(rig)


async def test_a_sweep_takes_the_room_of_what_it_deletes_at_most(rigs: Any, make: Any) -> None:
    rig = await rigs(max_rows=100)
    rig.store.gate.clear()
    rig.save(make.start("a"), 1)
    await rig.settle()
    for number in range(2, 5):
        rig.save(Sweep(instances=10, rows=60), number)
    assert rig.checkpointer.backlog == 3 + 180
    rig.store.gate.set()
    await rig.settle()
    assert [batch.sweep is not None for batch in rig.store.batches] == [False, True, True, True]
    await _finish(rig)


async def test_a_second_start_with_a_key_is_told_so(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.save(make.start("a", idempotency_key="k"), 1)
    rig.save(make.start("b", idempotency_key="k"), 2)
    rig.save(make.move("b", 2), 3)
    rig.save(make.start("c"), 4)
    await rig.settle()
    assert rig.answers == {1: None, 2: DuplicateKey, 3: CommitFailed, 4: None}
    assert rig.heard[1][1].args == ("w", "k")
    await _finish(rig)


async def test_a_value_that_does_not_fit_fails_its_decision(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.save(make.start("a", error="\ud83d"), 1)
    rig.save(DefinitionRow(workflow_id="w", version="v", canonical=b"\xff", created_us=1), 2)
    rig.save(FunctionRow(name="f", path="m:f"), 3)
    await rig.settle()
    assert rig.answers == {1: CommitFailed, 2: CommitFailed, 3: None}
    await _finish(rig)


async def test_an_unavailable_store_is_asked_again_with_the_same_batch(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.store.before = [StoreUnavailable("full")] * 3
    rig.save(make.start("a"), "a")
    await rig.settle()
    rig.save(make.start("b"), "b")
    assert (rig.heard, rig.checkpointer.stalled, rig.checkpointer.backlog) == ([], True, 6)
    await rig.clock.advance(0.06)
    await rig.clock.advance(0.11)
    assert rig.heard == []
    assert rig.checkpointer.oldest_s == pytest.approx(0.17)
    await rig.clock.advance(0.21)
    await rig.settle()
    assert rig.answers == {"a": None, "b": None}
    assert [batch.number for batch in rig.store.batches] == [1, 1, 1, 1, 2]
    assert (rig.checkpointer.stalled, rig.checkpointer.oldest_s, rig.fatal) == (False, 0.0, [])
    await _finish(rig)


async def test_an_unknown_outcome_is_resolved_by_asking_again(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.store.after = [StoreUnavailable("the connection was cut after COMMIT")]
    rig.save(make.start("a"), "a")
    await rig.settle()
    await rig.clock.advance(0.05)
    assert rig.answers == {"a": None}
    assert [event.seq for event in await rig.store.events("a")] == [1]
    await _finish(rig)


async def test_a_new_number_for_a_batch_that_is_sent_again_is_noticed(rigs: Any, make: Any) -> None:
    class Renumbers(Lane):
        async def _insist(self, number: int, commit: Any) -> None:
            try:
                await commit()
            except StoreUnavailable:
                (batch,) = rig.store.batches
                await self._store.commit(type(batch)(epoch=batch.epoch, lane=0, number=99, acknowledged=0,
                                                     instances=batch.instances, events=batch.events))  # fmt: skip

    rig = await rigs(Renumbers)
    rig.store.after = [StoreUnavailable("cut")]
    rig.save(make.start("a"), "a")
    await rig.settle()
    assert rig.answers == {"a": LostInstance}
    await _finish(rig)


async def test_a_store_that_stays_away_is_fatal(rigs: Any, make: Any) -> None:
    rig = await rigs(retry_limit_s=20)
    rig.store.before = [StoreUnavailable("gone")] * 100
    rig.save(make.start("a"), "a")
    rig.save(make.start("b"), "b")
    await rig.settle()
    rig.save(make.start("c"), "c")
    for _ in range(30):
        await rig.clock.advance(1)
    assert [type(error) for error in rig.fatal] == [StoreUnavailable]
    assert rig.answers == dict.fromkeys("abc", CommitFailed)
    rig.save(make.start("d"), "d")
    await rig.settle()
    assert rig.answers["d"] is CommitFailed
    assert rig.clock.next_timer() is None
    await _finish(rig)


async def test_any_other_error_is_fatal_at_once(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.store.before = [OSError("fsync")]
    rig.save(make.start("a"), "a")
    await rig.settle()
    assert [type(error) for error in rig.fatal] == [OSError]
    assert rig.answers == {"a": CommitFailed}
    assert len(rig.store.batches) == 1
    await _finish(rig)
    assert len(rig.fatal) == 1


async def test_a_fatal_error_does_not_overtake_what_was_committed(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.store.gate.clear()
    rig.save(make.start("a"), "a")
    await rig.settle()
    rig.save(make.start("b"), "b")
    commit = rig.store.commit

    async def fails_at_once(batch: Batch) -> None:
        raise OSError("fsync")

    rig.store.commit = fails_at_once
    rig.store.gate.set()
    await rig.settle()
    assert rig.order == ["a", "b"]
    assert rig.answers == {"a": None, "b": CommitFailed}
    rig.store.commit = commit
    await _finish(rig)


async def test_stop_commits_what_is_there(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.store.gate.clear()
    rig.save(make.start("a"), "a")
    await rig.settle()
    rig.save(make.start("b"), "b")
    stops = [asyncio.get_running_loop().create_task(rig.checkpointer.stop()) for _ in range(2)]
    await rig.settle()
    assert not any(stop.done() for stop in stops)
    rig.store.gate.set()
    await rig.settle()
    assert all(stop.done() for stop in stops)
    assert rig.answers == {"a": None, "b": None}
    await rig.checkpointer.stop()
    rig.save(make.start("c"), "c")
    await rig.settle()
    assert rig.answers["c"] is CommitFailed
    assert rig.clock.next_timer() is None
    assert all(task.done() for task in rig.tasks)


async def test_stop_does_not_wait_for_ever(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.store.gate.clear()  # a disk that never answers
    rig.save(make.start("a"), "a")
    await rig.settle()
    rig.save(make.start("b"), "b")
    stopping = asyncio.get_running_loop().create_task(rig.checkpointer.stop(patience_s=10))
    await rig.clock.advance(9)
    assert not stopping.done()
    await rig.clock.advance(1)
    assert stopping.done()
    assert rig.answers == {"a": CommitFailed, "b": CommitFailed}
    rig.store.gate.set()
    await rig.settle()
    assert all(task.done() for task in rig.tasks)
    assert len(rig.heard) == 2
    assert (rig.checkpointer.backlog, rig.fatal) == (0, [])


async def test_stop_while_the_store_is_away_does_not_commit_afterwards(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.store.before = [StoreUnavailable("full")] * 100
    rig.save(make.start("a"), "a")
    await rig.settle()
    stopping = asyncio.get_running_loop().create_task(rig.checkpointer.stop(patience_s=1))
    await rig.clock.advance(1)
    assert stopping.done()
    tried = len(rig.store.batches)
    for _ in range(5):
        await rig.clock.advance(5)
    assert (rig.answers, len(rig.store.batches), rig.fatal) == ({"a": CommitFailed}, tried, [])
    assert all(task.done() for task in rig.tasks)


async def test_it_can_be_stopped_before_it_started(log: Any, make: Any) -> None:
    rig = Rig(log)
    rig.save(make.start("a"), "a")
    await rig.checkpointer.stop()
    await rig.checkpointer.stop()
    rig.checkpointer.start()
    assert rig.tasks == []
    assert rig.answers == {"a": CommitFailed}


async def test_it_starts_once_and_takes_what_was_saved_before(log: Any, make: Any) -> None:
    rig = Rig(log)
    await rig.store.open()
    rig.save(make.start("a"), "a")
    rig.checkpointer.start()
    rig.checkpointer.start()
    await rig.settle()
    assert len(rig.tasks) == 1
    assert rig.answers == {"a": None}
    await _finish(rig)


async def test_a_failing_listener_hurts_nobody_else(rigs: Any, make: Any, log: Any) -> None:
    rig = await rigs()

    def fail() -> None:
        raise RuntimeError("an actor's bug")

    rig.save(make.start("a"), "a", fail)
    rig.save(make.start("b"), "b")
    await rig.settle()
    assert rig.answers == {"a": None, "b": None}
    assert "commit.ack_failed" in log.events
    await _finish(rig)


async def test_the_probe_sees_each_batch(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.save(make.start("a"), "a")
    await rig.settle()
    assert rig.probe.points == ["commit.begin", "commit.applied", "commit.done", "commit.acknowledged"]
    await _finish(rig)


async def test_each_commit_is_measured(rigs: Any, make: Any) -> None:
    rig = await rigs()
    rig.store.gate.clear()
    rig.save(make.start("a"), "a")
    rig.save(make.start("b"), "b")
    await rig.clock.advance(2)
    rig.store.gate.set()
    await rig.settle()
    assert rig.numbers.values == {"commit.rows": [6], "commit.seconds": [2.0], "commit.backlog": [0]}
    await _finish(rig)


# -- several lanes ---------------------------------------------------------------------------------------------------


def _on_lane(rig: Rig, number: int, count: int = 1) -> list[str]:
    """Names of instances of that lane."""
    names = (f"i{n}" for n in itertools.count())
    return list(itertools.islice((name for name in names if rig.checkpointer.lane_of(name) == number), count))


async def test_lanes_commit_at_the_same_time_and_each_in_its_order(rigs: Any, make: Any) -> None:
    rig = await rigs(lanes=3, max_rows=3)
    names = [_on_lane(rig, number)[0] for number in range(3)]
    rig.store.gate.clear()
    for seq in range(1, 9):
        for name in names:
            rig.save(make.start(name) if seq == 1 else make.decision(name, seq), (name, seq))
        await rig.settle()
    assert rig.store.most == 3
    assert rig.checkpointer.backlog == sum(3 if seq == 1 else 1 for seq in range(1, 9)) * 3
    rig.store.gate.set()
    await rig.settle()
    for number, name in enumerate(names):
        assert [seq for named, seq in rig.order if named == name] == list(range(1, 9))
        numbers = [batch.number for batch in rig.store.batches if batch.lane == number]
        assert numbers == list(range(1, len(numbers) + 1))
    assert rig.checkpointer.backlog == 0
    await _finish(rig)


async def test_a_slow_lane_holds_up_no_other(rigs: Any, make: Any) -> None:
    rig = await rigs(lanes=2)
    (slow,), (quick,) = _on_lane(rig, 0), _on_lane(rig, 1)
    rig.store.gates[0] = asyncio.Event()
    rig.save(make.start(slow), "slow")
    rig.save(make.start(quick), "quick")
    await rig.settle()
    assert rig.answers == {"quick": None}
    rig.store.gates[0].set()
    await rig.settle()
    assert rig.answers == {"quick": None, "slow": None}
    await _finish(rig)


async def test_a_refusal_on_one_lane_fails_that_instance_only(rigs: Any, make: Any) -> None:
    rig = await rigs(lanes=2)
    (a, b), (c,) = _on_lane(rig, 0, 2), _on_lane(rig, 1)
    rig.save(make.start(a), "a")
    await rig.settle()
    rig.save(make.stale(a, 2), "stale")
    rig.save(make.start(b), "b")
    rig.save(make.start(c), "c")
    await rig.settle()
    assert rig.answers == {"a": None, "stale": LostInstance, "b": None, "c": None}
    await _finish(rig)


async def test_an_unavailable_store_stalls_while_other_lanes_go_on(rigs: Any, make: Any) -> None:
    rig = await rigs(lanes=2)
    (a,), (b,) = _on_lane(rig, 0), _on_lane(rig, 1)
    rig.store.before = [StoreUnavailable("cut")]
    rig.save(make.start(a), "a")
    await rig.settle()
    assert rig.checkpointer.stalled
    rig.save(make.start(b), "b")
    await rig.settle()
    assert rig.answers == {"b": None}
    await rig.clock.advance(0.05)
    assert rig.answers == {"b": None, "a": None}
    assert not rig.checkpointer.stalled
    await _finish(rig)


async def test_what_is_fatal_on_one_lane_ends_all_and_is_told_once(rigs: Any, make: Any) -> None:
    rig = await rigs(lanes=2)
    (a,), (b,) = _on_lane(rig, 0), _on_lane(rig, 1)
    rig.store.gates[1] = asyncio.Event()
    rig.store.before = [RuntimeError("no disk")]
    rig.save(make.start(a), "a")
    rig.save(make.start(b), "b")
    await rig.settle()
    assert [str(error) for error in rig.fatal] == ["no disk"]
    assert rig.answers == {"a": CommitFailed, "b": CommitFailed}
    rig.save(make.start(_on_lane(rig, 1, 2)[1]), "later")
    await rig.settle()
    assert rig.answers["later"] is CommitFailed
    rig.store.gates[1].set()
    await _finish(rig)


async def test_a_stop_waits_for_every_lane_and_loses_patience_with_all(rigs: Any, make: Any) -> None:
    rig = await rigs(lanes=2)
    (a,), (b,) = _on_lane(rig, 0), _on_lane(rig, 1)
    rig.store.gates = {0: asyncio.Event(), 1: asyncio.Event()}
    rig.save(make.start(a), "a")
    rig.save(make.start(b), "b")
    await rig.settle()
    stopping = asyncio.get_running_loop().create_task(rig.checkpointer.stop(patience_s=10))
    rig.store.gates[0].set()
    await rig.clock.advance(9)
    assert rig.answers == {"a": None}
    assert not stopping.done()
    await rig.clock.advance(1)
    assert rig.answers == {"a": None, "b": CommitFailed}
    assert stopping.done()
    await stopping
    rig.store.gates[1].set()
    await rig.settle()


async def test_a_line_goes_on_its_instances_lane_ahead_of_what_follows(rigs: Any, make: Any) -> None:
    """Else whoever follows an instance to its end would miss what it said last."""
    rig = await rigs(lanes=2)
    (a,), (b,) = _on_lane(rig, 0), _on_lane(rig, 1)
    rig.store.gates[0] = asyncio.Event()
    lines = tuple(
        LogRow(instance_id=name, id=1, task="t", attempt=1, level="info", message="m", at_us=1) for name in (a, b)
    )
    rig.save(LogBatch(lines), "lines")
    rig.save(make.start(b), "b")
    await rig.settle()
    assert rig.answers == {"b": None}
    assert [row.instance_id for row in await rig.store.logs(b)] == [b]
    rig.store.gates[0].set()
    await rig.settle()
    assert rig.answers == {"b": None, "lines": None}
    await _finish(rig)


async def test_what_is_saved_beside_an_instance_commits_no_later_than_it(rigs: Any, make: Any) -> None:
    rig = await rigs(lanes=3)
    definition = DefinitionRow(workflow_id="w", version="v", canonical=b"{}", created_us=1)
    for number in range(3):
        (name,) = _on_lane(rig, number)
        rig.checkpointer.save(definition, lambda error: None, beside=name)
        rig.save(make.start(name), name)
    rig.checkpointer.save(definition, lambda error: None)
    await rig.settle()
    for batch in rig.store.batches:
        assert not batch.instances or batch.definitions
    await _finish(rig)


# -- lanes that rest -------------------------------------------------------------------------------------------------


async def test_a_lane_with_nothing_to_commit_is_kept_again_and_again(rigs: Any, make: Any) -> None:
    rig = await rigs(lanes=2, store=KeptStore)
    await rig.clock.advance(19.9)
    assert rig.store.kept == []
    await rig.clock.advance(0.2)
    assert sorted(rig.store.kept) == [0, 1]
    await rig.clock.advance(20)
    assert sorted(rig.store.kept) == [0, 0, 1, 1]
    await _finish(rig)
    assert rig.clock.next_timer() is None


async def test_a_lane_that_commits_needs_no_keeping(rigs: Any, make: Any) -> None:
    rig = await rigs(store=KeptStore)
    for number in range(5):
        await rig.clock.advance(15)
        rig.save(make.start(f"{number}"), number)
        await rig.settle()
    assert rig.store.kept == []
    assert rig.answers == dict.fromkeys(range(5))
    await _finish(rig)


async def test_a_store_that_needs_no_care_is_never_kept(rigs: Any) -> None:
    rig = await rigs()
    assert rig.clock.next_timer() is None
    await _finish(rig)


async def test_an_unavailable_store_is_kept_the_next_time(rigs: Any, make: Any) -> None:
    rig = await rigs(store=KeptStore)
    rig.store.keeps = [StoreUnavailable("away")]
    await rig.clock.advance(20)
    await rig.clock.advance(20)
    assert (rig.store.kept, rig.fatal) == ([0, 0], [])
    rig.save(make.start("a"), "a")
    await rig.settle()
    assert rig.answers == {"a": None}
    await _finish(rig)


async def test_whoever_hears_while_resting_that_another_owns_the_store_ends(rigs: Any, make: Any) -> None:
    rig = await rigs(store=KeptStore)
    rig.store.keeps = [StoreLocked("store", "another process")]
    await rig.clock.advance(20)
    assert [type(error) for error in rig.fatal] == [StoreLocked]
    rig.save(make.start("a"), "a")
    await rig.settle()
    assert rig.answers["a"] is CommitFailed
    await _finish(rig)
