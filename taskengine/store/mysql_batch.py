"""A batch as statements for MySQL and MariaDB, with the values in their text. Pure.

Measured with MariaDB 10.11 on two shared cores, rows of 21 columns in batches of 30 and 300, µs a row, all (of which
the client's CPU). New rows: one INSERT of many rows 60 (9) and 37 (10), the same with the driver putting the values
in 120 (28) and 51 (19), JSON_TABLE 142 (21) and 97 (12). Changed rows: joined with a list of SELECTs 87 (16) and 50
(7), JSON_TABLE 108 (15) and 86 (9), a statement each 236 (102) and 263 (123).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from asyncmy.converters import escape_string

from taskengine.errors import BatchRefused
from taskengine.store import codec, columns
from taskengine.store.batch import Batch

__all__ = ["INSTANCE_GUARD", "TASK_GUARD", "Statement", "inserts", "same", "statements", "updates"]

INSTANCE_GUARD: Final = "t.id = x.id AND t.phase = x.at_phase AND t.hold = x.at_hold AND t.run = x.at_run"
TASK_GUARD: Final = (
    "t.instance_id = x.instance_id AND t.ordinal = x.ordinal AND t.state = x.at_state AND t.attempt = x.at_attempt"
)
"""Which row `t` of the table a row `x` of values means, and where it must be."""

_ROWS: Final = 200
"""Of one list of SELECTs: the server takes longer lists ever more slowly."""
_SINGLE: Final = 2
"""So many changed rows are better off with a statement each."""
_SLICE_BYTES: Final = 1 << 20
"""Of one INSERT, as long as no single row is longer."""


class Statement(msgspec.Struct, frozen=True, gc=False):
    """One statement of a batch, for the table that it writes. `wanted` rows must fit; None: any number may."""

    table: str
    sql: str
    wanted: int | None = None


def statements(batch: Batch) -> list[Statement]:
    """In their order, without the transaction around them; the first one is the row of the batch itself.

    Raises BatchRefused for a record that has no such form.
    """
    return [
        Statement(
            "batches",
            "INSERT INTO batches (epoch, lane, number) SELECT epoch, "
            f"{batch.lane}, {batch.number} FROM nodes WHERE id = 'local' AND epoch = {batch.epoch} LOCK IN SHARE MODE",
            1,
        ),
        *_seldom(batch),
        *_instances(batch),
        *_tasks(batch),
        *inserts("attempts", columns.ATTEMPT, codec.attempt_values, batch.attempts),
        *inserts("events", columns.EVENT, codec.event_values, ((row,) for row in batch.events)),
        *inserts("commands", columns.COMMAND, codec.command_values, batch.commands),
        Statement(
            "batches",
            f"DELETE FROM batches WHERE epoch = {batch.epoch} AND lane = {batch.lane} "
            f"AND number < {batch.acknowledged}",
        ),
    ]


def _seldom(batch: Batch) -> Iterator[Statement]:
    rows: Iterable[Sequence[Any]] = ((row,) for row in batch.definitions)
    yield from inserts("definitions", columns.DEFINITION, codec.definition_values, rows, "version = version")
    current = {row.workflow_id: row.version for row in batch.definitions}  # the last one counts
    rows = ((pair,) for pair in sorted(current.items()))
    yield from inserts("workflows", ("id", "version"), same, rows, _replaced("version"))
    if batch.removals:
        yield Statement("workflows", f"DELETE FROM workflows WHERE id IN ({', '.join(map(_literal, batch.removals))})")
    rows = ((row,) for row in batch.functions)
    yield from inserts("functions", columns.FUNCTION, codec.function_values, rows, _replaced(*columns.FUNCTION[1:]))
    rows = ((row,) for row in batch.logs)
    yield from inserts("logs", columns.LOG, codec.log_values, rows, "id = id")
    rows = ((row,) for row in batch.artifacts)
    yield from inserts("artifacts", columns.ARTIFACT, codec.artifact_values, rows, _replaced("digest", "size", "at_us"))
    rows = ((row,) for row in batch.tokens)
    yield from inserts("tokens", columns.TOKEN, codec.token_values, rows, _replaced(*columns.TOKEN[1:]))


def _instances(batch: Batch) -> Iterator[Statement]:
    fresh = ((it.row,) for it in batch.instances if it.expect is None)
    yield from inserts("instances", columns.INSTANCE, codec.instance_values, fresh)
    moved = [(it.row, it.expect) for it in batch.instances if it.expect is not None]
    yield from updates("instances", columns.INSTANCE_CHANGE, codec.instance_change_values, moved, INSTANCE_GUARD)


def _tasks(batch: Batch) -> Iterator[Statement]:
    fresh = ((owner, it.row) for owner, it in batch.tasks if it.expect is None)
    yield from inserts("tasks", columns.TASK, codec.task_values, fresh)
    moved = [(owner, it.row, it.expect) for owner, it in batch.tasks if it.expect is not None]
    yield from updates("tasks", columns.TASK_CHANGE, codec.task_change_values, moved, TASK_GUARD)


def inserts(
    table: str,
    names: Sequence[str],
    values: Callable[..., codec.Values],
    rows: Iterable[Sequence[Any]],
    known: str = "",
) -> Iterator[Statement]:
    """`known`: what happens to a row whose key is there; nothing: it is refused."""
    made = _made(table, values, rows)
    if not made:
        return
    head = f"INSERT INTO {table} ({_names(names)}) VALUES "
    tail = f" ON DUPLICATE KEY UPDATE {known}" if known else ""
    for part in _sliced([f"({', '.join(row)})" for row in made]):
        yield Statement(table, f"{head}{', '.join(part)}{tail}")


def updates(
    table: str, names: Sequence[str], values: Callable[..., codec.Values], rows: Sequence[Sequence[Any]], where: str
) -> Iterator[Statement]:
    """`where` says which row `t` of the table each row `x` of values means."""
    made = _made(table, values, rows)
    if len(made) <= _SINGLE:
        for row in made:
            yield Statement(table, _one_update(table, dict(zip(names, row, strict=True)), where), 1)
        return
    sets = ", ".join(f't."{name}" = {_new_value(name, names)}' for name in _moving(names))
    for at in range(0, len(made), _ROWS):
        first, *others = made[at : at + _ROWS]
        named = ", ".join(f'{value} AS "{name}"' for value, name in zip(first, names, strict=True))
        lines = " UNION ALL ".join([f"SELECT {named}", *(f"SELECT {', '.join(row)}" for row in others)])
        sql = f"UPDATE ({lines}) AS x STRAIGHT_JOIN {table} AS t ON {where} SET {sets}"
        yield Statement(table, sql, 1 + len(others))


def _moving(names: Sequence[str]) -> list[str]:
    """The columns that change: what stands before the key, without the flags of result and error."""
    end = names.index("id") if "id" in names else names.index("instance_id")
    return [name for name in names[:end] if not name.startswith("new_")]


def _new_value(name: str, names: Sequence[str]) -> str:
    return f"IF(x.new_{name} = 1, x.{name}, t.{name})" if f"new_{name}" in names else f'x."{name}"'


def _one_update(table: str, row: Mapping[str, str], where: str) -> str:
    """The same for one row: a list, however short, is a table that the server makes for it."""
    kept = {name for name in ("result", "error") if row.get(f"new_{name}") == "0"}
    sets = ", ".join(f'"{name}" = {row[name]}' for name in _moving(tuple(row)) if name not in kept)
    found = _ITS.sub(lambda match: row[match[1]], where)
    return f"UPDATE {table} AS t SET {sets} WHERE {found}"


_ITS: Final = re.compile(r"\bx\.(\w+)")


def _made(table: str, values: Callable[..., codec.Values], rows: Iterable[Sequence[Any]]) -> list[list[str]]:
    try:
        return [[_literal(value) for value in values(*row)] for row in rows]
    except Exception as exc:  # making values is pure: whatever it raises is the record's fault
        raise BatchRefused(table, "unfit", str(exc)) from exc


def _literal(value: object) -> str:
    """As the driver would write it, with its own escaping; a text must be UTF-8."""
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    assert isinstance(value, str), "the codec makes texts, whole numbers and nothing else"
    if not value.isascii():
        value.encode()  # raises for half a surrogate pair
    escaped: str = escape_string(value)
    return f"'{escaped}'"


def same(values: codec.Values) -> codec.Values:
    """Of rows that are values already."""
    return values


def _names(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _replaced(*names: str) -> str:
    return ", ".join(f"{name} = VALUES({name})" for name in names)


def _sliced(texts: Sequence[str]) -> Iterator[list[str]]:
    """Lists of at most so many bytes, or of one text."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and size + len(text) * 2 > _SLICE_BYTES:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text) * 2  # a guess between one and four bytes a character
    if part:
        yield part
