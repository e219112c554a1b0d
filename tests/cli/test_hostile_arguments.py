"""Whatever stands on a command line: an answer in words and a code of the table, never a traceback."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import pytest
from cli.staying import STAYING
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from taskengine.cli import exits
from taskengine.cli.safe import clean_lines
from taskengine.cli.tree import ROOT

Main = Callable[..., Any]

CODES: Final = frozenset(getattr(exits, name) for name in exits.__all__ if name.isupper() and name != "BY_STATE")


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        if name not in STAYING:
            command = group.get_command(context, name)
            assert command is not None
            here = (*path, name)
            found += leaves(command, here) if isinstance(command, click.Group) else [(here, command)]
    return found


LEAVES: Final = leaves(ROOT)
# A byte that is not UTF-8 reaches a program as one of these (PEP 383). No slash: it is to stay in its folder.
BYTES: Final = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, exclude_categories=())
TEXT: Final = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]) | BYTES, max_size=30).filter(
    lambda word: word not in STAYING
)
HOSTILE: Final = st.sampled_from(
    [
        "",
        "-",
        "--",
        "---",
        "=",
        "-=",
        "--=x",
        "-p",
        "a=",
        "=1",
        "a=b=c",
        "a={",
        "a=1e999",
        "a=" + "9" * 5000,
        "a=" + "[" * 5000,
        "a=\udcff",
        "\udcff",
        "\x1b]0;evil\x07",
        "\x1b[2J",
        "\u202e",
        "名",
        "0",
        "-1",
        "9" * 400,
        "1e400",
        "nan",
        "inf",
        "9" * 30 + "d",
        "-5s",
        "x" * 10_000,
        "memory://",
        "sqlite://",
        "sqlite:///",
        "sqlite:///own.db?mode=\udcff",
        "postgres://u:secret@127.0.0.1:1/x",
        "http://",
        "http://[",
        "http://127.0.0.1:1",
        "http://127.0.0.1:99999",
        "http://\udcff",
        "http://127.0.0.1:1/\x1b[2J",
        "http://x" + "y" * 300 + ".invalid",
        "/dev/null",
        "/nowhere/at/all",
        ".",
        "flow.yaml",
        "bad.yaml",
        "jobs.py",
        "a:b",
        "a=b",
        "ffffffff-0000-7000-8000-000000000000",
    ]
)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """A command with options of its own and others, and words behind them or not."""
    path, command = draw(st.sampled_from(LEAVES))
    own = [name for parameter in command.params for name in parameter.opts if name.startswith("-")]
    word = st.one_of(HOSTILE, TEXT)
    option = st.sampled_from([*own, "--json", "-o", "--quiet", "--help", "--db", "--server", "--runs"])
    parts = st.one_of(
        word.map(lambda one: [one]),
        option.map(lambda one: [one]),
        st.tuples(option, word).map(list),
        st.tuples(option, word).map(lambda pair: [f"{pair[0]}={pair[1]}"]),
    )
    words = [part for group in draw(st.lists(parts, max_size=5)) for part in group]
    return [*path, *words]


def check(done: Any) -> None:
    assert done.returncode in CODES, done.stderr
    assert "Traceback" not in done.stderr
    assert "should not have happened" not in done.stderr
    assert clean_lines(done.stderr) == done.stderr, "nothing that commands a terminal"
    assert clean_lines(done.stdout) == done.stdout
    assert done.returncode == 0 or done.stderr or done.stdout, "a failure says something"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.one_of(lines(), st.lists(st.one_of(HOSTILE, TEXT), max_size=4)))
@example(words=["workflow", "execute", "x", "-p", "\udcff"])
@example(words=["run", "flow.yaml", "-p", "a=\udc80"])
@example(words=["instance", "logs", "x", "--since", "9" * 400])
@example(words=["instance", "list", "--limit", "9" * 5000])
@example(words=["run", "\udcff.yaml"])
@example(words=["validate", "\udcff.yaml", "--json"])
@example(words=["workflow", "list", "--server", "http://x" + "y" * 70])
@example(words=["token", "rotate", "--token-file", "\udcff"])
def test_no_command_line_breaks_the_program(main: Main, folder: Path, words: list[str]) -> None:
    (folder / "flow.yaml").write_text("id: flow\nparams: {a: {}}\ntasks: [{name: a, job: noop}]\n")
    (folder / "bad.yaml").write_bytes(b"\xff\x00{")
    check(main(*words))


def test_why_a_file_was_not_read_is_said_beside_the_report(main: Main) -> None:
    done = main("validate", "", "--json")
    assert (done.returncode, done.data[0]["valid"]) != (0, True)
    assert done.stderr.startswith("Error: ")


@pytest.mark.parametrize(
    "words",
    [
        [b"instance", b"status", b"\xff\xfe"],
        [b"run", b"\xff.yaml"],
        [b"run", b"-", b"-p", b"a=\xc3\x28"],
        [b"workflow", b"upload", b"\x1b[2J", b"--db", b"\xff.db"],
        [b"\xf0\x9f\x98"],
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_bytes_that_are_no_text_are_told_as_they_are(folder: Path, words: list[bytes], encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-m", "taskengine", *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode in CODES - {exits.OK}
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stderr
