"""The verbs that bring instances into being: workflows, starts, forks."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from taskengine.actors import ActorRef
from taskengine.ambient import Ambient
from taskengine.engine.blueprint import Blueprint
from taskengine.engine.commanding import Commanding
from taskengine.engine.directory import start_key
from taskengine.engine.draining import Draining
from taskengine.engine.forking import fork_reason, forked_params, same_origin, taken_over
from taskengine.engine.library import LATEST, Library
from taskengine.engine.mail import LaunchNew
from taskengine.engine.staff import Settings, Staff
from taskengine.engine.supervisor import Supervisor
from taskengine.engine.views import Registration
from taskengine.errors import Conflict, DuplicateKey, InvalidInput, NotFound, Unavailable
from taskengine.functions import Registry
from taskengine.model.children import RESERVED
from taskengine.model.definition import WorkflowDefinition
from taskengine.model.ids import InstanceId, WorkflowId
from taskengine.model.params import bind_params
from taskengine.model.records import InstanceRow
from taskengine.model.states import Phase
from taskengine.store.artifacts import Artifacts
from taskengine.store.interface import Store

__all__ = ["Starting"]

_JSON: Final = msgspec.json.Encoder(order="sorted")
_PARAMS: Final = msgspec.json.Decoder(dict[str, Any])


class Starting(Commanding):
    """What an engine starts. Its staff and its supervisor are there while it runs."""

    def __init__(
        self, ambient: Ambient, store: Store, artifacts: Artifacts, registry: Registry, settings: Settings
    ) -> None:
        super().__init__(store, artifacts, registry, ambient.clock, ambient.ids)
        self._ambient = ambient
        self._settings = settings
        self._library = Library(store, self._blueprints, ambient.clock)
        self._draining = Draining(ambient.clock)
        self._staff: Staff | None = None
        self._supervisor: ActorRef[Supervisor] | None = None
        self._stopped = False

    async def register_workflow(self, definition: WorkflowDefinition) -> Registration:
        """Store a version and make it the workflow's current one; the same content is the same version."""
        return await self._library.register(definition, self._running().checkpointer)

    async def delete_workflow(self, workflow_id: str, *, force: bool = False) -> None:
        """Forget a workflow; its instances keep their version and their history.

        Raises NotFound; Conflict while instances are unfinished, unless `force`: those then go on to their end.
        """
        await self._library.remove(WorkflowId(workflow_id), self._running().checkpointer, force=force)

    async def execute_workflow(
        self,
        workflow: WorkflowDefinition | str,
        params: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        instance_id: str | None = None,
    ) -> InstanceId:
        """Start an instance; returns once its start is committed, so it will end whatever happens.

        workflow         a definition, or the id of a stored workflow: its current version
        idempotency_key  the same key of the same workflow gives the same instance; with other params: Conflict
        Raises InvalidParams, NotFound, Conflict, CommitFailed; Unavailable when too much waits, or the store is away.
        """
        staff = self._running()
        self._admit(staff)
        library = self._library
        if isinstance(workflow, WorkflowDefinition):
            blueprint = library.of(workflow)
        else:
            blueprint = await library.find(WorkflowId(workflow))
        bound = bind_params(blueprint.definition.params, params or {})
        new = LaunchNew(self._new_row(blueprint, bound, idempotency_key, instance_id))
        known = await self._known_start(new)
        if known is not None:
            return known
        if isinstance(workflow, WorkflowDefinition):
            library.save_before(blueprint, staff.checkpointer, new.row.id, self._note_failure)
        return await self._begin(new)

    async def fork_instance(
        self,
        instance_id: str,
        from_task: str,
        *,
        params: Mapping[str, Any] | None = None,
        version: str | None = None,
        idempotency_key: str | None = None,
    ) -> InstanceId:
        """Start a new instance that takes over what this one has done, and runs `from_task` and all below.

        What has not ended well in it runs again, too. `instance_id` itself stays as it is.

        params   over those of the instance; only such as nothing that is taken over was made from
        version  of its workflow, as `get_workflow_versions` has them, or "latest"; None: that of the instance. Tasks
                 that do not run again must be the same in both
        idempotency_key  of a start: the same key of the same workflow gives the same fork, whatever its source does
                 now; Conflict if it was for another source, task, version or params, or for a start without a fork
        Raises NotFound, InvalidParams, Conflict (it has not ended; something cannot be taken over), CommitFailed,
        Unavailable.
        """
        staff = self._running()
        self._admit(staff)
        source = await self.store.instance(InstanceId(instance_id))
        if source is None:
            raise NotFound("instance", instance_id)
        other = await self._blueprints.stored(self.store, source.version)
        blueprint = other if version is None else await self._library.version_like(source.workflow_id, version)
        before = _PARAMS.decode(source.params)
        bound = forked_params(blueprint.shape, before, params or {})
        new = LaunchNew(self._new_row(blueprint, bound, idempotency_key), reason=fork_reason(source.id, from_task))
        exact = version != LATEST
        known = await self._known_start(new, exact=exact)
        if known is not None:
            return known
        if source.phase is not Phase.END:
            raise Conflict(f"the instance is {source.state}; only one that has ended can be forked")
        rows = await self._reading.rows(source.id)
        taken = taken_over(blueprint.shape, other.shape, rows, from_task, before, bound)
        return await self._begin(msgspec.structs.replace(new, taken=taken), exact=exact)

    def _new_row(
        self, blueprint: Blueprint, params: Mapping[str, Any], key: str | None, instance_id: str | None = None
    ) -> InstanceRow:
        if key is not None and key.startswith(RESERVED):
            raise InvalidInput(
                f"the idempotency key {key!r}: keys that begin with {RESERVED!r} belong to child instances"
            )
        return InstanceRow(
            id=InstanceId(instance_id or self._ambient.ids.uuid7()),
            workflow_id=blueprint.definition.id,
            version=blueprint.shape.version,
            params=_JSON.encode(params),
            created_us=self._ambient.clock.now_us(),
            idempotency_key=key,
        )

    async def _known_start(self, new: LaunchNew, *, exact: bool = False) -> InstanceId | None:
        """The instance that was started with this key before, which began as the new one would.

        exact  the version must be the same, too
        Raises Conflict if it did not.
        """
        key = new.row.idempotency_key
        if key is None:
            return None
        known = await self.store.instance_by_key(new.row.workflow_id, key)
        if known is None:
            return None
        if known.params != new.row.params:
            raise Conflict(f"the idempotency key {key!r} was used for other params by instance {known.id}")
        events = await self.store.events(known.id, limit=1)
        first = events[0].body.reason if events else ""
        if not same_origin(first, new.reason) or (exact and known.version != new.row.version):
            raise Conflict(
                f"the idempotency key {key!r} was used for another start, by instance {known.id}; this one needs a "
                "key of its own"
            )
        return known.id

    async def _begin(self, new: LaunchNew, *, exact: bool = False) -> InstanceId:
        """Its start, or that of another one with the same key that was quicker, is committed."""
        try:
            await self._launch(new)
        except DuplicateKey:
            known = await self._known_start(new, exact=exact)
            if known is None:
                raise
            return known
        return new.row.id

    def _admit(self, staff: Staff) -> None:
        """Refuse at the edge what would only wait inside; what is under way is never refused."""
        self._draining.refuse_start()
        if staff.checkpointer.stalled:
            raise Unavailable("the store cannot commit at the moment; nothing was started, try again")
        if staff.checkpointer.backlog > self._settings.max_backlog:
            raise Unavailable(f"{staff.checkpointer.backlog} rows wait to be committed; nothing was started, try again")

    async def _launch(self, new: LaunchNew) -> None:
        assert self._supervisor is not None
        reply = self._directory.expect(start_key(new.row.id))
        self._supervisor.tell(new)
        await reply

    def _running(self) -> Staff:
        if self._staff is None:
            raise Unavailable("the engine is not started; use `async with engine:` or await engine.start()")
        if self._stopped:
            raise Unavailable("the engine has stopped")
        return self._staff

    def _note_failure(self, error: BaseException | None) -> None:
        if error is not None:
            self._ambient.log.error("store.not_saved", exc=error)
