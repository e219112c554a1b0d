"""taskengine/telemetry/logs.py: lines on stderr, with the ids of what they are about."""

import logging
from collections.abc import Iterator

import pytest

from taskengine.ambient import StandardLog
from taskengine.telemetry.logs import BoundLog, set_up_logging


@pytest.fixture(autouse=True)
def logger() -> Iterator[logging.Logger]:
    """The program's logger as it was before."""
    logger = logging.getLogger("taskengine")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield logger
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def test_bound_fields_are_on_every_line_and_the_lines_own_win(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info")
    log = BoundLog(StandardLog(), instance="i1").bind(task="load")
    log.info("started")
    log.warning("slow", task="other")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("INFO    started instance='i1' task='load'")
    assert second.endswith("WARNING slow instance='i1' task='other'")


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("warning")
    log = BoundLog(StandardLog())
    log.debug("no")
    log.info("no")
    log.error("yes")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_setting_up_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("debug")
    set_up_logging("debug")
    StandardLog().debug("once")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_comes_from_outside_is_made_fit_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", lambda text: text.replace("\x1b", "<esc>"))
    try:
        raise ValueError("每日\x1b[2J")
    except ValueError as error:
        BoundLog(StandardLog()).error("failed", exc=error)
    said = capsys.readouterr().err
    assert said.endswith("ValueError: 每日<esc>[2J\n")
    assert "\x1b" not in said
