"""Names of tasks that somebody typed."""

from taskengine.cli.targets.interface import Target
from taskengine.errors import NotFound
from taskengine.model.spelling import did_you_mean

__all__ = ["must_have_task"]


def must_have_task(target: Target, instance_id: str, task: str) -> None:
    """Raises NotFound with the nearest name."""
    names = [each.name for each in target.detail(instance_id).tasks]
    if task not in names:
        raise NotFound("task", task, did_you_mean(task, names).removeprefix(", "))
