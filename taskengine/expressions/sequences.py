"""Filters on lists and mappings. Each has the shape `(meter, value, *arguments)` and gives a list, never a generator.

Names and defaults are Jinja's: `sort`, `unique`, `min`, `max` and `groupby` see no difference between upper and
lower case unless told, `select` without a test keeps what is true.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any, Final

from taskengine.expressions.limits import Meter, Refused
from taskengine.expressions.operators import binary
from taskengine.expressions.predicates import MISSING_TESTS, TESTS
from taskengine.expressions.scalars import SCALAR_FILTERS, default
from taskengine.expressions.values import Missing, as_items, getter, kind, present, to_text

__all__ = ["FILTERS", "SOFT_FILTERS"]

_UNSET: Final = object()
Key = Callable[[object], object]


def first(meter: Meter, value: object) -> object:
    return _end(value, 0, "first")


def last(meter: Meter, value: object) -> object:
    return _end(value, -1, "last")


def _end(value: object, at: int, name: str) -> object:
    if not isinstance(value, (list, tuple, str)):
        raise Refused(f"{name!r} needs a list, not {kind(present(value))}")
    return value[at] if value else Missing(f"{name!r} of an empty list")


def to_list(meter: Meter, value: object) -> list[object]:
    return as_items(meter, value, "'list'")


def reverse(meter: Meter, value: object) -> object:
    if isinstance(value, str):
        meter.text(len(value))
        return value[::-1]
    return as_items(meter, value, "'reverse'")[::-1]


def join(meter: Meter, value: object, d: object = "", attribute: object = None) -> str:
    """The items as text with `d` between them."""
    items = _read(as_items(meter, value, "'join'"), attribute)
    between = to_text(meter, d)
    texts = [to_text(meter, present(item)) for item in items]
    meter.text(sum(map(len, texts)) + len(between) * max(0, len(texts) - 1))
    return between.join(texts)


def total(meter: Meter, value: object, attribute: object = None, start: object = 0) -> object:
    """The sum of numbers."""
    result = start
    for item in _read(as_items(meter, value, "'sum'"), attribute):
        if not isinstance(item, (int, float)):
            raise Refused(f"'sum' adds numbers, not {kind(present(item))}")
        result = binary(meter, "+", result, item)
    return result


def _read(items: list[object], attribute: object) -> list[object]:
    return items if attribute is None else list(map(getter(attribute), items))


def _keys(meter: Meter, items: list[object], attribute: object, case_sensitive: object) -> list[Any]:
    """What the items are ordered by. Weighed, since comparing reads them."""
    keys = [present(key) for key in _read(items, attribute)]
    meter.weigh(keys)  # before folding: a hundred thousand times the same text is a hundred thousand copies then
    return [_fold(key, case_sensitive) for key in keys]


def _fold(key: object, case_sensitive: object) -> object:
    return key.lower() if isinstance(key, str) and not case_sensitive else key


def _ordered(keys: list[Any], **options: Any) -> list[int]:
    try:
        return sorted(range(len(keys)), key=keys.__getitem__, **options)
    except TypeError:
        kinds = sorted({kind(key) for key in keys})
        raise Refused(f"{' and '.join(kinds)} have no order") from None


def sort(
    meter: Meter,
    value: object,
    reverse: object = False,
    case_sensitive: object = False,
    attribute: object = None,
) -> list[object]:
    items = as_items(meter, value, "'sort'")
    keys = _keys(meter, items, attribute, case_sensitive)
    return [items[at] for at in _ordered(keys, reverse=bool(reverse))]


def smallest(meter: Meter, value: object, case_sensitive: object = False, attribute: object = None) -> object:
    items = sort(meter, value, False, case_sensitive, attribute)
    return items[0] if items else Missing("'min' of an empty list")


def largest(meter: Meter, value: object, case_sensitive: object = False, attribute: object = None) -> object:
    items = sort(meter, value, True, case_sensitive, attribute)
    return items[0] if items else Missing("'max' of an empty list")


def unique(meter: Meter, value: object, case_sensitive: object = False, attribute: object = None) -> list[object]:
    """The first of each, in order."""
    items = as_items(meter, value, "'unique'")
    keys = _keys(meter, items, attribute, case_sensitive)
    seen: dict[object, object] = {}
    for key, item in zip(keys, items, strict=True):
        seen.setdefault(_hashable(key), item)
    return list(seen.values())


def _hashable(key: object) -> object:
    if isinstance(key, (list, Mapping)):
        return ("json", json.dumps(key, sort_keys=True, default=dict))
    return (isinstance(key, bool), key)


def grouped(
    meter: Meter, value: object, attribute: object, default: object = _UNSET, case_sensitive: object = False
) -> list[object]:
    """A mapping `{grouper, list}` for each value of the attribute, in the order of these values."""
    items = as_items(meter, value, "'groupby'")
    get = _or_default(getter(attribute), default)
    plain = [present(get(item)) for item in items]
    keys = _keys(meter, plain, None, case_sensitive)
    groups = groupby(_ordered(keys), key=keys.__getitem__)
    members = [list(group) for _, group in groups]
    return [{"grouper": plain[group[0]], "list": [items[at] for at in group]} for group in members]


def _or_default(get: Key, fallback: object) -> Key:
    if fallback is _UNSET:
        return get

    def read(item: object) -> object:
        found = get(item)
        return fallback if isinstance(found, Missing) else found

    return read


def mapped(meter: Meter, value: object, *args: object, **kwargs: object) -> list[object]:
    """`map('upper')` applies a filter to every item, `map(attribute='a.b', default=0)` reads from every item."""
    items = as_items(meter, value, "'map'")
    if args:
        name, *rest = args
        apply = FILTERS.get(name) if isinstance(name, str) else None
        if apply is None:
            raise Refused("'map' takes the name of a filter, or attribute='…'")
        return [present(apply(meter, item, *rest, **kwargs)) for item in items]
    if not kwargs.keys() <= {"attribute", "default"} or "attribute" not in kwargs:
        raise Refused("'map' takes the name of a filter, or attribute='…' and default=…")
    get = _or_default(getter(kwargs["attribute"]), kwargs.get("default", _UNSET))
    return [present(get(item)) for item in items]


def _chosen(meter: Meter, items: Iterable[object], get: Key | None, test: tuple[object, ...], keep: bool) -> Any:
    """The items for which the test (its name, then arguments), of the item or what `get` reads, is `keep`."""
    name, *rest = test or ("true-like",)
    check = _truth if not test else TESTS.get(name) if isinstance(name, str) else None
    if check is None:
        raise Refused("the test is the name of a test, such as 'defined' or 'gt'")
    soft = name in MISSING_TESTS
    result = []
    for item in items:
        seen = get(item) if get else item
        if check(meter, seen if soft else present(seen), *rest) is keep:
            result.append(item)
    return result


def _truth(meter: Meter, value: object) -> bool:
    return bool(value)


def select(meter: Meter, value: object, *test: object) -> object:
    return _chosen(meter, as_items(meter, value, "'select'"), None, test, True)


def reject(meter: Meter, value: object, *test: object) -> object:
    return _chosen(meter, as_items(meter, value, "'reject'"), None, test, False)


def selectattr(meter: Meter, value: object, attribute: object, *test: object) -> object:
    return _chosen(meter, as_items(meter, value, "'selectattr'"), getter(attribute), test, True)


def rejectattr(meter: Meter, value: object, attribute: object, *test: object) -> object:
    return _chosen(meter, as_items(meter, value, "'rejectattr'"), getter(attribute), test, False)


def batch(meter: Meter, value: object, linecount: object) -> list[object]:
    """Lists of `linecount` items each; the last may be shorter."""
    items = as_items(meter, value, "'batch'")
    if isinstance(linecount, bool) or not isinstance(linecount, int) or linecount < 1:
        raise Refused("'batch' takes a whole number from 1 on")
    return [items[at : at + linecount] for at in range(0, len(items), linecount)]


def _mapping(meter: Meter, value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise Refused(f"{name!r} needs a mapping, not {kind(present(value))}")
    meter.items(len(value))
    return value


def items_of(meter: Meter, value: object) -> list[object]:
    """`[[key, value], …]` in the mapping's order."""
    return [[key, item] for key, item in _mapping(meter, value, "items").items()]


