"""Signals of one instance that nobody has taken, and the tasks that wait for one. Memory only; rebuilt from rows."""

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from taskengine.engine.planner.answers import Answer
from taskengine.engine.planner.task import Task
from taskengine.model.ids import CommandId
from taskengine.model.records import CommandRow, ParkKind
from taskengine.model.states import TaskState

__all__ = ["SIGNAL", "TAKEN", "Inbox", "Kept", "taken_id"]

SIGNAL: Final = "signal"
TAKEN: Final = "taken"
"""Kinds of command rows: a signal came; it was taken."""


class Kept(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a signal, as its row has it, with the signal itself."""

    name: str
    payload: msgspec.Raw
    by: str = ""


_KEPT: Final = msgspec.json.Decoder(Kept)


class Inbox:
    """kept     signals that nobody has taken, by name, the oldest first
    waiting  ordinals by the name that they wait for, the one that has waited longest first; some may wait no more
    """

    def __init__(self) -> None:
        self.kept: dict[str, deque[tuple[CommandId, Kept]]] = {}
        self.waiting: dict[str, deque[int]] = {}

    def read(self, commands: Iterable[CommandRow], tasks: Iterable[Task]) -> None:
        """As the store has it."""
        rows = [row for row in commands if row.kind in (SIGNAL, TAKEN)]
        taken = {row.id for row in rows if row.kind == TAKEN}
        for row in rows:
            if row.kind == SIGNAL and taken_id(row.id) not in taken:
                kept = _KEPT.decode(row.answer)
                self.kept.setdefault(kept.name, deque()).append((row.id, kept))
        waiting = (task for task in tasks if task.state is TaskState.WAITING and task.park is ParkKind.SIGNAL)
        for task in sorted(waiting, key=lambda task: (task.started_us or 0, task.ordinal)):
            self.wait(task)

    def wait(self, task: Task) -> None:
        """It waits from now on."""
        self.waiting.setdefault(task.key, deque()).append(task.ordinal)

    @property
    def size(self) -> int:
        return sum(map(len, self.kept.values()))


def taken_id(signal_id: CommandId) -> CommandId:
    return CommandId(f"{signal_id}/taken")
