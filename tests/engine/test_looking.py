"""What the engine says about workflows, instances and itself, and commands that are sent twice."""

import asyncio
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, eventually, finished, flow, until_task

from taskengine.errors import Conflict, NotFound, Unavailable
from taskengine.model.definition import TaskSpec, WorkflowDefinition
from taskengine.model.ids import WorkflowId
from taskengine.model.records import TokenRow
from taskengine.model.states import InstanceState
from taskengine.store.interface import InstanceQuery


def noop_flow(name: str, title: str = "") -> WorkflowDefinition:
    return WorkflowDefinition(id=WorkflowId(name), name=title, tasks=(TaskSpec(name="t", job="noop"),))


def waiting() -> tuple[asyncio.Event, dict[str, Any]]:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    return gate, {"wait": wait}


WAIT = flow(TaskSpec(name="t", job="wait"))


async def test_registering_says_whether_anything_is_new(world: World) -> None:
    engine = await world.start()
    first = await engine.register_workflow(noop_flow("甲"))
    again = await engine.register_workflow(noop_flow("甲"))
    other = await engine.register_workflow(noop_flow("甲", "二"))
    back = await engine.register_workflow(noop_flow("甲"))
    assert [(reg.created, reg.changed) for reg in (first, again, other, back)] == [
        (True, True),
        (False, False),
        (False, True),
        (False, True),
    ]
    assert first.version == again.version == back.version != other.version


async def test_workflows_are_listed_with_their_versions(world: World) -> None:
    engine = await world.start()
    for definition in (noop_flow("乙"), noop_flow("甲"), noop_flow("甲", "二")):
        await engine.register_workflow(definition)
    listed = await engine.list_workflows()
    assert [view.definition.id for view in listed] == sorted(["甲", "乙"])
    current = await engine.get_workflow("甲")
    assert current.definition.name == "二"
    versions = await engine.get_workflow_versions("甲")
    assert [view.current for view in versions] == [True, False]
    assert versions[0].version == current.version
    for asked in (engine.get_workflow("没有"), engine.get_workflow_versions("没有"), engine.delete_workflow("没有")):
        with pytest.raises(NotFound):
            await asked


async def test_a_deleted_workflow_is_gone_and_its_instances_stay(world: World) -> None:
    engine = await world.start()
    await engine.register_workflow(noop_flow("甲"))
    instance = await engine.execute_workflow("甲")
    await engine.wait_for_instance(instance, LIMIT_S)
    await engine.delete_workflow("甲")
    with pytest.raises(NotFound):
        await engine.execute_workflow("甲")
    assert (await engine.get_instance(instance)).workflow_name == "甲"
    assert [task.status for task in await engine.get_tasks(instance)] == ["Success"]
    assert await engine.list_workflows() == []
    await finished(engine, noop_flow("甲"))  # a start with the definition at hand stores it again
    assert [view.definition.id for view in await engine.list_workflows()] == ["甲"]


async def test_a_workflow_with_unfinished_instances_is_deleted_by_force_only_and_they_go_on(world: World) -> None:
    gate, jobs = waiting()
    engine = await world.start(jobs)
    instance = await engine.execute_workflow(WAIT)
    with pytest.raises(Conflict, match="1 unfinished instance;"):
        await engine.delete_workflow("流程")
    await engine.delete_workflow("流程", force=True)
    gate.set()
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"


async def test_commands_say_whether_they_changed_anything(world: World) -> None:
    gate, jobs = waiting()
    engine = await world.start(jobs)
    instance = await engine.execute_workflow(WAIT)
    await until_task(engine, instance, "t", "Running")
    changed = [
        (await engine.resume_instance(instance)).changed,
        (await engine.pause_instance(instance)).changed,
        (await engine.pause_instance(instance)).changed,
        (await engine.pause_instance(instance, now=True)).changed,
        (await engine.resume_instance(instance)).changed,
        (await engine.cancel_instance(instance)).changed,
        (await engine.cancel_instance(instance)).changed,
    ]
    assert changed == [False, True, False, True, True, True, False]
    gate.set()


async def test_a_command_with_the_same_id_acts_once_and_has_the_same_answer(sqlite_world: World) -> None:
    gate, jobs = waiting()
    engine = await sqlite_world.start(jobs)
    instance = await engine.execute_workflow(WAIT)
    first = await engine.pause_instance(instance, command_id="按一次")
    assert first.changed
    await engine.resume_instance(instance)
    again = await engine.pause_instance(instance, command_id="按一次")
    assert (again.changed, again.status) == (True, "Running"), "the answer of then, the instance of now"
    await engine.stop()
    gate.set()
    later = await sqlite_world.start(jobs)
    await later.wait_for_instance(instance, LIMIT_S)
    assert (await later.pause_instance(instance, command_id="按一次")).changed, "also after a restart, and its end"


