"""Views become wire bodies, and nothing is lost on the way."""

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from taskengine.api import shapes
from taskengine.api.asking import command_id, labels_of
from taskengine.api.gate.tokens import Principal
from taskengine.api.paging import after_instance, after_number, instance_cursor, micros_of, number_cursor
from taskengine.clock import Micros
from taskengine.definition import read_yaml, workflow_shape
from taskengine.engine.views import AttemptView, InstanceView, TaskView, WorkflowView
from taskengine.errors import InvalidInput
from taskengine.model.ids import InstanceId, Version, WorkflowId
from taskengine.model.progress import Progress
from taskengine.model.records import LogRow, Outcome, TaskFailure
from taskengine.model.states import BUCKETS, Bucket, InstanceState, TaskState
from taskengine.wire import ProgressBody

AT = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def _view(**changes: Any) -> InstanceView:
    fields: dict[str, Any] = {
        "id": InstanceId("i-1"),
        "workflow_id": WorkflowId("流程"),
        "workflow_name": "流程 一",
        "version": Version("v"),
        "status": InstanceState.RUNNING,
        "progress": Progress(completed=1, failed=2, running=3, pending=4, skipped=5, cancelled=6, compensation=7),
        "params": {"day": "20240102"},
        "run": 2,
        "created_at": AT,
        "started_at": AT,
        "finished_at": None,
        "duration_s": 1.5,
        "error": "",
    }
    return InstanceView(**(fields | changes))


def _task(name: str, status: TaskState = TaskState.PENDING, **changes: Any) -> TaskView:
    fields: dict[str, Any] = {
        "name": name, "ordinal": 0, "status": status, "attempt": 0, "tries": 0, "job": "noop", "depends_on": ("a",),
        "started_at": None, "finished_at": None, "duration_s": None, "due_at": None, "result": None, "error": None,
        "reason": "",
    }  # fmt: skip
    return TaskView(**(fields | changes))


def test_the_seven_numbers_add_up_to_the_total() -> None:
    body = shapes.progress_body(_view().progress)
    parts = [getattr(body, bucket.value) for bucket in Bucket]
    assert (sum(parts), parts) == (body.total, [1, 2, 3, 4, 5, 6, 7])
    assert body.percent == 100 * 21 // 28
    assert {bucket.value for bucket in Bucket} < set(ProgressBody.__struct_fields__)


def test_what_is_empty_inside_is_null_outside() -> None:
    body = shapes.instance_body(_view())
    assert (body.error_message, body.result, body.finished_at) == (None, None, None)
    assert shapes.instance_body(_view(error="kaputt")).error_message == "kaputt"
    task = shapes.task_body(_task("a"))
    assert (task.reason, task.error, task.depends_on) == (None, None, ["a"])


@pytest.mark.parametrize("state", TaskState)
def test_open_tasks_are_named_by_what_they_count_as(state: TaskState) -> None:
    running, pending = shapes.open_names([_task("x", state)])
    assert running == (["x"] if BUCKETS[state] is Bucket.RUNNING else [])
    assert pending == (["x"] if BUCKETS[state] is Bucket.PENDING else [])


def test_at_most_a_hundred_names_are_told() -> None:
    tasks = [_task(f"r{n}", TaskState.RUNNING) for n in range(150)] + [_task(f"p{n}") for n in range(150)]
    progress = shapes.instance_detail(_view(), tasks).progress
    assert progress.running_task_ids == [f"r{n}" for n in range(100)]
    assert progress.pending_task_ids == [f"p{n}" for n in range(100)]


