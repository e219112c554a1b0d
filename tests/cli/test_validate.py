"""`taskengine validate` and `taskengine workflow graph`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Command = Callable[..., Any]
Main = Callable[..., Any]
Workflow = Callable[..., str]

KEYS = ["file", "valid", "id", "name", "version", "tasks", "problems"]


def test_a_sound_file_is_told_on_stdout(command: Command, workflow: Workflow) -> None:
    done = command("validate", workflow("name: 获取, job: noop", id="演示"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("flow.yaml: valid, 演示 (v ")
    assert done.stdout.endswith(", 1 task\n")


def test_every_problem_is_told_with_place_line_and_caret(main: Main, workflow: Workflow) -> None:
    done = main("validate", workflow("name: 获取, job: nop", "name: b, job: noop, depend_on: [获取]"))
    assert done.returncode == 4
    assert done.stdout == "flow.yaml: invalid\n"
    first = ["flow.yaml:3:21: unknown job `nop`, did you mean `noop`?", "      - {name: 获取, job: nop}"]
    assert done.stderr.splitlines()[:2] == first
    assert done.stderr.splitlines()[2] == " " * 26 + "^"
    assert "did you mean `depends_on`?" in done.stderr
    assert done.stderr.endswith("Error: 2 problems\n")


def test_all_files_are_looked_at(main: Main, workflow: Workflow) -> None:
    good, bad = workflow("name: a, job: noop"), workflow("name: b, job: nop", name="bad.yaml")
    done = main("validate", good, bad, "absent.yaml")
    assert done.returncode == 4
    assert [line.split(":")[1].split(",")[0] for line in done.stdout.splitlines()] == [
        " valid",
        " invalid",
        " cannot be read",
    ]


def test_a_missing_file_alone_is_not_found(main: Main) -> None:
    assert main("validate", "absent.yaml").returncode == 3


def test_the_form_for_programs_is_stable_and_alone_on_stdout(main: Main, workflow: Workflow) -> None:
    good, bad = workflow("name: a, job: noop"), workflow("name: b, job: nop", name="bad.yaml")
    done = main("validate", good, bad, "--json")
    assert (done.returncode, done.stderr) == (4, "")
    first, second = done.data
    assert list(first) == list(second) == KEYS
    assert (first["valid"], first["id"], first["tasks"], first["problems"]) == (True, "flow", 1, [])
    (problem,) = second["problems"]
    assert (problem["line"], problem["column"], problem["path"]) == (3, 20, "tasks[0].job")
    assert yaml.safe_load(main("validate", good, "-o", "yaml").stdout)[0] == first
    assert json.loads(main("validate", good, "-o", "jsonl").stdout) == first
    assert main("validate", good, bad, "-o", "id").stdout == "flow\n"


def test_jobs_of_an_app_are_known_when_it_is_named(main: Main, workflow: Workflow) -> None:
    file = workflow("name: a, job: short, params: {n: 1}")
    assert main("validate", file).returncode == 4
    assert main("workflow", "validate", file, "--app", "jobs.py").returncode == 0


def test_a_dash_reads_stdin(command: Command) -> None:
    assert command("validate", "-", stdin="id: x\n").stdout.startswith("-: valid, x (v ")
    done = command("validate", "-", stdin="idd: x\n")
    assert done.returncode == 4
    assert done.stderr.startswith("<stdin>:1:1:")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\x00", b"[" * 100_000, b"a: &a [*a]", b"- " * 50_000])
def test_garbage_is_refused_and_never_a_traceback(main: Main, folder: Path, content: bytes) -> None:
    (folder / "bad.yaml").write_bytes(content)
    done = main("validate", "bad.yaml")
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


def test_a_graph_as_mermaid(main: Main, workflow: Workflow) -> None:
    file = workflow("name: 获取, job: anything", "name: load, job: noop, depends_on: [获取]")
    done = main("workflow", "graph", file, "--format", "mermaid")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["graph TD", '  n0["获取"]', '  n1["load"]', "  n0 --> n1"]
    assert main("workflow", "graph", file).stdout == done.stdout


def test_a_graph_as_json(main: Main, workflow: Workflow) -> None:
    file = workflow("name: a, job: noop", "name: b, job: noop, depends_on: [a], trigger: all_done")
    graph = main("workflow", "graph", file, "--format", "json").data
    assert list(graph) == ["id", "name", "version", "nodes", "edges"]
    assert graph["nodes"][1] == {"name": "b", "job": "noop", "trigger": "all_done", "when": None}
    assert graph["edges"] == [{"from": "a", "to": "b"}]


@pytest.mark.parametrize(
    ("words", "code"),
    [(["graph"], 2), (["graph", "absent.yaml"], 3), (["graph", "flow.yaml", "--format", "pdf"], 2), (["validate"], 2)],
)
def test_wrong_use(main: Main, workflow: Workflow, words: list[str], code: int) -> None:
    workflow()
    done = main("workflow", *words)
    assert done.returncode == code
    assert done.stderr.startswith("Error: ")
    assert done.stdout == ""
