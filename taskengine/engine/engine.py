"""The facade: what a program, the command line or a server asks of the engine. Edges may await; the inside does not."""

import asyncio
from collections.abc import Callable, Collection, Container, Sequence
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from taskengine.actors import ActorInfo, Dispatcher, Timers
from taskengine.ambient import Ambient, SilentMetrics
from taskengine.bus import Bus
from taskengine.engine.children import Children
from taskengine.engine.collector import collect
from taskengine.engine.linger import Linger
from taskengine.engine.logbook import Logbook
from taskengine.engine.mail import Adopt, Closing, Deliver, Drain
from taskengine.engine.planner import Answer
from taskengine.engine.pruner import Pruner
from taskengine.engine.recovery import Recovery
from taskengine.engine.retention import asked
from taskengine.engine.runner import Runner
from taskengine.engine.saving import saved
from taskengine.engine.staff import Settings, Staff
from taskengine.engine.starting import Starting
from taskengine.engine.supervisor import Supervisor
from taskengine.engine.views import EngineStatus, InstanceView, Pruned
from taskengine.engine.waiting import Enough, until
from taskengine.functions import Caller, Hearing, Registry, Services
from taskengine.model.definition import Retention
from taskengine.model.ids import InstanceId
from taskengine.model.messages import Add, Command
from taskengine.model.pools import Pool
from taskengine.model.records import TokenRow
from taskengine.model.states import INSTANCE_FINAL, InstanceState
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


class Engine(Starting):
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
        super().__init__(ambient, store, artifacts, registry, settings)
        self.bus = Bus(ambient)
        self.unrestored: list[str] = []
        self._services = services
        self._recover = recover
        self._restore = restore
        self._on_fatal = on_fatal
        self._mask = mask or Mask()
        self._hearing = Hearing()
        self._recovery = Recovery(ambient.metrics)
        self._dispatcher: Dispatcher | None = None

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

    # -- saving and forgetting ---------------------------------------------------------------------------------------

    async def save(self, write: TokenRow) -> None:
        """Commit a row that is no instance's; returns after the commit. Raises CommitFailed, Unavailable."""
        await saved(self._running().checkpointer, write)

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

    def _fatal(self, error: BaseException) -> None:
        """Nothing can be committed any more, or an actor asked for the end: let whoever owns the process decide."""
        self._ambient.log.error("engine.fatal", error=repr(error))  # whoever found it has logged its traceback
        if self._supervisor is not None:
            self._supervisor.tell(Closing())
        self._directory.close()
        if self._on_fatal is not None:
            self._on_fatal(error)
