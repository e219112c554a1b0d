"""Pools and priorities in a whole engine: bounds over instances, rates, what is declined, what has gone."""

import asyncio
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, eventually, finished, flow, states

from taskengine import EngineBuilder, TaskContext
from taskengine.engine.gauges import refresh_gauges
from taskengine.errors import InvalidConfiguration
from taskengine.model.definition import TaskSpec
from taskengine.model.pools import parse_pool


def pools(*texts: str) -> list[Any]:
    return [parse_pool(text) for text in texts]


class Gauge:
    """A body that counts how many of it run at once; `hold` keeps them until the test lets go."""

    def __init__(self, *, hold: bool = False) -> None:
        self.now = self.most = 0
        self.order: list[str] = []
        self.go = asyncio.Event()
        if not hold:
            self.go.set()

    async def run(self, ctx: TaskContext) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.order.append(f"{ctx.workflow_id}.{ctx.task_name}")
        await asyncio.sleep(0)
        await self.go.wait()
        self.now -= 1


def many(count: int, name: str, job: str = "body", **settings: Any) -> Any:
    return flow(*(TaskSpec(name=f"t{number}", job=job, **settings) for number in range(count)), name=name)


async def test_a_pool_bounds_the_tasks_of_all_instances_together(world: World) -> None:
    pooled, free = Gauge(), Gauge()
    engine = await world.start({"body": pooled.run, "free": free.run}, workers=20, pools=pools("io=3"))
    flows = [many(30, f"w{number}", pool="io") for number in range(4)] + [many(60, "free", job="free")]
    views = await asyncio.gather(*(finished(engine, each) for each in flows))
    assert {view.status for view in views} == {"Success"}
    assert pooled.most == 3
    assert len(pooled.order) == 120
    assert free.most > 3, "a task without a pool needs only a worker"


async def test_a_higher_priority_is_served_first_also_of_an_instance_that_came_later(world: World) -> None:
    gauge, gate = Gauge(), Gauge(hold=True)
    engine = await world.start({"body": gauge.run, "gate": gate.run}, workers=1)
    await engine.execute_workflow(many(1, "gate", job="gate"))
    await eventually(lambda: gate.now)
    late = await engine.execute_workflow(many(3, "low", priority=-1))
    await engine.execute_workflow(many(3, "usual"))
    mixed = [TaskSpec(name="last", job="body", priority=-2), TaskSpec(name="first", job="body", priority=9)]
    await engine.execute_workflow(flow(*mixed, name="mixed"))
    gate.go.set()
    await engine.wait_for_instance(late, LIMIT_S)
    await eventually(lambda: len(gauge.order) == 8)
    assert gauge.order == [
        "mixed.first", *(f"usual.t{at}" for at in range(3)), *(f"low.t{at}" for at in range(3)), "mixed.last"
    ]  # fmt: skip


async def test_a_rate_spaces_the_starts_on_the_clock_and_not_by_looking_again(world: World) -> None:
    clock, times = world.manual(), []

    async def body() -> None:
        times.append(clock.monotonic())

    engine = await world.start({"body": body}, workers=20, pools=pools("api=9@10/m"))
    instance = await engine.execute_workflow(many(4, "rated", pool="api"))
    began_s = clock.monotonic()
    await eventually(lambda: len(times) == 1)
    for count in (2, 3, 4):
        await clock.advance(5.9)
        assert len(times) == count - 1
        await clock.advance(0.1)
        await eventually(lambda count=count: len(times) == count)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert [at_s - began_s for at_s in times] == pytest.approx([0.0, 6.0, 12.0, 18.0], abs=0.11)


async def test_tasks_that_are_skipped_by_when_use_up_no_rate(world: World) -> None:
    world.manual()

    async def body() -> str:
        return "到"

    engine = await world.start({"body": body}, workers=20, pools=pools("api=9@1/h"))
    skipped = [TaskSpec(name=f"s{at}", job="body", pool="api", priority=1, when="${{ 1 > 2 }}") for at in range(50)]
    view = await finished(engine, flow(*skipped, TaskSpec(name="t", job="body", pool="api")))
    assert (view.status, view.progress.skipped, view.progress.completed) == ("Success", 50, 1)


async def test_a_cancelled_instance_gives_its_place_in_a_slow_pool_to_others(world: World) -> None:
    clock, gauge = world.manual(), Gauge()
    engine = await world.start({"body": gauge.run}, workers=20, pools=pools("api=9@1/h"))
    first = await engine.execute_workflow(many(500, "first", pool="api"))
    await eventually(lambda: gauge.order)
    second = await engine.execute_workflow(many(1, "second", pool="api"))
    await engine.cancel_instance(first)
    assert (await engine.wait_for_instance(first, LIMIT_S)).status == "Cancelled"
    await clock.advance(3600.0)
    assert (await engine.wait_for_instance(second, LIMIT_S)).status == "Success"


