"""taskengine/cli/problems.py: each kind of error has its exit code and teaches the next step."""

import shlex
from pathlib import Path

import pytest

from taskengine import errors
from taskengine.cli import exits
from taskengine.cli.problems import exit_code_of, explain, problem_text, report
from taskengine.errors import Problem, TaskEngineError
from taskengine.model.states import INSTANCE_FINAL, InstanceState
from taskengine.store.lock import FileLock

PROBLEM = Problem(message="unknown key `x`", file="流程.yaml", line=3, column=7, excerpt="  获取: x")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidDefinition([PROBLEM]), 4),
        (errors.InvalidParams([PROBLEM]), 2),
        (errors.InvalidConfiguration("no"), 2),
        (errors.NotSupportedYet("later"), 2),
        (errors.NotFound("run", "x"), 3),
        (FileNotFoundError(2, "gone", "x.yaml"), 3),
        (errors.StoreLocked("a.db", "pid 7"), 5),
        (errors.Conflict("ended"), 5),
        (errors.IllegalMove("task", "a", "b"), 5),
        (errors.StoreCorrupt("rows"), 1),
        (errors.SchemaTooNew(9, 1), 1),
        (errors.StoreUnavailable("busy"), 1),
        (PermissionError(13, "Permission denied", "x"), 1),
        (errors.ServerUnreachable("http://h", "gone"), 6),
        (errors.NotAllowed("no token"), 7),
        (errors.WaitTimeout("too long"), 8),
        (errors.TooManyRequests("wait", 3), 1),
        (errors.Unavailable("stopping"), 1),
        (ValueError("a bug"), 1),
    ],
)
def test_the_exit_code_of_an_error(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(error) == code
    assert report(error) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.strip()


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("Success", 0),
        ("Failed", 9),
        ("TimedOut", 9),
        ("Quarantined", 9),
        ("Cancelled", 10),
        ("Compensated", 11),
        ("CompensationFailed", 12),
    ],
)
def test_the_exit_code_of_a_state(state: str, code: int) -> None:
    assert exits.BY_STATE[InstanceState(state)] == code


def test_every_final_state_has_an_exit_code() -> None:
    assert set(exits.BY_STATE) == {*INSTANCE_FINAL, InstanceState.QUARANTINED}


def test_the_caret_stands_under_the_character_behind_wide_ones() -> None:
    assert problem_text(PROBLEM).splitlines() == [
        "流程.yaml:3:7: unknown key `x`",
        "      获取: x",
        "            ^",
    ]


def test_all_problems_are_told_with_their_number() -> None:
    said = explain(errors.InvalidDefinition([PROBLEM, PROBLEM]))
    assert said.count("unknown key") == 2
    assert said.endswith("Error: 2 problems")


def test_a_lock_names_its_holder_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    report(errors.StoreLocked("a.db", "pid 4711"), ["instance", "pause", "x"])
    said = capsys.readouterr().err
    assert "pid 4711" in said
    assert "then try again" in said


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("instance pause x --db a.db --now", "taskengine instance pause x --now --server http://h:1"),
        ("instance pause --db=a.db x", "taskengine instance pause x --server http://h:1"),
        ("instance pause 'x y'", "taskengine instance pause 'x y' --server http://h:1"),
        ("run flow.yaml --db a.db", "then try again"),
    ],
)
def test_a_lock_that_a_server_holds_is_told_with_the_same_command_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, advice: str
) -> None:
    lock = FileLock(tmp_path / "a.db")
    lock.acquire()
    lock.note("http://h:1")
    report(errors.StoreLocked(str(tmp_path / "a.db"), "pid 1"), shlex.split(words))
    lock.release()
    assert advice in capsys.readouterr().err


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "workflow.yaml").touch()
    missing = tmp_path / "worklfow.yaml"
    said = explain(FileNotFoundError(2, "gone", str(missing)))
    assert said == f"Error: no file {missing}, did you mean {tmp_path}/workflow.yaml?"


def test_a_bug_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise KeyError("\x1b[2J")
    except KeyError as error:
        report(error)
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "bug" in said
    assert "\x1b" not in said


def test_messages_of_our_errors_show_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    report(TaskEngineError("evil \x1b]0;x\x07"))
    assert "\x1b" not in capsys.readouterr().err
