"""One task in the planner's memory."""

from typing import Final

import msgspec

from taskengine.clock import Micros
from taskengine.engine.planner.cast import TOP
from taskengine.model.records import ParkKind, TaskFailure, TaskGuard
from taskengine.model.states import TASK_FINAL, TaskState

__all__ = ["Task", "encode_failure", "reason_of"]

_FAILURE: Final = msgspec.json.Encoder()
_REASON_CHARS: Final = 500


def encode_failure(failure: TaskFailure) -> bytes:
    """As the error column holds it."""
    return _FAILURE.encode(failure)


def reason_of(failure: TaskFailure | None) -> str:
    """As the line of an event says it."""
    return "" if failure is None else f"{failure.type}: {failure.message}"[:_REASON_CHARS]


class Task:
    """One task in memory: what its row holds, how its dependencies stand, and where it is queued.

    ok, bad, skipped, failed  ended dependencies by what they count as; `failed` is the part of `bad` that was
                              not merely cancelled
    slot                      a body holds a slot for the current attempt
    queued                    stands in the heap of tasks that may be offered
    parent                    ordinal of the parent of a sub-task
    added_by                  attempt of the parent that has added it; 0: it is defined, or came from outside; below 0:
                              it is out, and neither counts nor is seen any more
    saved                     where the last decision left the row; None: there is no row
    """

    __slots__ = (
        "added_by",
        "attempt",
        "bad",
        "begun",
        "body_seq",
        "due_us",
        "error",
        "failed",
        "finished_us",
        "key",
        "losses",
        "ok",
        "ordinal",
        "parent",
        "park",
        "queued",
        "reason",
        "result",
        "saved",
        "skipped",
        "slot",
        "started_us",
        "state",
        "suspect",
        "tries",
    )

    def __init__(self, ordinal: int) -> None:
        self.ordinal = ordinal
        self.state = TaskState.PENDING
        self.attempt = 0
        self.tries = 0
        self.begun = False
        self.due_us: Micros | None = None
        self.park = ParkKind.NONE
        self.key = ""
        self.body_seq = 0
        self.losses = 0
        self.suspect = False
        self.reason = ""
        self.started_us: Micros | None = None
        self.finished_us: Micros | None = None
        self.result: bytes | msgspec.UnsetType | None = msgspec.UNSET
        self.error: bytes | msgspec.UnsetType | None = msgspec.UNSET
        self.ok = self.bad = self.skipped = self.failed = 0
        self.slot = False
        self.queued = False
        self.parent = TOP
        self.added_by = 0
        self.saved: TaskGuard | None = None

    @property
    def settled(self) -> bool:
        return self.state in TASK_FINAL

    @property
    def awaits_subs(self) -> bool:
        """Its body has succeeded, and its sub-tasks have not all ended."""
        return self.state is TaskState.WAITING and self.park is ParkKind.SUBS

    @property
    def awaits_child(self) -> bool:
        """The instance that it has asked for has not ended."""
        return self.state is TaskState.WAITING and self.park is ParkKind.CHILD

    @property
    def undoing(self) -> bool:
        """What it was granted a slot for is its compensation."""
        return self.state is TaskState.COMPENSATING

    @property
    def out(self) -> bool:
        return self.added_by < 0

    def keep_error(self, failure: TaskFailure | None) -> None:
        """None: what it has stays."""
        if failure is not None:
            self.error = encode_failure(failure)
