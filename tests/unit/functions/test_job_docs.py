"""docs/job-functions.md says what is true: its examples are run, its lists are complete."""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from taskengine.functions import Registry, TaskContext, builtin_registry
from taskengine.functions.context import JobContext
from taskengine.model.definition import RetryPolicy

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "job-functions.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def task(name: str) -> dict[str, Any]:
    found = [entry for block in blocks("yaml") for entry in yaml.safe_load(block) if entry["name"] == name]
    assert len(found) == 1
    return dict(found[0])


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The Python of the page as one jobs file."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "jobs_of_the_page.py"
    path.write_text("\n".join(blocks("python")), encoding="utf-8")
    made = builtin_registry()
    made.load_file(path)
    yield made
    del sys.modules["jobs_of_the_page"]


@pytest.fixture
def run(start: Any, registry: Registry) -> Callable[..., Any]:
    async def run_job(job: str, **params: Any) -> Any:
        outcome = await start(registry.get(job), params).wait()
        return msgspec.json.decode(outcome.result) if hasattr(outcome, "result") else outcome.error

    return run_job


async def test_the_first_example(run: Any, registry: Registry) -> None:
    job = registry.get("extract_data")
    assert (job.timeout_us, job.retry) == (60_000_000, RetryPolicy(count=3))
    assert await run(task("extract")["job"], **task("extract")["params"]) == [
        {"source": "上交所", "n": 0},
        {"source": "上交所", "n": 1},
    ]


async def test_the_process_job(run: Any, registry: Registry) -> None:
    assert registry.get("primes").kind == "process"
    assert await run("primes", limit=20) == [2, 3, 5, 7, 11, 13, 17, 19]


async def test_params_through_the_context(run: Any) -> None:
    assert await run("summary", name="名") == {"name": "名", "limit": 10, "task": "下载", "attempt": 1}
    assert (await run("summary")).type == "BadArguments"


async def test_results_and_errors(run: Any) -> None:
    assert await run("closes") == {"600000": 10.5, "600001": None}
    assert await run("order", account="a") == "a"
    assert not (await run("order", account="")).retryable
    error = await run("order", account="a", busy=True)
    assert (error.retry_after_us, error.message) == (30_000_000, "the exchange is closed")


async def test_the_shell_example(run: Any) -> None:
    assert await run("shell_command", **task("report")["params"]) == {"exit_code": 3, "stdout": "周三\n", "stderr": ""}


def test_the_http_example_binds(registry: Registry) -> None:
    given = task("calendar")["params"]
    assert set(given) <= set(registry.get("http_request").binder.arguments)


def test_every_name_of_the_context_is_on_the_page() -> None:
    hidden = {"begun", "clock", "grace_s", "shared", "mark_cancelled", "sum_up", "tell"}
    names = {name for name in dir(TaskContext) if not name.startswith("_")} - hidden
    assert [name for name in sorted(names) if f"`{name}" not in PAGE] == []


def test_every_built_in_job_is_in_the_table_with_its_params() -> None:
    registry = builtin_registry()
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|[^|]*\|$", PAGE, re.MULTILINE))
    for name in registry.names():
        missing = [each for each in registry.get(name).binder.arguments if f"`{each}`" not in rows[name]]
        assert missing in ([], ["save_as"])


def test_later_names_of_the_context_are_on_their_page() -> None:
    later = (DOCS / "not-yet.md").read_text(encoding="utf-8")
    source = inspect.getsource(sys.modules[JobContext.__module__])
    names = re.findall(r'"(\w+)"', source.partition("_LATER")[2].partition(")")[0])
    assert len(names) >= 4
    assert [name for name in names if f"`{name}`" not in later] == []
