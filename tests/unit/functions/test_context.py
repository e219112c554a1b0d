"""What a job knows of its task."""

import asyncio
import datetime as dt
from typing import Any

import pytest

from taskengine.clock import ManualClock
from taskengine.errors import BadArguments, InvalidConfiguration, JobError, NotFound, NotSupportedYet
from taskengine.functions import CallInfo, LogLine, ProgressNote, Services, SyncTaskContext, TaskContext


class Database:
    pass


def database() -> Database:
    return Database()


def context(services: Services | None = None, frames: list[Any] | None = None, **given: Any) -> TaskContext:
    info = CallInfo(**{"instance_id": "i-1", "workflow_id": "同步", "ordinal": 7, "task_name": "下载", **given})
    sink = frames.append if frames is not None else None
    return TaskContext(info, services or Services(), ManualClock(), sink)


def test_names_and_numbers_of_the_task() -> None:
    ctx = context(attempt=3, run=2, idempotency_key="k")
    assert (ctx.task_id, ctx.task_name, ctx.instance_id) == ("i-1/7", "下载", "i-1")
    assert (ctx.workflow_id, ctx.attempt, ctx.run_id, ctx.idempotency_key) == ("同步", 3, "i-1/2", "k")


def test_the_deadline_is_an_aware_time() -> None:
    assert context().deadline is None
    assert context().time_left_s is None
    now_us = ManualClock().now_us()
    ctx = context(deadline_us=now_us + 2_500_000)
    assert ctx.deadline == dt.datetime.fromtimestamp(now_us / 1e6, dt.UTC) + dt.timedelta(seconds=2.5)
    assert ctx.time_left_s == 2.5
    assert context(deadline_us=now_us - 1).time_left_s == 0


def test_params_are_read_with_their_types() -> None:
    params = context(params={"代码": "000001", "n": "5", "f": 1, "b": "false", "none": None}).params
    assert params["代码"] == params.get_str("代码") == params.require("代码") == "000001"
    assert (params.get_int("n"), params.get_float("f"), params.get_bool("b")) == (5, 1.0, False)
    assert (params.get("x"), params.get("x", 1), params.get_int("x", 2), params.get_str("x")) == (None, 1, 2, None)
    assert (params.has("none"), params.has("x"), len(params), next(iter(params))) == (True, False, 5, "代码")
    with pytest.raises(BadArguments, match="param 'f': expected str, got int"):
        params.get_str("f")
    with pytest.raises(BadArguments, match="param 'x' is required; given are: 代码, n"):
        params.require("x")


def test_upstream_results_are_decoded_when_asked_for() -> None:
    ctx = context(upstream={"下载": '{"行":[1,2]}'.encode(), "broken": b"{"})
    assert ctx.upstream("下载") == {"行": [1, 2]}
    assert ctx.upstream("下载") is ctx.upstream("下载")
    assert ctx.upstream_value("下载", "行") == [1, 2]
    with pytest.raises(JobError, match="the result of '下载' has no field 'x'; it has: '行'"):
        ctx.upstream_value("下载", "x")
    with pytest.raises(NotFound, match="no upstream task 'other'; with results are: '下载', 'broken'"):
        ctx.upstream("other")


def test_upstreams_gives_all_results() -> None:
    assert context(upstream={"a": b"1", "b": b"null"}).upstreams() == {"a": 1, "b": None}


def test_extract_takes_one_field_of_every_item() -> None:
    ctx = context(upstream={"each": b'[{"n":1},null,{"n":3}]', "one": b'{"n":1}', "bad": b'[{"n":1},{}]'})
    assert ctx.extract("each", "n") == [1, 3]
    with pytest.raises(JobError, match="no list; use upstream_value"):
        ctx.extract("one", "n")
    with pytest.raises(JobError, match=r"'bad'\[1\] has no field 'n'"):
        ctx.extract("bad", "n")


