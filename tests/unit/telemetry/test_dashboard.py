"""deployments/grafana-dashboard.json asks for metrics that exist, under the labels that they have."""

import json
import re
from pathlib import Path

from taskengine.telemetry.catalogue import CATALOGUE, Measure, outside_name

DASHBOARD = Path(__file__).parents[3] / "deployments/grafana-dashboard.json"
OWN_LABELS = {"job", "le"}
"""Prometheus' own name of the scrape job, and the bounds of a histogram."""


def series() -> dict[str, Measure]:
    """Every name that a query may use."""
    names: dict[str, Measure] = {}
    for name, measure in CATALOGUE.items():
        outside = outside_name(name)
        endings = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[measure.kind]
        names |= {outside + ending: measure for ending in endings}
    return names


def test_every_query_asks_for_metrics_and_labels_that_exist() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) > 20
    known = series()
    for query in queries:
        used = re.findall(r"taskengine_\w+", query)
        assert used, query
        assert not set(used) - set(known), query
        labels = {label for name in used for label in known[name].labels} | OWN_LABELS
        asked = set(re.findall(r"(\w+)=~?\"", query))
        asked |= {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
        assert not asked - labels, query


def test_panels_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
