"""SIGTERM and its like: the first asks for the end, the second ends the process at once."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

__all__ = ["LEFT_AT_ONCE", "stop_signals"]

LEFT_AT_ONCE: Final = 130
"""The exit code after a second signal: nothing more was saved, the next start recovers."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def stop_signals(on_first: Callable[[], object]) -> Iterator[None]:
    """Call `on_first` on the running loop at the first signal; the second ends the process with 130.

    Plain handlers and not the loop's: the second one works also while a job blocks the loop. A signal that is ignored
    stays so, as under nohup. Outside the main thread, where Python has no signals, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, seen = asyncio.get_running_loop(), 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            os._exit(LEFT_AT_ONCE)
        loop.call_soon_threadsafe(on_first)

    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
