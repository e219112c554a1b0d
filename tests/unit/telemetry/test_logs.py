"""taskengine/telemetry/logs.py: lines on stderr, with the ids of what they are about."""

import json
import logging
from collections.abc import Iterator
from typing import Any

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


def line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (text,) = capsys.readouterr().err.splitlines()
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_json_line_has_the_event_and_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", form="json")
    BoundLog(StandardLog(), instance="行情").warning("task.abandoned", attempt=3, level="mine", what=b"x\x1b")
    found = line(capsys)
    assert found.pop("at").endswith("+00:00")
    assert found == {
        "level": "warning",
        "logger": "taskengine",
        "event": "task.abandoned",
        "instance": "行情",
        "attempt": 3,
        "level_": "mine",
        "what": "b'x\\x1b'",
    }


def test_a_json_line_is_one_line_whatever_it_tells(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", lambda text: text.replace("geheim", "***"), form="json")
    try:
        raise ValueError("two\nlines of geheim \x1b[2J \udce4")
    except ValueError as error:
        BoundLog(StandardLog()).error("failed", exc=error, secret="geheim")
    found = line(capsys)
    assert (found["event"], found["secret"]) == ("failed", "***")
    assert found["error"].startswith("Traceback")
    assert "geheim" not in found["error"]


def test_the_web_server_speaks_through_the_same_log(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("uvicorn", "uvicorn.access", "py.warnings")
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).level) for name in names}
    try:
        set_up_logging("info", form="json", access=True)
        logging.getLogger("uvicorn.error").info("news for nobody")
        logging.getLogger("uvicorn.access").info("%s - GET", "127.0.0.1")
        assert line(capsys)["event"] == "127.0.0.1 - GET"
        set_up_logging("info", form="json", access=False)
        logging.getLogger("uvicorn.access").info("%s - GET", "127.0.0.1")
        logging.getLogger("uvicorn.error").error("broken")
        assert line(capsys)["event"] == "broken"
    finally:
        logging.captureWarnings(False)
        for name, (handlers, level) in before.items():
            logger = logging.getLogger(name)
            logger.handlers[:], logger.propagate = handlers, True
            logger.setLevel(level)
