"""Spans of time as people write them: `500ms`, `60s`, `1h30m`, `2d`, or a bare number of seconds."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Final

from taskengine.clock import Micros

__all__ = ["DURATION_PATTERN", "MAX_DURATION_US", "format_duration", "parse_duration"]

_UNITS: Final = {
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
}
_NUMBER: Final = r"[0-9]{1,18}(?:\.[0-9]{1,18})?"
_SHAPE: Final = re.compile("".join(rf"(?:({_NUMBER}){unit})?" for unit in _UNITS))
_BARE: Final = re.compile(_NUMBER)
DURATION_PATTERN: Final = rf"^(?:{_NUMBER}|(?=.){_SHAPE.pattern})$"
"""What a duration looks like as text, for programs that check text before they send it."""
_EXAMPLES: Final = "write it as 500ms, 60s, 1h30m, 2d, or a number of seconds"

MAX_DURATION_US: Final = 100 * 365 * 86_400_000_000
"""A hundred years. A longer span is a slip, and this one still adds up to a valid date."""


def parse_duration(value: object) -> Micros:
    """A span from text, a number of seconds, or a timedelta; zero is one, a negative one is not.

    Units come in descending order, each once; each may have a fraction (`1.5h`). Rounded to the nearest microsecond.
    Raises ValueError with a sentence for the user.
    """
    if isinstance(value, timedelta):
        return _checked(value // timedelta(microseconds=1), str(value))
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a {type(value).__name__} is no duration; {_EXAMPLES}")
    if value != value:
        raise ValueError(f"`nan` is no duration; {_EXAMPLES}")
    if abs(value) > MAX_DURATION_US:
        raise ValueError("a duration is longer than a hundred years")
    return _checked(round(value * 1_000_000), f"{value:g}")


def _from_text(text: str) -> Micros:
    shown = text if len(text) <= 40 else text[:39] + "…"
    if _BARE.fullmatch(text):
        return _checked(round(Decimal(text) * 1_000_000), shown)
    match = _SHAPE.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"`{shown}` is no duration; {_EXAMPLES}")
    parts = zip(match.groups(), _UNITS.values(), strict=True)
    return _checked(round(sum(Decimal(number) * unit for number, unit in parts if number)), shown)


def _checked(span_us: int, shown: str) -> Micros:
    if span_us < 0:
        raise ValueError(f"`{shown}` is less than nothing; {_EXAMPLES}")
    if span_us > MAX_DURATION_US:
        raise ValueError(f"`{shown}` is longer than a hundred years")
    return Micros(span_us)


def format_duration(span_us: int) -> str:
    """The one spelling of a span, which `parse_duration` reads back exactly: `1h30m`, `1s500ms`, `0s`."""
    sign, rest, parts = ("-" if span_us < 0 else ""), abs(span_us), []
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        if unit == "ms" and rest:
            parts.append(f"{Decimal(count) + Decimal(rest) / 1000:f}{unit}")
        elif count:
            parts.append(f"{count}{unit}")
    return sign + "".join(parts) if parts else "0s"
