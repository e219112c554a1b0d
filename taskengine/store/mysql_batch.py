"""A batch as statements for MySQL and MariaDB, and these as packets. Pure.

A packet is several statements, sent and answered together; the first that fails ends it. So a batch is one way there
and back, unless it is larger than the server takes at once.

Measured on two shared cores with MariaDB 10.11 and rows of 21 columns, in batches of 3, 300 and 3,000: the client's CPU
a row in µs, and behind it the time a row at 3,000.

    new rows      this way, many VALUES          75    3.8   1.3     22
                  executemany                   121     20   9.6     31
                  one JSON list, JSON_TABLE      74    2.8   0.7     21
    changed rows  this way, a list of SELECTs    94    5.3     3     60
                  one JSON list, JSON_TABLE     101    3.6   1.2     77
                  a temporary table             147    5.8   2.2     67
                  a statement each              135     71    65    172
                  executemany                   220    119   113    239

JSON would save the client two microseconds a row, which the server then takes; and it is where the two servers differ.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, Literal

import msgspec

from taskengine.errors import BatchRefused
from taskengine.store import codec, columns
from taskengine.store.batch import Batch
from taskengine.store.mysql_text import literal, row

__all__ = ["CHANGES", "Statement", "framed", "insert", "packets", "statements", "update"]

What = Literal["frame", "own", "rows", "check"]


class Statement(msgspec.Struct, frozen=True, gc=False):
    """what   frame: begins, ends or tidies up; own: inserts the batch's own row; rows: of the table; check: fails if
    the update before it has not found all its rows
    """

    what: What
    table: str
    text: bytes


_PART_BYTES: Final = 1 << 20
_LIST_ROWS: Final = 300
"""Changed rows in one statement: more save nothing, and fewer cost, twice as much at 10."""
_SINGLE_ROWS: Final = 2
"""So few are better off with a statement each: a list, however short, is a table that the server makes."""

_STAYS: Final = " ON DUPLICATE KEY UPDATE {0} = {0}"  # not INSERT IGNORE, which also passes over what does not fit


class _Change(msgspec.Struct, frozen=True):
    """How rows of a table are changed: the columns of the values, those of them that are set, the condition that says
    which row `t` of the table a row `x` of values means."""

    table: str
    names: tuple[str, ...]
    moving: tuple[str, ...]
    fits: tuple[tuple[str, str], ...]


_INSTANCES: Final = _Change(
    "instances",
    columns.INSTANCE_CHANGE,
    columns.INSTANCE_CHANGE[:-4],
    (("id", "id"), ("phase", "at_phase"), ("hold", "at_hold"), ("run", "at_run")),
)
_TASKS: Final = _Change(
    "tasks",
    columns.TASK_CHANGE,
    tuple(name for name in columns.TASK_CHANGE[:-4] if not name.startswith("new_")),
    (("instance_id", "instance_id"), ("ordinal", "ordinal"), ("state", "at_state"), ("attempt", "at_attempt")),
)


CHANGES: Final = {"instances": _INSTANCES, "tasks": _TASKS}


def statements(batch: Batch, more: Iterable[Statement] = ()) -> Iterator[Statement]:
    """In order, from the beginning of the transaction to its end; `more` come behind the rows of the batch.

    Raises BatchRefused for a record that has no such form.
    """
    return framed(batch, chain(_rows(batch), more))


def framed(batch: Batch, rows: Iterable[Statement]) -> Iterator[Statement]:
    """These statements as the batch, whatever its own rows are."""
    yield Statement("frame", "", b"START TRANSACTION")
    yield _own_row(batch)
    yield from rows
    forget = (
        f"DELETE FROM batches WHERE epoch = {batch.epoch} AND lane = {batch.lane} AND number < {batch.acknowledged}"
    )
    yield Statement("frame", "", forget.encode())
    yield Statement("frame", "", b"COMMIT")


def _rows(batch: Batch) -> Iterator[Statement]:
    if batch.definitions or batch.removals or batch.functions or batch.logs or batch.tokens or batch.artifacts:
        yield from _seldom(batch)
    fresh = [(it.row,) for it in batch.instances if it.expect is None]
    moved = [(it.row, it.expect) for it in batch.instances if it.expect is not None]
    yield from insert("instances", columns.INSTANCE, codec.instance_values, fresh)
    yield from update(_INSTANCES, codec.instance_change_values, moved)
    tasks = [(owner, it.row) for owner, it in batch.tasks if it.expect is None]
    steps = [(owner, it.row, it.expect) for owner, it in batch.tasks if it.expect is not None]
    yield from insert("tasks", columns.TASK, codec.task_values, tasks)
    yield from update(_TASKS, codec.task_change_values, steps)
    yield from insert("attempts", columns.ATTEMPT, codec.attempt_values, batch.attempts)
    yield from insert("events", columns.EVENT, codec.event_values, [(event,) for event in batch.events])
    yield from insert("commands", columns.COMMAND, codec.command_values, batch.commands)
    if batch.instance_removals:
        yield from _removals(batch)


def _removals(batch: Batch) -> Iterator[Statement]:
    """By the run in which they must have ended: the first, for almost all."""
    by_run: dict[int, list[str]] = {}
    for removal in batch.instance_removals:
        by_run.setdefault(removal.run, []).append(removal.instance_id)
    for run, names in by_run.items():
        fits = _made("instances", partial(_are_in, names, run))
        yield Statement("rows", "instances", b"DELETE FROM instances WHERE phase = 'end' AND " + fits)
        yield _check("instances", len(names))
    yield from insert("removed", ("instance_id",), _pair, [(it.instance_id,) for it in batch.instance_removals])


def _are_in(instance_ids: Sequence[str], run: int) -> bytes:
    return b"id IN %b AND run = %b" % (literal(instance_ids), literal(run))


def _own_row(batch: Batch) -> Statement:
    """Without a node row of this epoch the number is NULL, which the column refuses."""
    epoch = f"SELECT epoch FROM nodes WHERE id = 'local' AND epoch = {batch.epoch} LOCK IN SHARE MODE"
    text = f"INSERT INTO batches (epoch, lane, number) VALUES (({epoch}), {batch.lane}, {batch.number})"
    return Statement("own", "batches", text.encode())


def _seldom(batch: Batch) -> Iterator[Statement]:
    """What few batches have."""
    definitions = [(it,) for it in batch.definitions]
    current = sorted({it.workflow_id: it.version for it in batch.definitions}.items())  # the last one counts
    stay = _STAYS.format("version").encode()
    yield from insert("definitions", columns.DEFINITION, codec.definition_values, definitions, stay)
    yield from insert("workflows", ("id", "version"), _pair, current, _replaced(("version",)))
    if batch.removals:
        ids = _made("workflows", lambda: literal(list(batch.removals)))
        yield Statement("rows", "workflows", b"DELETE FROM workflows WHERE id IN " + ids)
    functions = [(it,) for it in batch.functions]
    yield from insert("functions", columns.FUNCTION, codec.function_values, functions, _replaced(columns.FUNCTION[1:]))
    logs = [(it,) for it in batch.logs]
    yield from insert("logs", columns.LOG, codec.log_values, logs, _STAYS.format("id").encode())
    artifacts = [(it,) for it in batch.artifacts]
    replace = _replaced(("digest", "size", "at_us"))
    yield from insert("artifacts", columns.ARTIFACT, codec.artifact_values, artifacts, replace)
    tokens = [(it,) for it in batch.tokens]
    yield from insert("tokens", columns.TOKEN, codec.token_values, tokens, _replaced(columns.TOKEN[1:]))


def _named(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _replaced(names: Iterable[str]) -> bytes:
    """A row whose key is there takes these values over. VALUES() is the one form that both servers know."""
    return f" ON DUPLICATE KEY UPDATE {', '.join(f'{name} = VALUES({name})' for name in names)}".encode()


def _pair(*values: str) -> codec.Values:
    return values


def _made(table: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as exc:  # making values is pure: whatever it raises is the record's fault
        raise BatchRefused(table, "unfit", str(exc)) from exc


def insert(
    table: str,
    names: Sequence[str],
    values: Callable[..., codec.Values],
    rows: Sequence[Sequence[Any]],
    otherwise: bytes = b"",
) -> Iterator[Statement]:
    if not rows:
        return
    into = f"INSERT INTO {table} ({_named(names)}) VALUES ".encode()
    texts = _made(table, lambda: [row(values(*it)) for it in rows])
    for part in _parts(texts, len(texts)):
        yield Statement("rows", table, into + b",".join(texts[part]) + otherwise)


def update(change: _Change, values: Callable[..., codec.Values], rows: Sequence[Sequence[Any]]) -> Iterator[Statement]:
    made = _made(change.table, lambda: [values(*it) for it in rows])
    if len(made) <= _SINGLE_ROWS:
        texts, counts = _made(change.table, lambda: [_one(change, it) for it in made]), [1] * len(made)
    else:
        texts, counts = _lists(change, made)
    for text, count in zip(texts, counts, strict=True):
        yield Statement("rows", change.table, text)
        yield _check(change.table, count)


def _check(table: str, count: int) -> Statement:
    return Statement("check", table, b"SET @taskengine = 18446744073709551615 + (ROW_COUNT() <> %d)" % count)


def _one(change: _Change, values: codec.Values) -> bytes:
    said = dict(zip(change.names, values, strict=True))
    moving = (name for name in change.moving if said.get(f"new_{name}", 1))
    sets = b", ".join([b"`%b` = %b" % (name.encode(), literal(said[name])) for name in moving])
    fits = b" AND ".join([b"`%b` = %b" % (mine.encode(), literal(said[its])) for mine, its in change.fits])
    return b"UPDATE %b SET %b WHERE %b" % (change.table.encode(), sets, fits)


def _lists(change: _Change, made: Sequence[codec.Values]) -> tuple[list[bytes], list[int]]:
    """Statements, and how many rows each of them changes. The values are a table of their own, which leads: each row of
    ours is found by its key, whatever the server believes about the size of its tables."""
    sets = ", ".join(f"t.`{name}` = {_new_value(change, name)}" for name in change.moving)
    fits = " AND ".join(f"t.`{mine}` = x.`{its}`" for mine, its in change.fits)
    end = f") AS x STRAIGHT_JOIN {change.table} AS t FORCE INDEX (PRIMARY) SET {sets} WHERE {fits}".encode()
    legs = _made(change.table, lambda: [row(it)[1:-1] for it in made])
    parts = list(_parts(legs, _LIST_ROWS))
    texts = []
    for part in parts:
        first = zip(change.names, made[part.start], strict=True)
        head = b", ".join([b"%b AS `%b`" % (literal(value), name.encode()) for name, value in first])
        texts.append(b"UPDATE (SELECT " + b" UNION ALL SELECT ".join([head, *legs[part][1:]]) + end)
    return texts, [part.stop - part.start for part in parts]


def _new_value(change: _Change, name: str) -> str:
    if f"new_{name}" in change.names:
        return f"CASE WHEN x.new_{name} = 1 THEN x.`{name}` ELSE t.`{name}` END"
    return f"x.`{name}`"


def _parts(texts: Sequence[bytes], most: int) -> Iterator[slice]:
    """At most so many texts at a time, and so many bytes unless it is one alone."""
    first = size = 0
    for at, text in enumerate(texts):
        if at > first and (at - first == most or size + len(text) > _PART_BYTES):
            yield slice(first, at)
            first, size = at, 0
        size += len(text)
    yield slice(first, len(texts))


def packets(all_of_them: Iterable[Statement], most_bytes: int) -> Iterator[list[Statement]]:
    """As many statements as the server takes at once. Raises BatchRefused for one that is too large alone."""
    part: list[Statement] = []
    size = 0
    for statement in all_of_them:
        length = len(statement.text) + 1
        if length > most_bytes:
            raise BatchRefused(
                statement.table,
                "unfit",
                f"a row of {length:,} bytes, and this server's max_allowed_packet is {most_bytes:,}",
            )
        if part and size + length > most_bytes:
            yield part
            part, size = [], 0
        part.append(statement)
        size += length
    yield part
