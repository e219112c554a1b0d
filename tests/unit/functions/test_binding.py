"""How params reach arguments."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import inspect
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest

from taskengine.clock import ManualClock
from taskengine.errors import BadArguments
from taskengine.functions import CallInfo, Services, SyncTaskContext, TaskContext
from taskengine.functions.binding import Binder


class Point(msgspec.Struct):
    x: int
    y: int = 0


@dataclasses.dataclass
class Bar:
    symbol: str
    close: float


class Database:
    pass


class Model:
    """Quacks like a pydantic model."""

    def __init__(self, value: int) -> None:
        self.value = value

    @classmethod
    def model_validate(cls, raw: dict[str, int]) -> Model:
        if set(raw) != {"value"}:
            raise ValueError("value is required")
        return cls(raw["value"])


def bind(function: Callable[..., Any], services: Services | None = None, /, **params: Any) -> inspect.BoundArguments:
    services = services or Services()
    info = CallInfo(instance_id="i", workflow_id="w", ordinal=0, task_name="t", params=params)
    args, kwargs = Binder(function).bind(params, TaskContext(info, services, ManualClock()), services)
    return inspect.signature(function).bind(*args, **kwargs)


def refusal(function: Callable[..., Any], services: Services | None = None, /, **params: Any) -> str:
    with pytest.raises(BadArguments) as caught:
        bind(function, services, **params)
    return str(caught.value)


def annotated(kind: Any) -> Callable[..., Any]:
    def function(value: Any) -> None:
        pass

    function.__annotations__["value"] = kind
    return function


@pytest.mark.parametrize(
    ("given", "kind", "wanted"),
    [
        (5, int, 5),
        ("5", int, 5),
        (5.0, int, 5),
        ("5.5", float, 5.5),
        (5, float, 5.0),
        ("true", bool, True),
        (0, bool, False),
        ("文本", str, "文本"),
        ("5", str | int, "5"),
        (None, int | None, None),
        ([1, "2"], list[int], [1, 2]),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([2, 1, 2], set[int], {1, 2}),
        ({"a": "1"}, dict[str, int], {"a": 1}),
        ({"x": "1"}, Point, Point(1)),
        ([{"symbol": "600000", "close": 1}], list[Bar], [Bar("600000", 1.0)]),
        ("2026-09-30", dt.date, dt.date(2026, 9, 30)),
        ("2026-09-30T01:02:03Z", dt.datetime, dt.datetime(2026, 9, 30, 1, 2, 3, tzinfo=dt.UTC)),
        ("1.10", Decimal, Decimal("1.10")),
        ("00000000-0000-0000-0000-000000000001", UUID, UUID(int=1)),
        ("AAE=", bytes, b"\x00\x01"),
        ("buy", Literal["buy", "sell"], "buy"),
        ("7", Annotated[int, msgspec.Meta(ge=1)], 7),
        ("/tmp/数据", Path, Path("/tmp/数据")),
        ({"b": [1]}, Any, {"b": [1]}),
    ],
)
def test_params_become_what_the_annotation_says(given: Any, kind: Any, wanted: Any) -> None:
    value = bind(annotated(kind), value=given).arguments["value"]
    assert value == wanted
    assert type(value) is type(wanted)


@pytest.mark.parametrize(
    ("given", "kind", "parts"),
    [
        ("abc", int, ["'value'", "expected int", "got str", "'abc'"]),
        (1.5, int, ["expected int", "got float", "1.5"]),
        (True, int, ["expected int", "got bool"]),
        (None, int, ["expected int", "got null"]),
        (1, str, ["expected str", "got int", "1", "quotes"]),
        ([1, "x"], list[int], ["'value' at [1]", "expected int"]),
        ([{"symbol": "x"}], list[Bar], ["[0]", "`close`".replace("`", "")]),
        ({"y": 1}, Point, ["missing required field x"]),
        ("hold", Literal["buy", "sell"], ["'hold'"]),
        (0, Annotated[int, msgspec.Meta(ge=1)], [">= 1"]),
        ({}, Database, ["expected Database", "got dict"]),
        ({"other": 1}, Model, ["value is required"]),
    ],
)
def test_a_mismatch_names_the_argument_what_came_and_what_is_wanted(given: Any, kind: Any, parts: list[str]) -> None:
    message = refusal(annotated(kind), value=given)
    assert message.startswith("argument 'value'")
    assert [part for part in parts if part not in message] == []


def test_a_number_never_becomes_a_text() -> None:
    assert "write it in quotes" in refusal(annotated(str), value=1)


def test_a_long_value_is_shortened_in_the_message() -> None:
    assert len(refusal(annotated(int), value="x" * 10_000)) < 300


def test_models_are_validated_by_themselves() -> None:
    assert bind(annotated(Model), value={"value": 3}).arguments["value"].value == 3


def test_a_default_holds_when_nothing_is_given() -> None:
    def function(limit: int = 1000) -> None:
        pass

    assert bind(function).arguments == {}


def test_missing_arguments_are_all_named() -> None:
    def function(a: int, 来源: str, c: int = 1) -> None:  # noqa: N803
        pass

    assert refusal(function, c=2) == "missing arguments 'a', '来源'; given are: c"


def test_unknown_params_are_named_and_the_arguments_listed() -> None:
    def function(source: str, limit: int = 1) -> None:
        pass

    message = refusal(function, source="x", limits=3)
    assert message == "unknown argument 'limits'; the function takes: source, limit"


def test_a_function_without_arguments_takes_no_params() -> None:
    assert refusal(lambda: None, a=1) == "unknown argument 'a'; the function takes no arguments"


def test_keyword_arguments_take_the_rest_and_are_converted() -> None:
    def function(a: int, **rest: int) -> None:
        pass

    assert bind(function, a="1", b="2").kwargs == {"b": 2}
    assert "'**rest'" in refusal(function, a=1, b="x")


def test_positional_only_and_keyword_only_arguments_are_filled_by_name() -> None:
    def function(a: int, /, ctx: TaskContext, *, b: int) -> None:
        pass

    bound = bind(function, a="1", b="2")
    assert bound.args[0] == 1
    assert bound.kwargs == {"b": 2}


def test_the_context_goes_where_it_is_annotated() -> None:
    def function(source: str, context: TaskContext | None) -> None:
        pass

    bound = bind(function, source="x").arguments
    assert isinstance(bound["context"], TaskContext)


def test_an_unannotated_ctx_is_the_context() -> None:
    bound = bind(lambda ctx: None, anything=1)
    assert bound.arguments["ctx"].params["anything"] == 1


def test_an_annotated_ctx_of_another_type_is_an_argument() -> None:
    def function(ctx: int) -> None:
        pass

    assert bind(function, ctx="1").arguments == {"ctx": 1}


def test_the_sync_context_counts_as_a_context_too() -> None:
    def function(c: SyncTaskContext) -> None:
        pass

    assert "c" in bind(function).arguments


def test_an_annotation_only_the_type_checker_knows_is_still_a_context() -> None:
    def function(c: typing_only.TaskContext, a: Unknown) -> None:  # type: ignore[name-defined]  # noqa: F821
        pass

    bound = bind(function, a="1").arguments
    assert isinstance(bound["c"], TaskContext)
    assert bound["a"] == "1"


def test_a_context_alone_takes_any_params_but_a_context_beside_arguments_does_not() -> None:
    def beside(ctx: TaskContext, a: int) -> None:
        pass

    assert "unknown argument 'b'" in refusal(beside, a=1, b=2)


def test_an_argument_of_a_registered_type_gets_the_service() -> None:
    database = Database()
    services = Services().with_service(Database, database)

    def function(ctx: TaskContext, db: Database | None, limit: int = 1) -> None:
        pass

    assert bind(function, services, limit="2").arguments["db"] is database


def test_context_and_services_alone_take_any_params() -> None:
    services = Services().with_service(Database, Database())

    def function(ctx: TaskContext, db: Database) -> None:
        pass

    assert bind(function, services, anything=1).arguments["ctx"].params["anything"] == 1


def test_without_the_service_the_argument_is_missing() -> None:
    def function(db: Database) -> None:
        pass

    assert "missing argument 'db'" in refusal(function)


def test_wrapped_partial_and_callable_objects_bind_like_functions() -> None:
    def function(a: int, b: int) -> None:
        pass

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        pass

    class Callable_:  # noqa: N801
        def __call__(self, a: int) -> None:
            pass

    assert bind(wrapped, a="1", b="2").arguments == {"a": 1, "b": 2}
    assert bind(functools.partial(function, b=5), a="1").arguments["a"] == 1
    assert bind(Callable_(), a="1").arguments == {"a": 1}
    assert bind(Callable_().__call__, a="1").arguments == {"a": 1}


def test_what_msgspec_cannot_convert_to_is_passed_on() -> None:
    given = [{"x": 1}]
    assert bind(annotated(list[Point] | tuple[Bar, ...]), value=given).arguments["value"] is given
