"""Short stories beside the driver's load, each one life of a process: `scenes.py FOLDER SCENE`."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from crash.driver import DATABASE, JOBS, Killer, all_at_rest

from taskengine.ambient import Ambient
from taskengine.clock import Micros
from taskengine.engine.builder import EngineBuilder
from taskengine.engine.engine import Engine
from taskengine.model.definition import RetryPolicy, TaskSpec, WorkflowDefinition
from taskengine.model.ids import WorkflowId

INNOCENTS = 19
CULPRIT_AT = 7
PATIENCE_S = 60.0


def innocent() -> WorkflowDefinition:
    return WorkflowDefinition(
        id=WorkflowId("无辜"), tasks=(TaskSpec(name="长", job="innocent", params={"seconds": 0.3}),)
    )


def culprit() -> WorkflowDefinition:
    tasks = (TaskSpec(name="fatal", job="fatal"), TaskSpec(name="after", job="noop", depends_on=("fatal",)))
    return WorkflowDefinition(id=WorkflowId("culprit"), tasks=tasks)


async def culprit_among_innocents(engine: Engine) -> None:
    """One task ends the process, the other instances are long and have nothing to do with it."""
    for number in range(INNOCENTS + 1):
        workflow = culprit() if number == CULPRIT_AT else innocent()
        await engine.execute_workflow(workflow, idempotency_key=str(number))
    await all_at_rest(engine, PATIENCE_S)


def changing(own: int) -> WorkflowDefinition:
    """Versions differ in what each task adds."""

    def step(name: str, *needs: str) -> TaskSpec:
        inputs = ["${{ tasks." + need + ".result }}" for need in needs]
        params = {"inputs": inputs, "own": own, "seconds": 0.05}
        policy = RetryPolicy(count=1, interval_us=Micros(1000))
        return TaskSpec(name=name, job="步骤-async", params=params, depends_on=needs, retry=policy)

    return WorkflowDefinition(id=WorkflowId("变化"), tasks=(step("a"), step("b", "a"), step("c", "b")))


async def first_version(engine: Engine) -> None:
    await engine.execute_workflow(changing(1), idempotency_key="old")
    await all_at_rest(engine, PATIENCE_S)


async def second_version(engine: Engine) -> None:
    await engine.register_workflow(changing(100))
    await engine.execute_workflow("变化", idempotency_key="new")
    await all_at_rest(engine, PATIENCE_S)


async def nap(engine: Engine) -> None:
    """The body sleeps 2 s and 2 s, and the first process dies 3 s after it has begun."""
    task = TaskSpec(name="睡", job="nap", params={"seconds": 2, "dies_after": 3})
    await engine.execute_workflow(WorkflowDefinition(id=WorkflowId("nap"), tasks=(task,)), idempotency_key="nap")
    await all_at_rest(engine, PATIENCE_S)


FORKED_ITEMS = 40


async def fork(engine: Engine) -> None:
    """An instance that has ended, from an earlier life if there was one, and a fork of it."""
    params = {"inputs": ["${{ tasks.a.result }}"], "own": "${{ item }}", "seconds": 0}
    tasks = (
        TaskSpec(name="a", job="步骤-async", params={"inputs": [], "own": 1, "seconds": 0}),
        TaskSpec(name="每", job="步骤-async", params=params, depends_on=("a",), for_each=list(range(FORKED_ITEMS))),
        TaskSpec(name="last", job="步骤-async", params={**params, "own": 5}, depends_on=("a", "每")),
    )
    workflow = WorkflowDefinition(id=WorkflowId("fork"), tasks=tasks)
    source = await engine.execute_workflow(workflow, idempotency_key="source")
    await all_at_rest(engine, PATIENCE_S)
    await engine.fork_instance(source, "last", idempotency_key="fork")
    await all_at_rest(engine, PATIENCE_S)


class StartKiller(Killer):
    """Counts only from the first start of this life on."""

    __slots__ = ("begun",)

    def __init__(self, kill: str) -> None:
        super().__init__(kill)
        self.begun = False

    def reach(self, point: str) -> None:
        self.begun = self.begun or point == "start.before_commit"
        if self.begun:
            super().reach(point)


SCENES: dict[str, Callable[[Engine], Awaitable[None]]] = {
    "fork": fork,
    "nap": nap,
    "culprit": culprit_among_innocents,
    "first_version": first_version,
    "second_version": second_version,
}


async def play(folder: Path, scene: str, kill: str) -> None:
    probe = StartKiller(kill) if scene == "fork" else Killer(kill)
    builder = EngineBuilder(Ambient(probe=probe)).with_store(os.environ[DATABASE]).with_app(JOBS)
    async with builder.with_workers(25).build() as engine:
        await SCENES[scene](engine)


if __name__ == "__main__":
    asyncio.run(play(Path(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else ""))
