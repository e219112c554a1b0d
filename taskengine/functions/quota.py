"""How much one attempt may say. What is beyond it is counted where it is said, and goes nowhere."""

from itertools import count
from typing import Final

__all__ = ["DEFAULT_LOG_CAP", "LogQuota"]

DEFAULT_LOG_CAP: Final = 10_000
"""Lines of one attempt."""

_CHARS_PER_LINE: Final = 1024
"""On average: a body that says little may say it in long lines, none fills the memory with them."""


class LogQuota:
    """Lines and characters of one attempt. Any thread; a few lines more or less where many threads speak at once."""

    __slots__ = ("_chars_left", "_lines", "_said", "cap")

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self._lines = count(1)
        self._said = 0
        self._chars_left = cap * _CHARS_PER_LINE

    def admit(self, size: int) -> bool:
        """Whether a line of `size` characters is kept."""
        number = next(self._lines)  # one step for the interpreter, so no lock
        if number > self.cap or self._chars_left < 0:
            return False
        self._said += 1
        self._chars_left -= size
        return True

    def note(self) -> str:
        """What to say at the end about lines that were not kept; "": all were. Call it once."""
        dropped = next(self._lines) - 1 - self._said
        if dropped <= 0:
            return ""
        return f"{dropped:,} further lines were not kept: an attempt may log {self.cap:,}, of 1 KiB on average"
