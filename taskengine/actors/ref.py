"""The ref is the mailbox: one small object per actor holds everything the dispatcher knows about it."""

import threading
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import pykka
from pykka._envelope import Envelope
from pykka.messages import ProxySetAttr, _ActorStop

from taskengine.actors.future import AsyncFuture, refuse_to_block
from taskengine.errors import ActorDead

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskengine.actors.dispatcher import Dispatcher
    from taskengine.actors.household import Household

__all__ = ["STOP", "ActorGone", "ActorProxy", "ActorRef"]

A = TypeVar("A", bound=pykka.Actor)

STOP = _ActorStop()


class ActorGone(ActorDead, pykka.ActorDeadError):
    """The actor has stopped: pykka's error and ours in one, so both ways of catching it work."""


class ActorRef(pykka.ActorRef[A]):
    """Reference to an actor of a `Dispatcher`, safe to pass to any thread.

    key       what its owner calls it, None for an anonymous actor
    parent    the actor that outlives it, None at the top
    restarts  how often its supervisor has built it anew

    `actor`, `mailbox` and `household` belong to the dispatcher and its loop's thread. `actor` is None once it
    takes no more messages. `mailbox` is None while nothing waits; a deque means that it is queued to run, or
    is held back: being built on another thread, or stopping and waiting for its children.
    """

    __slots__ = (
        "_urn",
        "actor",
        "actor_class",
        "dispatcher",
        "household",
        "key",
        "mailbox",
        "parent",
        "restarts",
    )

    actor_class: type[A]

    # Deliberately without pykka's __init__: it would make a weak reference and copy four attributes.
    def __init__(self, dispatcher: "Dispatcher", actor: A, parent: "ActorRef[Any] | None", key: str | None) -> None:
        self.dispatcher = dispatcher
        self.actor: A | None = actor
        self.actor_class = type(actor)
        self.mailbox: deque[Any] | None = None
        self.household: Household | None = None
        self.parent = parent
        self.key = key
        self.restarts = 0
        self._urn: str | None = None

    def __str__(self) -> str:
        return f"{self.actor_class.__name__} ({self.name})"

    @property
    def name(self) -> str:
        """Its key, or its URN when it has none."""
        return self.key if self.key is not None else self.actor_urn

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # made when first asked for, most never are
        """A name that no other actor ever has."""
        if self._urn is None:
            self._urn = self.dispatcher.urn_of(self)
        return self._urn

    @property
    def actor_inbox(self) -> "Inbox":  # type: ignore[override]  # a view, the mailbox itself is this object
        """pykka's view of the mailbox."""
        return Inbox(self)

    @property
    def actor_stopped(self) -> threading.Event:  # type: ignore[override]  # made when first asked for
        """Set once the actor takes no more messages."""
        return self.dispatcher.stop_event(self)

    @property
    def _actor_weakref(self) -> "Callable[[], A | None]":  # type: ignore[override]  # what a proxy looks at
        return lambda: self.actor

    @property
    def depth(self) -> int:
        """How many messages wait."""
        mailbox = self.mailbox
        return 0 if mailbox is None else len(mailbox)

    def is_alive(self) -> bool:
        """Whether it takes messages; also true while it waits for its children to stop."""
        return self.actor is not None

    def tell(self, message: Any) -> None:
        """Put a message into the mailbox, from any thread; never blocks and never raises.

        Messages of one thread arrive in the order of the calls. A message for a stopped actor is a dead
        letter. Here we leave pykka, whose tell raises ActorDeadError: that a receiver has stopped in the
        meantime is everyday life and must not kill the sender.
        """
        dispatcher = self.dispatcher
        if get_ident() != dispatcher.thread:
            dispatcher.post(self, message)
            return
        mailbox = self.mailbox
        if mailbox is not None:
            mailbox.append(message)
        else:
            dispatcher.wake(self, message)

    @overload
    def ask(self, message: Any, *, block: Literal[False] = False, timeout: float | None = None) -> AsyncFuture[Any]: ...

    @overload
    def ask(self, message: Any, *, block: Literal[True], timeout: float | None = None) -> Any: ...

    @overload
    def ask(self, message: Any, *, block: bool = ..., timeout: float | None = None) -> AsyncFuture[Any] | Any: ...

    def ask(self, message: Any, *, block: bool = False, timeout: float | None = None) -> AsyncFuture[Any] | Any:
        """Send a message and get the future of its answer; unlike pykka's, the default does not block.

        The future always settles: with what `on_receive` returns, the exception it raises, or ActorGone.
        block=True waits up to `timeout` seconds, for threads without a loop; on others RuntimeError is raised
        before the message is sent.
        """
        return self._ask(message, block, timeout, "ask(block=True)")

    @overload
    def stop(self, *, block: Literal[True], timeout: float | None = None) -> bool: ...

    @overload
    def stop(self, *, block: Literal[False] = False, timeout: float | None = None) -> AsyncFuture[bool]: ...

    @overload
    def stop(self, *, block: bool = ..., timeout: float | None = None) -> bool | AsyncFuture[bool]: ...

    def stop(self, *, block: bool = False, timeout: float | None = None) -> bool | AsyncFuture[bool]:
        """Ask it to stop after the messages sent so far; the future tells when it is gone.

        Gone means: children and spawned tasks too, and `on_stop` has run. True, or False if it had stopped
        before. Blocking as with `ask`.
        """
        result: bool | AsyncFuture[bool] = self._ask(STOP, block, timeout, "stop(block=True)")
        return result

    def proxy(self) -> "ActorProxy[A]":
        """A pykka proxy; setting an attribute through it blocks and so is for threads without a loop."""
        return ActorProxy(actor_ref=self)

    def _ask(self, message: Any, block: bool, timeout: float | None, call: str) -> Any:
        thread = self.dispatcher.thread
        if block:
            refuse_to_block(call, thread)
        future: AsyncFuture[Any] = AsyncFuture(thread)
        self.tell(Envelope(message, reply_to=future))
        return future.get(timeout=timeout) if block else future


class Inbox:
    """pykka's inbox protocol over a mailbox. Only the dispatcher takes messages out."""

    __slots__ = ("_ref",)

    def __init__(self, ref: ActorRef[Any]) -> None:
        self._ref = ref

    def put(self, envelope: Envelope[Any], /) -> None:
        """What `tell` and `ask` do, for those who hold an envelope."""
        self._ref.tell(envelope if envelope.reply_to is not None else envelope.message)

    def get(self) -> Envelope[Any]:
        """Refused: it would take the message away from the actor."""
        raise RuntimeError("only the dispatcher takes messages out of a mailbox")

    def empty(self) -> bool:
        """Whether no message waits."""
        return not self._ref.depth


class ActorProxy(pykka.ActorProxy[A]):
    """pykka's proxy. Calls and reads give futures; a write waits for its answer, as pykka's does."""

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if type(found) is pykka.ActorProxy:  # a traversable attribute: writes through it must wait as well
            return ActorProxy(actor_ref=self.actor_ref, attr_path=(*self._attr_path, name))
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "actor_ref" or name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self.actor_ref.ask(ProxySetAttr(attr_path=(*self._attr_path, name), value=value), block=True)
