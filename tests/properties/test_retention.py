"""Whatever instances there are: exactly those go whose time is over, and of all others every row stays as it was."""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskengine.ambient import Ambient
from taskengine.clock import ManualClock, Micros
from taskengine.engine.builder import EngineBuilder
from taskengine.model.definition import Retention, WorkflowDefinition, canonical_form, version_of
from taskengine.model.events import EventBody
from taskengine.model.ids import CommandId, InstanceId, Ordinal, WorkflowId
from taskengine.model.records import (
    AttemptRow,
    CommandRow,
    Decision,
    DefinitionRow,
    EventRow,
    InstanceChange,
    InstanceRow,
    LogBatch,
    LogRow,
    Outcome,
    TaskChange,
    TaskRow,
    Write,
)
from taskengine.model.states import INSTANCE_FINAL, Hold, InstanceState, Phase, TaskState
from taskengine.store.batch import merge
from taskengine.store.sqlite import SqliteStore

HOUR_US = 3_600_000_000
NOW_US = 1_700_000_000_000_000
TABLES = ("tasks", "attempts", "events", "commands", "logs")

SPANS = st.sampled_from([None, 1, 5, 20, 30])
OWN = st.sampled_from([msgspec.UNSET, None, 1, 5, 20, 30])


class Case(msgspec.Struct, frozen=True):
    """One instance; times in hours before now. `version`: whose retention it follows, 0 is the engine's."""

    state: InstanceState
    version: int
    created: int
    finished: int
    keyed: bool
    rows: int


CASES = st.builds(
    lambda state, version, ages, keyed, rows: Case(state, version, max(ages), min(ages), keyed, rows),
    st.sampled_from([*INSTANCE_FINAL, InstanceState.SUCCESS, InstanceState.RUNNING, InstanceState.QUARANTINED]),
    st.integers(0, 2),
    st.tuples(st.integers(0, 40), st.integers(0, 40)),
    st.booleans(),
    st.integers(0, 4),
)


def _us(hours: Any) -> Any:
    return Micros(hours * HOUR_US) if isinstance(hours, int) else hours


def _retention(pair: Sequence[Any]) -> Retention:
    return Retention(success_us=_us(pair[0]), failed_us=_us(pair[1]))


def _definition(number: int, own: Retention | None) -> DefinitionRow:
    # Two of them are versions of one workflow.
    definition = WorkflowDefinition(id=WorkflowId(f"w{number % 2}"), description=str(number), retention=own)
    canonical = canonical_form(definition)
    return DefinitionRow(
        workflow_id=definition.id, version=version_of(canonical), canonical=canonical, created_us=Micros(1)
    )


def _writes(number: int, case: Case, definition: DefinitionRow) -> list[Write]:
    instance_id, final = InstanceId(f"i{number:02}"), case.state in INSTANCE_FINAL
    row = InstanceRow(
        id=instance_id,
        workflow_id=definition.workflow_id,
        version=definition.version,
        phase=Phase.END if final else Phase.RUN,
        hold=Hold.QUARANTINED if case.state is InstanceState.QUARANTINED else Hold.NONE,
        final=case.state if final else None,
        created_us=Micros(NOW_US - case.created * HOUR_US),
        finished_us=Micros(NOW_US - case.finished * HOUR_US) if final else None,
        idempotency_key=f"k{number}" if case.keyed else None,
        params=b'{"n":%d}' % number,
    )
    ordinals = [Ordinal(ordinal) for ordinal in range(case.rows)]
    first = Decision(
        instance_id=instance_id,
        event=EventRow(instance_id=instance_id, seq=1, at_us=Micros(1), body=EventBody(state=row.state)),
        instance=InstanceChange(row),
        tasks=tuple(
            TaskChange(TaskRow(ordinal=n, name=f"t{n}", state=TaskState.SUCCESS, attempt=2, result=b"%d" % number))
            for n in ordinals
        ),
        attempts=tuple(AttemptRow(ordinal=n, attempt=1, run=1, outcome=Outcome.FAIL) for n in ordinals),
        commands=tuple(CommandRow(id=CommandId(str(n)), kind="pause") for n in ordinals),
    )
    line = {"task": "t", "attempt": 1, "level": "info", "at_us": Micros(1)}
    lines = tuple(LogRow(instance_id=instance_id, id=n + 1, message=f"行 {number}", **line) for n in ordinals)  # type: ignore[arg-type]
    later = EventRow(instance_id=instance_id, seq=2, at_us=Micros(2), body=EventBody(state=row.state))
    return [first, Decision(instance_id=instance_id, event=later), LogBatch(lines)]