def keys_of(meter: Meter, value: object) -> list[object]:
    return list(_mapping(meter, value, "keys"))


def values_of(meter: Meter, value: object) -> list[object]:
    return list(_mapping(meter, value, "values").values())


def dictsort(meter: Meter, value: object) -> list[object]:
    """`[[key, value], …]` in the order of the keys, upper and lower case alike."""
    mapping = _mapping(meter, value, "dictsort")
    meter.weigh(list(mapping))
    return [[key, mapping[key]] for key in sorted(mapping, key=str.lower)]


FILTERS: Final[Mapping[str, Callable[..., object]]] = {
    **SCALAR_FILTERS,
    "batch": batch,
    "dictsort": dictsort,
    "first": first,
    "groupby": grouped,
    "items": items_of,
    "join": join,
    "keys": keys_of,
    "last": last,
    "list": to_list,
    "map": mapped,
    "max": largest,
    "min": smallest,
    "reject": reject,
    "rejectattr": rejectattr,
    "reverse": reverse,
    "select": select,
    "selectattr": selectattr,
    "sort": sort,
    "sum": total,
    "unique": unique,
    "values": values_of,
}

SOFT_FILTERS: Final = frozenset(
    name for name, function in FILTERS.items() if function in (default, first, last, smallest, largest)
)
"""The filters whose result may be missing; `default` is also the one whose input may be."""
