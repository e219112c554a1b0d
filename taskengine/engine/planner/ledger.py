"""The planner's memory of one instance: its rows as objects, the counters over them, and what is not saved yet.

The ledger knows facts and makes moves; what should happen next is decided in `plan.py`. Counters are never stored:
they are rebuilt from the rows in one pass and kept by increments. Everything that differs from the last decision is
collected in a dirty set, and `cut` writes it as one `Decision`: a move cannot forget a column.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Final

import msgspec

from taskengine.clock import Micros
from taskengine.engine.planner.cast import TOP, Cast
from taskengine.engine.planner.shape import Shape
from taskengine.engine.planner.task import Task, encode_failure
from taskengine.engine.planner.trigger import Settlement, settlement
from taskengine.model.added import Added, decode_added
from taskengine.model.definition import TaskSpec
from taskengine.model.events import EventBody, Transition
from taskengine.model.ids import CommandId, InstanceId, Ordinal
from taskengine.model.progress import Progress
from taskengine.model.records import (
    AttemptRow,
    CommandRow,
    Decision,
    EventRow,
    InstanceChange,
    InstanceGuard,
    InstanceRow,
    Outcome,
    ParkKind,
    TaskChange,
    TaskFailure,
    TaskGuard,
    TaskRow,
    Verdict,
)
from taskengine.model.states import (
    BUCKETS,
    TASK_EDGES,
    TASK_FINAL,
    Bucket,
    Hold,
    InstanceState,
    Phase,
    PhaseMove,
    TaskMove,
    TaskState,
    public_state,
    step_phase,
    step_task,
)

__all__ = ["Ledger"]

_BUCKET_INDEX: Final = {state: list(Bucket).index(bucket) for state, bucket in BUCKETS.items()}
_PENDING_INDEX: Final = _BUCKET_INDEX[TaskState.PENDING]
_RUNNING_INDEX: Final = _BUCKET_INDEX[TaskState.RUNNING]
_OUT: Final = -1
_MOVES: Final[dict[TaskMove, dict[TaskState, TaskState]]] = {
    wanted: {state: after for (state, move), after in TASK_EDGES.items() if move is wanted} for wanted in TaskMove
}
_WORDS: Final = {move: move.value for move in TaskMove}


class Ledger:
    """All of one instance. Not thread-safe; its actor is the only user.

    urgent     something has changed that somebody waits for
    lingering  tasks whose dispatch is not in a decision yet. Their right to run is committed, so nobody waits for
               their rows; most end before one is written, and the two moves become one row. Until then committed
               progress counts them as pending.
    """

    def __init__(self, shape: Shape, row: InstanceRow, *, last_seq: int = 0) -> None:
        self.shape = shape
        self.row = row
        self.id: InstanceId = row.id
        self.run = row.run
        self.phase = row.phase
        self.hold = row.hold
        self.verdict = row.verdict
        self.final: InstanceState | None = row.final
        self.hard = row.hard
        self.compensate_asked = row.compensate_asked
        self.deadline_us = row.deadline_us
        self.deadline_left_us = row.deadline_left_us
        self.started_us = row.started_us
        self.finished_us = row.finished_us
        self.error = row.error
        self.cast = Cast(shape)
        self.tasks: list[Task] = [Task(ordinal) for ordinal in range(len(shape.names))]
        self.counts = [0] * len(Bucket)
        self.counts[_PENDING_INDEX] = len(self.tasks)
        self.active = 0  # offered or with a slot
        self.open = len(self.tasks)
        self.next_body_seq = 1
        self.seq = last_seq
        self.answers: dict[CommandId, bytes] = {}
        self._saved: InstanceGuard | None = InstanceGuard(row.phase, row.hold, row.run) if last_seq else None
        self._dirty: dict[int, Task] = {}
        self._row_dirty = False
        self._transitions: list[Transition] = []
        self._attempts: list[AttemptRow] = []
        self._commands: list[CommandRow] = []
        self._event_reason = ""
        self._told = (self.state, self.run) if last_seq else None
        self.urgent = False
        self.lingering: dict[int, Task] = {}

    # -- reading back ------------------------------------------------------------------------------------------

    def restore(self, rows: Iterable[TaskRow], commands: Iterable[CommandRow] = ()) -> None:
        """Take over what the store has, and rebuild every counter in one pass."""
        rows = list(rows)
        for row in rows:
            if row.spec is not None:
                self._restore_added(row, row.spec)
            self._restore_task(self.tasks[row.ordinal], row)
        for ordinal in range(self.cast.defined, len(self.tasks)):
            if not self.tasks[ordinal].out:
                self.cast.tie(ordinal, self.needs_of(self.tasks[ordinal].parent, self.cast.specs[ordinal]))
        for command in commands:
            self.answers[command.id] = command.answer
        self.recount()

    def take_over(self, rows: Iterable[TaskRow]) -> None:
        """As `restore`, but none of the rows is saved yet: with their results they go into the first decision."""
        rows = list(rows)
        if not rows:
            return
        self.restore(rows)
        for row in rows:
            task = self.tasks[row.ordinal]
            task.saved = None
            task.result, task.error = row.result, row.error
            self.touch(task)

    def _restore_added(self, row: TaskRow, source: bytes) -> None:
        added = decode_added(source)
        spec = self.cast.spec_of(added, row.parent)
        ordinal = self.cast.add(added.name, spec, source, row.parent, out=row.added_by < 0)
        assert ordinal == row.ordinal, "added tasks have a row each, from the last ordinal of the definition on"
        task = Task(ordinal)
        task.parent, task.added_by = row.parent, row.added_by
        self.tasks.append(task)

    def needs_of(self, parent: int, spec: TaskSpec) -> list[int]:
        """What an added task depends on. All of it is there."""
        cast = self.cast
        return [cast.ordinals[cast.full_name(parent, name)] for name in dict.fromkeys(spec.depends_on)]

    def _restore_task(self, task: Task, row: TaskRow) -> None:
        task.state, task.attempt, task.tries, task.begun = row.state, row.attempt, row.tries, row.begun
        task.due_us, task.park, task.key = row.due_us, row.park, row.key
        task.body_seq, task.losses, task.suspect = row.body_seq, row.losses, row.suspect
        task.reason, task.started_us, task.finished_us = row.reason, row.started_us, row.finished_us
        task.saved = TaskGuard(row.state, row.attempt)

    def recount(self) -> None:
        """Every counter anew from the tasks' own facts; linear in tasks and edges."""
        self.counts = [0] * len(Bucket)
        self.active = self.open = 0
        for task in self.tasks:
            task.ok = task.bad = task.skipped = task.failed = 0
        for family in self.cast.families.values():
            family.open = family.active = 0
            family.held.clear()
        for task in self.tasks:
            if task.out:
                continue
            self.counts[_BUCKET_INDEX[task.state]] += 1
            self.active += task.slot
            self.next_body_seq = max(self.next_body_seq, task.body_seq + 1)
            if task.settled:
                for dependent in self.dependents(task):
                    self.note_dependency(dependent, task)
            else:
                self.open += 1
            if task.parent != TOP:
                family = self.cast.families[task.parent]
                family.open += not task.settled
                family.active += task.slot

    # -- facts -------------------------------------------------------------------------------------------------

    @property
    def state(self) -> InstanceState:
        return public_state(self.phase, self.hold, self.final)

    @property
    def progress(self) -> Progress:
        return Progress.of(self.counts)

    def above(self, ordinal: int) -> Iterator[int]:
        """Its parent, the parent of that, and so on."""
        while (ordinal := self.tasks[ordinal].parent) != TOP:
            yield ordinal

    def dependents(self, task: Task) -> Sequence[int]:
        return self.cast.dependents[task.ordinal]

    def note_dependency(self, ordinal: int, ended: Task) -> Task:
        """Count an ended dependency at one of its dependents; gives the dependent back."""
        task = self.tasks[ordinal]
        match settlement(ended.state, continue_on_failure=self.cast.specs[ended.ordinal].continue_on_failure):
            case Settlement.OK:
                task.ok += 1
            case Settlement.SKIPPED:
                task.skipped += 1
            case Settlement.BAD:
                task.bad += 1
                task.failed += ended.state is not TaskState.CANCELLED
        return task

    @property
    def dirty_rows(self) -> int:
        return len(self._dirty) + len(self._attempts)

    # -- moves -------------------------------------------------------------------------------------------------

    def move(self, task: Task, move: TaskMove, now_us: Micros, reason: str = "") -> None:
        """Make a task's move: state, counters, times, the event's line. Raises IllegalMove, then nothing changed."""
        before = task.state
        after = _MOVES[move].get(before) or step_task(before, move)
        task.state = after
        task.reason = reason or _WORDS[move]
        self.counts[_BUCKET_INDEX[before]] -= 1
        self.counts[_BUCKET_INDEX[after]] += 1
        was_final, is_final = before in TASK_FINAL, after in TASK_FINAL
        if is_final:
            task.finished_us = now_us
            task.due_us = None
            task.park, task.key = ParkKind.NONE, ""
        elif was_final:
            task.finished_us = None
        if is_final is not was_final:
            self._count_open(task, 1 if was_final else -1)
        if move is TaskMove.DISPATCH:
            self.lingering[task.ordinal] = task
            return
        if task.ordinal in self.lingering:
            self.write_dispatch(task)
        self._dirty[task.ordinal] = task
        self.urgent = True
        self._tell(task, move, reason)

    def _count_open(self, task: Task, change: int) -> None:
        self.open += change
        if task.parent != TOP:
            self.cast.families[task.parent].open += change

    def add(self, added: Added, source: bytes, parent: int, attempt: int) -> Task:
        """A task that nobody had defined; what it depends on is there.

        attempt  of the parent, that adds it; 0: it comes from outside
        """
        spec = self.cast.spec_of(added, parent)
        needs = self.needs_of(parent, spec)
        task = Task(self.cast.add(added.name, spec, source, parent))
        self.cast.tie(task.ordinal, needs)
        task.parent, task.added_by = parent, attempt
        self.tasks.append(task)
        self.counts[_PENDING_INDEX] += 1
        self._count_open(task, 1)
        for need in needs:
            if self.tasks[need].settled:
                self.note_dependency(task.ordinal, self.tasks[need])
        self.touch(task)
        return task

    def replace(self, task: Task, added: Added, source: bytes, attempt: int) -> None:
        """An earlier attempt of the parent has added a task of this name, which has not begun."""
        if self.cast.sources[task.ordinal] != source:
            spec = self.cast.spec_of(added, task.parent)
            self.cast.rewire(task.ordinal, spec, source, self.needs_of(task.parent, spec))
        task.added_by = attempt
        self.touch(task)

    def drop(self, parent: int, ordinals: Set[int]) -> None:
        """These sub-tasks of one parent are out, with all below: no attempt that counts has added them. Rows stay."""
        for ordinal in ordinals:
            if below := set(self.cast.members(ordinal)):
                self.drop(ordinal, below)
            task = self.tasks[ordinal]
            self.counts[_BUCKET_INDEX[task.state]] -= 1
            if not task.settled:
                self._count_open(task, -1)
            task.state, task.reason, task.added_by = TaskState.CANCELLED, "replaced", _OUT
            task.due_us, task.park, task.key, task.queued = None, ParkKind.NONE, "", False
            task.ok = task.bad = task.skipped = task.failed = 0
            self.touch(task)
        self.cast.leave(parent, ordinals)

    def write_dispatch(self, task: Task) -> None:
        """Its dispatch goes into the next decision."""
        del self.lingering[task.ordinal]
        self._dirty[task.ordinal] = task
        self._tell(task, TaskMove.DISPATCH, "")
        self.urgent = True

    def _tell(self, task: Task, move: TaskMove, reason: str) -> None:
        state = TaskState.RUNNING if move is TaskMove.DISPATCH else task.state
        self._transitions.append(
            Transition(Ordinal(task.ordinal), self.cast.names[task.ordinal], move, state, task.attempt, reason)
        )

    def touch(self, task: Task) -> None:
        """The task's row must be written with the next decision."""
        self._dirty[task.ordinal] = task
        self.urgent = True

    def keep_attempt(self, task: Task, outcome: Outcome, now_us: Micros, failure: TaskFailure | None) -> None:
        """The current attempt will be followed by another one: give it a row of its own, once."""
        if task.started_us is None:
            return
        self._attempts.append(
            AttemptRow(
                ordinal=Ordinal(task.ordinal),
                attempt=task.attempt,
                run=self.run,
                outcome=outcome,
                started_us=task.started_us,
                finished_us=now_us,
                error=None if failure is None else encode_failure(failure),
            )
        )
        task.started_us = None

    def step(self, move: PhaseMove, reason: str = "") -> None:
        """Make the instance's move."""
        self.phase = step_phase(self.phase, move)
        self.touch_instance(reason)

    def touch_instance(self, reason: str = "") -> None:
        """The instance's row must be written with the next decision."""
        self._row_dirty = self.urgent = True
        self._event_reason = reason or self._event_reason

    def lift(self) -> None:
        """No pause and no deadline hold any more."""
        self.hold = Hold.NONE
        self.deadline_us = self.deadline_left_us = None

    def give_verdict(self, verdict: Verdict, error: str) -> None:
        """The first reason to end wins."""
        if self.verdict is Verdict.NONE:
            self.verdict, self.error = verdict, error
            self.touch_instance(error)

    def accept(self, command_id: CommandId, kind: str, answer: bytes) -> None:
        """Remember that a command was carried out, with its answer."""
        self.urgent = True
        self.answers[command_id] = answer
        self._commands.append(CommandRow(id=command_id, kind=kind, answer=answer))

    # -- writing -----------------------------------------------------------------------------------------------

    def instance_row(self) -> InstanceRow:
        return msgspec.structs.replace(
            self.row,
            run=self.run,
            phase=self.phase,
            hold=self.hold,
            verdict=self.verdict,
            final=self.final,
            hard=self.hard,
            compensate_asked=self.compensate_asked,
            deadline_us=self.deadline_us,
            deadline_left_us=self.deadline_left_us,
            started_us=self.started_us,
            finished_us=self.finished_us,
            error=self.error,
        )

    def task_row(self, task: Task) -> TaskRow:
        """Every persisted field of a task."""
        row = TaskRow(
            ordinal=Ordinal(task.ordinal),
            name=self.cast.names[task.ordinal],
            state=task.state,
            attempt=task.attempt,
            tries=task.tries,
            begun=task.begun,
            due_us=task.due_us,
            park=task.park,
            key=task.key,
            body_seq=task.body_seq,
            losses=task.losses,
            suspect=task.suspect,
            reason=task.reason,
            started_us=task.started_us,
            finished_us=task.finished_us,
            result=task.result,
            error=task.error,
        )
        source = self.cast.sources.get(task.ordinal)
        if source is None:
            return row
        return msgspec.structs.replace(row, parent=task.parent, spec=source, added_by=task.added_by)

    def cut(self, now_us: Micros, *, lingering: bool) -> Decision | None:
        """Everything since the last cut as one decision, with or without what lingers; None when nothing changed."""
        if lingering:
            for task in list(self.lingering.values()):
                self.write_dispatch(task)
        if not (self._dirty or self._row_dirty or self._commands or self._transitions):
            return None
        self.seq += 1
        decision = Decision(
            instance_id=self.id,
            event=EventRow(instance_id=self.id, seq=self.seq, at_us=now_us, body=self._event_body()),
            instance=self._instance_change(),
            tasks=tuple([self._task_change(task) for task in self._dirty.values()]),
            attempts=tuple(self._attempts),
            commands=tuple(self._commands),
        )
        self._dirty.clear()
        self._row_dirty = self.urgent = False
        self._transitions, self._attempts, self._commands = [], [], []
        self._event_reason = ""
        return decision

    def _event_body(self) -> EventBody:
        before, self._told = self._told, (self.state, self.run)
        return EventBody(
            state=self._told[0],
            run=self.run,
            transitions=tuple(self._transitions),
            progress=self._committed_progress(),
            reason=self._event_reason,
            changed=before != self._told,
        )

    def _committed_progress(self) -> Progress:
        if not self.lingering:
            return self.progress
        counts = list(self.counts)
        counts[_RUNNING_INDEX] -= len(self.lingering)
        counts[_PENDING_INDEX] += len(self.lingering)
        return Progress.of(counts)

    def _instance_change(self) -> InstanceChange | None:
        if not self._row_dirty:
            return None
        change = InstanceChange(self.instance_row(), self._saved)
        self._saved = InstanceGuard(self.phase, self.hold, self.run)
        return change

    def _task_change(self, task: Task) -> TaskChange:
        change = TaskChange(self.task_row(task), task.saved)
        task.saved = TaskGuard(task.state, task.attempt)
        task.result = task.error = msgspec.UNSET
        return change

    @property
    def held(self) -> bool:
        return self.hold is not Hold.NONE

    @property
    def at_end(self) -> bool:
        return self.phase is Phase.END
