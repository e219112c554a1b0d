"""Waiting for an instance on a server: what is shown meanwhile, how it is left, and how the end is told."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from client.clientworld import CuttingWire

Main = Callable[..., Any]
Upload = Callable[..., str]
Start = Callable[..., "subprocess.Popen[str]"]
Until = Callable[[Callable[[], Any]], Any]
Opened = Callable[..., Any]


@pytest.fixture
def gate(served: Any, request: pytest.FixtureRequest) -> Path:
    """A file that lets the job `hold` end; `<gate>.N` says that attempt N runs."""
    return Path(served.folder / f"gate-{request.node.name.encode().hex()[-40:]}-{os.getpid()}")


@pytest.fixture
def held(main: Main, served: Any, upload: Upload, gate: Path, until: Until) -> str:
    """An instance whose second of three tasks runs until its gate is there; its id."""
    workflow_id = upload(
        "name: 获取, job: noop",
        f"name: held, job: hold, params: {{gate: '{gate}'}}, depends_on: [获取]",
        "name: last, job: noop, params: {k: 1}, depends_on: [held]",
    )
    instance_id: str = main("workflow", "execute", workflow_id, *served.flags).stdout.strip()
    until(Path(f"{gate}.1").exists)
    return instance_id


def interrupt(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("how", ["--wait", "--follow"])
@pytest.mark.parametrize(
    ("tasks", "code", "result"),
    [
        (["name: a, job: noop, params: {k: 1}"], 0, {"a": {"k": 1}}),
        (["name: a, job: fail, params: {message: no}"], 9, {}),
    ],
)
def test_the_exit_code_tells_how_it_ended(
    main: Main, served: Any, upload: Upload, tasks: list[str], code: int, result: Any, how: str
) -> None:
    done = main("workflow", "execute", upload(*tasks), how, *served.flags)
    assert (done.returncode, done.data) == (code, result)


def test_an_instance_that_somebody_cancels_ends_the_watch_with_its_code(
    main: Main, served: Any, held: str, start: Start, until: Until
) -> None:
    watching = start("instance", "watch", held, "--json", *served.flags)
    assert main("instance", "cancel", held, "--reason", "不要了", *served.flags).returncode == 0
    out, err = watching.communicate(timeout=60)
    assert watching.returncode == 10
    detail = json.loads(out)
    assert (detail["status"], detail["error_message"]) == ("Cancelled", "不要了")
    assert "Reason    不要了" in err


def test_a_timeout_leaves_the_instance_alone(main: Main, served: Any, held: str) -> None:
    for words in (["instance", "watch", held], ["workflow", "execute", "{}", "--wait"]):
        if "{}" in words:
            detail = main("instance", "status", held, "--json", *served.flags).data
            words = [detail["workflow_id"] if word == "{}" else word for word in words]
        done = main(*words, "--timeout", "200ms", *served.flags)
        assert (done.returncode, done.stdout) == (8, "")
        assert "did not end within 0.2 s" in done.stderr
    assert main("instance", "status", held, "--json", *served.flags).data["status"] == "Running"
    main("instance", "cancel", held, *served.flags)


def test_following_through_a_pipe_is_a_line_for_each_change(
    main: Main, served: Any, upload: Upload, start: Start
) -> None:
    workflow_id = upload(
        "name: 获取, job: chatty",
        "name: nap, sleep: 300ms, depends_on: [获取]",
        "name: b, job: noop, depends_on: [nap]",
    )
    process = start("workflow", "execute", workflow_id, "--follow", *served.flags)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, '{"b":{}}\n')
    news, _, table = err.partition("Instance  ")
    ends = [line.split()[:3] for line in news.splitlines() if line.startswith("  ✔")]
    assert ends == [["✔", "获取", "Success"], ["✔", "nap", "Success"], ["✔", "b", "Success"]]
    assert "  获取 info    logged \\x1b]0;evil\\x07\n" in news
    assert "Status    Success" in table
    assert "\x1b" not in err


def test_of_many_tasks_each_is_told_once(main: Main, served: Any, upload: Upload) -> None:
    """A snapshot of the stream has but the first thousand."""
    names = [f"t{n}" for n in range(1500)]
    workflow_id = upload(*(f"name: {name}, job: short, params: {{n: 1}}" for name in names))
    done = main("workflow", "execute", workflow_id, "--follow", "-o", "id", *served.flags)
    assert done.returncode == 0
    told = [line.split()[1] for line in done.stderr.partition("Instance  ")[0].splitlines() if line.startswith("  ✔")]
    assert sorted(told) == sorted(names)


def test_what_was_said_before_the_stream_began_is_shown_once(main: Main, served: Any, upload: Upload) -> None:
    lines = "; ".join(f"echo said-{n}" for n in range(30))
    workflow_id = upload(f"name: talk, job: shell_command, params: {{script: '{lines}; sleep 1; echo said-last'}}")
    done = main("workflow", "execute", workflow_id, "--follow", *served.flags)
    said = re.findall(r"said-\w+", done.stderr)
    assert said == [*(f"said-{n}" for n in range(30)), "said-last"]


@pytest.mark.parametrize("seed", range(2))
def test_lines_said_while_the_connection_is_cut_are_shown_once(
    command: Main, served: Any, upload: Upload, seed: int
) -> None:
    chance = Random(seed)
    said = 'for n in $(seq 60); do echo "said-$n"; sleep 0.02; done'
    workflow_id = upload(f"name: talk, job: shell_command, params: {{script: '{said}'}}", "name: b, job: noop")
    # The first two connections are for the command's questions.
    cuts = [100_000, 100_000, *(int(chance.uniform(500, 6000)) for _ in range(8))]
    with closing(CuttingWire(int(served.address.rpartition(":")[2]), iter(cuts))) as wire:
        flags = ("--server", wire.address, "--token-file", served.token_file)
        done = command("workflow", "execute", workflow_id, "--follow", *flags)
    assert (done.returncode, done.data) == (0, {"b": {}, "talk": done.data["talk"]}), done.stderr
    assert wire.connections > 4
    assert re.findall(r"talk stdout +said-(\d+)", done.stderr) == [str(n) for n in range(1, 61)]
    news = done.stderr.partition("Instance  ")[0]
    assert news.rindex("said-60") < done.stderr.index("Instance  "), "every line before the end"


def test_quiet_says_nothing_but_the_result(main: Main, served: Any, upload: Upload) -> None:
    done = main("workflow", "execute", upload("name: a, job: chatty"), "--follow", "--quiet", *served.flags)
    assert (done.returncode, done.data, done.stderr) == (0, {"a": 7}, "")


def test_ctrl_c_detaches_and_says_how_to_watch_again(
    main: Main, served: Any, held: str, start: Start, gate: Path, until: Until
) -> None:
    watching = start("instance", "watch", held, "--logs", *served.flags)
    wait_for_stream(until, served, watching)
    code, out, err = interrupt(watching)
    assert (code, out) == (130, "")
    assert f"Detached; the instance goes on. Watch it again:  taskengine instance watch {held}" in err
    assert f"--server {served.address}" in err
    assert main("instance", "status", held, "--json", *served.flags).data["status"] == "Running"
    gate.touch()
    assert main("instance", "watch", held, *served.flags).data == {"last": {"k": 1}}


@pytest.mark.parametrize("words", ["instance logs {} -f", "workflow execute {} --wait"])
def test_ctrl_c_also_leaves_the_silent_ones(
    main: Main, served: Any, held: str, start: Start, words: str, until: Until, gate: Path
) -> None:
    detail = main("instance", "status", held, "--json", *served.flags).data
    named = detail["workflow_id"] if words.startswith("workflow") else held
    waiting = start(*words.format(named).split(), *served.flags)
    if words.startswith("workflow"):
        until(lambda: len(main("instance", "list", "--workflow", named, "-o", "id", *served.flags).lines) == 2)
    else:
        wait_for_stream(until, served, waiting)
    code, out, err = interrupt(waiting)
    assert (code, out) == (130, "")
    assert "the instance goes on" in err
    gate.touch()


def wait_for_stream(until: Until, served: Any, process: "subprocess.Popen[str]") -> None:
    """Until the process has a connection to the server."""
    port = int(served.address.rpartition(":")[2])
    until(lambda: _sockets(process.pid) & _connected_to(port))


def _sockets(pid: int) -> set[str]:
    """Inodes of the sockets of a process."""
    try:
        links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:  # one was closed just now
        return set()
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def _connected_to(port: int) -> set[str]:
    """Inodes of the open connections to that port of this machine (proc(5))."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[2].endswith(f":{port:04X}") and row[3] == "01"}


