"""What the store keeps, as frozen rows, and what changes them.

The unit of change is a `Decision`: everything that one step of one instance writes. It commits, splits and fails as
one. New rows are inserted; existing rows change only if they are still where their writer left them (`expect`).
"""

import msgspec

from taskengine.clock import Micros
from taskengine.model.events import EventBody
from taskengine.model.ids import CommandId, InstanceId, Ordinal, Version, WorkflowId
from taskengine.model.label import Label
from taskengine.model.states import Hold, InstanceState, Phase, TaskState, public_state

__all__ = [
    "Aged",
    "ArtifactRow",
    "AttemptRow",
    "CommandRow",
    "Decision",
    "DefinitionRow",
    "EventRow",
    "FunctionRow",
    "InstanceChange",
    "InstanceGuard",
    "InstanceRemoval",
    "InstanceRow",
    "LogBatch",
    "LogRow",
    "Outcome",
    "ParkKind",
    "Sweep",
    "TaskChange",
    "TaskFailure",
    "TaskGuard",
    "TaskRow",
    "TokenRow",
    "Verdict",
    "WorkflowRemoval",
    "Write",
]


class Outcome(Label):
    """How an attempt ended."""

    OK = "ok"
    FAIL = "fail"
    TIMEOUT = "timeout"
    SKIP = "skip"  # its `when` was false
    INTERRUPTED = "interrupted"  # we stopped it
    LOST = "lost"  # found running after an unclean end
    PARK = "park"  # it waits for something and needs no slot meanwhile


class ParkKind(Label):
    """What a parked task waits for."""

    NONE = ""
    SLEEP = "sleep"
    SIGNAL = "signal"
    CHILD = "child"
    SUBS = "subs"  # its body has succeeded; its sub-tasks have not all ended


class Verdict(Label):
    """The first reason to end; written once per run."""

    NONE = ""
    SUCCESS = "success"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


class TaskFailure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an attempt failed, as data.

    type            name of the exception's class, or a code such as `lost`
    bases           names of the classes it derives from, nearest first, for a retry policy's `on`
    retryable       False: no further attempt whatever the policy says
    retry_after_us  the failed attempt asked for this delay
    """

    type: str
    message: str
    traceback: str = ""
    bases: tuple[str, ...] = ()
    retryable: bool = True
    retry_after_us: Micros | None = None


class InstanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One instance. Its tasks, events and attempts have rows of their own.

    deadline_us       when the instance times out; None: never, or it stands still in a pause
    deadline_left_us  what was left of it when the pause began
    hard              the failure that drains this instance also cancels what runs
    error             text for people: the first failure that counted, or the reason of a cancel
    """

    id: InstanceId
    workflow_id: WorkflowId
    version: Version
    params: bytes = b"{}"
    run: int = 1
    phase: Phase = Phase.NEW
    hold: Hold = Hold.NONE
    verdict: Verdict = Verdict.NONE
    final: InstanceState | None = None
    compensate_asked: bool = False
    hard: bool = False
    deadline_us: Micros | None = None
    deadline_left_us: Micros | None = None
    created_us: Micros = Micros(0)
    started_us: Micros | None = None
    finished_us: Micros | None = None
    error: str = ""
    idempotency_key: str | None = None

    @property
    def state(self) -> InstanceState:
        return public_state(self.phase, self.hold, self.final)


class Aged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """As much of an instance as its age is judged by.

    keyed  it has an idempotency key
    """

    id: InstanceId
    workflow_id: WorkflowId
    version: Version
    run: int
    state: InstanceState
    created_us: Micros
    finished_us: Micros | None
    keyed: bool


class InstanceGuard(msgspec.Struct, frozen=True, gc=False):
    """Where an instance row must still be for a change to apply."""

    phase: Phase
    hold: Hold
    run: int


class InstanceChange(msgspec.Struct, frozen=True):
    """`expect` None: the row is new."""

    row: InstanceRow
    expect: InstanceGuard | None = None


class TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """One task of one instance. A task that has not been touched needs no row and counts as Pending, attempt 0.

    parent      ordinal of the parent of a sub-task, -1 for a task of the definition
    spec        JSON of `added.Added` for a task that was added at run time, else None
    added_by    0: the definition or the API; n: the parent's attempt n; below 0: it is out, and is not seen any more
    attempt     only ever grows, over retries, runs and compensations
    tries       attempts that count against the retry policy in this run
    begun       has been dispatched in this run
    due_us      when a retry or a sleep is due
    park, key   what a Waiting task waits for
    body_seq    place in the order in which bodies succeeded, 0: has not
    losses      unclean ends in a row at which it was found Running
    suspect     it was offered when the process died: its next start waits for its Running row
    result      JSON, UNSET: leave as it is
    error       JSON of a TaskFailure, UNSET: leave as it is
    """

    ordinal: Ordinal
    name: str
    state: TaskState = TaskState.PENDING
    attempt: int = 0
    tries: int = 0
    parent: int = -1
    spec: bytes | None = None
    added_by: int = 0
    begun: bool = False
    due_us: Micros | None = None
    park: ParkKind = ParkKind.NONE
    key: str = ""
    body_seq: int = 0
    losses: int = 0
    suspect: bool = False
    reason: str = ""
    started_us: Micros | None = None
    finished_us: Micros | None = None
    result: bytes | msgspec.UnsetType | None = msgspec.UNSET
    error: bytes | msgspec.UnsetType | None = msgspec.UNSET


