"""JSON-shaped values: what params and results are made of, and paths into them.

A value is None, a bool, an int, a finite float, a str, a list of values, or a dict from str to values.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

__all__ = ["MAX_DEPTH", "Path", "Report", "json_shape", "kind_of", "path_text", "text_fault"]

MAX_DEPTH: Final = 32

Path = tuple[str | int, ...]
"""Keys and positions that lead to a value."""

Report = Callable[[Path, str], None]
"""Takes one fault: where, and what is wrong."""

_KINDS: Final[Mapping[type, str]] = {
    type(None): "nothing",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
}


def kind_of(value: object) -> str:
    """What a value is, in words for its author: "text", "a list"."""
    return _KINDS.get(type(value)) or f"a {type(value).__name__}"


def path_text(path: Path) -> str:
    """`tasks[2].params['a b']`"""
    text = ""
    for part in path:
        if isinstance(part, str) and part.isidentifier():
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


def text_fault(text: str) -> str:
    """Why a text cannot be stored, or ""."""
    if text.isascii():
        return ""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"half a surrogate pair (U+{ord(text[error.start]):04X}) has no UTF-8 form"
    return ""


def json_shape(value: Any, report: Report, path: Path = (), depth: int = MAX_DEPTH) -> Any:
    """The same value from plain types only, in new containers. Everything that has no such form is reported.

    Dates, UUIDs, Decimals, bytes, dataclasses and structs become what msgspec makes of them. Deeper nesting than
    `depth`, NaN and infinities are faults. What was reported stands as None in the result.
    """
    if type(value) is str:
        return _text(value, report, path)
    if value is None or type(value) in (bool, int):
        return value
    if isinstance(value, float):
        return _number(value, report, path)
    if isinstance(value, Mapping | list | tuple):
        return _container(value, report, path, depth)
    return _other(value, report, path, depth)


def _text(value: str, report: Report, path: Path) -> str | None:
    fault = text_fault(value)
    if not fault:
        return value
    report(path, fault)
    return None


def _number(value: float, report: Report, path: Path) -> float | None:
    if math.isfinite(value):
        return float(value)
    report(path, "NaN and infinities have no JSON form")
    return None


def _container(value: Mapping[Any, Any] | list[Any] | tuple[Any, ...], report: Report, path: Path, depth: int) -> Any:
    if depth == 0:
        return report(path, "nested too deeply")
    if not isinstance(value, Mapping):
        return [json_shape(item, report, (*path, at), depth - 1) for at, item in enumerate(value)]
    made = {}
    for key, item in value.items():
        if not isinstance(key, str) or text_fault(key):
            report(path, f"the keys of a mapping are text, got {kind_of(key)}")
        else:
            made[str(key)] = json_shape(item, report, (*path, key), depth - 1)
    return made


def _other(value: Any, report: Report, path: Path, depth: int) -> Any:
    try:
        made = msgspec.to_builtins(value, order="deterministic")  # a set has no order of its own
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return report(path, f"{kind_of(value)} has no JSON form")
    if type(made) not in _KINDS or type(made) is tuple:
        return report(path, f"{kind_of(value)} has no JSON form")
    return json_shape(made, report, path, depth)
