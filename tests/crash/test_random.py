"""Kills at moments that nobody chose: of the driver, and of the command line that people use."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash import checker
from crash.ledger import read_effects
from crash.workload import definition
from torture.figures import note

from taskengine.definition import to_yaml

JOBS = Path(__file__).with_name("jobs.py")
LIMIT_S = 60
KILLED = -signal.SIGKILL
NOTHING_LEFT = 3


def kill_at_random(lives: Any, kills: int, rng: random.Random) -> None:
    """Lives that end by a kill somewhere in their first moments, until there were so many kills."""
    quiet = 0
    while lives.kills < kills:
        if lives.killed_after(rng.uniform(0.25, 0.9)) == 0:
            quiet += 1
            lives.instances += 10  # it got through: more load for the next ones
        assert quiet < kills + 10, "the process is hardly ever hit"


def test_kills_at_random_lose_and_repeat_nothing(make_lives: Callable[..., Any]) -> None:
    lives = make_lives(seed=4711)
    kill_at_random(lives, 5, random.Random(4711))
    lives.finish()
    assert lives.faults() == []


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(10))
def test_ten_kills_at_random_for_each_of_ten_seeds(make_lives: Callable[..., Any], seed: int) -> None:
    lives = make_lives(seed=1000 + seed, instances=30)
    kill_at_random(lives, 10, random.Random(seed))
    lives.finish()
    assert lives.faults() == []
    note("random", seed=seed, kills=lives.kills, instances=lives.instances, recovery_s=lives.recovery_s)


class Runs:
    """`taskengine run`, on one database, with the same ledger of effects."""

    def __init__(self, folder: Path, lives: Any) -> None:
        self.folder, self.lives = folder, lives
        self.database = folder / "engine.db"
        self.kills = 0
        self.recovery_s: list[float] = []

    def command(self, *arguments: str) -> "subprocess.Popen[bytes]":
        line = [sys.executable, "-W", "error", "-m", "taskengine", *arguments]
        options = ["--app", str(JOBS), "--db", str(self.database)]
        return subprocess.Popen(
            [*line, *options],
            env=self.lives.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def until_end_or(self, child: "subprocess.Popen[bytes]", seconds: float) -> int:
        try:
            _, self.said = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            _, self.said = child.communicate()
        self.kills += child.returncode == KILLED
        return child.returncode

    def killed_once_it_works(self, child: "subprocess.Popen[bytes]", seconds: float) -> int:
        """Kill it so long after the first body of this life."""
        began_s, before = time.monotonic(), self.effects()
        while child.poll() is None and self.effects() == before:
            assert time.monotonic() - began_s < LIMIT_S
            time.sleep(0.005)  # another process is being watched, and only its file tells
        self.recovery_s.append(time.monotonic() - began_s)
        return self.until_end_or(child, seconds)

    def effects(self) -> int:
        return len(read_effects(self.folder / "effects.log"))


def run_and_kill(lives: Any, kills: int, seed: int) -> Runs:
    """One workflow by the command line, killed and resumed until there were so many kills or it has ended."""
    runs, rng = Runs(lives.folder, lives), random.Random(seed)
    file = lives.folder / "流程.yaml"
    file.write_text(to_yaml(definition(seed, 0)), encoding="utf-8")
    code = runs.killed_once_it_works(runs.command("run", str(file)), rng.uniform(0.0, 0.1))
    while code == KILLED and runs.kills < kills:
        code = runs.killed_once_it_works(runs.command("run", "--resume"), rng.uniform(0.0, 0.1))
    if code == KILLED:
        code = runs.until_end_or(runs.command("run", "--resume"), LIMIT_S)
    assert code in (0, NOTHING_LEFT), runs.said.decode()  # killed between its end and its exit, it has ended
    return runs


def run_faults(lives: Any, runs: Runs) -> list[str]:
    (kept,), lost = asyncio.run(checker.read(runs.database))
    assert not lost
    assert kept.row.state == "Success"
    effects: dict[tuple[str, str], list[Any]] = {}
    for effect in read_effects(lives.folder / "effects.log"):
        effects.setdefault((effect.instance, effect.task), []).append(effect)
    return list(checker.instance_faults(kept, effects, runs.kills))


@pytest.mark.parametrize("seed", range(2))
def test_a_run_of_the_command_line_survives_kills(make_lives: Callable[..., Any], seed: int) -> None:
    lives = make_lives(seed=seed, instances=1)
    runs = run_and_kill(lives, 3, seed)
    assert runs.kills > 0
    assert run_faults(lives, runs) == []


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(100, 120))
def test_many_runs_of_the_command_line_survive_kills(make_lives: Callable[..., Any], seed: int) -> None:
    lives = make_lives(seed=seed, instances=1)
    runs = run_and_kill(lives, 5, seed)
    assert runs.kills > 0
    assert run_faults(lives, runs) == []
    note("command line", seed=seed, kills=runs.kills, instances=1, recovery_s=runs.recovery_s)
