"""Spans of time as people write them: `500ms`, `60s`, `1h30m`, `2d`, or a bare number of seconds."""

import math
import re
from datetime import timedelta
from typing import Final

from taskengine.clock import Micros, seconds

__all__ = ["span_of"]

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")
_LONGEST_S: Final = 100 * 365.25 * 86400.0


def span_of(value: float | str | timedelta) -> Micros:
    """The span as microseconds. Raises ValueError with a text for people; negative, endless and over 100 years too."""
    span_s = value.total_seconds() if isinstance(value, timedelta) else _seconds_of(value)
    if not math.isfinite(span_s) or not 0 <= span_s <= _LONGEST_S:
        raise ValueError(f"{value!r} is no span of time between 0 and 100 years")
    return seconds(span_s)


def _seconds_of(value: float | str) -> float:
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no span of time")
    if isinstance(value, int | float):
        return float(value)
    text = value.strip().lower()
    try:
        return float(text)
    except ValueError:
        return _sum_of_parts(text, value)


def _sum_of_parts(text: str, original: str) -> float:
    total_s, at = 0.0, 0
    while part := _PART.match(text, at):
        total_s += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if at == 0 or at < len(text):
        raise ValueError(f"{original!r} is no span of time; write 500ms, 60s, 1h30m, 2d or a number of seconds")
    return total_s
