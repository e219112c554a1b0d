"""Bodies in threads."""

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from taskengine.functions import Caller, CallInfo, Raised, Returned, SyncTaskContext, TaskContext
from taskengine.functions.job import make_job
from taskengine.model.definition import Executor


async def test_a_def_runs_in_a_daemon_thread(start: Any) -> None:
    def body() -> list[Any]:
        thread = threading.current_thread()
        return [thread.daemon, thread is threading.main_thread()]

    assert await start(body).wait() == Returned(b"[true,false]")


async def test_the_end_is_told_on_the_loops_thread(start: Any, caller: Caller, info: Callable[..., CallInfo]) -> None:
    told = asyncio.get_running_loop().create_future()
    caller.start(make_job("x", lambda: 1), info(), lambda _: told.set_result(threading.get_ident()))
    assert await asyncio.wait_for(told, 5) == threading.get_ident()


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), ValueError("坏"), GeneratorExit()])
async def test_whatever_a_thread_body_raises_ends_only_the_attempt(start: Any, error: BaseException) -> None:
    def body() -> None:
        raise error

    for _ in range(10):  # more often than there are threads
        outcome = await start(body).wait()
        assert isinstance(outcome, Raised)
        assert outcome.error.type == type(error).__name__
    assert await start(lambda: 1).wait() == Returned(b"1")


async def test_no_more_threads_than_allowed_and_the_rest_waits_in_order(start: Any) -> None:
    gate, full, lock = threading.Event(), threading.Event(), threading.Lock()
    running = peak = 0
    order: list[int] = []

    def body(number: int) -> None:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
            order.append(number)
        if running == 4:
            full.set()
        gate.wait(10)
        with lock:
            running -= 1

    calls = [start(body, {"number": number}) for number in range(12)]
    await asyncio.to_thread(full.wait, 10)
    gate.set()
    for call in calls:
        await call.wait()
    assert peak == 4
    assert sorted(order[:4]) == [0, 1, 2, 3]


async def test_ten_thousand_thread_calls_end_once_each(caller: Caller, info: Callable[..., CallInfo]) -> None:
    job, ends, done = make_job("x", lambda n: n), [0] * 10_000, asyncio.Event()

    def end(number: int, outcome: Any) -> None:
        assert outcome == Returned(str(number).encode())
        ends[number] += 1
        if sum(ends) == 10_000:
            done.set()

    for number in range(10_000):
        caller.start(job, info(params={"n": number}), lambda outcome, number=number: end(number, outcome))
    await asyncio.wait_for(done.wait(), 30)
    assert ends == [1] * 10_000


async def test_a_cancelled_thread_is_told_about_only_when_it_has_really_ended(start: Any, caller: Caller) -> None:
    entered, release = threading.Event(), threading.Event()

    def stubborn() -> str:
        entered.set()
        release.wait(10)
        return "late"

    call = start(stubborn)
    await asyncio.to_thread(entered.wait, 10)
    call.running.cancel()
    await asyncio.sleep(0)
    assert caller.stuck_threads == 1
    assert (call.ends, call.running.cancelled, call.running.ended) == (0, True, False)
    release.set()
    assert await call.wait() == Returned(b'"late"')
    assert caller.stuck_threads == 0


async def test_a_thread_that_looks_at_cancelled_ends_as_interrupted(start: Any) -> None:
    entered = threading.Event()

    def polite(ctx: SyncTaskContext) -> None:
        entered.set()
        while True:
            ctx.raise_if_cancelled()

    call = start(polite)
    await asyncio.to_thread(entered.wait, 10)
    call.running.cancel()
    outcome = await call.wait()
    assert outcome.interrupted
    assert outcome.error.type == "CancelledError"


async def test_an_own_error_after_a_cancel_is_a_failure(start: Any) -> None:
    entered = threading.Event()

    def body(ctx: SyncTaskContext) -> None:
        entered.set()
        while not ctx.cancelled:
            pass
        raise ValueError("own")

    call = start(body)
    await asyncio.to_thread(entered.wait, 10)
    call.running.cancel()
    assert not (await call.wait()).interrupted


async def test_a_call_that_waits_for_a_thread_is_cancelled_at_once(start: Any) -> None:
    gate = threading.Event()
    blockers = [start(lambda: gate.wait(10)) for _ in range(4)]
    waiting = start(lambda: 1)
    waiting.running.cancel()
    outcome = await waiting.wait()
    assert outcome.interrupted
    assert not any(call.running.ended for call in blockers)
    gate.set()
    for call in blockers:
        await call.wait()
    assert await start(lambda: 2).wait() == Returned(b"2")


async def test_variables_of_the_starter_reach_the_thread_and_stay_apart(start: Any) -> None:
    bound: ContextVar[str] = ContextVar("bound", default="")
    bound.set("instance i-1")

    def body() -> str:
        before = bound.get()
        bound.set("dirty")
        return before

    for _ in range(5):
        assert await start(body).wait() == Returned(b'"instance i-1"')


async def test_lines_of_a_thread_come_before_its_end_and_in_order(start: Any) -> None:
    def body(ctx: SyncTaskContext) -> None:
        for number in range(1000):
            ctx.log.info(str(number))

    call = start(body)
    await call.wait()
    assert [line.message for line in call.frames] == [str(number) for number in range(1000)]


async def test_an_async_job_may_run_in_a_thread_and_be_cancelled_there(start: Any) -> None:
    entered = threading.Event()

    async def body(ctx: TaskContext) -> None:
        assert isinstance(ctx, TaskContext)
        entered.set()
        await asyncio.sleep(60)

    call = start(body, executor=Executor.THREAD)
    await asyncio.to_thread(entered.wait, 10)
    call.running.cancel()
    assert (await call.wait()).interrupted


async def test_a_def_that_gives_a_coroutine_is_awaited(start: Any) -> None:
    async def inner() -> int:
        await asyncio.sleep(0)
        return 5

    assert await start(lambda: inner()).wait() == Returned(b"5")


async def test_an_executor_that_does_not_fit_is_an_outcome(start: Any) -> None:
    call = start(lambda: 1, executor=Executor.ASYNC)
    assert call.ends == 0
    outcome = await call.wait()
    assert (outcome.error.type, outcome.error.retryable) == ("InvalidConfiguration", False)


async def test_stop_does_not_wait_for_a_stuck_thread(make_caller: Callable[..., Caller], start: Any) -> None:
    entered, release = threading.Event(), threading.Event()

    def stubborn() -> None:
        entered.set()
        release.wait(10)

    caller = make_caller()
    call = start(stubborn, caller=caller)
    await asyncio.to_thread(entered.wait, 10)
    await caller.stop(0.01)
    assert call.ends == 0
    release.set()
    assert await call.wait() == Returned(b"null")
