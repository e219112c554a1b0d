"""Which target a command line means, and what is said when it does not answer."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskengine.clock import Micros
from taskengine.config.presence import ServerNote, write_note

Main = Callable[..., Any]
Upload = Callable[..., str]
Workflow = Callable[..., str]


def home() -> Path:
    return Path(os.environ["TASKENGINE_HOME"])


def note(address: str, pid: int = 0) -> None:
    write_note(
        ServerNote(
            address=address,
            pid=pid or os.getpid(),
            token_file="",
            store="a.db",
            started_us=Micros(hash(address) % 10**9),
        )
    )


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_without_anything_the_runs_of_this_machine_are_meant(main: Main, workflow: Workflow) -> None:
    run_id = main("run", workflow("name: a, job: noop"), "-o", "id").stdout.strip()
    assert main("instance", "list", "-o", "id").lines == [run_id]


def test_a_server_of_this_machine_is_found_by_its_note(main: Main, served: Any, upload: Upload) -> None:
    workflow_id = upload("name: a, job: noop")
    served.note_in(home())
    done = main("workflow", "execute", workflow_id, "--wait")
    assert (done.returncode, done.data) == (0, {"a": {}})
    assert main("instance", "list", "--workflow", workflow_id, "-o", "id").lines


def test_what_the_server_of_this_machine_does_not_know_may_be_a_run(
    main: Main, served: Any, workflow: Workflow
) -> None:
    run_id = main("run", workflow("name: a, job: noop"), "-o", "id").stdout.strip()
    served.note_in(home())
    for known in (run_id, run_id[:24]):
        assert main("instance", "status", known, "-o", "id").lines == [run_id]


@pytest.mark.parametrize("prefix", ["ffffffff", "ffffffff-0000-7000-8000-000000000000"])
def test_what_neither_knows_is_told_with_both_places(main: Main, served: Any, prefix: str) -> None:
    served.note_in(home())
    done = main("instance", "status", prefix)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"neither the server {served.address} nor a run of this machine has it" in done.stderr


def test_a_server_that_was_named_is_the_only_one_asked(main: Main, served: Any, workflow: Workflow) -> None:
    run_id = main("run", workflow("name: a, job: noop"), "-o", "id").stdout.strip()
    done = main("instance", "status", run_id, *served.flags)
    assert done.returncode == 3
    assert "neither" not in done.stderr


def test_the_variable_names_a_server_and_a_flag_is_stronger(
    main: Main, served: Any, upload: Upload, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    workflow_id = upload("name: a, job: noop")
    monkeypatch.setenv("TASKENGINE_SERVER", served.address)
    monkeypatch.setenv("TASKENGINE_TOKEN_FILE", served.token_file)
    assert workflow_id in main("workflow", "list", "-o", "id").lines
    (folder / "flow.yaml").write_text("id: here\ntasks: []\n")
    assert main("workflow", "upload", "flow.yaml", "--db", "own.db").returncode == 0
    assert main("workflow", "list", "--db", "own.db", "-o", "id").lines == ["here"]
    assert main("workflow", "list", "--server", free_address()).returncode == 6


def test_several_servers_are_listed_with_the_flag_to_choose_one(main: Main) -> None:
    note("http://127.0.0.1:1111")
    note("http://127.0.0.1:2222")
    done = main("instance", "list")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--server http://127.0.0.1:1111" in done.stderr
    assert "--server http://127.0.0.1:2222" in done.stderr


def test_the_note_of_a_dead_server_is_no_server(main: Main) -> None:
    note("http://127.0.0.1:1111", pid=2**22 + 1)
    assert main("instance", "list", "--json").data == []


@pytest.mark.parametrize(
    "words",
    [
        "--server http://127.0.0.1:1 --db a.db",
        "--db a.db --token-file t",
        "--runs --db a.db",
        "--runs --server http://127.0.0.1:1",
        "--runs --token-file t",
        "--token-file t",
        "--server 127.0.0.1:80",
        "--server ftp://x",
        "--server http://user:secret@127.0.0.1:1",
    ],
)
def test_contradictions_are_wrong_use(main: Main, words: str) -> None:
    done = main("instance", "list", *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    "words",
    ["instance list", "workflow list", "instance watch 0192", "workflow execute x --wait", "token list", "node list"],
)
def test_a_server_that_is_not_there_is_unreachable(main: Main, words: str) -> None:
    address = free_address()
    done = main(*words.split(), "--server", address)
    assert (done.returncode, done.stdout) == (6, "")
    assert address in done.stderr
    assert "taskengine serve" in done.stderr


@pytest.mark.parametrize("words", ["workflow list", "workflow execute x", "node list", "token list", "token rotate"])
def test_what_only_a_server_knows_needs_one(main: Main, words: str) -> None:
    done = main(*words.split())
    assert (done.returncode, done.stdout) == (6, "")
    assert "taskengine serve" in done.stderr
    assert "--server URL" in done.stderr


def test_a_token_that_nobody_made_is_not_allowed(main: Main, served: Any, folder: Path) -> None:
    (folder / "token").write_text("te_" + "x" * 43)
    done = main("workflow", "list", "--server", served.address, "--token-file", "token")
    assert (done.returncode, done.stdout) == (7, "")
    assert "token" in done.stderr
    assert "xxx" not in done.stderr, "a secret is never shown"


def test_a_token_of_too_small_a_scope_is_not_allowed(main: Main, served: Any, folder: Path, upload: Upload) -> None:
    workflow_id = upload("name: a, job: noop")
    made = main("token", "create", "looks", "--scope", "read", *served.flags)
    (folder / "looks.token").write_text(made.stdout)
    flags = ("--server", served.address, "--token-file", "looks.token")
    assert main("workflow", "show", workflow_id, *flags).returncode == 0
    for words in (
        ["workflow", "execute", workflow_id],
        ["workflow", "delete", workflow_id, "--yes"],
        ["token", "list"],
    ):
        done = main(*words, *flags)
        assert (done.returncode, done.stdout) == (7, ""), words


def test_a_revoked_token_is_not_allowed(main: Main, served: Any, folder: Path) -> None:
    made = main("token", "create", "short-lived", "--scope", "read", "--json", *served.flags).data
    (folder / "gone.token").write_text(made["secret"])
    flags = ("--server", served.address, "--token-file", "gone.token")
    assert main("workflow", "list", *flags).returncode == 0
    assert main("token", "revoke", made["id"], "--yes", *served.flags).returncode == 0
    assert main("workflow", "list", *flags).returncode == 7


def test_no_option_takes_a_token_itself() -> None:
    """A command line is seen by everybody who may list processes."""
    import click

    from taskengine.cli.tree import ROOT

    def commands(group: click.Group, context: click.Context) -> list[click.Command]:
        found: list[click.Command] = []
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            found += commands(command, context) if isinstance(command, click.Group) else [command]
        return found

    every = commands(ROOT, click.Context(ROOT))
    assert len(every) > 25
    options = {option for command in every for parameter in command.params for option in parameter.opts}
    assert {"--token-file", "--server"} <= options
    assert not options & {"--token", "--secret", "--password", "--api-key"}


def test_the_holder_of_a_database_is_told_with_the_way_to_ask_it(main: Main, served: Any, upload: Upload) -> None:
    workflow_id = upload("name: held, job: sleep, params: {duration: 60s}")
    instance_id = main("workflow", "execute", workflow_id, *served.flags).stdout.strip()
    done = main("instance", "cancel", instance_id, *served.db)
    assert (done.returncode, done.stdout) == (5, "")
    assert f"pid {served.process.pid}" in done.stderr
    assert f"taskengine instance cancel {instance_id} --server {served.address}" in done.stderr
    assert main("instance", "cancel", instance_id, *served.flags).returncode == 0


def test_runs_are_meant_although_a_server_runs_here(
    main: Main, served: Any, upload: Upload, workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = main("run", workflow("name: a, job: noop"), "-o", "id").stdout.strip()
    started = main("workflow", "execute", upload("name: a, job: noop"), *served.flags).stdout.strip()
    served.note_in(home())
    monkeypatch.setenv("TASKENGINE_SERVER", free_address())
    assert main("instance", "list", "--runs", "-o", "id").lines == [run_id]
    assert main("instance", "status", run_id[:30], "--runs", "-o", "id").lines == [run_id]
    assert main("instance", "status", started, "--runs").returncode == 3


@pytest.mark.parametrize("words", ["workflow list", "workflow execute x", "node list", "token list", "token rotate"])
def test_what_runs_do_not_have_is_wrong_use_of_runs(main: Main, words: str) -> None:
    done = main(*words.split(), "--runs")
    assert (done.returncode, done.stdout) == (2, "")
    assert "leave out --runs" in done.stderr


def test_an_id_is_found_by_its_beginning_and_by_nothing_else(main: Main, served: Any, upload: Upload) -> None:
    """The beginnings of other ids, of workflows and of errors are no beginning of this one."""
    workflow_id = upload("name: a, job: noop")
    ids = [main("workflow", "execute", workflow_id, *served.flags).stdout.strip() for _ in range(12)]
    assert main("instance", "status", ids[0][:30].upper(), "-o", "id", *served.flags).lines == [ids[0]]
    for unknown in (workflow_id, ids[0][5:], "0" * 300, ids[0] + "0"):
        assert main("instance", "status", unknown, *served.flags).returncode == 3, unknown
    several = main("instance", "status", ids[0][:1], *served.flags)
    assert (several.returncode, several.stdout) == (2, "")
    assert several.stderr.count("\n  ") == 11, "ten of them, and that there are more"
