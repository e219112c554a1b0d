"""The workflows an engine knows: which versions are stored, and which of them is the current one."""

from typing import Final

from taskengine.clock import Clock
from taskengine.engine.blueprint import Blueprint, Blueprints
from taskengine.engine.saving import saved
from taskengine.engine.views import Registration
from taskengine.errors import Conflict, NotFound
from taskengine.model.definition import WorkflowDefinition, canonical_form
from taskengine.model.ids import Version, WorkflowId
from taskengine.model.records import DefinitionRow, WorkflowRemoval
from taskengine.model.states import INSTANCE_FINAL, InstanceState
from taskengine.store.checkpointer import Ack, Checkpointer
from taskengine.store.interface import InstanceQuery, Store

__all__ = ["Library"]

_UNFINISHED: Final = frozenset(InstanceState) - INSTANCE_FINAL


class Library:
    """Stores, finds and removes definitions. Remembers what it has saved, so that a start seldom asks the store."""

    def __init__(self, store: Store, blueprints: Blueprints, clock: Clock) -> None:
        self._store = store
        self._blueprints = blueprints
        self._clock = clock
        self._saved: set[Version] = set()
        self._current: dict[WorkflowId, Version] = {}

    def of(self, definition: WorkflowDefinition) -> Blueprint:
        return self._blueprints.of(definition)

    async def find(self, workflow_id: WorkflowId) -> Blueprint:
        """The current version. Raises NotFound."""
        row = await self._store.current(workflow_id)
        if row is None:
            raise NotFound("workflow", workflow_id)
        self._saved.add(row.version)
        return self._blueprints.decode(row.canonical, row.version)

    async def register(self, definition: WorkflowDefinition, checkpointer: Checkpointer) -> Registration:
        """Commit a version and make it the current one."""
        blueprint = self._blueprints.of(definition)
        version, workflow_id = blueprint.shape.version, definition.id
        before = await self._store.current(workflow_id)
        await saved(checkpointer, self._row(blueprint))
        self._note(workflow_id, version)
        return Registration(
            version=version, created=before is None, changed=before is None or before.version != version
        )

    def save_before(self, blueprint: Blueprint, checkpointer: Checkpointer, ack: Ack) -> None:
        """The version's row goes out ahead of the instance's, in the same lane and usually the same commit."""
        version = blueprint.shape.version
        if self._current.get(blueprint.definition.id) != version or version not in self._saved:
            checkpointer.save(self._row(blueprint), ack)
            self._note(blueprint.definition.id, version)

    async def remove(self, workflow_id: WorkflowId, checkpointer: Checkpointer, *, force: bool) -> None:
        """The workflow is not known any more; its versions stay for the instances that run them.

        Raises NotFound; Conflict while instances are unfinished, unless `force`: those then go on to their end.
        """
        if await self._store.current(workflow_id) is None:
            raise NotFound("workflow", workflow_id)
        left = await self._store.count_instances(InstanceQuery(workflow_id=workflow_id, states=_UNFINISHED))
        if left and not force:
            raise Conflict(
                f"workflow {workflow_id!r} has {left} unfinished instance{'s' if left > 1 else ''}; "
                "wait for them, cancel them, or delete with force: they then go on to their end"
            )
        self._current.pop(workflow_id, None)
        await saved(checkpointer, WorkflowRemoval(workflow_id=workflow_id))

    def _note(self, workflow_id: WorkflowId, version: Version) -> None:
        self._saved.add(version)
        self._current[workflow_id] = version

    def _row(self, blueprint: Blueprint) -> DefinitionRow:
        return DefinitionRow(
            workflow_id=blueprint.definition.id,
            version=blueprint.shape.version,
            canonical=canonical_form(blueprint.definition),
            created_us=self._clock.now_us(),
        )
