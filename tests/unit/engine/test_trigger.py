from itertools import product

import pytest
from simulation.oracle import verdict

from taskengine.engine.planner.trigger import Settlement, judge, settlement
from taskengine.model.definition import Trigger
from taskengine.model.states import TASK_BAD, TaskState

WORDS = {"wait": "wait", "go": "run", "block": "block", "skip": "skip"}


@pytest.mark.parametrize("trigger", list(Trigger))
@pytest.mark.parametrize("need", range(5))
def test_the_verdict_is_the_table_for_every_mixture(trigger: Trigger, need: int) -> None:
    for kinds in product(("ok", "bad", "skipped", "open"), repeat=need):
        if not need and trigger in (Trigger.ONE_SUCCESS, Trigger.ONE_FAILED):
            continue  # refused by validation
        found = judge(trigger, need, kinds.count("ok"), kinds.count("bad"), kinds.count("skipped"))
        assert WORDS[found.value] == verdict(trigger, kinds), kinds


@pytest.mark.parametrize("trigger", list(Trigger))
def test_a_verdict_once_given_is_not_changed_by_later_arrivals(trigger: Trigger) -> None:
    for kinds in product(("ok", "bad", "skipped"), repeat=3):
        given = ""
        for arrived in range(4):
            seen = kinds[:arrived]
            now = judge(trigger, 3, seen.count("ok"), seen.count("bad"), seen.count("skipped")).value
            assert given in ("", "wait", now), (trigger, kinds, arrived)
            given = now
        assert given != "wait", "when everything has ended there is a verdict"


@pytest.mark.parametrize("state", sorted(TASK_BAD))
def test_only_its_own_failure_is_tolerated(state: TaskState) -> None:
    assert settlement(state, continue_on_failure=False) is Settlement.BAD
    own = state in (TaskState.FAILED, TaskState.TIMED_OUT)
    assert settlement(state, continue_on_failure=True) is (Settlement.OK if own else Settlement.BAD)
