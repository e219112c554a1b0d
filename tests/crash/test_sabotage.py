"""The checker must be able to go red: here the engine is broken on purpose, in each way that it guards against."""

import signal
from collections.abc import Callable
from typing import Any

import pytest


def after_a_kill(lives: Any, kill: str, *sabotage: str) -> list[str]:
    options = [word for name in sabotage for word in ("--sabotage", name)]
    assert lives.live("--kill", kill, *options) == -signal.SIGKILL, lives.said
    lives.live("--patience", "5", *options)  # what it ends with is the checker's to judge
    found: list[str] = lives.faults()
    return found


def test_an_answer_before_the_commit_is_found_out(make_lives: Callable[..., Any]) -> None:
    found = after_a_kill(make_lives(), "commit.begin:4", "ack_early")
    assert any("acknowledged" in fault or "before its offer was committed" in fault for fault in found), found


def test_a_commit_that_is_not_durable_is_found_out(make_lives: Callable[..., Any]) -> None:
    found = after_a_kill(make_lives(), "commit.acknowledged:12", "forget_last_batch")
    assert any("lost" in fault or "committed" in fault for fault in found), found


def test_a_task_that_starts_before_its_dependency_is_committed_is_found_out(make_lives: Callable[..., Any]) -> None:
    found = after_a_kill(make_lives(), "commit.begin:25", "start_early")
    # Which of the two it is depends on how far the commit behind had come.
    early = ("before the outcome of", "before its offer was committed")
    assert any(word in fault for fault in found for word in early), found


def test_a_success_that_is_forgotten_is_found_out(make_lives: Callable[..., Any]) -> None:
    found = after_a_kill(make_lives(), "body.before:60", "run_again")
    assert any("after its success was committed" in fault for fault in found), found


def test_repeated_messages_are_harmless_behind_the_fence(make_lives: Callable[..., Any]) -> None:
    assert after_a_kill(make_lives(), "body.before:60", "repeat_messages") == []


def test_a_missing_fence_is_found_out(make_lives: Callable[..., Any]) -> None:
    found = after_a_kill(make_lives(), "body.before:60", "repeat_messages", "no_fence")
    assert any("ran more than once" in fault for fault in found), found


@pytest.mark.parametrize("lost", ["engine.db", "effects.log"])
def test_an_empty_run_does_not_pass(make_lives: Callable[..., Any], lost: str) -> None:
    lives = make_lives(instances=4)
    lives.finish()
    if lost == "engine.db":
        assert make_progress_missing(lives)
    else:
        (lives.folder / lost).unlink()
        assert any("bodies ran" in fault for fault in lives.faults())


def make_progress_missing(lives: Any) -> list[str]:
    """As if one more start had been asked for and nothing had come of it."""
    lives.instances += 1
    return [fault for fault in lives.faults() if "no instance for" in fault]
