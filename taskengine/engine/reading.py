"""Answers about committed state, put together from rows."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from taskengine.clock import Clock, Micros
from taskengine.engine.blueprint import Blueprint, Blueprints
from taskengine.engine.directory import Directory
from taskengine.engine.explanation import Gathering, explain_instance, explain_task
from taskengine.engine.offspring import sub_tasks
from taskengine.engine.planner import Shape
from taskengine.engine.results import whole_results
from taskengine.engine.sights import Ending, Snapshot
from taskengine.engine.views import (
    AttemptView,
    InstanceView,
    TaskView,
    VersionView,
    WorkflowView,
    attempt_view,
    instance_view,
    task_view,
    version_view,
    workflow_view,
)
from taskengine.errors import NotFound
from taskengine.model.added import added_spec
from taskengine.model.events import Event
from taskengine.model.ids import InstanceId, Ordinal, Version, WorkflowId
from taskengine.model.progress import Progress
from taskengine.model.records import DefinitionRow, EventRow, InstanceRow, LogRow, TaskRow
from taskengine.model.spelling import did_you_mean
from taskengine.model.states import TASK_FINAL, InstanceState, Phase, TaskState
from taskengine.model.waits import Wait, wait_of
from taskengine.store.artifacts import Artifacts
from taskengine.store.interface import MAX_ORDINAL, InstanceQuery, Store
from taskengine.wire import Explanation

__all__ = ["Reading"]

_JSON: Final = msgspec.json.Decoder()
_PAGE: Final = 1000
_SHOWN_ITEMS: Final = 1000
"""Of a `for_each` among an instance's results; a longer list is read through its sub-tasks."""
_GUESSABLE: Final = 1000
"""Names among which it is quick to find one that looks like another."""


