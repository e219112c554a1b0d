"""Engines in this process, on each store, with a clock, a log and metrics that a test can look at."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskengine.ambient import Ambient
from taskengine.clock import Clock, ManualClock, SystemClock
from taskengine.engine.builder import EngineBuilder
from taskengine.engine.engine import Engine
from taskengine.model.definition import TaskSpec, WorkflowDefinition
from taskengine.model.ids import WorkflowId
from taskengine.probe import Probe

LIMIT_S = 20.0


class Counts:
    """Counters by name, and by name with labels, `tasks.ended{job=x,status=Success}`; every value observed."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.observed: defaultdict[str, list[float]] = defaultdict(list)

    def count(self, name: str, amount: int = 1, /, **labels: str) -> None:
        self.counted[name] += amount
        if labels:
            self.counted[_labelled(name, labels)] += amount

    def gauge(self, name: str, value: float, /, **labels: str) -> None: ...

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        self.observed[_labelled(name, labels)].append(value)


def _labelled(name: str, labels: Mapping[str, str]) -> str:
    return f"{name}{{{','.join(f'{key}={labels[key]}' for key in sorted(labels))}}}" if labels else name


class Lines:
    """What was logged: (level, event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def debug(self, event: str, /, **fields: object) -> None: ...

    def info(self, event: str, /, **fields: object) -> None: ...

    def warning(self, event: str, /, **fields: object) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        self.lines.append(("error", event, {**fields, "exc": exc}))

    def events(self, level: str) -> list[str]:
        return [event for at, event, _ in self.lines if at == level]


class World:
    """One test's surroundings: they outlive its engines, as a machine outlives processes."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.clock: Clock = SystemClock()
        self.probe = Probe()
        self.metrics, self.log = Counts(), Lines()
        self.engines: list[Engine] = []

    async def start(self, jobs: dict[str, Callable[..., Any]] | None = None, **settings: Any) -> Engine:
        """A started engine. `settings`: workers=3 is `with_workers(3)`; a mapping gives keywords."""
        ambient = Ambient(clock=self.clock, probe=self.probe, metrics=self.metrics, log=self.log)
        builder = EngineBuilder(ambient).with_store(self.dsn)
        for name, value in settings.items():
            setter = getattr(builder, f"with_{name}")
            setter(**value) if isinstance(value, dict) else setter(value)
        for name, function in (jobs or {}).items():
            builder.with_job_func(name, function)
        engine = builder.build()
        self.engines.append(engine)
        await engine.start()
        return engine

    def manual(self) -> ManualClock:
        self.clock = clock = ManualClock()
        return clock


def flow(*tasks: TaskSpec, name: str = "流程", **settings: Any) -> WorkflowDefinition:
    return WorkflowDefinition(id=WorkflowId(name), tasks=tasks, **settings)


async def eventually(holds: Callable[[], Any], what: str = "") -> Any:
    """Wait until it holds; it may be a coroutine function. The store's thread needs real time, so this does too."""
    give_up_s = time.monotonic() + LIMIT_S
    while True:
        found = holds()
        found = await found if asyncio.iscoroutine(found) else found
        if found:
            return found
        assert time.monotonic() < give_up_s, what or "it never came true"
        await asyncio.sleep(0.001)  # gives way to the store's thread, whatever the clock of the test says


async def in_time(clock: ManualClock, holds: Callable[[], Any]) -> None:
    """As `eventually`, while the test's time goes on: a timer that is armed when it is due needs time to move."""

    async def moved() -> Any:
        await clock.advance(0.001)
        found = holds()
        return await found if asyncio.iscoroutine(found) else found

    await eventually(moved)


async def states(engine: Engine, instance_id: str) -> dict[str, str]:
    return {task.name: task.status.value for task in await engine.get_tasks(instance_id)}


async def until_task(engine: Engine, instance_id: str, task: str, *wanted: str) -> None:
    async def holds() -> bool:
        return (await states(engine, instance_id)).get(task) in wanted

    await eventually(holds, f"{task} never became {wanted}")


async def finished(engine: Engine, workflow: WorkflowDefinition, params: dict[str, Any] | None = None) -> Any:
    return await engine.wait_for_instance(await engine.execute_workflow(workflow, params), LIMIT_S)


def live_actors(engine: Engine, kinds: Sequence[str] = ("InstanceActor", "TaskActor")) -> list[str]:
    return [f"{actor.actor_class}:{actor.name}" for actor in engine.actors() if actor.actor_class in kinds]
