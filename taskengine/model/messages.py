"""Every message that an instance's actor accepts. They carry ids, never references, so any mailbox can be replayed.

Commands carry an id that is remembered: a late copy has the same answer and no second effect, also in a later run.
"""

from enum import StrEnum
from typing import Final

import msgspec

from taskengine.clock import Micros
from taskengine.model.definition import RetryPolicy
from taskengine.model.ids import CommandId, InstanceId, Ordinal
from taskengine.model.records import Outcome, ParkKind, TaskFailure

__all__ = [
    "INBOX",
    "Add",
    "Cancel",
    "ChildSettled",
    "Command",
    "Continue",
    "DeadlineDue",
    "Granted",
    "InstanceMessage",
    "Nap",
    "Park",
    "Pause",
    "Quarantine",
    "Recovered",
    "Resume",
    "Retry",
    "RetryScope",
    "Settled",
    "Signal",
    "Start",
    "TaskDue",
]


class Message(msgspec.Struct, frozen=True):
    """Root of all messages."""


class Start(Message, frozen=True, tag="instance.start"):
    """First message of a new instance: its row and its first offers become one commit. `reason`: for its event."""

    reason: str = ""


class Recovered(Message, frozen=True, tag="instance.recovered"):
    """First message after an instance was read back.

    clean  the process did not die since its last decision: what is found Ready is no suspect, what is found Running
           was stopped by us and does not count as lost
    """

    clean: bool = False


class Granted(Message, frozen=True, gc=False, tag="task.granted"):
    """The runner gave a slot to an offer."""

    ordinal: Ordinal
    attempt: int


class Park(msgspec.Struct, frozen=True, gc=False):
    """What a parked attempt waits for.

    result  JSON that becomes the task's result if the wait ends well
    """

    kind: ParkKind
    due_us: Micros | None = None
    key: str = ""
    result: bytes | None = None


class Settled(Message, frozen=True, tag="task.settled"):
    """An attempt has ended; exactly one for each attempt that was launched.

    result  JSON when the outcome is OK
    error   when it is FAIL, TIMEOUT or INTERRUPTED
    retry   the job function's own policy, for a task that states none
    """

    ordinal: Ordinal
    attempt: int
    outcome: Outcome
    started_us: Micros | None = None
    result: bytes | None = None
    error: TaskFailure | None = None
    park: Park | None = None
    retry: RetryPolicy | None = None


class TaskDue(Message, frozen=True, gc=False, tag="task.due"):
    """A retry's delay or a sleep is over."""

    ordinal: Ordinal
    attempt: int


class ChildSettled(Message, frozen=True, tag="task.child_settled"):
    """The child of a task has ended, or can not be started.

    child    its id
    outcome  OK, FAIL, or INTERRUPTED for one that was cancelled
    result   JSON when the outcome is OK
    error    when it is another
    """

    ordinal: Ordinal
    attempt: int
    child: InstanceId
    outcome: Outcome
    result: bytes | None = None
    error: TaskFailure | None = None


class Add(Message, frozen=True, tag="instance.add"):
    """Tasks that nobody has defined, all of them or none.

    id       under which the answer is awaited; with `attempt` 0 it is remembered like that of a command
    parent   ordinal; below 0: they stand beside the tasks of the definition
    attempt  of the parent, whose body adds them; 0: they come from outside
    tasks    JSON of an `added.Added` each
    """

    id: CommandId
    tasks: tuple[msgspec.Raw, ...]
    parent: int = -1
    attempt: int = 0


class Nap(Message, frozen=True, tag="task.nap"):
    """A body wants to know when so much time is over, also if it has to ask again after a crash.

    id      under which it is remembered: the same one has the same end
    due_us  when it ends, if it has not begun before
    """

    id: CommandId
    ordinal: Ordinal
    attempt: int
    due_us: Micros


class DeadlineDue(Message, frozen=True, gc=False, tag="instance.deadline"):
    """The instance's own timeout is over."""

    run: int


class Continue(Message, frozen=True, gc=False, tag="instance.continue"):
    """There is more on the agenda than one decision may do."""


class Quarantine(Message, frozen=True, tag="instance.quarantine"):
    """The actor of this instance failed too often; hold it until somebody looks."""

    reason: str


class Command(Message, frozen=True):
    """Root of what users ask for."""

    id: CommandId


class Pause(Command, frozen=True, tag="instance.pause"):
    """`now` also interrupts running attempts; they will run again."""

    now: bool = False


class Resume(Command, frozen=True, tag="instance.resume"):
    pass


class Cancel(Command, frozen=True, tag="instance.cancel"):
    """`compensate`: undo then what was done. Asked for once, it stays asked for."""

    reason: str = ""
    compensate: bool = False


class Signal(Command, frozen=True, tag="instance.signal"):
    """Something from outside for a task that waits, or will. `payload`: JSON; `by`: who has sent it."""

    name: str
    payload: msgspec.Raw = msgspec.Raw(b"null")
    by: str = ""


class RetryScope(StrEnum):
    """`failed`: what failed, keeping every success; `from`: one task and all below; `only`: one task."""

    FAILED = "failed"
    FROM = "from"
    ONLY = "only"


class Retry(Command, frozen=True, tag="instance.retry"):
    scope: RetryScope = RetryScope.FAILED
    task: str = ""


InstanceMessage = (
    Add
    | Start
    | Recovered
    | Granted
    | Settled
    | TaskDue
    | ChildSettled
    | Nap
    | DeadlineDue
    | Continue
    | Quarantine
    | Pause
    | Resume
    | Cancel
    | Retry
    | Signal
)

INBOX: Final = msgspec.json.Decoder(InstanceMessage)
"""Decodes a recorded mailbox."""