def test_a_detail_is_the_instance_and_its_tasks_with_their_own_attempts() -> None:
    failure = TaskFailure(type="ConnectionError", message="no", traceback="Traceback …")
    attempts = [
        AttemptView(task=name, attempt=n, run=1, outcome=Outcome.FAIL, started_at=AT, finished_at=AT, error=failure)
        for name in ("a", "b")
        for n in (1, 2)
    ]
    detail = shapes.instance_detail(_view(), [_task("b"), _task("c")], result={"b": 1}, attempts=attempts)
    plain = shapes.instance_body(_view(), pending=["b", "c"], result={"b": 1})
    assert {key: getattr(detail, key) for key in plain.__struct_fields__} == msgspec.structs.asdict(plain)
    assert [[each.attempt for each in task.attempts] for task in detail.tasks] == [[1, 2], []]
    assert detail.tasks[0].attempts[0].error is not None
    assert detail.tasks[0].attempts[0].error.traceback == "Traceback …"


def test_a_log_line_keeps_the_moment() -> None:
    at_us = micros_of(AT)
    row = LogRow(instance_id=InstanceId("i"), id=7, task="甲", attempt=2, level="stdout", message="嗨", at_us=at_us)
    line = shapes.log_line(row)
    assert (line.id, line.task, line.attempt, line.level, line.message, line.at) == (7, "甲", 2, "stdout", "嗨", AT)


def test_a_workflow_tells_its_params_its_definition_and_its_graph() -> None:
    params = "params: {a: null, b: {type: integer, required: true, maximum: 3}}"
    tasks = "tasks: [{name: x, job: noop}, {name: y, sleep: 1s, depends_on: x, when: params.b}]"
    definition = read_yaml(f"id: w\n{params}\n{tasks}")
    view = WorkflowView(definition=definition, version=Version("v"), created_at=AT)
    detail = shapes.workflow_detail(view, workflow_shape(definition))
    assert [(param.name, param.has_default, param.required, param.maximum) for param in detail.params] == [
        ("a", True, False, None),
        ("b", False, True, 3.0),
    ]
    assert detail.definition["tasks"][1]["sleep"] == "1s"
    assert [(node.name, node.when) for node in detail.graph.nodes] == [("x", None), ("y", "${{ params.b }}")]
    assert [(edge.before, edge.after) for edge in detail.graph.edges] == [("x", "y")]


def test_shapes_do_not_load_the_server() -> None:
    """The command line shows local runs with them."""
    code = "import sys, taskengine.api.shapes; print([m for m in ('litestar', 'uvicorn', 'anyio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


# -- asking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("us", [0, 1, 1_704_164_645_678_901, 4_102_444_800_999_999])
def test_a_cursor_names_its_place_exactly(us: int) -> None:
    at = datetime.fromtimestamp(us / 1_000_000, UTC)
    view = _view(created_at=at, id=InstanceId("i.with.dots"))
    assert after_instance(instance_cursor(view, "asc"), "asc") == (Micros(us), "i.with.dots")
    assert after_number(number_cursor("log", us), "log", 0) == us


def test_a_cursor_of_another_order_or_list_is_refused() -> None:
    cursor = instance_cursor(_view(), "asc")
    with pytest.raises(InvalidInput, match="order=asc"):
        after_instance(cursor, "desc")
    with pytest.raises(InvalidInput):
        after_number(cursor, "log", 0)
    with pytest.raises(InvalidInput):
        after_instance(number_cursor("log", 3), "asc")


def test_a_command_is_named_by_caller_route_instance_and_key() -> None:
    one, two = Principal("1", "a", "admin"), Principal("2", "a", "admin")
    ids = {
        command_id(who, route, instance, key)
        for who in (one, two)
        for route in ("pause", "cancel")
        for instance in ("i", "j")
        for key in ("k", "l")
    }
    assert len(ids) == 16
    assert command_id(one, "pause", "i", "k") == command_id(one, "pause", "i", "k")
    assert command_id(one, "pause", "i", None) is None


def test_labels_may_have_colons_in_their_values() -> None:
    assert labels_of(["url:http://x:1", "a:"]) == {"url": "http://x:1", "a": ""}
    assert labels_of(["a:1", "a:1"]) == {"a": "1"}
