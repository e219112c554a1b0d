"""Frames on their way out: encoded once, shared by every client that wants them."""

from collections.abc import Sequence
from typing import Final

__all__ = ["Parcel", "websocket_frame"]

_LAST_TEXT: Final = 0x81


def websocket_frame(payload: bytes) -> bytes:
    """One unfragmented text message as a server sends it (RFC 6455, 5.2): not masked, so equal for every client."""
    size = len(payload)
    if size < 126:
        return bytes((_LAST_TEXT, size)) + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2) + payload
    return b"\x81\x7f" + size.to_bytes(8) + payload


class Parcel:
    """The frames of one number, or one frame without a number; never split.

    payloads   JSON texts in order, UTF-8
    seq        of its instance; 0: these frames have no number and may be dropped
    position   in the ring; 0: it is not there
    resume     what a client that has this parcel comes back with: a cursor over many instances, else the number
    """

    __slots__ = ("_events", "_wire", "payloads", "position", "resume", "seq", "size")

    def __init__(self, payloads: Sequence[bytes], *, seq: int = 0, position: int = 0, resume: str = "") -> None:
        self.payloads = payloads
        self.seq = seq
        self.position = position
        self.resume = resume
        self.size = sum(map(len, payloads))
        self._wire: bytes | None = None
        self._events: bytes | None = None

    @property
    def droppable(self) -> bool:
        return not self.seq

    @property
    def wire(self) -> bytes:
        """As WebSocket frames."""
        if self._wire is None:
            self._wire = b"".join(map(websocket_frame, self.payloads))
        return self._wire

    @property
    def events(self) -> bytes:
        """As events of `text/event-stream`. The id stands on the last one: who has it has the whole number."""
        if self._events is None:
            lines = [b"data: %b\n\n" % payload for payload in self.payloads]
            if self.resume and lines:
                lines[-1] = b"id: %b\n%b" % (self.resume.encode(), lines[-1])
            self._events = b"".join(lines)
        return self._events
