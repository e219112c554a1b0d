"""A second, deliberately plain implementation of the store: what a decision may do to rows, checked at every commit."""

import msgspec

from taskengine.model.ids import CommandId
from taskengine.model.progress import Progress
from taskengine.model.records import AttemptRow, CommandRow, Decision, InstanceRow, TaskRow
from taskengine.model.states import BUCKETS, TASK_FINAL, Bucket, InstanceState, Phase, TaskState

_OWING = (TaskState.SUCCESS, TaskState.FAILED, TaskState.TIMED_OUT, TaskState.CANCELLED)
_UNDOING = dict.fromkeys(_OWING, (TaskState.COMPENSATING,))
"""The only way out of a final state within a run."""


class Rows:
    """Rows of one instance."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.instance: InstanceRow | None = None
        self.tasks: dict[int, TaskRow] = {}
        self.attempts: list[AttemptRow] = []
        self.commands: dict[CommandId, CommandRow] = {}
        self.seq = 0
        self.progress = Progress()

    def copy(self) -> "Rows":
        twin = Rows(self.names)
        twin.instance, twin.tasks, twin.attempts = self.instance, dict(self.tasks), list(self.attempts)
        twin.commands, twin.seq, twin.progress = dict(self.commands), self.seq, self.progress
        return twin

    def state_of(self, ordinal: int) -> TaskState:
        row = self.tasks.get(ordinal)
        return row.state if row is not None else TaskState.PENDING

    def apply(self, decision: Decision) -> None:
        assert decision.event.seq == self.seq + 1, "seq has no holes and no repetition"
        self.seq += 1
        new_run = self._apply_instance(decision)
        for change in decision.tasks:
            before = self.tasks.get(change.row.ordinal)
            if change.expect is None:
                assert before is None, "an insert of a row that is there"
            else:
                assert before is not None, "an update of a row that is not there"
                assert (before.state, before.attempt) == (change.expect.state, change.expect.attempt)
                assert change.row.attempt >= before.attempt, "attempt numbers only grow"
                if before.state in TASK_FINAL and not new_run:
                    after = (before.state, *_UNDOING.get(before.state, ()))
                    assert change.row.state in after, "a final state absorbs within a run"
            self._check_name(change.row, before)
            row = change.row
            if before is not None and row.error is msgspec.UNSET:
                row = msgspec.structs.replace(row, error=before.error)
            self.tasks[row.ordinal] = row
        self.attempts.extend(decision.attempts)
        keys = [(row.ordinal, row.attempt) for row in self.attempts]
        assert len(keys) == len(set(keys)), "each attempt is recorded once"
        for command in decision.commands:
            assert command.id not in self.commands
            self.commands[command.id] = command
        self._check_progress(decision)

    def live(self) -> list[int]:
        """Tasks that count: those of the definition, and those that were added and are not out again."""
        added = [ordinal for ordinal in self.tasks if ordinal >= len(self.names)]
        return [*range(len(self.names)), *(ordinal for ordinal in added if self.tasks[ordinal].added_by >= 0)]

    def children(self, parent: int) -> list[TaskRow]:
        return [row for row in self.tasks.values() if row.parent == parent and row.added_by >= 0]

    def _check_name(self, row: TaskRow, before: TaskRow | None) -> None:
        if row.ordinal < len(self.names):
            assert row.name == self.names[row.ordinal]
            assert (row.spec, row.parent, row.added_by) == (None, -1, 0)
            return
        assert row.spec is not None
        assert before is not None or row.ordinal == max([len(self.names) - 1, *self.tasks]) + 1, "no gap, no reuse"
        assert before is None or (row.name, row.parent) == (before.name, before.parent)
        assert before is None or before.added_by >= 0, "what is out stays out"

    def _apply_instance(self, decision: Decision) -> bool:
        change = decision.instance
        if change is None:
            assert self.instance is not None
            assert self.instance.phase is not Phase.END or not decision.tasks, "nothing moves after the end"
            return False
        before, self.instance = self.instance, change.row
        if change.expect is None:
            assert before is None
            return False
        assert before is not None
        assert (before.phase, before.hold, before.run) == (
            change.expect.phase,
            change.expect.hold,
            change.expect.run,
        )
        # More than one when several commands share a decision.
        new_run = change.row.run > before.run
        assert change.row.run >= before.run
        if before.phase is Phase.END:
            assert new_run, "only a retry leaves a final state"
        elif before.verdict and not new_run:
            assert change.row.verdict is before.verdict, "the first verdict wins"
        return new_run

    def _check_progress(self, decision: Decision) -> None:
        self.progress = decision.event.body.progress
        assert self.progress.total == len(self.live()), "progress adds up in every committed state"
        scan = dict.fromkeys(Bucket, 0)
        for ordinal in self.live():
            scan[BUCKETS[self.state_of(ordinal)]] += 1
        assert tuple(scan.values()) == tuple(getattr(self.progress, bucket) for bucket in Bucket)
        assert self.instance is not None
        if self.instance.phase is Phase.END:
            assert self.progress.open == 0, "an instance ends only when every task has ended"
            self._check_verdict(self.instance)

    def _check_verdict(self, instance: InstanceRow) -> None:
        bad = self.progress.failed > 0
        assert instance.final is not None
        assert instance.finished_us is not None
        assert bad or instance.final is not InstanceState.FAILED
        if instance.final is InstanceState.SUCCESS:
            assert instance.verdict.value == "success"
            assert not any(
                self.state_of(number) in (TaskState.UPSTREAM_FAILED, TaskState.CANCELLED)
                for number in range(len(self.names))
            ), "Success means that nothing ended bad"
