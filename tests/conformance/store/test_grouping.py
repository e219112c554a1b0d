"""However decisions are grouped into batches, the rows are those of one by one; on every database."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskengine.ambient import Ambient
from taskengine.errors import BatchRefused
from taskengine.model.ids import InstanceId
from taskengine.model.records import CommandRow, Decision, InstanceRemoval, WorkflowRemoval, Write
from taskengine.model.states import Hold, InstanceState, Phase, TaskState
from taskengine.store import batch as batch_module
from taskengine.store.interface import Store
from taskengine.store.memory import MemoryStore

ACTIONS = ("start", "offer", "run", "succeed", "fail", "twice", "pause", "end", "stale", "again", "key", "remove")
Step = tuple[int, str, int]

steps = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(ACTIONS), st.integers(0, 2)), max_size=30)
sizes = st.lists(st.integers(1, 8), min_size=1, max_size=10)


class Writer:
    """What one instance's actor believes; from it, decisions that are right and, on purpose, wrong ones."""

    def __init__(self, rows: Any, name: str) -> None:
        self.rows, self.name, self.seq = rows, name, 0
        self.row: Any = None
        self.tasks: dict[int, Any] = {}

    def step(self, action: str, ordinal: int) -> Write | None:
        rows = self.rows
        if action == "remove":  # refused unless it has ended; what it writes afterwards finds no instance
            return InstanceRemoval(instance_id=InstanceId(self.name), run=1)
        if self.row is None or action == "start":
            return self._start(action, ordinal)
        if action in ("pause", "end"):
            return self._instance(action)
        if action == "again":
            return rows.decision(self.name, max(1, self.seq - ordinal))
        return self._task(action, ordinal)

    def _start(self, action: str, ordinal: int) -> Decision:
        # A second start is refused, and so is the first when its key is taken: then the rest is refused as well.
        row = self.rows.instance(self.name, created_us=ordinal, idempotency_key="k" if action == "key" else None)
        if self.row is None:
            self.row, self.seq = row, 1
        return self.rows.decision(self.name, 1, instance=self.rows.new(row))

    def _next(self, **parts: Any) -> Decision:
        self.seq += 1
        commands = [CommandRow(id=str(self.seq), kind="k")] if self.seq % 3 == 0 else []
        return self.rows.decision(self.name, self.seq, commands=commands, **parts)

    def _instance(self, action: str) -> Decision:
        before = self.row
        if action == "pause":
            hold = Hold.NONE if before.hold is Hold.PAUSED else Hold.PAUSED
            self.row = msgspec.structs.replace(before, hold=hold)
        else:
            self.row = msgspec.structs.replace(before, phase=Phase.END, final=InstanceState.SUCCESS)
        return self._next(instance=self.rows.moved(self.row, before.phase, before.hold, before.run))

    def _task(self, action: str, ordinal: int) -> Decision | None:
        rows, before = self.rows, self.tasks.get(ordinal)
        if before is None:
            self.tasks[ordinal] = rows.task(ordinal)
            return self._next(tasks=[rows.change(self.tasks[ordinal])])
        if action == "stale":
            wrong = rows.change(rows.task(ordinal, TaskState.FAILED), before.state, before.attempt + 1)
            return rows.decision(self.name, self.seq + 1, tasks=[wrong])
        changes = [self._move(action, ordinal)]
        if action == "twice":  # two moves of one row in one decision
            changes.append(self._move("succeed", ordinal))
        attempts = [rows.attempt(ordinal, before.attempt)] if action == "offer" else []
        return self._next(tasks=changes, attempts=attempts)

    def _move(self, action: str, ordinal: int) -> Any:
        before = self.tasks[ordinal]
        values: dict[str, dict[str, Any]] = {
            "offer": {"state": TaskState.READY, "attempt": before.attempt + 1},
            "succeed": {"state": TaskState.SUCCESS, "result": b"%d" % self.seq, "error": None},
            "fail": {"state": TaskState.RETRYING, "error": b'"%d"' % self.seq, "due_us": self.seq},
        }
        changed = values.get(action, {"state": TaskState.RUNNING, "reason": str(self.seq)})
        keep = {"result": msgspec.UNSET, "error": msgspec.UNSET}
        row = msgspec.structs.replace(before, **{**keep, **changed})
        self.tasks[ordinal] = row
        return self.rows.change(row, before.state, before.attempt)


def _decisions(rows: Any, plan: Sequence[Step]) -> list[Write]:
    writers = [Writer(rows, f"i{number}") for number in range(3)]
    made = (writers[who].step(action, ordinal) for who, action, ordinal in plan)
    return [decision for decision in made if decision is not None]


async def _apply(store: Store, rows: Any, writes: Sequence[Write]) -> None:
    """As the checkpointer does it: as one, and if that is refused, one by one."""
    try:
        await rows.commit(store, *writes)
    except BatchRefused:
        if len(writes) > 1:
            for write in writes:
                await _apply(store, rows, [write])


async def _outcome(make: Callable[[Path], Store], everything: Any, rows: Any, groups: Sequence[Sequence[Write]]) -> Any:
    with TemporaryDirectory() as folder:
        store = make(Path(folder))
        await store.open()
        try:
            for group in groups:
                await _apply(store, rows, group)
            return await everything(store)
        finally:
            await store.close()


