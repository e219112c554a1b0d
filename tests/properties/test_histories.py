"""Commands of many clients at once are linearizable for each instance, and idempotent, on every store.

The events of an instance are its history, one number after the other. A command that was carried out has its place
there, between the events that its caller saw before and after; its answer must fit a state that held in between.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from databases.fixtures import every_store

from taskengine import EngineBuilder, TaskBuilder, WorkflowBuilder
from taskengine.engine.engine import Engine
from taskengine.errors import Conflict
from taskengine.model.definition import RetryPolicy, TaskSpec, WorkflowDefinition
from taskengine.model.events import EventBody
from taskengine.model.ids import InstanceId, WorkflowId
from taskengine.model.states import INSTANCE_FINAL, InstanceState

VERBS = ("pause", "pause", "resume", "resume", "cancel", "retry")
CLIENTS, CALLS, INSTANCES = 6, 12, 4
PATIENCE_S = 60.0
REFUSED_ON = {  # a refusal says that one of these held
    "pause": INSTANCE_FINAL,
    "resume": INSTANCE_FINAL,
    "cancel": INSTANCE_FINAL,
    "retry": frozenset(InstanceState) - {InstanceState.FAILED, InstanceState.CANCELLED, InstanceState.TIMED_OUT},
}


class Call(msgspec.Struct, frozen=True):
    """One command of one client: the last events that it saw before and after, when, and what it was told."""

    verb: str
    name: str
    instance: InstanceId
    before: int
    after: int
    began_s: float
    ended_s: float
    refused: bool
    changed: bool


class Bodies:
    """Some time, and then success or failure, as the seed has it."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    async def work(self) -> int:
        await asyncio.sleep(self._rng.choice([0.0, 0.002, 0.02]))  # what the body does is take time
        if self._rng.random() < 0.2:
            raise ValueError("不巧")
        return 1


def workflow() -> WorkflowDefinition:
    once = RetryPolicy(count=1)
    tasks = [TaskSpec(name=f"t{n}", job="work", depends_on=(f"t{n - 1}",) if n else (), retry=once) for n in range(6)]
    return WorkflowDefinition(id=WorkflowId("并发"), tasks=tuple(tasks))


@asynccontextmanager
async def engine_on(dsn: str, bodies: Bodies) -> AsyncIterator[Engine]:
    engine = EngineBuilder().with_store(dsn).with_workers(4).with_job_func("work", bodies.work).build()
    async with engine:
        yield engine


async def last_seq(engine: Engine, instance: InstanceId) -> int:
    last = await engine.store.last_event(instance)
    return 0 if last is None else last.seq


async def client(engine: Engine, number: int, instances: Sequence[InstanceId], rng: random.Random) -> list[Call]:
    loop, calls = asyncio.get_running_loop(), []
    for count in range(CALLS):
        verb, instance = rng.choice(VERBS), rng.choice(instances)
        name = f"{number}-{count}"
        for _ in range(2 if rng.random() < 0.3 else 1):  # some are sent again, as after a lost answer
            before, began_s = await last_seq(engine, instance), loop.time()
            refused = changed = False
            try:
                done = await getattr(engine, f"{verb}_instance")(instance, command_id=name)
                changed = done.changed
            except Conflict:
                refused = True
            ended_s = loop.time()
            after = await last_seq(engine, instance)
            calls.append(Call(verb, name, instance, before, after, began_s, ended_s, refused, changed))
        await asyncio.sleep(rng.choice([0.0, 0.001, 0.01]))  # clients think
    return calls


async def story(engine: Engine, seed: int) -> list[Call]:
    """All clients at once, and then everything comes to rest in its final state."""
    rng = random.Random(seed)
    starts = [engine.execute_workflow(workflow(), idempotency_key=str(n)) for n in range(INSTANCES)]
    instances = await asyncio.gather(*starts)
    told = await asyncio.gather(*(client(engine, n, instances, random.Random(rng.random())) for n in range(CLIENTS)))
    for instance in instances:
        while (await engine.wait_until_resting(instance, PATIENCE_S)).status is InstanceState.PAUSED:
            await engine.resume_instance(instance)
    return [call for calls in told for call in calls]


async def faults(engine: Engine, calls: Sequence[Call]) -> list[str]:
    found: list[str] = []
    for instance in {call.instance for call in calls}:
        bodies = [event.body for event in await engine.store.events(instance, limit=100_000)]
        places = {row.id: place for place, row in enumerate(await engine.store.commands(instance))}
        mine = sorted((call for call in calls if call.instance == instance), key=lambda call: call.ended_s)
        found += [*_history_faults(bodies), *_call_faults(mine, bodies, places), *_order_faults(mine, places)]
    return found


def _history_faults(bodies: Sequence[EventBody]) -> list[str]:
    """A final state is left by a new run only, one run after the other; what changes nothing is told all the same."""
    found = []
    for before, then in pairwise(bodies):
        if before.state in INSTANCE_FINAL and then.run == before.run and then.state is not before.state:
            found.append(f"{before.state} of run {before.run} was followed by {then.state} of run {then.run}")
        if then.run not in (before.run, before.run + 1):
            found.append(f"run {then.run} after run {before.run}")
    if bodies[-1].state not in INSTANCE_FINAL:
        found.append(f"it rests as {bodies[-1].state}")
    return found


