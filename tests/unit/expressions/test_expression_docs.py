"""docs/expressions.md says what is true: its examples are run, its lists are complete."""

import json
import re
from pathlib import Path

import pytest

from taskengine.expressions import compile_expression
from taskengine.expressions.checker import ROOTS
from taskengine.expressions.limits import (
    MAX_BRACKETS,
    MAX_DEPTH,
    MAX_EXPRESSIONS,
    MAX_ITEMS,
    MAX_SOURCE,
    MAX_STEPS,
    MAX_TEXT,
)
from taskengine.expressions.predicates import TESTS
from taskengine.expressions.sequences import FILTERS

PAGE = (Path(__file__).parents[3] / "docs" / "expressions.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^(\S.*?) +→ (.+)$", PAGE, re.M)
ROWS = [{"id": 2, "name": "B"}, {"id": 1, "name": "a", "note": "x"}]
NAMES = {"params": {"rows": ROWS, "env": "prod", "limit": 10, "none": None}}


@pytest.mark.parametrize(("source", "gives"), EXAMPLES)
def test_example_gives_what_the_page_says(source: str, gives: str) -> None:
    assert compile_expression(source).evaluate(NAMES) == json.loads(gives)


def test_every_filter_has_an_example() -> None:
    shown = {name for source, _ in EXAMPLES for name in re.findall(r"\| (\w+)", source)}
    assert shown == set(FILTERS)


def test_every_test_and_name_is_listed() -> None:
    listed = re.findall(r"`([^`]+)`", PAGE.partition("### Tests")[2].partition("##")[0])
    assert sorted(listed) == sorted(TESTS)
    for root in ROOTS:
        assert f"| `{root}" in PAGE or f", `{root}`" in PAGE


def test_limits_are_the_ones_in_force() -> None:
    for limit in (MAX_SOURCE, MAX_BRACKETS, MAX_DEPTH, MAX_EXPRESSIONS, MAX_TEXT, MAX_ITEMS, MAX_STEPS):
        assert f"{limit:,}" in PAGE
