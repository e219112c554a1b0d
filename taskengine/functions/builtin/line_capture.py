"""Output of a program: every line to the log, the last of it into the result."""

import codecs
from typing import Final

from taskengine.functions.context import TaskContext

__all__ = ["MAX_CAPTURE", "LineCapture"]

MAX_CAPTURE: Final = 1024 * 1024
"""Bytes of output that the result keeps."""

_MAX_LINE: Final = 64 * 1024


class LineCapture:
    """Takes the bytes of one stream as they come. What is no UTF-8 is shown as U+FFFD."""

    def __init__(self, ctx: TaskContext, level: str, limit: int = MAX_CAPTURE) -> None:
        self._ctx = ctx
        self._level = level
        self._limit = limit
        self._kept = bytearray()
        self._dropped = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""
        self.closed = False

    def feed(self, data: bytes) -> None:
        if self.closed:
            return
        self._kept += data
        # Cut at twice the limit and not at each piece: moving a megabyte for every line would be quadratic.
        if len(self._kept) > 2 * self._limit:
            self._cut()
        *lines, self._line = (self._line + self._decoder.decode(data)).split("\n")
        for line in lines:
            self._tell(line)
        while len(self._line) > _MAX_LINE:
            self._tell(self._line[:_MAX_LINE])
            self._line = self._line[_MAX_LINE:]

    def close(self) -> None:
        """No more comes; a last line without an end is told too."""
        if self.closed:
            return
        self.closed = True
        rest = self._line + self._decoder.decode(b"", final=True)
        if rest:
            self._tell(rest)

    @property
    def text(self) -> str:
        """The last `limit` bytes, after a line that says how much is missing."""
        if len(self._kept) > self._limit:
            self._cut()
        note = f"[... {self._dropped} bytes left out ...]\n" if self._dropped else ""
        return note + self._kept.decode("utf-8", "replace")

    def _cut(self) -> None:
        extra = len(self._kept) - self._limit
        # Not through the middle of a character.
        while extra < len(self._kept) and self._kept[extra] & 0xC0 == 0x80:
            extra += 1
        del self._kept[:extra]
        self._dropped += extra

    def _tell(self, line: str) -> None:
        self._ctx.tell(self._level, line.removesuffix("\r"))
