"""engine/gauges.py: what is asked for is how it is now."""

from prometheus_client.parser import text_string_to_metric_families

from taskengine import EngineBuilder, TaskBuilder, WorkflowBuilder
from taskengine.ambient import Ambient
from taskengine.engine.gauges import refresh_gauges
from taskengine.telemetry.metrics import PrometheusMetrics


def _samples(metrics: PrometheusMetrics) -> dict[str, float]:
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


async def test_a_state_that_everybody_left_counts_nothing() -> None:
    metrics = PrometheusMetrics()
    work = WorkflowBuilder("w").with_task(TaskBuilder("t").with_job_function("sleep", {"duration": 3600}).build())
    async with EngineBuilder(Ambient(metrics=metrics)).with_workers(7).build() as engine:
        instance = await engine.execute_workflow(work.build())
        await refresh_gauges(engine, metrics)
        before = _samples(metrics)
        await engine.cancel_instance(instance)
        await engine.wait_for_instance(instance)
        await refresh_gauges(engine, metrics)
        after = _samples(metrics)
    assert before["taskengine_instances_current Running"] == 1
    assert after["taskengine_instances_current Running"] == 0
    assert after["taskengine_instances_current Cancelled"] == 1
    assert after["taskengine_engine_slots"] == 7
    assert before["taskengine_actors_alive"] >= 1
    assert any(name.startswith("taskengine_build_info ") for name in after)
