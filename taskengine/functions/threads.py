"""Job threads: a bounded pool of daemon threads, and the way their results come home.

Neither `run_in_executor` nor ThreadPoolExecutor: those wake the loop for every result (37 us against 0.5 here), and
their threads are joined at exit, so one stuck function would keep the process from ending.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final

__all__ = ["Returns", "ThreadPool"]

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


class ThreadPool:
    """Up to `limit` daemon threads, started when there is work for one more. Loop thread only.

    Work beyond the limit waits in order. A function that never returns keeps its thread.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._outstanding = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work`, which must not raise; say `finished` once it is done."""
        if self._outstanding >= len(self._threads) and len(self._threads) < self._limit:
            self._grow()
        self._outstanding += 1
        self._queue.put(work)

    def finished(self) -> None:
        self._outstanding -= 1

    def close(self) -> None:
        """Idle threads leave; busy ones leave after their work, if that ends."""
        for _ in self._threads:
            self._queue.put(None)
        self._threads.clear()
        self._limit = 0

    def _grow(self) -> None:
        thread = Thread(target=_serve, args=(self._queue,), name=f"job-{len(self._threads) + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the machine has no more threads: the ones there are do the work
            if not self._threads:
                raise
            return
        self._threads.append(thread)


def _serve(queue: SimpleQueue[Callable[[], None] | None]) -> None:
    while (work := queue.get()) is not None:
        work()
        del work  # not to keep the last call's result alive while idle
