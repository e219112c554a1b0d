"""Laws over random values and random text."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskengine.errors import EvaluationFailed, InvalidExpression
from taskengine.expressions import Template, compile_expression, compile_template, evaluate

FEW = settings(max_examples=150, deadline=None)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
PIECES = """
params tasks item tasks.a.result params.list params.map params.text item.x range 股票 true none
( ) [ ] { } , : . | ~ + - * / // % ** == < >= in not and or if else is defined ; # = \\ '
1 0 2.5 9999999999 e5 'a' "b" '}}' }} ${{ $${{ {% {#
default length map select join sort first int tojson list sum attribute=
"""
ODD_SPACES = ["\n", "\r", "\r\n", "\t", "\u2028", "\ud800"]
FRAGMENTS = st.lists(st.sampled_from(PIECES.split() + ODD_SPACES), max_size=14).map(" ".join)
NAMES = {
    "params": {"list": [3, 1, "x"], "map": {"a": 1}, "text": "abc", "股票": 1},
    "tasks": {"a": {"result": {"rows": [1]}}},
    "item": {"x": None},
}


@FEW
@given(JSON)
def test_any_value_passes_through_unchanged(value: object) -> None:
    found = compile_template("${{ params.v }}").evaluate({"params": {"v": value}})
    assert found is value
    assert evaluate(["${{ params.v }}"], {"params": {"v": value}}) == [value]


@FEW
@given(st.text())
def test_text_without_the_opening_is_returned(text: str) -> None:
    text = text.replace("${{", "")
    template = compile_template(text)
    assert template.evaluate({}) == text
    assert not template.is_whole
    assert evaluate(text, {}) == text


@FEW
@given(TEXT, TEXT)
def test_joined_text_is_never_anything_but_text(before: str, value: str) -> None:
    before = before.replace("$", "")
    found = compile_template(before + ":${{ params.v }}").evaluate({"params": {"v": value}})
    assert found == f"{before}:{value}"


@FEW
@given(st.text())
def test_escaped_text_comes_back(text: str) -> None:
    text = text.replace("$", "")
    assert compile_template("$${{" + text).evaluate({}) == "${{" + text


@FEW
@given(TEXT)
def test_a_text_survives_json(text: str) -> None:
    names = {"params": {"v": text}}
    assert compile_template("${{ params.v | tojson | fromjson }}").evaluate(names) == text


def _tried(source: str, compile_one: Callable[[str], Template]) -> None:
    """Compile and evaluate; anything but the two errors escapes and fails the test."""
    try:
        template = compile_one(source)
    except InvalidExpression as error:
        _judge(error.reason and 0 <= error.offset <= len(source), error)
        return
    try:
        found = template.evaluate(NAMES)
    except EvaluationFailed as error:
        _judge(error.reason, error)
    else:
        msgspec.json.encode(found)


def _judge(fine: object, error: Exception) -> None:
    assert fine, error


@settings(max_examples=300, deadline=None)
@given(st.text() | FRAGMENTS)
def test_random_text_raises_nothing_else(text: str) -> None:
    _tried("${{" + text + "}}", compile_template)
    _tried("a ${{" + text, compile_template)
    _tried(text, compile_expression)


ATOMS = "1 0 2.5 'a' none true [] params params.list params.map item.x params.gone tasks.a.result params.text '}}'"
SIGNS = "+ - * / // % ** ~ == < in and or"
FILTERS = """
first last length sort sum join string int float tojson fromjson items unique min reverse list round abs split
default(1) map('string') select('odd') map(attribute='a') batch(2) groupby('a') replace('a','b') dictsort bool
trim title selectattr('a') keys values count upper max
"""
TESTS = ["defined", "odd", "mapping", "not none", "gt 1"]
VALUES = st.recursive(
    st.sampled_from(ATOMS.split()),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(SIGNS.split()), inner).map(" ".join),
        st.tuples(inner, inner).map("({0[0]})[{0[1]}]".format),
        st.tuples(inner, inner).map("[{0[0]}, {0[1]}]".format),
        st.tuples(inner, st.sampled_from(FILTERS.split())).map("({0[0]}) | {0[1]}".format),
        st.tuples(inner, st.sampled_from(TESTS)).map("({0[0]}) is {0[1]}".format),
        st.tuples(inner, inner, inner).map("({0[0]} if {0[1]} else {0[2]})".format),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_well_formed_expressions_give_a_value_or_an_evaluation_error(source: str) -> None:
    _tried(source, compile_expression)


def test_fragments_do_compile_sometimes() -> None:
    assert compile_template("${{ params.list | map('string') | join }}").evaluate(NAMES) == "31x"
    with pytest.raises(EvaluationFailed):
        compile_template("${{ params.list | sort }}").evaluate(NAMES)
