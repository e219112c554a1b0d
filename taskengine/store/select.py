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


def select_page(
    dialect: Dialect,
    sql: Mapping[str, str],
    query: InstanceQuery,
    *,
    limit: int,
    offset: int,
    descending: bool,
    after: tuple[Micros, InstanceId] | None,
    columns: str = "instance_columns",
) -> Statement:
    """`sql` are the dialect's queries, of which it takes the columns of instances and two conditions."""
    more = [*_window(dialect, query, after, descending=descending), *_narrowing(sql, query)]
    legs = [_where(sql[columns] + _lead(dialect, query, index), [*leg, *more]) for index, leg in _legs(dialect, query)]
    order = "DESC" if descending else "ASC"
    ordered = inner = f"ORDER BY created_us {order}, id {order}"
    if dialect.lead and (column := _leading_column(query)):
        # Else a cursor in the middle is found by reading all that is before it.
        inner = f"ORDER BY {column} {order}, created_us {order}, id {order}"
    if dialect.legs_apart and len(legs) > 1:
        legs = [(f"({text} {inner} LIMIT ?)", [*values, limit + offset]) for text, values in legs]
        inner = ordered
    text, values = _united(legs)
    return dialect.marked(f"{text} {inner} LIMIT ? OFFSET ?"), [*values, limit, offset]


def select_count(dialect: Dialect, sql: Mapping[str, str], query: InstanceQuery) -> Statement:
    """One row with one number."""
    more = [*_window(dialect, query, None, descending=True), *_narrowing(sql, query)]
    legs = [_where("SELECT count(*) AS found FROM instances", [*leg, *more]) for _, leg in _legs(dialect, query)]
    text, values = _united(legs)
    return dialect.marked(f"SELECT sum(found) FROM ({text}) AS counts"), values


def _united(legs: Sequence[Statement]) -> Statement:
    return " UNION ALL ".join(text for text, _ in legs), [value for _, bound in legs for value in bound]


def _lead(dialect: Dialect, query: InstanceQuery, index: str) -> str:
    """The beginning of an id has an index of its own, whose rows are sorted: there are few."""
    return "" if query.prefix else dialect.lead.format(index)


def _leading_column(query: InstanceQuery) -> str:
    """The column with one value a leg, by which `_legs` has chosen the index; none: the time alone."""
    if query.workflow_id is None:
        return "state" if query.states else ""
    return "state" if query.states and InstanceState.SUCCESS not in query.states else "workflow_id"


def _legs(dialect: Dialect, query: InstanceQuery) -> list[tuple[str, list[_Condition]]]:
    """What leads into an index, and that index; the answer is the union of the legs, which do not overlap.

    Of a workflow and states the rarer one should lead. Which one that is nobody knows here; but what has succeeded
    is the bulk of a long-lived store, and all other states are few.
    """
    states = sorted(query.states)
    workflow = query.workflow_id
    if workflow is None:
        by_state = [("instances_by_state", [_is("state", state.value)]) for state in states]
        return by_state or [("instances_by_age", [])]
    if states and InstanceState.SUCCESS not in query.states:
        aside = _is(dialect.aside.format("workflow_id"), workflow)
        return [("instances_by_state", [_is("state", state.value), aside]) for state in states]
    leg: list[_Condition] = [_is("workflow_id", workflow)]
    if states:
        among = f"{dialect.aside.format('state')} IN ({', '.join('?' * len(states))})"
        leg.append((among, [state.value for state in states]))
    return [("instances_by_workflow", leg)]


def _is(column: str, value: str) -> _Condition:
    return f"{column} = ?", (value,)


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