def test_log_lines_carry_level_time_and_values() -> None:
    frames: list[Any] = []
    log = context(frames=frames).log
    log.debug("第 %s 行", 1)
    log.info("a", rows=2)
    log.warning("100%")
    log.error("bad %d", "x")
    now_us = ManualClock().now_us()
    assert frames == [
        LogLine("debug", "第 1 行", now_us),
        LogLine("info", "a rows=2", now_us),
        LogLine("warning", "100%", now_us),
        LogLine("error", "bad %d 'x'", now_us),
    ]


def test_log_exception_brings_the_traceback() -> None:
    frames: list[Any] = []
    try:
        raise ValueError("坏")
    except ValueError:
        context(frames=frames).log.exception("failed")
    assert frames[0].level == "error"
    assert frames[0].message.startswith("failed\nTraceback")
    assert "ValueError: 坏" in frames[0].message


def test_a_line_is_cut() -> None:
    frames: list[Any] = []
    context(frames=frames).log.info("x" * 1_000_000)
    assert len(frames[0].message) <= 64 * 1024


def test_progress_stays_between_nothing_and_all() -> None:
    frames: list[Any] = []
    ctx = context(frames=frames)
    for fraction in (0, 0.5, 1.2, -1):
        ctx.set_progress(fraction, "进度")
    assert frames == [ProgressNote(fraction, "进度") for fraction in (0.0, 0.5, 1.0, 0.0)]
    with pytest.raises(ValueError, match="NaN"):
        ctx.set_progress(float("nan"))


def test_without_a_listener_nothing_is_told() -> None:
    ctx = context()
    ctx.log.info("x")
    ctx.set_progress(1)


def test_cancelled_is_seen_and_raised() -> None:
    ctx = context()
    ctx.raise_if_cancelled()
    assert not ctx.cancelled
    ctx.mark_cancelled()
    assert ctx.cancelled
    with pytest.raises(asyncio.CancelledError):
        ctx.raise_if_cancelled()


@pytest.mark.parametrize("kind", [TaskContext, SyncTaskContext])
@pytest.mark.parametrize("name", ["emit", "checkpoint", "last_checkpoint", "artifact"])
def test_later_features_say_that_they_are_later(kind: type[TaskContext], name: str) -> None:
    ctx = kind(CallInfo(instance_id="i", workflow_id="w", ordinal=0, task_name="t"), Services(), ManualClock())
    with pytest.raises(NotSupportedYet, match=rf"ctx\.{name} is not supported yet; see docs/not-yet\.md"):
        getattr(ctx, name)


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="parms"):
        _ = context().parms


def test_services_are_found_by_text_and_by_type() -> None:
    database = Database()
    services = Services().with_service(Database, database).with_service("数据库", 5)
    ctx = context(services)
    assert ctx.service(Database) is database
    assert ctx.service("数据库") == 5


def test_a_missing_service_lists_the_keys() -> None:
    services = Services().with_service(Database, Database()).with_service("cache", 1)
    with pytest.raises(JobError) as caught:
        services.get("databse")
    assert "no service 'databse'" in str(caught.value)
    assert f"cache, {Database.__module__}:Database" in str(caught.value)
    with pytest.raises(JobError, match="registered are: none"):
        Services().get("x")


def test_a_service_key_is_given_once() -> None:
    services = Services().with_service("db", 1)
    with pytest.raises(InvalidConfiguration, match="'db' is registered already"):
        services.with_service("db", 2)
    with pytest.raises(InvalidConfiguration, match="module:function"):
        services.with_service_factory("other", "nonsense")


def test_a_factory_is_called_once() -> None:
    services = Services().with_service_factory("d", "collections:OrderedDict")
    first = services.get("d")
    assert first == {}
    assert services.get("d") is first


def test_a_factory_that_is_not_there_is_named() -> None:
    services = Services().with_service_factory("d", "collections:Nothing")
    with pytest.raises(JobError, match="factory 'collections:Nothing' cannot be found"):
        services.get("d")


def test_in_another_process_only_factories_are_had() -> None:
    services = Services.elsewhere({"d": "collections:OrderedDict"}, ["object"])
    assert services.get("d") == {}
    assert services.keys() == ["d"]
    with pytest.raises(NotSupportedYet, match="with_service_factory"):
        services.get("object")
