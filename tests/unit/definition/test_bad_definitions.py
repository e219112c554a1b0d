"""The corpus of broken files: each has exactly the messages that stand in the text beside it.

With TASKENGINE_TEST_REWRITE=1 the texts are written anew; look at the difference before you keep it.
"""

import os
from pathlib import Path

import pytest
import yaml

from taskengine.definition import read_yaml, yaml_source
from taskengine.definition.later import LATER_TASK, LATER_WORKFLOW
from taskengine.errors import InvalidDefinition

FOLDER = Path(__file__).parents[2] / "bad_definitions"
FILES = sorted(FOLDER.glob("*.yaml"))
JOBS = ("fetch", "http_request", "log", "my_jobs.load", "noop", "shell_command", "sleep", "wait_for", "workflow")
POOLS = ("api", "io")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.skipif(not yaml.__with_libyaml__, reason="the words of syntax errors are libyaml's")
def test_a_broken_file_gets_exactly_its_messages(path: Path) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        read_yaml(path.read_bytes(), file=path.name, jobs=JOBS, pools=POOLS)
    expected = path.with_suffix(".txt")
    if os.environ.get("TASKENGINE_TEST_REWRITE"):
        expected.write_text(f"{caught.value}\n")
    assert f"{caught.value}\n" == expected.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_problem_has_its_file_and_position_and_they_are_in_order(path: Path) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        read_yaml(path.read_bytes(), file=path.name, jobs=JOBS, pools=POOLS)
    places = [(problem.line, problem.column) for problem in caught.value.problems]
    assert places == sorted(places)
    assert all(line >= 1 and column >= 1 for line, column in places)
    assert {problem.file for problem in caught.value.problems} == {path.name}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_parser_in_python_finds_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_source, "_LOADER", yaml.SafeLoader)
    with pytest.raises(InvalidDefinition) as caught:
        read_yaml(path.read_bytes(), file=path.name, jobs=JOBS, pools=POOLS)
    expected = path.with_suffix(".txt").read_text()
    if "not valid YAML" in expected or path.stem.endswith("tab-before-the-value"):  # it is stricter about tabs
        assert "not valid YAML" in str(caught.value)
    else:
        assert f"{caught.value}\n" == expected


def test_there_are_enough_broken_files_and_each_has_its_text() -> None:
    assert len(FILES) >= 60
    assert {path.stem for path in FILES} == {path.stem for path in FOLDER.glob("*.txt")}


def test_every_later_key_is_in_the_corpus() -> None:
    texts = "\n".join(path.read_text() for path in FOLDER.glob("*.txt"))
    assert all(f"`{key}` is not supported yet; see docs/not-yet.md" in texts for key in LATER_TASK | LATER_WORKFLOW)
