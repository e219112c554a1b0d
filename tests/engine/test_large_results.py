"""Large results lie in the artifact store and are as good as others; what is too large fails with both numbers."""

from pathlib import Path
from typing import Any

from engine.worlds import LIMIT_S, World, finished, flow

from taskengine.clock import Micros
from taskengine.engine.collector import GRACE_US, Collected, collect
from taskengine.model.definition import TaskSpec
from taskengine.model.ids import InstanceId

BIG = "大" * 2000
JOBS = {"big": lambda: [BIG], "length": lambda value: len(value[0]), "small": lambda: 1}


def chain() -> Any:
    needs = {"value": "${{ tasks.a.result }}"}
    return flow(TaskSpec(name="a", job="big"), TaskSpec(name="b", job="length", params=needs, depends_on=("a",)))


async def started(world: World, **settings: Any) -> Any:
    return await world.start(JOBS, result_limits={"inline": 1000, "limit": 10_000}, **settings)


async def test_a_large_result_flows_to_whoever_needs_it(world: World) -> None:
    engine = await started(world)
    done = await finished(engine, chain())
    assert await engine.result(done.id) == {"b": 2000}
    assert (await engine.get_task(done.id, "a")).result == [BIG]
    (listed, _) = await engine.get_tasks(done.id)
    assert (listed.result, listed.artifact.size) == (None, 6004)
    row = (await engine.store.tasks(InstanceId(done.id)))[0]
    assert row.result.startswith(b"@sha256:")
    assert [(it.ordinal, it.name, it.size) for it in await engine.store.artifacts(InstanceId(done.id))] == [
        (0, "result", 6004)
    ]


async def test_the_result_of_an_instance_is_whole(world: World) -> None:
    engine = await started(world)
    done = await finished(engine, flow(TaskSpec(name="a", job="big")))
    assert await engine.result(done.id) == {"a": [BIG]}


async def test_a_small_result_stays_in_its_row(world: World) -> None:
    engine = await started(world)
    done = await finished(engine, flow(TaskSpec(name="a", job="small")))
    assert (await engine.get_task(done.id, "a")).artifact is None
    assert await engine.store.artifacts(InstanceId(done.id)) == []


async def test_a_result_over_the_limit_fails_with_both_numbers(world: World) -> None:
    engine = await world.start(JOBS, result_limits={"inline": 1000, "limit": 5000})
    done = await finished(engine, flow(TaskSpec(name="a", job="big")))
    assert done.status == "Failed"
    assert "6,004 bytes" in (await engine.get_task(done.id, "a")).error.message
    assert "5,000 bytes" in (await engine.get_task(done.id, "a")).error.message


async def test_a_large_result_outlives_its_engine(sqlite_world: World) -> None:
    engine = await started(sqlite_world)
    done = await finished(engine, chain())
    await engine.stop()
    again = await started(sqlite_world)
    assert (await again.get_task(done.id, "a")).result == [BIG]
    await again.retry_instance(done.id, from_task="b")
    assert (await again.wait_for_instance(done.id, LIMIT_S)).status == "Success"


async def test_a_place_that_cannot_be_written_fails_the_attempt(sqlite_world: World, tmp_path: Path) -> None:
    (tmp_path / "引擎.db.artifacts").write_text("in the way")
    engine = await started(sqlite_world)
    done = await finished(engine, chain())
    assert done.status == "Failed"
    assert "could not be kept" in (await engine.get_task(done.id, "a")).error.message


async def test_what_no_row_names_is_collected_after_a_day(world: World) -> None:
    engine = await started(world)
    done = await finished(engine, chain())
    artifacts = engine._artifacts
    await artifacts.put(b"left by a crash")
    assert await collect(engine.store, artifacts, engine._ambient) == Collected(0, 0)
    clock = engine._ambient.clock

    class Later:
        now_us = staticmethod(lambda: Micros(clock.now_us() + GRACE_US + 60_000_000))

    class Ambience:
        clock, log = Later(), engine._ambient.log

    assert await collect(engine.store, artifacts, Ambience()) == Collected(1, 15)  # type: ignore[arg-type]
    assert (await engine.get_task(done.id, "a")).result == [BIG]
