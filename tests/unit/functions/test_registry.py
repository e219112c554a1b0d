"""Registering job functions, loading and restoring them."""

import functools
import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskengine.errors import InvalidConfiguration, NotSupportedYet, UnknownFunction
from taskengine.functions import Kind, Registry, builtin_registry, job
from taskengine.functions.job import mark_of
from taskengine.model.definition import RetryPolicy
from taskengine.model.records import FunctionRow

SOURCE = '''
from taskengine.functions import job
from neighbour import borrowed

@job
async def plain(): return 1

@job("抽取", timeout="1m30s", retry=3, executor="thread")
def extract(source: str, limit: int = 10):
    """Reads from the source."""
    return helper(source)

def helper(source): return source
'''

NEIGHBOUR = """
from taskengine.functions import job

@job
def borrowed(): return 2
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """Write a module into a folder of its own; what is imported meanwhile is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write_module(name: str, source: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(source, encoding="utf-8")
        return path

    yield write_module
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def jobs_file(write: Callable[[str, str], Path]) -> Path:
    write("neighbour", NEIGHBOUR)
    return write("my_jobs", SOURCE)


async def nothing() -> None:
    pass


def blocking() -> None:
    pass


def test_the_decorator_leaves_the_function_as_it_is() -> None:
    marked = job(nothing)
    assert marked is nothing
    assert mark_of(nothing) is not None
    del nothing.__taskengine_job__  # type: ignore[attr-defined]


def test_the_kind_follows_the_function_and_then_the_executor() -> None:
    registry = Registry()
    assert registry.add("a", nothing).kind is Kind.ASYNC
    assert registry.add("b", blocking).kind is Kind.THREAD
    assert registry.add("c", blocking, executor="process").kind is Kind.PROCESS
    assert registry.add("d", nothing, executor="thread").kind is Kind.THREAD
    assert registry.add("e", functools.partial(nothing)).kind is Kind.ASYNC


def test_options_given_at_registration_come_before_those_of_the_decorator() -> None:
    @job(timeout=60, retry=3, nan="null")
    def function() -> None:
        pass

    registry = Registry()
    own = registry.add("own", function)
    assert (own.timeout_us, own.retry, own.nan) == (60_000_000, RetryPolicy(count=3), "null")
    policy = RetryPolicy(count=1, interval_us=5)  # type: ignore[arg-type]
    given = registry.add("given", function, timeout=timedelta(seconds=2), retry=policy)
    assert (given.timeout_us, given.retry, given.nan) == (2_000_000, policy, "null")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "gpu"}, "executor is async, thread or process"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": 0}, "timeout: 0"),
        ({"timeout": -1}, "timeout"),
        ({"retry": -1}, "retry is a number"),
        ({"retry": True}, "retry is a number"),
        ({"nan": "zero"}, "nan is"),
        ({"name": " "}, "name"),
    ],
)
def test_a_wrong_option_is_refused_where_it_is_written(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        job(**options)


def test_the_cluster_is_not_supported_yet() -> None:
    with pytest.raises(NotSupportedYet, match="not-yet"):
        job(executor="cluster")


def test_functions_that_cannot_be_jobs_are_refused() -> None:
    async def source() -> Any:
        yield 1

    def items() -> Any:
        yield 1

    registry = Registry()
    with pytest.raises(NotSupportedYet, match="generator"):
        registry.add("a", source)
    with pytest.raises(InvalidConfiguration, match="return a list"):
        registry.add("b", items)
    with pytest.raises(InvalidConfiguration, match="no function"):
        registry.add("c", 5)  # type: ignore[arg-type]
    with pytest.raises(InvalidConfiguration, match="would block the loop"):
        registry.add("d", blocking, executor="async")
    with pytest.raises(InvalidConfiguration, match="top level of a module"):
        registry.add("e", lambda: None, executor="process")
    assert registry.names() == []


def test_the_same_name_twice_is_refused_with_both_paths() -> None:
    registry = Registry()
    registry.add("load", nothing)
    with pytest.raises(InvalidConfiguration) as caught:
        registry.add("load", blocking)
    assert "test_registry:nothing" in str(caught.value)
    assert "test_registry:blocking" in str(caught.value)
    with pytest.raises(InvalidConfiguration):
        registry.add("load", nothing)


def test_an_unknown_name_tells_the_nearest_and_what_to_do() -> None:
    registry = builtin_registry()
    with pytest.raises(UnknownFunction) as caught:
        registry.get("htp_request")
    assert "did you mean 'http_request'" in str(caught.value)
    assert "--app" in str(caught.value)
    with pytest.raises(UnknownFunction, match=r"functions\.modules: \[os\]"):
        registry.get("os:system")


def test_a_file_gives_every_marked_function_under_two_names(jobs_file: Path) -> None:
    registry = builtin_registry()
    assert registry.load_file(jobs_file) == ["borrowed", "plain", "抽取"]
    extract = registry.get("抽取")
    assert registry.get("my_jobs:extract") is extract
    assert (extract.path, extract.origin) == ("my_jobs:extract", str(jobs_file))
    assert (extract.timeout_us, extract.retry) == (90_000_000, RetryPolicy(count=3))
    assert registry.get("borrowed").origin == ""
    with pytest.raises(UnknownFunction):
        registry.get("my_jobs:helper")


def test_the_folder_of_a_file_comes_last_on_the_path(jobs_file: Path) -> None:
    Registry().load_file(jobs_file)
    assert sys.path[-1] == str(jobs_file.parent)


def test_a_function_that_two_modules_show_is_one_job(jobs_file: Path) -> None:
    registry = Registry()
    registry.load_file(jobs_file)
    assert registry.load_module("neighbour") == ["borrowed"]
    assert registry.get("neighbour:borrowed") is registry.get("my_jobs:borrowed")


@pytest.mark.parametrize(
    ("name", "source", "parts"),
    [
        ("broken_syntax", "def (:", ["broken_syntax.py", "SyntaxError"]),
        ("broken_import", "import nothing_of_that_name", ["nothing_of_that_name", "broken_import.py:1"]),
        ("broken_exit", "raise SystemExit(2)", ["SystemExit: 2"]),
        ("json", "x = 1", ["'json' exists already"]),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(
    write: Callable[[str, str], Path], name: str, source: str, parts: list[str]
) -> None:
    path = write(name, source)
    with pytest.raises(InvalidConfiguration) as caught:
        Registry().load_file(path)
    assert [part for part in parts if part not in str(caught.value)] == []
    assert getattr(sys.modules.get(name), "__file__", None) != str(path)


def test_a_missing_file_and_a_missing_module_say_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="no such file"):
        Registry().load_file(tmp_path / "none.py")
    with pytest.raises(InvalidConfiguration, match="'no_such_module' cannot be imported"):
        Registry().load_module("no_such_module")


def test_entry_points_give_functions_and_modules(jobs_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(jobs_file.parent))
    group = "taskengine.jobs"
    entries = [
        importlib.metadata.EntryPoint("同步", "neighbour:borrowed", group),
        importlib.metadata.EntryPoint("whole", "my_jobs", group),
    ]
    monkeypatch.setattr("taskengine.functions.registry.entry_points", lambda group: entries)
    registry = Registry()
    assert registry.load_entry_points() == ["同步", "borrowed", "plain", "抽取"]
    broken = importlib.metadata.EntryPoint("broken", "nothing_of_that_name:f", group)
    monkeypatch.setattr("taskengine.functions.registry.entry_points", lambda group: [broken])
    with pytest.raises(InvalidConfiguration, match="entry point broken"):
        Registry().load_entry_points()


def test_rows_tell_what_is_known_about_a_function(jobs_file: Path) -> None:
    registry = Registry()
    registry.load_file(jobs_file)
    row = {row.name: row for row in registry.rows()}["抽取"]
    assert row.path == "my_jobs:extract"
    assert row.signature == "(source: str, limit: int = 10)"
    assert row.doc == "Reads from the source."
    assert len(row.source_hash) == 64
    assert [row.name for row in builtin_registry().rows()] == sorted(row.name for row in builtin_registry().rows())


def test_restore_imports_only_what_is_allowed(jobs_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(jobs_file.parent))
    rows = [
        FunctionRow(name="抽取", path="my_jobs:extract"),
        FunctionRow(name="gone", path="my_jobs:gone"),
        FunctionRow(name="helper", path="my_jobs:helper"),
        FunctionRow(name="evil", path="os:system"),
        FunctionRow(name="lambda", path="my_jobs:<lambda>"),
        FunctionRow(name="lost", path="no_such_module:f"),
        FunctionRow(name="noop", path="os:abort"),
    ]
    registry = builtin_registry()
    lost = registry.restore(rows, {"my_jobs", "no_such_module"})
    assert registry.get("抽取").path == "my_jobs:extract"
    reasons = {text.partition(" ")[0]: text for text in lost}
    assert sorted(reasons) == ["evil", "gone", "helper", "lambda", "lost"]
    assert "has no gone" in reasons["gone"]
    assert "not decorated" in reasons["helper"]
    assert "functions.modules: [os]" in reasons["evil"]
    assert "no import path" in reasons["lambda"]
    assert "cannot be imported" in reasons["lost"]


def test_a_module_that_is_not_allowed_is_not_imported(
    write: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("forbidden_jobs", "raise AssertionError('imported')")
    monkeypatch.syspath_prepend(str(path.parent))
    lost = Registry().restore([FunctionRow(name="x", path="forbidden_jobs:x")], ())
    assert "not allowed" in lost[0]
    assert "forbidden_jobs" not in sys.modules
