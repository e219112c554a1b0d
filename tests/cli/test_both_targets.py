"""A server and its database give one output: whoever asks need not know whom."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskengine.cli.safe import is_clean

Main = Callable[..., Any]
Upload = Callable[..., str]

FORMS = ((), ("-o", "table"), ("--json",), ("-o", "yaml"), ("-o", "jsonl"), ("-o", "id"), ("--no-headers",))
NO_TABLE = ("instance status", "instance logs", "explain")


@pytest.fixture(params=["server", "database"])
def flags(request: pytest.FixtureRequest, served: Any) -> Sequence[str]:
    """What leads to the same data in the one way or the other."""
    found: Sequence[str] = served.flags if request.param == "server" else served.db
    return found


@pytest.fixture
def ended(main: Main, served: Any, upload: Upload) -> tuple[str, str]:
    """Workflow and instance: one task failed after a retry, one never began, one logged."""
    workflow_id = upload(
        "name: 获取, job: chatty",
        "name: fragile, job: fail, params: {message: 'no \\x1b[2Jway'}, retry: {count: 1, interval: 10ms}, "
        "depends_on: [获取]",
        "name: last, job: noop, depends_on: [fragile]",
        head="name: 每日同步\nlabels: {team: quant}\nparams: {n: {type: integer, default: 3, description: how many}}",
    )
    done = main("workflow", "execute", workflow_id, "-p", "n=7", "--wait", "-o", "id", *served.flags)
    assert done.returncode == 9
    return workflow_id, done.stdout.strip()


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
@pytest.mark.parametrize(
    "words",
    [
        "instance list --workflow {workflow}",
        "instance list --workflow {workflow} --status failed --label team=quant --since 1d --limit 5",
        "instance history {workflow}",
        "workflow history {workflow} --status Failed",
        "instance status {instance}",
        "explain {instance}",
        "explain {instance} last",
        "instance events {instance}",
        "instance logs {instance}",
        "instance logs {instance} --task 获取 --tail 2",
        "workflow show {workflow}",
        "workflow versions {workflow}",
        "workflow list",
    ],
)
def test_both_say_the_same(main: Main, served: Any, ended: tuple[str, str], words: str, form: Sequence[str]) -> None:
    typed = [word.format(workflow=ended[0], instance=ended[1]) for word in words.split()]
    if form == ("--no-headers",) and words.startswith(NO_TABLE):
        assert main(*typed, *form, *served.flags).returncode == 2, "there are none, so nobody may ask to leave them out"
        return
    asked = main(*typed, *form, *served.flags)
    looked = main(*typed, *form, *served.db)
    assert (asked.returncode, asked.stderr) == (looked.returncode, looked.stderr) == (0, "")
    # Commands that are there to be typed lead to where this one has looked.
    assert asked.stdout.replace(f" --server {served.address}", "") == looked.stdout.replace(f" --db {served.store}", "")
    assert asked.stdout.strip()
    assert is_clean(asked.stdout.replace("\n", ""))


@pytest.mark.parametrize("form", ["mermaid", "dot", "ascii", "json", "svg"])
def test_both_draw_the_same(main: Main, served: Any, ended: tuple[str, str], form: str) -> None:
    asked = main("workflow", "graph", ended[0], "--format", form, *served.flags)
    assert asked.returncode == 0
    assert "获取" in asked.stdout
    assert main("workflow", "graph", ended[0], "--format", form, *served.db).stdout == asked.stdout


def test_both_export_what_can_be_uploaded_again(main: Main, served: Any, ended: tuple[str, str]) -> None:
    asked = main("workflow", "export", ended[0], *served.flags).stdout
    assert main("workflow", "export", ended[0], *served.db).stdout == asked
    again = main("workflow", "upload", "-", "--json", *served.flags, stdin=asked).data
    assert [(reply["id"], reply["changed"]) for reply in again] == [(ended[0], False)]


def test_the_table_of_instances(main: Main, ended: tuple[str, str], flags: Sequence[str]) -> None:
    head, row = main("instance", "list", "--workflow", ended[0], *flags).lines
    assert head.split("  ")[0] == "ID"
    assert re.fullmatch(rf"{ended[1]}  {ended[0]} +Failed  3/3 +\d{{4}}-\d\d-\d\d \d\d:\d\d  \d+\.\ds", row), (
        "nothing is cut, columns are two spaces apart"
    )
    assert main("instance", "list", "--workflow", ended[0], "--no-headers", *flags).lines[0].split()[0] == ended[1]


def test_the_status(main: Main, ended: tuple[str, str], flags: Sequence[str]) -> None:
    lines = main("instance", "status", ended[1][:30], *flags).lines
    assert re.fullmatch(rf"Instance  {ended[1]}   Workflow  每日同步 \(v [0-9a-f]{{7}}\)", lines[0])
    assert re.fullmatch(r"Status    Failed         Progress  3/3 \(100%\)   Elapsed 00:00:0\d", lines[1])
    assert lines[2].startswith("Reason    task 'fragile' failed")
    assert [line.split()[:3] for line in lines[3:]] == [
        ["✔", "获取", "Success"],
        ["✖", "fragile", "Failed"],
        ["✖", "last", "UpstreamFailed"],
    ]
    assert "attempt 2/2" in lines[4]


def test_the_detail_has_tasks_with_their_attempts(main: Main, ended: tuple[str, str], flags: Sequence[str]) -> None:
    detail = main("instance", "status", ended[1], "--json", *flags).data
    assert (detail["workflow_id"], detail["params"], detail["status"]) == (ended[0], {"n": 7}, "Failed")
    assert [attempt["attempt"] for attempt in detail["tasks"][1]["attempts"]] == [1]


def test_lines_of_a_log(main: Main, ended: tuple[str, str], flags: Sequence[str]) -> None:
    (line,) = [line for line in main("instance", "logs", ended[1], *flags).lines if "logged" in line]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  获取  info     logged \\x1b\]0;evil\\x07", line)
    entries = [json.loads(entry) for entry in main("instance", "logs", ended[1], "-o", "jsonl", *flags).lines]
    assert {entry["task"] for entry in entries} == {"获取"}
    behind = main("instance", "logs", ended[1], "--since", str(entries[0]["id"]), "--json", *flags).data
    assert [entry["id"] for entry in behind] == [entry["id"] for entry in entries[1:]]
    assert main("instance", "logs", ended[1], "--tail", "0", *flags).stdout == ""


def test_following_the_log_of_what_has_ended_ends(main: Main, ended: tuple[str, str], flags: Sequence[str]) -> None:
    done = main("instance", "logs", ended[1], "-f", "--json", *flags)
    assert done.returncode == 0
    assert done.stdout == main("instance", "logs", ended[1], "-o", "jsonl", *flags).stdout
    assert main("instance", "logs", ended[1], "-f", "--tail", "1", *flags).lines == (
        main("instance", "logs", ended[1], "--tail", "1", *flags).lines
    )


def test_watching_what_has_ended_shows_it_and_tells_how(
    main: Main, ended: tuple[str, str], flags: Sequence[str]
) -> None:
    done = main("instance", "watch", ended[1], *flags)
    assert (done.returncode, done.stdout) == (9, "{}\n")
    assert "Status    Failed" in done.stderr
    assert f"taskengine instance retry {ended[1]}" in done.stderr
    assert main("instance", "watch", ended[1], "-q", "-o", "id", *flags).stderr == ""


def test_a_task_that_is_not_there_is_not_found(main: Main, ended: tuple[str, str], flags: Sequence[str]) -> None:
    done = main("instance", "logs", ended[1], "--task", "fragil", *flags)
    assert (done.returncode, done.stdout) == (3, "")
    assert "did you mean `fragile`?" in done.stderr


@pytest.mark.parametrize("verb", ["show", "versions", "export", "graph", "delete", "history"])
def test_an_unknown_workflow_is_not_found(main: Main, served: Any, flags: Sequence[str], verb: str) -> None:
    if verb == "delete" and flags == served.db:
        pytest.skip("the server has the lock")
    done = main("workflow", verb, "nobody-made-it", *flags, *(["--yes"] if verb == "delete" else []))
    assert (done.returncode, done.stdout) == (3, "")
    assert "nobody-made-it" in done.stderr


def test_several_that_begin_so_are_listed(
    main: Main, ended: tuple[str, str], served: Any, flags: Sequence[str]
) -> None:
    second = main("workflow", "execute", ended[0], "--wait", "-o", "id", *served.flags).stdout.strip()
    common = next(n for n in range(36) if ended[1][n] != second[n])
    done = main("instance", "status", second[:common], *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert "type more of the id" in done.stderr
    assert ended[1] in done.stderr
    assert second in done.stderr


def test_an_id_that_nobody_has_is_not_found(main: Main, flags: Sequence[str]) -> None:
    for prefix in ("ffffffff", "ffffffff-0000-7000-8000-000000000000", "\x1b[2J", ".."):
        done = main("instance", "status", prefix, *flags)
        assert (done.returncode, done.stdout) == (3, ""), prefix
        assert "taskengine instance list" in done.stderr
        assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--status Nonsense", "--status"),
        ("--label team", "name=value"),
        ("--since yesterday", "--since"),
        ("--since 2026-99-99", "--since"),
        ("--limit 0", "--limit"),
    ],
)
def test_a_filter_that_says_nothing_is_wrong_use(main: Main, flags: Sequence[str], words: str, said: str) -> None:
    done = main("instance", "list", *words.split(), *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_searching_looks_at_ids_workflows_and_errors(main: Main, ended: tuple[str, str], flags: Sequence[str]) -> None:
    def found(*words: str) -> list[str]:
        listed: list[str] = main("instance", "list", "--workflow", ended[0], "-o", "id", *words, *flags).lines
        return listed

    assert found("--search", ended[1][10:]) == found("--search", "FRAGILE") == [ended[1]]
    assert found("--search", "nothing like it") == []
    assert found("--label", "team=other") == []
    assert found("--since", "2999-01-01") == []


def test_a_limit_is_kept_and_the_newest_come_first(
    main: Main, ended: tuple[str, str], served: Any, flags: Sequence[str]
) -> None:
    more = [main("workflow", "execute", ended[0], "-o", "id", *served.flags).stdout.strip() for _ in range(2)]
    for instance_id in more:
        main("instance", "watch", instance_id, "-q", *served.flags)
    listed = main("instance", "list", "--workflow", ended[0], "--limit", "2", "-o", "id", *flags).lines
    assert listed == more[::-1]


def test_an_empty_answer_is_an_empty_list_and_a_hint(main: Main, flags: Sequence[str]) -> None:
    nothing = ("instance", "list", "--search", "nothing like it")
    assert main(*nothing, "--json", *flags).stdout == "[]\n"
    assert yaml.safe_load(main(*nothing, "-o", "yaml", *flags).stdout) == []
    assert main(*nothing, "-o", "id", *flags).stdout == ""
    table = main(*nothing, *flags)
    assert (table.returncode, table.stdout) == (0, "")
    assert "Start one:" in table.stderr
    assert main(*nothing, "-q", *flags).stderr == ""


@pytest.mark.parametrize("job", ["nop", "ticking_off"])
def test_both_refuse_a_workflow_whose_jobs_they_do_not_know(main: Main, served: Any, folder: Path, job: str) -> None:
    (folder / "slip.yaml").write_text(f"id: slip\ntasks:\n  - {{name: a, job: {job}}}\n")
    for flags in (served.flags, ("--db", "own.db")):
        done = main("workflow", "upload", "slip.yaml", *flags)
        assert (done.returncode, done.stdout) == (4, "")
        assert f"slip.yaml:3:20: unknown job `{job}`" in done.stderr
        assert "--app FILE" in done.stderr, "how it becomes known"
    assert main("workflow", "list", "--db", "own.db", "-o", "id").lines == []


def test_jobs_of_a_file_are_known_where_it_is_named(main: Main, command: Main, served: Any, folder: Path) -> None:
    (folder / "own.yaml").write_text("id: own\ntasks:\n  - {name: a, job: chatty}\n")
    assert main("workflow", "upload", "own.yaml", "--db", "own.db").returncode == 4
    assert command("workflow", "upload", "own.yaml", "--db", "own.db", "--app", "jobs.py").returncode == 0
    done = main("workflow", "upload", "own.yaml", "--app", "jobs.py", *served.flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--app: the server has the jobs that it was started with" in done.stderr
