"""The quiet part of a stop: nothing new begins, and what runs may finish."""

import asyncio
from typing import Final

from taskengine.clock import Clock
from taskengine.engine.runner import Runner
from taskengine.errors import Unavailable

__all__ = ["Draining"]

_STOPPING: Final = "the engine is stopping and starts nothing more; what was acknowledged goes on at its next start"


class Draining:
    """Whether the engine drains. Belongs to the loop's thread; nothing of it survives a crash, recovery starts anew."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.begun = False

    def refuse_start(self) -> None:
        """Raises Unavailable once the drain has begun."""
        if self.begun:
            raise Unavailable(_STOPPING)

    async def until_idle(self, runner: Runner, patience_s: float) -> bool:
        """Close the runner and wait for the bodies in its slots; False when `patience_s` is over first."""
        self.begun = True
        runner.close()
        over = asyncio.Event()
        runner.on_idle = over.set
        timer = self._clock.call_at(self._clock.monotonic() + patience_s, over.set)
        try:
            if runner.busy:
                await over.wait()
        finally:
            timer.cancel()
            runner.on_idle = None
        return not runner.busy
