"""The actor system: starts actors and tasks, and sees them out. The only place that makes tasks."""

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from threading import get_ident
from typing import Any, TypeVar

from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from taskengine.actors.actor import AsyncActor, ChildEnded, set_current
from taskengine.actors.household import Household, Spawned
from taskengine.actors.letters import DeadLetters
from taskengine.actors.ref import ActorGone, ActorRef
from taskengine.actors.runqueue import ADOPT, BEGIN, DISCARD, LEAVE, Limits, RunQueue, Signal, gone
from taskengine.actors.tree import ActorInfo, walk
from taskengine.ambient import Ambient
from taskengine.errors import Unavailable

__all__ = ["Dispatcher"]

A = TypeVar("A", bound=AsyncActor)


class Dispatcher(RunQueue):
    """One actor system on one loop: the one that runs when it is made, or when the first actor starts.

    limits    how long actors may hold the loop
    timer     what the time slice is measured with. Real time even in tests, since the slice protects the real
              loop; a simulation that must repeat itself passes a timer that stands still.
    on_fatal  called once, on the loop's thread, when a handler raised KeyboardInterrupt or SystemExit, or a
              spawned coroutine KeyboardInterrupt; the orderly stop has begun by then

    Threads: `tell`, `ask`, `stop` of refs and `start` are for any thread, the rest for the loop's.
    """

    def __init__(
        self,
        ambient: Ambient | None = None,
        *,
        limits: Limits | None = None,
        timer: Callable[[], float] = time.perf_counter,
        on_fatal: Callable[[BaseException], object] | None = None,
    ) -> None:
        super().__init__(ambient or Ambient(), limits or Limits(), timer)
        self._context.run(set_current, self)
        self.dead_letters = DeadLetters(self.ambient.metrics)
        self.alive = 0
        """How many actors are not gone yet."""
        self._on_fatal = on_fatal
        self._root = Household()
        self._abandoned: set[Spawned] = set()
        self._gone: asyncio.Future[None] | None = None
        self._stopping = False
        self._lock = threading.Lock()
        self._events: dict[ActorRef[Any], threading.Event] = {}
        self._names = itertools.count(1)
        self._name = self.ambient.ids.uuid7()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        self._bind()

    # -- life -----------------------------------------------------------------------------------------------

    def start(
        self,
        actor_class: type[A],
        *args: Any,
        parent: ActorRef[Any] | None = None,
        key: str | None = None,
        **kwargs: Any,
    ) -> ActorRef[A]:
        """Build an actor and let it run; `on_start` comes before its first message.

        parent  who outlives it and hears of its end; None: the dispatcher
        key     its name in the tree and in logs; unique among siblings if the parent cares

        Raises what the constructor raises, Unavailable when stopping, ActorGone when the parent has stopped.
        """
        return self.launch(actor_class, args, kwargs, parent, key)

    def launch(
        self,
        actor_class: type[A],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        parent: ActorRef[Any] | None = None,
        key: str | None = None,
    ) -> ActorRef[A]:
        """`start` for those who hold the constructor's arguments; here they may be called anything."""
        if self.thread is None:
            self._bind()
        local = get_ident() == self.thread
        if not local and parent is not None:
            raise RuntimeError("from another thread an actor starts at the top; tell its parent to start it")
        home = self._household(parent)
        actor = actor_class.__new__(actor_class)
        actor._actor_ref = ref = ActorRef(self, actor, parent, key)
        if local:
            self._adopt(ref, home)
            if actor_class._begins:
                self.wake(ref, BEGIN)
        else:
            ref.mailbox = deque((BEGIN,))  # held back: what the constructor tells it stays behind on_start
        try:
            actor.__init__(*args, **kwargs)  # type: ignore[misc]  # __new__ without __init__ is ours
        except BaseException:
            self._discard(ref) if local else self.post(ref, DISCARD)
            raise
        if not local:
            self.post(ref, ADOPT)
        return ref

    def start_now(self, actor_class: type[A], *args: Any, parent: ActorRef[Any] | None = None) -> ActorRef[A]:
        """`start` whose `on_start` has run when it returns; for a handler that starts many short lives.

        It spares a turn. A failure in `on_start` ends the new actor and not the caller. Loop thread only.
        """
        self._require_loop("start_now")
        home = self._household(parent)
        actor = actor_class.__new__(actor_class)
        actor._actor_ref = ref = ActorRef(self, actor, parent, None)
        self._adopt(ref, home)
        try:
            actor.__init__(*args)  # type: ignore[misc]  # __new__ without __init__ is ours
        except BaseException:
            self._discard(ref)
            raise
        if actor_class._begins:
            try:
                actor.on_start()
            except BaseException as exc:
                self._failed(ref, actor, exc, hook=False)
        return ref

    def spawn(
        self,
        coro: Coroutine[Any, Any, Any],
        owner: ActorRef[Any] | None = None,
        on_done: Callable[[Any], object] | None = None,
    ) -> Spawned:
        """Run a coroutine as a task that its owner outlives; None is the dispatcher.

        Held strongly. When the owner stops, or fails, it is cancelled and waited for. `on_done` is called
        exactly once, on the loop's thread, with the result, or the exception, or CancelledError if it was
        cancelled. Without `on_done` an exception is logged. Raises Unavailable or ActorGone like `start`.
        """
        try:
            self._require_loop("spawn")
            household = self._household(owner)
        except BaseException:
            coro.close()
            raise
        assert self._loop is not None
        spawned = Spawned(self, household, coro, on_done)
        household.tasks.add(spawned)
        spawned.task = self._loop.create_task(spawned.run())
        spawned.task.add_done_callback(spawned.finish)
        return spawned

    def request_stop(self) -> None:
        """Begin the orderly stop: top-level actors one after the other, the youngest first, then tasks."""
        if self._loop is None:
            self._stopping = self._closed = True
        elif not self._stopping:
            self._require_loop("request_stop")
            self._stopping = True
            self._root.close(ordered=True, then=self._all_gone)

    async def stop(self) -> None:
        """Stop everything; returns when all is gone. May be called twice, and before anything started.

        Cancelling the wait does not cancel the stop. Messages that were sent before are still handled.
        """
        self.request_stop()
        if self._gone is not None:
            await asyncio.shield(self._gone)

    def snapshot(self) -> list[ActorInfo]:
        """The supervision tree, parents before children, siblings in the order of their start."""
        return list(walk(self._root))

    # -- for refs, actors and tasks -------------------------------------------------------------------------

    def release(self, ref: ActorRef[Any]) -> bool:
        """See `AsyncActor.leave`."""
        mailbox = ref.mailbox
        if mailbox or mailbox is None:
            return bool(mailbox and mailbox[0] is LEAVE)
        mailbox.append(LEAVE)
        return True

    def unexpected(self, ref: ActorRef[Any], message: Any) -> None:
        """Log a message that an actor has no handler for."""
        self.ambient.log.warning("actor.unexpected_message", actor=str(ref), message=message)

    def urn_of(self, ref: ActorRef[Any]) -> str:
        """A new URN, or the one that another thread has made in the meantime."""
        with self._lock:
            return ref._urn or f"urn:actor:{self._name}:{next(self._names)}"

    def stop_event(self, ref: ActorRef[Any]) -> threading.Event:
        """One event per ref for as long as it lives; set afterwards too."""
        event = self._events.setdefault(ref, threading.Event())
        if ref.actor is None:  # looked at after the event is to be found, so one of the two threads sets it
            event.set()
            self._events.pop(ref, None)
        return event

    def adopt_abandoned(self, spawned: Spawned) -> None:
        """Keep a task that its owner does not wait for."""
        self._abandoned.add(spawned)
        self.ambient.metrics.count("actors.abandoned")

    def task_ended(self, spawned: Spawned, on_done: Callable[[Any], object] | None, outcome: Any, failed: bool) -> None:
        """Hand the outcome on; called by the task's own done callback."""
        self._abandoned.discard(spawned)
        if failed and isinstance(outcome, KeyboardInterrupt):
            self._fatal(outcome)
        if on_done is None:
            if failed:
                self.ambient.log.error("actor.task_failed", exc=outcome)
            return
        try:
            self._context.run(on_done, outcome)
        except BaseException as exc:  # even a cancellation: the owner still has to hear of the end
            self.ambient.log.error("actor.on_done_failed", exc=exc)
            if isinstance(exc, KeyboardInterrupt | SystemExit):
                self._fatal(exc)

    # -- beginnings and ends --------------------------------------------------------------------------------

    def _bind(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise Unavailable("the dispatcher needs a running event loop before its first actor") from None
        self.thread = get_ident()
        self._gone = self._loop.create_future()
        if self._stopping:
            self._gone.set_result(None)

    def _household(self, owner: ActorRef[Any] | None) -> Household:
        if owner is None:
            if self._stopping:
                raise Unavailable("the actor system is stopping")
            return self._root
        if owner.actor is None or (owner.household is not None and owner.household.closing):
            raise gone(owner)
        if owner.household is None:
            owner.household = Household()
        return owner.household

    def _adopt(self, ref: ActorRef[Any], home: Household) -> None:
        home.children[ref] = None
        self.alive += 1

    def _adopt_foreign(self, ref: ActorRef[Any]) -> None:
        if self._stopping:
            self._silence(ref)
            return
        self._adopt(ref, self._root)
        self._ready.append(ref)
        if not self._armed:
            self._arm()

    def _discard(self, ref: ActorRef[Any]) -> None:
        """Undo a start whose constructor raised; what it had started itself is stopped."""
        self._silence(ref)
        self._close_household(ref, partial(self._bury, ref, None, [], told=False))

    def _end(self, ref: ActorRef[Any], stop: Envelope[Any] | None = None) -> None:
        """The orderly way: children first. Until they are gone the mailbox is held back."""
        self._close_household(ref, partial(self._finish, ref, [] if stop is None else [stop]))

    def _finish(self, ref: ActorRef[Any], stops: list[Envelope[Any]]) -> None:
        actor = ref.actor
        assert actor is not None
        stops += self._silence(ref)
        try:
            actor.on_stop()
        except BaseException as exc:
            self._report(ref, exc)
        self._bury(ref, None, stops)

    def _failed(self, ref: ActorRef[Any], actor: AsyncActor, exc: BaseException, *, hook: bool = True) -> None:
        """The other way: deaf at once, then on_failure, then the children."""
        self._report(ref, exc)
        stops = self._silence(ref)
        if hook:
            try:
                actor.on_failure(type(exc), exc, exc.__traceback__)
            except BaseException as second:
                self._report(ref, second)
        self._close_household(ref, partial(self._bury, ref, exc, stops))

    def _close_household(self, ref: ActorRef[Any], then: Callable[[], None]) -> None:
        if ref.household is None:
            then()
        else:
            ref.household.close(ordered=ref.actor_class.ordered_stop, then=then)

    def _silence(self, ref: ActorRef[Any]) -> list[Envelope[Any]]:
        """No more messages: refuse those that wait, hand back the stops to be answered when it is gone."""
        ref.actor = None
        mailbox, ref.mailbox = ref.mailbox, None
        event = self._events.pop(ref, None)
        if event is not None:
            event.set()
        stops = []
        for message in mailbox or ():
            if type(message) is Envelope and type(message.message) is _ActorStop:
                stops.append(message)
            else:
                self._refuse(ref, message)
        return stops

    def _bury(
        self, ref: ActorRef[Any], error: BaseException | None, stops: list[Envelope[Any]], told: bool = True
    ) -> None:
        ref.household = None
        for stop in stops:
            assert stop.reply_to is not None
            stop.reply_to.set(True)
        parent = ref.parent
        home = self._root if parent is None else parent.household
        if home is None or ref not in home.children:  # its constructor raised on another thread
            return
        self.alive -= 1
        watcher = None if parent is None else parent.actor
        if told and watcher is not None and watcher._watches:
            assert parent is not None
            parent.tell(ChildEnded(ref.name, error))
        home.forget_child(ref)

    def _refuse(self, ref: ActorRef[Any], message: Any) -> None:
        """Answer or count a message for an actor that has stopped. Any thread."""
        if type(message) is Envelope:
            assert message.reply_to is not None
            if type(message.message) is _ActorStop:
                message.reply_to.set(False)
            else:
                message.reply_to.set_exception((ActorGone, gone(ref), None))
        elif message is ADOPT or message is DISCARD:
            self._silence(ref)
        elif type(message) not in (_ActorStop, Signal, ChildEnded):
            self.dead_letters.add(ref.actor_class.__name__, ref.key, message)

    def _report(self, ref: ActorRef[Any], exc: BaseException) -> None:
        self.ambient.log.error("actor.failed", exc=exc, actor=str(ref))
        self.ambient.metrics.count("actors.failures")
        if isinstance(exc, KeyboardInterrupt | SystemExit):
            self._fatal(exc)

    def _fatal(self, exc: BaseException) -> None:
        assert self._loop is not None
        on_fatal, self._on_fatal = self._on_fatal, None
        self._loop.call_soon(self.request_stop, context=self._context)
        if on_fatal is not None:
            self._loop.call_soon(on_fatal, exc, context=self._context)

    def _all_gone(self) -> None:
        assert self._gone is not None
        self._closed = True  # before looking, so that who comes later sees it
        self._refuse_inbound()
        self._gone.set_result(None)

    def _require_loop(self, what: str) -> None:
        if self.thread is None:
            self._bind()
        elif get_ident() != self.thread:
            raise RuntimeError(f"{what}() is for the loop's thread; send the actor a message instead")
