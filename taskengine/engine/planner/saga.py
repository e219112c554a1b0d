"""Undoing what an instance has done: in the opposite order, one at a time."""

from typing import Final

import msgspec

from taskengine.clock import Micros
from taskengine.engine.planner.ledger import Ledger
from taskengine.engine.planner.task import Task
from taskengine.model.records import Outcome, Verdict
from taskengine.model.states import InstanceState, Phase, PhaseMove, TaskMove, TaskState

__all__ = ["Saga", "is_owed"]

_OWING: Final = frozenset({TaskState.SUCCESS, TaskState.FAILED, TaskState.TIMED_OUT, TaskState.CANCELLED})
_NOT_UNDONE: Final = "; not undone: "


def is_owed(ledger: Ledger, task: Task) -> bool:
    """Its body has succeeded, whatever became of the task, and its effect is there. What only spreads has none."""
    spec = ledger.cast.specs[task.ordinal]
    return (
        task.body_seq > 0
        and spec.compensation is not None
        and spec.for_each is msgspec.UNSET
        and task.state in _OWING
        and not task.out
    )


class Saga:
    """What is still to be undone; found out when it is asked for first."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._owed: list[Task] | None = None  # the next one last

    def forget(self) -> None:
        """Another run begins, or this one has ended."""
        self._owed = None

    @property
    def asked(self) -> bool:
        """Whether the end that the instance has come to asks for it, and something is to be undone."""
        ledger = self._ledger
        bad = ledger.verdict in (Verdict.FAILED, Verdict.TIMED_OUT)
        wanted = bad or (ledger.verdict is Verdict.CANCELLED and ledger.compensate_asked)
        return wanted and any(is_owed(ledger, task) for task in ledger.tasks)

    def next(self, now_us: Micros) -> Task | None:
        """The task to undo now, which is Compensating from here on: what succeeded last. None: nothing is left."""
        ledger = self._ledger
        if ledger.phase is not Phase.COMP:
            ledger.lift()
            ledger.step(PhaseMove.COMPENSATE, ledger.error)
        if self._owed is None:
            owed = (task for task in ledger.tasks if is_owed(ledger, task))
            self._owed = sorted(owed, key=lambda task: task.body_seq)
        while self._owed:
            task = self._owed.pop()
            if is_owed(ledger, task):
                outcome = Outcome.OK if task.state is TaskState.SUCCESS else Outcome.FAIL
                ledger.keep_attempt(task, outcome, task.finished_us or now_us, None)
                task.tries = task.losses = 0
                task.suspect = False
                ledger.move(task, TaskMove.COMPENSATE, now_us)
                return task
        return None

    def end(self) -> InstanceState:
        """All were undone, or what was not stands in the instance's error."""
        ledger = self._ledger
        failed = [task.ordinal for task in ledger.tasks if task.state is TaskState.COMPENSATION_FAILED]
        ledger.error = ledger.error.partition(_NOT_UNDONE)[0]
        if not failed:
            return InstanceState.COMPENSATED
        ledger.error = f"{ledger.error}{_NOT_UNDONE}{ledger.cast.some_names(failed)}"
        return InstanceState.COMPENSATION_FAILED
