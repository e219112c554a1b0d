"""A coroutine outside of the engine's loop: in a job thread or a worker process, on a loop of its own."""

import asyncio
from collections.abc import Awaitable
from typing import Any

__all__ = ["Solo"]


class Solo:
    """Runs one awaitable to its end; `cancel` may come from any thread or a signal handler, at any time."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    def run(self, body: Awaitable[Any]) -> Any:
        return asyncio.run(self._main(body))

    def cancel(self) -> None:
        self._cancelled = True
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            try:
                loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:  # the loop has closed: the body has ended
                return

    async def _main(self, body: Awaitable[Any]) -> Any:
        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        if self._cancelled:
            if asyncio.iscoroutine(body):
                body.close()
            raise asyncio.CancelledError("asked to end before the body began")
        return await body
