"""What the engine and a worker process say to each other: JSON frames, each behind its length in four bytes.

No pickle: a worker gets the import path of a function and JSON values, and answers with JSON.
"""

import os
import struct
import sys
from collections.abc import Iterator
from typing import Final

import msgspec

from taskengine.functions.context import CallInfo
from taskengine.functions.joblog import root_level
from taskengine.functions.outcomes import CallOutcome, Frame
from taskengine.functions.questions import Answered, Question
from taskengine.functions.services import Services

__all__ = [
    "ANSWERS",
    "REQUESTS",
    "Asked",
    "BadLine",
    "Ended",
    "Frames",
    "Hello",
    "Order",
    "Reply",
    "Told",
    "encode",
    "hello_for",
]

_LENGTH: Final = struct.Struct(">I")
_ENCODER: Final = msgspec.json.Encoder()


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First frame to a worker: the surroundings of the engine.

    sys_path    where the engine finds modules, the user's folders included
    pythonpath  what the variable was before it was changed to start the worker
    factories   import paths of services by key
    objects     keys of services that only the engine's process has
    log_cap     lines that one attempt may log
    log_level   that of the engine's root logger
    """

    sys_path: list[str]
    pythonpath: str | None
    factories: dict[str, str]
    objects: list[str]
    max_result: int
    grace_s: float
    log_cap: int
    log_level: int


class Order(msgspec.Struct, frozen=True, tag="order"):
    """Call one function. A worker gets the next one only after it has answered."""

    path: str
    origin: str
    nan: str
    info: CallInfo


class Told(msgspec.Struct, frozen=True, tag="told"):
    """The body says something while it runs."""

    frame: Frame


class Asked(msgspec.Struct, frozen=True, tag="asked"):
    """The body asks, and waits. `number` counts within the order."""

    number: int
    question: Question


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """The answer to the question of that number."""

    number: int
    answered: Answered


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The body has ended."""

    outcome: CallOutcome


REQUESTS: Final = msgspec.json.Decoder(Hello | Order | Reply)
ANSWERS: Final = msgspec.json.Decoder(Told | Asked | Ended)


def encode(message: Hello | Order | Reply | Told | Asked | Ended) -> bytes:
    """One frame, ready to be sent."""
    data = _ENCODER.encode(message)
    return _LENGTH.pack(len(data)) + data


def hello_for(services: Services, max_result: int, grace_s: float, log_cap: int) -> bytes:
    """The first frame, as the engine's process is now."""
    hello = Hello(
        sys_path=[os.path.abspath(entry) for entry in sys.path],
        pythonpath=os.environ.get("PYTHONPATH"),
        factories=dict(services.factories),
        objects=services.objects,
        max_result=max_result,
        grace_s=grace_s,
        log_cap=log_cap,
        log_level=root_level(),
    )
    return encode(hello)


class BadLine(Exception):
    """What came is no frame: a body wrote into the line."""


class Frames:
    """Cuts a stream of bytes into frames, whatever pieces it arrives in. None of them may be longer than `limit`."""

    def __init__(self, limit: int | None = None) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Every frame that is complete now, without its length. Raises BadLine."""
        self._buffer += data
        at = 0
        try:
            while len(self._buffer) - at >= _LENGTH.size:
                length = _LENGTH.unpack_from(self._buffer, at)[0]
                if self._limit is not None and length > self._limit:
                    raise BadLine(f"a frame of {length:,} bytes")
                end = at + _LENGTH.size + length
                if len(self._buffer) < end:
                    return
                frame = bytes(memoryview(self._buffer)[at + _LENGTH.size : end])
                at = end
                yield frame
        finally:
            del self._buffer[:at]
