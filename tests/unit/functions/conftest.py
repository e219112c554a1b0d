"""A caller on the test's loop, and a way to call one function and hear how it ended."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

import pytest

from taskengine.ambient import Ambient
from taskengine.functions.calling import Caller
from taskengine.functions.context import CallInfo
from taskengine.functions.job import JobFunction, make_job
from taskengine.functions.outcomes import CallOutcome, Frame
from taskengine.functions.services import Services
from taskengine.model.definition import Executor

_alive: set[asyncio.Task[Any]] = set()


def _spawn(body: Coroutine[Any, Any, None]) -> asyncio.Task[Any]:
    task = asyncio.get_running_loop().create_task(body)
    _alive.add(task)
    task.add_done_callback(_alive.discard)
    return task


class Call:
    """One call as a test sees it: await `outcome`, read `frames`, use `running`."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[CallOutcome] = asyncio.get_running_loop().create_future()
        self.frames: list[Frame] = []
        self.told = asyncio.Event()
        self.ends = 0
        self.running: Any = None

    def end(self, outcome: CallOutcome) -> None:
        self.ends += 1
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def tell(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.told.set()

    async def wait(self, limit_s: float = 20.0) -> Any:
        return await asyncio.wait_for(asyncio.shield(self.outcome), limit_s)


class StartCall(Protocol):
    def __call__(
        self,
        function: Callable[..., Any] | JobFunction,
        params: dict[str, Any] | None = None,
        *,
        executor: Executor = Executor.AUTO,
        caller: Caller | None = None,
        **info: Any,
    ) -> Call: ...


@pytest.fixture
def make_caller() -> Callable[..., Caller]:
    def make(services: Services | None = None, ambient: Ambient | None = None, **options: Any) -> Caller:
        return Caller(ambient or Ambient(), _spawn, services or Services(), **options)

    return make


@pytest.fixture
async def caller(make_caller: Callable[..., Caller]) -> AsyncIterator[Caller]:
    made = make_caller(threads=4, processes=2, grace_s=0.3)
    yield made
    await made.stop(2.0)


@pytest.fixture
def info() -> Callable[..., CallInfo]:
    def make(**given: Any) -> CallInfo:
        return CallInfo(**{"instance_id": "i-1", "workflow_id": "日常同步", "ordinal": 3, "task_name": "下载", **given})

    return make


@pytest.fixture
def start(caller: Caller, info: Callable[..., CallInfo]) -> StartCall:
    default = caller

    def start_call(
        function: Callable[..., Any] | JobFunction,
        params: dict[str, Any] | None = None,
        *,
        executor: Executor = Executor.AUTO,
        caller: Caller | None = None,
        **given: Any,
    ) -> Call:
        made = function if isinstance(function, JobFunction) else make_job("任务", function)
        call = Call()
        call.running = (caller or default).start(
            made, info(params=params or {}, **given), call.end, call.tell, executor
        )
        return call

    return start_call
