"""The facade: what a program, the command line or a server asks of the engine. Edges may await; the inside does not."""

import asyncio
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from taskengine.actors import ActorInfo, ActorRef, Dispatcher, Timers
from taskengine.ambient import Ambient, SilentMetrics
from taskengine.bus import Bus
from taskengine.engine.blueprint import Blueprint
from taskengine.engine.children import Children
from taskengine.engine.collector import collect
from taskengine.engine.commanding import Commanding
from taskengine.engine.directory import start_key
from taskengine.engine.draining import Draining
from taskengine.engine.forking import fork_reason, forked_params, same_origin, taken_over
from taskengine.engine.library import LATEST, Library
from taskengine.engine.linger import Linger
from taskengine.engine.logbook import Logbook
from taskengine.engine.mail import Adopt, Closing, Deliver, Drain, LaunchNew
from taskengine.engine.planner import Answer
from taskengine.engine.pruner import Pruner
from taskengine.engine.recovery import Recovery
from taskengine.engine.retention import asked
from taskengine.engine.runner import Runner
from taskengine.engine.saving import saved
from taskengine.engine.staff import Settings, Staff
from taskengine.engine.supervisor import Supervisor
from taskengine.engine.views import EngineStatus, InstanceView, Pruned, Registration
from taskengine.engine.waiting import Enough, until
from taskengine.errors import Conflict, DuplicateKey, NotFound, Unavailable
from taskengine.functions import Caller, Hearing, Registry, Services
from taskengine.model.definition import Retention, WorkflowDefinition
from taskengine.model.ids import InstanceId, WorkflowId
from taskengine.model.messages import Add, Command
from taskengine.model.params import bind_params
from taskengine.model.pools import Pool
from taskengine.model.records import InstanceRow, TokenRow
from taskengine.model.states import INSTANCE_FINAL, InstanceState, Phase
from taskengine.store.artifacts import Artifacts
from taskengine.store.checkpointer import Checkpointer
from taskengine.store.interface import Store
from taskengine.telemetry.masking import Mask

__all__ = ["Engine"]

_JSON: Final = msgspec.json.Encoder(order="sorted")
_PARAMS: Final = msgspec.json.Decoder(dict[str, Any])
_ADOPT_PAGE: Final = 64
_DISMISSAL_S: Final = 1.0
_HELD: Final = (InstanceState.PAUSED, InstanceState.QUARANTINED)


