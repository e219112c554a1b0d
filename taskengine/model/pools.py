"""Pools: names under which tasks of all instances share a number of slots, and perhaps a rate of starts.

A pool is written `api=5@50/s`: its name, its slots, and how many attempts may start in a second, a minute or an hour.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from taskengine.model.names import composed, fold, name_fault
from taskengine.model.spelling import did_you_mean, quoted

__all__ = [
    "MAX_POOLS",
    "MAX_PRIORITY",
    "Pool",
    "Rate",
    "make_pool",
    "no_pool",
    "parse_pool",
    "parse_rate",
    "parse_slots",
    "twins",
]

MAX_POOLS: Final = 1_000
MAX_PRIORITY: Final = 1_000
"""Priorities of tasks are whole numbers from minus this to this."""

_MAX_SLOTS: Final = 10_000
_MAX_RATE: Final = 1_000_000
_UNITS_S: Final[Mapping[str, float]] = {"s": 1.0, "m": 60.0, "h": 3600.0}
_RATE: Final = re.compile(r"([0-9]{1,9})\s*/\s*([smh])")
_SLOTS: Final = re.compile(r"[+-]?[0-9]{1,9}")


class Rate(msgspec.Struct, frozen=True):
    """So many starts in a second (`s`), a minute (`m`) or an hour (`h`)."""

    count: int
    unit: str

    @property
    def interval_s(self) -> float:
        """Seconds from one start to the next, when they come evenly."""
        return _UNITS_S[self.unit] / self.count

    def __str__(self) -> str:
        return f"{self.count}/{self.unit}"


class Pool(msgspec.Struct, frozen=True):
    """What bounds the attempts of its tasks.

    slots  attempts that run at once, over all instances of the process
    rate   how often an attempt may start; None: as often as there is a slot
    """

    name: str
    slots: int
    rate: Rate | None = None

    def __str__(self) -> str:
        """As it is written: `parse_pool` reads it back."""
        return f"{self.name}={self.slots}" + ("" if self.rate is None else f"@{self.rate}")


def parse_rate(text: str) -> Rate:
    """A rate such as `50/s`. Raises ValueError with a sentence for the user."""
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{quoted(text)} is no rate; write it as 50/s, 600/m or 1000/h")
    count = int(match[1])
    if not 1 <= count <= _MAX_RATE:
        raise ValueError(f"a rate of {count:,}/{match[2]}; 1..{_MAX_RATE:,} are possible")
    return Rate(count, match[2])


def parse_slots(text: str) -> int:
    """A number of slots. Raises ValueError with a sentence for the user."""
    if not _SLOTS.fullmatch(text.strip()):
        raise ValueError(f"{quoted(text)} is no number of slots")
    return int(text)


def make_pool(name: str, slots: int, rate: Rate | None = None) -> Pool:
    """A pool that can be. Raises ValueError with a sentence for the user."""
    name = composed(name)
    if fault := name_fault(name):
        raise ValueError(f"the name of the pool{f' {quoted(name)}' if name else ''} {fault}")
    if not 1 <= slots <= _MAX_SLOTS:
        raise ValueError(f"{slots:,} slots for the pool {quoted(name)}; 1..{_MAX_SLOTS:,} are possible")
    return Pool(name, slots, rate)


def parse_pool(text: str) -> Pool:
    """A pool such as `io=50` or `api=5@50/s`. Raises ValueError with a sentence for the user."""
    name, equals, rest = text.partition("=")
    slots, at, rate = rest.partition("@")
    if not equals:
        raise ValueError(f"{quoted(text)} is no pool; write it as NAME=SLOTS or NAME=SLOTS@RATE, such as api=5@50/s")
    return make_pool(name.strip(), parse_slots(slots), parse_rate(rate) if at else None)


def twins(pools: Sequence[Pool]) -> str:
    """A sentence about two pools of one name, whatever its case, or about too many pools; empty: all is well."""
    seen: dict[str, str] = {}
    for pool in pools:
        key = fold(pool.name)
        if key in seen:
            return f"the pools {quoted(seen[key])} and {quoted(pool.name)} have the same name"
        seen[key] = pool.name
    return f"{len(pools):,} pools; at most {MAX_POOLS:,} are possible" if len(pools) > MAX_POOLS else ""


def no_pool(name: str, known: Collection[str], hint: str | None = None) -> str:
    """A sentence about a task's pool that is not there: the nearest one, and where it would be declared.

    hint  of somebody who counts his suggestions, instead of the nearest of `known`
    """
    near = did_you_mean(name, known) if hint is None else hint
    how = f"`task-engine.execution.pools: {{{name}: 5}}`, or `--pool {name}=5` of `taskengine run`"
    return f"unknown pool {quoted(name)}{f'{near} If not,' if near else ';'} declare it in the configuration: {how}"
