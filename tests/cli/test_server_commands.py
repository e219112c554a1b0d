"""Changing what a server has: definitions, instances, tokens."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskengine.model.definition import canonical_form, version_of

Main = Callable[..., Any]
Upload = Callable[..., str]
Until = Callable[[Callable[[], Any]], Any]
Opened = Callable[..., Any]


@pytest.fixture
def held(main: Main, served: Any, upload: Upload) -> str:
    """An instance that waits for a minute; its id."""
    workflow_id = upload("name: nap, job: sleep, params: {duration: 60s}", "name: last, job: noop, depends_on: [nap]")
    instance_id: str = main("workflow", "execute", workflow_id, *served.flags).stdout.strip()
    return instance_id


@pytest.fixture
def failed(main: Main, served: Any, upload: Upload, tmp_path: Path) -> tuple[str, Path]:
    """An instance that failed for want of a file, and that file."""
    flag = tmp_path / "flag"
    workflow_id = upload(
        "name: 获取, job: noop",
        f"name: fragile, job: breaks_at_first, params: {{flag: '{flag}'}}, depends_on: [获取]",
        "name: last, job: noop, depends_on: [fragile]",
    )
    done = main("workflow", "execute", workflow_id, "--wait", "-o", "id", *served.flags)
    assert done.returncode == 9
    return done.stdout.strip(), flag


# definitions


def test_an_upload_says_what_it_did(main: Main, served: Any, folder: Path) -> None:
    (folder / "a.yaml").write_text("id: told\ntasks: [{name: a, job: noop}]\n")
    (folder / "b.json").write_text('{"id": "told-too", "tasks": []}')
    done = main("workflow", "upload", "a.yaml", "b.json", *served.flags)
    assert done.returncode == 0
    assert [line.split()[0::2] for line in done.lines] == [["told", "created"], ["told-too", "created"]]
    assert main("workflow", "upload", "a.yaml", *served.flags).stdout.endswith("unchanged\n")
    (folder / "a.yaml").write_text("id: told\ntasks: []\n")
    assert main("workflow", "upload", "a.yaml", *served.flags).stdout.endswith("new version\n")
    (reply,) = main("workflow", "upload", "a.yaml", "--json", *served.flags).data
    assert list(reply) == ["id", "version", "created", "changed"]
    assert [each["current"] for each in main("workflow", "versions", "told", "--json", *served.flags).data] == [
        True,
        False,
    ]


def test_a_file_that_is_wrong_does_not_hold_up_the_others(main: Main, served: Any, folder: Path) -> None:
    (folder / "bad.yaml").write_text("id: bad-one\ntasks:\n  - {name: a, job: nop}\n")
    (folder / "good.yaml").write_text("id: good-one\ntasks: []\n")
    done = main("workflow", "upload", "bad.yaml", "good.yaml", "-o", "id", *served.flags)
    assert (done.returncode, done.lines) == (4, ["good-one"])
    assert "bad.yaml:3:" in done.stderr
    assert "noop" in done.stderr
    assert "^" in done.stderr, "with a caret under the place"


def test_an_upload_of_a_file_that_is_not_there(main: Main, served: Any, folder: Path) -> None:
    (folder / "flow.yaml").touch()
    done = main("workflow", "upload", "flwo.yaml", *served.flags)
    assert (done.returncode, done.stdout) == (3, "")
    assert "did you mean flow.yaml?" in done.stderr


def test_uploading_into_a_database_serves_whoever_opens_it_next(main: Main, folder: Path) -> None:
    (folder / "a.yaml").write_text("id: 每日\nname: 每日同步\ntasks: [{name: a, job: noop}]\n")
    assert main("workflow", "upload", "a.yaml", "--db", "a.db").returncode == 0
    assert main("workflow", "list", "--db", "a.db").lines[1].split()[:3] == ["每日", "每日同步", "1"]
    assert "taskengine run FILE --db a.db" in main("workflow", "execute", "每日", "--db", "a.db").stderr
    assert main("workflow", "delete", "每日", "--yes", "--db", "a.db").returncode == 0
    assert main("workflow", "list", "--db", "a.db", "--json").data == []


def test_deleting_needs_a_word_where_nobody_can_be_asked(main: Main, served: Any, upload: Upload) -> None:
    workflow_id = upload("name: a, job: noop")
    done = main("workflow", "delete", workflow_id, *served.flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--yes" in done.stderr
    assert main("workflow", "show", workflow_id, *served.flags).returncode == 0
    assert main("workflow", "delete", workflow_id, "--yes", *served.flags).returncode == 0
    assert main("workflow", "show", workflow_id, *served.flags).returncode == 3


def test_on_a_terminal_no_is_what_enter_says(terminal: Opened, main: Main, served: Any, upload: Upload) -> None:
    workflow_id = upload("name: a, job: noop")
    for answer, code, there in ((b"\n", 1, True), (b"n\n", 1, True), (b"y\n", 0, False)):
        screen = terminal("workflow", "delete", workflow_id, *served.flags)
        assert f"Delete workflow {workflow_id}" in screen.read_until("[y/N]")
        screen.type(answer)
        assert screen.end() == code
        assert (main("workflow", "show", workflow_id, *served.flags).returncode == 0) is there


def test_a_workflow_with_running_instances_is_only_deleted_by_force(main: Main, served: Any, held: str) -> None:
    workflow_id = main("instance", "status", held, "--json", *served.flags).data["workflow_id"]
    done = main("workflow", "delete", workflow_id, "--yes", *served.flags)
    assert (done.returncode, done.stdout) == (5, "")
    assert main("workflow", "delete", workflow_id, "--yes", "--force", *served.flags).returncode == 0
    assert main("instance", "cancel", held, *served.flags).returncode == 0


def test_export_of_a_file_is_its_canonical_form(main: Main, folder: Path) -> None:
    from taskengine.definition import read_yaml

    (folder / "a.json").write_text('{"tasks": [{"job": "noop", "name": "a"}], "id": "here"}')
    text = main("workflow", "export", "a.json").stdout
    given = read_yaml((folder / "a.json").read_bytes())
    assert version_of(canonical_form(read_yaml(text))) == version_of(canonical_form(given))
    assert main("workflow", "export", "-", stdin=text).stdout == text


# starting


def test_starting_prints_the_id_and_how_to_watch(main: Main, served: Any, upload: Upload) -> None:
    workflow_id = upload("name: a, job: noop")
    done = main("workflow", "execute", workflow_id, *served.flags)
    assert done.returncode == 0
    (instance_id,) = done.lines
    assert f"taskengine instance watch {instance_id} --server {served.address}" in done.stderr
    assert main("workflow", "execute", workflow_id, "-o", "id", *served.flags).stderr == ""
    reply = main("workflow", "execute", workflow_id, "--json", *served.flags).data
    assert (list(reply), reply["instance"]) == (["instance_id", "instance"], None)


def test_params_come_from_a_file_from_stdin_and_from_the_line(
    main: Main, served: Any, upload: Upload, folder: Path
) -> None:
    workflow_id = upload(
        "name: a, job: transform, params: {value: '${{ params }}'}",
        head="params: {n: {type: integer}, text: {type: string}, list: {default: []}}",
    )
    (folder / "params.yaml").write_text("n: 1\ntext: '5'\nlist: [日]\n")

    def result(*words: str, stdin: str = "") -> Any:
        return main("workflow", "execute", workflow_id, "--wait", *words, *served.flags, stdin=stdin).data["a"]

    assert result("--params", "params.yaml") == {"n": 1, "text": "5", "list": ["日"]}
    assert result("--params", "-", "-p", "n=2", "-p", "text=7", stdin='{"n": 9}') == {"n": 2, "text": "7", "list": []}
    assert result("-p", "list=[1, 2]", "-p", "n=3", "-p", "text=x")["list"] == [1, 2]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--params", "absent.yaml"], 3, "absent.yaml"),
        (["--params", "list.yaml"], 2, "no mapping"),
        (["--params", "broken.yaml"], 2, "broken.yaml"),
        (["-p", "n"], 2, "name=value"),
        (["-p", "n=many"], 2, "n"),
        (["-p", "cuont=1"], 2, "did you mean `count`?"),
        (["--wait", "--follow"], 2, "exclude"),
        (["--timeout", "1s"], 2, "--wait"),
        (["--wait", "--timeout", "soon"], 2, "duration"),
    ],
)
def test_a_start_that_cannot_be(
    main: Main, served: Any, upload: Upload, folder: Path, words: list[str], code: int, said: str
) -> None:
    workflow_id = upload("name: a, job: noop", head="params: {count: {type: integer, default: 1}, n: {type: integer}}")
    (folder / "list.yaml").write_text("[1]")
    (folder / "broken.yaml").write_text("{a: [}")
    done = main("workflow", "execute", workflow_id, *words, *served.flags)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


def test_the_same_key_gives_the_same_instance(main: Main, served: Any, upload: Upload) -> None:
    workflow_id = upload("name: a, job: noop", head="params: {n: {default: 1}}")
    once, again = (
        main("workflow", "execute", workflow_id, "--idempotency-key", "今日", *served.flags).stdout for _ in range(2)
    )
    assert once == again
    other = main("workflow", "execute", workflow_id, "--idempotency-key", "今日", "-p", "n=2", *served.flags)
    assert (other.returncode, other.stdout) == (5, "")


# changing


def test_pause_resume_and_cancel(main: Main, served: Any, held: str) -> None:
    def told(verb: str, *words: str) -> Any:
        return main("instance", verb, held, "--json", *words, *served.flags).data["status"]

    assert told("pause") == "Paused"
    assert told("pause") == "Paused", "again is no mistake"
    assert told("resume") == "Running"
    assert told("cancel", "--reason", "不要了") in ("Cancelled", "Running")
    assert main("instance", "watch", held, "-q", *served.flags).returncode == 10
    for verb in ("pause", "resume"):
        done = main("instance", verb, held, *served.flags)
        assert (done.returncode, done.stdout) == (5, "")
        assert "Cancelled" in done.stderr


def test_retry_runs_again_what_failed(main: Main, served: Any, failed: tuple[str, Path]) -> None:
    instance_id, flag = failed
    flag.touch()
    done = main("instance", "retry", instance_id, *served.flags)
    assert done.returncode == 0
    assert f"taskengine instance watch {instance_id}" in done.stderr
    assert main("instance", "watch", instance_id, *served.flags).returncode == 0
    tasks = main("instance", "status", instance_id, "--json", *served.flags).data["tasks"]
    assert [task["attempt"] for task in tasks] == [1, 2, 1]


def test_retry_that_is_followed_shows_the_new_run_only(main: Main, served: Any, failed: tuple[str, Path]) -> None:
    instance_id, flag = failed
    flag.touch()
    done = main("instance", "retry", instance_id, "--from", "fragile", "--follow", *served.flags)
    assert (done.returncode, done.data) == (0, {"last": {}})
    news = done.stderr.partition("Instance  ")[0]
    assert "✔ fragile" in news
    assert "获取" not in news


def test_a_fork_is_a_new_instance_that_goes_on_where_the_other_failed(
    main: Main, served: Any, failed: tuple[str, Path]
) -> None:
    instance_id, flag = failed
    flag.touch()
    new = main("instance", "fork", instance_id, "--from", "fragile", "-o", "id", *served.flags).stdout.strip()
    assert new not in ("", instance_id)
    assert main("instance", "watch", new, *served.flags).returncode == 0
    followed = main("instance", "fork", instance_id, "--from", "fragile", "--follow", *served.flags)
    assert (followed.returncode, followed.data) == (0, {"last": {}})
    assert main("instance", "status", instance_id, "--json", *served.flags).data["status"] == "Failed"
    assert main("instance", "fork", instance_id, *served.flags).returncode == 2
    wrong = main("instance", "fork", instance_id, "--from", "fragil", *served.flags)
    assert (wrong.returncode, "did you mean `fragile`?" in wrong.stderr) == (3, True)


def test_the_difference_of_two_instances(main: Main, served: Any, failed: tuple[str, Path]) -> None:
    instance_id, flag = failed
    flag.touch()
    new = main("instance", "fork", instance_id, "--from", "fragile", "-o", "id", *served.flags).stdout.strip()
    assert main("instance", "watch", new, *served.flags).returncode == 0
    found = main("instance", "diff", instance_id, new, "--json", *served.flags).data
    told = {(each["task"], each["field"]): (each["a"], each["b"]) for each in found}
    assert told[(None, "status")] == ("Failed", "Success")
    assert told[("fragile", "status")] == ("Failed", "Success")
    assert {task for task, _ in told} == {None, "fragile", "last"}, "what was taken over is the same"
    table = main("instance", "diff", instance_id, new, *served.flags)
    assert table.lines[0].split() == ["TASK", "FIELD", "A", "B"]
    same = main("instance", "diff", new, new, *served.flags)
    assert (same.returncode, "No difference." in same.stderr) == (0, True)
    assert main("instance", "diff", new, "nobody", *served.flags).returncode == 3


def test_retry_of_a_task_that_is_not_there_is_not_found(main: Main, served: Any, failed: tuple[str, Path]) -> None:
    done = main("instance", "retry", failed[0], "--only", "fragil", *served.flags)
    assert (done.returncode, done.stdout) == (3, "")
    assert "fragil" in done.stderr


@pytest.mark.parametrize("words", [["--app", "jobs.py"], ["-j", "3"], ["--pool", "io=5"], ["--log-level", "debug"]])
def test_what_an_engine_in_this_process_would_be_told_is_not_for_a_server(
    main: Main, served: Any, held: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = main("instance", "resume", held, *words, *served.flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert words[0].replace("-j", "--workers") in done.stderr
    monkeypatch.setenv("TASKENGINE_EXECUTION__WORKER_CONCURRENCY", "3")
    assert main("instance", "pause", held, *served.flags).returncode == 0
    assert main("instance", "resume", held, *served.flags).returncode == 0, "a variable is meant for engines only"
    main("instance", "cancel", held, *served.flags)


# tokens, functions, nodes


def test_a_token_is_made_listed_and_revoked(main: Main, served: Any) -> None:
    made = main("token", "create", "构建", "--scope", "operate", "--expires", "90d", *served.flags)
    assert made.returncode == 0
    secret = made.stdout.strip()
    assert secret.startswith("te_")
    assert secret not in made.stderr
    (row,) = [each for each in main("token", "list", "--json", *served.flags).data if each["name"] == "构建"]
    assert (row["scope"], row["revoked_at"]) == ("operate", None)
    assert secret not in main("token", "list", "--json", *served.flags).stdout
    refused = main("token", "revoke", "构建", *served.flags)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert main("token", "revoke", "构建", "--yes", *served.flags).returncode == 0
    assert main("token", "revoke", "构建", "--yes", *served.flags).returncode == 3, "nobody has that name any more"
    assert main("token", "revoke", row["id"][:34], "--yes", *served.flags).returncode == 0


def test_tokens_of_a_database_that_nobody_serves(main: Main, folder: Path) -> None:
    made = main("token", "create", "ci", "--scope", "read", "--json", "--db", "a.db").data
    assert list(made) == ["id", "name", "scope", "created_at", "expires_at", "revoked_at", "secret"]
    assert [each["id"] for each in main("token", "list", "--json", "--db", "a.db").data] == [made["id"]]
    assert main("token", "revoke", "ci", "--yes", "--db", "a.db").returncode == 0
    assert main("token", "list", "--db", "a.db", "--json").data[0]["revoked_at"]
    assert "taskengine serve" in main("token", "rotate", "--db", "a.db").stderr


@pytest.mark.parametrize(
    "words", ["create", "create x", "create x --scope all", "create x --scope read --expires never", "revoke"]
)
def test_wrong_use_of_tokens(main: Main, served: Any, words: str) -> None:
    done = main("token", *words.split(), *served.flags)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_rotated_token_replaces_its_file(main: Main, served: Any) -> None:
    before = Path(served.token_file).read_text()
    assert main("token", "rotate", *served.flags).returncode == 0
    assert Path(served.token_file).read_text() != before
    assert main("workflow", "list", *served.flags).returncode == 0


def test_functions_of_the_server_and_of_a_run_here(main: Main, served: Any, folder: Path) -> None:
    there = main("function", "list", "-o", "json", *served.flags).data
    assert {"noop", "hold"} <= {each["name"] for each in there}
    assert "hold" not in [each["name"] for each in main("function", "list", "--json").data]
    here = main("function", "list", "--json", "--app", "jobs.py").data
    assert [each["builtin"] for each in here if each["name"] in ("hold", "noop")] == [False, True]
    shown = main("function", "show", "hold", *served.flags)
    assert shown.lines[0].startswith("hold(ctx: ")
    assert shown.lines[0].endswith("gate: str) -> str")
    assert "Runs until the file" in shown.stdout
    missing = main("function", "show", "holt", *served.flags)
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "did you mean `hold`?" in missing.stderr
    assert main("function", "list", "--app", "jobs.py", *served.flags).returncode == 2


def test_the_nodes_of_a_server(main: Main, served: Any) -> None:
    (node,) = main("node", "list", "--json", *served.flags).data
    assert (node["address"], node["pid"]) == (served.address, served.process.pid)
    assert str(served.process.pid) in main("node", "list", *served.flags).lines[1]


def test_the_schema_is_one_and_names_the_keys(main: Main) -> None:
    schema = json.loads(main("schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"id", "tasks", "params"} <= schema["properties"].keys()


def test_hostile_text_of_a_server_commands_no_terminal(main: Main, served: Any, upload: Upload) -> None:
    evil = "\\x1b]52;c;ZXZpbA==\\x07"
    workflow_id = upload(
        f'name: a, job: fail, params: {{message: "{evil}"}}',
        head=f'name: "{evil}"\ndescription: "{evil}\\u202e"\nlabels: {{x: "{evil}"}}',
    )
    instance_id = main("workflow", "execute", workflow_id, "--wait", "-o", "id", *served.flags).stdout.strip()
    for words in (
        f"workflow show {workflow_id}",
        f"workflow show {workflow_id} -o yaml",
        f"workflow export {workflow_id}",
        f"workflow graph {workflow_id} --format svg",
        "workflow list",
        f"instance status {instance_id}",
        f"instance status {instance_id} --json",
        f"instance events {instance_id}",
        f"instance watch {instance_id}",
        f"instance logs {instance_id}",
    ):
        done = main(*words.split(), *served.flags)
        assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout + done.stderr), words


def test_nothing_is_cut_when_piped(main: Main, served: Any, upload: Upload) -> None:
    name, message = "n" * 128, "m" * 300
    workflow_id = upload(f"name: {name}, job: fail, params: {{message: {message}}}")
    done = main("workflow", "execute", workflow_id, "--wait", "-o", "table", *served.flags)
    assert any(name in line and message in line for line in done.lines)


def test_forced_colour_colours_lists_and_no_colour_is_stronger(
    main: Main, served: Any, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload("name: a, job: noop")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[1m" in main("workflow", "list", *served.flags).stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in main("workflow", "list", *served.flags).stdout


def test_a_reader_that_leaves_is_no_error(served: Any, upload: Upload) -> None:
    import subprocess
    import sys

    upload("name: a, job: noop")
    program = f"{sys.executable} -m taskengine function list {' '.join(served.flags)} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.strip() in ("0", "141")
    assert done.stderr == ""
