"""JSON-shaped values and paths into them."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum, StrEnum
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskengine.model.shape import json_shape, kind_of, path_text, text_fault

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


class Colour(StrEnum):
    RED = "red"


class Weekday(Enum):
    MONDAY = 1


@dataclass
class Point:
    x: int
    at: date


def shaped(value, **options):
    """The value and what was reported."""
    faults: list[tuple] = []
    return json_shape(value, lambda path, message: faults.append((path, message)), **options), faults


@given(value=JSON)
def test_plain_values_stay_what_they_are_in_new_containers(value) -> None:
    made, faults = shaped(value)
    assert made == value
    assert not faults
    if isinstance(value, list | dict):
        assert made is not value
    assert msgspec.json.decode(msgspec.json.encode(made)) == value


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ((1, (2,)), [1, [2]]),
        (date(2024, 1, 2), "2024-01-02"),
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (b"hi", "aGk="),
        (Colour.RED, "red"),
        (Weekday.MONDAY, 1),
        ({"c", "a", "b"}, ["a", "b", "c"]),
        (Point(1, date(2024, 1, 2)), {"x": 1, "at": "2024-01-02"}),
    ],
)
def test_values_with_a_json_form_get_it(value: object, made: object) -> None:
    assert shaped(value) == (made, [])


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        (float("nan"), (), "NaN and infinities have no JSON form"),
        ({"a": [1, float("-inf")]}, ("a", 1), "NaN and infinities have no JSON form"),
        ({"a": {1: 2}}, ("a",), "the keys of a mapping are text, got a whole number"),
        ({"a": object()}, ("a",), "a object has no JSON form"),
        (["\udc00"], (0,), "half a surrogate pair (U+DC00) has no UTF-8 form"),
        ([[[]]], (0, 0), "nested too deeply"),
    ],
)
def test_values_without_one_are_reported_with_their_path(value: object, path: tuple, message: str) -> None:
    assert shaped(value, depth=2)[1] == [(path, message)]


def test_a_value_inside_itself_ends() -> None:
    loop: list = []
    loop.append(loop)
    assert [message for _, message in shaped(loop)[1]] == ["nested too deeply"]
    point = Point(1, date(2024, 1, 2))
    point.x = point  # type: ignore[assignment]
    assert [message for _, message in shaped(point)[1]] == ["a Point has no JSON form"]


def test_paths_read_like_python() -> None:
    assert path_text(()) == ""
    assert path_text(("tasks", 2, "params", "a b", "名", "x-y")) == "tasks[2].params['a b'].名['x-y']"
    assert path_text((0, "a")) == "[0].a"


def test_kinds_are_words_for_authors() -> None:
    values = [None, True, 1, 1.5, "", [], (), {}, b""]
    words = [
        "nothing",
        "true or false",
        "a whole number",
        "a number",
        "text",
        "a list",
        "a list",
        "a mapping",
        "a bytes",
    ]
    assert [kind_of(value) for value in values] == words
    assert text_fault("名😀") == ""