def _call_faults(calls: Sequence[Call], bodies: Sequence[EventBody], places: dict[Any, int]) -> list[str]:
    found = []
    answers: dict[str, bool] = {}
    for call in calls:
        mine = bodies[max(0, call.before - 1) : call.after]
        seen = {body.state for body in mine}
        if any(then.run > before.run for before, then in pairwise(mine)):
            seen |= INSTANCE_FINAL  # it was at its end, and a retry of the same burst left that in the same decision
        stored = f"{call.instance}/{call.name}" in places
        if call.refused and not seen & REFUSED_ON[call.verb] and not _being_cancelled(call, calls):
            found.append(f"{call.verb} {call.name} was refused while it was {sorted(seen)}")
        if not call.refused and not stored:
            found.append(f"{call.verb} {call.name} was accepted and is not there")
        if not call.refused and call.changed and call.name not in answers and not _effect(call, bodies):
            found.append(f"{call.verb} {call.name} changed nothing between {call.before} and {call.after}")
        if not call.refused and answers.setdefault(call.name, call.changed) != call.changed:
            found.append(f"{call.verb} {call.name} was answered in two ways")
    return found


def _being_cancelled(call: Call, calls: Sequence[Call]) -> bool:
    """Until its last body has ended it is Running for whoever looks, and can be paused no more."""
    return call.verb == "pause" and any(
        other.verb == "cancel" and not other.refused and other.began_s < call.ended_s for other in calls
    )


def _effect(call: Call, bodies: Sequence[EventBody]) -> bool:
    """Whether what it says it did can be seen in the events of its time. Commands of one burst share a decision, so of
    a pause that was lifted at once there is an event and no more."""
    mine = bodies[max(0, call.before - 1) : call.after]
    if call.verb == "retry":
        return any(then.run > before.run for before, then in pairwise(mine))
    return call.after > call.before


def _order_faults(calls: Sequence[Call], places: dict[Any, int]) -> list[str]:
    """One that was answered before another was asked comes before it in the store too."""
    done = [call for call in calls if not call.refused and f"{call.instance}/{call.name}" in places]
    first = {name: min(call.began_s for call in done if call.name == name) for name in {call.name for call in done}}
    return [
        f"{early.name} ended before {late.name} began and is stored behind it"
        for early in done
        for late in done
        if early.name != late.name
        and early.ended_s < first[late.name]
        and places[f"{early.instance}/{early.name}"] > places[f"{late.instance}/{late.name}"]
    ]


@every_store
@pytest.mark.parametrize("seed", range(3))
async def test_commands_of_many_clients_are_linearizable(dsn: str, seed: int) -> None:
    async with engine_on(dsn, Bodies(seed)) as engine:
        calls = await story(engine, seed)
        assert await faults(engine, calls) == []
        assert Counter(call.refused for call in calls)[False] > CLIENTS, "a run in which all is refused shows nothing"


@pytest.mark.torture
@every_store
async def test_commands_of_many_clients_are_linearizable_for_long(dsn: str, new_dsn: Any) -> None:
    for seed in range(100, 125):
        again = dsn if dsn == "memory://" else new_dsn("sqlite" if "://" not in dsn else dsn.partition(":")[0])
        async with engine_on(again, Bodies(seed)) as engine:
            assert await faults(engine, await story(engine, seed)) == [], seed


async def test_a_lost_effect_and_a_wrong_answer_are_found_out() -> None:
    """Else the laws above would hold for anything."""
    async with engine_on("memory://", Bodies(1)) as engine:
        calls = await story(engine, 1)
        done = next(call for call in calls if call.verb == "pause" and not call.refused and call.changed)
        lost = [msgspec.structs.replace(done, name="never")]
        assert any("is not there" in fault for fault in await faults(engine, [*calls, *lost]))
        narrow = [msgspec.structs.replace(call, after=call.before) for call in calls if call.verb == "retry"]
        wrong = [msgspec.structs.replace(call, refused=True) for call in calls if call.verb == "pause" and call.changed]
        assert any("was refused while" in fault for fault in await faults(engine, [*narrow, *wrong]))


@every_store
async def test_one_key_starts_one_instance_whoever_asks(dsn: str) -> None:
    async with engine_on(dsn, Bodies(0)) as engine:
        keyed = (
            WorkflowBuilder("键").with_params({"x": 0}).with_task(TaskBuilder("t").with_job_function("work")).build()
        )
        asked = [engine.execute_workflow(keyed, {"x": 1}, idempotency_key="同一个") for _ in range(64)]
        assert len(set(await asyncio.gather(*asked))) == 1
        assert await engine.count_instances() == 1
        with pytest.raises(Conflict):
            await engine.execute_workflow(keyed, {"x": 2}, idempotency_key="同一个")
