"""The process is killed at every named moment of the engine, and the next one goes on as if nothing had happened."""

import signal
from collections.abc import Callable
from typing import Any

import pytest
from torture.figures import note

from taskengine.probe import POINTS

# Late enough that much is in flight, early enough that it is sure to come.
WHEN = {
    "start.before_commit": 7,
    "commit.begin": 25,
    "commit.applied": 25,
    "commit.done": 25,
    "commit.acknowledged": 25,
    "grant.accepted": 60,
    "body.before": 60,
    "body.after": 60,
    "settle.before_commit": 50,
    "recovery.loaded": 4,
    "recovery.committed": 4,
}


def kill_at(lives: Any, point: str, times: int) -> None:
    if point.startswith("recovery."):  # there must be something to recover
        assert lives.live("--kill", "body.after:60") == -signal.SIGKILL
    code = lives.live("--kill", f"{point}:{times}")
    assert code == -signal.SIGKILL, f"{point} was not reached {times} times, exit {code}: {lives.said}"


def test_every_point_has_a_moment() -> None:
    assert set(WHEN) == set(POINTS)


def test_a_quiet_life_has_no_faults(make_lives: Callable[..., Any]) -> None:
    lives = make_lives()
    lives.finish()
    assert lives.faults() == []


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_loses_and_repeats_nothing(make_lives: Callable[..., Any], point: str) -> None:
    lives = make_lives(seed=POINTS.index(point))
    kill_at(lives, point, WHEN[point])
    lives.finish()
    assert lives.faults() == []


@pytest.mark.torture
@pytest.mark.parametrize("times", [1, 3, 10])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_another_time_loses_nothing_either(make_lives: Callable[..., Any], point: str, times: int) -> None:
    lives = make_lives(seed=100 * times + POINTS.index(point))
    kill_at(lives, point, times)
    lives.finish()
    assert lives.faults() == []
    figures = {"kills": lives.kills, "instances": lives.instances, "recovery_s": lives.recovery_s}
    note("named points", seed=lives.seed, point=point, times=times, **figures)
