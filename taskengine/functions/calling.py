"""Calling job functions: on the loop, in a thread, in a worker process; with one way to hear how it ended."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from threading import Lock, get_ident
from typing import Any, Protocol

from taskengine.ambient import Ambient
from taskengine.errors import Unavailable
from taskengine.functions.context import CallInfo, JobContext, SyncTaskContext, TaskContext, activate
from taskengine.functions.ending import NEVER_STARTED, outcome_of, raised
from taskengine.functions.job import JobFunction, Kind, kind_for
from taskengine.functions.outcomes import CallOutcome, Frame, LogLine, Parked, ProgressNote, Raised, Returned, Sleep
from taskengine.functions.results import MAX_RESULT
from taskengine.functions.services import Services
from taskengine.functions.shared import Shared
from taskengine.functions.solo import Solo
from taskengine.functions.threads import Returns, ThreadPool
from taskengine.model.definition import Executor

__all__ = [
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

OnDone = Callable[[CallOutcome], object]
OnFrame = Callable[[Frame], object]


class Cancellable(Protocol):
    def cancel(self) -> object: ...


Spawn = Callable[[Coroutine[Any, Any, None]], Cancellable]
"""Runs a coroutine as a task under an owner that outlives it; the dispatcher's `spawn`."""


class Running(Protocol):
    """One call that has begun or waits to begin."""

    cancelled: bool
    """It was asked to end."""

    ended: bool
    """The body has really ended, and `on_done` was or is being called."""

    def cancel(self) -> None:
        """Ask it to end; only the first time counts, and nothing happens once it has ended. Loop thread only.

        async    its task is cancelled
        thread   `ctx.cancelled` becomes true; nothing can force it
        process  SIGTERM, after the grace SIGKILL, and a new worker takes the place
        """
        ...


class _Call:
    """What calls of every kind have in common: the frames, and that `on_done` happens exactly once."""

    __slots__ = ("_caller", "_on_done", "_on_frame", "cancelled", "context", "ended", "info", "job")

    context_type: type[JobContext] = TaskContext

    def __init__(self, caller: "Caller", job: JobFunction, info: CallInfo, on_done: OnDone, on_frame: OnFrame | None):
        self._caller = caller
        self._on_done = on_done
        self._on_frame = on_frame
        self.job = job
        self.info = info
        self.cancelled = False
        self.ended = False
        sink = None if on_frame is None else self.tell
        self.context = self.context_type(
            info, caller.services, caller.ambient.clock, sink, caller.grace_s, caller.shared
        )

    def tell(self, frame: Frame) -> None:
        """A frame of the body, from any thread; dropped once it has ended."""
        if get_ident() == self._caller.thread_id:
            self.deliver(frame)
        else:
            self._caller.returns.put(self.deliver, frame)

    def deliver(self, frame: Frame) -> None:
        if not self.ended and self._on_frame is not None:
            self._on_frame(frame)

    def finish(self, outcome: CallOutcome) -> None:
        """The body has ended. Loop thread."""
        if self.ended:
            return
        self.ended = True
        self._caller.forget(self)
        self._caller.ambient.probe.reach("body.after")
        self._on_done(outcome)

    def launch(self) -> None:
        raise NotImplementedError

    def cancel(self) -> None:
        raise NotImplementedError


class _AsyncCall(_Call):
    __slots__ = ("_task",)

    def launch(self) -> None:
        self._task = self._caller.spawn(self._run())

    def cancel(self) -> None:
        if self.ended or self.cancelled:  # a second one would hit the body's clean-up
            return
        begun, self.cancelled = self.context.begun, True
        self.context.mark_cancelled()
        # A task that is cancelled before its first step would never run, and nobody would be told.
        if begun:
            self._task.cancel()

    async def _run(self) -> None:
        if self.cancelled:
            self.finish(NEVER_STARTED)
            return
        own = asyncio.current_task()
        context, job = self.context, self.job
        context.begun = True
        try:
            activate(context)
            args, kwargs = job.binder.bind(self.info.params, context, self._caller.services)
            outcome: CallOutcome = outcome_of(await job.function(*args, **kwargs), job.nan, self._caller.max_result)
        except GeneratorExit as error:
            if _current_task() is not own:  # the loop is gone and we are being thrown away
                raise
            outcome = raised(error, self.cancelled)
        except BaseException as error:
            outcome = raised(error, self.cancelled)
        self.finish(outcome)


