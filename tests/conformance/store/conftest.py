"""One suite for every database: the `store` fixture, what each of them can do, and rows to put in."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from databases.servers import current, fresh

from taskengine.ambient import Ambient
from taskengine.clock import ManualClock
from taskengine.model.events import EventBody, Transition
from taskengine.model.records import (
    AttemptRow,
    CommandRow,
    Decision,
    DefinitionRow,
    EventRow,
    InstanceChange,
    InstanceGuard,
    InstanceRow,
    LogBatch,
    LogRow,
    Outcome,
    TaskChange,
    TaskGuard,
    TaskRow,
    TokenRow,
    Write,
)
from taskengine.model.states import Hold, InstanceState, Phase, TaskMove, TaskState
from taskengine.store.batch import Batch, merge
from taskengine.store.interface import Store
from taskengine.store.memory import MemoryStore
from taskengine.store.opening import open_store
from taskengine.store.sqlite import SqliteStore


class Backend(msgspec.Struct, frozen=True):
    """A database under test and what can be asked of it.

    migrates   has a schema with a number
    measures   knows how much room it takes
    look       a second store that only reads, on the rows that the first one has now
    holds_nul  texts may have the character U+0000; PostgreSQL's cannot
    """

    name: str
    make: Callable[[Path], Store]
    look: Callable[[Path, Any], Store]
    migrates: bool = False
    measures: bool = False
    holds_nul: bool = True


def _ambient() -> Ambient:
    return Ambient(clock=ManualClock())


BACKENDS = (
    Backend(
        "memory",
        lambda folder: MemoryStore(_ambient()),
        look=lambda folder, first: MemoryStore(_ambient(), first.snapshot(), read_only=True),
    ),
    Backend(
        "sqlite",
        lambda folder: SqliteStore(folder / "引擎.db", _ambient()),
        look=lambda folder, first: SqliteStore(folder / "引擎.db", _ambient(), read_only=True),
        migrates=True,
        measures=True,
    ),
    Backend(
        "postgresql",
        lambda folder: open_store(fresh("postgresql"), _ambient()),
        look=lambda folder, first: open_store(current("postgresql"), _ambient(), read_only=True),
        migrates=True,
        measures=True,
        holds_nul=False,
    ),
    Backend(
        "mysql",
        lambda folder: open_store(fresh("mysql"), _ambient()),
        look=lambda folder, first: open_store(current("mysql"), _ambient(), read_only=True),
        migrates=True,
        measures=True,
    ),
)


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.param
    return found


@pytest.fixture
async def new_store(backend: Backend, tmp_path: Path) -> AsyncIterator[Store]:
    """Not opened yet; closed at the end."""
    store = backend.make(tmp_path)
    yield store
    await store.close()


@pytest.fixture
async def store(new_store: Store) -> Store:
    await new_store.open()
    return new_store


Look = Callable[[], Awaitable[list[Store]]]


@pytest.fixture
async def looks(backend: Backend, store: Store, tmp_path: Path) -> AsyncIterator[Look]:
    """Gives the store that writes, and one that only reads and shows the same rows."""
    async with AsyncExitStack() as at_end:

        async def look() -> list[Store]:
            reader = backend.look(tmp_path, store)
            at_end.push_async_callback(reader.close)
            await reader.open()
            return [store, reader]

        yield look


class Rows:
    """Makes rows and batches; every name has a default, so a test says only what it is about."""

    def __init__(self) -> None:
        self.number = 0

    def batch(self, store: Store, *writes: Write, epoch: int | None = None) -> Batch:
        """The next batch of this store's epoch."""
        self.number += 1
        return merge(
            writes,
            epoch=store.epoch if epoch is None else epoch,
            lane=0,
            number=self.number,
            acknowledged=self.number - 1,
        )

    async def commit(self, store: Store, *writes: Write) -> None:
        await store.commit(self.batch(store, *writes))

    @staticmethod
    def instance(instance_id: str = "i", **values: Any) -> InstanceRow:
        return InstanceRow(**{"id": instance_id, "workflow_id": "w", "version": "v", "phase": Phase.RUN, **values})

    @staticmethod
    def new(row: InstanceRow) -> InstanceChange:
        return InstanceChange(row)

    @staticmethod
    def moved(row: InstanceRow, phase: Phase = Phase.RUN, hold: Hold = Hold.NONE, run: int = 1) -> InstanceChange:
        return InstanceChange(row, InstanceGuard(phase, hold, run))

    @staticmethod
    def task(ordinal: int = 0, state: TaskState = TaskState.READY, attempt: int = 1, **values: Any) -> TaskRow:
        return TaskRow(**{"ordinal": ordinal, "name": f"t{ordinal}", "state": state, "attempt": attempt, **values})

    @staticmethod
    def change(row: TaskRow, state: TaskState | None = None, attempt: int = 1) -> TaskChange:
        """A new row, or one that must be in `state` with `attempt`."""
        return TaskChange(row, None if state is None else TaskGuard(state, attempt))

    @staticmethod
    def event(instance_id: str, seq: int, at_us: int = 7, reason: str = "") -> EventRow:
        move = Transition(0, "t0", TaskMove.OFFER, TaskState.READY, 1)
        body = EventBody(state=InstanceState.RUNNING, transitions=(move,), reason=reason)
        return EventRow(instance_id=instance_id, seq=seq, at_us=at_us, body=body)

    @staticmethod
    def attempt(ordinal: int = 0, attempt: int = 1, **values: Any) -> AttemptRow:
        return AttemptRow(**{"ordinal": ordinal, "attempt": attempt, "run": 1, "outcome": Outcome.FAIL, **values})

    @staticmethod
    def command(command_id: str = "c", **values: Any) -> CommandRow:
        return CommandRow(**{"id": command_id, "kind": "pause", **values})

    @staticmethod
    def definition(version: str = "v", workflow_id: str = "w", **values: Any) -> DefinitionRow:
        return DefinitionRow(
            **{"workflow_id": workflow_id, "version": version, "canonical": b"{}", "created_us": 1, **values}
        )

    @staticmethod
    def line(number: int, instance_id: str = "i", **values: Any) -> LogRow:
        plain = {"task": "t0", "attempt": 1, "level": "info", "message": f"line {number}", "at_us": number}
        return LogRow(**{"instance_id": instance_id, "id": number, **plain, **values})

    def lines(self, *numbers: int, **values: Any) -> LogBatch:
        return LogBatch(tuple(self.line(number, **values) for number in numbers))

    @staticmethod
    def token(token_id: str = "t", **values: Any) -> TokenRow:
        return TokenRow(**{"id": token_id, "name": "n", "scope": "read", "digest": "00", "created_us": 1, **values})

    def decision(
        self,
        instance_id: str = "i",
        seq: int = 1,
        *,
        instance: InstanceChange | None = None,
        tasks: Iterable[TaskChange] = (),
        attempts: Iterable[AttemptRow] = (),
        commands: Iterable[CommandRow] = (),
        event: EventRow | None = None,
    ) -> Decision:
        return Decision(
            instance_id=instance_id,
            event=event or self.event(instance_id, seq),
            instance=instance,
            tasks=tuple(tasks),
            attempts=tuple(attempts),
            commands=tuple(commands),
        )

    def start(self, instance_id: str = "i", *tasks: TaskRow, **values: Any) -> Decision:
        """The first decision of an instance: its row, its tasks, its event."""
        change = self.new(self.instance(instance_id, **values))
        return self.decision(instance_id, 1, instance=change, tasks=[self.change(task) for task in tasks])


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def everything() -> Callable[[Store], Any]:
    """All that the reading verbs can say, as plain data that can be compared."""
    return _everything


async def _everything(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = {
        "workflows": await store.workflows(),
        "functions": await store.functions(),
        "tokens": await store.tokens(),
        "versions": await store.versions("w"),
        "logs": await store.logs("i"),
        "unfinished": [row.id async for row in store.unfinished()],
        "status": dict((await store.status()).instances),
    }
    for row in await store.instances(limit=1000, descending=False):
        found[row.id] = {
            "row": row,
            "loaded": await store.load([row.id]),
            "tasks": await store.tasks(row.id),
            "events": await store.events(row.id),
            "attempts": await store.attempts(row.id),
            "commands": await store.commands(row.id),
            "logs": await store.logs(row.id),
        }
    return found
