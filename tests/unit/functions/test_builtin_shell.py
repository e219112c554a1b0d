"""shell_command with real programs."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from taskengine.functions import Raised, builtin_registry
from taskengine.functions.builtin.line_capture import MAX_CAPTURE, LineCapture
from taskengine.model.definition import Executor


@pytest.fixture
def shell(start: Any) -> Callable[..., Any]:
    return lambda executor=Executor.AUTO, **params: start(
        builtin_registry().get("shell_command"), params, executor=executor
    )


def result(outcome: Any) -> Any:
    return msgspec.json.decode(outcome.result)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int) -> bool:
    """True when it has gone within ten seconds."""
    for _ in range(2000):
        if not alive(pid):
            return True
        threading.Event().wait(0.005)  # nobody tells of the end of a grandchild
    return False


async def test_output_and_exit_code_are_the_result(shell: Any) -> None:
    call = shell(script="echo 你好; echo 警告 >&2; printf 末行")
    assert result(await call.wait()) == {"exit_code": 0, "stdout": "你好\n末行", "stderr": "警告\n"}
    lines = [(line.level, line.message) for line in call.frames]
    assert [line for line in lines if line[0] == "stdout"] == [("stdout", "你好"), ("stdout", "末行")]
    assert [line for line in lines if line[0] == "stderr"] == [("stderr", "警告")]


async def test_argv_is_not_read_by_a_shell(shell: Any) -> None:
    call = shell(argv=["printf", "%s|", "$HOME; echo", 5, 1.5])
    assert result(await call.wait())["stdout"] == "$HOME; echo|5|1.5|"


async def test_input_environment_and_folder_reach_the_program(
    shell: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT", "kept")
    monkeypatch.setenv("DROPPED", "dropped")
    monkeypatch.setenv("TASKENGINE_SECRET_TOKEN", "secret")
    call = shell(
        script='cat; echo "$NAME $N $FLAG $KEPT [$DROPPED] [$TASKENGINE_SECRET_TOKEN]"; pwd',
        stdin="输入\n",
        env={"NAME": "名称", "N": 5, "FLAG": True, "DROPPED": None},
        cwd=str(tmp_path),
    )
    assert result(await call.wait())["stdout"] == f"输入\n名称 5 true kept [] []\n{tmp_path}\n"


async def test_without_input_the_program_reads_an_end(shell: Any) -> None:
    assert result(await shell(argv=["cat"]).wait())["stdout"] == ""


async def test_another_exit_code_fails_the_attempt_with_what_was_said(shell: Any) -> None:
    error = (await shell(script="echo out; echo 原因 >&2; exit 3").wait()).error
    assert (error.type, error.message, error.retryable) == (
        "CommandFailed",
        "the command ended with exit code 3: 原因",
        True,
    )
    error = (await shell(script="kill -9 $$").wait()).error
    assert error.message == "the command was ended by SIGKILL"


async def test_listed_exit_codes_are_fine(shell: Any) -> None:
    assert result(await shell(script="exit 3", ok_exit_codes=[2, 3]).wait())["exit_code"] == 3
    assert result(await shell(script="exit 0", ok_exit_codes=[3]).wait())["exit_code"] == 0


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({}, "either argv or script"),
        ({"argv": ["true"], "script": "true"}, "either argv or script"),
        ({"argv": []}, "the list is empty"),
        ({"argv": ["no-such-program-5"]}, "'no-such-program-5' cannot be started"),
        ({"argv": ["true"], "cwd": "/no/such/folder"}, "/no/such/folder"),
        ({"argv": ["a\0b"]}, "null byte"),
        ({"argv": [["nested"]]}, "'argv' at [0]"),
        ({"script": "true", "timeout": 5}, "unknown argument 'timeout'"),
    ],
)
async def test_a_command_that_cannot_start_says_why(shell: Any, params: dict[str, Any], part: str) -> None:
    outcome = await shell(**params).wait()
    assert isinstance(outcome, Raised)
    assert part in outcome.error.message


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "])
async def test_cancel_ends_the_whole_group(shell: Any, trap: str) -> None:
    call = shell(script=f"{trap}sleep 1000 & echo $!; sh -c 'sleep 1000 & echo $!; wait'; wait")
    await asyncio.wait_for(call.told.wait(), 10)
    while len(call.frames) < 2:
        call.told.clear()
        await asyncio.wait_for(call.told.wait(), 10)
    children = [int(line.message) for line in call.frames]
    assert all(alive(pid) for pid in children)
    call.running.cancel()
    assert (await call.wait()).interrupted
    assert [pid for pid in children if not gone(pid)] == []


async def test_the_group_may_clean_up_within_the_grace(shell: Any, tmp_path: Path) -> None:
    mark = tmp_path / "cleaned"
    script = f"trap 'sleep 0.05; echo done > {mark}; exit 1' TERM; echo ready; while true; do sleep 0.01; done"
    call = shell(script=f"({script}) & wait")
    await asyncio.wait_for(call.told.wait(), 10)
    call.running.cancel()
    assert (await call.wait()).interrupted
    assert mark.read_text() == "done\n"


async def test_what_stays_in_the_background_is_not_waited_for(shell: Any) -> None:
    outcome = await shell(script="sleep 1000 & echo $!").wait(10)
    child = int(result(outcome)["stdout"])
    assert alive(child)
    os.kill(child, 9)


async def test_much_output_keeps_its_end_and_says_what_is_missing(shell: Any) -> None:
    program = "import sys\nfor n in range(400000): print('行', n)\nprint('the end')"
    call = shell(argv=[sys.executable, "-c", program])
    text = result(await call.wait(60))["stdout"]
    assert len(text.encode()) <= MAX_CAPTURE + 100
    assert text.startswith("[... ")
    assert text.endswith("行 399999\nthe end\n")
    assert "\ufffd" not in text
    assert len(call.frames) == 10_001
    assert call.frames[-1].message.startswith("390,001 further lines were not kept")


@pytest.mark.parametrize("executor", [Executor.THREAD, Executor.PROCESS])
async def test_it_runs_in_other_places_too(shell: Any, executor: Executor) -> None:
    assert result(await shell(executor, script="echo 好").wait())["stdout"] == "好\n"


class Told:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, _: str, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_and_characters_survive_any_cut(size: int) -> None:
    told = Told()
    capture = LineCapture(told, "info")  # type: ignore[arg-type]
    data = "一\r\n\n二三\nrest".encode() + b"\xff"
    for at in range(0, len(data), size):
        capture.feed(data[at : at + size])
    capture.close()
    assert told.lines == ["一", "", "二三", "rest\ufffd"]
    assert capture.text == "一\r\n\n二三\nrest\ufffd"


def test_a_line_without_end_is_told_in_pieces() -> None:
    told = Told()
    capture = LineCapture(told, "info")  # type: ignore[arg-type]
    for _ in range(20):
        capture.feed(b"x" * 10_000)
    capture.close()
    assert [len(line) for line in told.lines] == [65_536, 65_536, 65_536, 3_392]


def test_the_capture_is_cut_between_characters() -> None:
    capture = LineCapture(Told(), "info", limit=10)  # type: ignore[arg-type]
    capture.feed("中文字符串五六".encode())
    assert capture.text == "[... 12 bytes left out ...]\n串五六"
