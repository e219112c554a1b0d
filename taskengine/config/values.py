"""From the text of a setting to its value and back. Every fault is a ValueError with a sentence for the user."""

import ipaddress
import json
import math
import re
import types
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

from taskengine.config.keys import Key
from taskengine.config.sections import Size
from taskengine.config.sizes import format_size, parse_size
from taskengine.model.durations import format_duration, parse_duration
from taskengine.model.pools import Pool, parse_pool, twins
from taskengine.model.spelling import did_you_mean, quoted

__all__ = ["POOLS", "Raw", "parse", "pool_shapes", "shown", "split_list"]

POOLS: Final = tuple[Pool, ...]
"""The type of a setting that is a mapping in the file, and a list such as `io=50,api=5@50/s` elsewhere."""

Raw = str | tuple[str, ...] | None
"""A setting as it was written: a text, a list of texts, or nothing (`null`, `none`)."""

_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,15}")
_MODULE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_HOST: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[?[0-9A-Fa-f:.]+\]?")


def parse(key: Key, raw: Raw) -> Any:
    """The value of a setting."""
    kind, optional = _without_none(key.type)
    if raw is None or (isinstance(raw, str) and optional and raw.lower() in ("none", "null")):
        if not optional:
            raise ValueError(f"it has no value; leave the key out for its default, {shown(key, key.default)}")
        return None
    value: Any
    if kind == POOLS:
        value = _pools(raw)
    elif get_origin(kind) is tuple:
        value = _list(raw)
    elif isinstance(raw, tuple):
        raise ValueError("it is one value and not a list")
    else:
        value = _scalar(key, kind, raw)
    if key.name in _RULES:
        _RULES[key.name](value)
    return value


def shown(key: Key, value: Any) -> str:
    """A value as one would write it in the file."""
    kind, _ = _without_none(key.type)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        return format_duration(value // timedelta(microseconds=1))
    if kind is Size:
        return format_size(value)
    if kind == POOLS:
        return _flow(pool_shapes(value))
    if isinstance(value, tuple):
        return "[" + ", ".join(value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def split_list(text: str) -> tuple[str, ...]:
    """The items of a list in one text: JSON, or with commas between them."""
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except ValueError as error:
            raise ValueError(f"this begins like a JSON list and is none: {error}") from None
        if not all(isinstance(item, str) for item in items):
            raise ValueError('a list of texts, such as a,b or ["a", "b"]')
        return tuple(items)
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not types.NoneType]
        return kinds[0], True
    return hint, False


def _list(raw: str | tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(raw, str):
        raise ValueError(f"it is a list; write it as [{raw}]")
    return raw


def _pools(raw: str | tuple[str, ...]) -> tuple[Pool, ...]:
    if isinstance(raw, str):
        raise ValueError("it is a mapping of names, such as {io: 50, api: {slots: 5, rate: 50/s}}")
    pools = tuple(map(parse_pool, raw))
    if fault := twins(pools):
        raise ValueError(fault)
    return pools


def pool_shapes(pools: tuple[Pool, ...]) -> dict[str, Any]:
    """Pools as the file has them: names to slots, or to slots and a rate."""
    return {
        pool.name: pool.slots if pool.rate is None else {"slots": pool.slots, "rate": str(pool.rate)} for pool in pools
    }


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    return str(value)


def _scalar(key: Key, kind: Any, text: str) -> Any:
    if get_origin(kind) is Literal:
        return _one_of(key, get_args(kind), text)
    return _READERS[kind](text)


def _one_of(key: Key, choices: tuple[str, ...], text: str) -> str:
    if text in choices:
        return text
    listed = " or ".join(choices) if len(choices) <= 2 else ", ".join(choices)
    raise ValueError(f"{quoted(text)} is none of {listed}{did_you_mean(text, choices)}")


def _bool(text: str) -> bool:
    folded = text.lower()
    if folded not in _TRUE | _FALSE:
        raise ValueError(f"{quoted(text)} is neither true nor false")
    return folded in _TRUE


def _int(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{quoted(text)} is no whole number")
    return int(text)


def _float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{quoted(text)} is no number")
    return value


def _span(text: str) -> timedelta:
    return timedelta(microseconds=parse_duration(text))


def _text(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise ValueError("it is empty")
    return text


_READERS: Final[Mapping[Any, Callable[[str], Any]]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _text,
    timedelta: _span,
    Size: parse_size,
}


# -- what a value must be besides of its type --------------------------------------------------------------------


def _between(least: float, most: float, unit: str = "") -> Callable[[Any], None]:
    def check(value: float) -> None:
        if not least <= value <= most:
            raise ValueError(f"{value:,}{unit} is not between {least:,} and {most:,}{unit}")

    return check


def _span_between(least_s: float, most_s: float) -> Callable[[Any], None]:
    least, most = (format_duration(round(limit * 1_000_000)) for limit in (least_s, most_s))

    def check(value: timedelta | None) -> None:
        if value is not None and not least_s <= value.total_seconds() <= most_s:
            raise ValueError(f"it is not between {least} and {most}")

    return check


def _size_between(least: int, most: int) -> Callable[[Any], None]:
    def check(value: int) -> None:
        if not least <= value <= most:
            raise ValueError(f"{format_size(value)} is not between {format_size(least)} and {format_size(most)}")

    return check


def _each(check: Callable[[str], bool], what: str) -> Callable[[Any], None]:
    def check_all(items: tuple[str, ...]) -> None:
        for item in items:
            if not check(item):
                raise ValueError(f"{quoted(item)} is no {what}")

    return check_all


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _is_origin(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.path or parts.query)


def _listen_host(text: str) -> None:
    if not _HOST.fullmatch(text):
        raise ValueError(f"{quoted(text)} is no address to listen on, such as 127.0.0.1, ::1, 0.0.0.0 or a name")


_COUNT: Final = 1_000_000
_RULES: Final[Mapping[str, Callable[[Any], None]]] = {
    "server.host": _listen_host,
    "server.port": _between(0, 65_535),
    "server.read_timeout": _span_between(0.1, 3600),
    "server.write_timeout": _span_between(0.1, 3600),
    "server.behind_proxy": _each(_is_network, "address or network, such as 10.0.0.7 or 10.0.0.0/8"),
    "server.allowed_hosts": _each(lambda item: bool(_HOST.fullmatch(item)), "host name, such as tasks.example.com"),
    "server.allowed_origins": _each(_is_origin, "origin, such as https://ops.example.com"),
    "server.max_clients": _between(1, 100_000),
    "server.max_clients_per_token": _between(1, 100_000),
    "task-engine.storage.database.pool_size": _between(1, 64),
    "task-engine.execution.worker_concurrency": _between(1, 10_000),
    "task-engine.execution.process_workers": _between(1, 256),
    "task-engine.execution.default_task_timeout": _span_between(0.001, 365 * 86_400),
    "task-engine.execution.retry.count": _between(0, _COUNT),
    "task-engine.execution.max_recoveries": _between(0, _COUNT),
    "task-engine.execution.grace": _span_between(0, 3600),
    "task-engine.limits.definition": _size_between(1024, 16 * 1024 * 1024),
    "task-engine.limits.body": _size_between(1024, 64 * 1024 * 1024),
    "task-engine.limits.starts_per_second": _between(0.1, 1_000_000),
    "task-engine.limits.failed_logins": _between(1, _COUNT),
    "task-engine.limits.log_lines": _between(0, 100_000_000),
    "functions.modules": _each(lambda item: bool(_MODULE.fullmatch(item)), "module name, such as mycompany.jobs"),
}
