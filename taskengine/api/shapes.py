"""From what the engine says to what travels: views to wire bodies.

Pure, and without the server: the command line shows local runs in the same shape as a server's answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import msgspec

from taskengine.clock import Micros
from taskengine.engine.views import (
    AttemptView,
    EngineStatus,
    FunctionView,
    InstanceView,
    PoolStatus,
    Registration,
    TaskView,
    VersionView,
    WorkflowView,
)
from taskengine.model.definition import ParamSpec, Retention, WorkflowDefinition
from taskengine.model.progress import Progress
from taskengine.model.records import LogRow, TaskFailure
from taskengine.model.states import BUCKETS, Bucket
from taskengine.store.interface import MoveNote, StoreFigures
from taskengine.store.lock import Holder
from taskengine.wire import (
    ArtifactBody,
    AttemptBody,
    DatabaseBody,
    FailureBody,
    FilledBody,
    FunctionBody,
    GraphBody,
    GraphEdge,
    GraphNode,
    HolderBody,
    InstanceBody,
    InstanceDetail,
    LogLine,
    OldestBody,
    ParamBody,
    PoolBody,
    ProgressBody,
    RetentionBody,
    StatusBody,
    TableBody,
    TaskBody,
    UploadReply,
    VersionBody,
    WorkflowDetail,
    WorkflowSummary,
)

__all__ = [
    "MAX_NAMES",
    "attempt_body",
    "database_body",
    "function_body",
    "graph_body",
    "holder_body",
    "instance_body",
    "instance_detail",
    "log_line",
    "open_names",
    "param_body",
    "progress_body",
    "status_body",
    "task_bodies",
    "task_body",
    "upload_reply",
    "version_body",
    "workflow_detail",
    "workflow_summary",
]

MAX_NAMES: Final = 100
"""Names of running and of pending tasks that one progress may list."""


def progress_body(progress: Progress, *, running: Sequence[str] = (), pending: Sequence[str] = ()) -> ProgressBody:
    """The seven numbers; names where somebody asked for one instance."""
    return ProgressBody(
        total=progress.total,
        percent=progress.percent,
        completed=progress.completed,
        failed=progress.failed,
        running=progress.running,
        pending=progress.pending,
        skipped=progress.skipped,
        cancelled=progress.cancelled,
        compensation=progress.compensation,
        running_task_ids=list(running[:MAX_NAMES]),
        pending_task_ids=list(pending[:MAX_NAMES]),
    )


def open_names(tasks: Iterable[TaskView]) -> tuple[list[str], list[str]]:
    """Names of the tasks that count as running and as pending, in definition order, at most 100 of each."""
    tasks = list(tasks)
    running = (task.name for task in tasks if BUCKETS[task.status] is Bucket.RUNNING)
    pending = (task.name for task in tasks if BUCKETS[task.status] is Bucket.PENDING)
    return list(islice(running, MAX_NAMES)), list(islice(pending, MAX_NAMES))


def instance_body(
    view: InstanceView,
    *,
    running: Sequence[str] = (),
    pending: Sequence[str] = (),
    result: Mapping[str, Any] | None = None,
) -> InstanceBody:
    return InstanceBody(**_instance_fields(view, running, pending, result))


def instance_detail(
    view: InstanceView,
    tasks: Sequence[TaskView],
    *,
    result: Mapping[str, Any] | None = None,
    attempts: Sequence[AttemptView] = (),
) -> InstanceDetail:
    """An instance with all its tasks; `attempts` are the earlier ones of all of them."""
    running, pending = open_names(tasks)
    return InstanceDetail(
        **_instance_fields(view, running, pending, result),
        tasks=task_bodies(tasks, attempts),
    )


def _instance_fields(
    view: InstanceView, running: Sequence[str], pending: Sequence[str], result: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "id": view.id,
        "workflow_id": view.workflow_id,
        "workflow_name": view.workflow_name,
        "version": view.version,
        "status": view.status.value,
        "run": view.run,
        "progress": progress_body(view.progress, running=running, pending=pending),
        "params": dict(view.params),
        "created_at": view.created_at,
        "started_at": view.started_at,
        "finished_at": view.finished_at,
        "duration": view.duration_s,
        "error_message": view.error or None,
        "result": None if result is None else dict(result),
    }


def task_bodies(tasks: Iterable[TaskView], attempts: Iterable[AttemptView] = ()) -> list[TaskBody]:
    """Tasks in their order, each with its earlier attempts out of those of the whole instance."""
    earlier: dict[str, list[AttemptView]] = {}
    for attempt in attempts:
        earlier.setdefault(attempt.task, []).append(attempt)
    return [task_body(task, earlier.get(task.name, ())) for task in tasks]


def task_body(view: TaskView, attempts: Sequence[AttemptView] = ()) -> TaskBody:
    """`attempts`: the earlier ones of this task."""
    return TaskBody(
        name=view.name,
        status=view.status.value,
        job=view.job,
        depends_on=list(view.depends_on),
        attempt=view.attempt,
        tries=view.tries,
        started_at=view.started_at,
        finished_at=view.finished_at,
        duration=view.duration_s,
        due_at=view.due_at,
        reason=view.reason or None,
        waits_for=list(view.waits_for),
        result=view.result,
        error=_failure(view.error),
        attempts=[attempt_body(attempt) for attempt in attempts],
        artifact=None if view.artifact is None else ArtifactBody(digest=view.artifact.digest, size=view.artifact.size),
    )


def attempt_body(view: AttemptView) -> AttemptBody:
    return AttemptBody(
        attempt=view.attempt,
        run=view.run,
        outcome=view.outcome.value,
        started_at=view.started_at,
        finished_at=view.finished_at,
        error=_failure(view.error),
    )


def _failure(failure: TaskFailure | None) -> FailureBody | None:
    if failure is None:
        return None
    return FailureBody(type=failure.type, message=failure.message, traceback=failure.traceback or None)


def log_line(row: LogRow) -> LogLine:
    return LogLine(
        id=row.id,
        instance_id=row.instance_id,
        task=row.task,
        attempt=row.attempt,
        level=row.level,
        message=row.message,
        at=_time(row.at_us),
    )


def workflow_summary(view: WorkflowView) -> WorkflowSummary:
    return WorkflowSummary(**_summary_fields(view))


def workflow_detail(view: WorkflowView, shape: Mapping[str, Any]) -> WorkflowDetail:
    """`shape`: the definition under the keys of the file format, as `definition.workflow_shape` gives it."""
    definition = view.definition
    return WorkflowDetail(
        **_summary_fields(view),
        params=[param_body(name, spec) for name, spec in definition.params.items()],
        definition=dict(shape),
        graph=graph_body(definition, view.version),
    )


def _summary_fields(view: WorkflowView) -> dict[str, Any]:
    definition = view.definition
    return {
        "id": definition.id,
        "name": definition.title,
        "description": definition.description,
        "task_count": len(definition.tasks),
        "version": view.version,
        "created_at": view.created_at,
        "labels": dict(definition.labels),
    }


def param_body(name: str, spec: ParamSpec) -> ParamBody:
    """`default` is null both for null and for none; `has_default` tells them apart."""
    known = spec.default is not msgspec.UNSET
    return ParamBody(
        name=name,
        type=spec.type,
        required=spec.required,
        has_default=known,
        default=spec.default if known else None,
        enum=list(spec.enum),
        minimum=spec.minimum,
        maximum=spec.maximum,
        pattern=spec.pattern,
        description=spec.description,
    )


def graph_body(definition: WorkflowDefinition, version: str) -> GraphBody:
    """Nodes in definition order; an edge leads from a dependency to its dependent."""
    return GraphBody(
        id=definition.id,
        name=definition.title,
        version=version,
        nodes=[
            GraphNode(name=task.name, job=task.job, trigger=task.trigger.value, when=task.when or None)
            for task in definition.tasks
        ],
        edges=[GraphEdge(before=before, after=task.name) for task in definition.tasks for before in task.depends_on],
    )


def version_body(view: VersionView) -> VersionBody:
    return VersionBody(version=view.version, created_at=view.created_at, current=view.current)


def upload_reply(definition: WorkflowDefinition, done: Registration) -> UploadReply:
    return UploadReply(id=definition.id, version=done.version, created=done.created, changed=done.changed)


def function_body(view: FunctionView) -> FunctionBody:
    return FunctionBody(
        name=view.name,
        kind=view.kind,
        signature=view.signature,
        doc=view.doc,
        path=view.path,
        builtin=view.builtin,
    )


def _pool_body(status: PoolStatus) -> PoolBody:
    pool = status.pool
    return PoolBody(
        name=pool.name,
        slots=pool.slots,
        rate=None if pool.rate is None else str(pool.rate),
        running=status.running,
        queued=status.queued,
    )


def status_body(status: EngineStatus, *, stream_clients: int = 0, loop_lag_s: float = 0.0) -> StatusBody:
    """The two numbers that the engine does not know come from the server."""
    store = status.store
    return StatusBody(
        store=store.address,
        schema=store.schema,
        size_bytes=store.size_bytes,
        instances={state.value: count for state, count in store.instances.items()},
        slots=status.slots,
        running=status.running,
        queued=status.queued,
        backlog=status.backlog,
        actors=status.actors,
        stream_clients=stream_clients,
        loop_lag_s=loop_lag_s,
        pools=[_pool_body(pool) for pool in status.pools],
    )


def database_body(found: StoreFigures, retention: Retention | None = None) -> DatabaseBody:
    """`retention`: of the server on it, where one answers."""
    status, oldest = found.status, found.oldest
    return DatabaseBody(
        kind=found.kind,
        address=status.address,
        schema=status.schema,
        missing_steps=list(found.steps[status.schema :]),
        size_bytes=status.size_bytes,
        instances={state.value: count for state, count in status.instances.items()},
        tables=[TableBody(name=table.table, rows=table.rows, exact=table.exact) for table in found.tables],
        oldest_unfinished=None
        if oldest is None
        else OldestBody(
            id=oldest.id,
            workflow_id=oldest.workflow_id,
            status=oldest.state.value,
            created_at=_time(oldest.created_us),
        ),
        holder=holder_body(found.holder),
        filled_from=None if found.move is None else _filled_body(found.move),
        retention=None if retention is None else _retention_body(retention),
    )


def _retention_body(retention: Retention) -> RetentionBody:
    def span(kept_us: Micros | msgspec.UnsetType | None) -> float | None:
        return kept_us / 1_000_000 if isinstance(kept_us, int) else None

    return RetentionBody(success=span(retention.success_us), failed=span(retention.failed_us))


def holder_body(holder: Holder | None) -> HolderBody | None:
    return None if holder is None else HolderBody(pid=holder.pid, host=holder.host, address=holder.address)


def _filled_body(move: MoveNote) -> FilledBody:
    return FilledBody(
        source=move.source,
        started_at=_time(move.started_us),
        finished_at=None if move.finished_us is None else _time(move.finished_us),
        rows=move.rows,
    )


def _time(at_us: Micros) -> datetime:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC)
