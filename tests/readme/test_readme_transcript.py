"""What README.md shows of a server happens: its commands are typed into a shell beside a real server."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from readme.transcript import Step, matches, play, steps_of

ROOT = Path(__file__).parents[2]
SHOWN = "http://127.0.0.1:8080"
FENCE = "```console server\n"


@pytest.fixture
def reader(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has a checkout and nothing else."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKENGINE_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**kept, "TASKENGINE_HOME": str(tmp_path / "home"), "PATH": path, "LC_ALL": "C.UTF-8", "NO_PROXY": "*"}


@pytest.fixture
def server(tmp_path: Path, reader: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it said before it was ready."""
    line = [sys.executable, "-m", "taskengine", "serve", "--port", "0"]
    with subprocess.Popen(line, cwd=tmp_path, env=reader, stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stderr is not None
        said: list[str] = []
        for text in process.stderr:
            said.append(text.rstrip("\n"))
            if "server.ready" in text:
                break
        try:
            yield said[0].rpartition(" ")[2], said
        finally:
            process.terminate()
            process.stderr.read()
    assert process.returncode == 0, said


def test_the_transcript_of_the_readme_is_what_happens(
    tmp_path: Path, reader: dict[str, str], server: tuple[str, list[str]]
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    address, said = server
    shown = readme.partition(FENCE)[2].partition("```\n")[0]
    greeting = shown.partition("\n")[2].rstrip().replace(SHOWN, address)
    assert matches(greeting, "\n".join(said)), said
    steps = list(steps_of(readme.replace(SHOWN, address)))
    assert len(steps) >= 16
    printed = play(steps, tmp_path, reader, timeout_s=60)
    for step, text in zip(steps, printed, strict=True):
        assert matches(step.expected, text), f"$ {step.command}\n{text}\n--- shown is\n{step.expected}"


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a", "a\n", True),
        ("a", "b\n", False),
        ("", "", True),
        ("", "x\n", False),
        ("a…c", "abbbc\n", True),
        ("a\n…\nz", "a\nz\n", True),
        ("a\n…\nz", "a\nb\nc\nz\n", True),
        ("a\n…\nz", "a\nb\n", False),
        ("took 1.5s", "took 22ms\n", True),
        ("took 1.5s", "took long\n", False),
        ("id 01a20b3c-5608-7000-80f8-5acc8e714db0", "id 0192f3c1-0000-7000-8000-000000000001\n", True),
        ("id 01a20b3c-5608-7000-80f8-5acc8e714db0", "id 1\n", False),
        ("a   b", "a  b\n", True),
        ("a   b", "ab\n", False),
    ],
)
def test_what_counts_as_the_same(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


def test_commands_go_on_over_lines_and_end_with_their_output() -> None:
    text = "```console\n$ a \\\n> b\nout\n$ c\n```\n\n```sh\n$ d\n```\n"
    assert list(steps_of(text)) == [Step("a \\\nb", "out"), Step("c", "")]
