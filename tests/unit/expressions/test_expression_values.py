"""What expressions give: types, text, names, filters."""

import math
from collections.abc import Iterator, Mapping

import pytest

from taskengine.errors import EvaluationFailed, InvalidExpression
from taskengine.expressions import (
    References,
    compile_expression,
    compile_template,
    evaluate,
    has_expression,
    references,
    truthy,
)

ROWS = [{"a": 1, "b": "x", "items": 5}, {"a": 3, "b": "Y"}, {"a": 2, "b": "x", "n": {"m": [7]}}]
NAMES = {
    "params": {
        "one": 1,
        "none": None,
        "no": False,
        "text": "Hello World",
        "list": [3, 1, 2],
        "rows": ROWS,
        "股票": "平安",
        "map": {"b": 2, "a": 1},
        "items": "the key",
        "template": "${{ params.one }}",
        "trade-date": "20240102",
        "huge": [{"k": "v" * 100} for _ in range(20_000)],
        "longtext": "v" * 2_000_000,
    },
    "tasks": {
        "a": {"result": {"rows": ROWS, "count": 41}, "status": "Success", "error": None},
        "load-users": {"result": 7, "status": "Success", "error": None},
        "每日同步": {"result": {"行": [1, 2]}, "status": "Success", "error": None},
        "v1.2": {"result": "dotted"},
    },
    "item": {"id": 9},
    "index": 4,
    "instance": {"id": "i-1", "started_at": "2024-01-02T03:04:05Z"},
}


