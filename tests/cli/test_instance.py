"""`taskengine instance`: looking takes no lock, changing takes it and leaves the instance at rest."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Main = Callable[..., Any]
Workflow = Callable[..., str]
Start = Callable[..., "subprocess.Popen[str]"]
Until = Callable[[Callable[[], Any]], Any]

APP = ("--app", "jobs.py")


def runs_folder() -> Path:
    return Path(os.environ["TASKENGINE_HOME"]) / "runs"


@pytest.fixture
def cut_short(start: Start, workflow: Workflow, folder: Path, until: Until) -> str:
    """A run that was killed while its second task ran; its id."""
    file = workflow(
        "name: first, job: noop",
        "name: held, job: hold, params: {gate: gate}, depends_on: [first]",
        "name: last, job: noop, params: {k: 1}, depends_on: [held]",
    )
    process = start("run", file, *APP)
    until(lambda: (folder / "gate.1").exists())
    process.kill()
    process.wait()
    (run_id,) = [entry.name for entry in runs_folder().iterdir()]
    return run_id


@pytest.fixture
def failed(main: Main, workflow: Workflow) -> str:
    """A run that failed in its second of three tasks for want of the file `flag`; its id."""
    file = workflow(
        "name: 获取, job: noop",
        "name: fragile, job: breaks_at_first, params: {flag: flag}, depends_on: [获取]",
        "name: last, job: noop, depends_on: [fragile]",
    )
    assert main("run", file, *APP).returncode == 9
    (run_id,) = [entry.name for entry in runs_folder().iterdir()]
    return run_id


def statuses(main: Main, run_id: str) -> list[str]:
    return [task["status"] for task in main("instance", "status", run_id, "--json").data["tasks"]]


# looking


def test_without_runs_the_list_is_empty_and_says_what_to_do(main: Main) -> None:
    done = main("instance", "list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "taskengine run FILE" in done.stderr
    assert main("instance", "list", "--json").stdout == "[]\n"


def test_the_list_is_newest_first_and_can_be_narrowed(main: Main, workflow: Workflow) -> None:
    good, bad = workflow("name: a, job: noop", id="好"), workflow("name: a, job: fail", name="bad.yaml", id="bad")
    for file in (good, bad, good):
        main("run", file)
    everything = main("instance", "list", "--json").data
    assert [each["workflow_id"] for each in everything] == ["好", "bad", "好"]
    assert [each["id"] for each in everything] == sorted((each["id"] for each in everything), reverse=True)
    assert "tasks" not in everything[0]

    def ids(*options: str) -> list[str]:
        return main("instance", "list", "-o", "id", *options).stdout.split()

    assert ids("--status", "failed") == [everything[1]["id"]]
    assert ids("--workflow", "好") == [everything[0]["id"], everything[2]["id"]]
    assert ids("--limit", "1") == [everything[0]["id"]]


def test_the_table_of_the_list_is_aligned(main: Main, workflow: Workflow) -> None:
    main("run", workflow("name: a, job: noop", id="每日同步"))
    main("run", workflow("name: a, job: noop", id="x"))
    head, *rows = main("instance", "list").stdout.splitlines()
    assert head.split("  ")[0] == "ID"
    assert rows[0].index("Success") - rows[1].index("Success") == 4, "four wide characters fill eight cells"


def test_looking_takes_no_lock(main: Main, start: Start, workflow: Workflow, folder: Path, until: Until) -> None:
    process = start("run", workflow("name: held, job: hold, params: {gate: gate}"), *APP)
    until(lambda: (folder / "gate.1").exists())
    (run,) = until(lambda: main("instance", "list", "--status", "Running", "--json").data)
    assert main("instance", "status", run["id"]).returncode == 0
    (folder / "gate").touch()
    assert process.wait(60) == 0


def test_the_status_of_a_beginning_of_an_id(main: Main, failed: str) -> None:
    done = main("instance", "status", failed[:13])
    assert done.returncode == 0, "looking at a failure is no failure"
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"Instance  {failed}   Workflow  flow (v ")
    assert lines[1].startswith("Status    Failed")
    assert [line.split()[:2] for line in lines[3:]] == [["✔", "获取"], ["✖", "fragile"], ["✖", "last"]]
    assert "no \\x1b[2Jflag" in done.stdout or "no flag" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("verb", ["status", "pause", "resume", "cancel", "retry"])
def test_an_unknown_id_is_not_found(main: Main, verb: str) -> None:
    done = main("instance", verb, "ffffffff")
    assert (done.returncode, done.stdout) == (3, "")
    assert "taskengine instance list" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "list --status Nonsense",
        "list --limit 0",
        "list extra",
        "status",
        "status a b",
        "pause x --later",
        "retry x --from a --only b",
        "retry x --from",
        "list --db ftp://x",
        "list --db absent.db",
    ],
)
def test_wrong_use(main: Main, words: str) -> None:
    done = main("instance", *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr


def test_a_run_that_cannot_be_read_is_named_and_the_others_are_listed(main: Main, workflow: Workflow) -> None:
    file = workflow("name: a, job: noop")
    broken, whole = (main("run", file, "-o", "id").stdout.strip() for _ in range(2))
    (runs_folder() / broken / "taskengine.db").write_bytes(b"this is no database" * 100)
    done = main("instance", "list", "-o", "id")
    assert done.stdout.split() == [whole]
    assert f"run {broken} cannot be read" in done.stderr


# changing


def test_a_run_that_was_cut_short_can_be_paused_and_resumed(main: Main, cut_short: str, folder: Path) -> None:
    paused = main("instance", "pause", cut_short, "--now", "--json")
    assert (paused.returncode, paused.data["status"]) == (0, "Paused")
    (folder / "gate").touch()
    assert statuses(main, cut_short)[2] == "Pending"
    resumed = main("instance", "resume", cut_short)
    assert (resumed.returncode, resumed.data) == (0, {"last": {"k": 1}})
    assert statuses(main, cut_short) == ["Success"] * 3


def test_run_resume_also_lifts_a_pause(main: Main, cut_short: str, folder: Path) -> None:
    main("instance", "pause", cut_short, "--now")
    (folder / "gate").touch()
    assert main("run", "--resume").returncode == 0


def test_cancel_ends_it_with_the_reason(main: Main, cut_short: str) -> None:
    done = main("instance", "cancel", cut_short, "--reason", "不要了", "--json")
    assert (done.returncode, done.data["status"], done.data["error_message"]) == (0, "Cancelled", "不要了")
    assert statuses(main, cut_short) == ["Success", "Cancelled", "Cancelled"]
    assert main("run", "--resume", cut_short).returncode == 10, "shows how it ended"


def test_commands_that_the_state_does_not_allow_are_conflicts(main: Main, failed: str) -> None:
    for verb in ("pause", "resume", "cancel"):
        done = main("instance", verb, failed)
        assert (done.returncode, done.stdout) == (5, ""), verb
        assert "Failed" in done.stderr


def test_retry_repeats_what_failed_and_keeps_every_success(main: Main, failed: str, folder: Path) -> None:
    (folder / "flag").touch()
    done = main("instance", "retry", failed, "--json")
    assert (done.returncode, done.data["status"], done.data["run"]) == (0, "Success", 2)
    assert [task["attempt"] for task in done.data["tasks"]] == [1, 2, 1]


def test_retry_from_a_task_repeats_it_and_all_below(main: Main, failed: str, folder: Path) -> None:
    (folder / "flag").touch()
    done = main("instance", "retry", failed, "--from", "获取", "--json")
    assert [task["attempt"] for task in done.data["tasks"]] == [2, 2, 1]
    assert main("instance", "retry", failed, "--only", "last", "--json").data["tasks"][2]["attempt"] == 2


def test_retry_of_a_task_that_is_not_there_is_not_found(main: Main, failed: str) -> None:
    done = main("instance", "retry", failed, "--from", "fragil")
    assert done.returncode == 3
    assert "did you mean `fragile`?" in done.stderr


def test_a_retry_that_fails_again_says_so_by_its_code(main: Main, failed: str) -> None:
    assert main("instance", "retry", failed).returncode == 9


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "retry"])
def test_changing_a_run_in_use_is_refused_with_its_holder(
    main: Main, start: Start, workflow: Workflow, folder: Path, until: Until, verb: str
) -> None:
    process = start("run", workflow("name: held, job: hold, params: {gate: gate}"), *APP)
    until(lambda: (folder / "gate.1").exists())
    (run_id,) = [entry.name for entry in runs_folder().iterdir()]
    done = main("instance", verb, run_id)
    assert (done.returncode, done.stdout) == (5, "")
    assert f"pid {process.pid}" in done.stderr
    (folder / "gate").touch()
    assert process.wait(60) == 0


def test_a_job_file_can_be_replaced_and_is_remembered(main: Main, failed: str, folder: Path) -> None:
    mended = (folder / "jobs.py").read_text().replace("os.path.exists(flag)", "True")
    (folder / "mended.py").write_text(mended)
    (folder / "jobs.py").unlink()
    assert main("instance", "retry", failed).returncode == 2, "its job file is gone"
    assert main("instance", "retry", failed, "--app", "mended.py").returncode == 0
    assert main("instance", "retry", failed, "--only", "fragile").returncode == 0
