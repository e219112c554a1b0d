"""Which instances a query means, as SQL. Pure: the texts are this module's own, all values are bound.

SQLite's planner has no statistics here, and the servers' often have old ones, so the choice between two indexes is made
in the text: a column is put aside, in a form that keeps its index out. Several states become one ordered scan each,
which are merged; an `IN` would read and sort all rows of these states to show twenty of them.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Final

from taskengine.clock import Micros
from taskengine.model.ids import InstanceId
from taskengine.model.states import InstanceState
from taskengine.store.dialect import Dialect
from taskengine.store.interface import InstanceQuery, lower_ascii

__all__ = ["Statement", "select_count", "select_page"]

Statement = tuple[str, list[object]]
"""SQL and the values for its marks, in order."""

_Condition = tuple[str, Sequence[object]]

_LAST_CHARACTER: Final = chr(sys.maxunicode)
_INDEXES: Final = {
    "": "instances_by_age",
    "state": "instances_by_state",
    "workflow_id": "instances_by_workflow",
}
"""By the column that leads a leg."""


def select_page(
    dialect: Dialect,
    sql: Mapping[str, str],
    query: InstanceQuery,
    *,
    limit: int,
    offset: int,
    descending: bool,
    after: tuple[Micros, InstanceId] | None,
) -> Statement:
    """`sql` are the dialect's queries, of which it takes the columns of instances and two conditions."""
    more = [*_window(dialect, query, after, descending=descending), *_narrowing(sql, query)]
    order = "DESC" if descending else "ASC"
    ordered = f"ORDER BY created_us {order}, id {order}"
    leads = _legs(dialect, query)
    inner = ordered
    lead = leads[0][0][0].partition(" ")[0] if leads[0] else ""
    columns = sql["instance_columns"]
    if dialect.forced and not query.prefix:
        columns = f"{columns} {dialect.forced.format(_INDEXES[lead])}"
        inner = f"ORDER BY {lead} {order}, created_us {order}, id {order}" if lead else ordered
    legs = [_where(columns, [*leg, *more]) for leg in leads]
    if dialect.legs_apart and len(legs) > 1:
        legs = [(f"({text} {inner} LIMIT ?)", [*values, limit + offset]) for text, values in legs]
        inner = ordered
    text, values = _united(legs)
    return dialect.marked(f"{text} {inner} LIMIT ? OFFSET ?"), [*values, limit, offset]


def select_count(dialect: Dialect, sql: Mapping[str, str], query: InstanceQuery) -> Statement:
    """One row with one number."""
    more = [*_window(dialect, query, None, descending=True), *_narrowing(sql, query)]
    legs = [_where("SELECT count(*) AS found FROM instances", [*leg, *more]) for leg in _legs(dialect, query)]
    text, values = _united(legs)
    return dialect.marked(f"SELECT sum(found) FROM ({text}) AS counts"), values


def _united(legs: Sequence[Statement]) -> Statement:
    return " UNION ALL ".join(text for text, _ in legs), [value for _, bound in legs for value in bound]


def _legs(dialect: Dialect, query: InstanceQuery) -> list[list[_Condition]]:
    """What leads into an index; the answer is the union of the legs, which do not overlap.

    Of a workflow and states the rarer one should lead. Which one that is nobody knows here; but what has succeeded
    is the bulk of a long-lived store, and all other states are few.
    """
    states = sorted(query.states)
    workflow = query.workflow_id
    if workflow is None:
        return [[("state = ?", (state.value,))] for state in states] or [[]]
    if states and InstanceState.SUCCESS not in query.states:
        aside = f"{dialect.aside.format('workflow_id')} = ?"
        return [[("state = ?", (state.value,)), (aside, (workflow,))] for state in states]
    leg: list[_Condition] = [("workflow_id = ?", (workflow,))]
    if states:
        among = f"{dialect.aside.format('state')} IN ({', '.join('?' * len(states))})"
        leg.append((among, [state.value for state in states]))
    return [leg]


def _window(
    dialect: Dialect, query: InstanceQuery, after: tuple[Micros, InstanceId] | None, *, descending: bool
) -> list[_Condition]:
    """At most one bound at each end, so that the scan begins at the page and not at the window's edge.

    The cursor lies inside the window, and then says more than the edge; or it lies outside, and says nothing.
    """
    first, end = query.created_after_us, query.created_before_us
    found: list[_Condition] = []
    if after is not None and descending and (end is None or after[0] < end):
        found, end = [_behind(dialect, "<", after)], None
    elif after is not None and not descending and (first is None or after[0] >= first):
        found, first = [_behind(dialect, ">", after)], None
    if first is not None:
        found.append(("created_us >= ?", (first,)))
    if end is not None:
        found.append(("created_us < ?", (end,)))
    return found


def _behind(dialect: Dialect, sign: str, after: tuple[Micros, InstanceId]) -> _Condition:
    if dialect.rows_in_order:
        return f"(created_us, id) {sign} (?, ?)", after
    at_us, instance_id = after
    return f"created_us {sign}= ? AND (created_us {sign} ? OR id {sign} ?)", (at_us, at_us, instance_id)


def _narrowing(sql: Mapping[str, str], query: InstanceQuery) -> list[_Condition]:
    """What no index answers, and the beginning of an id."""
    found: list[_Condition] = []
    if query.prefix:
        found.append(("id >= ? AND id < ?", (query.prefix, query.prefix + _LAST_CHARACTER)))
    found.extend((sql["has_label"], label) for label in query.labels.items())
    if query.search:
        wanted = lower_ascii(query.search)
        found.append((sql["contains"], (wanted, wanted, wanted)))
    return found


def _where(select: str, conditions: Sequence[_Condition]) -> Statement:
    if not conditions:
        return select, []
    texts = " AND ".join(text for text, _ in conditions)
    return f"{select} WHERE {texts}", [value for _, values in conditions for value in values]
