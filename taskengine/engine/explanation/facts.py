"""What an explanation is made from: committed rows, and how they hang together."""

from collections.abc import Mapping
from typing import Final

import msgspec

from taskengine.engine.planner.trigger import TriggerVerdict
from taskengine.model.definition import TaskSpec
from taskengine.model.progress import Progress
from taskengine.model.records import InstanceRow, TaskFailure, TaskRow
from taskengine.model.states import TaskState

__all__ = ["MOST_NAMED", "NO_TRAIL", "InstanceFacts", "Seen", "TaskFacts", "Trail"]

MOST_NAMED: Final = 20
"""Tasks that one explanation names."""

_FAILURE: Final = msgspec.json.Decoder(TaskFailure)


class Seen(msgspec.Struct, frozen=True):
    """One task: its row, which for an untouched one is as if it were Pending, and its definition."""

    row: TaskRow
    spec: TaskSpec

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def state(self) -> TaskState:
        return self.row.state

    @property
    def failure(self) -> TaskFailure | None:
        return _FAILURE.decode(self.row.error) if isinstance(self.row.error, bytes) else None


class Trail(msgspec.Struct, frozen=True, kw_only=True):
    """Dependencies that have to do with it, and where that begins.

    near     of the task itself, the first of them
    roots    further up, in which it begins: they wait for no other one, or failed by themselves; the first of them
    count    of `near`, all of them
    more     of both, how many are left out
    cut      there are too many tasks above: they were not all looked at
    """

    near: tuple[Seen, ...] = ()
    roots: tuple[Seen, ...] = ()
    count: int = 0
    more: int = 0
    cut: bool = False


NO_TRAIL: Final = Trail()


class TaskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One task and what bears on it.

    parent      of a sub-task
    verdict     what its trigger says of its dependencies
    trail       of a task that never began
    at_once     how many tasks of the instance may be under way at the same time; None: any number
    sub_tasks   how many are in each state
    companions  the first of its sub-tasks that are open, or by which it failed; of what is under way while it waits for
                a place; of what failed before it was stopped
    """

    instance: InstanceRow
    task: Seen
    parent: Seen | None = None
    verdict: TriggerVerdict = TriggerVerdict.GO
    trail: Trail = NO_TRAIL
    at_once: int | None = None
    sub_tasks: Mapping[TaskState, int] = {}
    companions: tuple[Seen, ...] = ()


class InstanceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An instance and the tasks that it stands with.

    tasks  that have to do with how it stands, the first of them
    total  of these, all of them
    note   what was said when it was last changed
    """

    instance: InstanceRow
    progress: Progress
    tasks: tuple[Seen, ...] = ()
    total: int = 0
    note: str = ""