def _grouped(writes: Sequence[Write], cuts: Sequence[int]) -> list[Sequence[Write]]:
    groups, at, turn = [], 0, 0
    while at < len(writes):
        size = cuts[turn % len(cuts)]
        groups.append(writes[at : at + size])
        at, turn = at + size, turn + 1
    return groups


@pytest.fixture
def law(backend: Any, rows: Any, everything: Any) -> Callable[[Sequence[Step], Sequence[int]], None]:
    """Raises AssertionError when the grouping shows."""

    def check(plan: Sequence[Step], cuts: Sequence[int]) -> None:
        async def run() -> None:
            decisions = _decisions(type(rows)(), plan)
            single = [[decision] for decision in decisions]
            truth = await _outcome(lambda _: MemoryStore(Ambient()), everything, type(rows)(), single)
            found = await _outcome(backend.make, everything, type(rows)(), _grouped(decisions, cuts))
            assert found == truth

        asyncio.run(run())

    return check


def test_grouping_never_shows(law: Callable[[Sequence[Step], Sequence[int]], None]) -> None:
    @given(steps, sizes)
    @settings(max_examples=60)
    def check(plan: Sequence[Step], cuts: Sequence[int]) -> None:
        law(plan, cuts)

    check()


def test_grouping_never_shows_in_a_long_story(law: Callable[[Sequence[Step], Sequence[int]], None]) -> None:
    story = [
        (0, "start", 0),
        (1, "key", 1),
        (2, "key", 2),
        *((who, action, 1) for action in ACTIONS for who in range(3)),
    ]
    for size in (1, 2, 7, 100):
        law(story, [size])


plain = st.one_of(
    st.tuples(st.just("save"), st.integers(1, 3)),
    st.tuples(st.just("remove"), st.just(0)),
    st.tuples(st.just("token"), st.integers(1, 3)),
    st.tuples(st.just("log"), st.integers(1, 6)),
    st.tuples(st.just("bad log"), st.integers(1, 6)),
)


def _plain(rows: Any, plan: Sequence[tuple[str, int]]) -> list[Write]:
    """Writes that expect nothing; each says in its values which one it is."""
    makers: dict[str, Callable[[int, int], Write]] = {
        "save": lambda number, at: rows.definition(f"v{number}", created_us=at),
        "remove": lambda number, at: WorkflowRemoval(workflow_id="w"),
        "token": lambda number, at: rows.token(f"t{number}", created_us=at),
        "log": lambda number, at: rows.lines(number, number + 1, message=str(at)),
        "bad log": lambda number, at: rows.lines(number, message="\ud83d"),
    }
    return [makers[kind](number, at) for at, (kind, number) in enumerate(plan)]


PlainLaw = Callable[[Sequence[tuple[str, int]], Sequence[int]], None]


@pytest.fixture
def plain_law(backend: Any, rows: Any, everything: Any) -> PlainLaw:
    def check(plan: Sequence[tuple[str, int]], cuts: Sequence[int]) -> None:
        async def run() -> None:
            writes = _plain(rows, plan)
            single = [[write] for write in writes]
            truth = await _outcome(lambda _: MemoryStore(Ambient()), everything, type(rows)(), single)
            assert await _outcome(backend.make, everything, type(rows)(), _grouped(writes, cuts)) == truth

        asyncio.run(run())

    return check


def test_grouping_never_shows_in_definitions_tokens_and_logs(plain_law: PlainLaw) -> None:
    @given(st.lists(plain, max_size=20), sizes)
    @settings(max_examples=60)
    def check(plan: Sequence[tuple[str, int]], cuts: Sequence[int]) -> None:
        plain_law(plan, cuts)

    check()


def test_a_merge_that_forgets_a_save_after_a_removal_is_noticed(
    plain_law: PlainLaw, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = [("save", 1), ("remove", 0), ("save", 2)]
    plain_law(plan, [3])
    honest = type(rows).batch

    def forgetful(self: Any, store: Store, *writes: Write) -> Any:
        removed = [write.workflow_id for write in writes if isinstance(write, WorkflowRemoval)]
        return msgspec.structs.replace(honest(self, store, *writes), removals=removed)

    monkeypatch.setattr(type(rows), "batch", forgetful)
    with pytest.raises(AssertionError):
        plain_law(plan, [3])


FORGETTING = [(0, "start", 0), (0, "offer", 0), (0, "succeed", 0), (0, "run", 0)]


def test_a_merge_that_forgets_a_result_is_noticed(
    law: Callable[[Sequence[Step], Sequence[int]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    law(FORGETTING, [4])
    monkeypatch.setattr(batch_module, "keep_unset", lambda row, before: row)
    with pytest.raises(AssertionError):
        law(FORGETTING, [4])


def test_a_merge_that_trusts_the_last_expectation_is_noticed(
    law: Callable[[Sequence[Step], Sequence[int]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def trusting(first: Any, then: Any) -> Any:
        return type(first)(then.row, first.expect)

    plan = [(0, "start", 0), (0, "offer", 0), (0, "stale", 0)]
    law(plan, [3])
    monkeypatch.setattr(batch_module, "_join_task", trusting)
    with pytest.raises(AssertionError):
        law(plan, [3])
