"""The two examples that open the README, run as a reader would run them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def ran(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False
    )


@pytest.mark.parametrize(("options", "shouted"), [([], "HELLO, 世界!"), (["-p", "who=Ada"], "HELLO, ADA!")])
def test_the_yaml_greets_whom_it_is_told(options: list[str], shouted: str) -> None:
    process = ran("-m", "taskengine", "run", "examples/hello.yaml", "--json", *options)
    assert process.returncode == 0, process.stderr
    instance = json.loads(process.stdout)
    assert instance["status"] == "Success"
    assert {task["name"]: task["result"] for task in instance["tasks"]}["shout"] == shouted


def test_the_script_prints_how_it_ended_and_the_result() -> None:
    process = ran("examples/hello.py")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == "Success ['Hello, 世界!']\n"
