"""Compares both ledgers with the store after everything has come to rest. An empty list of faults is a good run.

Event numbers are the clock: they are committed in order without holes, and every effect noted which one it could see.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from crash.ledger import Deed, Effect, read_deeds, read_effects
from crash.workload import definition, expected_results, key_of, kind_of

from taskengine.ambient import Ambient
from taskengine.model.definition import WorkflowDefinition, decode_canonical
from taskengine.model.records import AttemptRow, CommandRow, DefinitionRow, EventRow, InstanceRow, Outcome, TaskRow
from taskengine.model.states import TASK_FINAL, InstanceState, TaskMove, TaskState
from taskengine.store.interface import Store
from taskengine.store.opening import open_store


class Kept(msgspec.Struct, frozen=True):
    """All that the store has of one instance."""

    row: InstanceRow
    definition: WorkflowDefinition
    tasks: Mapping[str, TaskRow]
    events: Sequence[EventRow]
    attempts: Sequence[AttemptRow]
    commands: Sequence[CommandRow]


async def read(database: Path | str) -> tuple[list[Kept], list[str]]:
    """What the store holds, and what it should hold and does not."""
    store = open_store(str(database), Ambient(), read_only=True)
    await store.open()
    try:
        kept, lost = [], []
        for row in await store.instances(limit=100_000, descending=False):
            version = await store.definition(row.version)
            if version is None:
                lost.append(f"{row.idempotency_key}: the version it names is lost")
            else:
                kept.append(await _instance(store, row, version))
        return kept, lost
    finally:
        await store.close()


async def _instance(store: Store, row: InstanceRow, version: DefinitionRow) -> Kept:
    return Kept(
        row=row,
        definition=decode_canonical(version.canonical),
        tasks={task.name: task for task in await store.tasks(row.id, limit=10_000)},
        events=await store.events(row.id, limit=100_000),
        attempts=await store.attempts(row.id),
        commands=await store.commands(row.id),
    )


def faults(folder: Path, dsn: str, *, seed: int, instances: int, kills: int) -> list[str]:
    """What is wrong after a run of `driver.py` in `folder` that was killed so often; at most a hundred."""
    kept, lost = asyncio.run(read(dsn))
    effects = read_effects(folder / "effects.log")
    found = [*lost, *_wrong(kept, effects, read_deeds(folder / "client.log"), seed, instances, kills)]
    return found[:100]


def _wrong(
    kept: Sequence[Kept], effects: Sequence[Effect], deeds: Sequence[Deed], seed: int, instances: int, kills: int
) -> Iterator[str]:
    by_key = {it.row.idempotency_key: it for it in kept}
    yield from _client_faults(by_key, deeds)
    if len(kept) != instances:
        yield f"{len(kept)} instances for {instances} starts"
    by_task: defaultdict[tuple[str, str], list[Effect]] = defaultdict(list)
    for effect in effects:
        by_task[effect.instance, effect.task].append(effect)
    known = {it.row.id for it in kept}
    yield from (
        f"a body ran for {effect.instance}, which is not stored" for effect in effects if effect.instance not in known
    )
    for number in range(instances):
        it = by_key.get(key_of(number))
        if it is None:
            yield f"no instance for {key_of(number)}"
            continue
        if it.definition != definition(seed, number):
            yield f"{key_of(number)}: another definition"
        yield from (f"{key_of(number)}: {fault}" for fault in _outcome_faults(it, kind_of(number)))
        yield from (f"{key_of(number)}: {fault}" for fault in instance_faults(it, by_task, kills))


def _client_faults(by_key: Mapping[str | None, Kept], deeds: Sequence[Deed]) -> Iterator[str]:
    """Everything acknowledged is in the store."""
    for deed in deeds:
        if deed.asked:
            continue
        it = by_key.get(key_of(deed.number))
        if it is None:
            yield f"an acknowledged {deed.what} of {key_of(deed.number)} is lost"
        elif deed.what == "start":
            if it.row.id != deed.instance:
                yield f"{key_of(deed.number)} was acknowledged as {deed.instance} and is {it.row.id}"
        elif not deed.what.endswith("refused") and deed.what not in {command.kind for command in it.commands}:
            yield f"{key_of(deed.number)}: an acknowledged {deed.what} is lost"


def _outcome_faults(it: Kept, kind: str) -> Iterator[str]:
    """It demands progress: a run in which everything failed does not pass."""
    state, cancelled = it.row.state, {command.kind for command in it.commands} >= {"cancel"}
    wanted = InstanceState.CANCELLED if kind == "cancel" and cancelled else InstanceState.SUCCESS
    if state is not wanted:
        yield f"is {state} and should be {wanted}: {it.row.error}"
    if kind == "retry" and it.row.run != 2:
        yield f"run {it.row.run} after one retry"
    expected = expected_results(it.definition)
    for name, row in it.tasks.items():
        if row.state is TaskState.SUCCESS and msgspec.json.decode(_bytes(row.result)) != expected.get(name):
            yield f"{name}: result {row.result!r} and not {expected.get(name)}"
        if state is InstanceState.SUCCESS and (row.state is TaskState.SUCCESS) != (name in expected):
            yield f"{name} ended {row.state}"


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b"null"


def instance_faults(it: Kept, effects: Mapping[tuple[str, str], Sequence[Effect]], kills: int) -> Iterator[str]:
    """What must hold for every instance whatever it runs."""
    if [event.seq for event in it.events] != list(range(1, len(it.events) + 1)):
        yield "its events have a hole"
    history = History(it)
    for spec in it.definition.tasks:
        mine = effects.get((it.row.id, spec.name), ())
        yield from (f"{spec.name}: {fault}" for fault in _task_faults(it, spec.name, mine, history, kills))
        for need in spec.depends_on:
            yield from _edge_faults(spec.name, need, mine, history)
    yield from _progress_faults(it)


class History:
    """The events of one instance by task: (event number, run, move, state, attempt)."""

    def __init__(self, it: Kept) -> None:
        self.lines: defaultdict[str, list[tuple[int, int, TaskMove, TaskState, int]]] = defaultdict(list)
        for event in it.events:
            for step in event.body.transitions:
                self.lines[step.task].append((event.seq, event.body.run, step.move, step.state, step.attempt))

    def ended(self, task: str) -> int | None:
        """The first event in which it had a final state."""
        return next((seq for seq, _, _, state, _ in self.lines[task] if state in TASK_FINAL), None)

    def succeeded(self, task: str) -> int | None:
        return next((seq for seq, _, move, _, _ in self.lines[task] if move is TaskMove.SUCCEED), None)

    def offers(self, task: str) -> dict[int, int]:
        """Attempt -> the event that offered it."""
        return {attempt: seq for seq, _, move, _, attempt in self.lines[task] if move is TaskMove.OFFER}


def _task_faults(it: Kept, task: str, mine: Sequence[Effect], history: History, kills: int) -> Iterator[str]:
    row = it.tasks.get(task)
    if row is None or row.state not in TASK_FINAL:
        yield "has not ended"
        return
    outcomes = Counter(run for _, run, _, state, _ in history.lines[task] if state in TASK_FINAL)
    if any(count != 1 for count in outcomes.values()):
        yield f"ended more than once in a run: {dict(outcomes)}"
    twice = [attempt for attempt, count in Counter(effect.attempt for effect in mine).items() if count > 1]
    if twice:
        yield f"the body of attempts {twice} ran more than once"
    done, offers = history.succeeded(task), history.offers(task)
    for effect in mine:
        if done is not None and effect.seen >= done:
            yield f"attempt {effect.attempt} ran after its success was committed"
        offered = offers.get(effect.attempt)
        if offered is None or effect.seen < offered:
            yield f"attempt {effect.attempt} ran before its offer was committed"
    yield from _count_faults(it, row, mine, kills)


def _count_faults(it: Kept, row: TaskRow, mine: Sequence[Effect], kills: int) -> Iterator[str]:
    """Attempts that ended are recorded, and no body ran that neither they nor a kill explain."""
    spec = it.definition.tasks[row.ordinal]
    recorded = [attempt for attempt in it.attempts if attempt.ordinal == row.ordinal]
    ended = sum(attempt.outcome not in (Outcome.LOST, Outcome.INTERRUPTED) for attempt in recorded)
    ended += row.state in (TaskState.SUCCESS, TaskState.FAILED, TaskState.TIMED_OUT)
    if spec.job != "sleep" and not ended <= len(mine) <= ended + kills + (row.state is TaskState.CANCELLED):
        yield f"{len(mine)} bodies ran, {ended} attempts are recorded to have ended, {kills} kills"
    unknown = {attempt.attempt for attempt in recorded} - {effect.attempt for effect in mine}
    if spec.job != "sleep" and kills == 0 and unknown:
        yield f"attempts {sorted(unknown)} are recorded and never ran"


def _edge_faults(task: str, need: str, mine: Sequence[Effect], history: History) -> Iterator[str]:
    ended = history.ended(need)
    for effect in mine:
        if ended is None or effect.seen < ended:
            yield f"{task} ran before the outcome of {need} was committed"


def _progress_faults(it: Kept) -> Iterator[str]:
    for event in it.events:
        if event.body.progress.total != len(it.definition.tasks):
            yield f"event {event.seq}: progress adds up to {event.body.progress.total}"
    last = it.events[-1].body.progress
    if last.open or last.completed != sum(row.state is TaskState.SUCCESS for row in it.tasks.values()):
        yield f"progress at the end is {last}"
