"""What callers see of instances and tasks: committed state, in plain records."""

import inspect
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from taskengine.clock import Micros
from taskengine.functions import JobFunction
from taskengine.model.artifacts import ArtifactRef, is_reference, referred
from taskengine.model.definition import TaskSpec, WorkflowDefinition
from taskengine.model.ids import InstanceId, Ordinal, Version, WorkflowId
from taskengine.model.pools import Pool
from taskengine.model.progress import Progress
from taskengine.model.records import AttemptRow, DefinitionRow, InstanceRow, Outcome, TaskFailure, TaskRow
from taskengine.model.states import TASK_FINAL, InstanceState, TaskState
from taskengine.store.interface import StoreStatus

__all__ = [
    "AttemptView",
    "Commanded",
    "EngineStatus",
    "FunctionView",
    "InstanceView",
    "Pruned",
    "Registration",
    "TaskView",
    "VersionView",
    "WorkflowView",
    "attempt_view",
    "commanded",
    "function_view",
    "instance_view",
    "task_view",
    "version_view",
    "workflow_view",
]

_JSON: Final = msgspec.json.Decoder()
_FAILURE: Final = msgspec.json.Decoder(TaskFailure)


class InstanceView(msgspec.Struct, frozen=True, kw_only=True):
    """One instance. Times are aware, UTC; `duration_s` counts to now while it runs."""

    id: InstanceId
    workflow_id: WorkflowId
    workflow_name: str
    version: Version
    status: InstanceState
    progress: Progress
    params: Mapping[str, Any]
    run: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_s: float | None
    error: str


class Commanded(InstanceView, frozen=True, kw_only=True):
    """The instance after a command.

    changed  False: it was so already. The same command id again has the answer that it had the first time.
    """

    changed: bool


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """One task, as its latest attempt left it.

    waits_for  names of dependencies that have not ended, while it is Pending
    due_at     when a retry or a sleep is due
    artifact   where a large result lies; `result` is None then, but where one task was asked for
    """

    name: str
    ordinal: int
    status: TaskState
    attempt: int
    tries: int
    job: str
    depends_on: tuple[str, ...]
    started_at: datetime | None
    finished_at: datetime | None
    duration_s: float | None
    due_at: datetime | None
    result: Any
    error: TaskFailure | None
    reason: str
    waits_for: tuple[str, ...] = ()
    artifact: ArtifactRef | None = None


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that was followed by another one."""

    task: str
    attempt: int
    run: int
    outcome: Outcome
    started_at: datetime | None
    finished_at: datetime | None
    error: TaskFailure | None


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What `register_workflow` did.

    created  the workflow was not known
    changed  this version was not its current one
    """

    version: Version
    created: bool
    changed: bool


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What `prune` did, or would do.

    instances  that were removed, or would be
    more       a limit was reached; there may be more
    """

    instances: int
    more: bool = False


class WorkflowView(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow as its current version has it. `created_at` is that of the version; aware, UTC."""

    definition: WorkflowDefinition
    version: Version
    created_at: datetime


class VersionView(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a workflow. `current`: a start by the workflow's id takes this one."""

    version: Version
    created_at: datetime
    current: bool


class FunctionView(msgspec.Struct, frozen=True, kw_only=True):
    """A job function that this engine can run. `path` is `module:function`, `signature` as Python writes it."""

    name: str
    kind: Literal["async", "thread", "process"]
    signature: str
    doc: str
    path: str
    builtin: bool


class PoolStatus(msgspec.Struct, frozen=True):
    """A pool at this moment: attempts that run in it, and that wait for it."""

    pool: Pool
    running: int
    queued: int


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine is doing at this moment.

    slots    bodies that may run at once
    running  slots in use
    queued   attempts that wait for a slot
    backlog  rows that wait for their commit
    stalled  the store cannot commit; nothing new is accepted
    actors   in memory
    stuck    threads whose body was told to end and goes on
    pools    the same of each pool
    """

    store: StoreStatus
    slots: int
    running: int
    queued: int
    backlog: int
    stalled: bool
    actors: int
    stuck: int = 0
    pools: Sequence[PoolStatus] = ()


def commanded(view: InstanceView, *, changed: bool) -> Commanded:
    return Commanded(changed=changed, **{name: getattr(view, name) for name in InstanceView.__struct_fields__})


def workflow_view(row: DefinitionRow, definition: WorkflowDefinition) -> WorkflowView:
    return WorkflowView(definition=definition, version=row.version, created_at=_required_time(row.created_us))


def version_view(row: DefinitionRow, current: Version) -> VersionView:
    return VersionView(version=row.version, created_at=_required_time(row.created_us), current=row.version == current)


def function_view(job: JobFunction, *, builtin: bool) -> FunctionView:
    return FunctionView(
        name=job.name,
        kind=job.kind.value,
        signature=str(inspect.signature(job.function)),
        doc=inspect.getdoc(job.function) or "",
        path=job.path,
        builtin=builtin,
    )


def instance_view(row: InstanceRow, title: str, progress: Progress, now_us: Micros) -> InstanceView:
    return InstanceView(
        id=row.id,
        workflow_id=row.workflow_id,
        workflow_name=title,
        version=row.version,
        status=row.state,
        progress=progress,
        params=_JSON.decode(row.params),
        run=row.run,
        created_at=_required_time(row.created_us),
        started_at=_time(row.started_us),
        finished_at=_time(row.finished_us),
        duration_s=_span(row.started_us, row.finished_us or now_us),
        error=row.error,
    )


def task_view(spec: TaskSpec, ordinal: int, row: TaskRow | None, waits_for: Sequence[str]) -> TaskView:
    """`row` None: the task has not been touched. `waits_for`: dependencies that have not ended."""
    row = row or TaskRow(ordinal=Ordinal(ordinal), name=spec.name)
    stored = row.result if isinstance(row.result, bytes) and row.state is TaskState.SUCCESS else None
    large = referred(stored) if stored is not None and is_reference(stored) else None
    return TaskView(
        name=row.name,
        ordinal=ordinal,
        status=row.state,
        attempt=row.attempt,
        tries=row.tries,
        job=spec.job,
        depends_on=spec.depends_on,
        started_at=_time(row.started_us),
        finished_at=_time(row.finished_us),
        duration_s=_span(row.started_us, row.finished_us) if row.state in TASK_FINAL else None,
        due_at=_time(row.due_us),
        result=None if stored is None or large is not None else _JSON.decode(stored),
        artifact=large,
        error=_FAILURE.decode(row.error) if isinstance(row.error, bytes) else None,
        reason=row.reason,
        waits_for=tuple(waits_for) if row.state is TaskState.PENDING else (),
    )


def attempt_view(task: str, row: AttemptRow) -> AttemptView:
    return AttemptView(
        task=task,
        attempt=row.attempt,
        run=row.run,
        outcome=row.outcome,
        started_at=_time(row.started_us),
        finished_at=_time(row.finished_us),
        error=None if row.error is None else _FAILURE.decode(row.error),
    )


def _required_time(at_us: Micros) -> datetime:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC)


def _time(at_us: Micros | None) -> datetime | None:
    return None if at_us is None else _required_time(at_us)


def _span(start_us: Micros | None, end_us: Micros | None) -> float | None:
    return None if start_us is None or end_us is None else max(0.0, (end_us - start_us) / 1_000_000)
