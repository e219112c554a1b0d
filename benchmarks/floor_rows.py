"""The rows that the floor writes: the columns of the engine's statements with the values that the engine puts there."""

from collections.abc import Sequence
from typing import Any

import msgspec

__all__ = ["Row", "done", "ended", "event", "ready", "started"]

Row = tuple[str, tuple[Any, ...]]
"""Name of a statement and its parameters."""

_encode = msgspec.json.Encoder().encode


def started(key: str, params: bytes, now: int) -> Row:
    """A new instance that runs."""
    fixed = (key, "floor", "0" * 64, params.decode(), now, None)
    return "insert_instance", (*fixed, "Running", 1, "run", "", "", None, 0, 0, None, None, now, None, "")


def ended(key: str, began: int, now: int) -> Row:
    """It has succeeded."""
    moved = ("Success", 1, "end", "", "success", "Success", 0, 0, None, None, began, now, "")
    return "change_instance", (*moved, key, "run", "", 1)


def ready(key: str, n: int, name: str) -> Row:
    """A task is offered."""
    return "insert_task", (key, n, name, "Ready", 1, *(0, -1, None, 0, 0, None, "", "", 0, 0, 0, "offer"), *[None] * 4)


def done(key: str, n: int, name: str, seq: int, now: int, result: bytes) -> Row:
    """It has succeeded as the instance's `seq`-th body."""
    plain = (name, "Success", 1, 0, -1, None, 0, 1, None, "", "", seq, 0, 0, "succeed", now, now)
    return "change_task", (*plain, 1, result.decode(), 0, None, key, n, "Ready", 1)


def event(key: str, seq: int, now: int, moves: Sequence[Sequence[Any]], progress: Sequence[int]) -> Row:
    """What happened; of the whole transaction of one instance."""
    body = {"state": "Running", "transitions": moves, "progress": progress}
    return "insert_event", (key, seq, now, _encode(body).decode())
