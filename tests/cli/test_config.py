"""taskengine config show: every setting with where it comes from, in each form, and never a password."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from taskengine.cli import settings as cli_settings
from taskengine.cli.commands import serve as serve_command
from taskengine.cli.verbs.serving import program_name
from taskengine.config import load
from taskengine.config.keys import FLAGS, KEYS

Main = Callable[..., Any]


@pytest.fixture
def show(main: Main) -> Callable[..., Mapping[str, Any]]:
    """The settings by name."""

    def run(*arguments: str) -> Mapping[str, Any]:
        done = main("config", "show", "--origin", "--json", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return {each["id"]: each for each in done.data}

    return run


def test_every_setting_is_shown_with_its_variable(show: Callable[..., Any]) -> None:
    found = show()
    assert list(found) == list(KEYS)
    assert {name: each["variable"] for name, each in found.items()} == {key.name: key.variable for key in KEYS.values()}
    assert {each["origin"] for each in found.values()} == {"default"}


def test_each_value_says_where_it_comes_from(
    show: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "c.yaml").write_text("server:\n  host: ::1\n  port: 1\ntask-engine: {general: {instance_name: 行情}}\n")
    monkeypatch.setenv("TASKENGINE_SERVER__PORT", "2")
    monkeypatch.setenv("TASKENGINE_EXECUTION__GRACE", "3s")
    found = show("--config", "c.yaml", "--port", "9000", "--app", "a.py", "--app", "b.py")
    told = {name: (each["value"], each["origin"], each["place"]) for name, each in found.items()}
    assert told["server.host"] == ("::1", "file", "c.yaml:2")
    assert told["server.port"] == (9000, "flag", "--port")
    assert told["task-engine.general.instance_name"] == ("行情", "file", "c.yaml:4")
    assert told["task-engine.execution.grace"] == ("3s", "environment", "TASKENGINE_EXECUTION__GRACE")
    assert told["functions.apps"] == (["a.py", "b.py"], "flag", "--app")
    assert told["server.read_timeout"] == ("30s", "default", "")


def test_the_file_may_be_named_by_a_variable(
    show: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "c.yaml").write_text("server: {port: 1}\n")
    monkeypatch.setenv("TASKENGINE_CONFIG", "c.yaml")
    assert show()["server.port"]["value"] == 1


def test_as_yaml_it_is_a_file_that_sets_the_same(main: Main, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKENGINE_LIMITS__BODY", "300KiB")
    monkeypatch.setenv("TASKENGINE_EXECUTION__DEFAULT_TASK_TIMEOUT", "none")
    monkeypatch.setenv("TASKENGINE_SERVER__ALLOWED_HOSTS", "a.example,b.example")
    text = main("config", "show", "-o", "yaml").stdout
    (folder / "again.yaml").write_text(text)
    given = {
        "TASKENGINE_LIMITS__BODY",
        "TASKENGINE_EXECUTION__DEFAULT_TASK_TIMEOUT",
        "TASKENGINE_SERVER__ALLOWED_HOSTS",
    }
    assert (
        load(folder / "again.yaml", {}, {}).config == load(None, {name: os.environ[name] for name in given}, {}).config
    )


def test_the_table_has_a_line_for_each_and_the_origin_on_demand(main: Main) -> None:
    plain, with_origin = main("config", "show").lines, main("config", "show", "--origin", "--port", "1").lines
    assert len(plain) == len(with_origin) == len(KEYS) + 1
    assert plain[0].split() == ["KEY", "VALUE"]
    assert next(line for line in with_origin if line.startswith("server.port ")).split() == [
        "server.port",
        "1",
        "flag",
        "--port",
    ]
    assert len(main("config", "show", "--no-headers").lines) == len(KEYS)


@pytest.mark.parametrize("form", ["table", "json", "yaml", "jsonl"])
def test_no_form_shows_a_password(main: Main, form: str) -> None:
    done = main("config", "show", "--origin", "--db", "postgresql://me:hunter2@db/x", "-o", form)
    assert done.returncode == 0
    assert "hunter2" not in done.stdout + done.stderr
    assert "postgresql://me:***@db/x" in done.stdout


def test_a_mistake_is_told_with_its_place_and_the_code_of_wrong_use(main: Main, folder: Path) -> None:
    (folder / "c.yaml").write_text("server:\n  prot: 1\n")
    done = main("config", "show", "--config", "c.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "c.yaml:2:3: unknown key `prot` of server, did you mean `port`?" in done.stderr


def test_every_flag_of_serve_is_the_flag_of_a_setting() -> None:
    flags = {option.name: option.opts[0] for option in serve_command.command.params if isinstance(option, click.Option)}
    assert flags.pop(cli_settings.CONFIG_FLAG) == "--config"
    names = {name: FLAGS[key] for name, key in cli_settings.NAMES.items()}
    assert flags == names
    assert set(cli_settings.NAMES.values()) == set(FLAGS)


@pytest.mark.parametrize(
    ("argv", "environ", "wanted"),
    [
        (["/nowhere/taskengine"], {"PATH": ""}, "/nowhere/taskengine"),
        (["/a b/taskengine"], {"PATH": ""}, "'/a b/taskengine'"),
        (["/x/taskengine/__main__.py"], {}, "{python} -m taskengine"),
        (["/tmp/x"], {"TASKENGINE_PYZ": "/opt/te.pyz"}, "{python} /opt/te.pyz"),
    ],
)
def test_the_program_is_called_as_one_types_it(argv: list[str], environ: dict[str, str], wanted: str) -> None:
    assert program_name(argv, environ) == wanted.format(python=sys.executable)


def test_on_the_path_it_has_its_short_name(tmp_path: Path) -> None:
    script = tmp_path / "taskengine"
    script.touch(0o755)
    assert program_name([str(script)], {"PATH": str(tmp_path)}) == "taskengine"
