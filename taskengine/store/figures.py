"""Counting what a database holds without reading it all: small tables exactly, large ones by a sample. Pure."""

from collections.abc import Mapping
from typing import Final

import msgspec

from taskengine.model.records import InstanceRow
from taskengine.store import codec
from taskengine.store.dialect import Dialect
from taskengine.store.interface import TableRows
from taskengine.store.reading import Look
from taskengine.store.tables import TABLES, Table

__all__ = ["Counted", "count"]

EXACT_ROWS: Final = 10_000
"""Up to here a table is counted."""
SAMPLE_ROWS: Final = 50_000
"""So many rows are looked at for an estimate."""
_POINTS, _AT_EACH = 20, 25


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    tables: tuple[TableRows, ...]
    oldest: InstanceRow | None


def count(dialect: Dialect, sql: Mapping[str, str]) -> Look[Counted]:
    """Rows of every table, and the instance that has been unfinished for longest."""
    oldest = yield sql["unfinished"], [-(1 << 63), -(1 << 63), "", 1]
    instances = sum(number for _, number in (yield sql["count_by_state"], []))
    tables = []
    sample: list[str] | None = None
    for table in TABLES:
        if table.name == "instances":
            tables.append(TableRows(table=table.name, rows=instances, exact=True))
            continue
        found = yield from _count(dialect, f"SELECT 1 FROM {table.name}", [], EXACT_ROWS)
        exact = found <= EXACT_ROWS
        if not exact and table.of_instances:
            if sample is None:
                sample = yield from _sample(dialect)
            found = max(found, (yield from _estimate(dialect, table, sample, instances)))
        elif not exact:
            ((found,),) = yield dialect.marked(f"SELECT count(*) FROM {table.name}"), []
            exact = True
        tables.append(TableRows(table=table.name, rows=found, exact=exact))
    return Counted(tables=tuple(tables), oldest=codec.instance_row(oldest[0]) if oldest else None)


def _count(dialect: Dialect, select: str, values: list[object], limit: int) -> Look[int]:
    """At most one more than the limit."""
    ((found,),) = yield dialect.marked(f"SELECT count(*) FROM ({select} LIMIT {limit + 1}) AS found"), values
    return int(found)


def _sample(dialect: Dialect) -> Look[list[str]]:
    """Ids of instances that were made at times evenly apart."""
    ((first, last),) = yield dialect.marked("SELECT min(created_us), max(created_us) FROM instances"), []
    if first is None:
        return []
    query = dialect.marked(f"SELECT id FROM instances WHERE created_us >= ? ORDER BY created_us, id LIMIT {_AT_EACH}")
    found: dict[str, None] = {}
    for point in range(_POINTS):
        for (instance_id,) in (yield query, [first + (last - first) * point // _POINTS]):
            found[instance_id] = None
    return list(found)


def _estimate(dialect: Dialect, table: Table, sample: list[str], instances: int) -> Look[int]:
    """Rows of the sample's instances, for all instances; of fewer of them where these alone have very many."""
    some = sample
    select = dialect.say(f"SELECT 1 FROM {table.name} WHERE instance_id IN {{texts ?}}")
    while some:
        found = yield from _count(dialect, select, [dialect.listed(some)], SAMPLE_ROWS)
        if found <= SAMPLE_ROWS or len(some) == 1:
            return found * instances // len(some)
        some = some[::4]
    return 0
