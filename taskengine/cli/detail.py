"""Instances and tasks as JSON-shaped data: the stable shape of `--json`. Keys may be added, never renamed."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from taskengine.engine.views import InstanceView, TaskView
from taskengine.model.progress import Progress

__all__ = ["instance_data", "instance_detail", "task_data"]


def instance_data(view: InstanceView) -> dict[str, Any]:
    """One instance without its tasks. Times are RFC 3339, UTC; `duration` is in seconds."""
    return {
        "id": view.id,
        "workflow_id": view.workflow_id,
        "workflow_name": view.workflow_name,
        "version": view.version,
        "status": view.status.value,
        "run": view.run,
        "progress": _progress(view.progress),
        "params": dict(view.params),
        "created_at": view.created_at,
        "started_at": view.started_at,
        "finished_at": view.finished_at,
        "duration": view.duration_s,
        "error_message": view.error or None,
    }


def instance_detail(view: InstanceView, tasks: Sequence[TaskView], result: Mapping[str, Any] | None) -> dict[str, Any]:
    """The same with the results of its leaf tasks, by name, and with all tasks in definition order."""
    return {**instance_data(view), "result": result, "tasks": [task_data(task) for task in tasks]}


def task_data(view: TaskView) -> dict[str, Any]:
    """`error` has `type`, `message`, `traceback`, or is null."""
    return {
        "name": view.name,
        "status": view.status.value,
        "job": view.job,
        "depends_on": list(view.depends_on),
        "attempt": view.attempt,
        "tries": view.tries,
        "started_at": view.started_at,
        "finished_at": view.finished_at,
        "duration": view.duration_s,
        "due_at": view.due_at,
        "reason": view.reason or None,
        "waits_for": list(view.waits_for),
        "result": view.result,
        "error": None
        if view.error is None
        else {"type": view.error.type, "message": view.error.message, "traceback": view.error.traceback or None},
    }


def _progress(progress: Progress) -> dict[str, int]:
    return {
        "total": progress.total,
        "percent": progress.percent,
        **{name: getattr(progress, name) for name in msgspec.structs.asdict(progress)},
    }
