"""taskengine/cli/local/finding.py: old runs go, whatever is young, unfinished, in use or in doubt stays."""

import os
from pathlib import Path

import pytest

from taskengine.ambient import Ambient
from taskengine.cli.local.finding import prune
from taskengine.cli.local.runs import RunRecord, Runs
from taskengine.clock import ManualClock, SystemIds, seconds
from taskengine.definition import read_yaml
from taskengine.engine.builder import EngineBuilder
from taskengine.store.lock import FileLock

DAY_S = 86_400.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ambient(clock: ManualClock) -> Ambient:
    return Ambient(clock=clock, ids=SystemIds(clock))


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


async def run(runs: Runs, ambient: Ambient, *, paused: bool = False) -> RunRecord:
    """A run of today: finished, or paused before its end."""
    text = "id: x\ntasks: [{name: a, job: noop}, {name: b, sleep: 1h, depends_on: [a]}]" if paused else "id: x"
    record = runs.plan(ambient.ids.uuid7(), ambient.clock.now_us())  # type: ignore[arg-type]
    runs.create(record)
    async with EngineBuilder(ambient).with_store(record.dsn).build() as engine:
        await engine.execute_workflow(read_yaml(text), instance_id=record.id)
        if paused:
            await engine.pause_instance(record.id)
        await engine.wait_until_resting(record.id)
    return record


def spoil(record: RunRecord) -> None:
    Path(record.dsn).write_bytes(b"no database" * 100)


async def test_runs_that_ended_thirty_days_ago_are_removed(runs: Runs, ambient: Ambient, clock: ManualClock) -> None:
    old = await run(runs, ambient)
    clock.tick(10 * DAY_S)
    young = await run(runs, ambient)
    clock.tick(20 * DAY_S - 1)
    await prune(runs, ambient)
    assert runs.all() == [young, old], "a second is missing"
    clock.tick(2)
    await prune(runs, ambient)
    assert runs.all() == [young]
    assert not (runs.folder / old.id).exists()


async def test_an_unfinished_run_stays_however_old(runs: Runs, ambient: Ambient, clock: ManualClock) -> None:
    unfinished = await run(runs, ambient, paused=True)
    clock.tick(400 * DAY_S)
    await prune(runs, ambient)
    assert runs.all() == [unfinished]


async def test_a_run_in_use_stays(runs: Runs, ambient: Ambient, clock: ManualClock) -> None:
    used = await run(runs, ambient)
    clock.tick(31 * DAY_S)
    lock = FileLock(Path(used.dsn))
    lock.acquire()
    await prune(runs, ambient)
    lock.release()
    assert runs.all() == [used]


async def test_what_cannot_be_read_stays(runs: Runs, ambient: Ambient, clock: ManualClock) -> None:
    doubtful = await run(runs, ambient)
    spoil(doubtful)
    clock.tick(31 * DAY_S)
    await prune(runs, ambient)
    assert runs.all() == [doubtful]


async def test_a_run_that_never_began_goes_and_one_elsewhere_loses_its_record(
    runs: Runs, ambient: Ambient, clock: ManualClock, tmp_path: Path
) -> None:
    begun_us = ambient.clock.now_us()
    runs.create(runs.plan(ambient.ids.uuid7(), begun_us))  # type: ignore[arg-type]
    elsewhere = tmp_path / "elsewhere.db"
    elsewhere.write_bytes(b"not ours to touch")
    runs.create(runs.plan(ambient.ids.uuid7(), begun_us, dsn=str(elsewhere)))  # type: ignore[arg-type]
    clock.tick(31 * DAY_S)
    assert ambient.clock.now_us() - begun_us == seconds(31 * DAY_S)
    await prune(runs, ambient)
    assert runs.all() == []
    assert os.listdir(runs.folder) == []
    assert elsewhere.read_bytes() == b"not ours to touch"
