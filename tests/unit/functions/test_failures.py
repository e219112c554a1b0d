"""Exceptions as data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskengine.errors import BadArguments, JobError, NonRetryable, NotSupportedYet, RetryAfter, WorkerDied
from taskengine.functions.failures import MAX_MESSAGE, MAX_TRACEBACK, cut, failure_of


def raised_by(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


class 行情错误(LookupError):  # noqa: N801
    pass


def test_type_message_and_bases_are_told_nearest_first() -> None:
    failure = failure_of(行情错误("没有数据"))
    assert (failure.type, failure.message) == ("行情错误", "没有数据")
    assert failure.bases == ("LookupError", "Exception", "BaseException")


def test_the_traceback_shows_the_users_lines() -> None:
    text = failure_of(raised_by(ValueError("坏"))).traceback
    assert "test_failures.py" in text
    assert "raise error" in text
    assert text.endswith("ValueError: 坏\n")


async def test_our_own_frames_are_not_in_the_traceback(start) -> None:  # type: ignore[no-untyped-def]
    async def 下载() -> None:  # noqa: N802
        try:
            raise_deep()
        except KeyError as error:
            raise RuntimeError("outer") from error

    def raise_deep() -> None:
        raise KeyError("inner")

    text = (await start(下载).wait()).error.traceback
    assert "in 下载" in text
    assert "in raise_deep" in text
    assert "direct cause" in text
    assert "taskengine/functions" not in text


async def test_an_error_of_ours_has_no_traceback(start) -> None:  # type: ignore[no-untyped-def]
    async def body(a: int) -> object:
        return object()

    assert (await start(body).wait()).error.traceback == ""
    assert (await start(body, {"a": 1}).wait()).error.traceback == ""


def test_a_message_that_raises_is_told_as_such() -> None:
    class Nasty(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    assert failure_of(raised_by(Nasty())).message == "<Nasty whose text raised KeyboardInterrupt>"


def test_an_exception_without_a_message_is_told_by_its_name() -> None:
    assert failure_of(ValueError()).message == "ValueError"


@given(st.text(), st.integers(200, 1000))
def test_a_cut_text_fits_and_is_utf8(text: str, limit: int) -> None:
    for candidate in (text, text * 50, "\ud800" + text):
        short = cut(candidate, limit)
        assert len(short.encode()) <= limit
        if len(candidate.encode("utf-8", "backslashreplace")) <= limit:
            assert short == candidate.encode("utf-8", "backslashreplace").decode()


def test_a_long_message_keeps_start_and_end() -> None:
    message = failure_of(ValueError("始" + "中" * 100_000 + "末")).message
    assert len(message.encode()) <= MAX_MESSAGE
    assert message.startswith("始中")
    assert message.endswith("中末")
    assert "left out" in message


def test_a_deep_traceback_is_cut_and_keeps_its_end() -> None:
    def recurse(n: int, filler: str = "x" * 200) -> None:
        if n == 0:
            raise ValueError("bottom " + "y" * 30_000)
        recurse(n - 1)

    try:
        recurse(300)
    except ValueError as error:
        text = failure_of(error).traceback
    assert len(text.encode()) <= MAX_TRACEBACK
    assert text.endswith("y\n")


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (ValueError(), True),
        (JobError("x"), True),
        (WorkerDied("x"), True),
        (RetryAfter(1), True),
        (NonRetryable("x"), False),
        (BadArguments("x"), False),
        (NotSupportedYet("x"), False),
        (ExceptionGroup("several", [ValueError(), ValueError()]), True),
        (ExceptionGroup("several", [ValueError(), ExceptionGroup("inner", [NonRetryable("x")])]), False),
    ],
)
def test_what_may_be_tried_again(error: Exception, retryable: bool) -> None:
    assert failure_of(error).retryable is retryable


def test_a_group_is_matched_by_its_members() -> None:
    assert {"TimeoutError", "OSError"} <= set(failure_of(ExceptionGroup("several", [TimeoutError()])).bases)


@pytest.mark.parametrize(
    ("delay_s", "delay_us"),
    [(1.5, 1_500_000), (0, 0), (-3, 0), (float("nan"), 0), (float("inf"), 100 * 36525 * 864_000_000)],
)
def test_the_asked_delay_is_kept_and_is_sane(delay_s: float, delay_us: int) -> None:
    assert failure_of(RetryAfter(delay_s)).retry_after_us == delay_us
