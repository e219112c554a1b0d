"""What one expression may cost, and the meter that counts it while the expression is evaluated.

The figures are for text that arrives over HTTP: an expression within them ends in well under a second, and
takes no more than a few tens of megabytes, whatever it says.
"""

from collections.abc import Mapping
from typing import Final

__all__ = [
    "MAX_BRACKETS",
    "MAX_DEPTH",
    "MAX_EXPRESSIONS",
    "MAX_INT_BITS",
    "MAX_ITEMS",
    "MAX_SOURCE",
    "MAX_STEPS",
    "MAX_TEXT",
    "Meter",
    "Refused",
]

MAX_SOURCE: Final = 8_192
"""Characters of one expression."""
MAX_EXPRESSIONS: Final = 1_000
"""Expressions in one text."""
MAX_BRACKETS: Final = 20
"""Brackets open at the same time. Jinja's parser takes some fourteen Python frames for each."""
MAX_DEPTH: Final = 50
"""Height of the expression's tree. Python's own compiler stops at 200 nested brackets of generated code."""
MAX_TEXT: Final = 1_048_576
"""Characters of a text that an expression makes, and of a whole computed value when written as JSON."""
MAX_ITEMS: Final = 100_000
"""Items that one filter goes through, or of a list that an expression makes."""
MAX_STEPS: Final = 1_000_000
"""Steps of one evaluation: an item looked at or made is one, and so are sixteen characters of text."""
MAX_INT_BITS: Final = 3_400
"""Bits of a whole number that an expression makes: a little over 1,000 digits."""


class Refused(Exception):
    """The evaluation cannot go on; the text is for the user. Never leaves this package."""


class Meter:
    """Counts the steps of one evaluation. Not shared, not thread-safe."""

    __slots__ = ("left",)

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise Refused(f"too much work: more than {MAX_STEPS:,} steps in one evaluation")

    def text(self, length: int) -> None:
        """Account for a text of `length` characters before it is made."""
        if length > MAX_TEXT:
            raise Refused(f"the text would have {length:,} characters, the limit is {MAX_TEXT:,}")
        self.spend(1 + length // 16)

    def items(self, count: int) -> None:
        """Account for going through, or making, a list of `count` items."""
        if count > MAX_ITEMS:
            raise Refused(f"{count:,} items, the limit is {MAX_ITEMS:,}")
        self.spend(count)

    def weigh(self, value: object) -> int:
        """Characters that `value` takes as JSON, roughly; counts every part of it as steps.

        Data can hold one large text a hundred thousand times at the price of a pointer each, so this comes
        before anything that reads all of a container: comparing, sorting, writing it as text.
        """
        total, waiting = 0, [value]
        while waiting:
            part = waiting.pop()
            size = _own_size(part)
            self.spend(1 + size // 16)
            total += size
            if isinstance(part, Mapping):
                waiting.extend(part.values())
            elif isinstance(part, (list, tuple)):
                waiting.extend(part)
        return total

    def result(self, value: object) -> None:
        """Refuse a computed value that is too large as JSON or has no JSON form."""
        if isinstance(value, (list, Mapping)) and self.weigh(value) > MAX_TEXT:
            raise Refused(f"the value is larger than {MAX_TEXT:,} characters of JSON")


def _own_size(part: object) -> int:
    """Characters of `part` as JSON without what it contains, but with its keys."""
    if isinstance(part, str):
        return len(part) + 2
    if isinstance(part, Mapping):
        return 2 + sum(_key_size(key) for key in part)
    if isinstance(part, (list, tuple)):
        return 2 + len(part)
    if isinstance(part, int):
        return 1 + part.bit_length() // 3
    if part is None or isinstance(part, float):
        return 5
    raise Refused(f"a {type(part).__name__} has no JSON form")


def _key_size(key: object) -> int:
    if not isinstance(key, str):
        raise Refused("the keys of a mapping are texts")
    return len(key) + 4
