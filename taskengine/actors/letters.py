"""Messages that nobody will read: counted, and the last ones kept to look at."""

import threading
from collections import deque
from typing import Any

import msgspec

from taskengine.ambient import Metrics

__all__ = ["DeadLetter", "DeadLetters"]


class DeadLetter(msgspec.Struct, frozen=True):
    """actor_class and key name the actor that had stopped; key is None for an anonymous one."""

    actor_class: str
    key: str | None
    message: Any


class DeadLetters:
    """Count under `actors.dead_letters` and a ring of the last `keep` letters. For any thread."""

    def __init__(self, metrics: Metrics, keep: int = 100) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._last: deque[DeadLetter] = deque(maxlen=keep)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def last(self) -> list[DeadLetter]:
        """The letters still kept, the oldest first."""
        with self._lock:
            return list(self._last)

    def add(self, actor_class: str, key: str | None, message: Any) -> None:
        """One more."""
        with self._lock:
            self._count += 1
            self._last.append(DeadLetter(actor_class, key, message))
        self._metrics.count("actors.dead_letters")