class _ThreadCall(_Call):
    __slots__ = ("_claim", "_solo", "_variables")

    context_type = SyncTaskContext

    def launch(self) -> None:
        self._claim = Lock()
        self._solo: Solo | None = None
        self._variables = copy_context()
        self._caller.threads.submit(self._work)

    @property
    def stuck(self) -> bool:
        return self.cancelled and self.context.begun and not self.ended

    def cancel(self) -> None:
        if self.ended or self.cancelled:
            return
        self.cancelled = True
        self.context.mark_cancelled()
        if self._claim.acquire(blocking=False):  # no thread has taken it, and now none will
            self._caller.returns.put(self.finish, NEVER_STARTED)
        elif self._solo is not None:
            self._solo.cancel()

    def _work(self) -> None:
        """In the thread."""
        if self._claim.acquire(blocking=False):
            self.context.begun = True
            self._caller.returns.put(self._finish_work, self._variables.run(self._outcome))
        else:
            self._caller.returns.put(self._caller.threads.finished)

    def _finish_work(self, outcome: CallOutcome) -> None:
        self._caller.threads.finished()
        self.finish(outcome)

    def _outcome(self) -> CallOutcome:
        job = self.job
        try:
            activate(self.context)
            args, kwargs = job.binder.bind(self.info.params, self.context, self._caller.services)
            value = job.function(*args, **kwargs)
            if inspect.isawaitable(value):
                value = self._alone(value)
            return outcome_of(value, job.nan, self._caller.max_result)
        except BaseException as error:
            return raised(error, self.cancelled)

    def _alone(self, value: Any) -> Any:
        self._solo = Solo()
        if self.cancelled:
            self._solo.cancel()
        return self._solo.run(value)


class Caller:
    """Starts bodies and tells how they ended. Everything here belongs to the loop's thread.

    spawn       runs a coroutine under an owner, e.g. the dispatcher's `spawn`
    threads     most job threads at the same time; more calls wait in order
    processes   most worker processes
    grace_s     between SIGTERM and SIGKILL
    max_result  bytes of JSON that a result may have
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
    ) -> None:
        self.ambient = ambient
        self.spawn = spawn
        self.services = services
        self.grace_s = grace_s
        self.max_result = max_result
        self.threads = ThreadPool(threads)
        self.shared = Shared()
        self.thread_id = 0
        self._processes = processes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: set[_Call] = set()
        self._stopping = False
        self._quiet: asyncio.Future[None] | None = None

    @property
    def stuck_threads(self) -> int:
        """Threads whose call was asked to end and has not."""
        return sum(isinstance(call, _ThreadCall) and call.stuck for call in self._running)

    @property
    def running(self) -> int:
        """Calls that have not ended."""
        return len(self._running)

    def start(
        self,
        job: JobFunction,
        info: CallInfo,
        on_done: OnDone,
        on_frame: OnFrame | None = None,
        executor: Executor = Executor.AUTO,
    ) -> Running:
        """Call the function. `on_done` is called on the loop's thread, once, after the body has really ended.

        Neither `on_done` nor `on_frame` is called inside of `start`. What keeps the body from being called (an
        executor that does not fit, no thread) is told as an outcome like any other. Raises Unavailable after `stop`.
        """
        if self._stopping:
            raise Unavailable("the engine is stopping, no job starts any more")
        if self._loop is None:
            self._settle_in()
        try:
            call = _KINDS[kind_for(job, executor)](self, job, info, on_done, on_frame)
        except Exception as error:
            return self._refuse(job, info, on_done, error)
        self._running.add(call)
        self.ambient.probe.reach("body.before")
        try:
            call.launch()
        except Exception as error:
            self.returns.put(call.finish, raised(error, cancelled=False))
        return call

    async def stop(self, grace_s: float) -> None:
        """Ask every body to end and wait for that at most `grace_s`, then close what is ours. Again is fine.

        A body that has not ended by then is told about when it does, if it does.
        """
        self._stopping = True
        for call in list(self._running):
            call.cancel()
        await self._until_quiet(grace_s)
        self.threads.close()
        await self.shared.aclose()

    def forget(self, call: _Call) -> None:
        self._running.discard(call)
        if not self._running:
            self._be_quiet()

    def _be_quiet(self) -> None:
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)

    def _settle_in(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.thread_id = get_ident()
        self.returns = Returns(self._loop)

    def _refuse(self, job: JobFunction, info: CallInfo, on_done: OnDone, error: Exception) -> Running:
        call = _AsyncCall(self, job, info, on_done, None)
        self._running.add(call)
        self.returns.put(call.finish, raised(error, cancelled=False))
        return call

    async def _until_quiet(self, limit_s: float) -> None:
        if not self._running:
            return
        clock = self.ambient.clock
        self._quiet = asyncio.get_running_loop().create_future()
        timer = clock.call_at(clock.monotonic() + limit_s, self._be_quiet)
        try:
            await self._quiet
        finally:
            timer.cancel()


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


_KINDS: dict[Kind, type[_Call]] = {Kind.ASYNC: _AsyncCall, Kind.THREAD: _ThreadCall}
