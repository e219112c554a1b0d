"""The fluent twin of the format."""

import time
from dataclasses import dataclass
from datetime import date, timedelta
from enum import IntEnum

import pytest

from taskengine.definition import TaskBuilder, WorkflowBuilder, read_yaml
from taskengine.definition.later import LATER_BUILDER
from taskengine.errors import InvalidDefinition
from taskengine.model.definition import ParamSpec, Retention, RetryPolicy, TaskSpec, canonical_form


def problems_of(builder) -> list[str]:
    with pytest.raises(InvalidDefinition) as caught:
        builder.build()
    return [str(problem) for problem in caught.value.problems]


def test_the_builder_and_the_file_give_the_same_bytes(full_text: str) -> None:
    calendar = (
        TaskBuilder("calendar")
        .with_job_function("http_request", {"url": "https://example.org/cal?d=${{ params.trade_date }}"})
        .with_timeout(timedelta(minutes=1))
        .with_retry(3, 5, backoff=2, max_interval="1m", jitter=0.1, on=[TimeoutError, "HTTPStatusError"])
        .build()
    )
    load = (
        TaskBuilder("load")
        .with_job_function("my_jobs.load")
        .with_params({"rows": "${{ tasks.calendar.result.rows }}"})
        .with_dependencies("calendar", "等待")
        .with_when("${{ tasks.calendar.result.rows | length > 0 }}")
        .with_trigger("none_failed")
        .with_executor("process")
        .with_required_params("rows")
        .with_result_mapping({"count": "row_count"})
        .with_at_most_once()
        .with_idempotency_key("load-${{ params.trade_date }}")
        .with_continue_on_failure()
        .with_pool("api")
        .with_priority(-3)
        .build()
    )
    built = (
        WorkflowBuilder("每日同步", "Daily market data")
        .with_id("daily-sync")
        .with_labels({"team": "quant"})
        .with_params({"trade_date": {"type": "string", "required": True, "pattern": "^[0-9]{8}$"}})
        .with_params({"env": "production"})
        .with_max_concurrent_tasks(10)
        .with_timeout("2h")
        .with_on_failure("continue")
        .with_retention(success=timedelta(days=7), failed=None)
        .with_batch_mode()
        .with_task(calendar)
        .with_task(TaskBuilder("等待").with_sleep(timedelta(seconds=300)).with_dependency("calendar"))
        .with_task(load)
        .build()
    )
    assert canonical_form(built) == canonical_form(read_yaml(full_text))


def test_the_order_of_tasks_is_free() -> None:
    late = TaskBuilder("late").with_job_function("noop").with_dependencies("early").build()
    early = TaskBuilder("early").with_job_function("noop").build()
    assert [task.name for task in WorkflowBuilder("w").with_task(late, early).build().tasks] == ["late", "early"]


def test_what_a_retention_leaves_out_is_left_to_the_engine() -> None:
    workflow = WorkflowBuilder("w").with_retention(failed="90d").build()
    assert workflow.retention == Retention(failed_us=90 * 86_400_000_000)
    assert workflow == read_yaml("{id: w, retention: {failed: 90d}}")
    assert problems_of(WorkflowBuilder("w").with_retention()) == [
        "retention: `retention` says nothing; give it `success`, `failed` or both"
    ]


def test_retries_can_be_said_bit_by_bit() -> None:
    task = TaskBuilder("a").with_job_function("noop").with_retry_interval(5).with_retry_count(3).build()
    assert task.retry == RetryPolicy(count=3, interval_us=5_000_000)
    task = TaskBuilder("a").with_job_function("noop").with_retry_count(3).with_retry(1, on=TimeoutError).build()
    assert task.retry == RetryPolicy(count=1, on=("TimeoutError",))


def test_a_job_may_be_the_function_itself() -> None:
    class Mark:
        name = "extract_data"

    def extract() -> None: ...

    def bare() -> None: ...

    extract.__taskengine_job__ = Mark
    assert TaskBuilder("a").with_job_function(extract).build().job == "extract_data"
    Mark.name = ""
    assert TaskBuilder("a").with_job_function(extract).build().job == "extract"
    assert (
        TaskBuilder("a").with_job_function(canonical_form).build().job == "taskengine.model.definition:canonical_form"
    )
    [problem] = problems_of(TaskBuilder("a").with_job_function(bare))
    assert "` is no job; write a registered name or `package.module:function`" in problem
    with pytest.raises(TypeError, match="a job is a name or a function, not 5"):
        TaskBuilder("a").with_job_function(5)  # type: ignore[arg-type]


def test_params_are_copied_into_their_json_form() -> None:
    class Level(IntEnum):
        HIGH = 3

    @dataclass
    class Point:
        x: int

    inner = [1]
    params = {"day": date(2024, 1, 2), "point": Point(1), "level": Level.HIGH, "t": (1, inner), "b": b"hi"}
    task = TaskBuilder("a").with_job_function("noop", params).build()
    inner.append(2)
    assert task.params == {"day": "2024-01-02", "point": {"x": 1}, "level": 3, "t": [1, [1]], "b": "aGk="}


