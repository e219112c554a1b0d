"""A batch as the arguments of the server's function `commit_batch`: each table's rows are one JSON list. Pure."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from taskengine.errors import BatchRefused
from taskengine.store import codec, columns
from taskengine.store.batch import Batch

__all__ = ["arguments"]

_ENCODE: Final = msgspec.json.Encoder().encode
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

Arguments = tuple[int | str | None, ...]


def arguments(batch: Batch) -> Arguments:
    """In the order of the function's parameters. Raises BatchRefused for a record that has no such form."""
    fresh = [it.row for it in batch.instances if it.expect is None]
    moved = [codec.instance_change_values(it.row, it.expect) for it in batch.instances if it.expect is not None]
    tasks = [(owner, it.row) for owner, it in batch.tasks if it.expect is None]
    steps = [(owner, it.row, it.expect) for owner, it in batch.tasks if it.expect is not None]
    return (
        batch.epoch,
        batch.lane,
        batch.number,
        batch.acknowledged,
        _seldom(batch),
        _list("instances", columns.INSTANCE, codec.instance_values, ((row,) for row in fresh)),
        _list("instances", columns.INSTANCE_CHANGE, _same, ((it,) for it in moved)),
        len(moved),
        _list("tasks", columns.TASK, codec.task_values, tasks),
        _list("tasks", columns.TASK_CHANGE, codec.task_change_values, steps),
        len(steps),
        _list("attempts", columns.ATTEMPT, codec.attempt_values, batch.attempts),
        _list("events", columns.EVENT, codec.event_values, ((row,) for row in batch.events)),
        _list("commands", columns.COMMAND, codec.command_values, batch.commands),
    )


def _seldom(batch: Batch) -> str | None:
    """What few batches have, by table."""
    ends = batch.instance_removals or batch.sweep
    few = batch.definitions or batch.removals or batch.functions or batch.logs or batch.tokens or batch.artifacts
    if not (few or ends):
        return None
    current = {row.workflow_id: row.version for row in batch.definitions}  # the last one counts
    parts: tuple[tuple[str, Sequence[str], Callable[..., codec.Values], Iterable[Sequence[Any]]], ...] = (
        ("definitions", columns.DEFINITION, codec.definition_values, ((row,) for row in batch.definitions)),
        ("current", ("id", "version"), _same, ((pair,) for pair in current.items())),
        ("removals", ("id",), _same, (((workflow_id,),) for workflow_id in batch.removals)),
        ("functions", columns.FUNCTION, codec.function_values, ((row,) for row in batch.functions)),
        ("logs", columns.LOG, codec.log_values, ((row,) for row in batch.logs)),
        ("artifacts", columns.ARTIFACT, codec.artifact_values, ((row,) for row in batch.artifacts)),
        ("tokens", columns.TOKEN, codec.token_values, ((row,) for row in batch.tokens)),
        ("instances", columns.REMOVAL, codec.removal_values, ((it,) for it in batch.instance_removals)),
    )
    made = ((table, _list(table, names, values, rows)) for table, names, values, rows in parts)
    lists = [f'"{table}":{text}' for table, text in made if text is not None]
    if batch.sweep is not None:
        lists.append(f'"sweep":{_ENCODE(batch.sweep).decode()}')
    return "{" + ",".join(lists) + "}"


def _same(values: codec.Values) -> codec.Values:
    return values


def _list(
    table: str, names: Sequence[str], values: Callable[..., codec.Values], rows: Iterable[Sequence[Any]]
) -> str | None:
    """Rows as objects; None when there are none."""
    try:
        made = [dict(zip(names, values(*row), strict=True)) for row in rows]
        if not made:
            return None
        text = _ENCODE(made)
        if b"\\u0000" in text and _NUL.search(text):
            text = _ENCODE([_without_nul(row) for row in made])
            if _NUL.search(text):
                raise ValueError("a name with the character U+0000, which PostgreSQL cannot keep")
        return text.decode()
    except Exception as exc:  # making values is pure: whatever it raises is the record's fault
        raise BatchRefused(table, "unfit", str(exc)) from exc


def _without_nul(row: dict[str, Any]) -> dict[str, Any]:
    """A text of PostgreSQL cannot have U+0000. In what people read U+FFFD takes its place; no name is changed."""
    return {
        name: value.replace("\0", "\ufffd") if isinstance(value, str) and name not in columns.IDENTITY else value
        for name, value in row.items()
    }
