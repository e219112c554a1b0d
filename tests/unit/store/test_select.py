"""Every list that a person asks for begins at an index and is never sorted, however many instances there are."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from taskengine.clock import Micros
from taskengine.model.states import InstanceState
from taskengine.store.dialect import SQLITE
from taskengine.store.interface import InstanceQuery
from taskengine.store.migrations import load, migrate
from taskengine.store.queries import folder, queries
from taskengine.store.select import select_count, select_page

SQL = queries(SQLITE)
FAILED = frozenset({InstanceState.FAILED})
OPEN = frozenset({InstanceState.RUNNING, InstanceState.PAUSED, InstanceState.FAILED})
ENDED = frozenset({InstanceState.SUCCESS, InstanceState.FAILED})
WINDOW: dict[str, Any] = {"created_after_us": 1, "created_before_us": 9}

INDEXES = {
    "all": (InstanceQuery(), "instances_by_age", 1),
    "state": (InstanceQuery(states=FAILED), "instances_by_state (state=?", 1),
    "states": (InstanceQuery(states=OPEN), "instances_by_state (state=?", 3),
    "workflow": (InstanceQuery(workflow_id="w"), "instances_by_workflow (workflow_id=?", 1),
    "workflow and what is rare": (InstanceQuery(workflow_id="w", states=OPEN), "instances_by_state (state=?", 3),
    "workflow and success": (InstanceQuery(workflow_id="w", states=ENDED), "instances_by_workflow (workflow_id=?", 1),
    "window": (InstanceQuery(**WINDOW), "instances_by_age (created_us>?", 1),
    "window of a state": (InstanceQuery(states=FAILED, **WINDOW), "instances_by_state (state=? AND created_us>?", 1),
    "window of a workflow": (
        InstanceQuery(workflow_id="w", **WINDOW),
        "instances_by_workflow (workflow_id=? AND created_us>?",
        1,
    ),
    "labels": (InstanceQuery(labels={"a": "b"}), "instances_by_age", 1),
    "search": (InstanceQuery(search="x"), "instances_by_age", 1),
    "all at once": (
        InstanceQuery(workflow_id="w", states=OPEN, labels={"a": "b"}, search="x", prefix="i", **WINDOW),
        "instances_by_state (state=? AND created_us>?",
        3,
    ),
}


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, load(folder("sqlite")), Micros(5))
    yield connection
    connection.close()


def _plan(db: sqlite3.Connection, query: InstanceQuery, after: Any, *, descending: bool = True) -> list[str]:
    text, values = select_page(SQLITE, SQL, query, limit=20, offset=0, descending=descending, after=after)
    return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}", values)]


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("case", INDEXES)
def test_a_list_comes_out_of_an_index_in_order(db: sqlite3.Connection, case: str, descending: bool) -> None:
    query, index, legs = INDEXES[case]
    plan = _plan(db, query, None, descending=descending)
    assert sum(index in line for line in plan) == legs, plan
    assert not [line for line in plan if "TEMP B-TREE" in line]


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("case", INDEXES)
def test_a_later_page_begins_at_its_cursor(db: sqlite3.Connection, case: str, descending: bool) -> None:
    """Also inside a window, where SQLite would rather begin at the window's edge and read its way to the page."""
    query, index, legs = INDEXES[case]
    plan = _plan(db, query, (5, "x"), descending=descending)
    bound = f"(created_us,id){'<' if descending else '>'}(?,?)"
    assert sum(index.partition(" ")[0] in line and bound in line for line in plan) == legs, plan
    assert not [line for line in plan if "TEMP B-TREE" in line]


@pytest.mark.parametrize("after", [None, (5, "x")])
@pytest.mark.parametrize("case", ["window of a state", "window of a workflow"])
def test_ages_come_out_of_an_index_in_order(db: sqlite3.Connection, case: str, after: Any) -> None:
    """What retention asks for, page after page, over all that there is."""
    query, index, _ = INDEXES[case]
    query = msgspec.structs.replace(query, created_after_us=None)
    text, values = select_page(
        SQLITE, SQL, query, limit=500, offset=0, descending=False, after=after, columns="aged_columns"
    )
    (line,) = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    assert f"instances USING INDEX {index.partition('?')[0]}" in line
    assert "created_us" in line.partition("(")[2], "it begins at the page and ends at the window's edge"


@pytest.mark.parametrize("table", ["logs", "attempts", "commands", "tasks", "events"])
def test_a_sweep_finds_its_rows_by_their_key(db: sqlite3.Connection, table: str) -> None:
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {SQL[f'sweep_{table}']}", ('["i"]', 9))]
    assert not [line for line in plan if line.startswith("SCAN") and "json_each" not in line], plan
    assert [line for line in plan if f"SEARCH {table} USING" in line and "instance_id=?" in line], plan


def test_a_plan_that_sorts_is_noticed(db: sqlite3.Connection) -> None:
    """What a plain IN would do, on the version of SQLite that runs here."""
    text = "SELECT * FROM instances WHERE state IN ('Failed', 'Running') ORDER BY created_us, id LIMIT 9"
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}")]
    assert [line for line in plan if "TEMP B-TREE" in line]


@pytest.mark.parametrize("case", ["all", "state", "states", "workflow", "window", "window of a state"])
def test_counting_reads_no_instance(db: sqlite3.Connection, case: str) -> None:
    query, _, legs = INDEXES[case]
    text, values = select_count(SQLITE, SQL, query)
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    assert sum("instances USING COVERING INDEX" in line for line in plan) == legs, plan


def test_a_prefix_begins_at_the_key(db: sqlite3.Connection) -> None:
    assert "instances USING INDEX sqlite_autoindex_instances_1 (id>? AND id<?)" in " ".join(
        _plan(db, InstanceQuery(prefix="0192ab"), None)
    )


@pytest.mark.parametrize("text", ["'; DROP TABLE instances; --", '" OR 1=1', "%s", ":a"])
def test_nothing_from_outside_stands_in_the_text(text: str) -> None:
    query = InstanceQuery(workflow_id=text, labels={text: text}, search=text, prefix=text)
    for sql, values in (
        select_page(SQLITE, SQL, query, limit=1, offset=0, descending=True, after=(1, text)),
        select_count(SQLITE, SQL, query),
    ):
        assert text not in sql
        assert sql.count("?") == len(values)
        assert sum(value in (text, text.lower()) for value in values) >= 7
