"""One call of a job function, on the loop, in a thread or in a worker process, from its start to its one end."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from threading import Lock, get_ident
from typing import Any, Protocol

from taskengine.ambient import Ambient
from taskengine.errors import Unavailable
from taskengine.functions.context import CallInfo, JobContext, SyncTaskContext, TaskContext, activate
from taskengine.functions.ending import NEVER_STARTED, outcome_of, raised
from taskengine.functions.job import JobFunction
from taskengine.functions.outcomes import CallOutcome, Frame
from taskengine.functions.questions import OnAnswer, OnAsk, Question, refused, settle
from taskengine.functions.returns import Returns
from taskengine.functions.services import Services
from taskengine.functions.shared import Shared
from taskengine.functions.solo import Solo
from taskengine.functions.thread_pool import ThreadPool
from taskengine.functions.worker_link import Order, encode
from taskengine.functions.worker_pool import WorkerPool

__all__ = [
    "AsyncCall",
    "Call",
    "Cancellable",
    "OnDone",
    "OnFrame",
    "ProcessCall",
    "Spawn",
    "Surroundings",
    "ThreadCall",
]

OnDone = Callable[[CallOutcome], object]
OnFrame = Callable[[Frame], object]


class Cancellable(Protocol):
    def cancel(self) -> object: ...


Spawn = Callable[[Coroutine[Any, Any, None]], Cancellable]
"""Runs a coroutine as a task under an owner that outlives it; the dispatcher's `spawn`."""


class Surroundings:
    """What every call of one caller stands on. Loop thread only, but for `returns`."""

    def __init__(
        self,
        ambient: Ambient,
        spawn: Spawn,
        services: Services,
        threads: ThreadPool,
        workers: WorkerPool,
        returns: Returns,
        *,
        grace_s: float,
        max_result: int,
        log_cap: int,
    ) -> None:
        self.ambient = ambient
        self.spawn = spawn
        self.services = services
        self.threads = threads
        self.workers = workers
        self.returns = returns
        self.grace_s = grace_s
        self.max_result = max_result
        self.log_cap = log_cap
        self.shared = Shared()
        self.thread_id = get_ident()
        self.running: set[Call] = set()
        self.on_quiet: Callable[[], object] = lambda: None

    def forget(self, call: "Call") -> None:
        self.running.discard(call)
        if not self.running:
            self.on_quiet()


class Call:
    """What calls of every kind have in common: the frames, and that `on_done` happens exactly once."""

    __slots__ = ("_around", "_on_ask", "_on_done", "_on_frame", "cancelled", "context", "ended", "info", "job")

    on_loop = False

    def __init__(
        self,
        around: Surroundings,
        job: JobFunction,
        info: CallInfo,
        on_done: OnDone,
        on_frame: OnFrame | None,
        on_ask: OnAsk | None = None,
    ) -> None:
        self._around = around
        self._on_ask = on_ask
        self._on_done = on_done
        self._on_frame = on_frame
        self.job = job
        self.info = info
        self.cancelled = False
        self.ended = False
        sink = None if on_frame is None else self.tell
        shared = around.shared if self.on_loop else None
        context_type = TaskContext if job.awaits else SyncTaskContext
        self.context: JobContext = context_type(
            info, around.services, around.ambient.clock, sink, around.grace_s, shared, around.log_cap, self._asked
        )

    def launch(self) -> None:
        """Begin. Neither calls back nor waits."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Ask it to end; only the first time counts, a second one would hit the body's clean-up."""
        if not self.ended and not self.cancelled:
            self.cancelled = True
            self.context.mark_cancelled()
            self.interrupt()

    def interrupt(self) -> None:
        """What `cancel` does to a body of this kind."""
        raise NotImplementedError

    @property
    def stuck(self) -> bool:
        """It holds a thread that it was asked to leave."""
        return False

    def tell(self, frame: Frame) -> None:
        """A frame of the body, from any thread; dropped once it has ended."""
        if get_ident() == self._around.thread_id:
            self.deliver(frame)
        else:
            self._around.returns.put(self.deliver, frame)

    def deliver(self, frame: Frame) -> None:
        if not self.ended and self._on_frame is not None:
            self._on_frame(frame)

    def _asked(self, question: Question) -> "Future[Any]":
        """A question of the body, from any thread."""
        future: Future[Any] = Future()
        if get_ident() == self._around.thread_id:
            self.ask(question, partial(settle, future))
        else:
            self._around.returns.put(self.ask, question, partial(settle, future))
        return future

    def ask(self, question: Question, on_answer: OnAnswer) -> None:
        """Take it to the engine. Loop thread."""
        if self.ended or self._on_ask is None:
            on_answer(refused(Unavailable("the attempt has ended")))
        else:
            self._on_ask(question, on_answer)

    def finish(self, outcome: CallOutcome) -> None:
        """The body has ended. Loop thread."""
        if self.ended:
            return
        self._on_ask = None
        self.context.sum_up()
        self.ended = True
        self._on_frame = None  # with the context's sink these are circles: an attempt should not wait for the collector
        self._around.forget(self)
        self._around.ambient.probe.reach("body.after")
        self._on_done(outcome)


