"""`taskengine run` on a terminal: the live table, Ctrl-C, and a graph that is larger than the screen."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.cells import cell_len

Workflow = Callable[..., str]
Opened = Callable[..., Any]

APP = ("--app", "jobs.py")
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def test_the_table_is_drawn_over_and_the_last_one_stays(terminal: Opened, workflow: Workflow, folder: Path) -> None:
    screen = terminal(
        "run",
        workflow("name: 获取, job: noop", "name: held, job: hold, params: {gate: gate}, depends_on: [获取]"),
        *APP,
    )
    screen.read_until("● held   Running")
    assert HIDE_CURSOR in screen.screen
    (folder / "gate").touch()
    assert screen.end() == 0
    assert screen.screen.count(HIDE_CURSOR) == screen.screen.count(SHOW_CURSOR)
    last = screen.text[screen.text.rindex("Instance  ") :].splitlines()
    assert re.fullmatch(r"Status    Success        Progress  2/2 \(100%\)   Elapsed 00:00:\d\d", last[1])
    assert [line.split()[:3] for line in last[2:4]] == [["✔", "获取", "Success"], ["✔", "held", "Success"]]
    assert json.loads("\n".join(last[4:])) == {"held": "passed"}
    assert last[4] == "{", "indented on a terminal"


def test_prints_and_logs_of_jobs_come_out_above_the_table(terminal: Opened, workflow: Workflow) -> None:
    screen = terminal("run", workflow("name: a, job: chatty"), *APP, "--follow")
    assert screen.end() == 0
    assert "printed by a job\n" in screen.text
    assert "logged \\x1b]0;evil\\x07" in screen.text
    assert "\x1b]0;" not in screen.screen


def test_no_colour_on_a_terminal_means_none(terminal: Opened, workflow: Workflow) -> None:
    file = workflow("name: a, job: noop")
    colour = re.compile(r"\x1b\[[0-9;]*m")
    coloured, plain = terminal("run", file), terminal("run", file, env={"NO_COLOR": "1"})
    assert (coloured.end(), plain.end()) == (0, 0)
    assert "\x1b[32m" in coloured.screen
    assert set(colour.findall(plain.screen)) <= {"\x1b[0m"}


def test_a_dumb_terminal_gets_plain_lines(terminal: Opened, workflow: Workflow) -> None:
    screen = terminal("run", workflow("name: a, job: noop"), env={"TERM": "dumb"})
    assert screen.end() == 0
    assert "\x1b" not in screen.screen
    assert "✔ a   Success" in screen.screen


def test_ctrl_c_saves_the_work_and_shows_the_cursor_again(terminal: Opened, workflow: Workflow, folder: Path) -> None:
    screen = terminal("run", workflow("name: held, job: hold, params: {gate: gate}"), *APP)
    screen.read_until("● held")
    screen.press_ctrl_c()
    assert screen.end() == 130
    assert screen.screen.count(HIDE_CURSOR) == screen.screen.count(SHOW_CURSOR)
    assert "○ held" in screen.text[screen.text.rindex("Instance  ") :]
    (folder / "gate").touch()
    resumed = terminal("run", "--resume")
    assert resumed.end() == 0
    # Which number depends on whether the next attempt had been offered when the process left.
    assert re.search(r"✔ held   Success +\S+   attempt [23]", resumed.text)


def test_ctrl_c_twice_leaves_at_once_with_the_cursor_shown(
    terminal: Opened, workflow: Workflow, folder: Path, until: Callable[[Callable[[], Any]], Any]
) -> None:
    screen = terminal("run", workflow("name: a, job: stubborn, params: {gate: gate}"), *APP)
    until((folder / "gate").exists)

    def pressed_until_it_ended() -> bool:
        # More than twice, since two that come at the same moment are one to the process.
        screen.press_ctrl_c()
        return screen.process.poll() is not None

    until(pressed_until_it_ended)
    assert screen.end() == 130
    assert screen.screen.rstrip("\r\n^C").endswith(SHOW_CURSOR)


def test_a_graph_of_5000_tasks_stays_on_the_screen_and_moves(terminal: Opened, workflow: Workflow) -> None:
    tasks = [
        f"name: t{n}, job: short, params: {{n: {n}}}" + (f", depends_on: [t{n - 500}]" if n >= 500 else "")
        for n in range(5000)
    ]
    screen = terminal(
        "run",
        workflow(*tasks),
        *APP,
        "-o",
        "id",
        "--log-level",
        "error",
        rows=20,
        columns=60,
        env={"LINES": "50", "COLUMNS": "99"},
    )
    assert screen.end() == 0
    frames = screen.text.split("Instance  ")[1:]
    assert len(frames) >= 5, "it was drawn while it ran"
    tall = [frame for frame in frames[:-1] if len(frame.rstrip("\n").splitlines()) >= 20]
    assert not tall, tall[0]
    assert max(cell_len(line) for frame in frames[:-1] for line in frame.splitlines()[1:]) <= 60
    counts = [int(found[1]) for frame in frames if (found := re.search(r"Progress  (\d+)/5000", frame))]
    assert counts == sorted(counts)
    assert counts[-1] == 5000
    assert "5,000 ✔" in frames[-1]


def test_a_narrow_window_shows_workflow_and_time(terminal: Opened, workflow: Workflow) -> None:
    file = workflow("name: 获取数据, job: noop", "name: long-enough-to-be-cut, job: noop", id="daily-synchronisation")
    screen = terminal("run", file, columns=50)
    assert screen.end() == 0
    last = screen.text[screen.text.rindex("Instance  ") :].splitlines()
    assert last[1].startswith("Workflow  daily-synchronisation (v ")
    assert re.fullmatch(r"Status    Success +", last[2])
    assert re.fullmatch(r"Progress  2/2 \(100%\)   Elapsed 00:00:\d\d", last[3])
    assert all(cell_len(line) <= 50 for line in last[:6])


def test_in_a_pipe_the_columns_of_news_stand_below_each_other(command: Callable[..., Any], workflow: Workflow) -> None:
    """The longest name has room from the first line on, up to a limit; a longer one is told whole."""
    names = ["a", "获取数据", "lift-off", "x" * 39, "名" * 30]
    tasks = [
        f"name: {name}, job: noop, depends_on: [{before}]"
        for before, name in zip(["", *names[:-1]], names, strict=True)
    ]
    done = command("run", workflow(*tasks))
    news = done.stderr.partition("Instance  ")[0].splitlines()
    assert [line.split()[1] for line in news] == names
    assert [cell_len(line.partition("Success")[0]) for line in news] == [4 + 40 + 3] * 4 + [4 + 60 + 3]
