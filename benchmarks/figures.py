"""What a workload measured: samples, the bar they are held against, and how both are shown."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import msgspec

__all__ = ["Figure", "Outcome", "Settings", "table"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a workload is run.

    runs   samples of every figure; of a ratio: pairs
    small  tiny sizes, for a test that looks at results and not at figures
    store  kind of database
    """

    runs: int = 3
    small: bool = False
    store: str = "sqlite"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured quantity. `at_most` or `at_least` is the bar for its median; neither: it is for information."""

    name: str
    unit: str
    samples: Sequence[float]
    at_most: float | None = None
    at_least: float | None = None

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def bar(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return "" if self.at_least is None else f"≥ {self.at_least:g}"

    @property
    def verdict(self) -> str:
        """`met`, `MISS`, or nothing without a bar."""
        if self.at_most is not None:
            return "met" if self.median <= self.at_most else "MISS"
        if self.at_least is not None:
            return "met" if self.median >= self.at_least else "MISS"
        return ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Of one workload. `facts` are what a reader may want to check: sizes, rows written by both sides."""

    workload: str
    figures: Sequence[Figure]
    facts: Mapping[str, Any] = {}


def table(outcomes: Sequence[Outcome]) -> str:
    """Aligned text: median, spread, bar, verdict."""
    head = ("workload", "figure", "median", "min .. max", "unit", "bar", "")
    rows = [head]
    for outcome in outcomes:
        for figure in outcome.figures:
            spread = f"{_short(min(figure.samples))} .. {_short(max(figure.samples))}"
            rows.append(
                (outcome.workload, figure.name, _short(figure.median), spread, figure.unit, figure.bar, figure.verdict)
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
