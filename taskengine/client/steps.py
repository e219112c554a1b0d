"""The vocabulary between decisions and transports.

What a client decides (what to send, how long to rest, when to give up) is written once, as generators that yield steps
and are sent outcomes. A transport performs the steps, and there is one that blocks and one that does not.
"""

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

__all__ = [
    "Answer",
    "Closed",
    "Emit",
    "Fault",
    "Open",
    "Opened",
    "Outcome",
    "Pause",
    "Receive",
    "Request",
    "Send",
    "Step",
]

T = TypeVar("T")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request, or the opening of a stream. `path` is quoted and has its query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    read_s: float


class Send(msgspec.Struct, frozen=True):
    """Do it; the outcome is an Answer or a Fault."""

    request: Request


class Pause(msgspec.Struct, frozen=True):
    """Rest; the outcome is None."""

    delay_s: float


class Open(msgspec.Struct, frozen=True):
    """Open a feed: a WebSocket, or else the lines of an answer. Outcome: Opened, Answer (it was refused) or Fault."""

    request: Request
    websocket: bool


class Receive(msgspec.Struct, frozen=True):
    """The next message of the open feed. Outcome: bytes; Closed or Fault, and then the feed is gone."""


class Emit(msgspec.Struct, Generic[T], frozen=True):
    """Hand this to the caller; the outcome is None."""

    item: T


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server said. Names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """There was no answer.

    sent      whether the request, or a part of it, may have reached the server
    hopeless  whether the same again ends the same way: a certificate that is not trusted
    """

    reason: str
    sent: bool
    hopeless: bool = False


class Opened(msgspec.Struct, frozen=True):
    """The feed is open."""


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """The other side ended the feed in good order. `code` is that of the WebSocket; 1000 for the end of lines."""

    code: int
    reason: str = ""


Step = Send | Pause
Outcome = Answer | Fault | None
