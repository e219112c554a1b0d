"""When something of ours breaks, a commit or an actor: nothing is half done and everybody is answered."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, eventually, finished, flow, states, until_task

from taskengine.engine import instance as instance_module
from taskengine.engine.engine import Engine
from taskengine.errors import BatchRefused, CommitFailed, Conflict
from taskengine.model.definition import TaskSpec
from taskengine.model.messages import Pause, Settled
from taskengine.store.batch import Batch
from taskengine.store.memory import MemoryStore
from taskengine.store.sqlite import SqliteStore


async def noted() -> str:
    return "好"


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Batch], bool]], list[int]]:
    """The store refuses every batch of which the test says so; gives the list of refusals."""

    def arm(bad: Callable[[Batch], bool]) -> list[int]:
        refused: list[int] = []
        for store in (MemoryStore, SqliteStore):
            commit = store.commit

            async def picky(self: Any, batch: Batch, commit: Any = commit) -> None:
                if bad(batch):
                    refused.append(batch.number)
                    raise BatchRefused("tasks", "unfit", "as the test wants it")
                await commit(self, batch)

            monkeypatch.setattr(store, "commit", picky)
        return refused

    return arm


@pytest.fixture
def break_decide(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], bool]], None]:
    """The planner raises for every message of which the test says so."""

    def arm(bad: Callable[[Any], bool]) -> None:
        decide = instance_module.decide

        def broken(plan: Any, message: Any, now_us: Any) -> None:
            if bad(message):
                raise ZeroDivisionError("a bug of ours")
            decide(plan, message, now_us)

        monkeypatch.setattr(instance_module, "decide", broken)

    return arm


def gated() -> tuple[Callable[[], Any], asyncio.Event]:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    return wait, gate


async def test_a_start_that_is_not_saved_is_told_and_leaves_nothing(world: World, refuse: Any) -> None:
    engine = await world.start({"noted": noted})
    refuse(lambda batch: any(it.expect is None and it.row.workflow_id == "bad" for it in batch.instances))
    with pytest.raises(CommitFailed):
        await engine.execute_workflow(flow(TaskSpec(name="t", job="noted"), name="bad"))
    assert await engine.list_instances() == []
    assert (await finished(engine, flow(TaskSpec(name="t", job="noted")))).status == "Success"


async def test_a_command_that_is_not_saved_is_told_and_has_no_effect(world: World, refuse: Any) -> None:
    wait, gate = gated()
    engine = await world.start({"wait": wait})
    instance = await engine.execute_workflow(flow(TaskSpec(name="t", job="wait")))
    await until_task(engine, instance, "t", "Running", "Ready")
    once = [True]
    refuse(lambda batch: bool(batch.commands) and bool(once) and once.pop())
    with pytest.raises(CommitFailed):
        await asyncio.wait_for(engine.pause_instance(instance), LIMIT_S)
    assert (await engine.get_instance(instance)).status == "Running"
    gate.set()
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"


async def test_a_refused_outcome_does_not_disturb_the_neighbours(world: World, refuse: Any) -> None:
    engine = await world.start({"noted": noted})
    task = TaskSpec(name="t", job="noted")
    bad: list[str] = []
    refused = refuse(
        lambda batch: len(refused) < 4 and any(owner in bad and it.row.result for owner, it in batch.tasks)
    )
    refused = refused
    bad.append(await engine.execute_workflow(flow(task, name="bad")))
    good = [await engine.execute_workflow(flow(task)) for _ in range(5)]
    for instance in [*good, *bad]:
        assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"


async def test_an_actor_that_fails_is_built_anew_from_the_store(world: World, break_decide: Any) -> None:
    engine = await world.start({"noted": noted})
    failures = [1, 2, 3]
    break_decide(lambda message: isinstance(message, Settled) and bool(failures) and bool(failures.pop()))
    view = await finished(engine, flow(TaskSpec(name="a", job="noted"), TaskSpec(name="b", job="noted")))
    assert view.status == "Success"
    assert world.metrics.counted["instances.rebuilt"] == 3
    assert world.log.events("error") == ["actor.failed"] * 3


async def test_an_actor_that_fails_too_often_is_quarantined_and_the_others_go_on(
    world: World, break_decide: Any
) -> None:
    engine = await world.start({"noted": noted})
    break_decide(lambda message: isinstance(message, Settled) and message.ordinal == 1)
    bad = await engine.execute_workflow(flow(TaskSpec(name="a", job="noted"), TaskSpec(name="b", job="noted")))
    view = await engine.wait_until_resting(bad, LIMIT_S)
    assert view.status == "Quarantined"
    assert (await finished(engine, flow(TaskSpec(name="t", job="noted")))).status == "Success"


async def test_an_actor_that_cannot_even_be_built_is_left_alone(world: World, break_decide: Any) -> None:
    wait, _ = gated()
    engine = await world.start({"noted": noted, "wait": wait})
    bad = await engine.execute_workflow(flow(TaskSpec(name="t", job="wait")))
    await until_task(engine, bad, "t", "Ready", "Running")
    broken = [True]
    break_decide(lambda message: type(message).__name__ in ("Pause", "Recovered", "Quarantine") and bool(broken))
    with pytest.raises(CommitFailed):
        await asyncio.wait_for(engine.pause_instance(bad), LIMIT_S)
    await eventually(lambda: "instance.given_up" in world.log.events("error"))
    assert (await finished(engine, flow(TaskSpec(name="t", job="noted")))).status == "Success"
    with pytest.raises(CommitFailed):
        await asyncio.wait_for(engine.pause_instance(bad), LIMIT_S)


async def test_a_command_in_the_mailbox_of_a_failing_actor_is_answered(world: World, break_decide: Any) -> None:
    wait, gate = gated()
    engine = await world.start({"wait": wait})
    instance = await engine.execute_workflow(flow(TaskSpec(name="t", job="wait")))
    await until_task(engine, instance, "t", "Ready", "Running")
    once = [True]
    break_decide(lambda message: isinstance(message, Pause) and bool(once) and once.pop())
    answers = await asyncio.wait_for(
        asyncio.gather(
            engine.pause_instance(instance),
            engine.cancel_instance(instance, "one"),
            engine.resume_instance(instance),
            return_exceptions=True,
        ),
        LIMIT_S,
    )
    assert isinstance(answers[0], CommitFailed)
    assert all(isinstance(answer, CommitFailed) or hasattr(answer, "status") for answer in answers)
    gate.set()
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status in ("Success", "Cancelled")


async def test_the_id_of_a_living_instance_cannot_be_taken(world: World) -> None:
    wait, gate = gated()
    engine = await world.start({"wait": wait})
    workflow = flow(TaskSpec(name="t", job="wait"))
    first = await engine.execute_workflow(workflow, instance_id="我的")
    await until_task(engine, first, "t", "Ready", "Running")
    with pytest.raises(Conflict):
        await engine.execute_workflow(workflow, instance_id="我的")
    gate.set()
    assert (await engine.wait_for_instance(first, LIMIT_S)).status == "Success"
    with pytest.raises(Conflict):
        await engine.execute_workflow(workflow, instance_id="我的")
    assert (await engine.get_instance(first)).status == "Success"


async def test_a_bug_before_the_body_fails_the_attempt_and_gives_the_slot_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await world.start({"noted": noted}, workers=1)
    get, once = engine.registry.get, [True]

    def broken(name: str) -> Any:
        if once and once.pop():
            raise ZeroDivisionError("a bug of ours")
        return get(name)

    monkeypatch.setattr(engine.registry, "get", broken)
    both = flow(TaskSpec(name="a", job="noted", continue_on_failure=True), TaskSpec(name="b", job="noted"))
    assert (await finished(engine, both)).status == "Success"
    assert sorted((await states(engine, (await _only(engine)).id)).values()) == ["Failed", "Success"]


async def _only(engine: Engine) -> Any:
    (view,) = await engine.list_instances()
    return view
