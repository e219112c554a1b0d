"""Metrics in memory, and their text for Prometheus.

The numbers are kept in plain dictionaries and not in the library's own counters: those take a lock for each change,
1..2 µs, several times for each task. The library writes the text.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from taskengine.telemetry.catalogue import CATALOGUE, Measure, outside_name

__all__ = ["PrometheusMetrics"]

_Values = tuple[str, ...]
_MOST_SERIES: Final = 2_000
_OTHER: Final = "other"


class _Spread:
    """One series of a histogram: how many observations fell into each bucket, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        self.total = 0.0


class PrometheusMetrics:
    """An `ambient.Metrics` that remembers. Changed by the loop's thread only; `render` too.

    A name that is not in the catalogue counts nothing: measuring must never hurt what is measured, and a test compares
    the catalogue with the source. One metric has at most 2,000 series; more are counted under labels that say `other`.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, dict[_Values, float]] = {
            name: {} for name, measure in CATALOGUE.items() if measure.kind != "histogram"
        }
        self._spreads: dict[str, dict[_Values, _Spread]] = {
            name: {} for name, measure in CATALOGUE.items() if measure.kind == "histogram"
        }
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def count(self, name: str, amount: int = 1, /, **labels: str) -> None:
        series = self._numbers.get(name)
        if series is None:
            return
        key = _key(CATALOGUE[name], labels) if labels else ()
        if key not in series:
            key = _bounded(series, key)
        series[key] = series.get(key, 0.0) + amount

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        series = self._numbers.get(name)
        if series is not None:
            series[_bounded(series, _key(CATALOGUE[name], labels) if labels else ())] = value

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        series = self._spreads.get(name)
        if series is None:
            return
        measure = CATALOGUE[name]
        key = _key(measure, labels) if labels else ()
        spread = series.get(key)
        if spread is None:
            spread = series.setdefault(_bounded(series, key), _Spread(len(measure.buckets)))
        spread.counts[bisect_left(measure.buckets, value)] += 1
        spread.total += value

    def render(self) -> bytes:
        """The text format of Prometheus, sorted by name."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For the library: a family for each metric that was used."""
        for name, measure in CATALOGUE.items():
            if measure.kind == "histogram":
                yield from _histogram(name, measure, self._spreads[name])
            else:
                yield from _numbers(name, measure, self._numbers[name])


def _key(measure: Measure, labels: dict[str, str]) -> _Values:
    return tuple([labels.get(label, "") for label in measure.labels])


def _bounded(series: dict[_Values, float] | dict[_Values, _Spread], key: _Values) -> _Values:
    return key if key in series or len(series) < _MOST_SERIES else (_OTHER,) * len(key)


def _numbers(name: str, measure: Measure, series: dict[_Values, float]) -> Iterator[Metric]:
    make = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
    family = make(outside_name(name), measure.help, labels=measure.labels)
    if not measure.labels:
        family.add_metric((), series.get((), 0.0))
        yield family
    elif series:
        for values, value in sorted(series.items()):
            family.add_metric(values, value)
        yield family


def _histogram(name: str, measure: Measure, series: dict[_Values, _Spread]) -> Iterator[Metric]:
    if not series:
        return
    family = HistogramMetricFamily(outside_name(name), measure.help, labels=measure.labels)
    for values, spread in sorted(series.items(), key=lambda item: item[0]):
        family.add_metric(values, list(_cumulated(measure.buckets, spread)), spread.total)
    yield family


def _cumulated(buckets: tuple[float, ...], spread: _Spread) -> Iterator[tuple[str, float]]:
    so_far = 0
    for bound, count in zip((*(repr(bucket) for bucket in buckets), "+Inf"), spread.counts, strict=True):
        so_far += count
        yield bound, so_far
