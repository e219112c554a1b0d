"""Plain scalars by the core schema of YAML 1.2: `on` and `no` are text, `012` is 12, dates stay text."""

import math
import re
from typing import Final

__all__ = ["looks_typed", "plain_scalar"]

_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_ENDLESS: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_MAX_DIGITS: Final = 1_000


def plain_scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar stands for. Raises ValueError for numbers that have no JSON form."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return _finite(text)
    if _ENDLESS.fullmatch(text):
        raise ValueError("NaN and infinities have no JSON form; put text in quotes")
    return text


def looks_typed(text: str) -> bool:
    """Whether `text` would not stay text if it were written without quotes."""
    return text in _WORDS or any(shape.fullmatch(text) for shape in (_INTEGER, _FLOAT, _ENDLESS))


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of more than {_MAX_DIGITS:,} digits; put text in quotes")
    if text.startswith(("0o", "0x")):
        return int(text, 0)
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number beyond what JSON programs can hold; put text in quotes")
    return number