def test_lines_of_a_log_come_while_they_are_said(main: Main, served: Any, held: str, start: Start, gate: Path) -> None:
    following = start("instance", "logs", held, "-f", *served.flags)
    gate.touch()
    out, err = following.communicate(timeout=60)
    assert (following.returncode, err) == (0, "")
    assert out == "".join(line + "\n" for line in main("instance", "logs", held, *served.flags).lines)


def test_on_a_terminal_the_table_is_drawn_over_and_ctrl_c_shows_the_cursor(
    terminal: Opened, served: Any, held: str, main: Main, gate: Path
) -> None:
    screen = terminal("instance", "watch", held, *served.flags)
    screen.read_until("● held")
    assert "\x1b[?25l" in screen.screen
    screen.press_ctrl_c()
    assert screen.end() == 130
    assert "Detached" in screen.text
    assert screen.screen.count("\x1b[?25l") == screen.screen.count("\x1b[?25h")
    gate.touch()
    again = terminal("instance", "watch", held, *served.flags, env={"NO_COLOR": "1"})
    assert again.end() == 0
    assert not set(re.findall(r"\x1b\[[0-9;]*m", again.screen)) - {"\x1b[0m"}
    assert "✔ held   Success" in again.text


def test_a_dumb_terminal_gets_lines(terminal: Opened, served: Any, held: str, gate: Path) -> None:
    screen = terminal("instance", "watch", held, *served.flags, env={"TERM": "dumb"})
    gate.touch()
    assert screen.end() == 0
    assert "\x1b" not in screen.screen
    assert "✔ last" in screen.text