class Reading:
    """Reads for the facade; never sees what is not committed."""

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        blueprints: Blueprints,
        clock: Clock,
        directory: Directory | None = None,
    ) -> None:
        """`directory`: what is in memory, of the engine that writes to the store; without one, the store is asked."""
        self._store, self._artifacts = store, artifacts
        self._blueprints = blueprints
        self._clock = clock
        self._directory = directory

    async def instance(self, instance_id: InstanceId) -> InstanceView:
        if self._directory is not None:
            sights = self._directory.sights
            snapshot = sights.live(instance_id)
            if snapshot is not None:
                return await self.view_of(snapshot)
            ending = sights.ended(instance_id)
            if ending is not None:
                return await self._view_of_end(ending)
        return await self._view_of_end(await self._sight(instance_id))

    async def view_of(self, snapshot: Snapshot) -> InstanceView:
        """A committed copy needs no reading, but for a definition that was not in use."""
        row, progress = snapshot
        blueprint = await self._blueprint(row.version)
        return instance_view(row, blueprint.definition.title, progress, self._clock.now_us())

    async def _view_of_end(self, ending: Ending) -> InstanceView:
        if ending.view is not None:
            return ending.view
        view = await self.view_of((ending.row, ending.progress))
        if ending.row.phase is Phase.END:
            ending.view = view
        return view

    async def _sight(self, instance_id: InstanceId) -> Ending:
        """From the store, and remembered if it is at its end. Raises NotFound."""
        directory = self._directory
        ticket = None if directory is None else directory.sights.begin(instance_id)
        ending = None
        try:
            asked: list[bool] = []  # whether its definition was known when the store looked for results
            sight = await self._store.sight(instance_id, lambda version: self._leaves(version, asked))
            if sight is None:
                raise NotFound("instance", instance_id)
            row = sight.row
            complete = asked == [True]
            found = Ending(row, await self._progress(row, sight.last), sight.results if complete else None)
            # A store that only reads has no epoch, and another process may write to it.
            if row.phase is Phase.END and complete and self._store.epoch:
                ending = found
            return found
        finally:
            if directory is not None:
                here = directory.get(instance_id) is not None
                directory.sights.keep(instance_id, ticket, None if here else ending)

    def _leaves(self, version: Version, asked: list[bool]) -> Sequence[int]:
        """Called on the store's thread: it only looks."""
        blueprint = self._blueprints.peek(version)
        asked.append(blueprint is not None)
        return () if blueprint is None else blueprint.leaves

    async def history(
        self,
        workflow_id: WorkflowId | None,
        states: Sequence[InstanceState],
        *,
        limit: int,
        offset: int,
        descending: bool,
    ) -> list[InstanceView]:
        query = InstanceQuery(workflow_id=workflow_id, states=frozenset(states))
        return await self.instances(query, limit=limit, offset=offset, descending=descending)

    async def instances(
        self,
        query: InstanceQuery,
        *,
        limit: int,
        offset: int = 0,
        descending: bool = True,
        after: tuple[Micros, InstanceId] | None = None,
    ) -> list[InstanceView]:
        rows = await self._store.instances(query, limit=limit, offset=offset, descending=descending, after=after)
        last = await self._store.last_events([row.id for row in rows])
        return [await self._view(row, last.get(row.id)) for row in rows]

    async def find(self, prefix: str, limit: int) -> list[InstanceId]:
        return [row.id for row in await self._store.instances(InstanceQuery(prefix=prefix), limit=limit)]

    async def events(self, instance_id: InstanceId, after: int, limit: int) -> list[Event]:
        workflow_id = (await self._row(instance_id)).workflow_id
        rows = await self._store.events(instance_id, after=after, limit=limit)
        return [
            Event(instance_id=instance_id, workflow_id=workflow_id, seq=row.seq, at_us=row.at_us, body=row.body)
            for row in rows
        ]

    async def logs(
        self, instance_id: InstanceId, *, task: str | None, after: int, limit: int, tail: int | None
    ) -> list[LogRow]:
        await self._row(instance_id)
        return await self._store.logs(instance_id, task=task, after=after, limit=limit, tail=tail)

    async def workflow(self, workflow_id: WorkflowId) -> WorkflowView:
        row = await self._current(workflow_id)
        return workflow_view(row, self._blueprints.decode(row.canonical, row.version).definition)

    async def workflows(self) -> list[WorkflowView]:
        rows = await self._store.workflows()
        return [workflow_view(row, self._blueprints.decode(row.canonical, row.version).definition) for row in rows]

    async def versions(self, workflow_id: WorkflowId) -> list[VersionView]:
        current = (await self._current(workflow_id)).version
        return [version_view(row, current) for row in await self._store.versions(workflow_id)]

    async def tasks(self, instance_id: InstanceId, after: int = -1, limit: int | None = None) -> list[TaskView]:
        shape = (await self._blueprint(await self._version(instance_id))).shape
        first, defined = max(after + 1, 0), len(shape.names)
        end = defined if limit is None else min(first + limit, defined)
        found = await self._task_views(instance_id, shape, first, end) if first < end else []
        room = None if limit is None else limit - len(found)
        if room != 0:
            found += await self._added_views(instance_id, shape, max(first, defined), room)
        return found

    async def rows(self, instance_id: InstanceId) -> list[TaskRow]:
        """Every row of its tasks, with results, in the order of their ordinals."""
        return [row async for row in self._task_rows(instance_id, 0, MAX_ORDINAL)]

    async def task(self, instance_id: InstanceId, name: str) -> TaskView:
        shape = (await self._blueprint(await self._version(instance_id))).shape
        ordinal = await self._ordinal(instance_id, shape, name)
        if ordinal < len(shape.names):
            (view,) = await self._task_views(instance_id, shape, ordinal, ordinal + 1)
        else:
            (view,) = await self._added_views(instance_id, shape, ordinal, 1)
        return await self._whole(view)

    async def explain(self, instance_id: InstanceId, name: str | None) -> Explanation:
        row = await self._row(instance_id)
        shape = (await self._blueprint(row.version)).shape
        gathering = Gathering(self._store, row, shape)
        if name is not None:
            return explain_task(await gathering.about_task(await self._ordinal(instance_id, shape, name)))
        progress = await self._progress(row, await self._store.last_event(instance_id))
        return explain_instance(await gathering.about_instance(progress))

    async def waits(self, instance_id: InstanceId) -> dict[str, Wait]:
        """What tasks of its version wait for, by the name of the signal."""
        shape = (await self._blueprint(await self._version(instance_id))).shape
        return {wait.signal: wait for wait in map(wait_of, shape.specs) if wait is not None}

    async def _ordinal(self, instance_id: InstanceId, shape: Shape, name: str) -> int:
        ordinal = shape.ordinals.get(name)
        if ordinal is None:
            ordinal = await self._store.added_task(instance_id, name)
        if ordinal is None:
            raise NotFound("task", name, _meant(name, shape.ordinals))
        return ordinal

    async def _task_views(self, instance_id: InstanceId, shape: Shape, first: int, end: int) -> list[TaskView]:
        """Of the definition's tasks from `first` to before `end`."""
        rows = {int(row.ordinal): row async for row in self._task_rows(instance_id, first, end)}
        settled = {ordinal: row.state in TASK_FINAL for ordinal, row in rows.items()}
        needed = {
            need
            for n in range(first, end)
            if n not in rows or rows[n].state is TaskState.PENDING
            for need in shape.dependencies[n]
            if not first <= need < end
        }
        if needed:
            states = await self._store.task_states(instance_id, needed)
            settled.update((ordinal, state in TASK_FINAL) for ordinal, state in states.items())

        def waits_for(n: int) -> list[str]:
            return [shape.names[need] for need in shape.dependencies[n] if not settled.get(need, False)]

        return [task_view(shape.specs[n], n, rows.get(n), waits_for(n)) for n in range(first, end)]

    async def _added_views(
        self, instance_id: InstanceId, shape: Shape, first: int, limit: int | None
    ) -> list[TaskView]:
        """Of tasks that were added, from the ordinal `first` on."""
        views: list[TaskView] = []
        settled: dict[str, bool] = {}
        async for row in self._task_rows(instance_id, first, MAX_ORDINAL):
            if row.added_by < 0 or row.spec is None:
                continue
            if limit is not None and len(views) == limit:
                break
            settled[row.name] = row.state in TASK_FINAL
            views.append(task_view(added_spec(shape.specs, row, row.spec), row.ordinal, row, ()))
        return [_with_waits(view, settled) if view.status is TaskState.PENDING else view for view in views]

    async def _whole(self, view: TaskView) -> TaskView:
        """A large result is read for whoever asks for this one task."""
        if view.artifact is None:
            return view
        found = await self._artifacts.get(view.artifact)
        return msgspec.structs.replace(view, result=_JSON.decode(found))

    async def open_tasks(self, instance_id: InstanceId, limit: int) -> tuple[list[str], list[str]]:
        shape = (await self._blueprint(await self._version(instance_id))).shape
        found = await self._store.open_tasks(instance_id, len(shape.names), limit=limit)
        names = await self._names(instance_id, shape, [*found.running, *found.pending])
        return [names[ordinal] for ordinal in found.running], [names[ordinal] for ordinal in found.pending]

    async def _names(self, instance_id: InstanceId, shape: Shape, ordinals: Collection[int]) -> dict[int, str]:
        defined = len(shape.names)
        names = {ordinal: shape.names[ordinal] for ordinal in ordinals if ordinal < defined}
        added = [ordinal for ordinal in ordinals if ordinal >= defined]
        for start in range(0, len(added), _PAGE):
            found = await self._store.task_names(instance_id, added[start : start + _PAGE])
            names.update((int(ordinal), name) for ordinal, name in found.items())
        return names

    async def attempts(
        self, instance_id: InstanceId, task: str | None = None, after: int = -1, last: int | None = None
    ) -> list[AttemptView]:
        shape = (await self._blueprint(await self._version(instance_id))).shape
        if task is not None:
            rows = await self._store.attempts(instance_id, await self._ordinal(instance_id, shape, task))
        else:
            rows = await self._store.attempts(instance_id, after=after, last=MAX_ORDINAL if last is None else last)
        names = await self._names(instance_id, shape, {row.ordinal for row in rows})
        return [attempt_view(names[row.ordinal], row) for row in rows]

    async def result(self, instance_id: InstanceId, version: Version | None = None) -> dict[str, Any]:
        ending = None if self._directory is None else self._directory.sights.ended(instance_id)
        if ending is not None and ending.results is None:
            ending = await self._sight(instance_id)
        if ending is not None and ending.results is not None and ending.row.phase is Phase.END:
            blueprint, found = await self._blueprint(ending.row.version), ending.results
        else:
            blueprint = await self._blueprint(version or await self._version(instance_id))
            found = await self._store.results(instance_id, [Ordinal(leaf) for leaf in blueprint.leaves])
        names = blueprint.shape.names
        whole = await whole_results(found, self._artifacts)
        results = {names[leaf]: _JSON.decode(whole[Ordinal(leaf)]) for leaf in blueprint.leaves if leaf in whole}
        for leaf in blueprint.leaves:
            if blueprint.shape.specs[leaf].for_each is not msgspec.UNSET:
                results.update(await self._spread_result(instance_id, blueprint.shape, leaf))
        return results

    async def _spread_result(self, instance_id: InstanceId, shape: Shape, leaf: int) -> dict[str, Any]:
        """Of a `for_each` that succeeded, unless it has more items than anybody looks at."""
        if (await self._store.task_states(instance_id, [leaf])).get(Ordinal(leaf)) is not TaskState.SUCCESS:
            return {}
        found = await sub_tasks(self._store, self._artifacts, instance_id, leaf, limit=_SHOWN_ITEMS + 1)
        return {} if len(found) > _SHOWN_ITEMS else {shape.names[leaf]: [each.result for each in found]}

    async def _view(self, row: InstanceRow, last: EventRow | None) -> InstanceView:
        return await self.view_of((row, await self._progress(row, last)))

    async def _progress(self, row: InstanceRow, last: EventRow | None) -> Progress:
        if last is not None:
            return last.body.progress
        return Progress(pending=len((await self._blueprint(row.version)).shape.names))

    async def _version(self, instance_id: InstanceId) -> Version:
        """It never changes. Raises NotFound."""
        if self._directory is not None:
            sights = self._directory.sights
            if (snapshot := sights.live(instance_id)) is not None:
                return snapshot[0].version
            if (ending := sights.ended(instance_id)) is not None:
                return ending.row.version
        return (await self._row(instance_id)).version

    async def _row(self, instance_id: InstanceId) -> InstanceRow:
        row = await self._store.instance(instance_id)
        if row is None:
            raise NotFound("instance", instance_id)
        return row

    async def _current(self, workflow_id: WorkflowId) -> DefinitionRow:
        row = await self._store.current(workflow_id)
        if row is None:
            raise NotFound("workflow", workflow_id)
        return row

    async def _blueprint(self, version: Version) -> Blueprint:
        return await self._blueprints.stored(self._store, version)

    async def _task_rows(self, instance_id: InstanceId, first: int, end: int) -> AsyncIterator[TaskRow]:
        after = first - 1
        while after + 1 < end:
            page = await self._store.tasks(instance_id, after=after, limit=min(_PAGE, end - after - 1))
            for row in page:
                if row.ordinal < end:
                    yield row
            if len(page) < min(_PAGE, end - after - 1):
                return
            after = page[-1].ordinal


def _with_waits(view: TaskView, settled: Mapping[str, bool]) -> TaskView:
    """Of its siblings those that are not known to have ended, else its parent: it starts after that one's body."""
    open_ones = tuple(name for name in view.depends_on if not settled.get(name, False))
    parent = view.name.rpartition("/")[0]
    return msgspec.structs.replace(view, waits_for=open_ones or ((parent,) if parent else ()))


def _meant(name: str, names: Mapping[str, int]) -> str:
    return did_you_mean(name, names).removeprefix(", ") if len(names) <= _GUESSABLE else ""
