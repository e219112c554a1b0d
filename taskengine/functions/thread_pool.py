"""A bounded pool of daemon threads.

Not ThreadPoolExecutor: its threads are joined at exit, so one stuck function would keep the process from ending.
"""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

__all__ = ["ThreadPool"]


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
