"""The actor: pykka's, on one asyncio loop."""

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Final, Never, Self

import msgspec
import pykka

from taskengine.actors.future import AsyncFuture
from taskengine.actors.ref import ActorRef, Inbox

if TYPE_CHECKING:
    from taskengine.actors.dispatcher import Dispatcher

__all__ = ["AsyncActor", "ChildEnded", "current_dispatcher", "set_current", "using"]

_CURRENT: ContextVar["Dispatcher"] = ContextVar("taskengine_dispatcher")
_HANDLERS: Final = ("on_receive", "on_start", "on_stop", "on_failure", "on_idle", "on_child_ended")


class ChildEnded(msgspec.Struct, frozen=True, tag="actor.child_ended"):
    """A child is gone, and everything it owned.

    child  its key, or its URN when it has none
    error  what killed it; None when it stopped in order
    """

    child: str
    error: BaseException | None = None


class AsyncActor(pykka.Actor):
    """An actor whose handlers are plain functions on the loop's thread; they never wait.

    What pykka documents holds: messages one at a time and in order; `on_start` before the first one; a stop
    after those sent before it; an exception in answer to a tell ends the actor (`on_failure`), in answer to
    an ask it goes to the asker. Beyond pykka: actors form a tree. A parent stops after its children, and a
    BaseException ends this one actor only.

    Subclasses need not call `super().__init__()`; `actor_ref` and `dispatcher` are there from the first line
    of their `__init__`. A slotted subclass saves some 100 bytes an actor.
    """

    __slots__ = ("_actor_ref",)

    ordered_stop: ClassVar[bool] = False
    """Children stop one after the other, the youngest first. False: they are told in that order, all at once."""

    _idles: ClassVar[bool] = False  # on_idle is overridden
    _begins: ClassVar[bool] = False  # on_start is overridden
    _watches: ClassVar[bool] = False  # on_child_ended is overridden

    _actor_ref: ActorRef[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _HANDLERS:
            if inspect.iscoroutinefunction(handler := getattr(cls, name)):
                raise TypeError(
                    f"{cls.__qualname__}.{name} must be a plain def: handlers never wait. "
                    "Use dispatcher.spawn() and let its on_done tell the answer "
                    f"({handler.__code__.co_filename}:{handler.__code__.co_firstlineno})"
                )
        cls._idles = cls.on_idle is not AsyncActor.on_idle
        cls._begins = cls.on_start is not AsyncActor.on_start
        cls._watches = cls.on_child_ended is not AsyncActor.on_child_ended

    # Deliberately without pykka's __init__: uuid, inbox, Event and ref cost 19 µs and 2.5 KB.
    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> ActorRef[Self]:
        """pykka's way of starting: on the dispatcher of the running handler, or of `using(dispatcher)`.

        Every argument goes to the constructor; the actor stands at the top of the tree. `Dispatcher.start`
        can give it a parent and a key. Raises LookupError where there is no dispatcher.
        """
        return current_dispatcher().launch(cls, args, kwargs)

    @property
    def actor_ref(self) -> ActorRef[Self]:
        """The ref of this actor. AttributeError in an actor that no dispatcher has started."""
        return self._actor_ref

    @property
    def dispatcher(self) -> "Dispatcher":
        """Whose loop this actor runs on."""
        return self._actor_ref.dispatcher

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # made when first asked for
        """See `ActorRef.actor_urn`."""
        return self._actor_ref.actor_urn

    @property
    def actor_inbox(self) -> Inbox:  # type: ignore[override]  # a view
        """See `ActorRef.actor_inbox`."""
        return self._actor_ref.actor_inbox

    @property
    def actor_stopped(self) -> threading.Event:  # type: ignore[override]  # made when first asked for
        """See `ActorRef.actor_stopped`."""
        return self._actor_ref.actor_stopped

    def __str__(self) -> str:
        return str(self._actor_ref)

    def on_idle(self) -> None:
        """Called once after each burst of messages, before other actors get their turn.

        A burst is what was waiting when the actor's turn came, at most 64 messages and as many as fit into
        the time slice. Several messages can so become one decision. A failure here ends the actor.
        """

    def on_child_ended(self, ended: ChildEnded) -> None:
        """A child is gone. Comes through the mailbox, in order with other messages; not while stopping."""

    def leave(self) -> bool:
        """End with this burst if no message waits; for actors that unload themselves. Call in a handler.

        True: nothing that was sent so far is lost, and what comes from now on is a dead letter. False: there
        are messages; try again in a later burst. Compare `stop()`, which lets messages of the same loop turn
        slip in behind it.
        """
        return self.dispatcher.release(self._actor_ref)

    def on_receive(self, message: Any) -> Any:
        """Handle one message; what it returns is the answer to an ask. This one logs an unexpected message."""
        self.dispatcher.unexpected(self._actor_ref, message)

    @staticmethod
    def _create_actor_inbox() -> Never:
        raise RuntimeError("the ref of an AsyncActor is its inbox")

    @staticmethod
    def _create_future() -> AsyncFuture[Any]:
        return AsyncFuture(current_dispatcher().thread)

    def _start_actor_loop(self) -> Never:
        raise RuntimeError("an AsyncActor is started by its dispatcher")


def current_dispatcher() -> "Dispatcher":
    """The dispatcher whose handler is running, or that of the enclosing `using`. Raises LookupError."""
    return _CURRENT.get()


def set_current(dispatcher: "Dispatcher") -> None:
    """Make it the current dispatcher of the present context, for good."""
    _CURRENT.set(dispatcher)


@contextmanager
def using(dispatcher: "Dispatcher") -> Iterator[None]:
    """Make `SomeActor.start()` mean this dispatcher, in the present context."""
    token = _CURRENT.set(dispatcher)
    try:
        yield
    finally:
        _CURRENT.reset(token)