class TaskGuard(msgspec.Struct, frozen=True, gc=False):
    """Where a task row must still be for a change to apply."""

    state: TaskState
    attempt: int


class TaskChange(msgspec.Struct, frozen=True):
    """`expect` None: the row is new."""

    row: TaskRow
    expect: TaskGuard | None = None


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that was followed by another one. The last attempt of a task is told by its TaskRow."""

    ordinal: Ordinal
    attempt: int
    run: int
    outcome: Outcome
    started_us: Micros | None = None
    finished_us: Micros | None = None
    error: bytes | None = None


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it is stored; unique by (instance, seq)."""

    instance_id: InstanceId
    seq: int
    at_us: Micros
    body: EventBody


class CommandRow(msgspec.Struct, frozen=True, kw_only=True):
    """A command that was accepted, and its answer; unique by (instance, id)."""

    id: CommandId
    kind: str
    answer: bytes = b"null"


class DefinitionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a workflow. Saving it again changes nothing; the newest saved is the workflow's current one."""

    workflow_id: WorkflowId
    version: Version
    canonical: bytes
    created_us: Micros


class FunctionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A registered job function, so that a later start can import it again. Unique by name; the last one stays."""

    name: str
    path: str
    signature: str = ""
    doc: str = ""
    source_hash: str = ""


class WorkflowRemoval(msgspec.Struct, frozen=True, kw_only=True):
    """The workflow has no current version any more. Its definitions stay: instances refer to them.

    In the order of the writes: a definition that is saved later makes the workflow current again. Removing what is
    not there changes nothing.
    """

    workflow_id: WorkflowId


class InstanceRemoval(msgspec.Struct, frozen=True, kw_only=True):
    """An ended instance is taken away: from this commit on nobody sees it, and its idempotency key is free.

    Its own row is all that goes here, so that this is quick whatever the instance has done; it is noted as removed, and
    sweeps delete the rest. Nobody may write to it any more.

    run  in which it must still be ended; where a retry came first the removal is refused
    """

    instance_id: InstanceId
    run: int


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """Delete a slice of what removed instances have left behind: tasks, attempts, events, commands, log lines.

    Which of them is the store's choice, among those that were removed by an earlier batch. The first event of an
    instance goes last, together with the note that it was removed: as long as anything of it is there, an instance of
    the same id is refused. With nothing to delete it does nothing.

    instances  of so many of them at most
    rows       so many of their rows at most, not counting that last event and the note
    """

    instances: int
    rows: int


class LogRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line that a task's attempt wrote; unique by (instance, id).

    id     from 1, grows within the instance; whoever writes gives it
    level  debug, info, warning, error, stdout or stderr
    """

    instance_id: InstanceId
    id: int
    task: str
    attempt: int
    level: str
    message: str
    at_us: Micros


class LogBatch(msgspec.Struct, frozen=True):
    """Lines that are saved together, also of several instances. A line whose id is there already is ignored."""

    rows: tuple[LogRow, ...]


class ArtifactRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something in the artifact store that a task has left there; unique by (instance, ordinal, name).

    digest  SHA-256 of the content, in hex; size in bytes
    """

    instance_id: InstanceId
    ordinal: Ordinal
    name: str
    digest: str
    size: int
    at_us: Micros


class TokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """Who may use the server, without the secret itself. Saving the same id again replaces the row.

    digest                  SHA-256 of the secret, in hex
    expires_us, revoked_us  None: never, and not revoked
    """

    id: str
    name: str
    scope: str
    digest: str
    created_us: Micros
    expires_us: Micros | None = None
    revoked_us: Micros | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of one step of one instance. `event` is always there and carries the instance's next `seq`."""

    instance_id: InstanceId
    event: EventRow
    instance: InstanceChange | None = None
    tasks: tuple[TaskChange, ...] = ()
    attempts: tuple[AttemptRow, ...] = ()
    commands: tuple[CommandRow, ...] = ()

    @property
    def rows(self) -> int:
        return 1 + (self.instance is not None) + len(self.tasks) + len(self.attempts) + len(self.commands)


Write = Decision | DefinitionRow | FunctionRow | InstanceRemoval | LogBatch | Sweep | TokenRow | WorkflowRemoval
"""What the checkpointer takes."""
