"""Ctrl-C while an engine runs in this process: the first saves the work, the second leaves at once."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

from taskengine.cli import exits

__all__ = ["Interrupts", "interrupts_cancel"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR: Final = b"\x1b[?25h"


class Interrupts:
    """How often somebody asked this process to end."""

    def __init__(self) -> None:
        self.count = 0


@contextlib.contextmanager
def interrupts_cancel(task: "asyncio.Task[object]", *, drawing: bool) -> Iterator[Interrupts]:
    """The first SIGINT, SIGTERM or SIGHUP cancels `task`; the second ends the process with 130, saving nothing more.

    Plain signal handlers and not the loop's: they work also while a job blocks the loop. Outside the main thread,
    where Python has no signals, nothing is changed.

    drawing  a live display may have hidden the cursor
    """
    interrupts, loop = Interrupts(), asyncio.get_running_loop()

    def on_signal(number: int, frame: FrameType | None) -> None:
        interrupts.count += 1
        if interrupts.count > 1:
            if drawing:
                os.write(2, _SHOW_CURSOR)
            os._exit(exits.INTERRUPTED)
        loop.call_soon_threadsafe(task.cancel)

    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
