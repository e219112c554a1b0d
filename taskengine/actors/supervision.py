"""One-for-one supervision: a child that fails is built anew, unless it fails too often."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Literal, assert_never

import msgspec

from taskengine.actors.actor import AsyncActor, ChildEnded
from taskengine.actors.ref import ActorRef
from taskengine.clock import TimerHandle
from taskengine.errors import Conflict, RestartsExhausted

__all__ = [
    "ChildSpec",
    "Restart",
    "RestartWhen",
    "StartChild",
    "Supervisor",
    "Verdict",
    "on_child_exit",
]

Verdict = Literal["restart", "forget", "escalate"]


class RestartWhen(StrEnum):
    """After which end a child is built anew."""

    PERMANENT = "permanent"  # after every end
    TRANSIENT = "transient"  # after a failure
    TEMPORARY = "temporary"  # never


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """Restart policy of one child.

    At most `max_restarts` within `within_s` seconds. The first restart waits `delay_s`, each further one of the
    same window twice as long as the one before, up to `max_delay_s`.
    """

    when: RestartWhen = RestartWhen.TRANSIENT
    max_restarts: int = 5
    within_s: float = 30.0
    delay_s: float = 0.1
    max_delay_s: float = 10.0


class StartChild:
    """What a `ChildSpec.factory` starts its actor with: parent and key are filled in."""

    __slots__ = ("_key", "_parent")

    def __init__(self, parent: ActorRef[Any], key: str) -> None:
        self._parent, self._key = parent, key

    def __call__(self, actor_class: type[AsyncActor], *args: Any, **kwargs: Any) -> ActorRef[Any]:
        return self._parent.dispatcher.launch(actor_class, args, kwargs, self._parent, self._key)


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How to build a child, the first time and every time after.

    key      unique under its supervisor
    factory  called with a `StartChild`: `lambda start: start(Runner, pools)`. It runs anew for each restart,
             so it can read fresh state; it must not wait.
    """

    key: str
    factory: Callable[[StartChild], ActorRef[Any]]
    restart: Restart = Restart()


def on_child_exit(policy: Restart, restarts_s: Sequence[float], now_s: float, *, clean: bool) -> Verdict:
    """What a supervisor does about one dead child. Pure; `restarts_s` are monotonic seconds."""
    if policy.when is RestartWhen.TEMPORARY or (clean and policy.when is RestartWhen.TRANSIENT):
        return "forget"
    recent = _recent(policy, restarts_s, now_s)
    return "restart" if len(recent) < policy.max_restarts else "escalate"


def restart_delay(policy: Restart, restarts_s: Sequence[float], now_s: float) -> float:
    """Seconds to wait before the next restart. Pure; doubles with each restart in the window."""
    doublings = min(len(_recent(policy, restarts_s, now_s)), 32)
    return float(min(policy.delay_s * 2**doublings, policy.max_delay_s))


def _recent(policy: Restart, restarts_s: Sequence[float], now_s: float) -> list[float]:
    return [at_s for at_s in restarts_s if now_s - at_s <= policy.within_s]


class _Child:
    __slots__ = ("backoff", "dismissed", "ref", "restarts", "restarts_s", "spec")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.ref: ActorRef[Any] | None = None
        self.restarts = 0
        self.restarts_s: list[float] = []  # those within the policy's window
        self.backoff: TimerHandle | None = None
        self.dismissed = False


class _Rebuild(msgspec.Struct, frozen=True):
    """To itself, when the backoff is over. `attempt` tells a late one from the present one."""

    key: str
    attempt: int


