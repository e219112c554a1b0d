"""What expressions refuse: Python's insides, bombs, and what cannot be checked."""

import time

import pytest

from taskengine.errors import EvaluationFailed, InvalidExpression
from taskengine.expressions import compile_template

BIG = "x" * 1_000_000
NAMES = {"params": {"a": 1, "big": BIG, "big2": "x" * 999_999 + "x", "list": [1, 2], "digits": "9" * 5000}}


@pytest.mark.parametrize(
    ("text", "reason", "at"),
    [
        ("a ${{ tasks.load-users.result }}", "tasks['load-users']", ".load"),
        ("${{ tasks.load-2.result }}", "tasks['load-2']", ".load"),
        ("${{ tasks.load-users.result.x | length > 0 }}", "tasks['load-users']", ".load"),
        ("${{ params.trade-date }}", "params['trade-date']", "date"),
        ("${{ tasks.2nd.result }}", "tasks['2nd']", "nd"),
        ("${{ tasks.my.task.result }}", "tasks['my.task']", ".task.r"),
        ("${{ tasks[params.a].result }}", "constant", "[params"),
        ("${{ tasks['a' ~ 'b'].result }}", "constant", "["),
        ("${{ tasks[0].result }}", "constant", "["),
        ("${{ tasks[:1] }}", "constant", "["),
        ("${{ tasks }}", "tasks['name'].result", "tasks"),
        ("${{ tasks | length }}", "tasks['name'].result", "tasks"),
        ("${{ tasks.a }}", ".result or .status or .error", ".a"),
        ("${{ tasks.a.output }}", ".result or .status or .error", ".output"),
        ("${{ tasks.a['re' ~ 'sult'] }}", ".result or .status or .error", "["),
        ("${{ foo }}", "no name 'foo'", "foo"),
        ("${{ parms.x }}", "did you mean 'params'", "parms"),
        ("${{ params.a | uper }}", "did you mean 'upper'", "uper"),
        ("${{ params.a | attr('__class__') }}", "no filter 'attr'", "attr"),
        ("${{ params.a | format(1) }}", "no filter 'format'", "format"),
        ("${{ params.a | pprint }}", "no filter", "pprint"),
        ("${{ params.a is callable }}", "no test 'callable'", "is callable"),
        ("${{ params.list | map('attr', 'x') }}", "no filter 'attr'", "'attr'"),
        ("${{ params.list | select('callable') }}", "no test 'callable'", "'callable'"),
        ("${{ params.a | upper(1) }}", "'upper'", "upper"),
        ("${{ params.a | join(x=1) }}", "'join'", "join"),
        ("${{ params.a | join(d=1, d=2) }}", "twice", "join"),
        ("${{ params.a | join(*[1]) }}", "not available", "join"),
        ("${{ params.a | join(**{'d': 1}) }}", "not available", "join"),
        ("${{ params.items() }}", "`| items`", "("),
        ("${{ params.get('x') }}", "default", "("),
        ("${{ 'a'.upper() }}", "`| upper`", "("),
        ("${{ '{0.__class__}'.format(params) }}", "`~`", "("),
        ("${{ params() }}", "no calls", "("),
        ("${{ range }}", "no name 'range'", "range"),
        ("${{ range() }}", "one to three", "("),
        ("${{ lipsum() }}", "no calls", "("),
        ("${{ cycler.__init__.__globals__ }}", "no name 'cycler'", "cycler"),
        ("${{ self }}", "no name 'self'", "self"),
        ("${{ params.a if params.a }}", "else", "params"),
        ("${{ 1 + }}", "unexpected", "}}"),
        ("${{ a b }}", "unexpected 'b'", "b"),
        ("${{ }}", "unexpected '}}'", "}}"),
        ("${{ x = 1 }}", "unexpected", "="),
        ("${{ (1 }}", "", "}"),
        ("text ${{ params.a", "without its `}}`", "${{"),
        ("${{ 'unclosed }}", "unexpected char", "'"),
        ("${{ params.a -}} b", "white space", "-}}"),
        ("${{ '\\d' }}", "no escape", "\\d"),
        ("${{ '\\ud800' }}", "surrogate", "'"),
        ("${{ 1e999 }}", "too large", "1e"),
        ("${{ " + "9" * 5_000 + " }}", "too large", ""),
        ("${{ {1: 2} }}", "keys", "1:"),
        ("${{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}", "brackets", "("),
        ("${{ " + "[" * 30 + "]" * 30 + " }}", "brackets", "["),
        ("${{ " + "not " * 1_900 + "1 }}", "inside each other", ""),
        ("${{ " + "-" * 4_000 + "1 }}", "inside each other", ""),
        ("${{ 1" + " + 1" * 1_900 + " }}", "inside each other", ""),
        ("${{ 1" + " if 1 else 1" * 600 + " }}", "inside each other", ""),
        ("${{ params" + ".a" * 4_000 + " }}", "inside each other", ""),
        ("${{ '" + "x" * 9_000 + "' }}", "", ""),
        ("${{ params.a " + " " * 9_000 + " }}", "longer than", ""),
        ("${{ 1 }}" * 1_001, "1,000 expressions", ""),
    ],
)
def test_refused_when_compiled(text: str, reason: str, at: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InvalidExpression) as caught:
        compile_template(text)
    assert reason in caught.value.reason
    assert text[caught.value.offset :].startswith(at)
    assert caught.value.source == text
    assert time.perf_counter() - started < 5


