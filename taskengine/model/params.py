"""The declared inputs of a workflow: is a declaration sound, does a value fit, and what an instance gets."""

import functools
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from taskengine.errors import InvalidParams, Problem
from taskengine.model.definition import PARAM_TYPES, ParamSpec
from taskengine.model.shape import Path, json_shape, kind_of, path_text
from taskengine.model.spelling import did_you_mean, quoted

__all__ = ["MAX_PATTERN", "bind_params", "parse_assignments", "spec_faults", "type_of", "value_faults"]

MAX_PATTERN: Final = 1_000

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
}
_WORDS: Final[Mapping[str, str]] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}


def bind_params(specs: Mapping[str, ParamSpec], given: Mapping[str, Any]) -> dict[str, Any]:
    """What an instance gets: the given values, checked, and the defaults of what was not given; in declared order.

    A workflow that declares nothing takes any JSON-shaped value under any name. A declared parameter that is neither
    given nor has a default is left out. The result shares no container with `given`.
    Raises InvalidParams with every problem; their paths start with `params`.
    """
    problems: list[Problem] = []

    def report(path: Path, message: str) -> None:
        problems.append(Problem(message=message, path=path_text(path)))

    plain = json_shape(given, report, ("params",))
    bound = _bound(specs, plain or {}, report) if specs else plain
    if problems:
        raise InvalidParams(problems)
    return dict(bound)


def _bound(specs: Mapping[str, ParamSpec], given: Mapping[str, Any], report: Any) -> dict[str, Any]:
    for name in given:
        if name not in specs:
            report(("params", name), f"there is no parameter {quoted(name)}{did_you_mean(name, specs)}")
    bound: dict[str, Any] = {}
    for name, spec in specs.items():
        if name in given:
            for fault in value_faults(spec, given[name]):
                report(("params", name), fault)
            bound[name] = given[name]
        elif spec.default is not msgspec.UNSET:
            bound[name] = spec.default
        elif spec.required:
            report(("params", name), f"the parameter {quoted(name)} is required")
    return bound


def parse_assignments(specs: Mapping[str, ParamSpec], texts: Sequence[str]) -> dict[str, Any]:
    """`["k=v", ...]` from a command line as values for `bind_params`.

    A value is read by its declared type. Where none is declared it is JSON if it reads as a number, true, false, null,
    a list or an object, else text. Raises InvalidParams with every text that cannot be read.
    """
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, written = text.partition("=")
        try:
            if not equals or not name:
                raise ValueError(f"expected name=value, got {quoted(text)}")
            if name in values:
                raise ValueError(f"the parameter {quoted(name)} is given twice")
            values[name] = _read(specs[name].type if name in specs else "any", written)
        except ValueError as error:
            problems.append(Problem(message=str(error), path=path_text(("params", name))))
    if problems:
        raise InvalidParams(problems)
    return values


def _read(kind: str, written: str) -> Any:
    if kind == "string":
        return written
    value = _from_json(written)
    if kind == "any":
        return written if value is msgspec.UNSET or isinstance(value, str) else value
    if not _is_a(kind, value):
        raise ValueError(f"expected {_WORDS[kind]}, got {quoted(written)}")
    return value


def _from_json(written: str) -> Any:
    """UNSET for what is not JSON, or has numbers that are none."""
    try:
        value = msgspec.json.decode(written)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return msgspec.UNSET
    return msgspec.UNSET if isinstance(value, float) and not math.isfinite(value) else value


def type_of(value: Any) -> str:
    """The declared type that a bare value stands for; "any" for null."""
    for kind, types in _TYPES.items():
        if isinstance(value, types) and (kind == "boolean" or not isinstance(value, bool)):
            return kind
    return "any"


def _is_a(kind: str, value: Any) -> bool:
    return kind == "any" or (isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool)))


def value_faults(spec: ParamSpec, value: Any) -> Iterator[str]:
    """Everything that keeps a JSON-shaped value from being this parameter. `spec` itself is sound."""
    if not _is_a(spec.type, value):
        yield f"expected {_WORDS[spec.type]}, got {kind_of(value)}"
        return
    if spec.enum and not any(_same(value, allowed) for allowed in spec.enum):
        yield f"expected one of {', '.join(_shown(allowed) for allowed in spec.enum)}; got {_shown(value)}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if spec.minimum is not None and value < spec.minimum:
            yield f"{_shown(value)} is less than the minimum {spec.minimum:g}"
        if spec.maximum is not None and value > spec.maximum:
            yield f"{_shown(value)} is more than the maximum {spec.maximum:g}"
    if spec.pattern and isinstance(value, str) and not _compiled(spec.pattern).search(value):
        yield f"{quoted(value)} does not match the pattern {quoted(spec.pattern)}"


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _shown(value: Any) -> str:
    return quoted(msgspec.json.encode(value).decode() if not isinstance(value, str) else value)


def spec_faults(spec: ParamSpec) -> Iterator[tuple[str, str]]:
    """What contradicts itself in a declaration: the key at fault and why. Types of the fields are right already."""
    own = list(_own_faults(spec))
    yield from own
    if own:
        return
    bare = msgspec.structs.replace(spec, enum=())
    for allowed in spec.enum:
        for fault in value_faults(bare, allowed):
            yield "enum", fault
    if spec.default is not msgspec.UNSET:
        for fault in value_faults(spec, spec.default):
            yield "default", fault


def _own_faults(spec: ParamSpec) -> Iterator[tuple[str, str]]:
    if spec.type not in PARAM_TYPES:
        listing = ", ".join(f"`{kind}`" for kind in PARAM_TYPES)
        advice = did_you_mean(spec.type, PARAM_TYPES) or f"; there are {listing}"
        yield "type", f"unknown type {quoted(spec.type)}{advice}"
    if spec.required and spec.default is not msgspec.UNSET:
        yield "required", "a required parameter is always given, so its default would never be used"
    for key, bound in (("minimum", spec.minimum), ("maximum", spec.maximum)):
        if bound is not None and spec.type in ("string", "boolean", "array", "object"):
            yield key, f"a {key} is for numbers, this parameter has the type `{spec.type}`"
    if spec.minimum is not None and spec.maximum is not None and spec.minimum > spec.maximum:
        yield "maximum", f"the maximum {spec.maximum:g} is less than the minimum {spec.minimum:g}"
    if spec.pattern:
        yield from (("pattern", fault) for fault in _pattern_faults(spec))


def _pattern_faults(spec: ParamSpec) -> Iterator[str]:
    if spec.type in PARAM_TYPES and spec.type not in ("any", "string"):
        yield f"a pattern is for text, this parameter has the type `{spec.type}`"
    if len(spec.pattern) > MAX_PATTERN:
        yield f"a pattern of {len(spec.pattern):,} characters, the limit is {MAX_PATTERN:,}"
        return
    try:
        _compiled(spec.pattern)
    except (re.error, RecursionError, OverflowError) as error:
        yield f"the pattern is no regular expression: {error}"


_DOLLAR: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\$", re.DOTALL)


@functools.lru_cache(256)
def _compiled(pattern: str) -> re.Pattern[str]:
    """`$` means the end, as in JSON Schema; Python's would also let a line end through behind `^[0-9]+$`."""
    strict = pattern if "(?" in pattern else _DOLLAR.sub(lambda m: r"\Z" if m[0] == "$" else m[0], pattern)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # `[[` may mean a set in a later Python
        return re.compile(strict)
