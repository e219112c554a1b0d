"""From the engine's bus to frames as they travel, so that a picture has one source language."""

from collections.abc import Sequence

from taskengine.api.stream.frames import event_frames, log_update, progress_update
from taskengine.bus import Frame, LogFrame, ProgressFrame
from taskengine.clock import Micros
from taskengine.model.events import Event
from taskengine.wire import StreamFrame

__all__ = ["frames_of"]


def frames_of(frame: Frame, now_us: Micros) -> Sequence[StreamFrame]:
    """`now_us` dates what has no time of its own."""
    match frame:
        case Event():
            return event_frames(frame)
        case LogFrame():
            return [log_update(frame)]
        case ProgressFrame():
            return [progress_update(frame, now_us)]