class Engine(Commanding):
    """A durable workflow engine on the running loop. Made by `EngineBuilder.build`; all methods belong to that loop.

    Every method that changes something returns after the commit of what it did. If it raises CommitFailed nothing is
    lost and it may be called again.

    bus         committed events, log lines and progress, for whoever listens
    unrestored  recorded functions that an earlier start had and this one could not import, with the reason
    """

    def __init__(
        self,
        ambient: Ambient,
        store: Store,
        artifacts: Artifacts,
        registry: Registry,
        services: Services,
        settings: Settings,
        *,
        recover: bool = True,
        restore: Container[str] | None = None,
        on_fatal: Callable[[BaseException], object] | None = None,
        mask: Mask | None = None,
    ) -> None:
        super().__init__(store, artifacts, registry, ambient.clock, ambient.ids)
        self.bus = Bus(ambient)
        self.unrestored: list[str] = []
        self._ambient = ambient
        self._services = services
        self._settings = settings
        self._recover = recover
        self._restore = restore
        self._on_fatal = on_fatal
        self._mask = mask or Mask()
        self._hearing = Hearing()
        self._library = Library(store, self._blueprints, ambient.clock)
        self._recovery = Recovery(ambient.metrics)
        self._draining = Draining(ambient.clock)
        self._staff: Staff | None = None
        self._dispatcher: Dispatcher | None = None
        self._supervisor: ActorRef[Supervisor] | None = None
        self._stopped = False

    # -- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, then take up every unfinished instance. Raises StoreLocked, SchemaTooNew and the like."""
        if self._staff is not None:
            return
        await self.store.open()
        await self._restore_functions()
        self._dispatcher = dispatcher = Dispatcher(self._ambient, on_fatal=self._fatal)
        checkpointer = Checkpointer(
            self.store, self._ambient, dispatcher.spawn, on_fatal=self._fatal, on_told=dispatcher.run_now
        )
        checkpointer.start()
        self._staff = staff = self._employ(dispatcher, checkpointer)
        self._hearing.begin()
        self._supervisor = dispatcher.start(Supervisor, staff, adopts_all=self._recover, key="instances")
        staff.children.serve(self._supervisor)
        for row in self.registry.rows():
            checkpointer.save(row, self._note_failure)
        if self._recover:
            await self._take_up()
        self._recovery.all_known()
        staff.pruner.start()

    def _employ(self, dispatcher: Dispatcher, checkpointer: Checkpointer) -> Staff:
        """Everybody who serves the instances; nobody works yet."""
        caller = Caller(
            self._ambient,
            dispatcher.spawn,
            self._services,
            threads=self._settings.thread_count,
            processes=self._settings.processes,
            grace_s=self._settings.grace_s,
            max_result=self._settings.max_result,
            log_cap=self._settings.log_cap,
        )
        runner = Runner(self._settings.slots, self._directory, self._ambient.clock, self._settings.pools)
        logbook = Logbook(
            self._ambient, self.store, checkpointer, self._directory, self.bus, dispatcher.spawn, self._mask
        )
        children = Children(
            self._ambient,
            self.store,
            self._artifacts,
            self._directory,
            self._library,
            self._reading,
            dispatcher.spawn,
            inline_result=self._settings.inline_result,
        )
        return Staff(
            ambient=self._ambient,
            settings=self._settings,
            store=self.store,
            artifacts=self._artifacts,
            checkpointer=checkpointer,
            directory=self._directory,
            blueprints=self._blueprints,
            registry=self.registry,
            caller=caller,
            timers=Timers(self._ambient.clock, self._ambient.log),
            bus=self.bus,
            runner=runner,
            linger=Linger(self._ambient.clock),
            recovery=self._recovery,
            logbook=logbook,
            children=children,
            pruner=Pruner(
                self._ambient,
                self.store,
                checkpointer,
                self._directory,
                logbook,
                self._settings.retention,
                dispatcher.spawn,
                lambda: bool(runner.busy or checkpointer.backlog),
                lambda: collect(self.store, self._artifacts, self._ambient),
            ),
            mask=self._mask,
            counts=None if isinstance(self._ambient.metrics, SilentMetrics) else self._ambient.metrics,
        )

    async def _restore_functions(self) -> None:
        if self._restore is None:
            return
        self.unrestored = self.registry.restore(await self.store.functions(), self._restore)
        for lost in self.unrestored:
            self._ambient.log.warning("functions.not_restored", function=lost)

    async def _take_up(self) -> None:
        assert self._supervisor is not None
        page: list[InstanceId] = []
        async for row in self.store.unfinished():
            page.append(row.id)
            if len(page) == _ADOPT_PAGE:
                self._adopt(page)
                page.clear()
        self._adopt(page)

    def _adopt(self, page: Sequence[InstanceId]) -> None:
        assert self._supervisor is not None
        self._recovery.expect(page)
        self._supervisor.tell(Adopt(tuple(page)))

    async def drain(self, patience_s: float) -> bool:
        """Begin nothing more and let what runs finish, at most `patience_s`; whether all of it has. `stop` comes next.

        From the call on starts are refused with Unavailable; commands, questions and waits are answered as before.
        What was committed and has not begun waits for the next start. Cancelling it leaves the engine draining.
        """
        if self._staff is None or self._stopped:
            return True
        idle = await self._draining.until_idle(self._staff.runner, patience_s)
        await self._quiet()  # the last reports become decisions
        return idle

    async def stop(self, *, grace_s: float = 25.0) -> None:
        """Drain and close: running attempts are interrupted and recorded, they run again at the next start.

        Bodies that do not end within `grace_s` are left behind: what they do then is lost, and no attempt is counted.
        Idempotent.
        """
        staff, dispatcher = self._staff, self._dispatcher
        if self._stopped:
            return
        self._stopped = True
        try:
            if staff is not None and dispatcher is not None:
                staff.runner.close()
                await self._drain(staff, grace_s)
                staff.linger.close()
                staff.timers.close()
                staff.pruner.close()
                await staff.logbook.close()
                await staff.checkpointer.stop()
        finally:
            self._hearing.end()
            if dispatcher is not None:
                await self._dismiss(dispatcher)
            self._directory.close()
            self.bus.close()
            await self.store.close()

    async def _drain(self, staff: Staff, grace_s: float) -> None:
        """Every body is told why it ends before it is ended; then their reports become decisions."""
        refs = self._directory.refs()
        for ref in refs:
            ref.tell(Drain())
        await self._quiet()
        await staff.caller.stop(grace_s)
        if staff.caller.running:
            for ref in self._directory.refs():
                ref.tell(Drain(over=True))
        await self._quiet()

    async def _dismiss(self, dispatcher: Dispatcher) -> None:
        """What has to be saved is saved. A body on the loop that swallows its cancellation is not waited for."""
        try:
            async with asyncio.timeout(_DISMISSAL_S):
                await dispatcher.stop()
        except TimeoutError:
            self._ambient.log.warning("engine.left_behind", actors=dispatcher.alive)

    async def _quiet(self) -> None:
        """Let the actors work off what they have been told; bounded, since a busy engine never rests."""
        for _ in range(1000):
            await asyncio.sleep(0)
            if not any(info.depth for info in self.actors()):
                return

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop(grace_s=0)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # -- starting ----------------------------------------------------------------------------------------------

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
        other = await self._library.version(source.version)
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

    async def save(self, write: TokenRow) -> None:
        """Commit a row that is no instance's; returns after the commit. Raises CommitFailed, Unavailable."""
        await saved(self._running().checkpointer, write)

    # -- forgetting ----------------------------------------------------------------------------------------------

    async def prune(
        self,
        *,
        older_than_s: float | None = None,
        states: Collection[InstanceState] = (),
        workflow_id: str | None = None,
        dry_run: bool = False,
        limit: int | None = None,
    ) -> Pruned:
        """Remove ended instances whose retention is over, as the engine does by itself every ten minutes.

        They are gone when this returns; what they have left behind is deleted in the background, and by `sweep`. An
        instance that is younger than 24 hours and has an idempotency key stays, and what is in use at the moment.

        older_than_s         all that ended so long ago, whatever their retention says
        states, workflow_id  only those in one of these final states, of that workflow
        dry_run              only count them
        limit                stop after so many; `more` then says that there may be more
        Raises InvalidInput, CommitFailed, StoreUnavailable; what was removed until then stays removed.
        """
        pruner = self._running().pruner
        pruning = asked(older_than_s, states, workflow_id)
        if dry_run:
            return await pruner.count(pruning)
        pruned = await pruner.prune(pruning, limit)
        pruner.sweep_soon()
        return pruned

    async def sweep(self) -> None:
        """Delete all that removed instances have left behind. Raises CommitFailed, StoreUnavailable."""
        await self._running().pruner.sweep()

    # -- how it is -------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """It has started, and every unfinished instance that it found is queued again."""
        return self._staff is not None and not self._stopped and self._recovery.over

    @property
    def retention(self) -> Retention:
        """Of instances whose workflow says nothing itself."""
        return self._settings.retention

    @property
    def pools(self) -> tuple[Pool, ...]:
        """What tasks may name as their `pool`."""
        return self._settings.pools

    @property
    def stalled(self) -> bool:
        """The store cannot commit at the moment; what is under way waits, new starts are refused."""
        return self._staff is not None and self._staff.checkpointer.stalled

    async def status(self) -> EngineStatus:
        """Raises Unavailable before the start and after the stop."""
        staff, dispatcher = self._running(), self._dispatcher
        assert dispatcher is not None
        return EngineStatus(
            store=await self.store.status(),
            slots=staff.runner.slots,
            running=staff.runner.busy,
            queued=staff.runner.queued,
            backlog=staff.checkpointer.backlog,
            stalled=staff.checkpointer.stalled,
            actors=dispatcher.alive,
            stuck=staff.caller.stuck_threads,
            pools=staff.runner.pools(),
        )

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def wait_for_instance(self, instance_id: str, timeout_s: float | None = None) -> InstanceView:
        """Until it has ended. Raises NotFound, and WaitTimeout when `timeout_s` is over first."""
        return await self._until(instance_id, timeout_s, lambda view: view.status in INSTANCE_FINAL)

    async def wait_until_resting(self, instance_id: str, timeout_s: float | None = None) -> InstanceView:
        """Until it has ended, is held, or has left memory because only a far timer can move it."""
        known = InstanceId(instance_id)

        def rests(view: InstanceView) -> bool:
            held = view.status in _HELD and not view.progress.running
            return view.status in INSTANCE_FINAL or held or self._directory.get(known) is None

        return await self._until(instance_id, timeout_s, rests)

    async def _until(self, instance_id: str, timeout_s: float | None, enough: Enough) -> InstanceView:
        self._running()
        return await until(self._directory, self._reading, InstanceId(instance_id), timeout_s, enough)

    def actors(self) -> list[ActorInfo]:
        """Who is in memory: the supervision tree, parents before children. For people and tests."""
        return [] if self._dispatcher is None else self._dispatcher.snapshot()

    async def _deliver(self, instance_id: InstanceId, command: Command | Add) -> Answer:
        self._running()
        assert self._supervisor is not None
        reply = self._directory.expect(command.id)
        self._supervisor.tell(Deliver(instance_id, command))  # type: ignore[arg-type]  # one of the four
        return await reply

    # -- inside ------------------------------------------------------------------------------------------------

    def _running(self) -> Staff:
        if self._staff is None:
            raise Unavailable("the engine is not started; use `async with engine:` or await engine.start()")
        if self._stopped:
            raise Unavailable("the engine has stopped")
        return self._staff

    def _note_failure(self, error: BaseException | None) -> None:
        if error is not None:
            self._ambient.log.error("store.not_saved", exc=error)

    def _fatal(self, error: BaseException) -> None:
        """Nothing can be committed any more, or an actor asked for the end: let whoever owns the process decide."""
        self._ambient.log.error("engine.fatal", error=repr(error))  # whoever found it has logged its traceback
        if self._supervisor is not None:
            self._supervisor.tell(Closing())
        self._directory.close()
        if self._on_fatal is not None:
            self._on_fatal(error)
