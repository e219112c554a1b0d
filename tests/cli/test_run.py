"""`taskengine run` with its two streams: what goes where, in which form, with which exit code."""

import json
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskengine.ambient import Ambient
from taskengine.cli import root
from taskengine.probe import Probe

Command = Callable[..., Any]
Workflow = Callable[..., str]
Start = Callable[..., "subprocess.Popen[str]"]
Until = Callable[[Callable[[], Any]], Any]

APP = ("--app", "jobs.py")
DETAIL_KEYS = [
    "id",
    "workflow_id",
    "workflow_name",
    "version",
    "status",
    "run",
    "progress",
    "params",
    "created_at",
    "started_at",
    "finished_at",
    "duration",
    "error_message",
    "result",
    "tasks",
]
TASK_KEYS = [
    "name",
    "status",
    "job",
    "depends_on",
    "attempt",
    "tries",
    "started_at",
    "finished_at",
    "duration",
    "due_at",
    "reason",
    "waits_for",
    "result",
    "error",
    "attempts",
    "artifact",
]
PROGRESS_KEYS = [
    "total",
    "percent",
    "completed",
    "failed",
    "running",
    "pending",
    "skipped",
    "cancelled",
    "compensation",
    "running_task_ids",
    "pending_task_ids",
]


def runs_folder() -> Path:
    return Path(os.environ["TASKENGINE_HOME"]) / "runs"


# what goes where


def test_stdout_has_the_leaf_results_and_nothing_else(command: Command, workflow: Workflow) -> None:
    file = workflow(
        "name: 获取, job: transform, params: {value: 20}",
        "name: 清洗, job: transform, params: {value: '${{ tasks.获取.result + params.n }}'}, depends_on: [获取]",
        "name: chatty, job: chatty",
        head="params: {n: 1}",
    )
    done = command("run", file, *APP, "-p", "n=22")
    assert (done.returncode, done.stdout) == (0, '{"清洗":42,"chatty":7}\n')
    assert "printed by a job\n" in done.stderr
    assert "written by a job\n" in done.stderr
    assert "✔ 清洗" in done.stderr
    assert "Status    Success        Progress  3/3 (100%)" in done.stderr


def test_without_a_terminal_there_is_no_animation_and_no_colour(command: Command, workflow: Workflow) -> None:
    done = command("run", workflow("name: a, job: noop"), env={"TERM": "xterm-256color"})
    assert "\x1b" not in done.stderr + done.stdout


def test_forced_colour_colours_and_does_not_animate(command: Command, workflow: Workflow) -> None:
    file = workflow("name: a, job: noop")
    coloured = command("run", file, env={"FORCE_COLOR": "1", "TERM": "xterm-256color"}).stderr
    assert "\x1b[32m" in coloured
    assert "\x1b[?25l" not in coloured, "the cursor stays"
    assert "\x1b[" not in command("run", file, env={"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm"}).stderr


def test_nothing_is_cut_when_piped(command: Command, workflow: Workflow) -> None:
    name, message = "n" * 128, "m" * 150
    done = command("run", workflow(f"name: {name}, job: fail, params: {{message: {message}}}"), env={"COLUMNS": "40"})
    assert any(name in line and message in line for line in done.stderr.splitlines())


def test_follow_adds_what_tasks_log(command: Command, workflow: Workflow) -> None:
    file = workflow("name: a, job: chatty")
    assert "logged" not in command("run", file, *APP).stderr
    followed = command("run", file, *APP, "--follow").stderr
    assert "  a info    logged \\x1b]0;evil\\x07\n" in followed
    assert "\x1b" not in followed


def test_quiet_leaves_the_result_alone(command: Command, workflow: Workflow) -> None:
    done = command("run", workflow("name: a, job: noop, params: {k: 1}"), "--quiet")
    assert (done.returncode, done.data, done.stderr) == (0, {"a": {"k": 1}}, "")
    failed = command("run", workflow("name: a, job: fail, params: {message: no}"), "-q", "-o", "id")
    assert (failed.returncode, failed.stderr) == (9, "")


