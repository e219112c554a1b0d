"""A table in pages by its key: which rows come next, and how they are put in elsewhere. Pure.

Rows travel as the codec's values. Nothing here knows more of a database than its dialect.
"""

from collections.abc import Sequence
from typing import Any, Final

from taskengine.errors import StoreError
from taskengine.store import codec, columns
from taskengine.store.dialect import Dialect
from taskengine.store.reading import Look
from taskengine.store.tables import Table

__all__ = ["Key", "insertion", "key_of", "page", "without_nul"]

Key = tuple[Any, ...]
"""Values of a table's key columns."""

PAGE_ROWS: Final = 2_000
PAGE_BYTES: Final = 4 << 20
"""A page ends before the row that would exceed this; one row is always given."""

_SHORT_BYTES: Final = 100
"""What a column counts whose length is not asked for."""


def page(dialect: Dialect, table: Table, after: Key | None) -> Look[list[codec.Values]]:
    """The rows that come next, from behind a key; none: that was all.

    `(a, b) > (x, y)` would be one condition, but not every database finds it by its index; so what is left of an `a` is
    asked for first, and then what has another one. How long the rows are is asked before they are: a few thousand of
    them may be gigabytes.
    """
    rows: list[codec.Values] = []
    bytes_left = PAGE_BYTES
    for condition, values in _legs(dialect, table, after):
        lengths = yield _lengths(dialect, table, condition), [*values, PAGE_ROWS - len(rows)]
        fitting = 0
        for (length,) in lengths:
            bytes_left -= length
            if bytes_left < 0 and (rows or fitting):
                break
            fitting += 1
        if fitting:
            rows.extend((yield _rows(dialect, table, condition), [*values, fitting]))
        if fitting < len(lengths) or len(rows) == PAGE_ROWS:
            break
    return rows


def _legs(dialect: Dialect, table: Table, after: Key | None) -> list[tuple[str, Sequence[object]]]:
    """Conditions with their values; the rows of one stand behind those of the one before."""
    if after is None:
        return [("", ())]
    names = [dialect.quoted(name) for name in table.key]
    legs: list[tuple[str, Sequence[object]]] = []
    for same in reversed(range(len(names))):
        parts = [*(f"{name} = ?" for name in names[:same]), f"{names[same]} > ?"]
        legs.append((f"WHERE {' AND '.join(parts)}", after[: same + 1]))
    return legs


def _lengths(dialect: Dialect, table: Table, condition: str) -> str:
    wide = [f"coalesce({dialect.length.format(dialect.quoted(name))}, 0)" for name in table.wide]
    return _select(dialect, table, " + ".join([*wide, str(_SHORT_BYTES * len(table.columns))]), condition)


def _rows(dialect: Dialect, table: Table, condition: str) -> str:
    return _select(dialect, table, ", ".join(_places(dialect, table)), condition)


def _select(dialect: Dialect, table: Table, what: str, condition: str) -> str:
    order = ", ".join(dialect.quoted(name) for name in table.key)
    return dialect.marked(f"SELECT {what} FROM {table.name} {condition} ORDER BY {order} LIMIT ?")


def _places(dialect: Dialect, table: Table) -> list[str]:
    return [dialect.quoted(name) for name in table.places(dialect)]


def insertion(dialect: Dialect, table: Table) -> str:
    """A statement that puts in one row as `page` gives it."""
    places = _places(dialect, table)
    marks = ", ".join("?" * len(places))
    return dialect.marked(f"INSERT INTO {table.name} ({', '.join(places)}) VALUES ({marks})")


def key_of(table: Table, row: codec.Values) -> Key:
    return tuple(row[table.columns.index(name)] for name in table.key)


def without_nul(table: Table, rows: Sequence[codec.Values]) -> tuple[Sequence[codec.Values], int]:
    """The rows as a database has them whose texts cannot hold U+0000, and how many texts differ.

    In what people read U+FFFD takes its place, as in what such a store writes. Raises StoreError where it is in a name.
    """
    made, changed = list(rows), 0
    for at, row in enumerate(rows):
        found = [n for n, value in enumerate(row) if type(value) is str and "\0" in value]
        if not found:
            continue
        values = list(row)
        for n in found:
            if table.columns[n] in columns.IDENTITY:
                raise StoreError(
                    f"a row of {table.name} has the character U+0000 in its {table.columns[n]}, which the other "
                    f"database cannot hold: {values[n]!r}"
                )
            values[n] = values[n].replace("\0", "\ufffd")
        made[at], changed = tuple(values), changed + len(found)
    return made, changed
