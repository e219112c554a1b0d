"""What a WebSocket or an event stream says. One JSON object for each frame, told apart by `type`.

A committed event of an instance has a number, `seq`: 1, 2, 3, … without holes. It becomes one or more frames, one for
each task that moved and one when the instance itself changed; all but the last of them say `more`. Whoever has seen the
last frame of a number may come back with `?since=` that number and misses nothing. Over many instances the same is done
with `cursor`, which is opaque.
"""

from datetime import datetime
from typing import Final

import msgspec

from taskengine.wire.instances import InstanceBody, ProgressBody, TaskBody

__all__ = [
    "FRAME_DECODER",
    "GapFrame",
    "HeartbeatFrame",
    "InstanceStatus",
    "LogUpdate",
    "ProgressUpdate",
    "Snapshot",
    "StreamFrame",
    "TaskStatus",
]


class InstanceStatus(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="instance_status"
):
    """The instance itself moved; `error` says why it ended badly, or the reason somebody gave."""

    instance_id: str
    workflow_id: str
    seq: int
    status: str
    timestamp: datetime
    run: int = 1
    progress: ProgressBody | None = None
    error: str | None = None
    more: bool = False
    cursor: str | None = None


class TaskStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="task_status"):
    """A task moved. `progress` is that of the instance and stands on the last frame of a number.

    move   what happened, e.g. `retry`; two roads may lead to one status
    error  why it is where it is: of a failure, a skip, a cancel
    """

    instance_id: str
    workflow_id: str
    seq: int
    task_id: str
    status: str
    move: str
    attempt: int
    timestamp: datetime
    progress: ProgressBody | None = None
    error: str | None = None
    more: bool = False
    cursor: str | None = None


class LogUpdate(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="log"):
    """A task says something. May be dropped; the stored lines are asked for by `GET /instances/{id}/logs`."""

    instance_id: str
    workflow_id: str
    task_id: str
    attempt: int
    level: str
    message: str
    timestamp: datetime


class ProgressUpdate(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="progress"):
    """How far a task says it is, 0..1. May be dropped: the next one says more."""

    instance_id: str
    workflow_id: str
    task_id: str
    fraction: float
    message: str
    timestamp: datetime


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="snapshot"):
    """How things are; the first frame, and again after a gap. Updates that follow are newer.

    seq        of a stream of one instance, which is then the only one in `instances`, with its `tasks`
    cursor     of a stream over many instances; `instances` are the unfinished ones, the newest first, at most 100
    counts     instances by state, in a stream over many
    """

    instances: list[InstanceBody]
    timestamp: datetime
    tasks: list[TaskBody] = []
    seq: int | None = None
    cursor: str | None = None
    counts: dict[str, int] = {}


class GapFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="gap"):
    """Updates are missing here, because they are too old or the reader was too slow. A new snapshot follows."""

    timestamp: datetime
    reason: str


class HeartbeatFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="heartbeat"):
    """Nothing happened, and the connection lives."""

    timestamp: datetime
    cursor: str | None = None


StreamFrame = InstanceStatus | TaskStatus | LogUpdate | ProgressUpdate | Snapshot | GapFrame | HeartbeatFrame

FRAME_DECODER: Final = msgspec.json.Decoder(StreamFrame)