def test_a_retry_is_told_with_its_reason(command: Command, workflow: Workflow) -> None:
    file = workflow("name: a, job: fail, params: {message: boom}, retry: {count: 1, interval: 10ms}")
    done = command("run", file)
    assert done.returncode == 9
    assert "↻ a   Retrying" in done.stderr
    assert "JobError: boom" in done.stderr
    assert "attempt 2/2" in done.stderr
    assert f"taskengine instance retry {next(runs_folder().iterdir()).name}" in done.stderr


# forms


def test_the_detail_has_a_stable_shape(command: Command, workflow: Workflow) -> None:
    file = workflow("name: a, job: noop, params: {x: 1}", "name: b, job: fail, params: {message: 坏}, depends_on: [a]")
    done = command("run", file, "--json")
    assert done.returncode == 9
    assert list(done.data) == DETAIL_KEYS
    assert list(done.data["progress"]) == PROGRESS_KEYS
    assert all(list(task) == TASK_KEYS for task in done.data["tasks"])
    good, bad = done.data["tasks"]
    assert (good["status"], good["result"], good["attempt"], good["error"]) == ("Success", {"x": 1}, 1, None)
    assert good["started_at"].endswith("Z")
    assert good["duration"] >= 0
    assert (bad["status"], bad["error"]["type"], bad["error"]["message"]) == ("Failed", "JobError", "坏")
    assert (done.data["status"], done.data["error_message"]) == ("Failed", "task 'b' failed: JobError: 坏")
    assert done.data["result"] == {}


def test_every_form_of_the_detail(command: Command, workflow: Workflow) -> None:
    file = workflow("name: a, job: noop")
    assert yaml.safe_load(command("run", file, "-o", "yaml").stdout)["status"] == "Success"
    assert json.loads(command("run", file, "-o", "jsonl").stdout)["status"] == "Success"
    assert command("run", file, "-o", "table").stdout.splitlines()[-1].startswith("  ✔ a   Success")
    known = {entry.name for entry in runs_folder().iterdir()}
    new = command("run", file, "-o", "id").stdout.strip()
    assert {entry.name for entry in runs_folder().iterdir()} == known | {new}


def test_an_empty_workflow_succeeds(command: Command, workflow: Workflow) -> None:
    done = command("run", workflow())
    assert (done.returncode, done.stdout) == (0, "{}\n")


def test_a_file_from_stdin(command: Command) -> None:
    done = command("run", "-", stdin="id: x\ntasks: [{name: a, job: noop, params: {k: v}}]\n")
    assert (done.returncode, done.data) == (0, {"a": {"k": "v"}})


# how it can end, and what can be wrong


@pytest.mark.parametrize(
    ("task", "head", "code"),
    [
        ("name: a, job: noop", "", 0),
        ("name: a, job: fail, params: {message: x}", "", 9),
        ("name: a, job: sleep, params: {duration: 60s}", "timeout: 50ms", 9),
        ("name: a, job: hold, params: {gate: never}, timeout: 50ms", "", 9),
    ],
)
def test_the_exit_code_tells_how_it_ended(
    command: Command, workflow: Workflow, task: str, head: str, code: int
) -> None:
    assert command("run", workflow(task, head=head), *APP).returncode == code


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("run", 2, "which file?"),
        ("run flow.yaml extra", 2, "extra"),
        ("run --resume x flow.yaml", 2, "takes no FILE"),
        ("run --resume -p a=1", 2, "-p cannot change them"),
        ("run --resume", 3, "no unfinished run"),
        ("run --resume ffff", 3, "instance list"),
        ("run absent.yaml", 3, "no file absent.yaml"),
        ("run .", 1, "directory"),
        ("run flow.yaml -p", 2, "requires an argument"),
        ("run flow.yaml -p n", 2, "name=value"),
        ("run flow.yaml -p n=abc", 2, "a whole number"),
        ("run flow.yaml -p n=1 -p n=2", 2, "twice"),
        ("run flow.yaml -p m=1", 2, "no parameter `m`"),
        ("run flow.yaml -j 0", 2, "range"),
        ("run flow.yaml -j many", 2, "integer"),
        ("run flow.yaml -o xml", 2, "xml"),
        ("run flow.yaml --log-level loud", 2, "loud"),
        ("run flow.yaml --app absent.py", 2, "no such file"),
        ("run flow.yaml --app broken.py", 2, "broken.py"),
        ("run flow.yaml --db ftp://x", 2, "sqlite"),
        ("run bad.yaml", 4, "did you mean `noop`?"),
    ],
)
def test_wrong_input_is_told_and_nothing_is_made(
    command: Command, workflow: Workflow, folder: Path, words: str, code: int, said: str
) -> None:
    workflow("name: a, job: noop", head="params: {n: {type: integer, default: 1}}")
    workflow("name: a, job: nop", name="bad.yaml")
    (folder / "broken.py").write_text("1 / 0\n")
    done = command(*words.split())
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "geheim" not in done.stderr
    assert not runs_folder().exists()


