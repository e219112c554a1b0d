"""A result as JSON: what goes in, what is refused and with which path."""

import dataclasses
import datetime as dt
import enum
import json
import math
from collections import OrderedDict, deque
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskengine.errors import BadResult
from taskengine.functions.results import MAX_DEPTH, encode_result


class Side(enum.Enum):
    BUY = "买"


class Point(msgspec.Struct):
    x: int
    y: float | None = None


@dataclasses.dataclass
class Bar:
    symbol: str
    close: float


class Model:
    def model_dump(self, mode: str) -> dict[str, Any]:
        assert mode == "json"
        return {"when": "2026-01-01", "n": [1, Point(1)]}


class Array:
    def __init__(self, values: list[float]) -> None:
        self._values = values

    def tolist(self) -> list[float]:
        return self._values


class Table:
    def to_dict(self, orient: str) -> list[dict[str, int]]:
        assert orient == "records"
        return [{"a": 1}, {"a": 2}]


class Text(str):
    __slots__ = ()


class Number(float):
    pass


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_json_values_come_back_as_they_were(value: Any) -> None:
    assert json.loads(encode_result(value)) == value


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None),
        ({"名称": "浦发银行", "n": [1, 2.5, True, None]}, {"名称": "浦发银行", "n": [1, 2.5, True, None]}),
        (10**30, 10**30),
        ((1, 2), [1, 2]),
        ({7}, [7]),
        (frozenset("a"), ["a"]),
        (deque([1, 2]), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ({"a": 1}.keys(), ["a"]),
        ({1: "x"}, {"1": "x"}),
        (Point(1, 2.0), {"x": 1, "y": 2.0}),
        (Bar("600000", 1.5), {"symbol": "600000", "close": 1.5}),
        (Side.BUY, "买"),
        (dt.datetime(2026, 9, 30, tzinfo=dt.UTC), "2026-09-30T00:00:00Z"),
        (dt.date(2026, 9, 30), "2026-09-30"),
        (dt.timedelta(hours=1), "PT3600S"),
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (b"\x00\x01", "AAE="),
        (Path("/tmp/数据"), "/tmp/数据"),
        (Text("t"), "t"),
        (Number(1.5), 1.5),
        (Model(), {"when": "2026-01-01", "n": [1, {"x": 1, "y": None}]}),
        (Array([1.0]), [1.0]),
        ([Table()], [[{"a": 1}, {"a": 2}]]),
    ],
)
def test_values_have_their_json_form(value: Any, wanted: Any) -> None:
    assert json.loads(encode_result(value)) == wanted


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda n: n, "result is "),
        (lambda n: {"rows": [{"a": 1.0}, {"收盘": n}]}, "result.rows[1].收盘 is "),
        (lambda n: {"a b": [n]}, "result['a b'][0] is "),
        (lambda n: [Bar("x", n)], "result[0].close is "),
        (lambda n: Point(1, n), "result.y is "),
        (lambda n: {"a": Array([1.0, n])}, "result.a[1] is "),
        (lambda n: [Number(n)], "result[0] is "),
        (lambda n: [10**30, n], "result[1] is "),
    ],
)
def test_what_is_not_finite_is_refused_with_its_path(wrap: Any, path: str, number: float) -> None:
    with pytest.raises(BadResult) as caught:
        encode_result(wrap(number))
    assert str(caught.value).startswith(path)
    assert str(number) in str(caught.value)


def test_a_job_may_ask_for_null_instead_of_nan() -> None:
    assert encode_result([math.nan, math.inf, 1.0], nan="null") == b"[null,null,1.0]"


def test_null_and_texts_that_look_like_nan_are_no_nan() -> None:
    value = ["null", None, "\u00cb\u007f\u00f8", {"nan": None}, b"\xcb\x7f\xf8\x00"]
    assert json.loads(encode_result(value)) == ["null", None, "\u00cb\u007f\u00f8", {"nan": None}, "y3/4AA=="]


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (object(), ["result is of type object", "no JSON form"]),
        ({"a": [1, {"b": object()}]}, ["result.a[1].b is of type object"]),
        ([Bar("x", object())], ["result[0].close is of type object"]),  # type: ignore[arg-type]
        ({"f": print}, ["result.f is of type builtin_function_or_method"]),
        ((n for n in [1]), ["result is of type generator", "return a list"]),
        ({"k": {None: 1}}, ["result.k has the key None (NoneType)"]),
        ({(1, 2): 1}, ["result has the key (1, 2) (tuple)"]),
        ({"t": "\ud800"}, ["result.t is a text that UTF-8 cannot hold"]),
        (Path, ["result is of type type"]),
    ],
)
def test_what_has_no_json_form_is_refused_with_type_and_path(value: Any, parts: list[str]) -> None:
    with pytest.raises(BadResult) as caught:
        encode_result(value)
    assert [part for part in parts if part not in str(caught.value)] == []


def nested(depth: int, text: str = "") -> Any:
    value: Any = text
    for level in range(depth):
        value = [1, value, 2] if level % 2 else {"a": value, "b": []}
    return value


@pytest.mark.parametrize("text", ["", "[", "]]}", '"[', "\\"])
def test_depth_has_a_limit_and_brackets_in_texts_do_not_count(text: str) -> None:
    assert encode_result(nested(MAX_DEPTH - 1, text * 300))
    with pytest.raises(BadResult, match=f"deeper than {MAX_DEPTH} levels"):
        encode_result(nested(MAX_DEPTH + 1, text * 300))


def test_ten_thousand_rows_are_not_deep() -> None:
    rows = [{"name": "[x", "n": [index]} for index in range(10_000)]
    assert json.loads(encode_result(rows)) == rows


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(BadResult, match="holds itself"):
        encode_result(value)


def test_size_has_a_limit_told_with_both_numbers() -> None:
    assert encode_result("x" * 98, limit=100)
    with pytest.raises(BadResult, match=r"1,002 bytes of JSON, the limit is 1,000 bytes"):
        encode_result("x" * 1000, limit=1000)
