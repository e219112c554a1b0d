"""An instance that fails undoes what it has done: in reverse, one after the other, whatever happens meanwhile."""

import asyncio
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, eventually, finished, flow, states

from taskengine import TaskContext
from taskengine.clock import Micros
from taskengine.errors import Conflict
from taskengine.model.definition import Compensation, RetryPolicy, TaskSpec

AT_ONCE = RetryPolicy(count=2, interval_us=Micros(0))


class Shop:
    """Jobs with an effect each, in the order in which they had it."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.fails: dict[str, int] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def jobs(self) -> dict[str, Any]:
        return {"act": self.act, "undo": self.undo, "ship": self.ship, "undo_any": self.undo_any}

    async def act(self, what: str) -> dict[str, str]:
        self.did.append(f"+{what}")
        return {"id": f"#{what}"}

    async def undo(self, what: str, result: dict[str, str] | None, error: str) -> None:
        await self.gate.wait()
        if self.fails.get(what, 0) > 0:
            self.fails[what] -= 1
            raise ValueError(f"{what} 不能退")
        assert result == {"id": f"#{what}"}
        assert "ship" in error or "走" in error
        self.did.append(f"-{what}")

    async def undo_any(self, ctx: TaskContext) -> None:
        self.did.append(f"-{ctx.params.get('what')} {ctx.params.get('result')['id']} {ctx.idempotency_key[-2:]}")

    async def ship(self) -> None:
        raise ValueError("没有车")


def buying(*, retry: RetryPolicy | None = None, undo: str = "undo") -> Any:
    names = ("订单", "库存", "付款")
    tasks = [
        TaskSpec(
            name=name,
            job="act",
            params={"what": name},
            depends_on=names[at - 1 : at] if at else (),
            compensation=Compensation(job=undo, retry=retry),
        )
        for at, name in enumerate(names)
    ]
    return flow(*tasks, TaskSpec(name="ship", job="ship", depends_on=("付款",)))


async def test_what_was_done_is_undone_in_reverse(world: World) -> None:
    shop = Shop()
    engine = await world.start(shop.jobs)
    done = await finished(engine, buying())
    assert done.status == "Compensated"
    assert shop.did == ["+订单", "+库存", "+付款", "-付款", "-库存", "-订单"]
    assert done.progress.compensation == 3
    assert done.progress.failed == 1
    assert await states(engine, done.id) == {
        "订单": "Compensated",
        "库存": "Compensated",
        "付款": "Compensated",
        "ship": "Failed",
    }
    assert "没有车" in done.error
    attempts = await engine.get_attempts(done.id, task="付款")
    assert [(each.attempt, each.outcome.value) for each in attempts] == [(1, "ok")]


async def test_a_compensation_may_read_everything_through_its_context(world: World) -> None:
    shop = Shop()
    engine = await world.start(shop.jobs)
    done = await finished(engine, buying(undo="undo_any"))
    assert done.status == "Compensated"
    assert shop.did[3:] == ["-付款 #付款 付款", "-库存 #库存 库存", "-订单 #订单 订单"]


async def test_a_compensation_is_tried_again(world: World) -> None:
    shop = Shop()
    shop.fails = {"库存": 2}
    engine = await world.start(shop.jobs)
    done = await finished(engine, buying(retry=AT_ONCE))
    assert done.status == "Compensated"
    assert shop.did[3:] == ["-付款", "-库存", "-订单"]


async def test_one_that_fails_for_good_stops_nothing_and_is_repaired(world: World) -> None:
    shop = Shop()
    shop.fails = {"库存": 4}
    engine = await world.start(shop.jobs)
    done = await finished(engine, buying(retry=AT_ONCE))
    assert (done.status, shop.did[3:]) == ("CompensationFailed", ["-付款", "-订单"])
    assert "not undone: '库存'" in done.error
    task = await engine.get_task(done.id, "库存")
    assert task.error is not None
    assert (task.status, task.error.message) == ("CompensationFailed", "库存 不能退")
    for word in ("from_task", "only_task"):
        with pytest.raises(Conflict, match="has been undone"):
            await engine.retry_instance(done.id, **{word: "订单"})
    await engine.retry_instance(done.id)
    again = await engine.wait_for_instance(done.id, LIMIT_S)
    assert (again.status, shop.did[3:], again.run) == ("Compensated", ["-付款", "-订单", "-库存"], 2)
    assert "not undone" not in again.error


async def test_after_it_was_undone_a_retry_does_it_all_again(world: World) -> None:
    shop = Shop()
    engine = await world.start(shop.jobs)
    done = await finished(engine, buying())
    await engine.retry_instance(done.id)
    again = await engine.wait_for_instance(done.id, LIMIT_S)
    assert (again.status, again.run) == ("Compensated", 2)
    assert shop.did == ["+订单", "+库存", "+付款", "-付款", "-库存", "-订单"] * 2


@pytest.mark.parametrize("compensate", [True, False])
async def test_a_cancel_undoes_what_was_done_if_that_is_asked_for(world: World, compensate: bool) -> None:
    shop = Shop()
    waits = asyncio.Event()

    async def hold() -> None:
        await waits.wait()

    engine = await world.start({**shop.jobs, "hold": hold})
    first = TaskSpec(name="甲", job="act", params={"what": "甲"}, compensation=Compensation(job="undo"))
    instance = await engine.execute_workflow(flow(first, TaskSpec(name="乙", job="hold", depends_on=("甲",))))
    await eventually(lambda: shop.did)
    await engine.cancel_instance(instance, "走了", compensate=compensate)
    done = await engine.wait_for_instance(instance, LIMIT_S)
    assert (done.status, shop.did) == (("Compensated", ["+甲", "-甲"]) if compensate else ("Cancelled", ["+甲"]))


async def test_with_nothing_to_undo_it_is_what_it_was(world: World) -> None:
    shop = Shop()
    engine = await world.start(shop.jobs)
    undo = Compensation(job="undo")
    done = await finished(engine, flow(TaskSpec(name="ship", job="ship", compensation=undo)))
    assert (done.status, shop.did) == ("Failed", [])


async def test_while_it_undoes_it_takes_no_other_command(world: World) -> None:
    shop = Shop()
    shop.gate.clear()
    engine = await world.start(shop.jobs)
    instance = await engine.execute_workflow(buying())
    await eventually(lambda: _is(engine, instance, "Compensating"))
    for command in (engine.pause_instance, engine.cancel_instance, engine.retry_instance):
        with pytest.raises(Conflict, match="Compensating"):
            await command(instance)
    shop.gate.set()
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Compensated"


async def _is(engine: Any, instance: Any, status: str) -> bool:
    return (await engine.get_instance(instance)).status == status


async def test_items_are_undone_before_and_their_parent_is_not(world: World) -> None:
    shop = Shop()
    engine = await world.start(shop.jobs)
    undo = Compensation(job="undo")
    fan = TaskSpec(name="扇", job="act", for_each=["a", "b"], params={"what": "${{ item }}"}, compensation=undo)
    done = await finished(engine, flow(fan, TaskSpec(name="ship", job="ship", depends_on=("扇",))))
    assert done.status == "Compensated"
    assert sorted(shop.did[:2]) == ["+a", "+b"]
    assert [each[1:] for each in shop.did[2:]] == [each[1:] for each in reversed(shop.did[:2])]
    assert (await states(engine, done.id))["扇"] == "Success"


async def test_sub_tasks_are_undone_before_their_parent(world: World) -> None:
    shop = Shop()

    async def parent(ctx: TaskContext, what: str) -> dict[str, str]:
        undo = {"job": "undo", "retry": 1}
        await ctx.add_sub_tasks(
            [{"name": n, "job": "act", "params": {"what": n}, "compensation": undo} for n in ("a", "b")]
        )
        return await shop.act(what)

    engine = await world.start({**shop.jobs, "parent": parent})
    first = TaskSpec(name="父", job="parent", params={"what": "父"}, compensation=Compensation(job="undo"))
    done = await finished(engine, flow(first, TaskSpec(name="ship", job="ship", depends_on=("父",))))
    assert done.status == "Compensated"
    assert shop.did[0] == "+父"
    assert shop.did[-1] == "-父"
    assert sorted(shop.did[3:5]) == ["-a", "-b"]


async def test_a_later_engine_goes_on_with_the_undoing(sqlite_world: World) -> None:
    """Stopped between the first compensation and the second: nothing is undone twice, nothing is forgotten."""
    shop = Shop()
    held = asyncio.Event()

    async def undo(what: str, result: Any, error: str) -> None:
        if what == "库存" and not held.is_set():
            held.set()
            await asyncio.Event().wait()
        await shop.undo(what, result, error)

    jobs = {**shop.jobs, "undo": undo}
    first = await sqlite_world.start(jobs)
    instance = await first.execute_workflow(buying())
    await held.wait()
    await first.stop(grace_s=0)
    second = await sqlite_world.start(jobs)
    done = await second.wait_for_instance(instance, LIMIT_S)
    assert (done.status, shop.did[3:]) == ("Compensated", ["-付款", "-库存", "-订单"])
