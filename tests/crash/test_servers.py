"""The kill tests on database servers: the process dies, the server lives on and may still be at work for it."""

import random
import signal
from collections.abc import Callable
from typing import Any

import pytest
from crash.test_points import WHEN, kill_at
from crash.test_random import kill_at_random
from databases.fixtures import every_server
from databases.servers import wipe
from torture.figures import note

from taskengine.probe import POINTS

pytestmark = every_server

SOME = ("commit.begin", "commit.applied", "commit.done", "settle.before_commit", "recovery.committed")


@pytest.mark.parametrize("point", SOME)
def test_a_kill_loses_and_repeats_nothing(make_lives: Callable[..., Any], dsn: str, point: str) -> None:
    lives = make_lives(seed=POINTS.index(point), dsn=dsn)
    kill_at(lives, point, WHEN[point])
    lives.finish()
    assert lives.faults() == []


def test_kills_at_random_lose_and_repeat_nothing(make_lives: Callable[..., Any], dsn: str) -> None:
    lives = make_lives(seed=4711, dsn=dsn)
    kill_at_random(lives, 5, random.Random(4711))
    lives.finish()
    assert lives.faults() == []


def test_an_answer_before_the_commit_is_found_out(make_lives: Callable[..., Any], dsn: str) -> None:
    lives = make_lives(dsn=dsn)
    assert lives.live("--kill", "commit.begin:4", "--sabotage", "ack_early") == -signal.SIGKILL, lives.said
    lives.live("--patience", "5")
    assert lives.faults()


@pytest.mark.torture
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_time_loses_nothing(make_lives: Callable[..., Any], dsn: str, point: str) -> None:
    for times in (1, 3, 10):
        wipe(dsn)
        lives = make_lives(seed=100 * times + POINTS.index(point), dsn=dsn)
        kill_at(lives, point, times)
        lives.finish()
        assert lives.faults() == []


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(5))
def test_ten_kills_at_random_for_each_of_five_seeds(make_lives: Callable[..., Any], dsn: str, seed: int) -> None:
    lives = make_lives(seed=2000 + seed, instances=30, dsn=dsn)
    kill_at_random(lives, 10, random.Random(seed))
    lives.finish()
    assert lives.faults() == []
    note("random, server", seed=seed, kills=lives.kills, instances=lives.instances, recovery_s=lives.recovery_s)
