"""The handler that hears job code: what it hears, and what it leaves as it was."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest

from taskengine.clock import SystemClock
from taskengine.functions.context import CallInfo, SyncTaskContext, activate
from taskengine.functions.joblog import Hearing, JobLogHandler
from taskengine.functions.outcomes import Frame
from taskengine.functions.services import Services


@contextlib.contextmanager
def root(level: int = logging.WARNING, *handlers: logging.Handler) -> Iterator[logging.Logger]:
    """The root logger of a program; entered inside of a test, since pytest puts handlers there after the fixtures."""
    logger = logging.getLogger()
    before = logger.handlers[:], logger.level
    logger.handlers[:] = list(handlers)
    logger.setLevel(level)
    try:
        yield logger
    finally:
        logger.handlers[:] = before[0]
        logger.setLevel(before[1])


def in_job(info: Callable[..., CallInfo], work: Callable[[], object]) -> list[tuple[str, str]]:
    """Lines of a job whose body is `work`."""
    frames: list[Frame] = []

    def body() -> None:
        activate(SyncTaskContext(info(), Services(), SystemClock(), frames.append))
        work()

    copy_context().run(body)
    return [(frame.level, frame.message) for frame in frames]  # type: ignore[union-attr]


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


mine = logging.getLogger("job.code")


def test_levels_are_mapped(info: Any) -> None:
    def work() -> None:
        for level in (5, 10, 20, 25, 30, 40, 50):
            mine.log(level, "%s", level)

    with root(1), Hearing():
        lines = in_job(info, work)
    assert lines == [
        ("debug", "5"),
        ("debug", "10"),
        ("info", "20"),
        ("info", "25"),
        ("warning", "30"),
        ("error", "40"),
        ("error", "50"),
    ]


def test_other_handlers_get_the_record_too(info: Any) -> None:
    kept = Kept()
    with root(logging.INFO, kept), Hearing():
        assert in_job(info, lambda: mine.info("x %d", 1)) == [("info", "x 1")]
    assert [record.getMessage() for record in kept.records] == ["x 1"]


def test_arguments_that_do_not_fit_do_not_fail_the_job(info: Any) -> None:
    with root(), Hearing():
        assert in_job(info, lambda: mine.warning("%d", "x")) == [("warning", "%d ('x',)")]


def test_records_of_the_engine_are_no_lines(info: Any) -> None:
    def work() -> None:
        logging.getLogger("taskengine").error("of the engine")
        logging.getLogger("taskengine.store").error("of the engine")
        logging.getLogger("taskengine_jobs").error("of a job")

    engine = logging.getLogger("taskengine")
    before = engine.propagate
    engine.propagate = True
    with root(logging.WARNING, Kept()), Hearing():
        assert in_job(info, work) == [("error", "of a job")]
    engine.propagate = before


def test_what_telling_logs_itself_is_not_told_again(info: Any) -> None:
    frames: list[Frame] = []

    def sink(frame: Frame) -> None:
        frames.append(frame)
        mine.warning("about a line")

    def body() -> None:
        activate(SyncTaskContext(info(), Services(), SystemClock(), sink))
        mine.warning("a line")

    with root(), Hearing():
        copy_context().run(body)
    assert [frame.message for frame in frames] == ["a line"]


def test_an_unconfigured_root_lets_info_through_meanwhile() -> None:
    with root() as logger:
        with Hearing():
            assert logger.level == logging.INFO
        assert logger.level == logging.WARNING


@pytest.mark.parametrize(("level", "handlers"), [(logging.ERROR, 0), (logging.WARNING, 1), (logging.DEBUG, 0)])
def test_a_configured_root_keeps_its_level(level: int, handlers: int) -> None:
    with root(level, *[Kept() for _ in range(handlers)]) as logger, Hearing():
        assert logger.level == level


def test_a_level_that_was_set_meanwhile_stays() -> None:
    with root() as logger:
        with Hearing():
            logger.setLevel(logging.ERROR)
        assert logger.level == logging.ERROR


def test_many_engines_share_one_handler_and_the_last_takes_it_away(info: Any) -> None:
    with root() as logger:
        one, two = Hearing(), Hearing()
        one.begin()
        two.begin()
        assert in_job(info, lambda: mine.info("x")) == [("info", "x")]
        one.end()
        one.end()
        assert in_job(info, lambda: mine.info("x")) == [("info", "x")]
        two.end()
        assert logger.handlers == []
        Hearing().end()


def test_warnings_outside_of_jobs_still_reach_stderr_where_nobody_configured_logging(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with root(), Hearing():
        mine.warning("of nobody")
        mine.info("too low for that")
    assert capsys.readouterr().err == "of nobody\n"


def test_and_not_twice_where_somebody_did(capsys: pytest.CaptureFixture[str]) -> None:
    kept = Kept()
    with root(logging.WARNING, kept), Hearing():
        mine.warning("of nobody")
    assert len(kept.records) == 1
    assert capsys.readouterr().err == ""


def test_the_handler_is_one_of_the_root_logger_only_while_heard() -> None:
    with root() as logger:
        with Hearing():
            assert [type(handler) for handler in logger.handlers] == [JobLogHandler]
        assert logger.handlers == []
