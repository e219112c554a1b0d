"""Sweeping up behind removed instances, for MySQL and MariaDB. Pure.

No statement can take what an earlier one has left of its limit, so the rows are counted before the batch; nobody else
writes any of them.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from taskengine.model.records import Sweep
from taskengine.store.mysql_batch import Statement
from taskengine.store.mysql_text import literal

__all__ = ["count", "noted", "sweeping"]

_TABLES: Final = {
    "logs": "instance_id, id",
    "artifacts": "instance_id, ordinal, name",
    "attempts": "instance_id, ordinal, attempt",
    "commands": "instance_id, id",
    "tasks": "instance_id, ordinal",
    "events": "instance_id, seq",
}
"""What an instance leaves behind: tables and their keys, in the order in which they are swept."""


def noted(sweep: Sweep) -> str:
    """The query for the instances that it takes."""
    return f"SELECT instance_id FROM removed ORDER BY instance_id LIMIT {sweep.instances}"


def count(sweep: Sweep, instances: Sequence[str]) -> str:
    """The query for one row: how many rows there are in each table, as far as the sweep may go."""
    some = [
        f"SELECT 1 FROM {table} FORCE INDEX (PRIMARY) WHERE {_theirs(table, instances)} LIMIT {sweep.rows}"
        for table in _TABLES
    ]
    return f"SELECT {', '.join([f'(SELECT count(*) FROM ({rows}) AS found)' for rows in some])}"


def sweeping(sweep: Sweep, instances: Sequence[str], counts: Sequence[int]) -> Iterator[Statement]:
    """In the order of the keys, so that a server which logs statements deletes the same rows everywhere."""
    left = sweep.rows
    for (table, key), rows in zip(_TABLES.items(), counts, strict=True):
        if rows:
            text = f"DELETE FROM {table} WHERE {_theirs(table, instances)} ORDER BY {key} LIMIT {min(rows, left)}"
            yield Statement("rows", table, text.encode())
        left -= rows
        if left <= 0:
            return
    whose = literal(list(instances))
    yield Statement("rows", "events", b"DELETE FROM events WHERE instance_id IN " + whose)
    yield Statement("rows", "removed", b"DELETE FROM removed WHERE instance_id IN " + whose)


def _theirs(table: str, instances: Sequence[str]) -> str:
    but_the_first = " AND seq > 1" if table == "events" else ""
    return f"instance_id IN {literal(list(instances)).decode()}{but_the_first}"