def _is_due(case: Case, engine: Sequence[Any], own: Sequence[Sequence[Any]]) -> bool:
    """The rules in their own words, in hours."""
    if case.state not in INSTANCE_FINAL or (case.keyed and case.created < 24):
        return False
    at = 0 if case.state is InstanceState.SUCCESS else 1
    hours = own[case.version - 1][at] if case.version else msgspec.UNSET
    if hours is msgspec.UNSET:
        hours = engine[at]
    return hours is not None and case.finished >= hours


def _dump(path: Path) -> Mapping[str, Any]:
    """Every row of every instance, and all other tables, as the file has them."""
    with sqlite3.connect(path) as db:
        found: dict[str, Any] = {"definitions": db.execute("SELECT * FROM definitions ORDER BY 1").fetchall()}
        for row in db.execute("SELECT * FROM instances"):
            found.setdefault(row[0], []).append(row)
        for table in TABLES:
            for row in db.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3"):
                found.setdefault(row[0], []).append((table, *row))
    db.close()
    return found


async def _story(
    path: Path, cases: Sequence[Case], engine_hours: Sequence[Any], own: Sequence[Sequence[Any]], rounds: int
) -> tuple[set[str], Mapping[str, Any], Mapping[str, Any]]:
    """Ids that went, and all rows before and after."""
    ambient = Ambient(clock=ManualClock(NOW_US))
    definitions = [_definition(0, None)] + [_definition(n, _retention(pair)) for n, pair in enumerate(own, 1)]
    store = SqliteStore(path, ambient)
    await store.open()
    writes: list[Write] = [*definitions]
    for number, case in enumerate(cases):
        writes += _writes(number, case, definitions[case.version])
    await store.commit(merge(writes, epoch=store.epoch, lane=0, number=1, acknowledged=0))
    await store.close()
    before = _dump(path)
    success, failed = engine_hours
    builder = EngineBuilder(ambient).with_store(path).with_recovery(False)
    builder.with_retention(
        success=None if success is None else success * 3600, failed=None if failed is None else failed * 3600
    )
    async with builder.build() as engine:
        expected = (await engine.prune(dry_run=True)).instances
        removed = 0
        for _ in range(rounds):
            removed += (await engine.prune(limit=2)).instances
        removed += (await engine.prune()).instances
        await engine.sweep()
        assert removed == expected
    after = _dump(path)
    return set(before) - set(after), before, after


@pytest.mark.parametrize("rounds", [0, 2])
def test_exactly_those_go_whose_time_is_over_and_nothing_else_changes(rounds: int) -> None:
    @given(st.lists(CASES, max_size=12), st.tuples(SPANS, SPANS), st.tuples(st.tuples(OWN, OWN), st.tuples(OWN, OWN)))
    @settings(max_examples=40)
    def check(cases: Sequence[Case], engine: Sequence[Any], own: Sequence[Sequence[Any]]) -> None:
        with TemporaryDirectory() as folder:
            gone, before, after = asyncio.run(_story(Path(folder) / "库.db", cases, engine, own, rounds))
        due = {f"i{number:02}" for number, case in enumerate(cases) if _is_due(case, engine, own)}
        assert gone == due
        assert after == {name: rows for name, rows in before.items() if name not in due}

    check()
