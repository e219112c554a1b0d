"""Calling job functions: on the loop, in a thread, in a worker process; with one way to hear how it ended."""

import asyncio
from typing import Final, Protocol

from taskengine.ambient import Ambient
from taskengine.errors import Unavailable
from taskengine.functions.calls import (
    AsyncCall,
    Call,
    Cancellable,
    OnDone,
    OnFrame,
    ProcessCall,
    Spawn,
    Surroundings,
    ThreadCall,
)
from taskengine.functions.context import CallInfo
from taskengine.functions.ending import raised
from taskengine.functions.job import JobFunction, Kind, kind_for
from taskengine.functions.outcomes import CallOutcome, Frame, LogLine, Parked, ProgressNote, Raised, Returned, Sleep
from taskengine.functions.questions import OnAsk
from taskengine.functions.quota import DEFAULT_LOG_CAP
from taskengine.functions.results import MAX_RESULT
from taskengine.functions.returns import Returns
from taskengine.functions.services import Services
from taskengine.functions.thread_pool import ThreadPool
from taskengine.functions.worker_link import hello_for
from taskengine.functions.worker_pool import WorkerPool
from taskengine.model.definition import Executor

__all__ = [
    "CallOutcome",
    "Caller",
    "Cancellable",
    "Frame",
    "LogLine",
    "OnDone",
    "OnFrame",
    "Parked",
    "ProgressNote",
    "Raised",
    "Returned",
    "Running",
    "Sleep",
    "Spawn",
]

_KINDS: Final[dict[Kind, type[Call]]] = {
    Kind.ASYNC: AsyncCall,
    Kind.THREAD: ThreadCall,
    Kind.PROCESS: ProcessCall,
}


_SLACK: Final = 1024 * 1024


class Running(Protocol):
    """One call that has begun or waits to begin."""

    @property
    def cancelled(self) -> bool:
        """It was asked to end."""
        ...

    @property
    def ended(self) -> bool:
        """The body has really ended, and `on_done` was or is being called."""
        ...

    def cancel(self) -> None:
        """Ask it to end; only the first time counts, and nothing happens once it has ended. Loop thread only.

        async    its task is cancelled
        thread   `ctx.cancelled` becomes true; nothing can force it
        process  SIGTERM, after the grace SIGKILL, and a new worker takes the place
        """
        ...


class Caller:
    """Starts bodies and tells how they ended. Everything here belongs to the loop's thread.

    spawn       runs a coroutine under an owner, e.g. the dispatcher's `spawn`
    threads     most job threads at the same time; more calls wait in order
    processes   most worker processes, likewise; they start when first needed and stay
    grace_s     between SIGTERM and SIGKILL
    max_result  bytes of JSON that a result may have
    log_cap     lines that one attempt may log
    """

    def __init__(
        self,
        ambient: Ambient,
        spawn: Spawn,
        services: Services,
        *,
        threads: int = 32,
        processes: int = 2,
        grace_s: float = 5.0,
        max_result: int = MAX_RESULT,
        log_cap: int = DEFAULT_LOG_CAP,
    ) -> None:
        self._ambient = ambient
        self._spawn = spawn
        self._services = services
        self._limits = (threads, processes)
        self._grace_s = grace_s
        self._max_result = max_result
        self._log_cap = log_cap
        self._stopping = False
        self._around: Surroundings | None = None  # made on the loop

    @property
    def stuck_threads(self) -> int:
        """Threads whose call was asked to end and has not."""
        return sum(call.stuck for call in self._around.running) if self._around else 0

    @property
    def running(self) -> int:
        """Calls that have not ended."""
        return len(self._around.running) if self._around else 0

    def start(
        self,
        job: JobFunction,
        info: CallInfo,
        on_done: OnDone,
        on_frame: OnFrame | None = None,
        executor: Executor = Executor.AUTO,
        on_ask: OnAsk | None = None,
    ) -> Running:
        """Call the function. `on_done` is called on the loop's thread, once, after the body has really ended.

        Neither `on_done` nor `on_frame` is called inside of `start`. What keeps the body from being called (an
        executor that does not fit, no thread to be had) is told as an outcome like any other. Raises Unavailable
        after `stop`.
        """
        if self._stopping:
            raise Unavailable("the engine is stopping, no job starts any more")
        around = self._around or self._settle_in()
        try:
            call = _KINDS[kind_for(job, executor)](around, job, info, on_done, on_frame, on_ask)
        except Exception as error:
            return _refused(AsyncCall(around, job, info, on_done, None), around, error)
        around.running.add(call)
        try:
            call.launch()
        except Exception as error:
            return _refused(call, around, error)
        return call

    async def stop(self, grace_s: float) -> None:
        """Ask every body to end and wait for that at most `grace_s`; then kill the workers and close what is ours.

        Again is fine. A body of the loop or of a thread that has not ended by then is told about when it does, if
        it does.
        """
        self._stopping = True
        around = self._around
        if around is None:
            return
        for call in list(around.running):
            call.cancel()
        await self._until_quiet(around, grace_s)
        await around.workers.close()
        around.threads.close()
        await around.shared.aclose()

    def _settle_in(self) -> Surroundings:
        returns = Returns(asyncio.get_running_loop())
        threads, processes = self._limits
        hello = hello_for(self._services, self._max_result, self._grace_s, self._log_cap)
        max_frame = self._max_result * 4 // 3 + _SLACK  # results travel in base 64
        workers = WorkerPool(processes, self._ambient.clock, returns, hello, self._grace_s, max_frame)
        self._around = Surroundings(
            self._ambient,
            self._spawn,
            self._services,
            ThreadPool(threads),
            workers,
            returns,
            grace_s=self._grace_s,
            max_result=self._max_result,
            log_cap=self._log_cap,
        )
        return self._around

    async def _until_quiet(self, around: Surroundings, limit_s: float) -> None:
        if not around.running:
            return
        clock = self._ambient.clock
        quiet = asyncio.Event()
        around.on_quiet = quiet.set
        timer = clock.call_at(clock.monotonic() + limit_s, quiet.set)
        try:
            await quiet.wait()
        finally:
            timer.cancel()


def _refused(call: Call, around: Surroundings, error: Exception) -> Call:
    around.running.add(call)
    around.returns.put(call.finish, raised(error, cancelled=False))
    return call
