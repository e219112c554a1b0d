"""Filters on one value: text, numbers, conversions, JSON.

Every filter has the shape `(meter, value, *arguments)`. Names and defaults are Jinja's unless the docs
(docs/expressions.md) say otherwise: `int` and `float` fail on what is no number when no default is given.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from taskengine.expressions.limits import MAX_INT_BITS, Meter, Refused
from taskengine.expressions.operators import number
from taskengine.expressions.values import Missing, kind, present, to_text

__all__ = ["SCALAR_FILTERS"]

_UNSET: Final = object()
_MAX_DIGITS: Final = 1_000
_MAX_PLACES: Final = 30


def default(meter: Meter, value: object, default_value: object = "", boolean: object = False) -> object:
    """The fallback when the value is missing; with `boolean` also when it is empty, false, zero or null."""
    return default_value if isinstance(value, Missing) or (boolean and not value) else value


def length(meter: Meter, value: object) -> int:
    if isinstance(value, (str, list, tuple, Mapping)):
        return len(value)
    raise Refused(f"'length' needs a list, a mapping or text, not {kind(present(value))}")


def string(meter: Meter, value: object) -> str:
    return to_text(meter, value)


def to_int(meter: Meter, value: object, default: object = _UNSET, base: object = 10) -> object:
    """A whole number; a fraction is cut off. Text may have spaces around, and a base from 2 to 36."""
    if isinstance(base, bool) or not isinstance(base, int) or not 2 <= base <= 36:
        raise Refused("the base of 'int' is a number from 2 to 36")
    try:
        if isinstance(value, str) and len(value) <= _MAX_DIGITS:
            return _int_of_text(value, base)
        if isinstance(value, (int, float)):
            return int(value)
    except (ValueError, OverflowError):
        pass
    return _fallback(value, default, "a whole number", "int")


def _int_of_text(value: str, base: int) -> int:
    try:
        return int(value, base)
    except ValueError:
        if base != 10:
            raise
        return int(float(value))  # '1.5' and '1e3', as in Jinja


def to_float(meter: Meter, value: object, default: object = _UNSET) -> object:
    try:
        if isinstance(value, (int, float)) or (isinstance(value, str) and len(value) <= _MAX_DIGITS):
            result = float(value)
            if math.isfinite(result):
                return result
    except (ValueError, OverflowError):
        pass
    return _fallback(value, default, "a number", "float")


def _fallback(value: object, default: object, wanted: str, name: str) -> object:
    if default is not _UNSET:
        return default
    raise Refused(f"{kind(present(value))} that is not {wanted}; `| {name}(0)` would give 0 then")


def to_bool(meter: Meter, value: object) -> bool:
    """True or false by the same rule that `when` uses."""
    return truthy(present(value))


def truthy(value: object) -> bool:
    """None, False, 0, empty, and the texts `false`, `no`, `0` and blank ones (any case) are false."""
    if isinstance(value, str):
        return value.strip().lower() not in ("", "false", "no", "0")
    return bool(value)


def absolute(meter: Meter, value: object) -> float:
    return abs(_number_for("abs", value))


def rounded(meter: Meter, value: object, precision: object = 0, method: object = "common") -> float:
    """Jinja's `round`: `common` rounds half to even on the binary value, `ceil` up, `floor` down; a float."""
    amount = _number_for("round", value)
    if isinstance(precision, bool) or not isinstance(precision, int) or abs(precision) > _MAX_PLACES:
        raise Refused(f"'round' takes a precision from -{_MAX_PLACES} to {_MAX_PLACES}")
    if method not in ("common", "ceil", "floor"):
        raise Refused("the method of 'round' is 'common', 'ceil' or 'floor'")
    if method == "common":
        return number(float(round(amount, precision)))
    cut = math.ceil if method == "ceil" else math.floor
    scale = 10.0**precision
    return number(cut(number(amount * scale)) / scale)


def _number_for(name: str, value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise Refused(f"{name!r} needs a number, not {kind(present(value))}")


def upper(meter: Meter, value: object) -> str:
    return _text_for(meter, value).upper()


def lower(meter: Meter, value: object) -> str:
    return _text_for(meter, value).lower()


def capitalize(meter: Meter, value: object) -> str:
    return _text_for(meter, value).capitalize()


def title(meter: Meter, value: object) -> str:
    return _text_for(meter, value).title()


def trim(meter: Meter, value: object, chars: object = None) -> str:
    """Without the white space, or the `chars`, at both ends."""
    if chars is not None and not isinstance(chars, str):
        raise Refused(f"'trim' takes text, not {kind(chars)}")
    return _text_for(meter, value).strip(chars)


def replace(meter: Meter, value: object, old: object, new: object, count: object = None) -> str:
    """Every `old` replaced by `new`; with `count` only the first ones."""
    text, before, after = (_text_for(meter, part) for part in (value, old, new))
    most = -1 if count is None else count
    if isinstance(most, bool) or not isinstance(most, int):
        raise Refused("the count of 'replace' is a whole number")
    times = text.count(before) if most < 0 else min(most, text.count(before))
    meter.text(len(text) + times * (len(after) - len(before)))
    return text.replace(before, after, most)


def split(meter: Meter, value: object, sep: object = None, maxsplit: object = -1) -> list[str]:
    """The pieces of a text between each `sep`; without one, between runs of white space."""
    text = _text_for(meter, value)
    if sep is not None and not (isinstance(sep, str) and sep):
        raise Refused("'split' takes a text that is not empty")
    if isinstance(maxsplit, bool) or not isinstance(maxsplit, int):
        raise Refused("the maxsplit of 'split' is a whole number")
    pieces = text.split(sep, maxsplit)
    meter.items(len(pieces))
    return pieces


def _text_for(meter: Meter, value: object) -> str:
    return to_text(meter, present(value))


def tojson(meter: Meter, value: object) -> str:
    """Compact JSON; unlike Jinja's, nothing is escaped for HTML."""
    if isinstance(value, str):
        meter.text(len(value))
        encoded = json.dumps(value, ensure_ascii=False)
        meter.text(len(encoded))
        return encoded
    return to_text(meter, value)


def fromjson(meter: Meter, value: object) -> object:
    """The value that a JSON text holds."""
    if not isinstance(value, str):
        raise Refused(f"'fromjson' needs text, not {kind(present(value))}")
    meter.text(len(value))
    try:
        result: object = json.loads(value, parse_constant=_no_constant, parse_int=_small_int)
    except ValueError as error:
        place = f" (at character {error.pos})" if isinstance(error, json.JSONDecodeError) else ""
        raise Refused(f"the text is not JSON{place}") from None
    meter.weigh(result)
    return result


def _no_constant(name: str) -> Any:
    raise Refused(f"JSON has no {name}")


def _small_int(digits: str) -> int:
    value = int(digits) if len(digits) <= _MAX_DIGITS + 1 else 1 << MAX_INT_BITS
    number(value)
    return value


SCALAR_FILTERS: Final[Mapping[str, Callable[..., object]]] = {
    "abs": absolute,
    "bool": to_bool,
    "capitalize": capitalize,
    "count": length,
    "d": default,
    "default": default,
    "float": to_float,
    "fromjson": fromjson,
    "int": to_int,
    "length": length,
    "lower": lower,
    "replace": replace,
    "round": rounded,
    "split": split,
    "string": string,
    "title": title,
    "tojson": tojson,
    "trim": trim,
    "upper": upper,
}
