"""The store without a database: for tests, the simulation and `memory://`. Everything is gone with the process.

It keeps the same promises as the others apart from durability, and checks them in the same order. The simulation
makes commits fail by wrapping `commit`, and crashes by taking a `snapshot` and opening a new store on it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from taskengine.ambient import Ambient
from taskengine.clock import Micros
from taskengine.errors import StoreError, StoreLocked, Unavailable
from taskengine.model.definition import retention_of
from taskengine.model.ids import CommandId, InstanceId, Ordinal, Version, WorkflowId
from taskengine.model.records import (
    Aged,
    ArtifactRow,
    AttemptRow,
    CommandRow,
    DefinitionRow,
    EventRow,
    FunctionRow,
    InstanceRow,
    LogRow,
    TaskRow,
    TokenRow,
)
from taskengine.model.states import Phase, TaskState
from taskengine.store.batch import Batch
from taskengine.store.interface import (
    ALL_INSTANCES,
    MAX_ORDINAL,
    PENDING,
    RUNNING,
    InstanceQuery,
    Loaded,
    OpenTasks,
    Sight,
    StoreFigures,
    StoreStatus,
    TableRows,
    lower_ascii,
)
from taskengine.store.lock import Holder
from taskengine.store.memory_tables import Snapshot, apply, check, check_fit
from taskengine.store.tables import TABLES

__all__ = ["MemoryStore", "Snapshot"]


class MemoryStore:
    """See `interface.Store`. Closing keeps the rows, so the same object can be opened again.

    lanes  more than one for what has to be shown of several, without a database
    """

    def __init__(
        self, ambient: Ambient, snapshot: Snapshot | None = None, *, read_only: bool = False, lanes: int = 1
    ) -> None:
        self._ambient, self._read_only, self._lanes = ambient, read_only, lanes
        self._rows = Snapshot() if snapshot is None else snapshot.copy()
        self._open = False
        self._epoch = 0

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def lanes(self) -> int:
        return self._lanes

    @property
    def keep_after_s(self) -> float | None:
        return None

    async def keep(self, lane: int) -> None:
        """There is nobody to tell."""

    def snapshot(self) -> Snapshot:
        """A copy of what is committed; what a crash at this moment would leave. Also of a closed store."""
        return self._rows.copy()

    async def open(self) -> None:
        if self._open:
            raise StoreError("the store is open already")
        rows = self._rows
        if not self._read_only:
            rows.epoch += 1
            rows.batches.clear()
            self._epoch = rows.epoch
        self._open = True

    async def close(self) -> None:
        self._open, self._epoch = False, 0

    async def commit(self, batch: Batch) -> None:
        rows = self._tables()
        if self._read_only:
            raise StoreError("memory:// was opened for reading only")
        # A turn of the loop, as a real commit takes one: others save meanwhile, and the simulation can interleave.
        await asyncio.sleep(0)
        if batch.epoch != self._epoch:
            raise StoreLocked("memory://", f"epoch {self._epoch}; the batch is of epoch {batch.epoch}")
        name = (batch.epoch, batch.lane, batch.number)
        if name in rows.batches:
            return
        check_fit(batch)
        check(rows, batch)
        self._ambient.probe.reach("commit.applied")
        apply(rows, batch)
        rows.batches -= {it for it in rows.batches if it[1] == batch.lane and it[2] < batch.acknowledged}
        rows.batches.add(name)

    async def instance(self, instance_id: InstanceId) -> InstanceRow | None:
        return self._tables().instances.get(instance_id)

    async def sight(self, instance_id: InstanceId, wanted: Callable[[Version], Collection[int]]) -> Sight | None:
        rows = self._tables()
        row = rows.instances.get(instance_id)
        if row is None:
            return None
        events = rows.events.get(instance_id, {})
        ordinals = wanted(row.version) if row.phase is Phase.END else ()
        results = {it.ordinal: it.result for it in self._named(instance_id, ordinals) if isinstance(it.result, bytes)}
        return Sight(row=row, last=events[max(events)] if events else None, results=results)

    async def instances(
        self,
        query: InstanceQuery = ALL_INSTANCES,
        *,
        limit: int = 20,
        offset: int = 0,
        descending: bool = True,
        after: tuple[Micros, InstanceId] | None = None,
    ) -> list[InstanceRow]:
        found = sorted(self._select(query), key=_age, reverse=descending)
        if after is not None:
            found = [row for row in found if (_age(row) < after if descending else _age(row) > after)]
        return found[offset : offset + limit]

    async def aged(
        self,
        query: InstanceQuery = ALL_INSTANCES,
        *,
        limit: int = 500,
        after: tuple[Micros, InstanceId] | None = None,
    ) -> list[Aged]:
        return [_aged(row) for row in await self.instances(query, limit=limit, descending=False, after=after)]

    async def removed(self, limit: int = 100) -> list[InstanceId]:
        return list(islice(self._tables().removed, limit))

    async def count_instances(self, query: InstanceQuery = ALL_INSTANCES) -> int:
        return sum(1 for _ in self._select(query))

    def _select(self, query: InstanceQuery) -> Iterator[InstanceRow]:
        rows = self._tables()
        versions = _labelled(rows.definitions.values(), query.labels) if query.labels else None
        needle = lower_ascii(query.search)
        for row in rows.instances.values():
            if (
                (query.workflow_id is None or row.workflow_id == query.workflow_id)
                and (not query.states or row.state in query.states)
                and (versions is None or row.version in versions)
                and (query.created_after_us is None or row.created_us >= query.created_after_us)
                and (query.created_before_us is None or row.created_us < query.created_before_us)
                and row.id.startswith(query.prefix)
                and any(needle in lower_ascii(text) for text in (row.id, row.workflow_id, row.error))
            ):
                yield row

    async def unfinished(self) -> AsyncIterator[InstanceRow]:
        rows = self._tables()
        for old in sorted((row for row in rows.instances.values() if row.phase is not Phase.END), key=_age):
            row = rows.instances[old.id]
            if row.phase is not Phase.END:
                yield row

    async def load(self, instance_ids: Collection[InstanceId]) -> dict[InstanceId, Loaded]:
        known = self._tables().instances
        return {instance_id: self._load(instance_id) for instance_id in instance_ids if instance_id in known}

    def _load(self, instance_id: InstanceId) -> Loaded:
        rows, unset = self._tables(), msgspec.UNSET
        return Loaded(
            row=rows.instances[instance_id],
            tasks=[
                msgspec.structs.replace(task, result=unset, error=unset)
                for _, task in sorted(rows.tasks.get(instance_id, {}).items())
            ],
            commands=list(rows.commands.get(instance_id, {}).values()),
            last_seq=max(rows.events.get(instance_id, ()), default=0),
        )

    async def tasks(self, instance_id: InstanceId, *, after: int = -1, limit: int = 500) -> list[TaskRow]:
        tasks = self._tables().tasks.get(instance_id, {})
        return [tasks[ordinal] for ordinal in sorted(tasks) if ordinal > after][:limit]

    async def task_states(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, TaskState]:
        return {task.ordinal: task.state for task in self._named(instance_id, ordinals)}

    async def task_names(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, str]:
        return {task.ordinal: task.name for task in self._named(instance_id, ordinals)}

    async def added_task(self, instance_id: InstanceId, name: str) -> Ordinal | None:
        tasks = self._tables().tasks.get(instance_id, {}).values()
        found = (task.ordinal for task in tasks if task.name == name and task.spec is not None and task.added_by >= 0)
        return next(found, None)

    async def open_tasks(self, instance_id: InstanceId, count: int, *, limit: int = 100) -> OpenTasks:
        tasks = self._tables().tasks.get(instance_id, {})
        states = [(n, tasks[n].state if n in tasks else TaskState.PENDING) for n in map(Ordinal, range(count))]
        states += [(Ordinal(n), tasks[n].state) for n in sorted(tasks) if n >= count]
        running = [ordinal for ordinal, state in states if state in RUNNING]
        pending = [ordinal for ordinal, state in states if state in PENDING]
        return OpenTasks(running=running[:limit], pending=pending[:limit])

    async def tasks_in(
        self, instance_id: InstanceId, states: Collection[TaskState], *, parent: int | None = None, limit: int = 100
    ) -> list[Ordinal]:
        found = (task.ordinal for task in self._family(instance_id, parent) if task.state in states)
        return list(islice(found, limit))

    async def count_tasks(self, instance_id: InstanceId, *, parent: int | None = None) -> dict[TaskState, int]:
        return dict(Counter(task.state for task in self._family(instance_id, parent)))

    def _family(self, instance_id: InstanceId, parent: int | None) -> Iterator[TaskRow]:
        tasks = self._tables().tasks.get(instance_id, {})
        here = (tasks[ordinal] for ordinal in sorted(tasks) if tasks[ordinal].added_by >= 0)
        return (task for task in here if parent is None or task.parent == parent)

    async def results(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, bytes]:
        tasks = self._named(instance_id, ordinals)
        return {task.ordinal: task.result for task in tasks if isinstance(task.result, bytes)}

    async def task_errors(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, bytes]:
        tasks = self._named(instance_id, ordinals)
        return {task.ordinal: task.error for task in tasks if isinstance(task.error, bytes)}

    def _named(self, instance_id: InstanceId, ordinals: Iterable[int]) -> Iterator[TaskRow]:
        tasks = self._tables().tasks.get(instance_id, {})
        return (tasks[ordinal] for ordinal in sorted(set(ordinals)) if ordinal in tasks)

    async def events(self, instance_id: InstanceId, *, after: int = 0, limit: int = 500) -> list[EventRow]:
        events = self._tables().events.get(instance_id, {})
        return [events[seq] for seq in sorted(events) if seq > after][:limit]

    async def last_event(self, instance_id: InstanceId) -> EventRow | None:
        events = self._tables().events.get(instance_id, {})
        return events[max(events)] if events else None

    async def last_events(self, instance_ids: Collection[InstanceId]) -> dict[InstanceId, EventRow]:
        events = self._tables().events
        return {each: events[each][max(events[each])] for each in instance_ids if events.get(each)}

    async def attempts(
        self, instance_id: InstanceId, ordinal: int | None = None, *, after: int = -1, last: int = MAX_ORDINAL
    ) -> list[AttemptRow]:
        attempts = self._tables().attempts.get(instance_id, {})
        first, end = (after, last) if ordinal is None else (ordinal - 1, ordinal)
        return [attempts[key] for key in sorted(attempts) if first < key[0] <= end]

    async def command(self, instance_id: InstanceId, command_id: CommandId) -> CommandRow | None:
        return self._tables().commands.get(instance_id, {}).get(command_id)

    async def commands(self, instance_id: InstanceId) -> list[CommandRow]:
        return list(self._tables().commands.get(instance_id, {}).values())

    async def instance_by_key(self, workflow_id: WorkflowId, key: str) -> InstanceRow | None:
        rows = self._tables()
        found = rows.keys.get((workflow_id, key))
        return None if found is None else rows.instances[found]

    async def definition(self, version: Version) -> DefinitionRow | None:
        return self._tables().definitions.get(version)

    async def current(self, workflow_id: WorkflowId) -> DefinitionRow | None:
        rows = self._tables()
        version = rows.current.get(workflow_id)
        return None if version is None else rows.definitions[version]

    async def workflows(self) -> list[DefinitionRow]:
        rows = self._tables()
        return [rows.definitions[version] for _, version in sorted(rows.current.items())]

    async def versions(self, workflow_id: WorkflowId) -> list[DefinitionRow]:
        saved = [row for row in self._tables().definitions.values() if row.workflow_id == workflow_id]
        saved.sort(key=lambda row: row.created_us)  # of one age, the one that was saved later counts as newer
        return saved[::-1]

    async def keeping(self) -> list[DefinitionRow]:
        return [row for row in self._tables().definitions.values() if retention_of(row.canonical) is not None]

    async def functions(self) -> list[FunctionRow]:
        return [row for _, row in sorted(self._tables().functions.items())]

    async def logs(
        self,
        instance_id: InstanceId,
        *,
        task: str | None = None,
        after: int = 0,
        limit: int = 1000,
        tail: int | None = None,
    ) -> list[LogRow]:
        lines = sorted(self._tables().logs.get(instance_id, {}).items())
        found = [row for number, row in lines if number > after and (task is None or row.task == task)]
        return found[:limit] if tail is None else found[max(0, len(found) - tail) :]

    async def last_log(self, instance_id: InstanceId) -> int:
        return max(self._tables().logs.get(instance_id, ()), default=0)

    async def artifacts(self, instance_id: InstanceId) -> list[ArtifactRow]:
        return [row for _, row in sorted(self._tables().artifacts.get(instance_id, {}).items())]

    async def known_digests(self, digests: Collection[str]) -> set[str]:
        kept = {row.digest for rows in self._tables().artifacts.values() for row in rows.values()}
        return kept & set(digests)

    async def tokens(self) -> list[TokenRow]:
        return sorted(self._tables().tokens.values(), key=lambda row: (row.created_us, row.id))

    async def status(self) -> StoreStatus:
        counts = Counter(row.state for row in self._tables().instances.values())
        return StoreStatus(address="memory://", schema=0, size_bytes=0, instances=dict(counts))

    async def figures(self) -> StoreFigures:
        rows = self._tables()
        counts = {table.name: _rows_in(getattr(rows, _PLACES.get(table.name, table.name))) for table in TABLES}
        return StoreFigures(
            kind="memory",
            status=await self.status(),
            steps=(),
            tables=[TableRows(table=name, rows=count, exact=True) for name, count in counts.items()],
            oldest=min((row for row in rows.instances.values() if row.phase is not Phase.END), key=_age, default=None),
            holder=None if self._read_only else Holder.here(),
        )

    async def note_address(self, address: str) -> None:
        self._tables()

    def _tables(self) -> Snapshot:
        if not self._open:
            raise Unavailable("the store is not open")
        return self._rows


_PLACES: Final = {"workflows": "current"}
"""Names of our dictionaries where they are not those of the tables."""


def _rows_in(table: Mapping[Any, Any]) -> int:
    """Of a table, or of one that has a table for each instance."""
    return sum(len(rows) if isinstance(rows, dict) else 1 for rows in table.values())


class _Labelled(msgspec.Struct):
    """The one part of a canonical definition that a query can ask about."""

    labels: dict[str, str] = {}


_LABELLED: Final = msgspec.json.Decoder(_Labelled)


def _labelled(definitions: Iterable[DefinitionRow], wanted: Mapping[str, str]) -> set[Version]:
    """The versions that have all of these labels."""
    return {row.version for row in definitions if wanted.items() <= _LABELLED.decode(row.canonical).labels.items()}


def _aged(row: InstanceRow) -> Aged:
    return Aged(
        id=row.id,
        workflow_id=row.workflow_id,
        version=row.version,
        run=row.run,
        state=row.state,
        created_us=row.created_us,
        finished_us=row.finished_us,
        keyed=row.idempotency_key is not None,
    )


def _age(row: InstanceRow) -> tuple[int, str]:
    return (row.created_us, row.id)
