"""How late the loop comes to its work, and who holds it.

A timer on the loop measures its own lateness. A thread watches that the timer goes on, and when it has not for half a
second it writes one line with the place at which the loop's thread stands: usually a job that should have been `def`.
"""

import sys
import threading
from typing import Final

from taskengine.ambient import Ambient
from taskengine.clock import TimerHandle

__all__ = ["LoopLag", "place_of"]

PERIOD_S: Final = 0.25
BLOCKED_S: Final = 0.5
_FRAMES: Final = 6


class LoopLag:
    """Start and stop on the loop's thread. `lag_s` is a moving average of the last seconds."""

    def __init__(self, ambient: Ambient, *, period_s: float = PERIOD_S, blocked_s: float = BLOCKED_S) -> None:
        self._ambient, self._period_s, self._blocked_s = ambient, period_s, blocked_s
        self.lag_s = 0.0
        self._beats = 0
        self._due_s = 0.0
        self._timer: TimerHandle | None = None
        self._thread_id = 0
        self._over = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self) -> None:
        """Begin to measure. A second call changes nothing."""
        if self._watcher is None:
            self._thread_id = threading.get_ident()
            self._arm()
            self._watcher = threading.Thread(target=self._watch, name="taskengine-loop-watch", daemon=True)
            self._watcher.start()

    def stop(self) -> None:
        """Returns when the watching thread has ended. Idempotent, also before `start`."""
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.join()

    def _arm(self) -> None:
        self._due_s = self._ambient.clock.monotonic() + self._period_s
        self._timer = self._ambient.clock.call_at(self._due_s, self._beat)

    def _beat(self) -> None:
        late_s = max(0.0, self._ambient.clock.monotonic() - self._due_s)
        self.lag_s += (late_s - self.lag_s) / 8
        self._beats += 1
        self._ambient.metrics.gauge("loop.lag_s", self.lag_s)
        if late_s > self._blocked_s:
            self._ambient.metrics.count("loop.blocked")
        self._arm()

    def _watch(self) -> None:
        """The thread. It looks at a number and writes a line; it touches nothing of the loop's."""
        seen, told = -1, -1
        while not self._over.wait(self._period_s + self._blocked_s):
            if self._beats == seen and told != seen:
                told = seen
                self._ambient.log.warning("loop.blocked", at=place_of(self._thread_id))
            seen = self._beats


def place_of(thread_id: int) -> str:
    """Where a thread stands, innermost first: `load jobs.py:12 < run task.py:80`; empty when it has ended."""
    frame = sys._current_frames().get(thread_id)
    places: list[str] = []
    while frame is not None and len(places) < _FRAMES:
        code = frame.f_code
        places.append(f"{code.co_name} {code.co_filename.rpartition('/')[2]}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(places)
