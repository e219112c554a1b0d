"""The job of a replayed task: it does nothing, and keeps a worker busy while it does it."""

import asyncio

from taskengine import job


@job("hold")
async def hold(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds
