"""Does nothing; its result is its params."""

from typing import Any

from taskengine.functions.context import TaskContext

__all__ = ["noop"]


async def noop(ctx: TaskContext) -> dict[str, Any]:
    """Does nothing. Takes any params and gives them back."""
    return dict(ctx.params)
