"""Another workflow as a step of this one."""

from typing import Any

from taskengine.functions.outcomes import Child

__all__ = ["workflow"]


async def workflow(workflow: str, params: dict[str, Any] | None = None) -> Child:
    """Runs an instance of that workflow, its current version, and waits for its end without a slot.

    The result is the child's: the results of its tasks on which nothing depends, by their names.
    """
    return Child(workflow, params or {})
