"""Instances, tasks and log lines over the wire."""

from datetime import datetime
from typing import Any

import msgspec

__all__ = [
    "AddTasksReply",
    "AddTasksRequest",
    "ArtifactBody",
    "AttemptBody",
    "CancelRequest",
    "FailureBody",
    "ForkRequest",
    "InstanceBody",
    "InstanceDetail",
    "LogLine",
    "PauseRequest",
    "ProgressBody",
    "ResumeRequest",
    "RetryRequest",
    "SignalRequest",
    "TaskBody",
]


class ProgressBody(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks by what became of them; the seven from `completed` to `compensation` add up to `total`.

    percent                              of the tasks that have ended
    running_task_ids, pending_task_ids   names, at most 100 of each; only where one instance was asked for
    """

    total: int
    percent: int
    completed: int
    failed: int
    running: int
    pending: int
    skipped: int
    cancelled: int
    compensation: int
    running_task_ids: list[str] = []
    pending_task_ids: list[str] = []


class InstanceBody(msgspec.Struct, frozen=True, kw_only=True):
    """One instance. `duration` counts to now while it runs; `result` is null in lists and until it has ended."""

    id: str
    workflow_id: str
    workflow_name: str
    version: str
    status: str
    run: int
    progress: ProgressBody
    params: dict[str, Any]
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration: float | None = None
    error_message: str | None = None
    result: dict[str, Any] | None = None


class FailureBody(msgspec.Struct, frozen=True, kw_only=True):
    """Why an attempt failed. `type` is the name of the exception's class, or a code such as `lost`."""

    type: str
    message: str
    traceback: str | None = None


class AttemptBody(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that was followed by another one; the task itself tells of the last one."""

    attempt: int
    run: int
    outcome: str
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: FailureBody | None = None


class ArtifactBody(msgspec.Struct, frozen=True, kw_only=True):
    """Content that lies in the artifact store: SHA-256 in hex, and bytes."""

    digest: str
    size: int


class TaskBody(msgspec.Struct, frozen=True, kw_only=True):
    """One task, as its latest attempt left it.

    tries      attempts that count against the retry policy in this run
    due_at     when a retry or a sleep is due
    waits_for  dependencies that have not ended, while it is Pending
    attempts   the earlier ones; only where they were asked for
    artifact   of a large result, which is null then; the answer about the one task has it
    """

    name: str
    status: str
    job: str
    depends_on: list[str]
    attempt: int
    tries: int
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration: float | None = None
    due_at: datetime | None = None
    reason: str | None = None
    waits_for: list[str] = []
    result: Any = None
    error: FailureBody | None = None
    attempts: list[AttemptBody] = []
    artifact: ArtifactBody | None = None


class InstanceDetail(InstanceBody, frozen=True, kw_only=True):
    """An instance with all its tasks, in definition order: what `--json` prints."""

    tasks: list[TaskBody]


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One stored line. `id` grows within an instance; hand it back as `since` for the lines behind it.

    level  debug, info, warning, error; stdout, stderr for what a command printed
    """

    id: int
    instance_id: str
    task: str
    attempt: int
    level: str
    message: str
    at: datetime


class PauseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`now` also interrupts what runs; it will run again after the resume."""

    now: bool = False


class ResumeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to say; `{}` or no body at all."""


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`reason` is kept with the instance; `compensate`: undo then what its tasks have done."""

    reason: str = ""
    compensate: bool = False


class RetryRequest(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"from_task": "from", "only_task": "only"},
):
    """`from` one task and all below, `only` one task, neither: everything that failed."""

    from_task: str | None = None
    only_task: str | None = None


class AddTasksRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tasks for a running instance, each as in a file.

    parent  the task whose sub-tasks they are; null: they stand beside the tasks of the definition
    """

    tasks: list[dict[str, Any]]
    parent: str | None = None


class AddTasksReply(msgspec.Struct, frozen=True, kw_only=True):
    """How many of them are new; the others were there already, the same."""

    added: int


class ForkRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_task": "from"}):
    """`from` one task and all below; `params` over those of the instance; `version`: another one of its workflow."""

    from_task: str
    params: dict[str, Any] = {}
    version: str | None = None


class SignalRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent to a task that waits; for an approval `{"approved": true, "comment": "…"}`."""

    payload: Any = None
