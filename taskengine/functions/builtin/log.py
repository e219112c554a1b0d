"""Writes a line to the task's log."""

from typing import Any, Literal

import msgspec

from taskengine.functions.context import TaskContext

__all__ = ["log"]


async def log(ctx: TaskContext, message: Any, level: Literal["debug", "info", "warning", "error"] = "info") -> None:
    """Writes `message` at `level`; what is no text is written as JSON."""
    ctx.tell(level, message if isinstance(message, str) else msgspec.json.encode(message).decode())