def test_a_paused_instance_is_watched_on(
    main: Main, served: Any, held: str, start: Start, gate: Path, until: Until
) -> None:
    """Somebody who pauses it means to resume it; the watch is not over."""
    paused = main("instance", "pause", held, "--now", *served.flags)
    assert paused.returncode == 0
    assert f"taskengine instance resume {held} --server {served.address}" in paused.stderr
    watching = start("instance", "watch", held, *served.flags)
    wait_for_stream(until, served, watching)
    gate.touch()
    assert main("instance", "resume", held, *served.flags).returncode == 0
    out, _ = watching.communicate(timeout=60)
    assert (watching.returncode, json.loads(out)) == (0, {"last": {"k": 1}})


def test_a_run_of_another_process_can_be_watched(
    main: Main, start: Start, folder: Path, workflow: Callable[..., str], until: Until
) -> None:
    file = workflow("name: busy, job: ticking, params: {gate: gate}", "name: last, job: chatty, depends_on: [busy]")
    running = start("run", file, "--app", "jobs.py")
    (run_id,) = until(lambda: main("instance", "list", "--status", "Running", "-o", "id").lines)
    watching = start("instance", "watch", run_id, "--logs")
    assert watching.stderr is not None
    assert "busy info    tick" in watching.stderr.readline(), "while it runs"
    (folder / "gate").touch()
    out, err = watching.communicate(timeout=60)
    assert (watching.returncode, json.loads(out)) == (0, {"last": 7})
    news = err.partition("Instance  ")[0]
    assert "✔ busy" in news
    assert "last info    logged" in news
    assert running.wait(60) == 0


def test_a_run_that_nobody_works_on_is_not_waited_for(
    main: Main, start: Start, folder: Path, workflow: Callable[..., str], until: Until
) -> None:
    running = start("run", workflow("name: held, job: hold, params: {gate: gate}"), "--app", "jobs.py")
    until((folder / "gate.1").exists)
    running.kill()
    running.wait()
    (run_id,) = main("instance", "list", "-o", "id").lines
    done = main("instance", "watch", run_id)
    assert (done.returncode, done.stdout) == (5, "")
    assert f"taskengine run --resume {run_id}" in done.stderr
