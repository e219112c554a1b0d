"""Job functions of the kill tests: each call first notes in the effects ledger what it is and what it could see.

Loaded by its path, also in worker processes, so it imports nothing of the tests until it must.
"""

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from taskengine import SyncTaskContext, TaskContext, job

LEDGER = "TASKENGINE_TEST_EFFECTS"
DATABASE = "TASKENGINE_TEST_DATABASE"


def note(ctx: TaskContext | SyncTaskContext) -> None:
    """One line, on the disk before the body goes on."""
    line = {
        "instance": ctx.instance_id,
        "task": ctx.task_name,
        "attempt": ctx.attempt,
        "monotonic_ns": time.monotonic_ns(),
        "seen": committed_seq(ctx.instance_id),
    }
    append(os.environ[LEDGER], line)


def append(path: str, line: dict[str, Any]) -> None:
    ledger = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(ledger, json.dumps(line, ensure_ascii=False).encode() + b"\n")
        os.fsync(ledger)
    finally:
        os.close(ledger)


def committed_seq(instance_id: str) -> int:
    """The instance's last committed event, read as any other program would read it."""
    dsn = os.environ[DATABASE]
    if "://" in dsn:
        from databases.asking import ask  # of the tests, and only where a server is

        found = ask(dsn, f"SELECT coalesce(max(seq), 0) FROM events WHERE instance_id = '{instance_id}'")
        return int(found[0][0][0])
    database = sqlite3.connect(f"file:{dsn}?mode=ro", uri=True, timeout=5)
    try:
        query = "SELECT coalesce(max(seq), 0) FROM events WHERE instance_id = ?"
        return int(database.execute(query, (instance_id,)).fetchone()[0])
    finally:
        database.close()


@job("nap")
async def nap(ctx: TaskContext, seconds: float, dies_after: float) -> None:
    """Sleeps twice; its process dies in the middle of the second sleep of the first attempt."""
    if ctx.attempt == 1:
        asyncio.get_running_loop().call_later(dies_after, os.kill, os.getpid(), signal.SIGKILL)
    for number in (1, 2):
        begun = time.time()
        await ctx.sleep(seconds)
        append(os.environ[LEDGER], {"attempt": ctx.attempt, "number": number, "begun": begun, "ended": time.time()})


def summed(inputs: Sequence[Any], own: int) -> int:
    """What a task makes of its dependencies' results; those without one count as nothing."""
    return (own + sum(value for value in inputs if isinstance(value, int))) % 1_000_003


@job("步骤-async")
async def on_the_loop(inputs: list[Any], own: int, seconds: float, ctx: TaskContext) -> int:
    note(ctx)
    await asyncio.sleep(seconds)
    return summed(inputs, own)


@job("步骤-thread")
def in_a_thread(inputs: list[Any], own: int, seconds: float, ctx: SyncTaskContext) -> int:
    note(ctx)
    time.sleep(seconds)
    return summed(inputs, own)


@job("步骤-process", executor="process")
def in_a_process(inputs: list[Any], own: int, seconds: float, ctx: SyncTaskContext) -> int:
    note(ctx)
    time.sleep(seconds)
    return summed(inputs, own)


@job
async def flaky(inputs: list[Any], own: int, seconds: float, ctx: TaskContext) -> int:
    """Fails the first time."""
    note(ctx)
    await asyncio.sleep(seconds)
    if ctx.attempt == 1:
        raise ConnectionError("第一次 always fails")
    return summed(inputs, own)


@job
async def broken(inputs: list[Any], own: int, seconds: float, ctx: TaskContext) -> int:
    """Never succeeds."""
    note(ctx)
    raise ValueError("broken by design")


@job
async def repaired(inputs: list[Any], own: int, seconds: float, ctx: TaskContext) -> int:
    """Fails in the first run of its instance and succeeds in the next one."""
    note(ctx)
    if ctx.run_id.endswith("/1"):
        raise RuntimeError("nobody has repaired it yet")
    return summed(inputs, own)


@job
async def fatal(ctx: TaskContext) -> None:
    """Takes the whole process with it."""
    note(ctx)
    os._exit(66)


@job
async def innocent(seconds: float, ctx: TaskContext) -> str:
    note(ctx)
    await asyncio.sleep(seconds)
    return ctx.instance_id
