"""The arithmetic of expressions. Everything that could make a value much larger than its operands is bounded."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from taskengine.expressions.limits import MAX_INT_BITS, Meter, Refused
from taskengine.expressions.values import compare, kind, to_text

__all__ = ["binary", "chain", "concat", "make_range", "number", "slice_of", "unary"]

_ARITHMETIC: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
_HINTS: Final = {
    "+": "; `~` joins anything to a text",
    "%": "; `~` and `| replace` build texts, there is no formatting",
}


def binary(meter: Meter, sign: str, left: Any, right: Any) -> object:
    """`left sign right` for numbers; `+` joins two texts or two lists, `*` repeats a text or a list."""
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return _arithmetic(sign, left, right)
    if sign == "+" and isinstance(left, str) and isinstance(right, str):
        meter.text(len(left) + len(right))
        return left + right
    if sign == "+" and isinstance(left, list) and isinstance(right, list):
        meter.items(len(left) + len(right))
        return left + right
    if sign == "*":
        return _repeat(meter, left, right)
    raise Refused(f"`{sign}` does not take {kind(left)} and {kind(right)}{_HINTS.get(sign, '')}")


def _arithmetic(sign: str, left: Any, right: Any) -> float:
    whole = isinstance(left, int) and isinstance(right, int)
    if sign == "**" and whole and right > 0 and left.bit_length() * right > MAX_INT_BITS:
        raise Refused("the power is too large")
    try:
        return number(_ARITHMETIC[sign](left, right))
    except ZeroDivisionError:
        raise Refused("division by zero") from None
    except OverflowError:
        raise Refused("the number is too large") from None


def number(value: object) -> float:
    """`value` if it is a number that JSON can carry and that has at most about 1,000 digits."""
    if isinstance(value, int) and value.bit_length() <= MAX_INT_BITS:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, complex):
        raise Refused("a negative number has no such power")
    raise Refused("the number is too large")


def _repeat(meter: Meter, left: Any, right: Any) -> object:
    if isinstance(left, int):
        left, right = right, left
    if not isinstance(right, int) or not isinstance(left, (str, list)):
        raise Refused(f"`*` does not take {kind(left)} and {kind(right)}")
    length = len(left) * max(right, 0)
    if isinstance(left, str):
        meter.text(length)
    else:
        meter.items(length)
    return left * right


def unary(sign: str, value: Any) -> object:
    if not isinstance(value, (int, float)):
        raise Refused(f"`{sign}` does not take {kind(value)}")
    return -value if sign == "-" else +value


def concat(meter: Meter, parts: Sequence[object]) -> str:
    """`a ~ b`: the parts as text, one after another."""
    texts = [to_text(meter, part) for part in parts]
    meter.text(sum(map(len, texts)))
    return "".join(texts)


def chain(meter: Meter, values: Sequence[object], operators: str) -> bool:
    """`a < b <= c`: true if each neighbouring pair compares so. `operators` are Jinja's names, by spaces."""
    signs = operators.split(" ")
    return all(compare(meter, sign, values[at], values[at + 1]) for at, sign in enumerate(signs))


def make_range(meter: Meter, arguments: Sequence[object]) -> list[int]:
    """`range(stop)`, `range(start, stop)` or `range(start, stop, step)`, as a list."""
    bounds = [bound for bound in arguments if isinstance(bound, int) and not isinstance(bound, bool)]
    if len(bounds) != len(arguments):
        raise Refused("`range` takes whole numbers")
    if len(bounds) == 3 and bounds[2] == 0:
        raise Refused("the step of `range` is zero")
    numbers = range(*bounds)
    try:
        meter.items(len(numbers))
    except OverflowError:
        raise Refused("`range` is too long") from None
    return list(numbers)


def slice_of(meter: Meter, value: object, start: Any, stop: Any, step: Any) -> object:
    """`value[start:stop:step]` of a list or a text."""
    if not isinstance(value, (list, tuple, str)):
        raise Refused(f"only lists and texts can be sliced, not {kind(value)}")
    for bound in (start, stop, step):
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int)):
            raise Refused(f"a slice takes whole numbers, not {kind(bound)}")
    if step == 0:
        raise Refused("the step of a slice is zero")
    part = value[slice(start, stop, step)]
    if isinstance(part, str):
        meter.text(len(part))
        return part
    meter.items(len(part))
    return list(part)