def test_params_without_a_json_form_are_told_with_their_path() -> None:
    loop: list = []
    loop.append(loop)
    problems = problems_of(
        TaskBuilder("a").with_job_function(
            "noop", {"f": print, "n": {"x": [float("nan")]}, "k": {1: 2}, "s": "\ud800", "loop": {"l": loop}}
        )
    )
    assert problems[:4] == [
        "tasks.a.params.f: a builtin_function_or_method has no JSON form",
        "tasks.a.params.n.x[0]: NaN and infinities have no JSON form",
        "tasks.a.params.k: the keys of a mapping are text, got a whole number",
        "tasks.a.params.s: half a surrogate pair (U+D800) has no UTF-8 form",
    ]
    assert problems[4].endswith("[0][0]: nested too deeply")


def test_a_task_alone_is_checked_when_it_is_built() -> None:
    builder = (
        TaskBuilder("a b")
        .with_job_function("no such job")
        .with_timeout("soon")
        .with_retry_count(-1)
        .with_when("${{ 1 + }}")
        .with_params({"x": "${{ nosuch }}"})
    )
    assert [problem.split(": ")[0] for problem in problems_of(builder)] == [
        "tasks['a b'].timeout",
        "tasks['a b'].name",
        "tasks['a b'].job",
        "tasks['a b'].retry.count",
        "tasks['a b'].params.x",
        "tasks['a b'].when",
    ]


def test_the_workflow_has_every_problem_of_its_tasks_at_once_with_paths() -> None:
    builder = (
        WorkflowBuilder("每日 同步")
        .with_timeout(-1)
        .with_params({"n": {"type": "integer", "default": "x"}})
        .with_task(TaskBuilder("a").with_job_function("noop").with_dependencies("b"))
        .with_task(TaskBuilder("b").with_job_function("noop").with_dependencies("a", "nope"))
        .with_task(TaskBuilder("A").with_retry_interval(3))
    )
    assert problems_of(builder) == [
        "id: the name has a space in it; letters and digits of any script, `_`, `.` and `-` are allowed, so it cannot "
        'be the id too; give one: with_id("...")',
        "timeout: `-1` is less than nothing; write it as 500ms, 60s, 1h30m, 2d, or a number of seconds",
        "tasks[2].retry.count: `retry` has no `count`, so nothing would be repeated",
        "tasks[2].job: the task has neither a `job` nor a `sleep`, a `wait_for` or a `workflow`",
        "params.n.default: expected a whole number, got text",
        "tasks[2].name: there is a task `a` already, and `A` is the same name: case does not count",
        "tasks[1].depends_on[1]: there is no task `nope`",
        "tasks[0].depends_on[0]: the dependencies go round in a circle: a → b → a",
    ]


def test_a_task_made_by_hand_is_checked_and_settled_like_any_other() -> None:
    by_hand = TaskSpec(
        name="e\u0301", job="sleep", params={"duration": 300, "note": (1,)}, retry=RetryPolicy(backoff=1)
    )
    built = WorkflowBuilder("w").with_task(by_hand).build()
    assert built.tasks[0] == TaskSpec(
        name="é", job="sleep", params={"duration": "5m", "note": [1]}, retry=RetryPolicy()
    )
    for broken in (
        TaskSpec(name=5, job="noop"),  # type: ignore[arg-type]
        TaskSpec(name="a", job="noop", timeout_us="soon"),  # type: ignore[arg-type]
        TaskSpec(name="a", job="noop", params={"x": print}),
        TaskSpec(name="", job=""),
        TaskSpec(name="a", job="noop", timeout_us=-5),
        "a",
    ):
        assert problems_of(WorkflowBuilder("w").with_task(broken))[0].startswith("tasks[0]")


def test_what_was_built_does_not_change_with_its_builder() -> None:
    builder = WorkflowBuilder("w").with_params({"a": 1})
    task = TaskBuilder("t").with_job_function("noop", {"x": 1})
    first, alone = builder.with_task(task.build()).build(), task.build()
    task.with_params({"y": 2})
    builder.with_params({"b": 2}).with_task(TaskBuilder("u").with_job_function("noop"))
    assert first.params == {"a": ParamSpec(type="integer", default=1)}
    assert alone.params == {"x": 1}
    assert len(builder.build().tasks) == 2


@pytest.mark.parametrize("name", sorted(LATER_BUILDER))
def test_methods_of_later_releases_say_so(name: str) -> None:
    for builder in (TaskBuilder("a"), WorkflowBuilder("w")):
        assert not hasattr(builder, name)
        with pytest.raises(AttributeError, match=f"{name} is not supported yet; see docs/not-yet.md"):
            getattr(builder, name)


def test_a_mistyped_method_gets_the_nearest_one() -> None:
    with pytest.raises(AttributeError, match="TaskBuilder has no with_timeut, did you mean `with_timeout`"):
        TaskBuilder("a").with_timeut(5)  # type: ignore[attr-defined]


def build_tree(size: int) -> float:
    """Build that many tasks and the workflow; gives the seconds of processor time."""
    began_s = time.process_time()
    workflow = WorkflowBuilder("big")
    for at in range(size):
        task = TaskBuilder(f"task-{at}").with_job_function("noop", {"at": at})
        workflow.with_task(task.with_dependencies(f"task-{at // 2}").build() if at else task.build())
    assert len(workflow.build().tasks) == size
    return time.process_time() - began_s


def test_a_hundred_thousand_tasks_take_seconds_and_grow_linearly() -> None:
    small, large = build_tree(20_000), build_tree(100_000)
    assert large < 20
    assert large / small < 8