async def test_what_waits_in_a_pool_is_offered_again_after_a_restart(world: World) -> None:
    gauge = Gauge(hold=True)
    engine = await world.start({"body": gauge.run}, workers=20, pools=pools("io=1"), grace=0.05)
    instance = await engine.execute_workflow(many(5, "w", pool="io"))
    await eventually(lambda: gauge.now)
    await engine.stop(grace_s=0.1)
    if world.dsn.startswith("memory"):
        return
    gauge = Gauge()
    again = await world.start({"body": gauge.run}, workers=20, pools=pools("io=2"))
    assert (await again.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert gauge.most == 2


async def test_a_task_whose_pool_has_gone_fails_at_once_and_says_which(world: World) -> None:
    gauge = Gauge()
    engine = await world.start({"body": gauge.run}, workers=2, pools=pools("api=5"))
    task = TaskSpec(name="t", job="body", pool="apy", retry=None)
    instance = await engine.execute_workflow(flow(task, TaskSpec(name="u", job="body", depends_on=("t",))))
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Failed"
    assert await states(engine, instance) == {"t": "Failed", "u": "UpstreamFailed"}
    [failed, _] = await engine.get_tasks(instance)
    assert failed.error is not None
    assert failed.error.type == "UnknownPool"
    assert "unknown pool `apy`, did you mean `api`?" in failed.error.message
    assert not gauge.order
    assert (await engine.status()).running == 0


async def test_the_status_and_the_gauges_tell_of_each_pool(world: World) -> None:
    gauge = Gauge(hold=True)
    engine = await world.start({"body": gauge.run}, workers=9, pools=pools("io=2", "空=7@5/s"))
    instance = await engine.execute_workflow(many(5, "w", pool="io"))
    await eventually(lambda: gauge.now == 2)
    status = await engine.status()
    assert [(each.pool.name, each.running, each.queued) for each in status.pools] == [("io", 2, 3), ("空", 0, 0)]
    assert (status.running, status.queued) == (2, 3)
    told: dict[tuple[str, str], float] = {}

    class Told:
        def count(self, name: str, amount: int = 1, /, **labels: str) -> None: ...

        def observe(self, name: str, value: float, /, **labels: str) -> None: ...

        def gauge(self, name: str, value: float, /, **labels: str) -> None:
            if "pool" in labels:
                told[name, labels["pool"]] = value

    await refresh_gauges(engine, Told())
    assert told == {
        ("pools.slots", "io"): 2, ("pools.running", "io"): 2, ("pools.queued", "io"): 3,
        ("pools.slots", "空"): 7, ("pools.running", "空"): 0, ("pools.queued", "空"): 0,
    }  # fmt: skip
    gauge.go.set()
    await engine.wait_for_instance(instance, LIMIT_S)


async def test_the_wait_for_a_slot_is_measured_by_pool_and_priority(world: World) -> None:
    """In one place the order of an instance's offers is kept; over all of them it is not."""
    clock, gauge = world.manual(), Gauge()
    engine = await world.start({"body": gauge.run}, workers=9, pools=pools("api=9@10/m"))
    slow = [TaskSpec(name=f"s{at}", job="body", pool="api") for at in range(2)]
    free = [TaskSpec(name=f"f{at}", job="body", depends_on=("s0",)) for at in range(3)]
    instance = await engine.execute_workflow(flow(*slow, *free))
    await eventually(lambda: len(gauge.order) == 4)
    await clock.advance(6.0)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
    waits = sorted(world.metrics.observed["tasks.queue_wait_s"])
    assert len(waits) == 5
    assert waits[:4] == pytest.approx([0.0] * 4, abs=0.2)
    assert waits[4] == pytest.approx(6.0, abs=0.2)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("a b", {"slots": 1}, "the name of the pool `a b` has a space in it"),
        ("", {"slots": 1}, "the name of the pool is empty"),
        ("io", {"slots": 0}, "slots is a number of at least 1, got 0"),
        ("io", {"slots": 20_000}, "20,000 slots for the pool `io`; 1..10,000 are possible"),
        ("io", {"slots": 1, "rate": "often"}, "`often` is no rate; write it as 50/s, 600/m or 1000/h"),
        ("io", {"slots": 1, "rate": "2000000/s"}, "a rate of 2,000,000/s; 1..1,000,000 are possible"),
        ("API", {"slots": 1}, "the pools `api` and `API` have the same name"),
    ],
)
def test_a_pool_that_cannot_be_is_refused_with_the_reason(name: str, options: dict[str, Any], told: str) -> None:
    builder = EngineBuilder().with_pool("api", slots=5, rate="50/s")
    with pytest.raises(InvalidConfiguration, match=told.replace("(", r"\(").replace("..", r"\.\.")):
        builder.with_pool(name, **options)