class AsyncCall(Call):
    """On the loop, as a task."""

    __slots__ = ("_task",)

    on_loop = True

    def launch(self) -> None:
        self._task = self._around.spawn(self._run())

    def interrupt(self) -> None:
        # A task that is cancelled before its first step would never run, and nobody would be told.
        if self.context.begun:
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
            args, kwargs = job.binder.bind(self.info.params, context, self._around.services)
            outcome: CallOutcome = outcome_of(await job.function(*args, **kwargs), job.nan, self._around.max_result)
        except GeneratorExit as error:
            if _current_task() is not own:  # the loop is gone and we are being thrown away
                raise
            outcome = raised(error, self.cancelled)
        except BaseException as error:
            outcome = raised(error, self.cancelled)
        self.finish(outcome)


class ThreadCall(Call):
    """In a thread of the pool. Nothing can force it to end."""

    __slots__ = ("_claim", "_solo", "_variables")

    def launch(self) -> None:
        self._claim = Lock()
        self._solo: Solo | None = None
        self._variables = copy_context()
        self._around.threads.submit(self._work)

    @property
    def stuck(self) -> bool:
        return self.cancelled and self.context.begun and not self.ended

    def interrupt(self) -> None:
        if self._claim.acquire(blocking=False):  # no thread has taken it, and now none will
            self._around.returns.put(self.finish, NEVER_STARTED)
        elif self._solo is not None:
            self._solo.cancel()

    def _work(self) -> None:
        """In the thread."""
        if self._claim.acquire(blocking=False):
            self.context.begun = True
            self._around.returns.put(self._finish_work, self._variables.run(self._outcome))
        else:
            self._around.returns.put(self._around.threads.finished)

    def _finish_work(self, outcome: CallOutcome) -> None:
        self._around.threads.finished()
        self.finish(outcome)

    def _outcome(self) -> CallOutcome:
        job = self.job
        try:
            activate(self.context)
            args, kwargs = job.binder.bind(self.info.params, self.context, self._around.services)
            value = job.function(*args, **kwargs)
            if inspect.isawaitable(value):
                value = self._alone(value)
            return outcome_of(value, job.nan, self._around.max_result)
        except BaseException as error:
            return raised(error, self.cancelled)

    def _alone(self, value: Any) -> Any:
        self._solo = Solo()
        if self.cancelled:
            self._solo.cancel()
        return self._solo.run(value)


class ProcessCall(Call):
    """In a worker process: SIGTERM, then SIGKILL end it for certain."""

    __slots__ = ("order",)

    def launch(self) -> None:
        self.order = encode(Order(path=self.job.path, origin=self.job.origin, nan=self.job.nan, info=self.info))
        self._around.workers.submit(self)

    def interrupt(self) -> None:
        self._around.workers.interrupt(self)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
