"""Declared inputs: what an instance gets, and what is refused."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskengine.errors import InvalidParams
from taskengine.model.definition import PARAM_TYPES, ParamSpec
from taskengine.model.params import bind_params, parse_assignments, spec_faults, type_of, value_faults

ONE_OF_EACH = {
    "string": "x",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [1],
    "object": {"a": 1},
}


def problems_of(call, *args) -> list[str]:
    with pytest.raises(InvalidParams) as caught:
        call(*args)
    return [str(problem) for problem in caught.value.problems]


def test_defaults_fill_in_and_the_rest_stays_absent() -> None:
    specs = {"a": ParamSpec(default=1), "b": ParamSpec(), "c": ParamSpec(default=None), "d": ParamSpec(required=True)}
    assert bind_params(specs, {"d": 4}) == {"a": 1, "c": None, "d": 4}
    assert bind_params(specs, {"d": 4, "a": None, "b": 2}) == {"a": None, "b": 2, "c": None, "d": 4}
    assert list(bind_params(specs, {"d": 4, "a": 0})) == ["a", "c", "d"]


def test_a_workflow_without_declarations_takes_anything_json_shaped() -> None:
    given_params = {"x": [1, {"y": (2,)}], "任意": None}
    assert bind_params({}, given_params) == {"x": [1, {"y": [2]}], "任意": None}
    assert problems_of(bind_params, {}, {"x": {"y": [math.nan]}, "f": print}) == [
        "params.x.y[0]: NaN and infinities have no JSON form",
        "params.f: a builtin_function_or_method has no JSON form",
    ]


def test_what_is_bound_shares_nothing_with_what_was_given() -> None:
    inner: list[int] = [1]
    bound = bind_params({"x": ParamSpec()}, {"x": inner})
    inner.append(2)
    assert bound == {"x": [1]}


def test_all_problems_come_at_once_with_the_nearest_name() -> None:
    specs = {
        "trade_date": ParamSpec(type="string", required=True),
        "limit": ParamSpec(type="integer", maximum=10),
        "market": ParamSpec(enum=("SSE", "SZSE")),
    }
    assert problems_of(bind_params, specs, {"trade_dat": "x", "limit": 11, "market": "NYSE", "zzz": 1}) == [
        "params.trade_dat: there is no parameter `trade_dat`, did you mean `trade_date`?",
        "params.zzz: there is no parameter `zzz`",
        "params.trade_date: the parameter `trade_date` is required",
        "params.limit: `11` is more than the maximum 10",
        "params.market: expected one of `SSE`, `SZSE`; got `NYSE`",
    ]


@pytest.mark.parametrize("kind", PARAM_TYPES)
@pytest.mark.parametrize("given_kind", [*ONE_OF_EACH, "null"])
def test_types_are_strict(kind: str, given_kind: str) -> None:
    value = ONE_OF_EACH.get(given_kind)
    fits = kind in ("any", given_kind) or (kind, given_kind) == ("number", "integer")
    assert bool(list(value_faults(ParamSpec(type=kind), value))) != fits


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        (ParamSpec(minimum=1), [1, 1.5, "text", True], [0, 0.9]),
        (ParamSpec(maximum=1.5), [1, 1.5, False], [2, 1.51]),
        (ParamSpec(enum=(1, "a", None, True)), [1, 1.0, "a", None, True], [0, "A", False]),
        (ParamSpec(enum=(0,)), [0], [False]),
        (ParamSpec(pattern="^[0-9]{8}$"), ["20240102", 5], ["2024010", "20240102\n", "x20240102"]),
        (ParamSpec(pattern="b"), ["abc"], ["ac"]),
        (ParamSpec(pattern=r"^[$]\$$"), ["$$"], ["$$\n", "$"]),
        (ParamSpec(pattern="(?m)^b$"), ["a\nb\nc"], ["ab"]),
    ],
)
def test_limits_hold_for_what_they_are_for(spec: ParamSpec, good: list, bad: list) -> None:
    assert [list(value_faults(spec, value)) for value in good] == [[]] * len(good)
    assert all(list(value_faults(spec, value)) for value in bad)


@pytest.mark.parametrize(
    ("spec", "keys"),
    [
        (ParamSpec(), []),
        (ParamSpec(type="integer", default=5, minimum=1, maximum=9, enum=(5, 6)), []),
        (ParamSpec(type="int"), ["type"]),
        (ParamSpec(required=True, default=None), ["required"]),
        (ParamSpec(type="string", minimum=1, maximum=2), ["minimum", "maximum"]),
        (ParamSpec(minimum=2, maximum=1), ["maximum"]),
        (ParamSpec(type="integer", pattern="x"), ["pattern"]),
        (ParamSpec(pattern="("), ["pattern"]),
        (ParamSpec(pattern="x" * 1001), ["pattern"]),
        (ParamSpec(pattern="(" * 999), ["pattern"]),
        (ParamSpec(pattern="[[a]"), []),
        (ParamSpec(type="integer", default="x"), ["default"]),
        (ParamSpec(enum=(1,), default=2), ["default"]),
        (ParamSpec(type="integer", enum=(1, "x"), default=1), ["enum"]),
    ],
)
def test_contradictions_of_a_declaration_are_told_with_their_key(spec: ParamSpec, keys: list[str]) -> None:
    assert [key for key, _ in spec_faults(spec)] == keys


def test_assignments_are_read_by_declared_type() -> None:
    specs = {kind[0]: ParamSpec(type=kind) for kind in ("string", "integer", "number", "boolean", "object")}
    specs["l"] = ParamSpec(type="array")
    texts = ["s=012", "i=12", "n=1.5", "b=true", 'o={"a": [1]}', "l=[1, 2]"]
    assert parse_assignments(specs, texts) == {
        "s": "012", "i": 12, "n": 1.5, "b": True, "o": {"a": [1]}, "l": [1, 2]
    }  # fmt: skip
    assert parse_assignments(specs, ["s=a=b", "n=3"]) == {"s": "a=b", "n": 3}
    assert problems_of(parse_assignments, specs, ["i=x", "b=yes", "l={}", "n=NaN", "i", "=5", "n=1", "n=2"]) == [
        "params.i: expected a whole number, got `x`",
        "params.b: expected true or false, got `yes`",
        "params.l: expected a list, got `{}`",
        "params.n: expected a number, got `NaN`",
        "params.i: expected name=value, got `i`",
        "params['']: expected name=value, got `=5`",
        "params.n: the parameter `n` is given twice",
    ]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5", 5), ("-1.5", -1.5), ("true", True), ("null", None), ("[1]", [1]), ('{"a": 1}', {"a": 1}),
        ("text", "text"), ("012", "012"), ('"quoted"', '"quoted"'), ("", ""), ("True", "True"), ("NaN", "NaN"),
        ("1e999", "1e999"), ("[1", "[1"), ("2024-01-02", "2024-01-02"), ("名", "名"), (" 5", 5),
        ("[" * 5000, "[" * 5000),
    ],
)  # fmt: skip
def test_undeclared_assignments_are_json_or_text(written: str, value: object) -> None:
    read = parse_assignments({}, [f"x={written}"])["x"]
    assert (read, type(read)) == (value, type(value))


@given(texts=st.lists(st.text(max_size=10)), kind=st.sampled_from(PARAM_TYPES))
def test_any_assignment_is_read_or_refused(texts: list[str], kind: str) -> None:
    try:
        values = parse_assignments({"a": ParamSpec(type=kind)}, texts)
    except InvalidParams as error:
        assert str(error)  # noqa: PT017
    else:
        assert len(values) == len(texts)


def test_bare_values_have_the_type_that_they_are_of() -> None:
    assert {kind: type_of(value) for kind, value in ONE_OF_EACH.items()} == {kind: kind for kind in ONE_OF_EACH}
    assert type_of(None) == type_of(msgspec.UNSET) == "any"