def test_a_database_server_that_is_away_is_told_without_its_password(command: Command, workflow: Workflow) -> None:
    workflow("name: a, job: noop")
    done = command("run", "flow.yaml", "--db", "postgresql://me:geheim@127.0.0.1:1/x")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: postgresql://me:***@127.0.0.1:1/x: " in done.stderr
    assert "geheim" not in done.stderr
    assert "Traceback" not in done.stderr


def test_bytes_that_are_no_text_are_refused(folder: Path, workflow: Workflow) -> None:
    from sys import executable

    words = [
        executable.encode(),
        b"-m",
        b"taskengine",
        b"run",
        workflow("name: a, job: noop").encode(),
        b"-p",
        b"x=\xff",
    ]
    done = subprocess.run(words, cwd=folder, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert b"Traceback" not in done.stderr


def test_a_data_folder_that_cannot_be_written_is_told(command: Command, workflow: Workflow, folder: Path) -> None:
    (folder / "file").touch()
    done = command("run", workflow("name: a, job: noop"), env={"TASKENGINE_HOME": str(folder / "file")})
    assert done.returncode == 1
    assert "file/runs" in done.stderr or "file:" in done.stderr
    assert "Traceback" not in done.stderr


# the store


def test_each_run_has_a_store_of_its_own_for_nobody_else(command: Command, workflow: Workflow) -> None:
    file = workflow("name: a, job: noop")
    ids = [command("run", file, "-o", "id").stdout.strip() for _ in range(2)]
    assert sorted(entry.name for entry in runs_folder().iterdir()) == ids
    for run_id in ids:
        assert stat.S_IMODE((runs_folder() / run_id).stat().st_mode) == 0o700
        assert stat.S_IMODE((runs_folder() / run_id / "taskengine.db").stat().st_mode) == 0o600


def test_another_store_can_be_named_and_holds_several_instances(command: Command, workflow: Workflow) -> None:
    file = workflow("name: a, job: noop")
    ids = [command("run", file, "--db", "data/own.db", "-o", "id").stdout.strip() for _ in range(2)]
    assert command("instance", "list", "--db", "data/own.db", "-o", "id").stdout.split() == ids[::-1]
    assert command("instance", "status", ids[0], "--json").data["id"] == ids[0]
    assert not (runs_folder() / ids[0] / "taskengine.db").exists()


def test_a_run_in_memory_leaves_nothing(command: Command, workflow: Workflow) -> None:
    done = command("run", workflow("name: a, job: noop"), "--db", "memory://")
    assert done.returncode == 0
    assert not runs_folder().exists()


def test_the_number_of_workers_bounds_what_runs(start: Start, workflow: Workflow, folder: Path, until: Until) -> None:
    tasks = [f"name: t{n}, job: hold, params: {{gate: g{n}}}" for n in range(3)]
    process = start("run", workflow(*tasks), *APP, "-j", "2")
    until(lambda: (folder / "g0.1").exists() and (folder / "g1.1").exists())
    assert not (folder / "g2.1").exists()
    (folder / "g0").touch()
    until(lambda: (folder / "g2.1").exists())
    (folder / "g1").touch()
    (folder / "g2").touch()
    assert process.wait(60) == 0


def test_a_pool_bounds_what_runs_and_is_remembered_for_the_resume(
    command: Command, start: Start, workflow: Workflow, folder: Path, until: Until
) -> None:
    tasks = [f"name: t{n}, job: hold, params: {{gate: g{n}}}, pool: api" for n in range(3)]
    process = start("run", workflow(*tasks), *APP, "--pool", "api=1@100/s", "--pool", "io=2")
    until(lambda: (folder / "g0.1").exists())
    assert not (folder / "g1.1").exists()
    process.kill()
    process.wait()
    (record,) = [json.loads((run / "run.json").read_text()) for run in runs_folder().iterdir()]
    assert record["pools"] == ["api=1@100/s", "io=2"]
    for name in ("g0", "g1", "g2"):
        (folder / name).touch()
    assert command("run", "--resume").returncode == 0


def test_an_unknown_pool_is_told_with_its_place_before_anything_runs(command: Command, workflow: Workflow) -> None:
    file = workflow("name: a, job: noop, pool: apy")
    done = command("run", file, "--pool", "api=5")
    assert done.returncode == 4
    assert "unknown pool `apy`, did you mean `api`? If not, declare it in the configuration" in done.stderr
    assert not runs_folder().exists()
    assert command("validate", file).returncode == 0, "which pools a server has is not known here"
    assert command("run", file, env={"TASKENGINE_EXECUTION__POOLS": "io=5,apy=3@10/s"}).returncode == 0


@pytest.mark.parametrize(
    ("pool", "told"),
    [
        ("api", "`api` is no pool; write it as NAME=SLOTS or NAME=SLOTS@RATE, such as api=5@50/s"),
        ("api=", "`` is no number of slots"),
        ("api=5@", "`` is no rate"),
        ("api=5@5", "`5` is no rate; write it as 50/s, 600/m or 1000/h"),
        ("=5", "the name of the pool is empty"),
    ],
)
def test_a_pool_that_cannot_be_is_a_wrong_use_of_the_command(
    command: Command, workflow: Workflow, pool: str, told: str
) -> None:
    done = command("run", workflow("name: a, job: noop"), "--pool", pool)
    assert done.returncode == 2
    assert told in done.stderr


def test_an_environment_variable_is_weaker_than_the_flag(command: Command, workflow: Workflow) -> None:
    file = workflow("name: a, job: noop")
    env = {"TASKENGINE_EXECUTION__WORKER_CONCURRENCY": "none"}
    assert command("run", file, env=env).returncode == 2
    assert command("run", file, "-j", "3", env=env).returncode == 0
    (record,) = [json.loads((run / "run.json").read_text()) for run in runs_folder().iterdir()]
    assert record["workers"] == 3


# being cut short


def gated(workflow: Workflow) -> str:
    return workflow(
        "name: first, job: noop, params: {k: 1}",
        "name: held, job: hold, params: {gate: gate}, depends_on: [first]",
    )


def test_a_killed_run_goes_on_with_what_it_was_started_with(
    command: Command, start: Start, workflow: Workflow, folder: Path, until: Until
) -> None:
    process = start("run", gated(workflow), *APP, "-j", "1")
    until(lambda: (folder / "gate.1").exists())
    process.kill()
    process.wait()
    (folder / "gate").touch()
    done = command("run", "--resume")
    assert (done.returncode, done.data) == (0, {"held": "passed"})
    (run_id,) = [entry.name for entry in runs_folder().iterdir()]
    first, held = command("instance", "status", run_id, "--json").data["tasks"]
    assert (first["attempt"], held["attempt"]) == (1, 2)
    assert command("run", "--resume").returncode == 3, "nothing is left to resume"
    again = command("run", "--resume", run_id[:14])
    assert (again.returncode, again.data) == (0, {"held": "passed"}), "one that has ended is only shown"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_saves_the_work_and_tells_how_to_go_on(
    command: Command, start: Start, workflow: Workflow, folder: Path, until: Until, number: signal.Signals
) -> None:
    process = start("run", gated(workflow), *APP)
    until(lambda: (folder / "gate.1").exists())
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    (run_id,) = [entry.name for entry in runs_folder().iterdir()]
    assert (process.returncode, out) == (130, "")
    assert f"taskengine run --resume {run_id}" in err
    assert "Traceback" not in err
    held = command("instance", "status", run_id, "--json").data["tasks"][1]
    assert (held["status"], held["tries"]) == ("Ready", 0), "an interruption is not counted"
    (folder / "gate").touch()
    assert command("run", "--resume", run_id).returncode == 0


def test_the_second_signal_leaves_at_once_even_when_a_job_blocks_the_loop(
    command: Command, start: Start, workflow: Workflow, folder: Path, until: Until
) -> None:
    process = start("run", workflow("name: a, job: stubborn, params: {gate: gate}"), *APP)
    until(lambda: (folder / "gate").exists())

    def signalled_until_it_ended() -> bool:
        # More than twice: one that comes while another is being delivered may wake a thread that cannot act on it.
        process.send_signal(signal.SIGINT)
        return process.poll() is not None

    until(signalled_until_it_ended)
    assert process.returncode == 130


def test_a_store_in_use_is_refused_with_its_holder(
    command: Command, start: Start, workflow: Workflow, folder: Path, until: Until
) -> None:
    file = gated(workflow)
    process = start("run", file, *APP, "--db", "one.db")
    until(lambda: (folder / "gate.1").exists())
    done = command("run", file, *APP, "--db", "one.db")
    assert done.returncode == 5
    assert f"pid {process.pid}" in done.stderr
    (folder / "gate").touch()
    assert process.wait(60) == 0


def test_resume_skips_a_run_that_another_process_has(
    command: Command, start: Start, workflow: Workflow, folder: Path, until: Until
) -> None:
    killed = start("run", gated(workflow), *APP)
    until(lambda: (folder / "gate.1").exists())
    killed.kill()
    killed.wait()
    second = workflow("name: held, job: hold, params: {gate: other}", name="second.yaml", id="second")
    alive = start("run", second, *APP)
    until(lambda: (folder / "other.1").exists())
    (folder / "gate").touch()
    assert command("run", "--resume", "--json").data["workflow_id"] == "flow"
    refused = command("run", "--resume")
    assert refused.returncode == 5
    assert f"pid {alive.pid}" in refused.stderr


# in this process


class Watched(Probe):
    """Remembers where the engine has been."""

    __slots__ = ("points",)

    def __init__(self) -> None:
        self.points: list[str] = []

    def reach(self, point: str) -> None:
        self.points.append(point)


def test_a_caller_hands_in_its_own_surroundings(
    workflow: Workflow, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    probe = Watched()
    assert root.main(["run", workflow("name: a, job: noop")], Ambient(probe=probe)) == 0
    assert capfd.readouterr().out == '{"a":{}}\n'
    assert "commit.done" in probe.points


class FailingDisk(Probe):
    """The fourth commit meets a disk that is no more."""

    __slots__ = ("commits",)

    def __init__(self) -> None:
        self.commits = 0

    def reach(self, point: str) -> None:
        self.commits += point == "commit.applied"
        if self.commits == 4 and point == "commit.applied":
            raise OSError(5, "Input/output error")


def test_when_nothing_can_be_saved_any_more_it_ends_and_can_go_on(
    workflow: Workflow, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    tasks = [f"name: t{n}, job: noop" + (f", depends_on: [t{n - 1}]" if n else "") for n in range(8)]
    assert root.main(["run", workflow(*tasks)], Ambient(probe=FailingDisk())) == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert "Input/output error" in said.err
    assert "taskengine run --resume" in said.err
    assert root.main(["run", "--resume"]) == 0
    assert capfd.readouterr().out == '{"t7":{}}\n'


def test_a_run_brings_the_workflows_that_are_its_steps(command: Command, workflow: Workflow) -> None:
    say = workflow("name: say, job: transform, params: {value: '${{ 6 * 7 }}'}", name="child.yaml", id="child")
    parent = workflow("name: step, workflow: child", name="parent.yaml", id="parent")
    done = command("run", parent, "--with", say)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"step": {"say": 42}}


def test_a_run_without_a_step_of_it_says_so_before_anything_starts(command: Command, workflow: Workflow) -> None:
    parent = workflow("name: step, workflow: child", name="parent.yaml", id="parent")
    done = command("run", parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'step' of 'parent' runs the workflow 'child'" in done.stderr
    assert "--with FILE" in done.stderr
    assert "two of the files are the workflow 'parent'" in command("run", parent, "--with", parent).stderr
    assert command("run", "--resume", "--with", parent).returncode == 2
