"""The future by itself: on loops and threads, settled before and after, once."""

import asyncio
import queue

import pykka
import pytest

from taskengine.actors import AsyncFuture


def settled(value):
    future = AsyncFuture()
    future.set(value)
    return future


async def test_it_can_be_awaited_by_many_and_again():
    future = AsyncFuture()

    async def wait():
        return await future

    waiting = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.sleep(0)
    future.set("value")
    assert await asyncio.gather(*waiting) == ["value"] * 3
    assert await future == "value"


async def test_exception_is_raised_where_it_is_awaited():
    future = AsyncFuture()
    try:
        raise KeyError("lost")
    except KeyError:
        future.set_exception()
    for _ in range(2):
        with pytest.raises(KeyError, match="lost"):
            await future


async def test_cancelled_wait_leaves_the_future_to_others():
    future = AsyncFuture()

    async def wait():
        return await future

    first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    future.set(1)
    assert await second == 1
    assert first.cancelled()


async def test_thread_may_settle_what_a_loop_awaits():
    future = AsyncFuture()
    setting = asyncio.create_task(asyncio.to_thread(future.set, 7))
    assert await future == 7
    await setting


async def test_loop_may_settle_what_a_thread_waits_for():
    future = AsyncFuture()
    getting = asyncio.create_task(asyncio.to_thread(lambda: future.get(timeout=10)))
    await asyncio.sleep(0)
    future.set(7)
    assert await getting == 7


async def test_loop_of_another_thread_may_await_it():
    future = AsyncFuture()

    async def wait():
        return await future

    waiting = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(wait())))
    await asyncio.sleep(0)
    future.set(7)
    assert await waiting == 7


def test_it_is_settled_once():
    future = settled(1)
    with pytest.raises(queue.Full):
        future.set(2)
    with pytest.raises(queue.Full):
        future.set_exception((KeyError, KeyError(), None))
    assert future.get() == 1


def test_get_times_out_and_may_be_repeated():
    future = AsyncFuture()
    with pytest.raises(pykka.Timeout):
        future.get(timeout=0.001)
    future.set(1)
    assert future.get(timeout=0.001) == 1


def test_class_of_an_exception_is_enough():
    future = AsyncFuture()
    future.set_exception((KeyError, None, None))
    with pytest.raises(KeyError):
        future.get()


async def test_derived_futures_are_awaited_without_blocking():
    base = AsyncFuture()
    derived = base.map(lambda items: [item + 1 for item in items]).filter(lambda item: item > 2)
    total = derived.reduce(lambda a, b: a + b, 100)
    joined = base.join(settled("x"), total)

    async def wait():
        return await derived, await total, await joined

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    base.set([1, 2, 3])
    assert await waiting == ([3, 4], 107, [[1, 2, 3], "x", 107])


async def test_failure_in_a_derived_future_is_raised_where_it_is_awaited():
    with pytest.raises(TypeError):
        await settled(1).filter(bool)


async def test_pending_derived_future_refuses_to_be_settled():
    mapped = AsyncFuture().map(str)
    with pytest.raises(queue.Full):
        mapped.set(1)
    with pytest.raises(queue.Full):
        mapped.set_exception((KeyError, None, None))
    assert not mapped.done()


async def test_join_with_a_thread_future_is_refused_when_awaited_and_works_in_a_thread():
    thread_future = pykka.ThreadingFuture()
    thread_future.set(2)
    joined = settled(1).join(thread_future)
    with pytest.raises(TypeError, match="would block"):
        await joined
    assert await asyncio.to_thread(joined.get) == [1, 2]


def test_get_hook_is_refused():
    with pytest.raises(NotImplementedError):
        AsyncFuture().set_get_hook(lambda timeout: 1)
