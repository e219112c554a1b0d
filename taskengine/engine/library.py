"""The workflows an engine knows: which versions are stored, and which of them is the current one."""

from typing import Final

from taskengine.clock import Clock
from taskengine.engine.blueprint import Blueprint, Blueprints
from taskengine.engine.saving import saved
from taskengine.engine.views import Registration
from taskengine.errors import Conflict, NotFound
from taskengine.model.definition import WorkflowDefinition, canonical_form
from taskengine.model.ids import InstanceId, Version, WorkflowId
from taskengine.model.records import DefinitionRow, WorkflowRemoval
from taskengine.model.states import INSTANCE_FINAL, InstanceState
from taskengine.store.checkpointer import Ack, Checkpointer
from taskengine.store.interface import InstanceQuery, Store

__all__ = ["LATEST", "Library"]

LATEST: Final = "latest"
"""Instead of the name of a version: the current one."""

_UNFINISHED: Final = frozenset(InstanceState) - INSTANCE_FINAL


class _Sent:
    """A version whose row is stored, or on its way on these lanes."""

    __slots__ = ("lanes", "stored", "version")

    def __init__(self, version: Version, *, lanes: frozenset[int] = frozenset(), stored: bool = False) -> None:
        self.version, self.lanes, self.stored = version, lanes, stored


class Library:
    """Stores, finds and removes definitions. Remembers what is current, so that a start seldom asks the store.

    What is remembered is right because one process owns the store, and every change of it goes through here: while one
    is on its way the store is asked, and its answer is remembered only if nothing has begun or ended since.

    On a store with several lanes nothing orders a version's row before its instances but the lane of each: so the row
    travels on the lane of every instance that starts before it is known to be stored. Saving a known version changes
    the current one at most, and only until whoever sent it is answered: as if that start had come a moment later.
    """

    def __init__(self, store: Store, blueprints: Blueprints, clock: Clock) -> None:
        self._store = store
        self._blueprints = blueprints
        self._clock = clock
        self._sent: dict[WorkflowId, _Sent] = {}  # what `save_before` need not save again
        self._current: dict[WorkflowId, Version] = {}  # what the store has said
        self._under_way = self._changes = 0

    def of(self, definition: WorkflowDefinition) -> Blueprint:
        return self._blueprints.of(definition)

    async def find(self, workflow_id: WorkflowId) -> Blueprint:
        """The current version. Raises NotFound."""
        version = self._current.get(workflow_id)
        known = None if version is None else self._blueprints.get(version)
        if known is not None:
            return known
        calm, changes = not self._under_way, self._changes
        row = await self._store.current(workflow_id)
        if row is None:
            raise NotFound("workflow", workflow_id)
        if calm and changes == self._changes:
            self._current[workflow_id] = row.version
            self._sent[workflow_id] = _Sent(row.version, stored=True)
        return self._blueprints.decode(row.canonical, row.version)

    async def version_like(self, workflow_id: WorkflowId, text: str) -> Blueprint:
        """The workflow's current version for "latest", else the one whose name begins so. Raises NotFound, Conflict."""
        if text == LATEST:
            return await self.find(workflow_id)
        found = [row.version for row in await self._store.versions(workflow_id) if row.version.startswith(text)]
        if not found:
            raise NotFound("version", text, f"`taskengine workflow versions {workflow_id}` lists them")
        if len(found) > 1:
            raise Conflict(f"{len(found)} versions of {workflow_id!r} begin with {text}; give more of it")
        return await self._blueprints.stored(self._store, found[0])

    async def register(self, definition: WorkflowDefinition, checkpointer: Checkpointer) -> Registration:
        """Commit a version and make it the current one."""
        blueprint = self._blueprints.of(definition)
        version, workflow_id = blueprint.shape.version, definition.id
        before = await self._store.current(workflow_id)
        await saved(checkpointer, self._row(blueprint), self._change(workflow_id, version, lane=0))
        return Registration(
            version=version, created=before is None, changed=before is None or before.version != version
        )

    def save_before(self, blueprint: Blueprint, checkpointer: Checkpointer, instance_id: InstanceId, ack: Ack) -> None:
        """The version's row goes out ahead of the instance's, in the same lane and usually the same commit."""
        workflow_id, version = blueprint.definition.id, blueprint.shape.version
        lane, sent = checkpointer.lane_of(instance_id), self._sent.get(workflow_id)
        if sent is not None and sent.version == version and (sent.stored or lane in sent.lanes):
            return
        ended = self._change(workflow_id, version, lane=lane)

        def acknowledge(error: BaseException | None) -> None:
            ended(error)
            ack(error)

        checkpointer.save(self._row(blueprint), acknowledge, beside=instance_id)

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
        await saved(checkpointer, WorkflowRemoval(workflow_id=workflow_id), self._change(workflow_id, None))

    def _change(self, workflow_id: WorkflowId, version: Version | None, *, lane: int = 0) -> Ack:
        """A change is handed to the checkpointer now; what it shall call when that has ended, whoever waits for it."""
        self._under_way += 1
        self._changes += 1
        self._current.pop(workflow_id, None)
        before = self._sent.pop(workflow_id, None)
        if version is not None:
            others = before.lanes if before is not None and before.version == version else frozenset()
            self._sent[workflow_id] = _Sent(version, lanes=others | {lane})

        def ended(error: BaseException | None) -> None:
            self._under_way -= 1
            self._changes += 1
            now = self._sent.get(workflow_id)
            if now is None or now.version != version:
                return
            if error is None:
                now.stored = True
            else:
                self._sent.pop(workflow_id, None)

        return ended

    def _row(self, blueprint: Blueprint) -> DefinitionRow:
        return DefinitionRow(
            workflow_id=blueprint.definition.id,
            version=blueprint.shape.version,
            canonical=canonical_form(blueprint.definition),
            created_us=self._clock.now_us(),
        )
