"""What a call of a job function can come to, and what a body tells while it runs."""

from typing import Any

import msgspec

from taskengine.clock import Micros
from taskengine.model.records import TaskFailure

__all__ = [
    "Awaited",
    "CallOutcome",
    "Child",
    "Frame",
    "LogLine",
    "Parked",
    "ProgressNote",
    "Raised",
    "Returned",
    "Sleep",
]


class Returned(msgspec.Struct, frozen=True, tag="returned"):
    """The body returned; `result` is the JSON of what it gave."""

    result: bytes


class Raised(msgspec.Struct, frozen=True, tag="raised"):
    """The body raised, or could not be called. `interrupted`: it ended because we asked it to."""

    error: TaskFailure
    interrupted: bool = False


class Parked(msgspec.Struct, frozen=True, tag="parked"):
    """The body asks to wait without a slot.

    span_us  for so long; None: for ever
    result   JSON of its result once the wait is over
    signal   the name of what it waits for, empty: the task's own; None: for nothing but the time
    child    it waits for an instance, which `result` asks for
    """

    span_us: Micros | None
    result: bytes
    signal: str | None = None
    child: bool = False


CallOutcome = Returned | Raised | Parked


class LogLine(msgspec.Struct, frozen=True, tag="log"):
    """`level` is one of debug, info, warning, error; stdout, stderr for what a command printed."""

    level: str
    message: str
    at_us: Micros


class ProgressNote(msgspec.Struct, frozen=True, tag="progress"):
    """`fraction` is between 0 and 1."""

    fraction: float
    message: str = ""


Frame = LogLine | ProgressNote


class Sleep(msgspec.Struct, frozen=True):
    """A body returns it to be parked: a durable wait that holds no slot and no thread."""

    span_us: Micros


class Awaited(msgspec.Struct, frozen=True):
    """A body returns it to be parked until somebody sends the signal; `span_us`: for how long at most."""

    signal: str
    span_us: Micros | None


class Child(msgspec.Struct, frozen=True):
    """A body returns it to be parked until an instance of that workflow has ended."""

    workflow: str
    params: dict[str, Any]
