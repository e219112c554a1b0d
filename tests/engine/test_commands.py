"""Pause, resume, cancel, retry through the facade: what they do, and when they are refused."""

import asyncio
from typing import Any

import pytest
from engine.worlds import LIMIT_S, World, eventually, finished, flow, in_time, states, until_task

from taskengine.clock import Micros
from taskengine.errors import Conflict, NotFound
from taskengine.model.definition import OnFailure, RetryPolicy, TaskSpec


class Gate:
    """A body that waits until it is let go, and counts how often it was entered and thrown out."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.entered = self.thrown_out = 0

    async def run(self) -> str:
        self.entered += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.thrown_out += 1
            raise
        return "过"


async def quick() -> str:
    return "好"


def two() -> Any:
    return flow(TaskSpec(name="a", job="gate"), TaskSpec(name="b", job="quick", depends_on=("a",)))


async def begun(world: World, workflow: Any = None) -> tuple[Any, str, Gate]:
    gate = Gate()
    engine = await world.start({"gate": gate.run, "quick": quick}, grace=0.5)
    instance = await engine.execute_workflow(workflow or two())
    await eventually(lambda: gate.entered)
    return engine, instance, gate


async def test_a_pause_lets_what_runs_end_and_starts_nothing(world: World) -> None:
    engine, instance, gate = await begun(world)
    assert (await engine.pause_instance(instance)).status == "Paused"
    gate.open.set()
    await until_task(engine, instance, "a", "Success")
    assert await states(engine, instance) == {"a": "Success", "b": "Pending"}
    assert (await engine.pause_instance(instance)).status == "Paused", "asking for what holds already is fine"
    await engine.resume_instance(instance)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"


async def test_a_pause_now_interrupts_and_the_attempt_does_not_count(world: World) -> None:
    engine, instance, gate = await begun(world)
    await engine.pause_instance(instance, now=True)
    await eventually(lambda: gate.thrown_out)
    gate.open.set()
    await engine.resume_instance(instance)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
    (attempt,) = await engine.get_attempts(instance)
    assert (attempt.task, attempt.outcome.value, gate.entered) == ("a", "interrupted", 2)


async def test_a_cancel_ends_bodies_and_everything_else(world: World) -> None:
    engine, instance, gate = await begun(world)
    await engine.cancel_instance(instance, "不要了")
    view = await engine.wait_for_instance(instance, LIMIT_S)
    assert (view.status, view.error) == ("Cancelled", "不要了")
    assert gate.thrown_out == 1
    assert set((await states(engine, instance)).values()) == {"Cancelled"}
    assert (await engine.cancel_instance(instance)).status == "Cancelled"


async def test_an_outcome_that_beats_the_cancel_is_recorded_as_it_was(world: World) -> None:
    gate = asyncio.Event()

    async def stubborn() -> str:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            return "done anyway"
        return "unreached"

    engine = await world.start({"stubborn": stubborn, "quick": quick})
    instance = await engine.execute_workflow(
        flow(TaskSpec(name="a", job="stubborn"), TaskSpec(name="b", job="quick", depends_on=("a",)))
    )
    await until_task(engine, instance, "a", "Running", "Ready")
    await engine.cancel_instance(instance)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Cancelled"
    assert (await states(engine, instance))["b"] == "Cancelled"


async def test_a_retry_keeps_every_success_and_opens_a_new_run(world: World) -> None:
    calls: list[str] = []
    broken = [True]

    async def good() -> None:
        calls.append("good")

    async def sometimes() -> None:
        calls.append("sometimes")
        if broken:
            raise ValueError("坏")

    engine = await world.start({"good": good, "sometimes": sometimes, "quick": quick})
    workflow = flow(
        TaskSpec(name="a", job="good"),
        TaskSpec(name="b", job="sometimes", depends_on=("a",)),
        TaskSpec(name="c", job="quick", depends_on=("b",)),
    )
    view = await finished(engine, workflow)
    assert view.status == "Failed"
    assert await states(engine, view.id) == {"a": "Success", "b": "Failed", "c": "UpstreamFailed"}
    broken.clear()
    assert (await engine.retry_instance(view.id)).run == 2
    again = await engine.wait_for_instance(view.id, LIMIT_S)
    assert (again.status, again.run) == ("Success", 2)
    assert calls == ["good", "sometimes", "sometimes"]
    assert [(attempt.task, attempt.run) for attempt in await engine.get_attempts(view.id)] == [("b", 1)]


async def test_a_retry_from_a_task_runs_it_and_all_below_again(world: World) -> None:
    calls: list[str] = []

    async def note(name: str) -> int:
        calls.append(name)
        return len(calls)

    def task(name: str, *needs: str) -> TaskSpec:
        return TaskSpec(name=name, job="note", params={"name": name}, depends_on=needs)

    engine = await world.start({"note": note})
    view = await finished(engine, flow(task("a"), task("b", "a"), task("c", "b"), task("d", "a")))
    calls.clear()
    await engine.retry_instance(view.id, from_task="b")
    assert (await engine.wait_for_instance(view.id, LIMIT_S)).status == "Success"
    assert calls == ["b", "c"]
    calls.clear()
    await engine.retry_instance(view.id, only_task="d")
    assert (await engine.wait_for_instance(view.id, LIMIT_S)).run == 3
    assert calls == ["d"]


async def test_what_a_state_does_not_allow_is_a_conflict(world: World) -> None:
    engine, instance, gate = await begun(world)
    with pytest.raises(Conflict):
        await engine.retry_instance(instance)
    gate.open.set()
    await engine.wait_for_instance(instance, LIMIT_S)
    for refused in (
        engine.pause_instance(instance),
        engine.resume_instance(instance),
        engine.cancel_instance(instance),
        engine.retry_instance(instance),
        engine.retry_instance(instance, from_task="没有"),
        engine.retry_instance(instance, from_task="a", only_task="b"),
    ):
        with pytest.raises(Conflict):
            await refused
    with pytest.raises(NotFound):
        await engine.pause_instance("没有")
    assert (await engine.get_instance(instance)).status == "Success"


async def test_commands_that_come_at_once_are_answered_in_an_order_that_explains_them(world: World) -> None:
    engine, instance, gate = await begun(world)
    answers = await asyncio.gather(
        *(engine.pause_instance(instance) for _ in range(5)),
        *(engine.resume_instance(instance) for _ in range(5)),
        return_exceptions=True,
    )
    assert all(hasattr(answer, "status") for answer in answers), answers
    gate.open.set()
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"
    assert gate.entered == 1


async def test_the_workflow_timeout_stands_still_in_a_pause(world: World) -> None:
    clock = world.manual()
    engine, instance, gate = await begun(world, flow(TaskSpec(name="a", job="gate"), timeout_us=Micros(10_000_000)))
    await clock.advance(6)
    await engine.pause_instance(instance)
    await clock.advance(100)
    assert (await engine.get_instance(instance)).status == "Paused"
    await engine.resume_instance(instance)
    await clock.advance(3)
    assert (await engine.get_instance(instance)).status == "Running"
    await clock.advance(2)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "TimedOut"
    assert gate.thrown_out == 1


async def test_a_retry_delay_that_is_over_in_a_pause_waits_for_the_resume(world: World) -> None:
    clock, calls = world.manual(), []

    async def fails_once() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("坏")

    engine = await world.start({"fails_once": fails_once})
    policy = RetryPolicy(count=1, interval_us=Micros(5_000_000))
    instance = await engine.execute_workflow(flow(TaskSpec(name="t", job="fails_once", retry=policy)))
    await until_task(engine, instance, "t", "Retrying")
    await engine.pause_instance(instance)
    await clock.advance(60)
    assert len(calls) == 1
    await engine.resume_instance(instance)
    await in_time(clock, lambda: len(calls) == 2)
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Success"


async def test_commands_are_answered_alike_after_a_restart(sqlite_world: World) -> None:
    engine, instance, gate = await begun(sqlite_world)
    await engine.pause_instance(instance)
    gate.open.set()
    await engine.stop()
    again = await sqlite_world.start({"gate": gate.run, "quick": quick})
    assert (await again.get_instance(instance)).status == "Paused"
    assert (await again.pause_instance(instance)).status == "Paused"
    await again.resume_instance(instance)
    assert (await again.wait_for_instance(instance, LIMIT_S)).status == "Success"


@pytest.mark.parametrize(
    ("on_failure", "running", "pending"),
    [(OnFailure.STOP, "Success", "Cancelled"), (OnFailure.CANCEL, "Cancelled", "Cancelled")],
)
async def test_a_failure_stops_or_cancels_the_rest(
    world: World, on_failure: OnFailure, running: str, pending: str
) -> None:
    gate = Gate()

    async def fails() -> None:
        await eventually(lambda: gate.entered)
        raise ValueError("坏")

    engine = await world.start({"gate": gate.run, "fails": fails, "quick": quick})
    workflow = flow(
        TaskSpec(name="坏", job="fails"),
        TaskSpec(name="长", job="gate"),
        TaskSpec(name="后", job="quick", depends_on=("长",)),
        TaskSpec(name="清", job="quick", depends_on=("坏",), trigger="one_failed"),  # type: ignore[arg-type]
        on_failure=on_failure,
    )
    instance = await engine.execute_workflow(workflow)
    await until_task(engine, instance, "坏", "Failed")
    if on_failure is OnFailure.STOP:
        gate.open.set()
    assert (await engine.wait_for_instance(instance, LIMIT_S)).status == "Failed"
    assert await states(engine, instance) == {"坏": "Failed", "长": running, "后": pending, "清": "Success"}
