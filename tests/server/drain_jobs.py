"""Job functions that fit into no grace: their first attempt is long, and some of them hear nothing.

Loaded by its path, also in worker processes; the ledger's writer is that of the kill tests.
"""

import asyncio
import threading
import time

from crash import jobs as ledger

from taskengine import SyncTaskContext, TaskContext, job

LONG_S = 60.0


@job("长-async")
async def long_on_the_loop(ctx: TaskContext) -> int:
    """Ends when it is cancelled."""
    ledger.note(ctx)
    if ctx.attempt == 1:
        await asyncio.sleep(LONG_S)
    return ctx.attempt


@job("长-thread")
def long_in_a_thread(ctx: SyncTaskContext) -> int:
    """Nothing can end it."""
    ledger.note(ctx)
    if ctx.attempt == 1:
        time.sleep(LONG_S)
    return ctx.attempt


@job("长-process", executor="process")
def long_in_a_process(ctx: SyncTaskContext) -> int:
    """SIGTERM ends it."""
    ledger.note(ctx)
    if ctx.attempt == 1:
        time.sleep(LONG_S)
    return ctx.attempt


@job("聋-async")
async def deaf_on_the_loop(ctx: TaskContext) -> int:
    """Swallows every cancellation."""
    ledger.note(ctx)
    until_s = time.monotonic() + LONG_S
    while ctx.attempt == 1 and time.monotonic() < until_s:
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            continue
    return ctx.attempt


@job("聋-to_thread")
async def deaf_through_the_loop(ctx: TaskContext) -> int:
    """Ends when it is cancelled and leaves a thread behind that does not."""
    ledger.note(ctx)
    if ctx.attempt == 1:
        await asyncio.to_thread(time.sleep, LONG_S)
    return ctx.attempt


@job("聋-own_thread")
async def deaf_in_a_thread_of_its_own(ctx: TaskContext) -> int:
    """The same with a thread that the interpreter would wait for at its end."""
    ledger.note(ctx)
    if ctx.attempt == 1:
        threading.Thread(target=time.sleep, args=(LONG_S,)).start()
        await asyncio.sleep(LONG_S)
    return ctx.attempt


@job("聋-process", executor="process")
def deaf_in_a_process(ctx: SyncTaskContext) -> int:
    """Swallows SIGTERM."""
    ledger.note(ctx)
    until_s = time.monotonic() + LONG_S
    while ctx.attempt == 1 and time.monotonic() < until_s:
        try:
            time.sleep(0.1)
        except asyncio.CancelledError:
            continue
    return ctx.attempt


@job("堵-loop")
async def blocks_the_loop(ctx: TaskContext) -> int:
    """Lets nothing else run on the loop."""
    ledger.note(ctx)
    if ctx.attempt == 1:
        time.sleep(LONG_S)  # noqa: ASYNC251  # the very mistake that is meant
    return ctx.attempt
