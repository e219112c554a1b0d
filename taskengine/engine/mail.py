"""Messages between the engine's own actors. What an instance is told from outside is in `model/messages.py`."""

from collections.abc import Mapping
from typing import Final

import msgspec

from taskengine.model.ids import InstanceId
from taskengine.model.messages import InstanceMessage
from taskengine.model.records import InstanceRow, TaskRow

__all__ = [
    "FLUSH",
    "Adopt",
    "Closing",
    "Committed",
    "Deliver",
    "Drain",
    "Flush",
    "Found",
    "GraceOver",
    "Interrupted",
    "Kept",
    "Landed",
    "LaunchNew",
    "Orphaned",
    "OutOfTime",
    "Rebuild",
    "Spread",
    "Unkept",
    "Unreadable",
]


class Committed(msgspec.Struct, frozen=True, gc=False, tag="instance.committed"):
    """The oldest decision on its way is committed."""


class Drain(msgspec.Struct, frozen=True, gc=False, tag="instance.drain"):
    """The engine is stopping: interrupt what runs; it will run again.

    over  nobody waits any more: what still runs is recorded as it is and left behind
    """

    over: bool = False


class Flush(msgspec.Struct, frozen=True, gc=False, tag="instance.flush"):
    """Save what has waited for a decision to ride with."""


FLUSH: Final = Flush()


class Closing(msgspec.Struct, frozen=True, gc=False, tag="supervisor.closing"):
    """Build nothing anew."""


class Interrupted(msgspec.Struct, frozen=True, gc=False, tag="task.interrupted"):
    """Stop the body; whatever it comes to is reported."""


class OutOfTime(msgspec.Struct, frozen=True, gc=False, tag="task.out_of_time"):
    """The attempt's deadline has passed."""


class GraceOver(msgspec.Struct, frozen=True, gc=False, tag="task.grace_over"):
    """The body was asked to end a while ago."""


class Found(msgspec.Struct, frozen=True, tag="task.found"):
    """Inputs that had to be read from the store, as JSON by ordinal."""

    results: Mapping[int, bytes]
    errors: Mapping[int, bytes]


class Unreadable(msgspec.Struct, frozen=True, tag="task.unreadable"):
    """They could not be read."""

    error: BaseException


class Spread(msgspec.Struct, frozen=True, gc=False, tag="task.spread"):
    """Each item of the task's `for_each` has its sub-task."""


class Kept(msgspec.Struct, frozen=True, tag="task.kept"):
    """A large result lies in the artifact store; `result` names it."""

    result: bytes


class Unkept(msgspec.Struct, frozen=True, tag="task.unkept"):
    """It could not be put there."""

    error: BaseException


class LaunchNew(msgspec.Struct, frozen=True, tag="supervisor.launch_new"):
    """Start an instance that has no row yet.

    taken   rows of tasks that another instance has done for it
    reason  for its first event
    """

    row: InstanceRow
    taken: tuple[TaskRow, ...] = ()
    reason: str = ""


class Deliver(msgspec.Struct, frozen=True, tag="supervisor.deliver"):
    """Hand a message to an instance; it is loaded first if it is not in memory."""

    instance_id: InstanceId
    message: InstanceMessage


class Adopt(msgspec.Struct, frozen=True, tag="supervisor.adopt"):
    """Load instances that an earlier process left unfinished; as many as one look at the store may bring."""

    instance_ids: tuple[InstanceId, ...]


class Orphaned(msgspec.Struct, frozen=True, gc=False, tag="supervisor.orphaned"):
    """The instance's actor has failed while so many of its decisions were on their way to the store."""

    instance_id: InstanceId
    decisions: int


class Landed(msgspec.Struct, frozen=True, gc=False, tag="supervisor.landed"):
    """One of those has committed or been refused."""

    instance_id: InstanceId


class Rebuild(msgspec.Struct, frozen=True, gc=False, tag="supervisor.rebuild"):
    """Try again to read an instance that could not be read."""

    instance_id: InstanceId
