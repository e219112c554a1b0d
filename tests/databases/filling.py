"""Rows of every kind and shape, by a seed: what a database may hold after a long life, without the long life."""

import random
from collections.abc import Iterator

import msgspec

from taskengine.model.artifacts import ArtifactRef, reference
from taskengine.model.events import EventBody, Transition
from taskengine.model.progress import Progress
from taskengine.model.records import (
    AttemptRow,
    CommandRow,
    Decision,
    DefinitionRow,
    EventRow,
    FunctionRow,
    InstanceChange,
    InstanceRemoval,
    InstanceRow,
    LogBatch,
    LogRow,
    Outcome,
    TaskChange,
    TaskFailure,
    TaskRow,
    TokenRow,
    Verdict,
    WorkflowRemoval,
    Write,
)
from taskengine.model.states import Hold, InstanceState, Phase, TaskMove, TaskState
from taskengine.store.batch import merge
from taskengine.store.interface import Store

__all__ = ["TEXTS", "fill", "writes"]

TEXTS = (
    "",
    " ",
    "a ",
    "A",
    "数据 🚀",
    "é",
    "e\u0301",
    "\ufffd",
    "tab\tline\r\nend\\",
    "'; DROP TABLE instances; --",
    '{"not": "json',
    "\x1b[31m",
    "\x7f\x80\x9f",
    "NULL",
    "\\N",
    "\\.",
    '%s ? $1 `"',
)
"""What databases and drivers have stumbled over."""

START_US = 1_700_000_000_000_000
_BATCH = 400


async def fill(store: Store, instances: int, *, seed: int = 1, nul: bool = False, longest: int = 3_000) -> None:
    """An open store, which is empty.

    nul      some texts have the character U+0000
    longest  some results repeat their text so often
    """
    batch: list[Write] = []
    number = 0

    async def commit() -> None:
        nonlocal number
        number += 1
        await store.commit(merge(batch, epoch=store.epoch, lane=0, number=number, acknowledged=number - 1))
        batch.clear()

    for write in writes(random.Random(seed), instances, nul=nul, longest=longest):
        batch.append(write)
        if len(batch) == _BATCH:
            await commit()
    if batch:
        await commit()


def writes(rng: random.Random, instances: int, *, nul: bool, longest: int) -> Iterator[Write]:
    yield from _definitions(rng)
    for n in range(5):
        yield FunctionRow(
            name=f"任务.{n}", path=f"jobs:{n}", signature="(x: int) -> None", doc=_text(rng), source_hash="f" * n
        )
        yield TokenRow(
            id=f"t{n}", name=_text(rng), scope="read", digest=f"{n:064x}", created_us=START_US + n, revoked_us=n or None
        )
    for n in range(instances):
        yield from _instance(rng, n, nul=nul, longest=longest)
    yield from _removed(rng)


def _definitions(rng: random.Random) -> Iterator[Write]:
    """In another order than that of their versions, so that their own numbers tell something."""
    versions = [f"{n:02x}" for n in range(20)]
    rng.shuffle(versions)
    for version in versions:
        canonical = msgspec.json.encode({"id": "w", "tasks": [{"name": _text(rng), "job": "noop"}]})
        workflow = f"w{int(version, 16) % 3}"
        yield DefinitionRow(workflow_id=workflow, version=version, canonical=canonical, created_us=START_US)
    yield WorkflowRemoval(workflow_id="w1")


def _instance(rng: random.Random, n: int, *, nul: bool, longest: int) -> Iterator[Write]:
    name = f"{rng.getrandbits(32):08x}-{n:06x}"
    phase = rng.choice([Phase.RUN, Phase.DRAIN, Phase.END, Phase.END])
    final = rng.choice([InstanceState.SUCCESS, InstanceState.FAILED]) if phase is Phase.END else None
    created_us = START_US + n * 1_000_003
    row = InstanceRow(
        id=name,
        workflow_id=f"w{n % 3}",
        version=f"{n % 20:02x}",
        params=msgspec.json.encode({"n": n, "text": _text(rng), "half": n / 2}),
        run=rng.choice([1, 1, 7]),
        phase=phase,
        hold=rng.choice(list(Hold)),
        verdict=rng.choice(list(Verdict)),
        final=final,
        compensate_asked=rng.random() < 0.5,
        hard=rng.random() < 0.5,
        deadline_us=rng.choice([None, 0, (1 << 62) + n]),
        created_us=created_us,
        started_us=created_us + 5,
        finished_us=created_us + 1_234_567 if final else None,
        error=_text(rng) + ("\0" if nul and n % 3 == 0 else ""),
        idempotency_key=rng.choice([None, f"{n} {_text(rng)}"]),
    )
    tasks = [_task(rng, ordinal, created_us, longest) for ordinal in range(rng.choice([0, 1, 2, 3, 9]))]
    yield Decision(
        instance_id=name,
        event=_event(rng, name, 1, created_us, tasks),
        instance=InstanceChange(row),
        tasks=tuple(TaskChange(task) for task in tasks),
        attempts=tuple(_attempt(rng, task, number) for task in tasks for number in range(1, task.attempt)),
        commands=tuple(_command(rng, n, number) for number in range(rng.choice([0, 0, 2]))),
    )
    for seq in range(2, rng.choice([2, 3, 6])):
        yield Decision(instance_id=name, event=_event(rng, name, seq, created_us + seq, tasks))
    lines = tuple(_line(rng, name, number, created_us, nul=nul) for number in range(1, rng.choice([1, 4])))
    if lines:
        yield LogBatch(lines)