def value_of(source: str) -> object:
    return compile_expression(source).evaluate(NAMES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${{ params.one }}", 1),
        ("${{params.one}}", 1),
        ("${{ params.none }}", None),
        ("${{ params.no }}", False),
        ("${{ params.list }}", [3, 1, 2]),
        ("${{ tasks.a.result.count + 1 }}", 42),
        ("${{ params.one }}\n", 1),
        ("${{\n params.one\r\n }}\r\n", 1),
        ("${{ '5' }}", "5"),
        ("${{ 'a\tb' ~ '\\n' }}", "a\tb\n"),
        ("n=${{ params.one }}", "n=1"),
        (" ${{ params.one }}", " 1"),
        ("${{ params.one }} ", "1 "),
        ("${{ params.one }}${{ params.one }}", "11"),
        ("${{ params.none }}/${{ params.no }}/${{ 1.5 }}", "null/false/1.5"),
        ("${{ params.list }} of ${{ params.股票 }}", "[3,1,2] of 平安"),
        ("m ${{ {'k': ['值', true]} }}", 'm {"k":["值",true]}'),
        ("a ${{ '}}' }} b", "a }} b"),
        ("${{ {'a': {'b': 1}}}}", {"a": {"b": 1}}),
        ("$${{ params.one }}", "${{ params.one }}"),
        ("a $${{ b }} ${{ params.one }} $${{", "a ${{ b }} 1 ${{"),
        ("$$${{", "$${{"),
        ("${{ params.one }}$${{", "1${{"),
        ("{{ params.one }} {% if %} {# #}", "{{ params.one }} {% if %} {# #}"),
        ("$ { {", "$ { {"),
    ],
)
def test_whole_keeps_type_and_embedded_is_text(text: str, expected: object) -> None:
    found = compile_template(text).evaluate(NAMES)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("tasks['load-users'].result", 7),
        ('tasks["load-users"]["result"]', 7),
        ("tasks['每日同步'].result.行", [1, 2]),
        ("tasks.每日同步.result['行'][1]", 2),
        ("tasks['v1.2'].result", "dotted"),
        ("tasks.a.status", "Success"),
        ("params['trade-date']", "20240102"),
        ("params.items", "the key"),
        ("item.id + index", 13),
        ("instance.id", "i-1"),
        ("params.rows[0].items", 5),
        ("params.list[-1]", 2),
        ("params.list.0", 3),
        ("params.list[1:]", [1, 2]),
        ("params.text[:5]", "Hello"),
        ("params.text[::-1]", "dlroW olleH"),
        ("[1, (2, 3), {'k': none}]", [1, [2, 3], {"k": None}]),
        ("()", []),
        ("1 if params.no else 2", 2),
        ("params.no or params.one", 1),
        ("not params.list", False),
        ("1 < 2 <= 2", True),
        ("1 < 2 < 2", False),
        ("3 in params.list", True),
        ("9 not in params.list", True),
        ("'a' in params.map", True),
        ("'ell' in params.text", True),
        ("params.none == none", True),
        ("params.list == [3, 1, 2]", True),
        ("params.list != params.rows", True),
        ("'a' < 'b'", True),
        ("7 // 2 * 2 % 4 - 1", 1),
        ("-params.one", -1),
        ("2 ** 10", 1024),
        ("2 ** -1", 0.5),
        ("1 / 4", 0.25),
        ("'ab' * 2", "abab"),
        ("2 * [1]", [1, 1]),
        ("[1] + [2]", [1, 2]),
        ("'a' + 'b'", "ab"),
        ("'a' ~ 1 ~ none ~ true ~ [1]", "a1nulltrue[1]"),
        ("range(3)", [0, 1, 2]),
        ("range(4, 0, -2)", [4, 2]),
        ("params.nope | default('d')", "d"),
        ("params.none | default('d')", None),
        ("params.none | default('d', true)", "d"),
        ("params.none.deeper | default('d')", "d"),
        ("params.x | default(params.y) | default(3)", 3),
        ("[] | first | default(0)", 0),
        ("(params.nope if params.one else 1) | default(8)", 8),
        ("schedule | default('manual')", "manual"),
        ("schedule is defined", False),
        ("params.nope is undefined", True),
        ("params.nope is not defined", True),
        ("params.one is odd", True),
        ("params.one is divisibleby 1", True),
        ("params.map is mapping and params.list is sequence", True),
        ("params.no is false and params.none is none", True),
        ("params.one is in params.list", True),
    ],
)
def test_language(source: str, expected: object) -> None:
    found = value_of(source)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("-3 | abs", 3),
        ("[1, 2, 3] | batch(2)", [[1, 2], [3]]),
        ("'no' | bool", False),
        ("'hELLO' | capitalize", "Hello"),
        ("params.list | count", 3),
        ("params.map | dictsort", [["a", 1], ["b", 2]]),
        ("params.list | first", 3),
        ("' 1.5 ' | float", 1.5),
        ("'x' | float(0)", 0),
        ("'{\"a\": [1, null]}' | fromjson", {"a": [1, None]}),
        (
            "params.rows | groupby('b') | map(attribute='list') | map('length') | list",
            [2, 1],
        ),
        ("'42' | int", 42),
        ("'1.9' | int", 1),
        ("'ff' | int(base=16)", 255),
        ("'x' | int(-1)", -1),
        ("params.map | items", [["b", 2], ["a", 1]]),
        ("params.list | join(', ')", "3, 1, 2"),
        ("params.rows | join('-', attribute='b')", "x-Y-x"),
        ("params.map | keys", ["b", "a"]),
        ("params.list | last", 2),
        ("params.rows | length", 3),
        ("'ab' | list", ["a", "b"]),
        ("'AB' | lower", "ab"),
        ("params.list | map('string') | join", "312"),
        ("['a-b'] | map('replace', '-', '+')", ["a+b"]),
        ("params.rows | map(attribute='a')", [1, 3, 2]),
        ("params.rows | map(attribute='n.m.0', default=none)", [None, None, 7]),
        ("params.list | max", 3),
        ("params.list | min", 1),
        ("params.rows | max(attribute='a') | length", 2),
        ("params.list | reject('eq', 1)", [3, 2]),
        ("params.rows | rejectattr('items', 'undefined') | map(attribute='a')", [1]),
        ("'a.a.a' | replace('.', '/', 1)", "a/a.a"),
        ("params.list | reverse", [2, 1, 3]),
        ("2.567 | round(2)", 2.57),
        ("2.1 | round(method='ceil')", 3.0),
        ("[0, 1, '', 'x'] | select", [1, "x"]),
        ("params.list | select('gt', 1)", [3, 2]),
        ("params.rows | selectattr('a', '>', 1) | map(attribute='a') | sort", [2, 3]),
        ("params.list | sort(reverse=true)", [3, 2, 1]),
        ("['b', 'A', 'c'] | sort", ["A", "b", "c"]),
        ("['b', 'A', 'c'] | sort(case_sensitive=true)", ["A", "b", "c"]),
        ("['b', 'C'] | sort(case_sensitive=true)", ["C", "b"]),
        ("params.rows | sort(attribute='a') | map(attribute='a')", [1, 2, 3]),
        ("'a, b' | split(', ')", ["a", "b"]),
        ("'a  b' | split", ["a", "b"]),
        ("1.0 | string", "1.0"),
        ("params.list | sum", 6),
        ("params.rows | sum(attribute='a', start=10)", 16),
        ("'hello world' | title", "Hello World"),
        ("'<值>\"' | tojson", '"<值>\\""'),
        ("params.map | tojson", '{"b":2,"a":1}'),
        ("' x ' | trim", "x"),
        ("'--x-' | trim('-')", "x"),
        ("[1, 'a', 'A', 1, true, [2], [2]] | unique", [1, "a", True, [2]]),
        ("'ab' | upper", "AB"),
        ("params.map | values", [2, 1]),
    ],
)
def test_filters(source: str, expected: object) -> None:
    assert value_of(source) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("${{ params.trade_date }}", "'params' has no 'trade_date' (it has: env)"),
        ("${{ params['env'].x }}", "'params.env' is text, it has no 'x'"),
        ("${{ params['e' ~ 'x'] }}", "'params' has no 'ex' (it has: env)"),
        ("${{ tasks.load.result.n }}", "'tasks.load.result' has no 'n' (it is empty)"),
        ("${{ tasks.gone.result }}", "'tasks' has no 'gone' (it has: load)"),
        ("${{ item }}", "there is no 'item' here"),
        ("${{ item.x }}", "there is no 'item' here"),
        ("${{ secrets.PASSWORD }}", "'secrets' has no 'PASSWORD'"),
        ("${{ [params.nope] }}", "'params' has no 'nope' (it has: env)"),
        ("${{ params.env + 1 }}", "`+` does not take text and a number; `~` joins anything to a text"),
        ("${{ params.env < 1 }}", "text and a number have no order"),
        ("${{ 1 / 0 }}", "division by zero"),
        ("${{ [1, 'a'] | sort }}", "a number and text have no order"),
        ("${{ 'hidden' | int }}", "text that is not a whole number; `| int(0)` would give 0 then"),
        ("${{ [] | first }}", "'first' of an empty list"),
        ("${{ [][0] }}", "'value' has no item 0, its length is 0"),
        ("${{ 'x' | fromjson }}", "the text is not JSON (at character 0)"),
        ("${{ (-8) ** 0.5 }}", "a negative number has no such power"),
    ],
)
def test_failure_says_what_is_there_instead(text: str, reason: str) -> None:
    names = {"params": {"env": "prod"}, "tasks": {"load": {"result": {}}}, "secrets": {"TOKEN": "s3cret"}}
    with pytest.raises(EvaluationFailed) as caught:
        compile_template(text).evaluate(names, "tasks[0].params.url")
    assert caught.value.reason == reason
    assert caught.value.source == text[3:-2]
    assert caught.value.where == "tasks[0].params.url"


