"""One trace for each run of an instance, one span for each attempt, made from what was committed.

They are made when the run has ended: so they cost the engine nothing while it works, and a restart in the middle
leaves no hole. If the process dies between the end and the sending, that trace is missing.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Final

from taskengine.ambient import Ambient
from taskengine.bus import Frame, Gap
from taskengine.clock import Micros
from taskengine.engine.engine import Engine
from taskengine.engine.views import AttemptView, InstanceView, TaskView
from taskengine.errors import TaskEngineError
from taskengine.model.events import Event
from taskengine.model.records import Outcome
from taskengine.model.states import INSTANCE_FINAL, InstanceState, TaskState
from taskengine.telemetry.tracing import SpanRecord, SpanSink, span_id_of, trace_id_of

__all__ = ["export_traces", "spans_of"]

MOST_SPANS: Final = 10_000
_WELL: Final = frozenset({TaskState.SUCCESS, TaskState.SKIPPED, TaskState.COMPENSATED})


async def export_traces(engine: Engine, sink: SpanSink, ambient: Ambient) -> None:
    """Until the bus closes: send the trace of every run that ends. Run it as a task beside the engine."""
    with engine.bus.subscribe(_is_end) as ends:
        async for frame in ends:
            if isinstance(frame, Gap):
                ambient.metrics.count("traces.dropped", frame.dropped)
            elif isinstance(frame, Event):
                await _export(engine, sink, ambient, frame)


async def _export(engine: Engine, sink: SpanSink, ambient: Ambient, end: Event) -> None:
    try:
        view = await engine.get_instance(end.instance_id)
        tasks = await engine.get_tasks(end.instance_id)
        attempts = await engine.get_attempts(end.instance_id)
    except TaskEngineError as error:  # deleted meanwhile, or the store is away
        ambient.metrics.count("traces.dropped")
        ambient.log.warning("traces.not_made", instance=end.instance_id, error=str(error))
        return
    spans = list(islice(spans_of(view, tasks, attempts), MOST_SPANS))
    missing = len(tasks) + len(attempts) + 1 - len(spans)
    if missing > 0 and len(spans) == MOST_SPANS:
        ambient.metrics.count("traces.dropped", missing)
    sink.send(spans)


def _is_end(frame: Frame) -> bool:
    return isinstance(frame, Event) and frame.body.state in INSTANCE_FINAL


def spans_of(view: InstanceView, tasks: Sequence[TaskView], attempts: Sequence[AttemptView]) -> Iterator[SpanRecord]:
    """The instance's own span, then one for each attempt that began. Empty until the instance has ended.

    After a retry: the attempts of the last run, and each success that it kept at the time at which it happened.
    """
    if view.finished_at is None:
        return
    yield _run_span(view, view.finished_at)
    jobs = {task.name: task.job for task in tasks}
    for early in attempts:
        if early.run == view.run and early.started_at is not None and early.finished_at is not None:
            said = early.error.message if early.error is not None else ""
            bad = "" if early.outcome is Outcome.OK else said or early.outcome.value
            place = (early.task, jobs.get(early.task, ""), early.attempt, early.outcome.value)
            yield _attempt_span(view, place, (early.started_at, early.finished_at), bad)
    for task in tasks:
        if task.started_at is not None and task.finished_at is not None:
            said = task.error.message if task.error is not None else task.reason
            bad = "" if task.status in _WELL else said or task.status.value
            place = (task.name, task.job, task.attempt, task.status.value)
            yield _attempt_span(view, place, (task.started_at, task.finished_at), bad)


def _run_span(view: InstanceView, finished_at: datetime) -> SpanRecord:
    well = view.status is InstanceState.SUCCESS
    return SpanRecord(
        name=view.workflow_id,
        trace_id=trace_id_of(view.id, view.run),
        span_id=span_id_of(view.id, view.run),
        start_us=_micros(view.started_at or view.created_at),
        end_us=_micros(finished_at),
        attributes={
            "taskengine.workflow.id": view.workflow_id,
            "taskengine.workflow.version": view.version,
            "taskengine.instance.id": view.id,
            "taskengine.instance.run": view.run,
            "taskengine.instance.status": view.status.value,
        },
        error="" if well else view.error or view.status.value,
    )


def _attempt_span(
    view: InstanceView, place: tuple[str, str, int, str], times: tuple[datetime, datetime], error: str
) -> SpanRecord:
    """`place`: task, job, attempt, outcome."""
    task, job, attempt, outcome = place
    return SpanRecord(
        name=task,
        trace_id=trace_id_of(view.id, view.run),
        span_id=span_id_of(view.id, view.run, task, attempt),
        parent_id=span_id_of(view.id, view.run),
        start_us=_micros(times[0]),
        end_us=_micros(times[1]),
        attributes={
            "taskengine.instance.id": view.id,
            "taskengine.task.name": task,
            "taskengine.task.job": job,
            "taskengine.task.attempt": attempt,
            "taskengine.task.outcome": outcome,
        },
        error=error,
    )


def _micros(at: datetime) -> Micros:
    return Micros(round(at.timestamp() * 1_000_000))
