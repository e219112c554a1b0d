"""The quick answers, the tree of commands, and what becomes of names that are not there."""

import contextlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from cli.staying import STAYING
from hypothesis import given
from hypothesis import strategies as st

from taskengine.cli import root
from taskengine.version import VERSION

HEAVY: tuple[str, ...] = (
    "click",
    "rich",
    "yaml",
    "msgspec",
    "asyncio",
    "jinja2",
    "sqlite3",
    "taskengine.engine",
    "taskengine.store",
)
HEAVY += (
    "litestar",
    "uvicorn",
    "httpx",
    "anyio",
    "websockets",
    "taskengine.api",
    "taskengine.client",
    "taskengine.wire",
)


def test_version_says_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["version"], ["--version"]):
        assert root.main(words) == 0
        assert capsys.readouterr() == (f"taskengine {VERSION}\n", "")


@pytest.mark.parametrize("words", [["version", "--json"], ["version", "--json", "--json"]])
def test_version_as_json_has_a_stable_shape(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """The second form is not the quick one."""
    assert root.main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert list(said) == ["version", "python", "platform"]
    assert said["version"] == VERSION


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_help_names_every_command(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert root.main(words) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in root.COMMANDS)


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        *((words, ()) for words in ("version", "version --json", "--help", "")),
        *((words, ("click",)) for words in ("run --help", "validate -h", "completion --help", "schema -h")),
        *((words, ("click",)) for words in ("instance", "workflow", "token", "function", "node", "server", "config")),
        *((words, ("click",)) for words in ("serve --help", "server start -h", "doctor -h", "config show -h")),
        *((f"instance {verb} --help", ("click",)) for verb in ("list", "status", "logs", "watch", "pause", "retry")),
        *((f"workflow {verb} --help", ("click",)) for verb in ("upload", "execute", "graph", "delete", "versions")),
    ],
)
def test_quick_answers_import_nothing_heavy(words: str, allowed: tuple[str, ...]) -> None:
    program = f"""
import sys
from taskengine.cli.root import main
main({words.split()!r})
print(sorted(set({HEAVY!r}) & set(sys.modules) - set({allowed!r})), file=sys.__stderr__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = f"import sys, taskengine; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("words", [["run", "--help"], ["instance", "list", "--help"], ["validate", "--help"]])
def test_help_of_a_command_says_how_it_is_used(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert root.main(words) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Usage: taskengine {' '.join(words[:-1])}")
    assert "\n  taskengine " in said, "an example comes first"


def least_time_s(*command: str) -> float:
    """Of several runs: others use this machine, too."""
    spans = []
    for _ in range(7):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
        spans.append(time.perf_counter() - begun)
    return min(spans)


@pytest.mark.parametrize("word", ["version", "--help"])
def test_quick_answers_cost_little_more_than_python_itself(word: str) -> None:
    """Promised: 100 ms when warm. Held against an empty program, which takes some 10 ms on a quiet machine."""
    assert least_time_s("-m", "taskengine", word) < 4 * least_time_s("-c", "pass") + 0.02


@pytest.mark.parametrize("name", sorted(root.LATER))
def test_a_later_command_says_so(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert root.main([name]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{name}: not supported yet; see docs/not-yet.md" in said.err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("rnu", "run"),
        ("vers", "version"),
        ("valdate", "validate"),
        ("workflow grph", "graph"),
        ("instance cancle", "cancel"),
        ("workflow uplaod", "upload"),
        ("tokn", "token"),
    ],
)
def test_a_typo_gets_a_suggestion(capsys: pytest.CaptureFixture[str], words: str, meant: str) -> None:
    assert root.main(words.split()) == 2
    assert f"did you mean `{meant}`?" in capsys.readouterr().err


def test_an_unknown_command_without_a_neighbour_gets_no_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert root.main(["xyzzy\x1b[2J"]) == 2
    said = capsys.readouterr().err
    assert "has no command `xyzzy\\x1b[2J`" in said
    assert "did you mean" not in said
    assert "\x1b" not in said


def test_an_unknown_option_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert root.main(["run", "--folow", "x"]) == 2
    assert "--follow" in capsys.readouterr().err


@pytest.mark.parametrize("group", ["workflow", "instance", "function", "token", "node", "server", "config"])
def test_a_group_alone_explains_itself(capsys: pytest.CaptureFixture[str], group: str) -> None:
    assert root.main([group]) == 0
    assert "Commands:" in capsys.readouterr().out


def test_a_reader_that_leaves_is_no_error(command: Callable[..., Any]) -> None:
    program = f"{sys.executable} -m taskengine --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("0", "141")
    assert done.stderr == ""


WORDS = [
    *(name for name in root.COMMANDS if name not in STAYING),
    *("list", "status", "retry", "graph", "validate", "absent.yaml", "-", "--", "-p", "a=1", "-j", "-1", "--json"),
    *(
        "-o",
        "table",
        "--resume",
        "--db",
        "x://y",
        "--app",
        "absent.py",
        "--follow",
        "--help",
        "每日",
        "\x1b[2J",
        "",
        "=",
        "\udcff",
    ),
]


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=8).filter(lambda word: word not in STAYING), max_size=6))
def test_no_command_line_ends_in_a_traceback(words: list[str]) -> None:
    """Whatever is typed is answered with a documented code; an error is told on stderr and shows no control codes."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
        code = root.main(words)
    assert code in (0, 1, 2, 3, 4, 5, 6)
    assert "Traceback" not in err.getvalue()
    assert "\x1b" not in err.getvalue() + out.getvalue()
    assert code == 0 or err.getvalue()
