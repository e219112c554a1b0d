"""Some of many fail: what the aggregate sees, what a tolerance decides, and that nothing is left of a bad batch."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from taskengine import Engine, EngineBuilder, TaskContext, read_yaml
from taskengine.errors import InvalidInput
from taskengine.model.states import InstanceState

WAIT_S = 60.0
FAILING = (3, 7)
"""Of ten, counted from one."""

FROM_YAML = """\
id: partial
tasks:
  - name: fan
    job: third_and_seventh
    for_each: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    params: {number: "${{ item }}"}
    tolerance: TOLERANCE
  - {name: sum, job: aggregate, depends_on: fan, trigger: all_done}
"""
FROM_PYTHON = """\
id: partial
tasks:
  - {name: fan, job: adds_ten, tolerance: TOLERANCE}
  - {name: sum, job: aggregate, depends_on: fan, trigger: all_done}
"""
TREE = """\
id: tree
tasks:
  - {name: root, job: hello}
  - {name: a, job: adds_three, depends_on: root}
  - {name: b, job: adds_three, depends_on: root}
  - {name: c, job: hello, depends_on: root, for_each: [1, 2, 3]}
"""


class Jobs:
    """refused  what was said of a batch that cannot be taken in"""

    def __init__(self) -> None:
        self.refused: list[str] = []

    async def third_and_seventh(self, number: int) -> int:
        if number in FAILING:
            raise ConnectionError(f"no answer for {number}")
        return number * 10

    async def adds_ten(self, ctx: TaskContext) -> None:
        await ctx.add_sub_tasks(
            [{"name": f"n{n}", "job": "third_and_seventh", "params": {"number": n}} for n in range(1, 11)]
        )

    async def aggregate(self, ctx: TaskContext) -> dict[str, Any]:
        good, bad = await ctx.successful_sub_tasks("fan"), await ctx.failed_sub_tasks("fan")
        return {
            "good": len(good),
            "bad": [each.name for each in bad],
            "sum": sum(each.result for each in good),
            "of": await ctx.sub_task_count("fan"),
        }

    async def hello(self) -> None: ...

    async def adds_three(self, ctx: TaskContext) -> None:
        await ctx.add_sub_tasks([{"name": f"s{n}", "job": "hello"} for n in range(3)])

    async def adds_twice_the_same(self, ctx: TaskContext) -> None:
        batch = [{"name": "one", "job": "hello"}, {"name": "one", "job": "aggregate"}, {"name": "two", "job": "hello"}]
        try:
            await ctx.add_sub_tasks(batch)
        except InvalidInput as error:
            self.refused.append(str(error))


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture(params=["memory", "sqlite"])
async def engine(request: pytest.FixtureRequest, jobs: Jobs, tmp_path: Path) -> AsyncIterator[Engine]:
    store = "memory://" if request.param == "memory" else str(tmp_path / "partial.db")
    builder = EngineBuilder().with_store(store)
    for name in ("third_and_seventh", "adds_ten", "aggregate", "hello", "adds_three", "adds_twice_the_same"):
        builder.with_job_func(name, getattr(jobs, name))
    async with builder.build() as made:
        yield made


async def ended(engine: Engine, text: str) -> tuple[Any, dict[str, Any]]:
    """Its end, and its tasks by their names."""
    instance = await engine.execute_workflow(read_yaml(text))
    view = await engine.wait_for_instance(instance, WAIT_S)
    return view, {task.name: task for task in await engine.get_tasks(instance)}


@pytest.mark.parametrize("text", [FROM_YAML, FROM_PYTHON], ids=["for_each", "add_sub_tasks"])
@pytest.mark.parametrize(("tolerance", "end"), [("0.1", "Failed"), ("0.2", "Success")])
async def test_two_of_ten_fail(engine: Engine, text: str, tolerance: str, end: str) -> None:
    view, tasks = await ended(engine, text.replace("TOLERANCE", tolerance))
    assert (tasks["fan"].status.value, tasks["sum"].status.value) == (end, "Success")
    said = tasks["sum"].result
    assert (said["good"], len(said["bad"]), said["of"]) == (8, 2, 10)
    assert said["sum"] == sum(n * 10 for n in range(1, 11) if n not in FAILING) == 450
    assert said["bad"] in (["2", "6"], ["n3", "n7"])
    assert (view.status.value, view.progress.total) == (end, 12)
    assert (view.progress.completed, view.progress.failed) == ((10, 2) if end == "Success" else (9, 3))
    if end == "Failed":
        assert "2 of 10 sub-tasks failed, 1 are tolerated: " in tasks["fan"].error.message


async def test_three_parents_grow_at_the_same_moment(engine: Engine) -> None:
    instances = [await engine.execute_workflow(read_yaml(TREE)) for _ in range(10)]
    for instance in instances:
        view = await engine.wait_for_instance(instance, WAIT_S)
        assert (view.status, view.progress.total, view.progress.completed) == (InstanceState.SUCCESS, 13, 13)
        names = {task.name for task in await engine.get_tasks(instance)}
        assert names == {"root", "a", "b", "c", *(f"{p}/s{n}" for p in "ab" for n in range(3)), "c/0", "c/1", "c/2"}


async def test_progress_adds_up_at_every_look_while_tasks_are_added(engine: Engine) -> None:
    instance = await engine.execute_workflow(read_yaml(TREE))
    give_up_s = time.monotonic() + WAIT_S
    view = await engine.get_instance(instance)
    while view.status is not InstanceState.SUCCESS:
        assert time.monotonic() < give_up_s, f"it is still {view.status}"
        view = await engine.get_instance(instance)
        seen = view.progress
        parts = (seen.completed, seen.failed, seen.running, seen.pending, seen.skipped, seen.cancelled)
        assert sum(parts) + seen.compensation == seen.total
        assert 4 <= seen.total <= 13
        await asyncio.sleep(0)
    assert view.progress.total == 13


async def test_nothing_remains_of_a_batch_that_repeats_a_name(engine: Engine, jobs: Jobs) -> None:
    text = "id: twice\ntasks:\n  - {name: fan, job: adds_twice_the_same}\n"
    view, tasks = await ended(engine, text)
    assert (view.status, list(tasks), view.progress.total) == (InstanceState.SUCCESS, ["fan"], 1)
    assert len(jobs.refused) == 1
    assert "`one`" in jobs.refused[0]
    assert "nothing was added" in jobs.refused[0]


async def test_nothing_to_do_is_a_success(engine: Engine) -> None:
    fan, after = "{name: fan, job: hello, for_each: []}", "{name: sum, job: aggregate, depends_on: fan}"
    text = f"id: empty\ntasks:\n  - {fan}\n  - {after}\n"
    view, tasks = await ended(engine, text)
    assert (view.status, view.progress.total, tasks["sum"].result) == (
        InstanceState.SUCCESS,
        2,
        {"good": 0, "bad": [], "sum": 0, "of": 0},
    )
