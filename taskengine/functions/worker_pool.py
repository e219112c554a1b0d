"""Worker processes: started when needed, kept warm, one call at a time each, killed for certain when asked."""

import asyncio
from collections import deque

from taskengine.clock import Clock
from taskengine.functions.ending import NEVER_STARTED, raised
from taskengine.functions.returns import Returns
from taskengine.functions.worker_process import Assignment, WorkerProcess

__all__ = ["WorkerPool"]


class WorkerPool:
    """Up to `limit` workers; more calls wait in order. Loop thread only.

    A call that is cancelled costs its worker: SIGTERM, after `grace_s` SIGKILL to the whole group, and the next call
    gets a new one. A worker that dies takes only its own call with it.
    """

    def __init__(
        self, limit: int, clock: Clock, returns: Returns, hello: bytes, grace_s: float, max_frame: int
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._returns = returns
        self._hello = hello
        self._grace_s = grace_s
        self._max_frame = max_frame
        self._idle: list[WorkerProcess] = []
        self._busy: dict[Assignment, WorkerProcess] = {}
        self._leaving: set[WorkerProcess] = set()
        self._waiting: deque[Assignment] = deque()
        self._gone = asyncio.Event()
        self._closed = False

    def submit(self, call: Assignment) -> None:
        """Give it to a worker, or let it wait. Raises OSError when a process cannot be started."""
        if self._idle:
            self._give(self._idle.pop(), call)
        elif len(self._busy) < self._limit:
            self._give(self._start(), call)
        else:
            self._waiting.append(call)

    def interrupt(self, call: Assignment) -> None:
        """End the body, or take it from those that wait."""
        worker = self._busy.get(call)
        if worker is not None:
            worker.terminate(self._clock, self._grace_s)
        elif call in self._waiting:
            self._waiting.remove(call)
            self._returns.put(call.finish, NEVER_STARTED)

    async def close(self) -> None:
        """Kill every worker and wait until they are gone."""
        self._closed = True
        for worker in [*self._busy.values(), *self._idle, *self._leaving]:
            worker.kill()
        while self._busy or self._idle or self._leaving:
            self._gone.clear()
            await self._gone.wait()

    def _start(self) -> WorkerProcess:
        return WorkerProcess(self._hello, self._max_frame, self._returns, self._on_free, self._on_exit)

    def _give(self, worker: WorkerProcess, call: Assignment) -> None:
        self._busy[call] = worker
        worker.give(call)

    def _on_free(self, worker: WorkerProcess, call: Assignment) -> None:
        """The worker has answered. One that was asked to end goes, whatever it answered."""
        del self._busy[call]
        if worker.ending:
            self._leaving.add(worker)
            worker.kill(group=True)
        else:
            self._idle.append(worker)
        self._next()

    def _on_exit(self, worker: WorkerProcess, call: Assignment | None) -> None:
        """The worker's process is gone; `call` is what it had not answered."""
        self._leaving.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if call is not None:
            del self._busy[call]
        self._gone.set()
        self._next()

    def _next(self) -> None:
        while self._waiting and not self._closed and (self._idle or len(self._busy) < self._limit):
            call = self._waiting.popleft()
            try:
                self.submit(call)
            except OSError as error:
                call.finish(raised(error, cancelled=False))
