"""Bodies on the loop: one end each, cancel, and exceptions that must not get out."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

from taskengine.actors import Dispatcher
from taskengine.ambient import Ambient
from taskengine.errors import NonRetryable, RetryAfter, Unavailable
from taskengine.functions import Caller, CallInfo, LogLine, Parked, ProgressNote, Raised, Returned, Sleep, TaskContext
from taskengine.functions.context import current_context
from taskengine.functions.job import make_job
from taskengine.functions.services import Services
from taskengine.model.definition import Executor
from taskengine.probe import Probe


async def nothing() -> None:
    pass


async def test_a_result_is_json(start: Any) -> None:
    async def body(source: str, limit: int = 2) -> dict[str, Any]:
        return {"来源": source, "limit": limit}

    assert await start(body, {"source": "交易所"}).wait() == Returned('{"来源":"交易所","limit":2}'.encode())


async def test_on_done_is_never_called_inside_start(start: Any) -> None:
    call = start(nothing)
    assert call.ends == 0
    assert not call.running.ended
    await call.wait()
    assert call.running.ended


async def test_ten_thousand_calls_end_once_each_in_their_order(caller: Caller, info: Callable[..., CallInfo]) -> None:
    job, order, done = make_job("空", nothing), [], asyncio.Event()

    def end(number: int) -> None:
        order.append(number)
        if len(order) == 10_000:
            done.set()

    for number in range(10_000):
        caller.start(job, info(), lambda _, number=number: end(number))
    await asyncio.wait_for(done.wait(), 20)
    await asyncio.sleep(0)
    assert order == list(range(10_000))
    assert caller.running == 0


@pytest.mark.parametrize(
    "error", [ValueError("坏"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]
)
async def test_whatever_a_body_raises_ends_only_the_attempt(start: Any, error: BaseException) -> None:
    async def body() -> None:
        raise error

    outcome = await start(body).wait()
    assert isinstance(outcome, Raised)
    assert outcome.error.type == type(error).__name__
    assert not outcome.interrupted
    assert isinstance(await start(nothing).wait(), Returned)


async def test_cancel_reaches_the_body_and_counts_as_interrupted(start: Any) -> None:
    entered, cleaned = asyncio.Event(), []

    async def body(ctx: TaskContext) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(ctx.cancelled)

    call = start(body)
    await entered.wait()
    call.running.cancel()
    call.running.cancel()
    outcome = await call.wait()
    assert outcome.interrupted
    assert cleaned == [True]
    call.running.cancel()
    assert call.ends == 1


async def test_a_second_cancel_does_not_disturb_the_clean_up(start: Any) -> None:
    entered, cleaning = asyncio.Event(), asyncio.Event()

    async def body() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await asyncio.sleep(0.01)
            kept.append("cleaned")

    kept: list[str] = []
    call = start(body)
    await entered.wait()
    call.running.cancel()
    await cleaning.wait()
    call.running.cancel()
    assert (await call.wait()).interrupted
    assert kept == ["cleaned"]


async def test_cancel_before_the_first_step_ends_the_call_too(start: Any) -> None:
    entered: list[int] = []

    async def body() -> None:
        entered.append(1)

    call = start(body)
    call.running.cancel()
    outcome = await call.wait()
    assert outcome.interrupted
    assert entered == []


async def test_an_outcome_that_beats_the_cancel_is_told_as_it_was(start: Any) -> None:
    entered = asyncio.Event()

    async def body() -> str:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "kept"
        return "never"

    call = start(body)
    await entered.wait()
    call.running.cancel()
    assert await call.wait() == Returned(b'"kept"')


async def test_a_failing_clean_up_after_a_cancel_is_still_an_interruption(start: Any) -> None:
    entered = asyncio.Event()

    async def body() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise OSError("connection lost") from None

    call = start(body)
    await entered.wait()
    call.running.cancel()
    outcome = await call.wait()
    assert outcome.interrupted
    assert outcome.error.type == "OSError"


async def test_an_error_that_has_nothing_to_do_with_the_cancel_is_a_failure(start: Any) -> None:
    entered = asyncio.Event()

    async def body() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()  # type: ignore[union-attr]
        await asyncio.sleep(0)
        raise ValueError("own fault")

    call = start(body)
    await entered.wait()
    call.running.cancel()
    assert not (await call.wait()).interrupted


async def test_sleep_parks_the_task(start: Any) -> None:
    async def body() -> Sleep:
        return Sleep(90_000_000)

    assert await start(body).wait() == Parked(90_000_000, b'{"slept":90.0}')


async def test_non_retryable_and_retry_after_are_told(start: Any) -> None:
    async def hopeless() -> None:
        raise NonRetryable("no such account")

    async def throttled() -> None:
        raise RetryAfter(1.5)

    assert not (await start(hopeless).wait()).error.retryable
    error = (await start(throttled).wait()).error
    assert (error.retryable, error.retry_after_us) == (True, 1_500_000)


async def test_frames_reach_the_listener_until_the_body_has_ended(start: Any) -> None:
    kept: list[TaskContext] = []

    async def body(ctx: TaskContext) -> None:
        kept.append(ctx)
        ctx.log.info("读取 %d 行", 5, source="db")
        ctx.set_progress(0.5, "一半")

    call = start(body)
    await call.wait()
    kept[0].log.info("too late")
    line, note = call.frames
    assert isinstance(line, LogLine)
    assert (line.level, line.message) == ("info", "读取 5 行 source='db'")
    assert note == ProgressNote(0.5, "一半")


async def test_a_line_from_a_thread_of_the_body_arrives_on_the_loop(start: Any) -> None:
    async def body(ctx: TaskContext) -> None:
        await asyncio.to_thread(ctx.log.warning, "from a thread")

    call = start(body)
    await call.wait()
    assert [line.message for line in call.frames] == ["from a thread"]


async def test_the_context_of_the_running_job_is_at_hand(start: Any) -> None:
    async def body() -> str:
        context = current_context()
        assert context is not None
        return context.task_id

    assert await start(body).wait() == Returned(b'"i-1/3"')
    assert current_context() is None


async def test_calls_do_not_see_each_others_variables(start: Any) -> None:
    mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="clean")

    async def body() -> str:
        before = mine.get()
        mine.set("dirty")
        return before

    assert await start(body).wait() == Returned(b'"clean"')
    assert await start(body).wait() == Returned(b'"clean"')


async def test_stop_ends_every_body_and_refuses_new_ones(make_caller: Callable[..., Caller], start: Any) -> None:
    async def body() -> None:
        await asyncio.Event().wait()

    caller = make_caller()
    calls = [start(body, caller=caller) for _ in range(10)]
    await asyncio.sleep(0)
    await caller.stop(5.0)
    await caller.stop(5.0)
    assert [(await call.wait()).interrupted for call in calls] == [True] * 10
    assert [call.ends for call in calls] == [1] * 10
    with pytest.raises(Unavailable):
        start(nothing, caller=caller)


async def test_a_caller_that_never_started_can_be_stopped(make_caller: Callable[..., Caller]) -> None:
    await make_caller().stop(1.0)


@pytest.mark.parametrize("executor", [Executor.AUTO, Executor.THREAD])
async def test_the_probe_is_reached_between_the_body_and_its_outcome(
    make_caller: Callable[..., Caller], info: Callable[..., CallInfo], executor: Executor
) -> None:
    happened: list[str] = []

    class Watch(Probe):
        def reach(self, point: str) -> None:
            happened.append(point)

    async def body() -> None:
        happened.append("body")

    done = asyncio.Event()

    def end(_: object) -> None:
        happened.append("outcome")
        done.set()

    caller = make_caller(ambient=Ambient(probe=Watch()))
    caller.start(make_job("任务", body), info(), end, executor=executor)
    await asyncio.wait_for(done.wait(), 5)
    assert happened == ["body", "body.after", "outcome"]
    await caller.stop(1.0)


async def test_a_task_that_the_dispatcher_runs_ends_like_any_other(info: Callable[..., CallInfo]) -> None:
    dispatcher, ends = Dispatcher(), []
    caller = Caller(Ambient(), dispatcher.spawn, Services())
    done = asyncio.Event()

    def end(outcome: object) -> None:
        ends.append(outcome)
        if len(ends) == 3:
            done.set()

    for _ in range(2):
        caller.start(make_job("空", nothing), info(), end)
    caller.start(make_job("空", nothing), info(), end).cancel()
    await asyncio.wait_for(done.wait(), 5)
    assert [getattr(outcome, "interrupted", False) for outcome in ends] == [False, False, True]
    await caller.stop(1.0)
    await dispatcher.stop()