class Supervisor(AsyncActor):
    """Starts its children in order, restarts one for one, stops them youngest first before itself.

    specs     the children it starts with; one whose constructor raises makes the supervisor fail
    escalate  called on the loop's thread with (key, error) when a child has failed too often; the child is
              forgotten and the others go on. Without it the supervisor fails with RestartsExhausted: the
              others are stopped and its own parent decides.

    A child's mailbox dies with it, and refs to it give dead letters: look children up with `child(key)`.
    Subclasses that have messages of their own override `on_message` and leave `on_receive` alone.
    """

    ordered_stop: ClassVar[bool] = True

    def __init__(
        self,
        specs: Sequence[ChildSpec] = (),
        *,
        escalate: Callable[[str, BaseException | None], object] | None = None,
    ) -> None:
        self._specs = specs
        self._escalate = escalate
        self._children: dict[str, _Child] = {}

    def on_start(self) -> None:
        """Start the children that were named at construction."""
        for spec in self._specs:
            self.start_child(spec)

    def on_receive(self, message: Any) -> Any:
        """The supervisor's own messages; everything else goes to `on_message`."""
        if isinstance(message, _Rebuild):
            return self._rebuild(message)
        return self.on_message(message)

    def on_message(self, message: Any) -> Any:
        """What `on_receive` is for other actors."""
        return super().on_receive(message)

    def start_child(self, spec: ChildSpec) -> ActorRef[Any]:
        """Start and look after one more child. For handlers of this actor.

        Raises what the constructor raises, and Conflict while a child of that key is here: alive, waiting for
        its restart, or not gone yet.
        """
        if spec.key in self._children:
            raise Conflict(f"{self} already has a child {spec.key!r}")
        child = _Child(spec)
        child.ref = spec.factory(StartChild(self.actor_ref, spec.key))
        self._children[spec.key] = child
        return child.ref

    def stop_child(self, key: str) -> None:
        """Let it stop in its order, and not come back, whatever its policy. Unknown keys are ignored."""
        child = self._children.get(key)
        if child is None:
            return
        child.dismissed = True
        if child.backoff is not None:
            child.backoff.cancel()
            del self._children[key]
        elif child.ref is not None:
            child.ref.stop()

    def child(self, key: str) -> ActorRef[Any] | None:
        """The present ref, or None: unknown, or between two lives."""
        child = self._children.get(key)
        return None if child is None else child.ref

    def on_child_ended(self, ended: ChildEnded) -> None:
        """Decide, then do it. Subclasses that override it call it too."""
        child = self._children.get(ended.child)
        if child is None or (child.ref is not None and child.ref.is_alive()):
            return
        child.ref = None
        self._child_gone(child, ended.error)

    def on_stop(self) -> None:
        """Nobody comes back any more."""
        self._forget_backoffs()

    def on_failure(self, *_exc_info: Any) -> None:
        """Nobody comes back any more."""
        self._forget_backoffs()

    def _child_gone(self, child: _Child, error: BaseException | None) -> None:
        clock = self.dispatcher.ambient.clock
        key, policy, now_s = child.spec.key, child.spec.restart, clock.monotonic()
        verdict = on_child_exit(policy, child.restarts_s, now_s, clean=error is None)
        if child.dismissed:
            verdict = "forget"
        match verdict:
            case "forget":
                del self._children[key]
            case "restart":
                delay_s = restart_delay(policy, child.restarts_s, now_s)
                child.restarts += 1
                child.restarts_s = [*_recent(policy, child.restarts_s, now_s), now_s]
                ref, message = self.actor_ref, _Rebuild(key, child.restarts)
                child.backoff = clock.call_at(now_s + delay_s, lambda: ref.tell(message))
            case "escalate":
                del self._children[key]
                self._give_up(key, error)
            case _:
                assert_never(verdict)

    def _give_up(self, key: str, error: BaseException | None) -> None:
        self.dispatcher.ambient.metrics.count("actors.escalations")
        if self._escalate is None:
            raise RestartsExhausted(key) from error
        self._escalate(key, error)

    def _rebuild(self, message: _Rebuild) -> None:
        child = self._children.get(message.key)
        if child is None or child.restarts != message.attempt:
            return
        child.backoff = None
        self.dispatcher.ambient.metrics.count("actors.restarts")
        try:
            child.ref = child.spec.factory(StartChild(self.actor_ref, message.key))
        except Exception as exc:  # a constructor that raises is one more failure of the child
            self.dispatcher.ambient.log.error("actor.not_rebuilt", exc=exc, actor=message.key)
            self._child_gone(child, exc)
        else:
            child.ref.restarts = child.restarts

    def _forget_backoffs(self) -> None:
        for child in self._children.values():
            if child.backoff is not None:
                child.backoff.cancel()
