"""Owns the instances in memory: starts new ones, reads others back when something concerns them, rebuilds failed."""

from typing import Any, Final

import msgspec

from taskengine.actors import ActorRef, AsyncActor, ChildEnded, Restart, on_child_exit
from taskengine.engine.blueprint import Blueprint
from taskengine.engine.directory import start_key
from taskengine.engine.instance import InstanceActor
from taskengine.engine.mail import Adopt, Closing, Deliver, Landed, LaunchNew, Orphaned, Rebuild
from taskengine.engine.planner import Answer, Plan
from taskengine.engine.staff import Staff
from taskengine.errors import (
    CommitFailed,
    Conflict,
    LostInstance,
    NotFound,
    StoreCorrupt,
    StoreUnavailable,
    TaskEngineError,
    Unavailable,
)
from taskengine.model.ids import CommandId, InstanceId
from taskengine.model.messages import Command, InstanceMessage, Quarantine, Recovered, Start
from taskengine.store.interface import Loaded

__all__ = ["Supervisor"]

_RESTART: Final = Restart(max_restarts=5, within_s=30.0)
_READ_AGAIN_S: Final = 1.0


class _Read(msgspec.Struct, frozen=True):
    """Instances were read from the store; those that are not in `found` could not be, or are not there."""

    instance_ids: tuple[InstanceId, ...]
    found: "dict[InstanceId, tuple[Blueprint, Loaded]]"
    error: BaseException | None = None


