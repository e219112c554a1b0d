"""SIGTERM and its like: the first asks for the end, the second ends the process at once.

They are heard from the first line of `serve` to its last, so that neither a long start nor what lingers at the end
makes them deaf. An end that has begun is bounded from outside the loop: a job may block the loop itself.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Final, Self

__all__ = ["LEFT_AT_ONCE", "StopSignals"]

LEFT_AT_ONCE: Final = 130
"""The exit code after a second signal: nothing more was saved, the next start recovers."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Heard while the context is open. Made and opened in the main thread; elsewhere Python has no signals, and only
    `end_begins` counts.

    limit_s  of an end; it counts from the first signal, or from `end_begins`
    on_over  called in a thread of its own when the context is still open then; expected to end the process

    Plain handlers and not the loop's: the second signal works also while a job blocks the loop. A signal that is
    ignored stays so, as under nohup.
    """

    def __init__(self, limit_s: float, on_over: Callable[[], object]) -> None:
        self._limit_s, self._on_over = limit_s, on_over
        self._words: SimpleQueue[bool] = SimpleQueue()  # its `put` may interrupt itself, as in a handler of signals
        self._begun, self._signals = False, 0
        self._tell: Callable[[], object] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="taskengine-end", daemon=True).start()
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._on_signal) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._words.put(False)

    def on_first(self, call: Callable[[], object]) -> None:
        """Call it on the running loop at the first signal; in the next turn when that has come already."""
        loop = asyncio.get_running_loop()
        self._tell = lambda: loop.call_soon_threadsafe(call)
        if self._signals:
            self._tell()

    def end_begins(self) -> None:
        """From now on it is bounded; again changes nothing."""
        if not self._begun:
            self._begun = True
            self._words.put(True)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(LEFT_AT_ONCE)
        self.end_begins()
        if self._tell is not None:
            self._tell()

    def _watch(self) -> None:
        """In a thread of its own. The first word is the beginning of the end, or the end of the context."""
        if self._words.get():
            try:
                self._words.get(timeout=self._limit_s)
            except Empty:
                self._on_over()
