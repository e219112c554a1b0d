"""Looking into data and writing it as text: the same rules for operators, filters and tests.

Data are None, bool, int, float, str, lists and mappings. A key is an item and nothing else: no attribute and no
method of a Python object can be reached. Messages name types and keys, never values, which may be secret.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from jinja2 import StrictUndefined
from jinja2.runtime import Undefined

from taskengine.expressions.limits import MAX_TEXT, Meter, Refused

__all__ = ["Missing", "as_items", "compare", "getter", "kind", "lookup", "present", "to_text"]

_SHOWN_KEYS: Final = 8
_METHODS: Final = frozenset(name for of in (dict, list, str) for name in dir(of) if name[0] != "_")


class Missing(StrictUndefined):
    """What a name or key that is not there gives; only `default` and the test `defined` can take it."""

    __slots__ = ()

    @property
    def reason(self) -> str:
        return self._undefined_hint or f"there is no {self._undefined_name!r} here"


def kind(value: object) -> str:
    """What a user calls the type of `value`."""
    if value is None:
        return "null"
    for types, name in _KINDS:
        if isinstance(value, types):
            return name
    return type(value).__name__


_KINDS: Final[Sequence[tuple[type | tuple[type, ...], str]]] = (
    (bool, "a boolean"),
    ((int, float), "a number"),
    (str, "text"),
    (Mapping, "a mapping"),
    ((list, tuple), "a list"),
    (Undefined, "undefined"),
)


def present(value: object) -> object:
    """`value`, unless it is missing."""
    if isinstance(value, Missing):
        raise Refused(value.reason)
    return value


def lookup(value: object, key: object, path: str) -> object:
    """The item `key` of `value`, or a `Missing` that says what is there instead. `path` names `value`."""
    if type(value) is dict or isinstance(value, Mapping):  # the first spares the slow check nearly always
        if not isinstance(key, str):
            return Missing(f"{path!r} is a mapping, its keys are texts and not {kind(key)}")
        try:
            item: object = value[key]
        except KeyError:
            return Missing(f"{path!r} has no {key!r}{_offer(value, path)}")
        return item
    if isinstance(value, (list, tuple, str)) and isinstance(key, int) and not isinstance(key, bool):
        if -len(value) <= key < len(value):
            return value[key]
        return Missing(f"{path!r} has no item {key}, its length is {len(value)}")
    if isinstance(value, Missing):
        raise Refused(value.reason)
    return Missing(_no_such(value, key, path))


def _no_such(value: object, key: object, path: str) -> str:
    if not isinstance(key, str):
        return f"{path!r} is {kind(value)}, it takes no {kind(key)} in brackets"
    hint = "; filters are written `| name`" if key in _METHODS else ""
    return f"{path!r} is {kind(value)}, it has no {key!r}{hint}"


def _offer(value: Mapping[str, object], path: str) -> str:
    if path == "secrets":
        return ""  # which secrets exist is nobody's business
    keys = [str(key) for key in value]
    if not keys:
        return " (it is empty)"
    more = ", …" if len(keys) > _SHOWN_KEYS else ""
    return f" (it has: {', '.join(keys[:_SHOWN_KEYS])}{more})"


def getter(attribute: object) -> Callable[[object], object]:
    """Reads `attribute` off an item: a key, `a.b.0` for a path, or a number. Gives `Missing` if a part is not there."""
    if isinstance(attribute, bool) or not isinstance(attribute, (str, int)):
        raise Refused(f"an attribute is text or a number, not {kind(attribute)}")
    parts: list[str | int] = [attribute]
    if isinstance(attribute, str):
        parts = [int(part) if part.isascii() and part.isdigit() else part for part in attribute.split(".")]

    def get(item: object) -> object:
        for part in parts:
            key = str(part) if isinstance(item, Mapping) else part
            item = lookup(item, key, "item")
            if isinstance(item, Missing):
                break
        return item

    return get


def as_items(meter: Meter, value: object, what: str) -> list[object]:
    """What a filter goes through: the items of a list, the keys of a mapping, the characters of a text."""
    if isinstance(value, (list, tuple, str, Mapping)):
        meter.items(len(value))
        return list(value)
    raise Refused(f"{what} needs a list, not {kind(present(value))}")


def to_text(meter: Meter, value: object) -> str:
    """Text as it is, anything else as compact JSON: `true`, `null`, `1.5`, `["a"]`."""
    if isinstance(value, str):
        meter.text(len(value))
        return value
    if value is None or isinstance(value, (bool, int, float)):
        return _encode(value)
    if meter.weigh(present(value)) > MAX_TEXT:
        raise Refused(f"the text would have more than {MAX_TEXT:,} characters")
    return _encode(value)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise Refused(f"a {type(value).__name__} has no JSON form")


_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode


def compare(meter: Meter, operator: str, left: object, right: object) -> bool:
    """One comparison; `operator` is Jinja's name for it. Containers are weighed, since equality reads them."""
    if operator in ("in", "notin"):
        return _contains(meter, right, left) is (operator == "in")
    if isinstance(left, str) and isinstance(right, str):
        meter.spend(min(len(left), len(right)) // 16)
    elif isinstance(left, (list, Mapping)) and isinstance(right, (list, Mapping)):
        if len(left) != len(right) and operator in ("eq", "ne"):
            return operator == "ne"
        meter.weigh(left)
    try:
        return bool(_COMPARE[operator](left, right))
    except TypeError:
        raise Refused(f"{kind(left)} and {kind(right)} have no order") from None


_COMPARE: Final[Mapping[str, Callable[[object, object], object]]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,  # type: ignore[operator]
    "lteq": lambda a, b: a <= b,  # type: ignore[operator]
    "gt": lambda a, b: a > b,  # type: ignore[operator]
    "gteq": lambda a, b: a >= b,  # type: ignore[operator]
}


def _contains(meter: Meter, container: object, item: object) -> bool:
    if isinstance(container, str):
        if not isinstance(item, str):
            raise Refused(f"text contains text, not {kind(item)}")
        meter.spend(1 + len(container) // 16)
        return item in container
    if isinstance(container, Mapping):
        return isinstance(item, str) and item in container
    if isinstance(container, (list, tuple)):
        meter.spend(len(container))
        if isinstance(item, (list, Mapping, str)):
            meter.weigh(container)
        return item in container
    raise Refused(f"`in` needs a list, a mapping or text on its right, not {kind(container)}")