class Supervisor(AsyncActor):
    """One for one: an instance whose actor fails is built anew from its last commit, the others do not notice.

    One that fails more than five times in half a minute is Quarantined; if even that fails, it stays out of memory.
    Messages for an instance that is being read, or whose failed actor is not gone yet, wait here in their order. An
    instance is known to the directory from its start to the turn in which it leaves.
    """

    def __init__(self, staff: Staff, *, adopts_all: bool = True) -> None:
        """`adopts_all`: every unfinished instance is handed in by `Adopt` before anybody can ask for one."""
        self._staff = staff
        # Without that, the first time an instance is read is the time to ask whether its process had died.
        self._seen: set[InstanceId] | None = None if adopts_all else set()
        self._reading: dict[InstanceId, list[InstanceMessage]] = {}
        self._unclean: set[InstanceId] = set()
        self._failures_s: dict[InstanceId, list[float]] = {}
        self._condemned: set[InstanceId] = set()
        # Of actors that have failed: decisions on their way, the error once it is gone, messages that came since.
        self._landing: dict[InstanceId, int] = {}
        self._failed: dict[InstanceId, BaseException] = {}
        self._late: dict[InstanceId, list[InstanceMessage]] = {}
        self._asked: dict[InstanceId, list[CommandId]] = {}
        self._closing = False

    def on_receive(self, message: Any) -> None:
        match message:
            case Deliver():
                self._deliver(message.instance_id, message.message)
            case LaunchNew():
                self._launch_new(message)
            case Adopt():
                self._adopt(message)
            case _Read():
                for instance_id in message.instance_ids:
                    self._on_read(instance_id, message)
            case Rebuild():
                if self._staff.directory.get(message.instance_id) is None:
                    self._read(message.instance_id)
            case Orphaned():
                self._landing[message.instance_id] = message.decisions
            case Landed():
                self._on_landed(message.instance_id)
            case Closing():
                self._closing = True
            case _:
                super().on_receive(message)

    # -- finding them ------------------------------------------------------------------------------------------

    def _deliver(self, instance_id: InstanceId, message: InstanceMessage) -> None:
        ref = self._staff.directory.get(instance_id)
        if instance_id in self._failed or (ref is not None and not ref.is_alive()):
            self._late.setdefault(instance_id, []).append(message)
            return
        if instance_id in self._staff.directory.leaving:  # for the length of a commit: then it is not there any more
            if isinstance(message, Command):
                gone = Unavailable(f"instance {instance_id} is being removed: its retention is over")
                self._staff.directory.answer(message.id, gone)
            return
        if isinstance(message, Command):
            self._note_asked(instance_id, message.id)
        if ref is not None:
            ref.tell(message)
        else:
            self._read(instance_id).append(message)

    def _note_asked(self, instance_id: InstanceId, command_id: CommandId) -> None:
        """If its actor fails, whoever waits for the answer has to be told."""
        awaits = self._staff.directory.awaits
        self._asked[instance_id] = [*filter(awaits, self._asked.get(instance_id, ())), command_id]

    def _adopt(self, message: Adopt) -> None:
        directory = self._staff.directory
        fresh = [i for i in message.instance_ids if directory.get(i) is None and i not in self._reading]
        for instance_id in message.instance_ids:
            if directory.get(instance_id) is not None:  # started while the store was being read
                self._staff.recovery.lost(instance_id)
        self._unclean.update(fresh)
        directory.coming.update(fresh)
        self._reading.update((instance_id, []) for instance_id in fresh)
        self._spawn_fetch(tuple(fresh))

    def _read(self, instance_id: InstanceId) -> list[InstanceMessage]:
        """Begin to read an instance back; gives the list of what is to be handed to it afterwards."""
        waiting = self._reading.get(instance_id)
        if waiting is None:
            waiting = self._reading[instance_id] = []
            self._staff.directory.coming.add(instance_id)
            self._spawn_fetch((instance_id,))
        return waiting

    def _spawn_fetch(self, instance_ids: tuple[InstanceId, ...]) -> None:
        ref = self.actor_ref

        def tell(outcome: object) -> None:
            failed = isinstance(outcome, BaseException)
            ref.tell(_Read(instance_ids, {}, outcome) if failed else outcome)  # type: ignore[arg-type]

        self.dispatcher.spawn(self._fetch(instance_ids), owner=ref, on_done=tell)

    async def _fetch(self, instance_ids: tuple[InstanceId, ...]) -> _Read:
        loaded = await self._staff.store.load(instance_ids)
        blueprints, error = {}, None
        for version in {found.row.version for found in loaded.values()}:
            try:
                blueprints[version] = await self._staff.blueprints.stored(self._staff.store, version)
            except StoreCorrupt as broken:  # its instances stay where they are, the others go on
                error = broken
        found = {i: (blueprints[it.row.version], it) for i, it in loaded.items() if it.row.version in blueprints}
        return _Read(instance_ids, found, error)

    def _on_read(self, instance_id: InstanceId, message: _Read) -> None:
        waiting = self._reading.pop(instance_id, [])
        self._staff.directory.coming.discard(instance_id)
        found = message.found.get(instance_id)
        if found is None:
            self._refuse(instance_id, waiting, message.error or NotFound("instance", instance_id))
            return
        blueprint, loaded = found
        clean = self._was_here(instance_id)
        self._staff.ambient.probe.reach("recovery.loaded")
        plan = Plan.load(
            blueprint.shape,
            loaded.row,
            loaded.tasks,
            loaded.commands,
            last_seq=loaded.last_seq,
            max_recoveries=self._staff.settings.max_recoveries,
        )
        # Only a start whose actor failed between its commit and the answer is still awaited here.
        self._staff.directory.answer(start_key(instance_id), Answer(state=plan.ledger.state))
        self._start(blueprint, plan, [Recovered(clean=clean), *waiting])

    def _was_here(self, instance_id: InstanceId) -> bool:
        """Whether this process has had it in memory before, so that nothing of it was cut off by a death."""
        if self._seen is None:
            clean = instance_id not in self._unclean
            self._unclean.discard(instance_id)
            return clean
        clean = instance_id in self._seen
        self._seen.add(instance_id)
        return clean

    def _refuse(self, instance_id: InstanceId, waiting: list[InstanceMessage], error: BaseException) -> None:
        """It cannot be brought into memory: whoever asked hears it, timers have nobody left to tell."""
        if not isinstance(error, NotFound):
            self._staff.ambient.log.error("instance.unreadable", exc=error, instance=instance_id)
        for message in waiting:
            if isinstance(message, Command):
                known = isinstance(error, TaskEngineError)
                self._staff.directory.answer(message.id, error if known else Unavailable(f"cannot read: {error}"))
        self._staff.directory.answer(start_key(instance_id), CommitFailed("the start was not saved"))
        self._asked.pop(instance_id, None)
        self._staff.recovery.lost(instance_id)
        if isinstance(error, StoreUnavailable) and not self._closing:
            clock, ref, again = self._staff.ambient.clock, self.actor_ref, Rebuild(instance_id)
            clock.call_at(clock.monotonic() + _READ_AGAIN_S, lambda: ref.tell(again))

    # -- their lives -------------------------------------------------------------------------------------------

    def _launch_new(self, message: LaunchNew) -> None:
        if self._is_here(message.row.id):
            self._staff.directory.answer(start_key(message.row.id), _exists(message.row.id))
            return
        if self._seen is not None:
            self._seen.add(message.row.id)
        blueprint = self._staff.blueprints.get(message.row.version)
        assert blueprint is not None, "the facade has made the version ready"
        settings = self._staff.settings
        plan = Plan.new(blueprint.shape, message.row, message.taken, max_recoveries=settings.max_recoveries)
        self._start(blueprint, plan, [Start(message.reason)])

    def _is_here(self, instance_id: InstanceId) -> bool:
        """In memory, or on its way there."""
        known = (self._reading, self._failed, self._landing)
        return self._staff.directory.get(instance_id) is not None or any(instance_id in where for where in known)

    def _start(self, blueprint: Blueprint, plan: Plan, messages: list[InstanceMessage]) -> None:
        instance_id = plan.ledger.id
        ref = self.dispatcher.start(
            InstanceActor,
            self._staff,
            self.actor_ref,
            blueprint,
            plan,
            parent=self.actor_ref,
            key=instance_id,
        )
        self._staff.directory.enter(instance_id, ref)
        for message in messages:
            ref.tell(message)

    def on_child_ended(self, ended: ChildEnded) -> None:
        """An instance's actor is gone: it has left by itself, or it failed."""
        instance_id = InstanceId(ended.child)
        present: ActorRef[Any] | None = self._staff.directory.get(instance_id)
        if present is not None and present.is_alive():
            return  # it left, and is already back
        self._staff.directory.leave(instance_id)
        self._staff.runner.forget(instance_id)
        if ended.error is None:
            self._asked.pop(instance_id, None)
            if self._failures_s.pop(instance_id, None):
                self._condemned.discard(instance_id)
            return
        self._failed[instance_id] = ended.error
        self._staff.directory.coming.add(instance_id)  # until it is known to be there, or not to come
        if instance_id not in self._landing:
            self._follow_up(instance_id)

    def _on_landed(self, instance_id: InstanceId) -> None:
        self._landing[instance_id] = self._landing.get(instance_id, 1) - 1
        if self._landing[instance_id] <= 0:
            del self._landing[instance_id]
            if instance_id in self._failed:
                self._follow_up(instance_id)

    def _follow_up(self, instance_id: InstanceId) -> None:
        """The failed actor is gone and what it had saved has landed: tell who waits, and build it anew."""
        error = self._failed.pop(instance_id)
        self._staff.directory.coming.discard(instance_id)
        for command_id in self._asked.pop(instance_id, ()):
            self._staff.directory.answer(command_id, _as_answer(error, "the command"))
        late, key = self._late.pop(instance_id, []), start_key(instance_id)
        if self._staff.directory.awaits(key) and isinstance(error, CommitFailed | Conflict):
            lost = isinstance(error, LostInstance)
            self._staff.directory.answer(key, _exists(instance_id) if lost else error)
        elif not self._closing:
            self._rebuild(instance_id, error, late)

    def _rebuild(self, instance_id: InstanceId, error: BaseException, late: list[InstanceMessage]) -> None:
        now_s = self._staff.ambient.clock.monotonic()
        before = self._failures_s.get(instance_id, [])
        verdict = on_child_exit(_RESTART, before, now_s, clean=False)
        self._failures_s[instance_id] = [*before, now_s][-_RESTART.max_restarts :]
        self._staff.ambient.metrics.count("instances.rebuilt")
        if verdict != "escalate":
            self._read(instance_id)
        elif instance_id in self._condemned:
            self._staff.ambient.log.error("instance.given_up", instance=instance_id, exc=error)
            self._refuse(instance_id, late, CommitFailed(f"the instance cannot be brought into memory: {error!r}"))
            return
        else:
            self._condemned.add(instance_id)
            reason = f"its actor failed {_RESTART.max_restarts} times within {_RESTART.within_s:g} s: {error!r}"
            self._staff.ambient.log.error("instance.quarantined", instance=instance_id, reason=reason)
            self._deliver(instance_id, Quarantine(reason))
        for message in late:
            self._deliver(instance_id, message)


def _exists(instance_id: InstanceId) -> Conflict:
    return Conflict(f"there is an instance {instance_id} already")


def _as_answer(error: BaseException, what: str) -> BaseException:
    """What a caller hears: whether it may simply ask again."""
    return error if isinstance(error, CommitFailed) else CommitFailed(f"{what} was not saved: {error!r}")
