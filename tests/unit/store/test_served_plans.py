"""On the servers too, what is asked often begins at an index and reads few rows, whether their statistics are of the
empty tables or of the full ones."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from databases.asking import ask, kind_of
from databases.servers import SERVERS, new_database

from taskengine.ambient import Ambient
from taskengine.model.events import EventBody
from taskengine.model.records import (
    CommandRow,
    Decision,
    EventRow,
    InstanceChange,
    InstanceRow,
    Sweep,
    TaskChange,
    TaskGuard,
    TaskRow,
)
from taskengine.model.states import InstanceState, Phase, TaskState
from taskengine.store.batch import merge
from taskengine.store.dialect import Dialect
from taskengine.store.interface import InstanceQuery
from taskengine.store.mysql import MYSQL, MySqlDriver
from taskengine.store.mysql_batch import statements
from taskengine.store.mysql_sweep import count, sweeping
from taskengine.store.opening import open_store
from taskengine.store.postgresql import POSTGRESQL, PostgresDriver
from taskengine.store.queries import queries
from taskengine.store.select import select_page

MANY = 20_000
"""Instances, of three workflows; one in a hundred failed, twenty run, the others ended well."""
FEW = 800
"""Rows that a question may read: many more than a page, many fewer than there are."""

FAILED = frozenset({InstanceState.FAILED})
OPEN = frozenset({InstanceState.RUNNING, InstanceState.PAUSED, InstanceState.FAILED})


def _start(n: int) -> Decision:
    name = f"i{n:06}"
    ended: dict[str, Any] = {
        "phase": Phase.END,
        "final": InstanceState.FAILED if n % 100 == 7 else InstanceState.SUCCESS,
    }
    state = {"phase": Phase.RUN} if n % 1000 == 3 else ended
    row = InstanceRow(
        id=name, workflow_id=f"w{n % 3}", version="v", created_us=n, idempotency_key=f"k{n}" if n % 2 else None, **state
    )
    task = TaskRow(ordinal=0, name="t", state=TaskState.SUCCESS, attempt=1, result=b"1")
    event = EventRow(instance_id=name, seq=1, at_us=n, body=EventBody(state=InstanceState.RUNNING))
    return Decision(
        instance_id=name,
        event=event,
        instance=InstanceChange(row),
        tasks=(TaskChange(task),),
        commands=(CommandRow(id="c", kind="pause"),),
    )


def _tall(tasks: int) -> Decision:
    """One instance with many tasks."""
    ended: dict[str, Any] = {"phase": Phase.END, "final": InstanceState.SUCCESS}
    row = InstanceRow(id="tall", workflow_id="w1", version="v", created_us=MANY, **ended)
    event = EventRow(instance_id="tall", seq=1, at_us=1, body=EventBody(state=InstanceState.RUNNING))
    made = (
        TaskChange(TaskRow(ordinal=n, name="t", state=TaskState.SUCCESS, attempt=1, result=b"1")) for n in range(tasks)
    )
    return Decision(instance_id="tall", event=event, instance=InstanceChange(row), tasks=tuple(made))


def _move(n: int) -> Decision:
    name = f"i{n:06}"
    task = TaskRow(ordinal=0, name="t", state=TaskState.RUNNING, attempt=1)
    event = EventRow(instance_id=name, seq=2, at_us=n, body=EventBody(state=InstanceState.RUNNING))
    return Decision(instance_id=name, event=event, tasks=(TaskChange(task, TaskGuard(TaskState.SUCCESS, 1)),))


class Full:
    """A database of one kind with many rows."""

    def __init__(self, kind: str) -> None:
        self.kind, self.dsn = kind, new_database(kind)
        self.dialect: Dialect = POSTGRESQL if kind == "postgresql" else MYSQL
        asyncio.run(self._fill())

    async def _fill(self) -> None:
        store = open_store(self.dsn, Ambient())
        await store.open()
        self._freeze()
        for at in range(0, MANY, 2000):
            made = [_start(n) for n in range(at, at + 2000)]
            await store.commit(merge(made, epoch=store.epoch, lane=0, number=at + 1, acknowledged=0))
        await store.commit(merge([_tall(5000)], epoch=store.epoch, lane=0, number=MANY + 1, acknowledged=0))
        await store.close()

    def _freeze(self) -> None:
        """No statistics are made but by `analyse`: those of now say that everything is empty."""
        for table in ("instances", "tasks", "events", "commands"):
            if self.kind == "postgresql":
                ask(self.dsn, f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
            else:
                ask(self.dsn, f"ALTER TABLE {table} STATS_PERSISTENT = 1, STATS_AUTO_RECALC = 0")

    def analyse(self) -> None:
        if self.kind == "postgresql":
            ask(self.dsn, "ANALYZE")
        else:
            ask(self.dsn, "ANALYZE TABLE instances, tasks, events, commands")

    def explain(self, query: str, values: Sequence[object], purpose: Any = "reader") -> tuple[set[str], int, bool]:
        """The indexes that a query uses, how many rows it reads, whether it sorts."""
        return asyncio.run(self._explain(query, values, purpose))

    async def _explain(self, query: str, values: Sequence[object], purpose: Any) -> tuple[set[str], int, bool]:
        postgresql = self.kind == "postgresql"
        driver = (PostgresDriver if postgresql else MySqlDriver)(self.dsn, Ambient(), durability="full")
        link = await driver.connect(purpose)
        try:
            if postgresql:
                ((plan,),) = await link.rows(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", values)
                return _postgresql(plan if isinstance(plan, list) else json.loads(plan))
            ((plan,),) = await link.rows(f"EXPLAIN FORMAT = JSON {query}", values)
            await link.rows("FLUSH STATUS", ())
            await link.rows(query, values)
            counts = await link.rows("SHOW SESSION STATUS LIKE 'Handler_read%%'", ())
            indexes, sorts = _mysql(json.loads(plan))
            return indexes, sum(int(count) for name, count in counts if name != "Handler_read_rnd_deleted"), sorts
        finally:
            await link.close()


def _nodes(plan: Any) -> Iterator[dict[str, Any]]:
    if isinstance(plan, dict):
        yield plan
        plan = list(plan.values())
    if isinstance(plan, list):
        for part in plan:
            yield from _nodes(part)


def _postgresql(plan: Any) -> tuple[set[str], int, bool]:
    indexes, rows, sorts = set(), 0, False
    for node in _nodes(plan):
        indexes |= {node["Index Name"]} if "Index Name" in node else set()
        if "Relation Name" in node:
            rows += int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        sorts = sorts or node.get("Node Type") in ("Sort", "Incremental Sort")
    return indexes, rows, sorts


def _mysql(plan: Any) -> tuple[set[str], bool]:
    nodes = list(_nodes(plan))
    return {node["key"] for node in nodes if "key" in node}, any("filesort" in node for node in nodes)


@pytest.fixture(scope="module", params=SERVERS)
def full(request: pytest.FixtureRequest) -> Full:
    return Full(request.param)


def _page(query: InstanceQuery, **options: Any) -> Callable[[Dialect], Any]:
    plain = {"limit": 20, "offset": 0, "descending": True, "after": None}
    return lambda dialect: select_page(dialect, queries(dialect), query, **{**plain, **options})


def _named(name: str, *values: object) -> Callable[[Dialect], Any]:
    def made(dialect: Dialect) -> Any:
        bound = [
            (value if dialect.binds_lists else json.dumps(value)) if isinstance(value, list) else value
            for value in values
        ]
        return dialect.marked(queries(dialect)[name]), bound

    return made


SOME = [f"i{n:06}" for n in range(0, MANY, MANY // 20)]
MIDDLE = (MANY // 2, "i")
AGES: dict[str, Any] = {"columns": "aged_columns", "descending": False}
AGES_OF_STATE = InstanceQuery(states=frozenset({InstanceState.SUCCESS}), created_before_us=MANY)

# The question, an index that must lead to its rows (the better of two, when the server knows how many there are of
# each), and whether a sort of what was found is fine.
ASKED: dict[str, tuple[Callable[[Dialect], Any], str, bool]] = {
    "the newest": (_page(InstanceQuery()), "instances_by_age", False),
    "the oldest": (_page(InstanceQuery(), descending=False), "instances_by_age", False),
    "the next page": (_page(InstanceQuery(), after=MIDDLE), "instances_by_age", False),
    "a window": (
        _page(InstanceQuery(created_after_us=MIDDLE[0], created_before_us=MIDDLE[0] + 500)),
        "instances_by_age",
        False,
    ),
    "a state": (_page(InstanceQuery(states=FAILED)), "instances_by_state", False),
    "a state, the next page": (_page(InstanceQuery(states=FAILED), after=MIDDLE), "instances_by_state", False),
    "states": (_page(InstanceQuery(states=OPEN)), "instances_by_state", True),
    "a workflow": (_page(InstanceQuery(workflow_id="w1")), "instances_by_workflow instances_by_age", False),
    "a workflow, the next page": (
        _page(InstanceQuery(workflow_id="w1"), after=MIDDLE),
        "instances_by_workflow instances_by_age",
        False,
    ),
    "a workflow and a rare state": (
        _page(InstanceQuery(workflow_id="w1", states=FAILED)),
        "instances_by_state",
        False,
    ),
    "ages of a state": (_page(AGES_OF_STATE, **AGES), "instances_by_state instances_by_age", False),
    "ages of a state, further on": (
        _page(AGES_OF_STATE, after=MIDDLE, **AGES),
        "instances_by_state instances_by_age",
        False,
    ),
    "ages of a workflow, further on": (
        _page(InstanceQuery(workflow_id="w1", created_before_us=MANY), after=MIDDLE, **AGES),
        "instances_by_workflow instances_by_age",
        False,
    ),
    "an instance": (_named("instance", "i000003"), "instances", False),
    "an instance by its key": (_named("instance_by_key", "w1", "k1"), "instances_by_key", False),
    "the unfinished": (_named("unfinished", -1, -1, "", 200), "instances_unfinished", False),
    "the unfinished, further on": (_named("unfinished", 5000, 5000, "", 200), "instances_unfinished", False),
    "instances to load": (_named("instances_in", SOME), "instances", True),
    "their tasks": (_named("light_tasks", SOME), "tasks", True),
    "their commands": (_named("commands_of", SOME), "commands", True),
    "their last events' numbers": (_named("last_seqs", SOME), "events", True),
    "their last events": (_named("last_events", SOME), "events", True),
    "tasks of one": (_named("whole_tasks", "tall", 4000, 500), "tasks", False),
    "results of one": (_named("results", "tall", list(range(0, 5000, 50))), "tasks", True),
    "states of tasks": (_named("task_states", "tall", list(range(0, 5000, 50))), "tasks", True),
    "tasks in some states": (_named("family_in", "tall", -1, -1, ["Success"], 100), "tasks", False),
    "open tasks": (_named("tasks_in", "tall", 4900, 5000, ["Running", "Waiting"], 100), "tasks", False),
    "the history": (_named("events", "i000003", 0, 500), "events", False),
    "the last event": (_named("last_event", "i000003"), "events", False),
}
KEYS = {"postgresql": "{}_pkey", "mysql": "PRIMARY"}
TABLES = ("instances", "tasks", "commands", "events")


def _check(full: Full, name: str) -> None:
    made, index, may_sort = ASKED[name]
    indexes, rows, sorts = full.explain(*made(full.dialect))
    wanted = {KEYS[full.kind].format(index)} if index in TABLES else set(index.split())
    assert wanted & indexes, (name, indexes)
    assert rows <= FEW, (name, rows)
    assert may_sort or not sorts, name


@pytest.mark.parametrize("name", ASKED)
def test_few_rows_are_read_while_the_server_believes_that_there_are_none(full: Full, name: str) -> None:
    _check(full, name)


@pytest.mark.parametrize("name", ASKED)
def test_few_rows_are_read_when_the_server_knows_better(full: Full, name: str) -> None:
    full.analyse()
    _check(full, name)


def test_the_counts_above_see_a_question_that_reads_everything(full: Full) -> None:
    _, rows, _ = full.explain("SELECT count(*) FROM tasks WHERE reason = 'x'", ())
    assert rows >= MANY


@pytest.mark.parametrize("count", [1, 5])
def test_changed_rows_are_found_by_their_keys(full: Full, count: int) -> None:
    """PostgreSQL's are written inside a function, where EXPLAIN does not look; its lanes never read whole tables."""
    if full.kind == "postgresql":
        off = asyncio.run(_settings(full.dsn))
        assert off == [("off", "off", "off")]
        return
    batch = merge([_move(n) for n in range(count)], epoch=1, lane=0, number=1, acknowledged=0)
    update = next(it.text.decode() for it in statements(batch) if it.table == "tasks")
    indexes, rows, _ = full.explain(update.replace("%", "%%"), (), "lane")
    assert indexes == {"PRIMARY"}
    assert rows <= 10 * count


def test_what_is_swept_up_is_found_by_its_key(full: Full) -> None:
    """PostgreSQL: as above."""
    if full.kind == "postgresql":
        return
    sweep, names = Sweep(instances=20, rows=500), SOME
    made = list(sweeping(sweep, names, [0, 0, 0, 20, 20, 20]))
    for query in [count(sweep, names), *(it.text.decode() for it in made if it.table in TABLES)]:
        indexes, rows, _ = full.explain(query.replace("%", "%%"), (), "lane")
        assert indexes == {"PRIMARY"}, query
        assert rows <= FEW, query


async def _settings(dsn: str) -> Any:
    link = await PostgresDriver(dsn, Ambient(), durability="full").connect("lane")
    named = ", ".join(f"current_setting('enable_{name}')" for name in ("seqscan", "hashjoin", "mergejoin"))
    found = list(await link.rows(f"SELECT {named}", ()))
    await link.close()
    return found


def test_both_kinds_are_looked_at() -> None:
    assert {kind_of(f"{kind}://h/d") for kind in SERVERS} == set(SERVERS)
