"""Actors on one asyncio loop, with pykka's model and names. Knows nothing of workflows."""

from taskengine.actors.actor import AsyncActor, ChildEnded, current_dispatcher, using
from taskengine.actors.dispatcher import Dispatcher
from taskengine.actors.future import AsyncFuture
from taskengine.actors.household import Spawned
from taskengine.actors.letters import DeadLetter, DeadLetters
from taskengine.actors.ref import ActorGone, ActorProxy, ActorRef
from taskengine.actors.runqueue import Limits
from taskengine.actors.supervision import (
    ChildSpec,
    Restart,
    RestartWhen,
    StartChild,
    Supervisor,
    Verdict,
    on_child_exit,
)
from taskengine.actors.timers import Timer, Timers
from taskengine.actors.tree import ActorInfo

__all__ = [
    "ActorGone",
    "ActorInfo",
    "ActorProxy",
    "ActorRef",
    "AsyncActor",
    "AsyncFuture",
    "ChildEnded",
    "ChildSpec",
    "DeadLetter",
    "DeadLetters",
    "Dispatcher",
    "Limits",
    "Restart",
    "RestartWhen",
    "Spawned",
    "StartChild",
    "Supervisor",
    "Timer",
    "Timers",
    "Verdict",
    "current_dispatcher",
    "on_child_exit",
    "using",
]
