"""noop, transform, log, fail, sleep."""

from typing import Any

import pytest

from taskengine.functions import LogLine, Parked, Raised, Returned, builtin_registry


async def call(start: Any, name: str, **params: Any) -> Any:
    return await start(builtin_registry().get(name), params).wait()


async def test_noop_gives_its_params_back(start: Any) -> None:
    assert await call(start, "noop", 甲=1, b=[None]) == Returned('{"甲":1,"b":[null]}'.encode())
    assert await call(start, "noop") == Returned(b"{}")


async def test_transform_gives_the_value(start: Any) -> None:
    assert await call(start, "transform", value={"行": [1, "2"]}) == Returned('{"行":[1,"2"]}'.encode())
    assert (await call(start, "transform")).error.type == "BadArguments"


@pytest.mark.parametrize(
    ("params", "level", "message"),
    [
        ({"message": "完成 100%"}, "info", "完成 100%"),
        ({"message": {"行": 5}, "level": "error"}, "error", '{"行":5}'),
    ],
)
async def test_log_writes_a_line(start: Any, params: dict[str, Any], level: str, message: str) -> None:
    running = start(builtin_registry().get("log"), params)
    assert await running.wait() == Returned(b"null")
    assert [(line.level, line.message) for line in running.frames if isinstance(line, LogLine)] == [(level, message)]


async def test_log_refuses_a_level_that_does_not_exist(start: Any) -> None:
    outcome = await call(start, "log", message="x", level="loud")
    assert "'level'" in outcome.error.message


async def test_fail_fails_with_its_message(start: Any) -> None:
    outcome = await call(start, "fail", message="故意")
    assert isinstance(outcome, Raised)
    assert (outcome.error.type, outcome.error.message, outcome.error.retryable) == ("JobError", "故意", True)
    assert not (await call(start, "fail", retryable="false")).error.retryable


@pytest.mark.parametrize(
    ("duration", "span_us"), [("1h30m", 5_400_000_000), (2, 2_000_000), ("500ms", 500_000), (0, 0)]
)
async def test_sleep_parks_for_the_duration(start: Any, duration: Any, span_us: int) -> None:
    outcome = await call(start, "sleep", duration=duration)
    assert outcome == Parked(span_us, b'{"slept":%s}' % str(span_us / 1e6).encode())


@pytest.mark.parametrize("duration", ["soon", -1, None, [1]])
async def test_sleep_refuses_what_is_no_duration(start: Any, duration: Any) -> None:
    error = (await call(start, "sleep", duration=duration)).error
    assert (error.type, error.retryable) == ("BadArguments", False)
    assert "'duration'" in error.message
