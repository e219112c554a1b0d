"""The WfFormat example: what it reads, what it writes, what it refuses, and how it judges a run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.wfformat.__main__ import main
from examples.wfformat.conversion import Body, as_yaml, task_names
from examples.wfformat.schedule import ideal_seconds, least_seconds
from examples.wfformat.trace import NotATrace, Step, Trace, read_trace
from examples.wfformat.verdict import judge
from taskengine.definition import read_yaml

DIAMOND = Trace(
    "diamond", (Step("a", 1.0, ()), Step("b", 2.0, ("a",)), Step("c", 3.0, ("a",)), Step("d", 4.0, ("b", "c")))
)


def newest(steps: Sequence[Step]) -> Mapping[str, Any]:
    """The layout of 1.5: graph and runtimes apart."""
    children = {step.id: [other.id for other in steps if step.id in other.parents] for step in steps}
    graph = [
        {"id": step.id, "name": step.id, "parents": list(step.parents), "children": children[step.id]} for step in steps
    ]
    ran = [{"id": step.id, "runtimeInSeconds": step.seconds} for step in steps]
    workflow = {"specification": {"tasks": graph}, "execution": {"tasks": ran}}
    return {"name": "diamond", "schemaVersion": "1.5", "workflow": workflow}


def older(steps: Sequence[Step]) -> Mapping[str, Any]:
    """The layout of 1.3: one list, ids beside names, and parents by name."""
    tasks = [
        {"id": f"ID{index}", "name": step.id, "runtime": step.seconds, "parents": list(step.parents)}
        for index, step in enumerate(steps)
    ]
    return {"name": "diamond", "schemaVersion": "1.3", "workflow": {"tasks": tasks}}


def saved(folder: Path, document: object) -> Path:
    path = folder / "trace.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def instance(times: Mapping[str, tuple[int, int]], status: str = "Success") -> Mapping[str, Any]:
    """What `run --json` prints, with tasks that start and end at these seconds."""
    stamp = "2024-01-02T03:04:{:02d}.000000Z".format
    tasks = [
        {"name": name, "status": "Success", "started_at": stamp(start), "finished_at": stamp(end)}
        for name, (start, end) in times.items()
    ]
    return {"status": status, "tasks": tasks}


def test_the_newest_layout_is_read_back(tmp_path: Path) -> None:
    assert read_trace(saved(tmp_path, newest(DIAMOND.steps))) == DIAMOND


def test_the_older_layout_with_parents_by_name_is_the_same_graph(tmp_path: Path) -> None:
    trace = read_trace(saved(tmp_path, older(DIAMOND.steps)))
    assert [step.parents for step in trace.steps] == [(), ("ID0",), ("ID0",), ("ID1", "ID2")]
    assert [step.seconds for step in trace.steps] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("kept", ["parents", "children"])
def test_an_edge_counts_when_one_end_knows_it(tmp_path: Path, kept: str) -> None:
    document = json.loads(json.dumps(newest(DIAMOND.steps)))
    for task in document["workflow"]["specification"]["tasks"]:
        del task["children" if kept == "parents" else "parents"]
    assert read_trace(saved(tmp_path, document)).edges == 4


def test_scaling_keeps_the_graph_and_whole_microseconds() -> None:
    scaled = Trace("t", (Step("a", 53.6, ()), Step("b", 0.0123, ("a",)))).scaled(0.001)
    assert [(step.seconds, step.parents) for step in scaled.steps] == [(0.0536, ()), (0.000012, ("a",))]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "no object `workflow`"),
        ({"workflow": {}}, "neither `workflow.specification.tasks` nor `workflow.tasks`"),
        ({"workflow": {"tasks": {}}}, "`workflow.tasks` is no list of objects"),
        ({"workflow": {"specification": {"tasks": [{"id": "a"}]}}}, "`workflow.execution.tasks` is no list"),
        ({"workflow": {"tasks": [{"id": "a"}]}}, "no recorded runtime for task `a`"),
        ({"workflow": {"tasks": [{"id": "a", "runtime": -1}]}}, "the runtime -1 for task `a`"),
        ({"workflow": {"tasks": [{"id": "a", "runtime": "fast"}]}}, "the runtime 'fast' for task `a`"),
        ({"workflow": {"tasks": [{"id": "a", "runtime": float("nan")}]}}, "the runtime nan for task `a`"),
        ({"workflow": {"tasks": [{"runtime": 1}]}}, "`workflow.tasks[0]` has neither id nor name"),
        ({"workflow": {"tasks": [{"id": "a", "runtime": 1}] * 2}}, "`workflow.tasks[1]` has the id `a`"),
        ({"workflow": {"tasks": [{"id": "a", "runtime": 1, "parents": ["b"]}]}}, "names `b`, and there is no such"),
        ({"workflow": {"tasks": [{"id": "a", "runtime": 1, "parents": "b"}]}}, "`parents` of task `a`"),
    ],
)
def test_a_wrong_file_is_refused_with_its_path_and_the_place(tmp_path: Path, document: object, said: str) -> None:
    path = saved(tmp_path, document)
    with pytest.raises(NotATrace) as caught:
        read_trace(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(data)
    with pytest.raises(NotATrace):
        read_trace(path)


@pytest.mark.parametrize("body", list(Body))
def test_the_workflow_has_the_tasks_and_edges_of_the_trace(body: Body) -> None:
    definition = read_yaml(as_yaml(DIAMOND, body))
    assert {task.name: task.depends_on for task in definition.tasks} == {
        step.id: step.parents for step in DIAMOND.steps
    }


def test_bodies_last_as_long_as_recorded() -> None:
    trace = Trace("t", (Step("short", 0.0536, ()), Step("long", 921.0, ())))
    held = read_yaml(as_yaml(trace, Body.HOLD)).tasks
    assert [(task.job, dict(task.params)) for task in held] == [
        ("hold", {"seconds": 0.0536}),
        ("hold", {"seconds": 921.0}),
    ]
    assert [task.timeout_us for task in held] == [None, 1_872_000_000]
    waiting = read_yaml(as_yaml(trace, Body.WAIT)).tasks
    assert [(task.job, dict(task.params)) for task in waiting] == [
        ("sleep", {"duration": "53.6ms"}),
        ("sleep", {"duration": "15m21s"}),
    ]


@given(st.lists(st.text(min_size=1, max_size=140), unique=True, max_size=12))
def test_every_id_becomes_a_legal_and_unique_name(ids: list[str]) -> None:
    trace = Trace("odd ids", tuple(Step(id_, 0.0, tuple(ids[:index])) for index, id_ in enumerate(ids)))
    definition = read_yaml(as_yaml(trace, Body.WAIT))
    assert [task.name for task in definition.tasks] == list(task_names(trace).values())


def test_an_id_that_is_a_legal_name_is_kept() -> None:
    trace = Trace("t", (Step("mProject_ID0000001", 0.0, ()), Step("任务.1", 0.0, ())))
    assert list(task_names(trace).values()) == ["mProject_ID0000001", "任务.1"]


@pytest.mark.parametrize(("workers", "seconds"), [(1, 10.0), (2, 8.0), (None, 8.0)])
def test_list_scheduling_of_a_diamond(workers: int | None, seconds: float) -> None:
    assert ideal_seconds(DIAMOND, workers) == seconds


def test_list_scheduling_takes_what_has_been_ready_longest() -> None:
    independent = Trace("t", tuple(Step(str(index), length, ()) for index, length in enumerate((1.0, 1.0, 1.0, 3.0))))
    assert ideal_seconds(independent, 2) == 4.0
    assert ideal_seconds(independent, 3) == 4.0
    assert ideal_seconds(independent, 4) == 3.0


@pytest.mark.parametrize(("workers", "seconds"), [(1, 10.0), (2, 8.0), (None, 8.0)])
def test_no_schedule_beats_the_critical_path_or_evenly_shared_work(workers: int | None, seconds: float) -> None:
    assert least_seconds(DIAMOND, workers) == seconds


def test_list_scheduling_is_no_optimum() -> None:
    lengths = Trace("t", tuple(Step(str(index), length, ()) for index, length in enumerate((1.0, 1.0, 2.0))))
    assert (ideal_seconds(lengths, 2), least_seconds(lengths, 2)) == (3.0, 2.0)


def test_list_scheduling_refuses_a_cycle() -> None:
    with pytest.raises(ValueError, match="2 tasks are in a cycle"):
        ideal_seconds(Trace("t", (Step("a", 1.0, ("b",)), Step("b", 1.0, ("a",)))), 2)


def test_a_run_in_order_has_no_faults() -> None:
    verdict = judge(DIAMOND, instance({"a": (0, 1), "b": (1, 3), "c": (1, 4), "d": (4, 8)}))
    assert (verdict.status, verdict.seconds, list(verdict.faults)) == ("Success", 8.0, [])


def test_a_task_that_started_before_its_parent_had_finished_is_a_fault() -> None:
    verdict = judge(DIAMOND, instance({"a": (0, 1), "b": (1, 3), "c": (1, 4), "d": (3, 8)}))
    assert list(verdict.faults) == ["d started before c had finished"]


def test_a_missing_task_and_a_stranger_are_faults() -> None:
    verdict = judge(DIAMOND, instance({"a": (0, 1), "b": (1, 3), "c": (1, 4), "e": (4, 8)}, "Failed"))
    assert list(verdict.faults) == ["the instance ended Failed", "e is not in the trace", "d is not in the instance"]


def test_the_program_writes_yaml_to_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(saved(tmp_path, newest(DIAMOND.steps))), "--scale", "0.5"]) == 0
    assert [task.params["seconds"] for task in read_yaml(capsys.readouterr().out).tasks] == [0.5, 1.0, 1.5, 2.0]


def test_the_program_writes_yaml_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.yaml"
    assert main([str(saved(tmp_path, newest(DIAMOND.steps))), "--body", "wait", "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""
    assert out.read_text(encoding="utf-8") == as_yaml(DIAMOND.scaled(0.001), Body.WAIT)


def test_a_cycle_in_a_file_is_told_with_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ring = (Step("a", 1.0, ("b",)), Step("b", 1.0, ("a",)))
    assert main([str(saved(tmp_path, newest(ring)))]) == 2
    said = capsys.readouterr().err
    assert "gives no legal workflow" in said
    assert "cycle" in said


def test_a_wrong_file_ends_with_the_usage_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent.json")]) == 2
    assert "cannot be read" in capsys.readouterr().err
