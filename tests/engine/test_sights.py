"""What is answered from memory is what the store says, whatever happens around it."""

import asyncio
import random
from typing import Any

import msgspec
import pytest
from engine.worlds import LIMIT_S, World, eventually, finished, flow, until_task

from taskengine.ambient import Ambient
from taskengine.clock import SystemClock
from taskengine.engine import instance as instance_module
from taskengine.engine.blueprint import Blueprints
from taskengine.engine.directory import Directory
from taskengine.engine.engine import Engine
from taskengine.engine.reading import Reading
from taskengine.engine.views import InstanceView
from taskengine.errors import Conflict, NotFound
from taskengine.model.definition import TaskSpec
from taskengine.model.ids import InstanceId, WorkflowId
from taskengine.model.messages import Settled
from taskengine.model.states import INSTANCE_FINAL
from taskengine.store.artifacts import MemoryArtifacts
from taskengine.store.opening import open_store

OPERATIONS = 80


def timeless(view: InstanceView) -> InstanceView:
    """Without how long it has been running until now."""
    return view if view.status in INSTANCE_FINAL else msgspec.structs.replace(view, duration_s=None)


class Stored:
    """The same questions to the store alone."""

    def __init__(self, engine: Engine) -> None:
        self._reading = Reading(engine.store, engine._artifacts, Blueprints(), SystemClock())

    async def said(self, instance_id: str) -> tuple[InstanceView, Any]:
        known = InstanceId(instance_id)
        return timeless(await self._reading.instance(known)), await self._reading.result(known)


async def agrees(engine: Engine, instance_id: str) -> None:
    """The engine says what the store says; a commit of this very moment may take a few turns to be told."""
    stored = Stored(engine)

    async def same() -> bool:
        before = await stored.said(instance_id)
        told = timeless(await engine.get_instance(instance_id)), await engine.result(instance_id)
        return told == before

    await eventually(same, f"memory and store tell different things of {instance_id}")


