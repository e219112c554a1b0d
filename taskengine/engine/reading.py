"""Answers about committed state, put together from rows."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec

from taskengine.clock import Clock, Micros
from taskengine.engine.blueprint import Blueprint, Blueprints
from taskengine.engine.directory import Snapshot
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
from taskengine.errors import NotFound, StoreCorrupt
from taskengine.model.events import Event
from taskengine.model.ids import InstanceId, Ordinal, Version, WorkflowId
from taskengine.model.progress import Progress
from taskengine.model.records import DefinitionRow, InstanceRow, LogRow, TaskRow
from taskengine.model.states import TASK_FINAL, InstanceState
from taskengine.store.interface import InstanceQuery, Store

__all__ = ["Reading"]

_JSON: Final = msgspec.json.Decoder()
_PAGE: Final = 1000


class Reading:
    """Reads for the facade; never sees what is not committed."""

    def __init__(self, store: Store, blueprints: Blueprints, clock: Clock) -> None:
        self._store = store
        self._blueprints = blueprints
        self._clock = clock

    async def instance(self, instance_id: InstanceId) -> InstanceView:
        return await self._view(await self._row(instance_id))

    async def view_of(self, snapshot: Snapshot) -> InstanceView:
        """A committed copy needs no reading, but for a definition that was not in use."""
        row, progress = snapshot
        blueprint = await self._blueprint(row.version)
        return instance_view(row, blueprint.definition.title, progress, self._clock.now_us())

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
        return [await self._view(row) for row in rows]

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

    async def tasks(self, instance_id: InstanceId) -> list[TaskView]:
        shape = (await self._blueprint((await self._row(instance_id)).version)).shape
        rows = {int(row.ordinal): row async for row in self._task_rows(instance_id)}
        settled = {ordinal: row.state in TASK_FINAL for ordinal, row in rows.items()}
        return [task_view(shape, n, rows.get(n), settled) for n in range(len(shape.names))]

    async def attempts(self, instance_id: InstanceId) -> list[AttemptView]:
        shape = (await self._blueprint((await self._row(instance_id)).version)).shape
        return [attempt_view(shape, row) for row in await self._store.attempts(instance_id)]

    async def result(self, instance_id: InstanceId, version: Version | None = None) -> dict[str, Any]:
        shape = (await self._blueprint(version or (await self._row(instance_id)).version)).shape
        leaves = [Ordinal(node) for node in shape.graph.leaves()]
        found = await self._store.results(instance_id, leaves)
        return {shape.names[leaf]: _JSON.decode(found[leaf]) for leaf in leaves if leaf in found}

    async def _view(self, row: InstanceRow) -> InstanceView:
        blueprint = await self._blueprint(row.version)
        progress = await self._progress(row, blueprint)
        return instance_view(row, blueprint.definition.title, progress, self._clock.now_us())

    async def _progress(self, row: InstanceRow, blueprint: Blueprint) -> Progress:
        event = await self._store.last_event(row.id)
        return Progress(pending=len(blueprint.shape.names)) if event is None else event.body.progress

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
        known = self._blueprints.get(version)
        if known is not None:
            return known
        row = await self._store.definition(version)
        if row is None:
            raise StoreCorrupt(f"version {version} is not stored")
        return self._blueprints.decode(row.canonical, row.version)

    async def _task_rows(self, instance_id: InstanceId) -> AsyncIterator[TaskRow]:
        after = -1
        while True:
            page = await self._store.tasks(instance_id, after=after, limit=_PAGE)
            for row in page:
                yield row
            if len(page) < _PAGE:
                return
            after = page[-1].ordinal
