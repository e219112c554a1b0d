"""taskengine/telemetry/metrics.py: what was counted is what Prometheus reads."""

import ast
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from taskengine.telemetry.catalogue import CATALOGUE, outside_name
from taskengine.telemetry.metrics import PrometheusMetrics

CALLS = frozenset({"count", "gauge", "observe"})
KINDS = {"count": "counter", "gauge": "gauge", "observe": "histogram"}


def read(metrics: PrometheusMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample as Prometheus parses it, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_counters_add_up_by_their_labels() -> None:
    metrics = PrometheusMetrics()
    metrics.count("instances.started")
    metrics.count("instances.started", 4)
    metrics.count("tasks.ended", status="Success", job="载入")
    metrics.count("tasks.ended", 2, job="载入", status="Failed")
    samples = read(metrics)
    assert samples["taskengine_instances_started_total", ()] == 5
    assert samples["taskengine_tasks_ended_total", (("job", "载入"), ("status", "Success"))] == 1
    assert samples["taskengine_tasks_ended_total", (("job", "载入"), ("status", "Failed"))] == 2


def test_a_gauge_says_the_last_value() -> None:
    metrics = PrometheusMetrics()
    metrics.gauge("commit.backlog", 10)
    metrics.gauge("commit.backlog", 3)
    assert read(metrics)["taskengine_commit_backlog", ()] == 3


def test_a_histogram_cumulates_and_an_observation_on_a_bound_belongs_to_it() -> None:
    metrics = PrometheusMetrics()
    for value in (0.0005, 0.0006, 3.0, 1e9):
        metrics.observe("tasks.queue_wait_s", value)
    samples = read(metrics)
    bucket = "taskengine_tasks_queue_wait_seconds_bucket"
    assert samples[bucket, (("le", "0.0005"),)] == 1
    assert samples[bucket, (("le", "0.001"),)] == 2
    assert samples[bucket, (("le", "5.0"),)] == 3
    assert samples[bucket, (("le", "+Inf"),)] == 4
    assert samples["taskengine_tasks_queue_wait_seconds_count", ()] == 4
    assert samples["taskengine_tasks_queue_wait_seconds_sum", ()] == pytest.approx(1e9 + 3.0011)


def test_series_are_bounded_and_nothing_is_lost() -> None:
    metrics = PrometheusMetrics()
    for number in range(5_000):
        metrics.count("tasks.ended", status="Success", job=f"job{number}")
        metrics.observe("tasks.duration_s", 1.0, job=f"job{number}")
    samples = read(metrics)
    ended = {labels: value for (name, labels), value in samples.items() if name == "taskengine_tasks_ended_total"}
    assert len(ended) == 2_001
    assert sum(ended.values()) == 5_000
    assert samples["taskengine_tasks_duration_seconds_count", (("job", "other"),)] == 3_000


def test_an_unknown_name_hurts_nobody() -> None:
    metrics = PrometheusMetrics()
    metrics.count("no.such")
    metrics.gauge("no.such", 1)
    metrics.observe("no.such", 1)
    assert b"no_such" not in metrics.render()


def test_hostile_labels_stay_one_label() -> None:
    metrics = PrometheusMetrics()
    name = 'a"\n} 1\nevil{x="'
    metrics.count("gate.refused", reason=name)
    assert read(metrics)["taskengine_gate_refused_total", (("reason", name),)] == 1


def used_names(package: Path) -> dict[tuple[str, str], str]:
    """(name, call) of every metric in the source, with the place of one use."""
    found: dict[tuple[str, str], str] = {}
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr=call, value=owner), args=[ast.Constant(value=str(name)), *_]):
                    if call in CALLS and "metrics" in ast.unparse(owner):
                        found[name, call] = f"{path.relative_to(package)}:{node.lineno}"
                case ast.Call(func=ast.Attribute(attr=call, value=owner), args=[ast.JoinedStr(), *_]):
                    assert call not in CALLS or "metrics" not in ast.unparse(owner), f"a made-up name in {path}"
    return found


def test_every_metric_of_the_source_is_in_the_catalogue_with_its_kind() -> None:
    used = used_names(Path(__file__).parents[3] / "taskengine")
    assert len(used) > 15
    wrong = {
        name: place
        for (name, call), place in used.items()
        if name not in CATALOGUE or CATALOGUE[name].kind != KINDS[call]
    }
    assert wrong == {}


def test_every_metric_of_the_catalogue_is_measured_somewhere() -> None:
    used = {name for name, _ in used_names(Path(__file__).parents[3] / "taskengine")}
    assert set(CATALOGUE) - used == set()


def test_the_catalogue_is_sorted_and_names_outside_are_unique() -> None:
    assert list(CATALOGUE) == sorted(CATALOGUE)
    assert len({outside_name(name) for name in CATALOGUE}) == len(CATALOGUE)


def test_the_documentation_lists_the_same_metrics() -> None:
    text = (Path(__file__).parents[3] / "docs/metrics.md").read_text(encoding="utf-8")
    for name, measure in CATALOGUE.items():
        shown = outside_name(name) + ("_total" if measure.kind == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in measure.labels)
        assert f"| `{shown}` | {measure.kind} | {labels} | {measure.help} |" in text