class Chaos:
    """Random commands to a few instances, with looks at them all the time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.gate = asyncio.Event()
        self.ids: list[str] = []

    def jobs(self) -> dict[str, Any]:
        async def work() -> int:
            await asyncio.sleep(0)
            if self.random.random() < 0.4:
                raise ValueError("as the dice fell")
            return self.random.randrange(1000)

        async def wait() -> str:
            await self.gate.wait()
            return "开"

        return {"work": work, "wait": wait}

    async def step(self, engine: Engine) -> None:
        kind = self.random.choice(["start", "pause", "resume", "cancel", "retry", "retry", "gate", "look", "look"])
        if kind == "start" or not self.ids:
            first = self.random.choice(["work", "work", "wait"])
            tasks = (TaskSpec(name="甲", job=first), TaskSpec(name="乙", job="work", depends_on=("甲",)))
            self.ids.append(await engine.execute_workflow(flow(*tasks, name=f"w-{first}")))
        elif kind == "gate":
            self.gate.set() if self.random.random() < 0.7 else self.gate.clear()
        elif kind == "look":
            await asyncio.sleep(0)
        else:
            await self._command(engine, kind, self.random.choice(self.ids[-3:]))

    async def _command(self, engine: Engine, kind: str, instance: str) -> None:
        try:
            told = await getattr(engine, f"{kind}_instance")(instance)
        except Conflict:
            return
        seen = await engine.get_instance(instance)
        assert seen.run >= told.run, "who was told of a run sees it"

    async def look(self, engine: Engine, until: asyncio.Event) -> None:
        """Readings that are under way while commits come in; what they find must not stay."""
        while not until.is_set():
            for instance in self.ids[-3:]:
                await engine.get_instance(instance)
                await engine.result(instance)
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_asked_in_between_memory_and_store_agree(world: World, seed: int) -> None:
    chaos = Chaos(seed)
    engine = await world.start(chaos.jobs())
    over = asyncio.Event()
    lookers = [asyncio.create_task(chaos.look(engine, over)) for _ in range(3)]
    for n in range(OPERATIONS):
        await chaos.step(engine)
        if n % 8 == 7:
            for instance in chaos.ids[-3:]:
                await agrees(engine, instance)
    chaos.gate.set()
    over.set()
    await asyncio.gather(*lookers)
    for instance in chaos.ids:
        await agrees(engine, instance)


async def test_who_hears_of_a_commit_sees_it(world: World) -> None:
    async def work() -> int:
        return 1

    engine = await world.start({"work": work})
    for _ in range(20):
        told = await finished(engine, flow(TaskSpec(name="t", job="work")))
        assert (await engine.get_instance(told.id)).status == "Success"
        assert await engine.result(told.id) == {"t": 1}


async def test_a_look_at_what_has_lately_ended_or_is_in_memory_asks_no_store(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()

    async def wait() -> str:
        await gate.wait()
        return "好"

    engine = await world.start({"wait": wait})
    workflow = flow(TaskSpec(name="t", job="wait"))
    instance = await engine.execute_workflow(workflow)

    async def never(*_: object, **__: object) -> None:
        raise AssertionError("the store was asked")

    for verb in ("instance", "sight", "last_event", "last_events", "results", "definition", "current"):
        monkeypatch.setattr(engine.store, verb, never)
    assert (await engine.get_instance(instance)).status == "Running"
    gate.set()
    await engine.wait_for_instance(instance, LIMIT_S)
    assert (await engine.get_instance(instance)).status == "Success"
    assert await engine.result(instance) == {"t": "好"}


async def test_after_a_restart_the_store_is_asked_once(sqlite_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> int:
        return 7

    first = await sqlite_world.start({"work": work})
    instance = (await finished(first, flow(TaskSpec(name="t", job="work")))).id
    await first.stop()
    engine = await sqlite_world.start({"work": work})
    asked: list[str] = []
    sight = engine.store.sight

    async def counted(instance_id: Any, wanted: Any) -> Any:
        asked.append(instance_id)
        return await sight(instance_id, wanted)

    monkeypatch.setattr(engine.store, "sight", counted)
    await engine.get_instance(instance)  # its definition is not known yet
    for _ in range(3):
        assert (await engine.get_instance(instance)).status == "Success"
        assert await engine.result(instance) == {"t": 7}
    assert len(asked) <= 2


async def test_a_definition_that_becomes_known_while_the_store_looks_does_not_hide_the_results(
    sqlite_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> int:
        return 7

    workflow = flow(TaskSpec(name="t", job="work"))
    first = await sqlite_world.start({"work": work})
    instance = (await finished(first, workflow)).id
    await first.stop()
    engine = await sqlite_world.start({"work": work})
    sight = engine.store.sight

    async def answered_late(instance_id: Any, wanted: Any) -> Any:
        found = await sight(instance_id, wanted)
        await engine.register_workflow(workflow)
        return found

    monkeypatch.setattr(engine.store, "sight", answered_late)
    assert (await engine.get_instance(instance)).status == "Success"
    assert await engine.result(instance) == {"t": 7}


async def test_of_an_instance_whose_actor_has_failed_nothing_old_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide, failures = instance_module.decide, [1, 2]

    def broken(plan: Any, message: Any, now_us: Any) -> None:
        if isinstance(message, Settled) and message.ordinal == 1 and failures:
            failures.pop()
            raise ZeroDivisionError("a bug of ours")
        decide(plan, message, now_us)

    monkeypatch.setattr(instance_module, "decide", broken)

    async def work() -> int:
        return 1

    engine = await world.start({"work": work})
    tasks = (TaskSpec(name="a", job="work"), TaskSpec(name="b", job="work", depends_on=("a",)))
    instance = await engine.execute_workflow(flow(*tasks))
    while (await engine.get_instance(instance)).status != "Success":
        await agrees(engine, instance)
        await asyncio.sleep(0)
    assert not failures
    await agrees(engine, instance)


async def test_an_engine_that_only_reads_sees_what_another_process_writes(sqlite_world: World) -> None:
    fail = [True]

    async def work() -> int:
        if fail:
            raise ValueError("not yet")
        return 1

    engine = await sqlite_world.start({"work": work})
    instance = (await finished(engine, flow(TaskSpec(name="t", job="work")))).id
    store = open_store(sqlite_world.dsn, Ambient(), read_only=True)
    await store.open()
    try:
        reading = Reading(store, MemoryArtifacts(SystemClock()), Blueprints(), SystemClock(), Directory())
        for _ in range(2):
            assert (await reading.instance(instance)).status == "Failed"
        fail.clear()
        await engine.retry_instance(instance)
        await engine.wait_for_instance(instance, LIMIT_S)
        assert (await reading.instance(instance)).status == "Success"
    finally:
        await store.close()


async def test_a_start_by_id_takes_the_version_that_is_current_at_every_moment(world: World) -> None:
    engine = await world.start()

    def version(n: int) -> Any:
        return flow(TaskSpec(name="t", job="noop"), description=str(n))

    for n in range(20):
        saved = asyncio.create_task(engine.register_workflow(version(n)))
        if n:  # a start while the change is on its way takes one or the other, and does not remember the old one
            await asyncio.gather(*(engine.execute_workflow("流程") for _ in range(3)))
        told = await saved
        instance = await engine.execute_workflow("流程")
        assert (await engine.get_instance(instance)).version == told.version
    removed = asyncio.create_task(engine.delete_workflow("流程", force=True))
    await asyncio.gather(*(engine.execute_workflow("流程") for _ in range(3)), return_exceptions=True)
    await removed
    for _ in range(2):
        with pytest.raises(NotFound):
            await engine.execute_workflow("流程")


async def test_a_change_whose_caller_has_gone_counts_all_the_same(world: World) -> None:
    engine = await world.start()
    await engine.register_workflow(flow(TaskSpec(name="t", job="noop")))
    await engine.execute_workflow("流程")
    other = flow(TaskSpec(name="t", job="noop"), description="新")
    gone = asyncio.create_task(engine.register_workflow(other))
    for _ in range(3):
        await asyncio.sleep(0)
        await engine.execute_workflow("流程")
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)

    async def current() -> bool:
        stored = await engine.store.current(WorkflowId("流程"))
        started = await engine.get_instance(await engine.execute_workflow("流程"))
        assert stored is not None
        return started.version == stored.version

    await eventually(current)


async def test_a_key_that_is_taken_is_an_answer_and_no_fault_in_the_log(world: World) -> None:
    engine = await world.start()
    workflow = flow(TaskSpec(name="t", job="noop"))
    ids = await asyncio.gather(*(engine.execute_workflow(workflow, idempotency_key="一次") for _ in range(64)))
    assert len(set(ids)) == 1
    await engine.wait_for_instance(ids[0], LIMIT_S)
    assert world.log.lines == []
    assert world.metrics.counted["instances.rebuilt"] == 0
    await eventually(
        lambda: [info.actor_class for info in engine.actors() if info.actor_class == "InstanceActor"] == []
    )


async def test_tasks_come_by_the_page_with_what_they_wait_for(world: World) -> None:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    engine = await world.start({"wait": wait})
    names = [f"任务{n}" for n in range(7)]
    tasks = (
        TaskSpec(name=names[0], job="noop"),
        TaskSpec(name=names[1], job="wait"),
        *(TaskSpec(name=name, job="noop", depends_on=(names[0], names[1])) for name in names[2:]),
    )
    instance = await engine.execute_workflow(flow(*tasks))
    await until_task(engine, instance, names[0], "Success")
    await until_task(engine, instance, names[1], "Running")
    whole = await engine.get_tasks(instance)
    assert [task.name for task in whole] == names
    assert whole[4].waits_for == (names[1],)
    pages = [await engine.get_tasks(instance, after=after, limit=3) for after in (-1, 2, 5, 6, 99)]
    assert [task for page in pages for task in page] == whole
    assert [len(page) for page in pages] == [3, 3, 1, 0, 0]
    assert [await engine.get_task(instance, name) for name in names] == whole
    assert await engine.open_tasks(instance) == ([names[1]], names[2:])
    assert await engine.open_tasks(instance, limit=2) == ([names[1]], names[2:4])
    with pytest.raises(NotFound, match="任务9"):
        await engine.get_task(instance, "任务9")
    for asked in (engine.get_task("没有", "t"), engine.get_tasks("没有", limit=1), engine.open_tasks("没有")):
        with pytest.raises(NotFound, match="没有"):
            await asked
    gate.set()
    await engine.wait_for_instance(instance, LIMIT_S)
    assert await engine.open_tasks(instance) == ([], [])