async def test_copies_of_a_command_that_are_sent_at_once_are_all_answered(world: World) -> None:
    _, jobs = waiting()
    engine = await world.start(jobs)
    instance = await engine.execute_workflow(WAIT)
    answers = await asyncio.wait_for(
        asyncio.gather(*(engine.cancel_instance(instance, command_id="same") for _ in range(5))), LIMIT_S
    )
    assert [answer.changed for answer in answers] == [True] * 5


async def test_the_same_id_for_two_instances_is_two_commands(world: World) -> None:
    _, jobs = waiting()
    engine = await world.start(jobs)
    one, two = [await engine.execute_workflow(WAIT) for _ in range(2)]
    answers = await asyncio.gather(*(engine.pause_instance(each, command_id="same") for each in (one, two)))
    assert [(answer.id, answer.changed, answer.status) for answer in answers] == [
        (one, True, "Paused"),
        (two, True, "Paused"),
    ]


async def test_instances_are_found_by_query_page_and_prefix(world: World) -> None:
    gate, jobs = waiting()
    engine = await world.start(jobs)
    done = [(await finished(engine, noop_flow("甲"))).id for _ in range(3)]
    open_one = await engine.execute_workflow(WAIT)
    ended = InstanceQuery(states=frozenset({InstanceState.SUCCESS}))
    assert [view.id for view in await engine.list_instances(ended, descending=False)] == done
    assert await engine.count_instances(ended) == 3
    assert await engine.count_instances() == 4
    assert await engine.find_instances(open_one[:36]) == [open_one]
    page = await engine.list_instances(ended, limit=2, descending=False)
    last = page[-1]
    after = (round(last.created_at.timestamp() * 1_000_000), last.id)
    assert [view.id for view in await engine.list_instances(ended, descending=False, after=after)] == done[2:]  # type: ignore[arg-type]
    assert [view.id for view in await engine.get_workflow_history("甲", order="asc")] == done
    gate.set()


async def test_stored_events_are_those_the_bus_told(world: World) -> None:
    engine = await world.start()
    with engine.bus.subscribe() as frames:
        view = await finished(engine, noop_flow("甲"))
        told = frames.drain()
    assert await engine.get_events(view.id) == told
    assert await engine.get_events(view.id, after=1, limit=1) == told[1:2]
    with pytest.raises(NotFound):
        await engine.get_events("没有")


async def test_the_status_counts_slots_and_what_waits_for_them(world: World) -> None:
    gate, jobs = waiting()
    engine = await world.start(jobs, workers=2)
    instance = await engine.execute_workflow(flow(*(TaskSpec(name=f"t{n}", job="wait") for n in range(5))))

    async def full() -> bool:
        status = await engine.status()
        return (status.running, status.queued) == (2, 3)

    await eventually(full)
    status = await engine.status()
    assert (status.slots, status.stalled, status.stuck) == (2, False, 0)
    assert status.actors == len(engine.actors())
    assert status.store.instances == {"Running": 1}
    gate.set()
    await engine.wait_for_instance(instance, LIMIT_S)


async def test_an_engine_is_ready_when_every_unfinished_instance_is_queued_again(sqlite_world: World) -> None:
    gate, jobs = waiting()
    first = await sqlite_world.start(jobs)
    instances = [await first.execute_workflow(WAIT) for _ in range(5)]
    await first.pause_instance(instances[0])
    await first.stop()
    assert not first.ready
    gate.set()
    second = await sqlite_world.start(jobs)
    await eventually(lambda: second.ready)
    assert sqlite_world.metrics.counted["engine.recovered"] == 5
    for instance in instances[1:]:
        await second.wait_for_instance(instance, LIMIT_S)
    await second.stop()
    assert not second.ready


async def test_other_rows_are_committed_when_save_returns(world: World) -> None:
    engine = await world.start()
    row = TokenRow(id="t1", name="运维", scope="read", digest="0" * 64, created_us=1)  # type: ignore[arg-type]
    await engine.save(row)
    assert await engine.store.tokens() == [row]
    await engine.stop()
    with pytest.raises(Unavailable):
        await engine.save(row)


async def test_what_happens_is_counted(world: World) -> None:
    async def bad() -> None:
        raise ValueError("no")

    engine = await world.start({"bad": bad})
    await finished(engine, flow(TaskSpec(name="一", job="noop"), TaskSpec(name="二", job="bad")))
    counted, observed = world.metrics.counted, world.metrics.observed
    assert counted["instances.started"] == 1
    assert counted["instances.ended{status=Failed}"] == 1
    assert counted["tasks.ended{job=noop,status=Success}"] == 1
    assert counted["tasks.ended{job=bad,status=Failed}"] == 1
    assert (counted["tasks.attempts{outcome=ok}"], counted["tasks.attempts{outcome=fail}"]) == (1, 1)
    assert [len(observed[f"tasks.duration_s{{job={job}}}"]) for job in ("noop", "bad")] == [1, 1]
    assert len(observed["tasks.queue_wait_s"]) == 2
    assert len(observed["instances.duration_s{status=Failed}"]) == 1
