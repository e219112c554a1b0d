"""Looking at a store from beside the process that owns it: committed state, without taking the lock."""

import contextlib
from collections.abc import AsyncIterator

import msgspec

from taskengine.ambient import Ambient
from taskengine.api.shapes import instance_detail
from taskengine.engine.blueprint import Blueprints
from taskengine.engine.reading import Reading
from taskengine.model.definition import WorkflowDefinition, decode_canonical
from taskengine.model.ids import InstanceId
from taskengine.store.artifacts import open_artifacts
from taskengine.store.interface import Store
from taskengine.store.opening import open_store
from taskengine.wire import InstanceDetail

__all__ = ["Look", "looking"]


class Look(msgspec.Struct, frozen=True):
    """A store that is open for reading, and answers about it."""

    store: Store
    reading: Reading

    async def definition_of(self, instance_id: InstanceId) -> WorkflowDefinition | None:
        """What an instance was started from; None when there is no such instance."""
        row = await self.store.instance(instance_id)
        stored = None if row is None else await self.store.definition(row.version)
        return None if stored is None else decode_canonical(stored.canonical)

    async def detail(self, instance_id: InstanceId) -> InstanceDetail:
        """The instance with its tasks, their attempts and the results. Raises NotFound."""
        return instance_detail(
            await self.reading.instance(instance_id),
            await self.reading.tasks(instance_id),
            result=await self.reading.result(instance_id),
            attempts=await self.reading.attempts(instance_id),
        )


@contextlib.asynccontextmanager
async def looking(dsn: str, ambient: Ambient) -> AsyncIterator[Look]:
    """Raises as `Store.open` does; InvalidConfiguration when there is no such file."""
    store = open_store(dsn, ambient, read_only=True)
    await store.open()
    try:
        yield Look(store, Reading(store, open_artifacts("", dsn, ambient.clock), Blueprints(), ambient.clock))
    finally:
        await store.close()
