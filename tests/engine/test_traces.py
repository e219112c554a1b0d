"""engine/traces.py: every attempt of a run is one span, whatever became of it."""

import asyncio
from collections.abc import Sequence

from taskengine import EngineBuilder, TaskBuilder, WorkflowBuilder
from taskengine.ambient import Ambient
from taskengine.engine.traces import export_traces
from taskengine.telemetry.tracing import SpanRecord, span_id_of, trace_id_of


class Kept:
    def __init__(self) -> None:
        self.spans: list[SpanRecord] = []
        self.traces = asyncio.Semaphore(0)

    def send(self, spans: Sequence[SpanRecord]) -> None:
        self.spans.extend(spans)
        self.traces.release()

    def close(self) -> None: ...


async def test_a_trace_has_the_run_and_each_of_its_attempts() -> None:
    tries = []

    async def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return "well"

    async def never() -> None: ...

    work = (
        WorkflowBuilder("etl")
        .with_task(
            TaskBuilder("flaky").with_job_function("flaky").with_retry_count(2).with_retry_interval(0.01).build()
        )
        .with_task(
            TaskBuilder("skipped").with_job_function("never").with_dependency("flaky").with_when("${{ false }}").build()
        )
        .build()
    )
    kept, ambient = Kept(), Ambient()
    engine = EngineBuilder(ambient).with_job_func("flaky", flaky).with_job_func("never", never).build()
    async with asyncio.TaskGroup() as group, engine:
        group.create_task(export_traces(engine, kept, ambient))
        instance = await engine.execute_workflow(work)
        await kept.traces.acquire()
        await engine.stop()
    root, *attempts = kept.spans
    assert (root.name, root.error, root.parent_id) == ("etl", "", 0)
    assert root.trace_id == trace_id_of(instance, 1)
    assert {span.trace_id for span in attempts} == {root.trace_id}
    assert {span.parent_id for span in attempts} == {span_id_of(instance, 1)}
    flakies = sorted(
        (span for span in attempts if span.name == "flaky"), key=lambda span: span.attributes["taskengine.task.attempt"]
    )
    assert [span.error for span in flakies] == ["not yet", "not yet", ""]
    assert [span.attributes["taskengine.task.outcome"] for span in flakies] == ["fail", "fail", "Success"]
    assert all(root.start_us <= span.start_us <= span.end_us <= root.end_us for span in attempts)
    assert len({span.span_id for span in kept.spans}) == len(kept.spans)
