"""Converters of single values: from what was written to what the model holds.

A converter takes the value, its path and where to report. It gives UNSET when it has reported a fault, and the
field then keeps its default, so that reading goes on.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from taskengine.clock import Micros
from taskengine.definition.findings import Finding, Findings
from taskengine.definition.later import LATER_VALUES, not_yet
from taskengine.model.durations import parse_duration
from taskengine.model.names import composed
from taskengine.model.shape import MAX_DEPTH, Path, json_shape, kind_of
from taskengine.model.spelling import did_you_mean, quoted

__all__ = [
    "MAX_VALUE_DEPTH",
    "Choice",
    "Convert",
    "Table",
    "defaults_of",
    "duration",
    "fields",
    "flag",
    "json_mapping",
    "json_value",
    "make",
    "name",
    "names",
    "number",
    "text",
    "text_mapping",
    "texts",
    "whole",
]

MAX_VALUE_DEPTH: Final = MAX_DEPTH - 4
"""Levels inside one parameter. It stands four levels deep in the file, and what is built must be readable as one."""

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
E = TypeVar("E", bound=StrEnum)
Convert = Callable[[Any, Path, Findings], T | UnsetType]
Table = Mapping[str, tuple[str, Convert[Any]]]
"""Key in the file -> field of the struct, and its converter."""


def fields(table: Table, later: frozenset[str], value: Any, path: Path, findings: Findings) -> dict[str, Any]:
    """The fields that a mapping sets. Unknown keys are reported with the nearest known one."""
    made: dict[str, Any] = {}
    if not isinstance(value, dict):
        findings.report(path, _expected("a mapping", value))
        return made
    for key, inner in value.items():
        entry = table.get(key)
        if entry is None:
            findings.add(Finding((*path, key), _unknown(key, table, later, findings), on_key=True))
            continue
        field, convert = entry
        result = convert(inner, (*path, key), findings)
        if result is not UNSET:
            made[field] = result
    return made


def make(struct: type[S], made: Mapping[str, Any]) -> S:
    """A struct from its fields. What equals a default becomes that very object.

    msgspec leaves defaults out of the canonical form by identity, and a float that was read is never the default's.
    """
    defaults = defaults_of(struct)
    return struct(**{field: value for field, value in made.items() if value != defaults[field]})


@lru_cache(16)
def defaults_of(struct: type[msgspec.Struct]) -> Mapping[str, Any]:
    """Fields and what they are without being set; containers are made once and must only be compared."""
    return {
        field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for field in msgspec.structs.fields(struct)
    }


def _unknown(key: str, table: Table, later: frozenset[str], findings: Findings) -> str:
    if key in later:
        return not_yet(quoted(key))
    return f"unknown key {quoted(key)}{findings.suggest(key, (*table, *sorted(later)))}"


def _expected(what: str, value: Any) -> str:
    return f"expected {what}, got {kind_of(value)}"


def text(value: Any, path: Path, findings: Findings) -> str | UnsetType:
    if isinstance(value, str):
        return value
    advice = "; put it in quotes" if isinstance(value, int | float) else ""
    findings.report(path, _expected("text", value) + advice)
    return UNSET


def name(value: Any, path: Path, findings: Findings) -> str | UnsetType:
    """Text in Unicode's normal form C. Whether it is a legal name is judged later, with the rest."""
    found = text(value, path, findings)
    return found if isinstance(found, UnsetType) else composed(found)


def _list_of(one: Convert[str], value: Any, path: Path, findings: Findings) -> tuple[str, ...] | UnsetType:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        findings.report(path, _expected("a list", value))
        return UNSET
    made = [one(item, (*path, at), findings) for at, item in enumerate(value)]
    return UNSET if UNSET in made else tuple(item for item in made if isinstance(item, str))


def texts(value: Any, path: Path, findings: Findings) -> tuple[str, ...] | UnsetType:
    """A list of texts; a single text stands for a list of one."""
    return _list_of(text, value, path, findings)


def names(value: Any, path: Path, findings: Findings) -> tuple[str, ...] | UnsetType:
    """As `texts`, in Unicode's normal form C."""
    return _list_of(name, value, path, findings)


def text_mapping(value: Any, path: Path, findings: Findings) -> dict[str, str] | UnsetType:
    if not isinstance(value, dict):
        findings.report(path, _expected("a mapping", value))
        return UNSET
    made = {key: text(inner, (*path, key), findings) for key, inner in value.items()}
    return {key: inner for key, inner in made.items() if isinstance(inner, str)}


def json_value(value: Any, path: Path, findings: Findings) -> Any:
    return json_shape(value, findings.report, path, MAX_VALUE_DEPTH)


def json_mapping(value: Any, path: Path, findings: Findings) -> dict[str, Any] | UnsetType:
    if not isinstance(value, dict):
        findings.report(path, _expected("a mapping", value))
        return UNSET
    made: dict[str, Any] = json_shape(value, findings.report, path, MAX_VALUE_DEPTH + 1)
    return made


def flag(value: Any, path: Path, findings: Findings) -> bool | UnsetType:
    if isinstance(value, bool):
        return value
    findings.report(path, _expected("true or false", value))
    return UNSET


def whole(value: Any, path: Path, findings: Findings) -> int | UnsetType:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    findings.report(path, _expected("a whole number", value))
    return UNSET


def number(value: Any, path: Path, findings: Findings) -> float | UnsetType:
    """A finite float. Raises nothing for whole numbers beyond a float's range, it reports them."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            made = json_shape(float(value), findings.report, path)
        except OverflowError:
            findings.report(path, "a number beyond what a float can hold")
            return UNSET
        return UNSET if made is None else float(made)
    findings.report(path, _expected("a number", value))
    return UNSET


def duration(value: Any, path: Path, findings: Findings) -> Micros | UnsetType:
    try:
        return parse_duration(value)
    except ValueError as error:
        findings.report(path, str(error))
        return UNSET


class Choice(Generic[E]):
    """A converter for one of the words of an enum; the empty word stands for "not given" and cannot be written."""

    def __init__(self, key: str, options: type[E]) -> None:
        self._key = key
        self.words: Mapping[str, E] = {member.value: member for member in options if member.value}
        self._later = LATER_VALUES.get(key, frozenset())

    def __call__(self, value: Any, path: Path, findings: Findings) -> E | UnsetType:
        if isinstance(value, str) and value in self.words:
            return self.words[value]
        findings.report(path, _no_option(self._key, value, tuple(self.words), self._later))
        return UNSET


def _no_option(key: str, value: Any, words: tuple[str, ...], later: frozenset[str]) -> str:
    listing = ", ".join(f"`{word}`" for word in words)
    if not isinstance(value, str):
        return _expected(f"one of {listing}", value)
    if value in later:
        return not_yet(f"`{key}: {value}`")
    return f"unknown {key} {quoted(value)}{did_you_mean(value, words) or f'; there are {listing}'}"
