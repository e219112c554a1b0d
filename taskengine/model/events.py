"""What has happened to an instance: one event for each committed decision, with its transitions."""

from typing import Final

import msgspec

from taskengine.clock import Micros
from taskengine.model.ids import InstanceId, Ordinal, WorkflowId
from taskengine.model.progress import Progress
from taskengine.model.states import InstanceState, TaskMove, TaskState

__all__ = ["Event", "EventBody", "Transition", "decode_body", "encode_body"]


class Transition(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One task made one move."""

    ordinal: Ordinal
    task: str
    move: TaskMove
    state: TaskState
    attempt: int
    reason: str = ""


class EventBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the row of an event holds.

    state        of the instance after the decision
    transitions  in the order in which they happened
    reason       why the instance changed: a verdict, a user's words
    changed      the instance itself is in another state or run than before this event
    """

    state: InstanceState
    run: int = 1
    transitions: tuple[Transition, ...] = ()
    progress: Progress = Progress()
    reason: str = ""
    changed: bool = False


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A committed event as the bus carries it.

    seq  counts from 1 per instance without holes and is the instance's revision.
    """

    instance_id: InstanceId
    workflow_id: WorkflowId
    seq: int
    at_us: Micros
    body: EventBody


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(EventBody)


def encode_body(body: EventBody) -> bytes:
    """JSON, for the row."""
    return _ENCODER.encode(body)


def decode_body(data: bytes | str) -> EventBody:
    return _DECODER.decode(data)
