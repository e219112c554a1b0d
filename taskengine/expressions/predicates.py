"""Tests: `value is odd`, `rows | select('gt', 3)`. Each has the shape `(meter, value, *arguments)`."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from taskengine.expressions.limits import Meter, Refused
from taskengine.expressions.values import Missing, compare, kind, present

__all__ = ["MISSING_TESTS", "TESTS"]


def _integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Refused(f"the test needs a whole number, not {kind(present(value))}")


def _divisible(meter: Meter, value: object, num: object) -> bool:
    if _integer(num) == 0:
        raise Refused("division by zero")
    return _integer(value) % _integer(num) == 0


def _comparison(operator: str) -> Callable[[Meter, object, object], bool]:
    def test(meter: Meter, value: object, other: object) -> bool:
        return compare(meter, operator, present(value), present(other))

    return test


def _is(check: Callable[[Any], bool]) -> Callable[[Meter, object], bool]:
    def test(meter: Meter, value: object) -> bool:
        return check(present(value))

    return test


MISSING_TESTS: Final = frozenset({"defined", "undefined"})
"""The tests that take a value that is not there."""

_EQ, _NE = _comparison("eq"), _comparison("ne")
_LT, _LE = _comparison("lt"), _comparison("lteq")
_GT, _GE = _comparison("gt"), _comparison("gteq")

TESTS: Final[Mapping[str, Callable[..., bool]]] = {
    "defined": lambda meter, value: not isinstance(value, Missing),
    "undefined": lambda meter, value: isinstance(value, Missing),
    "none": _is(lambda v: v is None),
    "boolean": _is(lambda v: isinstance(v, bool)),
    "true": _is(lambda v: v is True),
    "false": _is(lambda v: v is False),
    "integer": _is(lambda v: isinstance(v, int) and not isinstance(v, bool)),
    "float": _is(lambda v: isinstance(v, float)),
    "number": _is(lambda v: isinstance(v, (int, float)) and not isinstance(v, bool)),
    "string": _is(lambda v: isinstance(v, str)),
    "mapping": _is(lambda v: isinstance(v, Mapping)),
    "sequence": _is(lambda v: isinstance(v, (list, tuple, str, Mapping))),
    "iterable": _is(lambda v: isinstance(v, (list, tuple, str, Mapping))),
    "odd": _is(lambda v: _integer(v) % 2 == 1),
    "even": _is(lambda v: _integer(v) % 2 == 0),
    "divisibleby": _divisible,
    "lower": _is(lambda v: isinstance(v, str) and v.islower()),
    "upper": _is(lambda v: isinstance(v, str) and v.isupper()),
    "in": _comparison("in"),
    "eq": _EQ,
    "equalto": _EQ,
    "==": _EQ,
    "ne": _NE,
    "!=": _NE,
    "lt": _LT,
    "lessthan": _LT,
    "<": _LT,
    "le": _LE,
    "<=": _LE,
    "gt": _GT,
    "greaterthan": _GT,
    ">": _GT,
    "ge": _GE,
    ">=": _GE,
}