def _removed(rng: random.Random) -> Iterator[Write]:
    """One whose row is gone and whose event is not yet."""
    name = "ffffffff-removed"
    row = InstanceRow(id=name, workflow_id="w0", version="00", phase=Phase.END, final=InstanceState.SUCCESS)
    yield Decision(instance_id=name, event=_event(rng, name, 1, START_US, []), instance=InstanceChange(row))
    yield InstanceRemoval(instance_id=name, run=1)


def _task(rng: random.Random, ordinal: int, at_us: int, longest: int) -> TaskRow:
    state = rng.choice(list(TaskState))
    return TaskRow(
        ordinal=ordinal,
        name=f"步骤{ordinal}",
        state=state,
        attempt=rng.choice([1, 1, 3]),
        tries=1,
        parent=-1 if ordinal < 3 else 0,
        spec=None if ordinal < 3 else b'{"name":"sub"}',
        due_us=rng.choice([None, at_us]),
        key=_text(rng),
        reason=_text(rng),
        suspect=rng.random() < 0.1,
        started_us=at_us + 10,
        finished_us=at_us + 20 if state is TaskState.SUCCESS else None,
        result=rng.choice(
            [_large(rng), None, b"null", b'"\\u0000"', msgspec.json.encode(_text(rng) * rng.choice([1, 1, 1, longest]))]
        ),
        error=rng.choice([None, msgspec.json.encode(TaskFailure(type="ValueError", message=_text(rng)))]),
    )


def _large(rng: random.Random) -> bytes:
    """One that lies in the artifact store; a row of the table `artifacts` follows from it."""
    return reference(ArtifactRef(digest=f"{rng.getrandbits(256):064x}", size=rng.getrandbits(33)))


def _attempt(rng: random.Random, task: TaskRow, number: int) -> AttemptRow:
    failure = msgspec.json.encode(TaskFailure(type="OSError", message=_text(rng), traceback=_text(rng)))
    return AttemptRow(
        ordinal=task.ordinal,
        attempt=number,
        run=1,
        outcome=rng.choice(list(Outcome)),
        started_us=task.started_us,
        finished_us=rng.choice([None, task.started_us]),
        error=rng.choice([None, failure]),
    )


def _event(rng: random.Random, name: str, seq: int, at_us: int, tasks: list[TaskRow]) -> EventRow:
    moves = tuple(
        Transition(task.ordinal, task.name, TaskMove.OFFER, task.state, task.attempt, _text(rng)) for task in tasks
    )
    body = EventBody(
        state=InstanceState.RUNNING, transitions=moves, progress=Progress(pending=len(tasks)), reason=_text(rng)
    )
    return EventRow(instance_id=name, seq=seq, at_us=at_us, body=body)


def _command(rng: random.Random, n: int, number: int) -> CommandRow:
    """Ids that stand in another order than they were accepted in."""
    return CommandRow(
        id=f"{9 - number}-{n}", kind=rng.choice(["pause", "retry"]), answer=msgspec.json.encode([_text(rng)])
    )


def _line(rng: random.Random, name: str, number: int, at_us: int, *, nul: bool) -> LogRow:
    message = _text(rng) * rng.choice([1, 1, 500]) + ("\0" if nul and number == 2 else "")
    return LogRow(
        instance_id=name, id=number, task="步骤0", attempt=1, level="info", message=message, at_us=at_us + number
    )


def _text(rng: random.Random) -> str:
    return rng.choice(TEXTS)