def test_values_are_never_rendered_again() -> None:
    assert compile_template("${{ params.template }}").evaluate(NAMES) == "${{ params.one }}"
    assert compile_template("x ${{ params.template }}").evaluate(NAMES) == "x ${{ params.one }}"
    assert evaluate({"k": ["${{ [params.template] }}"]}, NAMES) == {"k": [["${{ params.one }}"]]}


def test_data_passes_through_whatever_its_size() -> None:
    huge = NAMES["params"]["huge"]
    for source in ("params.huge", "params.huge | default([])", "params.huge if params.one else []"):
        assert value_of(source) is huge
    assert value_of("params.longtext") == NAMES["params"]["longtext"]
    assert value_of("params.huge | length") == 20_000
    assert value_of("params.huge | last | length") == 1


def test_computed_values_are_bounded() -> None:
    with pytest.raises(EvaluationFailed, match="larger than"):
        value_of("params.huge | reverse")
    with pytest.raises(EvaluationFailed, match="characters"):
        compile_template("text ${{ params.longtext }}").evaluate(NAMES)


def test_references_are_found_statically() -> None:
    template = compile_template(
        "${{ tasks.a.result.x + params.one }} ${{ tasks['每日同步'].error }} ${{ params['k'] }} ${{ item }}"
        " ${{ [1] | map('default', tasks.b.result) if tasks.c.status == 'Success' else params[item] }}"
    )
    assert template.references == References(
        tasks=frozenset({"a", "b", "c", "每日同步"}),
        results=frozenset({"a", "b"}),
        errors=frozenset({"每日同步"}),
        roots=frozenset({"tasks", "params", "item"}),
        params=frozenset({"one", "k"}),
    )
    assert not template.is_whole


