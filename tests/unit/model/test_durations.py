"""Spans of time as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskengine.model.durations import MAX_DURATION_US, format_duration, parse_duration


@pytest.mark.parametrize(
    ("written", "span_us"),
    [
        ("500ms", 500_000), ("60s", 60_000_000), ("1h30m", 5_400_000_000), ("2d", 172_800_000_000), ("0s", 0),
        ("1.5h", 5_400_000_000), ("1d2h3m4s5ms", 93_784_005_000), ("0.001ms", 1), ("0.0004ms", 0), ("1m", 60_000_000),
        ("90", 90_000_000), ("0.5", 500_000), (90, 90_000_000), (0.25, 250_000), (0, 0), ("007s", 7_000_000),
        (timedelta(minutes=1, microseconds=1), 60_000_001), ("36500d", MAX_DURATION_US),
    ],
)  # fmt: skip
def test_spans_are_read(written: object, span_us: int) -> None:
    assert parse_duration(written) == span_us


@pytest.mark.parametrize(
    "written",
    ["", "soon", "5 m", "1m1h", "1h1h", "-5s", "5S", "s", "1e3s", ".5s", "5.s", "１s", "5s ", "36501d", "1" * 30 + "d",
     "∞", -1, -0.5, float("nan"), float("inf"), 1e300, 10**400, True, None, [5], timedelta(40_000), timedelta(-1)],
)  # fmt: skip
def test_everything_else_is_refused_with_a_sentence(written: object) -> None:
    with pytest.raises(ValueError, match=r"duration|hundred years|less than nothing"):
        parse_duration(written)


@given(span_us=st.integers(0, MAX_DURATION_US))
def test_what_is_written_is_read_back_exactly(span_us: int) -> None:
    assert parse_duration(format_duration(span_us)) == span_us


@pytest.mark.parametrize(
    ("span_us", "written"),
    [(0, "0s"), (1, "0.001ms"), (1_500_000, "1s500ms"), (1_500, "1.5ms"), (5_400_000_000, "1h30m"), (-5_000_000, "-5s"),
     (300_000_000, "5m"), (172_800_000_000, "2d"), (60_000_001, "1m0.001ms")],
)  # fmt: skip
def test_a_span_has_one_spelling(span_us: int, written: str) -> None:
    assert format_duration(span_us) == written
