"""The last step of the process: what jobs have left behind does not hold it up."""

import asyncio
import logging
import os
import sys
import threading
from typing import NoReturn

__all__ = ["Leftovers", "leave"]


class Leftovers:
    """Threads and coroutines that have come since this was made, and would not go."""

    def __init__(self) -> None:
        self._there = set(threading.enumerate())

    def found(self) -> list[str]:
        """What the interpreter or the loop would wait for at their end, perhaps for ever. Ask in the loop's last task.

        Coroutines that swallow their cancellation, and threads that are not daemons: those of `asyncio.to_thread` too.
        """
        threads = [each.name for each in threading.enumerate() if not each.daemon and each not in self._there]
        own = asyncio.current_task()
        return threads + [task.get_name() for task in asyncio.all_tasks() if task is not own]


def leave(code: int) -> NoReturn:
    """End the process now, with what was said and logged written out."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)
