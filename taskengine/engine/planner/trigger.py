"""When a task runs, given how its dependencies have ended so far. Pure; the verdict never depends on arrival order."""

from enum import Enum
from typing import Final

from taskengine.model.definition import Trigger
from taskengine.model.states import TASK_BAD, TaskState

__all__ = ["CLEANUP_TRIGGERS", "Settlement", "TriggerVerdict", "judge", "settlement"]


class TriggerVerdict(Enum):
    WAIT = "wait"
    GO = "go"
    BLOCK = "block"
    SKIP = "skip"


class Settlement(Enum):
    """What an ended dependency is to its dependents."""

    OK = "ok"
    BAD = "bad"
    SKIPPED = "skipped"


CLEANUP_TRIGGERS: Final = frozenset({Trigger.ALL_DONE, Trigger.ONE_FAILED})
"""Tasks that still start while an instance drains after a failure."""


def settlement(state: TaskState, *, continue_on_failure: bool) -> Settlement:
    """How a task in a final state counts. A failure that is tolerated by the task itself counts as a success."""
    if state is TaskState.SKIPPED:
        return Settlement.SKIPPED
    if state in TASK_BAD:
        tolerated = continue_on_failure and state in (TaskState.FAILED, TaskState.TIMED_OUT)
        return Settlement.OK if tolerated else Settlement.BAD
    return Settlement.OK


def judge(trigger: Trigger, need: int, ok: int, bad: int, skipped: int) -> TriggerVerdict:
    """The verdict for a task with `need` dependencies, of which so many have ended so (RULES: triggers)."""
    settled = ok + bad + skipped == need
    match trigger:
        case Trigger.ALL_SUCCESS | Trigger.NONE_FAILED:
            return _unless_bad(trigger, settled, need, bad, skipped)
        case Trigger.ALL_DONE:
            return TriggerVerdict.GO if settled else TriggerVerdict.WAIT
        case Trigger.ONE_SUCCESS:
            if ok:
                return TriggerVerdict.GO
            ended = TriggerVerdict.BLOCK if bad else TriggerVerdict.SKIP
        case Trigger.ONE_FAILED:
            if bad:
                return TriggerVerdict.GO
            ended = TriggerVerdict.SKIP
    return ended if settled else TriggerVerdict.WAIT


def _unless_bad(trigger: Trigger, settled: bool, need: int, bad: int, skipped: int) -> TriggerVerdict:
    if bad:
        return TriggerVerdict.BLOCK
    if not settled:
        return TriggerVerdict.WAIT
    skip_at = 1 if trigger is Trigger.ALL_SUCCESS else max(1, need)
    return TriggerVerdict.SKIP if skipped >= skip_at else TriggerVerdict.GO
