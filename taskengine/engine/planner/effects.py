"""What a decision wants to happen outside. Data; the instance's actor performs it.

All effects of a decision wait for its commit and are released in their order. A `Launch` whose right to run is
committed already is no effect of a decision: `Plan.take_launches` hands it out at once.
"""

import msgspec

from taskengine.clock import Micros
from taskengine.engine.planner.answers import Answer
from taskengine.model.ids import CommandId, Ordinal
from taskengine.model.label import Label
from taskengine.model.states import InstanceState

__all__ = [
    "Arm",
    "ArmDeadline",
    "ChildOrder",
    "Decline",
    "Effect",
    "Ended",
    "Interrupt",
    "Launch",
    "Offer",
    "Reply",
    "StartChild",
    "TellChild",
]


class Offer(msgspec.Struct, frozen=True, gc=False):
    """Ask the runner for a slot. The attempt is committed.

    alone  it may have ended the process more than once: no other such attempt, of any instance, may run beside it
    """

    ordinal: Ordinal
    attempt: int
    alone: bool = False


class Decline(msgspec.Struct, frozen=True, gc=False):
    """Give a granted slot back unused."""

    ordinal: Ordinal
    attempt: int


class Launch(msgspec.Struct, frozen=True, gc=False):
    """Start the attempt in its slot."""

    ordinal: Ordinal
    attempt: int


class Interrupt(msgspec.Struct, frozen=True, gc=False):
    """Stop the attempt; its outcome is still to come."""

    ordinal: Ordinal
    attempt: int


class Arm(msgspec.Struct, frozen=True, gc=False):
    """Send TaskDue at that time. Never disarmed: a stale one is fenced by its attempt."""

    ordinal: Ordinal
    attempt: int
    due_us: Micros


class ArmDeadline(msgspec.Struct, frozen=True, gc=False):
    """Send DeadlineDue at that time; a stale one is fenced by its run and by the row's own due time."""

    run: int
    due_us: Micros


class StartChild(msgspec.Struct, frozen=True, gc=False):
    """Start the child that this attempt waits for; if it is there, see that it goes on, or tell how it has ended."""

    ordinal: Ordinal
    attempt: int


class ChildOrder(Label):
    """What a parent passes on to its children."""

    PAUSE = "pause"
    PAUSE_NOW = "pause_now"
    RESUME = "resume"
    CANCEL = "cancel"


class TellChild(msgspec.Struct, frozen=True, gc=False):
    """Pass it on to the child that this attempt waits for. `reason`, `compensate`: of a cancel."""

    ordinal: Ordinal
    attempt: int
    order: ChildOrder
    reason: str = ""
    compensate: bool = False


class Reply(msgspec.Struct, frozen=True):
    command_id: CommandId
    answer: Answer


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The instance has reached a final state in this run."""

    state: InstanceState
    run: int


Effect = Offer | Decline | Launch | Interrupt | Arm | ArmDeadline | StartChild | TellChild | Reply | Ended
