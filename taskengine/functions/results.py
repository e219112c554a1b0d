"""A body's result as JSON: encoded once, checked at the same moment, so that a bad result never fails a commit.

The check for NaN leans on msgspec: its JSON writes a NaN or an infinity as null, so bytes without a `null` are
clean. Otherwise the value is written as MessagePack, where such a number keeps its bits and can be looked for.
Only what is suspicious after that is walked in Python, which also finds the path for the message.
"""

import dataclasses
import math
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec

from taskengine.errors import BadResult

__all__ = ["MAX_DEPTH", "MAX_RESULT", "encode_result"]

MAX_RESULT: Final = 64 * 1024 * 1024
"""Hard limit in bytes of JSON."""

MAX_DEPTH: Final = 100
"""Lists and mappings inside each other. Far below where a decoder gives up, whatever called it."""

_NOT_FINITE: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
_TEXTS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_BRACES: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


class _NoJsonForm(TypeError):
    """Neither msgspec nor we know the type."""


def encode_result(value: object, *, nan: str = "error", limit: int = MAX_RESULT) -> bytes:
    """`value` as UTF-8 JSON.

    nan     `error` refuses NaN and infinities, `null` writes them as null
    Raises  BadResult with the path to what cannot be kept; what a value's own methods raise goes through
    """
    if value is None:
        return b"null"
    try:
        data = _JSON.encode(value)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise BadResult(_explain(value, error)) from error
    if len(data) > limit:
        raise BadResult(f"the result is {len(data):,} bytes of JSON, the limit is {limit:,} bytes")
    if len(data) > 2 * MAX_DEPTH and _too_deep(data):
        raise BadResult(f"the result is nested deeper than {MAX_DEPTH} levels")
    if nan != "null" and b"null" in data:
        _refuse_not_finite(value)
    return data


def _plain(value: object) -> object:
    """What msgspec does not know by itself."""
    if isinstance(value, str | int | float):  # subclasses, numpy's among them
        return _scalar(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, AbstractSet | deque):
        return list(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, type):
        raise _NoJsonForm
    return _by_duck(value)


def _scalar(value: str | int | float) -> object:
    if isinstance(value, str):
        return str.__str__(value)
    return int(value) if isinstance(value, int) else float(value)


def _by_duck(value: object) -> object:
    """pydantic models; numpy arrays and scalars, pandas series; pandas frames as a list of rows."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    listed = getattr(value, "tolist", None)
    if callable(listed):
        return listed()
    rows = getattr(value, "to_dict", None)
    if callable(rows):
        return rows(orient="records")
    raise _NoJsonForm


_JSON: Final = msgspec.json.Encoder(enc_hook=_plain)
_PACK: Final = msgspec.msgpack.Encoder(enc_hook=_plain)


def _too_deep(data: bytes) -> bool:
    brackets = data.translate(_BRACES, _NO_BRACKETS)
    if brackets.count(b"[") <= MAX_DEPTH or _folds(brackets):
        return False
    # Brackets inside texts may have been in the way: once more without texts.
    return not _folds(_TEXTS.sub(b"", data).translate(_BRACES, _NO_BRACKETS))


def _folds(brackets: bytes) -> bool:
    """Whether taking away every innermost pair, MAX_DEPTH times, leaves nothing."""
    for _ in range(MAX_DEPTH):
        if not brackets:
            return True
        brackets = brackets.replace(b"[]", b"")
    return not brackets


def _refuse_not_finite(value: object) -> None:
    try:
        suspicious = _NOT_FINITE.search(_PACK.encode(value)) is not None
    except (TypeError, ValueError, OverflowError):  # integers beyond 64 bits have no MessagePack
        suspicious = True
    if not suspicious:
        return
    for path, leaf in _leaves(value, "result"):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise BadResult(f"{path} is {float(leaf)}, which JSON cannot hold; @job(nan='null') turns it into null")


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Every value that holds no others, with its path, e.g. `result.rows[3].close`. Not for endless nesting."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{path}{_step(key)}")
    elif isinstance(value, list | tuple | deque | AbstractSet):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    elif (fields := _fields(value)) is not None:
        for name in fields:
            yield from _leaves(getattr(value, name, None), f"{path}.{name}")
    else:
        yield from _opened(value, path)


def _opened(value: object, path: str) -> Iterator[tuple[str, object]]:
    """A leaf, or what the duck methods make of it."""
    if type(value).__module__ == "builtins" or isinstance(value, str | int | float):
        yield path, value
        return
    try:
        inner = _plain(value)
    except _NoJsonForm:
        yield path, value
        return
    yield from _leaves(inner, path)


def _step(key: object) -> str:
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"


def _fields(value: object) -> list[str] | None:
    if isinstance(value, type):
        return None
    if isinstance(value, msgspec.Struct):
        return list(value.__struct_fields__)
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    return None


def _explain(value: object, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"the result is nested deeper than {MAX_DEPTH} levels, or holds itself"
    try:
        found = _culprit(value, "result", error)
    except RecursionError:
        found = None
    return found or f"the result cannot be written as JSON: {error}"


def _culprit(value: object, path: str, error: Exception) -> str | None:
    """What msgspec stumbled over, said with its path."""
    for where, key in _keys(value, path):
        if not isinstance(key, str | int | float) or isinstance(key, bool):
            try:
                _JSON.encode({key: None})
            except Exception:
                return f"{where} has the key {key!r} ({type(key).__name__}); keys are texts or numbers"
    for where, leaf in _leaves(value, path):
        try:
            _JSON.encode(leaf)
        except UnicodeEncodeError as bad:
            return f"{where} is a text that UTF-8 cannot hold: {bad.reason}"
        except Exception as bad:
            return f"{where} is of type {_kind(leaf)}, which has no JSON form{_advice(leaf, bad)}"
    return None


def _keys(value: object, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield path, key
            yield from _keys(item, f"{path}{_step(key)}")
    elif isinstance(value, list | tuple | deque):
        for index, item in enumerate(value):
            yield from _keys(item, f"{path}[{index}]")


def _kind(leaf: object) -> str:
    kind = type(leaf)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _advice(leaf: object, error: Exception) -> str:
    if isinstance(leaf, Iterator):
        return "; return a list"
    return "" if isinstance(error, _NoJsonForm) else f": {error}"
