"""Secrets that are known by their value do not appear in what tasks log."""

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

__all__ = ["SECRET_PREFIX", "Mask", "secret_values"]

SECRET_PREFIX: Final = "TASKENGINE_SECRET_"
"""Environment variables whose values are secret."""

_SHORTEST: Final = 4
_SHOWN: Final = "***"


class Mask:
    """Replaces known values by `***`, the longest first. Values of fewer than 4 characters are left: they are words.

    Of a value of several lines each line is known, too, since it is said line by line.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        known = {form for value in values for line in (value, *value.splitlines()) for form in _forms(line.strip())}
        ordered = sorted((form for form in known if len(form) >= _SHORTEST), key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def apply(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(_SHOWN, text)


def secret_values(environ: Mapping[str, str], dsn: str = "") -> list[str]:
    """What must not be shown: the values of TASKENGINE_SECRET_* and the password of the database's address."""
    values = [value for name, value in environ.items() if name.startswith(SECRET_PREFIX)]
    try:
        password = urlsplit(dsn).password
    except ValueError:  # no address at all
        password = None
    if password:
        values += [password, unquote(password)]
    return values


def _forms(value: str) -> tuple[str, str]:
    """As it is, and inside of JSON."""
    return value, msgspec.json.encode(value).decode()[1:-1]
