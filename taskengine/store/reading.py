"""The reading verbs of every store that speaks SQL: named queries in, rows out. How they are asked is the store's.

A question is the name of a query and its values. What needs several of one moment is a `Look`: a generator that
yields questions, gets the rows, and returns what it made of them; so the same text serves a thread with a blocking
driver and a loop with an awaiting one.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Generator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from taskengine.clock import Micros
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
from taskengine.model.states import InstanceState, Phase, TaskState
from taskengine.store import codec
from taskengine.store.dialect import Dialect
from taskengine.store.interface import (
    ALL_INSTANCES,
    MAX_ORDINAL,
    PENDING,
    RUNNING,
    InstanceQuery,
    Loaded,
    OpenTasks,
    Sight,
)
from taskengine.store.queries import queries
from taskengine.store.select import Statement, select_count, select_page

__all__ = ["Look", "Reading"]

_T = TypeVar("_T")

Look = Generator[Statement, Sequence[codec.Values], _T]
"""Yields SQL with its values, is sent the rows, returns what was asked for."""

PAGE: Final = 200
"""Instances read at once by `unfinished`."""

_GAPS_PAGE: Final = 5000


_RUNNING: Final = sorted(RUNNING)
_PENDING: Final = sorted(PENDING)
_NOT_PENDING: Final = sorted(frozenset(TaskState) - PENDING)


class Reading(ABC):
    """See `interface.Store` for the verbs.

    What a store gives: `_rows` for rows of one query, which may be many; `_few` for the rows of one that is always
    quick; `_see` for a look. All raise Unavailable when it is not open, StoreUnavailable when the database is away.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._words = queries(dialect)
        self._sql: Mapping[str, str] = {name: dialect.marked(sql) for name, sql in self._words.items()}

    def _list(self, values: Collection[str] | Collection[int]) -> object:
        return self._dialect.listed(values)

    def _askable(self, values: Sequence[object]) -> codec.Values | None:
        """The values as the driver takes them; None: no row can hold such a text."""
        return codec.askable(values, nul=self._dialect.holds_nul)

    @abstractmethod
    async def _ask(self, query: str, values: Sequence[object], made: Callable[[codec.Values], _T]) -> list[_T]:
        """`made` of each row."""

    @abstractmethod
    async def _few(self, name: str, *values: object) -> Sequence[codec.Values]: ...

    @abstractmethod
    async def _see(self, look: Callable[[], Look[_T]], *, quick: bool = False) -> _T:
        """All its questions are answered as of one moment. quick: it asks for a few rows by their key."""

    async def _rows(self, name: str, *values: object) -> list[codec.Values]:
        return await self._ask(self._sql[name], values, _as_it_is)

    async def instance(self, instance_id: InstanceId) -> InstanceRow | None:
        return next(map(codec.instance_row, await self._few("instance", instance_id)), None)

    async def sight(self, instance_id: InstanceId, wanted: Callable[[Version], Collection[int]]) -> Sight | None:
        if self._askable((instance_id,)) is None:
            return None
        return await self._see(lambda: self._sight(instance_id, wanted), quick=True)

    def _sight(self, instance_id: InstanceId, wanted: Callable[[Version], Collection[int]]) -> Look[Sight | None]:
        found = yield self._sql["instance"], [instance_id]
        if not found:
            return None
        row = codec.instance_row(found[0])
        last = yield self._sql["last_event"], [instance_id]
        results: dict[Ordinal, bytes] = {}
        if row.phase is Phase.END and (ordinals := wanted(row.version)):
            results = dict((yield self._sql["results"], [instance_id, self._list(ordinals)]))
        return Sight(row=row, last=codec.event_row(last[0]) if last else None, results=results)

    async def instances(
        self,
        query: InstanceQuery = ALL_INSTANCES,
        *,
        limit: int = 20,
        offset: int = 0,
        descending: bool = True,
        after: tuple[Micros, InstanceId] | None = None,
    ) -> list[InstanceRow]:
        page = select_page(
            self._dialect, self._words, query, limit=limit, offset=offset, descending=descending, after=after
        )
        return await self._ask(*page, codec.instance_row)

    async def aged(
        self,
        query: InstanceQuery = ALL_INSTANCES,
        *,
        limit: int = 500,
        after: tuple[Micros, InstanceId] | None = None,
    ) -> list[Aged]:
        page = select_page(
            self._dialect,
            self._words,
            query,
            limit=limit,
            offset=0,
            descending=False,
            after=after,
            columns="aged_columns",
        )
        return await self._ask(*page, codec.aged_row)

    async def removed(self, limit: int = 100) -> list[InstanceId]:
        return [InstanceId(instance_id) for (instance_id,) in await self._rows("removed", limit)]

    async def count_instances(self, query: InstanceQuery = ALL_INSTANCES) -> int:
        return sum(
            [int(count) for (count,) in await self._ask(*select_count(self._dialect, self._words, query), _as_it_is)]
        )

    async def unfinished(self) -> AsyncIterator[InstanceRow]:
        last_us, last_id = -(1 << 63), ""
        while page := await self._ask(self._sql["unfinished"], (last_us, last_us, last_id, PAGE), codec.instance_row):
            for row in page:
                yield row
            last_us, last_id = page[-1].created_us, page[-1].id

    async def load(self, instance_ids: Collection[InstanceId]) -> dict[InstanceId, Loaded]:
        wanted = self._list(instance_ids)
        return await self._see(lambda: self._load(wanted))

    def _load(self, wanted: object) -> Look[dict[InstanceId, Loaded]]:
        rows = yield self._sql["instances_in"], [wanted]
        loaded = {row.id: Loaded(row=row, tasks=[], commands=[], last_seq=0) for row in map(codec.instance_row, rows)}
        wanted = self._list(loaded)  # a removed instance may have left tasks
        for instance_id, *task in (yield self._sql["light_tasks"], [wanted]):
            loaded[instance_id].tasks.append(codec.task_row(tuple(task)))
        for instance_id, *command in (yield self._sql["commands_of"], [wanted]):
            loaded[instance_id].commands.append(codec.command_row(tuple(command)))
        for instance_id, last_seq in (yield self._sql["last_seqs"], [wanted]):
            loaded[instance_id] = msgspec.structs.replace(loaded[instance_id], last_seq=last_seq)
        return loaded

    async def tasks(self, instance_id: InstanceId, *, after: int = -1, limit: int = 500) -> list[TaskRow]:
        return [codec.task_row(found) for found in await self._rows("whole_tasks", instance_id, after, limit)]

    async def task_states(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, TaskState]:
        rows = await self._rows("task_states", instance_id, self._list(ordinals))
        return {Ordinal(ordinal): TaskState(state) for ordinal, state in rows}

    async def task_names(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, str]:
        return {Ordinal(n): name for n, name in await self._rows("task_names", instance_id, self._list(ordinals))}

    async def added_task(self, instance_id: InstanceId, name: str) -> Ordinal | None:
        return next((Ordinal(n) for (n,) in await self._few("added_task", instance_id, name)), None)

    async def open_tasks(self, instance_id: InstanceId, count: int, *, limit: int = 100) -> OpenTasks:
        if self._askable((instance_id,)) is None:
            return OpenTasks(running=[], pending=[Ordinal(n) for n in range(min(count, limit))])
        return await self._see(lambda: self._open_tasks(instance_id, min(count, MAX_ORDINAL), limit))

    def _open_tasks(self, instance_id: InstanceId, count: int, limit: int) -> Look[OpenTasks]:
        query = self._sql["tasks_in"]
        running = yield query, [instance_id, 0, MAX_ORDINAL, self._list(_RUNNING), limit]
        pending: list[Ordinal] = []
        settled, at = self._list(_NOT_PENDING), 0
        while at < count and len(pending) < limit:
            taken = {n for (n,) in (yield query, [instance_id, at, count, settled, _GAPS_PAGE])}
            end = max(taken) + 1 if len(taken) == _GAPS_PAGE else count
            for n in range(at, end):
                if n not in taken:
                    pending.append(Ordinal(n))
                    if len(pending) == limit:
                        break
            at = end
        if len(pending) < limit:
            added = yield query, [instance_id, count, MAX_ORDINAL, self._list(_PENDING), limit - len(pending)]
            pending += [Ordinal(n) for (n,) in added]
        return OpenTasks(running=[n for (n,) in running], pending=pending)

    async def tasks_in(
        self, instance_id: InstanceId, states: Collection[TaskState], *, parent: int | None = None, limit: int = 100
    ) -> list[Ordinal]:
        first, last = (-1, MAX_ORDINAL) if parent is None else (parent, parent)
        rows = await self._rows("family_in", instance_id, first, last, self._list(sorted(states)), limit)
        return [Ordinal(ordinal) for (ordinal,) in rows]

    async def count_tasks(self, instance_id: InstanceId, *, parent: int | None = None) -> dict[TaskState, int]:
        first, last = (-1, MAX_ORDINAL) if parent is None else (parent, parent)
        rows = await self._rows("family_counts", instance_id, first, last)
        return {TaskState(state): int(count) for state, count in rows}

    async def results(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, bytes]:
        return await self._by_ordinal("results", instance_id, ordinals)

    async def task_errors(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, bytes]:
        return await self._by_ordinal("task_errors", instance_id, ordinals)

    async def _by_ordinal(self, name: str, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, bytes]:
        """Sorted here: a database that is asked for an order would read all of the instance's tasks in it."""
        return {Ordinal(n): json for n, json in sorted(await self._rows(name, instance_id, self._list(ordinals)))}

    async def events(self, instance_id: InstanceId, *, after: int = 0, limit: int = 500) -> list[EventRow]:
        return [codec.event_row(found) for found in await self._rows("events", instance_id, after, limit)]

    async def last_event(self, instance_id: InstanceId) -> EventRow | None:
        return next(map(codec.event_row, await self._few("last_event", instance_id)), None)

    async def last_events(self, instance_ids: Collection[InstanceId]) -> dict[InstanceId, EventRow]:
        return {
            values[0]: codec.event_row(values) for values in await self._rows("last_events", self._list(instance_ids))
        }

    async def attempts(
        self, instance_id: InstanceId, ordinal: int | None = None, *, after: int = -1, last: int = MAX_ORDINAL
    ) -> list[AttemptRow]:
        if ordinal is None:
            found = await self._rows("attempts", instance_id, after, last)
        else:
            found = await self._rows("attempts_of_task", instance_id, ordinal)
        return [codec.attempt_row(values) for values in found]

    async def command(self, instance_id: InstanceId, command_id: CommandId) -> CommandRow | None:
        return next(map(codec.command_row, await self._few("command", instance_id, command_id)), None)

    async def commands(self, instance_id: InstanceId) -> list[CommandRow]:
        return [codec.command_row(found) for found in await self._rows("commands", instance_id)]

    async def instance_by_key(self, workflow_id: WorkflowId, key: str) -> InstanceRow | None:
        return next(map(codec.instance_row, await self._few("instance_by_key", workflow_id, key)), None)

    async def definition(self, version: Version) -> DefinitionRow | None:
        return next(map(codec.definition_row, await self._few("definition", version)), None)

    async def current(self, workflow_id: WorkflowId) -> DefinitionRow | None:
        return next(map(codec.definition_row, await self._few("current", workflow_id)), None)

    async def workflows(self) -> list[DefinitionRow]:
        return [codec.definition_row(found) for found in await self._rows("workflows")]

    async def versions(self, workflow_id: WorkflowId) -> list[DefinitionRow]:
        return [codec.definition_row(found) for found in await self._rows("versions", workflow_id)]

    async def keeping(self) -> list[DefinitionRow]:
        rows = [codec.definition_row(found) for found in await self._rows("definitions_mentioning_retention")]
        return [row for row in rows if retention_of(row.canonical) is not None]

    async def functions(self) -> list[FunctionRow]:
        return [codec.function_row(found) for found in await self._rows("functions")]

    async def logs(
        self,
        instance_id: InstanceId,
        *,
        task: str | None = None,
        after: int = 0,
        limit: int = 1000,
        tail: int | None = None,
    ) -> list[LogRow]:
        name = "logs" if tail is None else "last_logs"
        count = limit if tail is None else tail
        if task is None:
            found = await self._rows(name, instance_id, after, count)
        else:
            found = await self._rows(f"{name}_of_task", instance_id, after, task, count)
        rows = [codec.log_row(values) for values in found]
        return rows if tail is None else rows[::-1]

    async def last_log(self, instance_id: InstanceId) -> int:
        return sum([last for (last,) in await self._rows("last_log", instance_id)])

    async def artifacts(self, instance_id: InstanceId) -> list[ArtifactRow]:
        return [codec.artifact_row(values) for values in await self._rows("artifacts", instance_id)]

    async def known_digests(self, digests: Collection[str]) -> set[str]:
        return {digest for (digest,) in await self._rows("known_digests", self._list(digests))}

    async def tokens(self) -> list[TokenRow]:
        return [codec.token_row(found) for found in await self._rows("tokens")]

    async def _count_by_state(self) -> dict[InstanceState, int]:
        return {InstanceState(state): count for state, count in await self._rows("count_by_state")}


def _as_it_is(row: codec.Values) -> codec.Values:
    return row
