"""From what the bus says to what a stream says. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from taskengine.api.shapes import progress_body
from taskengine.bus import LogFrame, ProgressFrame
from taskengine.clock import Micros
from taskengine.model.events import Event
from taskengine.wire.frames import InstanceStatus, LogUpdate, ProgressUpdate, TaskStatus

__all__ = [
    "UpdateFrame",
    "closed",
    "encode_frame",
    "event_frames",
    "log_update",
    "progress_update",
    "time_of",
    "with_cursor",
]

UpdateFrame = InstanceStatus | TaskStatus

_ENCODER: Final = msgspec.json.Encoder()


def time_of(at_us: Micros) -> datetime:
    """Aware, UTC."""
    return datetime.fromtimestamp(at_us / 1_000_000, UTC)


def event_frames(event: Event) -> list[UpdateFrame]:
    """The frames of one number: a frame for each task that moved, then one if the instance itself did. Never empty.

    All but the last say `more`; the last has the instance's progress.
    """
    body, at = event.body, time_of(event.at_us)
    progress = progress_body(body.progress)
    tells_instance = body.changed or bool(body.reason) or not body.transitions
    last = len(body.transitions) - 1
    frames: list[UpdateFrame] = []
    for index, move in enumerate(body.transitions):
        more = tells_instance or index < last
        frames.append(
            TaskStatus(
                instance_id=event.instance_id,
                workflow_id=event.workflow_id,
                seq=event.seq,
                task_id=move.task,
                status=move.state.value,
                move=move.move.value,
                attempt=move.attempt,
                timestamp=at,
                progress=None if more else progress,
                error=move.reason or None,
                more=more,
            )
        )
    if tells_instance:
        frames.append(
            InstanceStatus(
                instance_id=event.instance_id,
                workflow_id=event.workflow_id,
                seq=event.seq,
                status=body.state.value,
                timestamp=at,
                run=body.run,
                progress=progress,
                error=body.reason or None,
            )
        )
    return frames


def closed(frames: Sequence[UpdateFrame]) -> list[UpdateFrame]:
    """What a filter left of one number, as a number of its own: its last frame no longer promises another one."""
    chosen = list(frames)
    if chosen and chosen[-1].more:
        chosen[-1] = msgspec.structs.replace(chosen[-1], more=False)
    return chosen


def log_update(frame: LogFrame) -> LogUpdate:
    return LogUpdate(
        instance_id=frame.instance_id,
        workflow_id=frame.workflow_id,
        task_id=frame.task,
        attempt=frame.attempt,
        level=frame.level.lower(),
        message=frame.message,
        timestamp=time_of(frame.at_us),
    )


def progress_update(frame: ProgressFrame, now_us: Micros) -> ProgressUpdate:
    return ProgressUpdate(
        instance_id=frame.instance_id,
        workflow_id=frame.workflow_id,
        task_id=frame.task,
        fraction=frame.fraction,
        message=frame.message,
        timestamp=time_of(now_us),
    )


def encode_frame(frame: msgspec.Struct) -> bytes:
    """JSON, UTF-8, one object without line breaks. A lone surrogate, as a command may print it, becomes `?`."""
    try:
        return _ENCODER.encode(frame)
    except UnicodeEncodeError:
        texts = {name: value for name in frame.__struct_fields__ if isinstance(value := getattr(frame, name), str)}
        clean = {name: text.encode(errors="replace").decode() for name, text in texts.items()}
        return _ENCODER.encode(msgspec.structs.replace(frame, **clean))


def with_cursor(encoded: bytes, cursor: str) -> bytes:
    """An encoded frame that had no cursor, with one. Spares the second encoding."""
    return b'%b,"cursor":"%b"}' % (encoded[:-1], cursor.encode())
