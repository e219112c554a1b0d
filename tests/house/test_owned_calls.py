"""Some calls have one owner: tasks the dispatcher, time the clock, the terminal the command line."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

CLOCK_READS = frozenset(
    {
        "datetime.date.today",
        "datetime.datetime.now",
        "datetime.datetime.today",
        "datetime.datetime.utcnow",
        "time.time",
        "time.time_ns",
    }
)
SPAWNERS = frozenset({"create_task", "ensure_future"})

Find = Callable[[ast.Module], Iterator[int]]


def _aliases(tree: ast.Module) -> dict[str, str]:
    """What the imported names of a module stand for, as full dotted names."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _dotted(node: ast.expr, aliases: dict[str, str]) -> str:
    """`dt.datetime.now` with its import resolved; empty for anything that is not a chain of names."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, "")
    if isinstance(node, ast.Attribute):
        head = _dotted(node.value, aliases)
        return f"{head}.{node.attr}" if head else ""
    return ""


def find_clock_reads(tree: ast.Module) -> Iterator[int]:
    """Lines that read the machine's clock, called or handed on."""
    aliases = _aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and _dotted(node, aliases) in CLOCK_READS:
            yield node.lineno


def _spawns(node: ast.AST, aliases: dict[str, str]) -> bool:
    match node:
        case ast.Attribute(attr=name):
            return name in SPAWNERS
        case ast.Name():
            return _dotted(node, aliases).rpartition(".")[2] in SPAWNERS
        case ast.Call(func=function):
            return _dotted(function, aliases) == "asyncio.Task"
    return False


def find_spawns(tree: ast.Module) -> Iterator[int]:
    """Lines that make an asyncio task, through the module, a loop or a task group."""
    aliases = _aliases(tree)
    return (node.lineno for node in ast.walk(tree) if isinstance(node, ast.expr) and _spawns(node, aliases))


def find_prints(tree: ast.Module) -> Iterator[int]:
    """Lines that print."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield node.lineno


def _trespasses(package: Path, find: Find, owner: str) -> list[str]:
    """`file:line` of every finding outside of `owner`, a module or a folder of the package."""
    found = []
    for path in sorted(package.rglob("*.py")):
        place = PurePosixPath(path.relative_to(package).as_posix())
        if place.is_relative_to(owner):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        found += [f"{place}:{line}" for line in find(tree)]
    return found


def test_only_the_dispatcher_makes_tasks(package: Path) -> None:
    assert _trespasses(package, find_spawns, "actors/dispatcher.py") == []


def test_only_the_clock_reads_the_time(package: Path) -> None:
    assert _trespasses(package, find_clock_reads, "clock.py") == []


def test_only_the_command_line_prints(package: Path) -> None:
    assert _trespasses(package, find_prints, "cli") == []


def test_the_owner_is_found_at_its_place(package: Path) -> None:
    trespasses = _trespasses(package, find_clock_reads, "nobody")
    assert {place.partition(":")[0] for place in trespasses} == {"clock.py"}


@pytest.mark.parametrize(
    ("find", "source"),
    [
        (find_spawns, "import asyncio\nasyncio.create_task(f())"),
        (find_spawns, "import asyncio as aio\naio.ensure_future(f())"),
        (find_spawns, "from asyncio import create_task as spawn\nspawn(f())"),
        (find_spawns, "import asyncio\nasyncio.get_running_loop().create_task(f())"),
        (find_spawns, "import asyncio\nasyncio.Task(f())"),
        (find_clock_reads, "import datetime as dt\ndt.datetime.now(dt.UTC)"),
        (find_clock_reads, "from datetime import datetime\ndatetime.utcnow()"),
        (find_clock_reads, "from datetime import date as day\nday.today()"),
        (find_clock_reads, "import time\nread = time.time"),
        (find_clock_reads, "from time import time_ns\ntime_ns()"),
        (find_prints, "x = 1\nprint(x)"),
    ],
)
def test_a_trespass_is_found(tmp_path: Path, find: Find, source: str) -> None:
    (tmp_path / "guest.py").write_text(source)
    assert _trespasses(tmp_path, find, "owner.py") == ["guest.py:2"]
    assert _trespasses(tmp_path, find, "guest.py") == []


@pytest.mark.parametrize(
    ("find", "source"),
    [
        (find_spawns, "owner.spawn(f())"),
        (find_clock_reads, "import time\ntime.monotonic()"),
        (find_clock_reads, "row.time.time()"),
        (find_clock_reads, "from datetime import datetime\ndatetime.fromisoformat(text)"),
        (find_prints, "console.print('text')"),
    ],
)
def test_neighbouring_calls_are_free(tmp_path: Path, find: Find, source: str) -> None:
    (tmp_path / "guest.py").write_text(source)
    assert _trespasses(tmp_path, find, "owner.py") == []
