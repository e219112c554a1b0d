"""Which instances a query means, as SQL for SQLite. Pure: the texts are this module's own, all values are bound.

The planner has no statistics here, so the choice between two indexes is made in the text: a `+` before a column keeps
that column's index out. Several states become one ordered scan each, which SQLite merges; an `IN` would read and
sort all rows of these states to show twenty of them.
"""

import sys
from collections.abc import Sequence
from typing import Final

from taskengine.clock import Micros
from taskengine.model.ids import InstanceId
from taskengine.model.states import InstanceState
from taskengine.store.interface import InstanceQuery, lower_ascii

__all__ = ["Statement", "select_count", "select_page"]

Statement = tuple[str, list[object]]
"""SQL and the values for its marks, in order."""

_Condition = tuple[str, Sequence[object]]

_LAST_CHARACTER: Final = chr(sys.maxunicode)

# By key and value of json_each and not by a JSON path: a path has no way to write every key, such as one with a quote.
_HAS_LABEL: Final = (
    "version IN (SELECT d.version FROM definitions AS d, json_each(d.canonical, '$.labels') AS label"
    " WHERE label.key = ? AND label.value = ?)"
)
# Not LIKE: no character of the text is special here, also not the NUL at which LIKE would stop reading.
_CONTAINS: Final = "(instr(lower(id), ?) OR instr(lower(workflow_id), ?) OR instr(lower(error), ?))"


def select_page(
    columns: str,
    query: InstanceQuery,
    *,
    limit: int,
    offset: int,
    descending: bool,
    after: tuple[Micros, InstanceId] | None,
) -> Statement:
    """`columns` is the SELECT without conditions, with created_us and id among its columns."""
    more = [*_window(query, after, descending=descending), *_narrowing(query)]
    legs = [_where(columns, [*leg, *more]) for leg in _legs(query)]
    order = "DESC" if descending else "ASC"
    text = " UNION ALL ".join(leg for leg, _ in legs)
    values = [value for _, bound in legs for value in bound]
    return f"{text} ORDER BY created_us {order}, id {order} LIMIT ? OFFSET ?", [*values, limit, offset]


def select_count(query: InstanceQuery) -> Statement:
    """One row with one number."""
    more = [*_window(query, None, descending=True), *_narrowing(query)]
    legs = [_where("SELECT count(*) AS found FROM instances", [*leg, *more]) for leg in _legs(query)]
    text = " UNION ALL ".join(leg for leg, _ in legs)
    return f"SELECT sum(found) FROM ({text})", [value for _, bound in legs for value in bound]


def _legs(query: InstanceQuery) -> list[list[_Condition]]:
    """What leads into an index; the answer is the union of the legs, which do not overlap.

    Of a workflow and states the rarer one should lead. Which one that is nobody knows here; but what has succeeded
    is the bulk of a long-lived store, and all other states are few.
    """
    states = sorted(query.states)
    workflow = query.workflow_id
    if workflow is None:
        return [[("state = ?", (state.value,))] for state in states] or [[]]
    if states and InstanceState.SUCCESS not in query.states:
        return [[("state = ?", (state.value,)), ("+workflow_id = ?", (workflow,))] for state in states]
    leg: list[_Condition] = [("workflow_id = ?", (workflow,))]
    if states:
        leg.append((f"+state IN ({', '.join('?' * len(states))})", [state.value for state in states]))
    return [leg]


def _window(query: InstanceQuery, after: tuple[Micros, InstanceId] | None, *, descending: bool) -> list[_Condition]:
    """At most one bound at each end, so that the scan begins at the page and not at the window's edge.

    The cursor lies inside the window, and then says more than the edge; or it lies outside, and says nothing.
    """
    first, end = query.created_after_us, query.created_before_us
    found: list[_Condition] = []
    if after is not None and descending and (end is None or after[0] < end):
        found, end = [("(created_us, id) < (?, ?)", after)], None
    elif after is not None and not descending and (first is None or after[0] >= first):
        found, first = [("(created_us, id) > (?, ?)", after)], None
    if first is not None:
        found.append(("created_us >= ?", (first,)))
    if end is not None:
        found.append(("created_us < ?", (end,)))
    return found


def _narrowing(query: InstanceQuery) -> list[_Condition]:
    """What no index answers, and the beginning of an id."""
    found: list[_Condition] = []
    if query.prefix:
        found.append(("id >= ? AND id < ?", (query.prefix, query.prefix + _LAST_CHARACTER)))
    found.extend((_HAS_LABEL, label) for label in query.labels.items())
    if query.search:
        wanted = lower_ascii(query.search)
        found.append((_CONTAINS, (wanted, wanted, wanted)))
    return found


def _where(select: str, conditions: Sequence[_Condition]) -> Statement:
    if not conditions:
        return select, []
    texts = " AND ".join(text for text, _ in conditions)
    return f"{select} WHERE {texts}", [value for _, values in conditions for value in values]
