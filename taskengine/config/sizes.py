"""Numbers of bytes as people write them: `256KiB`, `1MiB`, `1500`."""

import re
from typing import Final

__all__ = ["format_size", "parse_size"]

_UNITS: Final = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_SHAPE: Final = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB)?")


def parse_size(text: str) -> int:
    """Bytes. Raises ValueError with a sentence for the user."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ValueError(f"`{text[:40]}` is no size; write it as 256KiB, 1MiB, or a number of bytes")
    return int(match[1]) * _UNITS[match[2] or "B"]


def format_size(size: int) -> str:
    """The shortest spelling that `parse_size` reads back exactly: `1MiB`, `1500B`, `0B`."""
    unit = next(unit for unit, count in _UNITS.items() if size % count == 0 and (size or unit == "B"))
    return f"{size // _UNITS[unit]}{unit}"
