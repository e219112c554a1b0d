"""Values as they stand in a statement for MySQL or MariaDB. Pure.

A text between double quotes is written alike in JSON and in their SQL, but for the control characters that JSON writes
with a number; so a row costs one call of the encoder, a tenth of escaping value by value. It needs a session whose
character set is utf8mb4 and whose sql_mode has neither ANSI_QUOTES nor NO_BACKSLASH_ESCAPES; mysql_link.py makes it so.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

__all__ = ["filled", "literal", "row"]

_ENCODE: Final = msgspec.json.Encoder().encode
_ESCAPE: Final = re.compile(rb"\\(?:u00([0-9a-f]{2})|.)")


def literal(value: object) -> bytes:
    """Of a text, a whole number or None; of a list of such, what may follow IN.

    Raises ValueError for half a surrogate pair.
    """
    if isinstance(value, list | tuple):
        return row(value) if value else b"(NULL)"  # nothing is equal to it
    return _said(_ENCODE(value))


def row(values: Sequence[object]) -> bytes:
    """In parentheses, with commas."""
    return b"(" + _said(_ENCODE(values))[1:-1] + b")"


def filled(sql: str, values: Sequence[object]) -> str:
    """A marked query (see dialect.py) with its values."""
    return sql % tuple([literal(value).decode() for value in values])


def _said(json: bytes) -> bytes:
    if b"\\u" in json or b"\\f" in json:
        return _ESCAPE.sub(_one, json)
    return json


def _one(match: re.Match[bytes]) -> bytes:
    """One escape of JSON's. From left to right, so that a backslash which is itself escaped begins nothing."""
    number = match[1]
    if number is not None:
        return b"\\0" if number == b"00" else bytes((int(number, 16),))
    return b"\f" if match[0] == b"\\f" else match[0]