def test_offset_is_right_behind_line_breaks() -> None:
    text = "first\r\n${{ params.a\r\n +\n nope }}"
    with pytest.raises(InvalidExpression) as caught:
        compile_template(text)
    assert text[caught.value.offset :] == "nope }}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1" + " + 1" * 49, 50),
        ("1" + " ~ 1" * 1_000, "1" * 1_001),
        ("1" + " and 1" * 49, 1),
        ("0" + " if 0 else 0" * 49, 0),
        ("not " * 48 + "1", True),
        ("-" * 48 + "params.a", 1),
        ("params.a" + " | string" * 47, "1"),
        ("[" * 20 + "]" * 20 + " | length", 1),
        ("(1 + " * 20 + "1" + ")" * 20, 21),
        ("(1 if [" * 10 + "1" + "] | length else 2)" * 10, 1),
        ("{'a': " * 20 + "1" + "}" * 20 + " | length", 1),
        ("1" + " < 2" + " == 2" * 1_000, True),
    ],
)
def test_what_passes_the_check_can_be_evaluated(source: str, expected: object) -> None:
    assert compile_template("${{ " + source + " }}").evaluate(NAMES) == expected


@pytest.mark.parametrize(
    "source",
    [
        "''.__class__",
        "''['__class__']",
        "params.__class__",
        "params['__class__']['__mro__']",
        "params.list.append",
        "params.list.__len__",
        "params.a.real",
        "params.a.__add__",
        "params.list | map(attribute='__class__')",
        "params.list | selectattr('__class__')",
        "['a'] | map(attribute='upper')",
        "params | groupby('__class__')",
        "params.a.keys | default(params.a.__doc__)",
    ],
)
def test_no_attribute_of_python_can_be_reached(source: str) -> None:
    with pytest.raises(EvaluationFailed, match="has no"):
        compile_template("${{ " + source + " }}").evaluate(NAMES)


@pytest.mark.parametrize(
    "source",
    [
        "'a' * 10 ** 9",
        "10 ** 9 * [1]",
        "params.big * 2",
        "params.big ~ params.big",
        "params.big + params.big2",
        "(params.big + 'x') ~ (params.big + 'x')",
        "'%s' % params.a",
        "'%1000000000d' % 1",
        "2 ** (10 ** 9)",
        "2 ** 100000",
        "(2 ** 3000) * (2 ** 3000)",
        "10.0 ** 400",
        "1e308 * 10",
        "2 ** 3000 / 3.5",
        "range(10 ** 9)",
        "range(10 ** 30)",
        "range(0, 10 ** 9, 10)",
        "range(100000) | map('default', range(100000) | list) | map('join') | list",
        "[params.big] * 100000",
        "([params.big] * 100000) | join",
        "([params.big] * 100000) | tojson",
        "([params.big] * 100000) ~ ''",
        "([params.big, params.big2] * 50000) | sort",
        "([params.big, params.big2] * 50000) | unique",
        "([params.big] * 100000) == ([params.big2] * 100000)",
        "params.big2 in [params.big] * 100000",
        "([params.big] * 100000) | map('upper') | length",
        "([params.big] * 100000) | select('in', params.big2) | length",
        "range(100000) | map('replace', '', params.big) | length",
        "([params.big] * 100000) | select('lt', params.big2) | length",
        "([params.big] * 100000) | reject('eq', params.big2) | length",
        "([params.big] * 100000) | map('lower') | map('trim') | length",
        "([params.big, params.big2] * 50000) | groupby(0)",
        "([params.big] * 100000) | max",
        "[[params.big] * 100000] | map('tojson') | length",
        "range(1000) | map('default', range(1000) | list) | map('sort') | map('join') | join",
        "params.big | replace('', params.big)",
        "params.big | replace('x', 'xx')",
        "(params.big | list) + (params.big | list)",
        "params.big | list",
        "params.big | split('x')",
        "1.5 | round(10 ** 9)",
        "1.5 | round(10 ** 9, 'ceil')",
        "params.digits | int",
        "params.digits | fromjson",
        "('[' * 100000) | fromjson",
        "'NaN' | fromjson",
        "'nan' | float",
        "[1] | batch(0)",
        "{'k': [params.big, params.big]}",
        "{params.list: 1}",
        "{params.a: 1}",
        "params.list[::0]",
        "params.list['0']",
        "params.list[0:'1']",
        "-params.list",
        "params.list | map(params.big)",
        "params.list | map",
        "params.list | map('sort')",
        "params.list | select(params.a)",
        "params.list | sum(start='')",
        "1 % 0",
        "1 // 0.0",
        "0 ** -1",
        "1 is divisibleby 0",
        "1 in 2",
        "1 in 'a'",
        "null_like | default(1 / 0)".replace("null_like", "params.gone"),
    ],
)
def test_bombs_and_nonsense_end_quickly_in_an_evaluation_error(source: str) -> None:
    template = compile_template("${{ " + source + " }}")
    started = time.perf_counter()
    with pytest.raises(EvaluationFailed) as caught:
        template.evaluate(NAMES)
    assert time.perf_counter() - started < 1
    assert len(str(caught.value)) < 400


def test_messages_hold_no_values() -> None:
    for source in ("params.s | int", "params.s + 1", "params.s.x", "params[params.s]['y']", "[params.s] | sum"):
        with pytest.raises(EvaluationFailed) as caught:
            compile_template("${{ " + source + " }}").evaluate({"params": {"s": "topsecret"}})
        assert source == "params[params.s]['y']" or "topsecret" not in str(caught.value)
