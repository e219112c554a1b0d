"""Promises beside the kill points: one process per file, the culprit is found, versions stay, recovery is quick."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash import checker
from crash.ledger import read_effects
from crash.scenes import CULPRIT_AT, FORKED_ITEMS, INNOCENTS

from taskengine.model.states import InstanceState, TaskState

SCENES = Path(__file__).with_name("scenes.py")
FATAL_EXIT = 66
MAX_RECOVERIES = 5  # the engine's own default


def play(lives: Any, scene: str, kill: str = "") -> int:
    line = [sys.executable, "-W", "error", str(SCENES), str(lives.folder), scene, kill]
    done = subprocess.run(line, env=lives.environment, capture_output=True, text=True, timeout=90, check=False)
    lives.said = done.stderr
    return done.returncode


def kept(lives: Any) -> list[Any]:
    kept, lost = asyncio.run(checker.read(lives.dsn))
    assert not lost
    return kept


def test_only_the_instance_that_kills_the_process_is_quarantined(make_lives: Callable[..., Any]) -> None:
    lives = make_lives()
    codes = []
    while not codes or codes[-1] == FATAL_EXIT:
        codes.append(play(lives, "culprit"))
        assert len(codes) < 4 * MAX_RECOVERIES, codes
    assert codes[-1] == 0, lives.said
    by_key = {it.row.idempotency_key: it for it in kept(lives)}
    states = {key: it.row.state for key, it in by_key.items()}
    assert states.pop(str(CULPRIT_AT)) is InstanceState.QUARANTINED
    assert list(states.values()) == [InstanceState.SUCCESS] * INNOCENTS
    deaths = sum(effect.task == "fatal" for effect in read_effects(lives.folder / "effects.log"))
    assert MAX_RECOVERIES <= deaths <= MAX_RECOVERIES + 1, "one more when its Running row was not committed in time"
    faults = [
        fault for key in states for fault in checker.instance_faults(by_key[key], _by_task(lives), kills=len(codes) - 1)
    ]
    assert faults == []


def _by_task(lives: Any) -> dict[tuple[str, str], list[Any]]:
    found: dict[tuple[str, str], list[Any]] = {}
    for effect in read_effects(lives.folder / "effects.log"):
        found.setdefault((effect.instance, effect.task), []).append(effect)
    return found


def test_a_running_instance_keeps_its_definition(make_lives: Callable[..., Any]) -> None:
    lives = make_lives()
    assert play(lives, "first_version", "body.after:1") == -signal.SIGKILL
    assert play(lives, "second_version") == 0, lives.said
    old, new = kept(lives)
    assert (old.row.idempotency_key, new.row.idempotency_key) == ("old", "new")
    assert old.row.version != new.row.version
    assert [old.tasks["c"].result, new.tasks["c"].result] == [b"3", b"300"]


def test_a_body_that_died_asleep_waits_only_for_the_rest(make_lives: Callable[..., Any]) -> None:
    lives = make_lives()
    assert play(lives, "nap") == -signal.SIGKILL
    assert play(lives, "nap") == 0, lives.said
    lines = [json.loads(line) for line in (lives.folder / "effects.log").read_text("utf-8").splitlines()]
    assert [(line["attempt"], line["number"]) for line in lines] == [(1, 1), (2, 1), (2, 2)]
    first, again, rest = lines
    assert again["ended"] - again["begun"] < 1, "the first sleep was over long ago"
    assert rest["ended"] - rest["begun"] < 1.5, "a second of the other one had passed when the process died"
    assert rest["ended"] >= first["ended"] + 2 - 0.05, "and it is no shorter than it was to be"


@pytest.mark.parametrize(
    ("point", "there"),
    [("start.before_commit", False), ("commit.begin", False), ("commit.applied", False), ("commit.done", True)],
)
def test_a_kill_leaves_a_whole_fork_or_none(make_lives: Callable[..., Any], point: str, there: bool) -> None:
    lives = make_lives()
    assert play(lives, "fork", "body.before:42") == -signal.SIGKILL, "of the source: its last task"
    assert play(lives, "fork", f"{point}:1") == -signal.SIGKILL
    by_key = {it.row.idempotency_key: it for it in kept(lives)}
    assert set(by_key) == ({"source", "fork"} if there else {"source"})
    assert by_key["source"].row.state is InstanceState.SUCCESS
    taken = {"a", "每", *(f"每/{number}" for number in range(FORKED_ITEMS))}
    if there:
        ended = {name for name, task in by_key["fork"].tasks.items() if task.state is TaskState.SUCCESS}
        assert ended == taken
    assert play(lives, "fork") == 0, lives.said
    by_key = {it.row.idempotency_key: it for it in kept(lives)}
    assert set(by_key) == {"source", "fork"}
    source, fork = (
        {name: (task.state, task.result) for name, task in by_key[key].tasks.items()} for key in ("source", "fork")
    )
    assert fork == source
    ran = {
        effect.task for effect in read_effects(lives.folder / "effects.log") if effect.instance == by_key["fork"].row.id
    }
    assert ran == {"last"}


def test_a_second_process_is_told_who_has_the_file(make_lives: Callable[..., Any]) -> None:
    lives = make_lives(instances=40)
    first = lives.begin()
    try:
        while lives.effects() < 5:  # a look at a file, not a wait: the first process is at work then
            assert first.poll() is None
        code = lives.live()
        assert code == 2
        assert lives.said.startswith("store_locked: ")
        assert f"pid {first.pid}" in lives.said
        assert first.poll() is None, "the first one was disturbed"
    finally:
        first.kill()
        first.communicate()
    lives.kills += 1
    lives.finish()
    assert lives.faults() == []