def test_references_of_a_value_are_the_union() -> None:
    value = {"a": ["${{ tasks.x.result }}", 1, None], "b": {"c": "t ${{ params.p }}"}, "${{ tasks.no.result }}": 0}
    found = references(value)
    assert (found.tasks, found.params) == ({"x"}, {"p"})
    assert references({"a": [1, "text"]}) == References()


def test_names_in_another_unicode_form_find_the_task() -> None:
    template = compile_template("${{ tasks['cafe\u0301'].result }}")
    assert template.references.tasks == {"caf\u00e9"}
    assert template.evaluate({"tasks": {"caf\u00e9": {"result": 1}}}) == 1


class LazyTasks(Mapping[str, object]):
    """Loads a task's row when it is asked for, and remembers which."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def __getitem__(self, key: str) -> object:
        if key == "broken":
            raise OSError("a value nobody may see")
        self.loaded.append(key)
        return {"result": key}

    def __iter__(self) -> Iterator[str]:
        return iter(["a", "b"])

    def __len__(self) -> int:
        return 2


def test_lazy_mappings_load_only_what_is_read() -> None:
    tasks = LazyTasks()
    assert compile_expression("tasks.a.result if true else tasks.b.result").evaluate({"tasks": tasks}) == "a"
    assert tasks.loaded == ["a"]


def test_unforeseen_failure_of_a_mapping_is_wrapped_without_its_text() -> None:
    with pytest.raises(EvaluationFailed) as caught:
        compile_expression("tasks.broken.result").evaluate({"tasks": LazyTasks()})
    assert "nobody" not in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_evaluate_walks_a_value_and_says_where_it_failed() -> None:
    value = {"url": "d=${{ params.one }}", "n": [1, {"x": "${{ params.list }}"}], "plain": None}
    assert evaluate(value, NAMES) == {"url": "d=1", "n": [1, {"x": [3, 1, 2]}], "plain": None}
    with pytest.raises(EvaluationFailed) as caught:
        evaluate({"n": [1, {"x": "${{ params.gone }}"}]}, NAMES, "tasks[2].params")
    assert caught.value.where == "tasks[2].params.n[1].x"
    with pytest.raises(EvaluationFailed, match="without its"):
        evaluate("${{ ", NAMES)


def test_evaluate_does_not_change_or_share_the_definition() -> None:
    value = {"list": [1, 2], "map": {}}
    found = evaluate(value, NAMES)
    assert isinstance(found, dict)
    found["list"].append(3)
    assert value == {"list": [1, 2], "map": {}}


def test_nesting_is_bounded() -> None:
    deep: object = "${{ params.one }}"
    for _ in range(200):
        deep = [deep]
    assert references(deep).params == {"one"}
    with pytest.raises(EvaluationFailed, match="deeper"):
        evaluate(deep, NAMES)


def test_data_too_deep_to_be_written_is_an_evaluation_error() -> None:
    deep: object = 1
    for _ in range(5_000):
        deep = [deep]
    for text in ("x${{ params.d }}", "${{ params.d | tojson }}", "${{ [params.d] == [params.e] }}"):
        with pytest.raises(EvaluationFailed, match="too deep"):
            compile_template(text).evaluate({"params": {"d": deep, "e": _copy(deep)}})


def _copy(deep: object) -> object:
    levels = 0
    while isinstance(deep, list):
        deep, levels = deep[0], levels + 1
    for _ in range(levels):
        deep = [deep]
    return deep


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", " \n", [], {}, "false", "False", " NO\n", "0", "no"])
def test_false_for_when(value: object) -> None:
    assert truthy(value) is False


@pytest.mark.parametrize("value", [True, 1, -1, 0.1, "true", "yes", "x", "00", "null", [0], {"a": 0}, math.inf])
def test_true_for_when(value: object) -> None:
    assert truthy(value) is True


def test_has_expression_covers_the_escape() -> None:
    assert has_expression("a ${{ b")
    assert has_expression("$${{")
    assert not has_expression("{{ a }} $ {{")


def test_compiling_twice_gives_the_same_template() -> None:
    assert compile_template("${{ params.one + 1 }}") is compile_template("${{ params.one + 1 }}")
    assert compile_expression("params.one + 1") is compile_expression("params.one + 1")


def test_bare_expression_ends_at_the_end() -> None:
    assert compile_expression(" params.one ").evaluate(NAMES) == 1
    assert compile_expression("params.one").is_whole
    with pytest.raises(InvalidExpression, match="unexpected `}}`"):
        compile_expression("params.one }} x")
