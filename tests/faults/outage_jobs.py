"""A job that leaves a line on the disk each time it runs. Loaded by its path."""

import asyncio
import json
import os

from taskengine import TaskContext, job


@job("noted")
async def noted(ctx: TaskContext, seconds: float = 0.0) -> int:
    line = json.dumps([ctx.instance_id, ctx.task_name, ctx.attempt]).encode() + b"\n"
    ledger = os.open(os.environ["TASKENGINE_TEST_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(ledger, line)
    finally:
        os.close(ledger)
    await asyncio.sleep(seconds)
    return ctx.attempt
