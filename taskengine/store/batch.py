"""What one transaction writes, and how many decisions become one.

Pure. `merge` runs on the loop's thread for every commit, so it is written for speed.
"""

from collections.abc import Sequence

import msgspec

from taskengine.clock import Micros
from taskengine.errors import BatchRefused
from taskengine.model.artifacts import is_reference, referred
from taskengine.model.ids import InstanceId, Ordinal, WorkflowId
from taskengine.model.records import (
    ArtifactRow,
    AttemptRow,
    CommandRow,
    Decision,
    DefinitionRow,
    EventRow,
    FunctionRow,
    InstanceChange,
    InstanceGuard,
    InstanceRemoval,
    LogBatch,
    LogRow,
    Sweep,
    TaskChange,
    TaskRow,
    TokenRow,
    WorkflowRemoval,
    Write,
)

__all__ = ["Batch", "keep_unset", "merge"]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one transaction; each instance and each task occurs once.

    epoch, lane, number  name the batch: a row with these three is written in the same transaction, so a batch that is
                         sent a second time is known to have committed
    acknowledged         number of the lane's last batch that is known to have committed, 0: none; the rows of
                         batches before it are deleted
    artifacts            those that the results of `tasks` name
    removals             workflows that have no current version after this batch, whatever `definitions` says: where a
                         definition was saved after the removal, there is none here
    instance_removals    of instances as the batch leaves them: they come behind its changes
    sweep                done last
    """

    epoch: int
    lane: int
    number: int
    acknowledged: int
    definitions: Sequence[DefinitionRow] = ()
    functions: Sequence[FunctionRow] = ()
    instances: Sequence[InstanceChange] = ()
    tasks: Sequence[tuple[InstanceId, TaskChange]] = ()
    attempts: Sequence[tuple[InstanceId, AttemptRow]] = ()
    events: Sequence[EventRow] = ()
    commands: Sequence[tuple[InstanceId, CommandRow]] = ()
    logs: Sequence[LogRow] = ()
    tokens: Sequence[TokenRow] = ()
    removals: Sequence[WorkflowId] = ()
    artifacts: Sequence[ArtifactRow] = ()
    instance_removals: Sequence[InstanceRemoval] = ()
    sweep: Sweep | None = None

    @property
    def rows(self) -> int:
        """Without the row of the batch itself, and without what a sweep deletes."""
        return (
            len(self.definitions)
            + len(self.functions)
            + len(self.instances)
            + len(self.tasks)
            + len(self.attempts)
            + len(self.events)
            + len(self.commands)
            + len(self.logs)
            + len(self.tokens)
            + len(self.removals)
            + len(self.artifacts)
            + len(self.instance_removals)
        )


def merge(writes: Sequence[Write], *, epoch: int, lane: int, number: int, acknowledged: int) -> Batch:
    """One batch out of writes in the order of their saves.

    Several changes of one row become one: the first `expect`, the last row; a result or error that the last row
    leaves UNSET is that of the one before. Of a token, of sweeps, and of a workflow's removal and its definitions, the
    last write counts.
    Raises BatchRefused when a change does not expect what the change before it makes: applied one by one, the
    second of them would be refused too. And when an instance changes or goes once more behind its removal, which a
    batch puts behind all changes.
    """
    definitions: list[DefinitionRow] = []
    functions: dict[str, FunctionRow] = {}
    instances: dict[InstanceId, InstanceChange] = {}
    tasks: dict[tuple[InstanceId, Ordinal], TaskChange] = {}
    attempts: list[tuple[InstanceId, AttemptRow]] = []
    events: list[EventRow] = []
    commands: list[tuple[InstanceId, CommandRow]] = []
    logs: list[LogRow] = []
    tokens: dict[str, TokenRow] = {}
    removals: dict[WorkflowId, None] = {}
    instance_removals: dict[InstanceId, InstanceRemoval] = {}
    sweep: Sweep | None = None
    for write in writes:
        if type(write) is Decision:
            owner = write.instance_id
            events.append(write.event)
            if (step := write.instance) is not None:
                if owner in instance_removals:
                    raise BatchRefused("instances", "moved")
                before = instances.get(owner)
                instances[owner] = step if before is None else _join_instance(before, step)
            for change in write.tasks:
                key = (owner, change.row.ordinal)
                earlier = tasks.get(key)
                tasks[key] = change if earlier is None else _join_task(earlier, change)
            for attempt in write.attempts:
                attempts.append((owner, attempt))
            for command in write.commands:
                commands.append((owner, command))
        elif type(write) is LogBatch:
            logs.extend(write.rows)
        elif type(write) is FunctionRow:
            functions[write.name] = write
        elif type(write) is DefinitionRow:
            definitions.append(write)
            removals.pop(write.workflow_id, None)
        elif type(write) is WorkflowRemoval:
            removals[write.workflow_id] = None
        elif type(write) is TokenRow:
            tokens[write.id] = write
        elif type(write) is InstanceRemoval:
            if write.instance_id in instance_removals:
                raise BatchRefused("instances", "moved")
            instance_removals[write.instance_id] = write
        elif type(write) is Sweep:
            sweep = write
        else:
            raise TypeError(f"not a write: {type(write).__name__}")
    artifacts = [
        _artifact(owner, change.row)
        for (owner, _), change in tasks.items()
        if isinstance(change.row.result, bytes) and is_reference(change.row.result)
    ]
    return Batch(
        epoch=epoch,
        lane=lane,
        number=number,
        acknowledged=acknowledged,
        definitions=definitions,
        functions=list(functions.values()),
        instances=list(instances.values()),
        tasks=[(key[0], change) for key, change in tasks.items()],
        attempts=attempts,
        events=events,
        commands=commands,
        logs=logs,
        tokens=list(tokens.values()),
        removals=list(removals),
        instance_removals=list(instance_removals.values()),
        sweep=sweep,
        artifacts=artifacts,
    )


def _artifact(owner: InstanceId, row: TaskRow) -> ArtifactRow:
    """That of a large result, under the name `result`; a later one of the task takes its place."""
    assert isinstance(row.result, bytes), "asked for results only"
    found = referred(row.result)
    at_us = row.finished_us or Micros(0)
    return ArtifactRow(
        instance_id=owner, ordinal=row.ordinal, name="result", digest=found.digest, size=found.size, at_us=at_us
    )


def _join_instance(first: InstanceChange, then: InstanceChange) -> InstanceChange:
    if then.expect is None:
        raise BatchRefused("instances", "exists")
    if then.expect != InstanceGuard(first.row.phase, first.row.hold, first.row.run):
        raise BatchRefused("instances", "moved")
    return InstanceChange(then.row, first.expect)


def _join_task(first: TaskChange, then: TaskChange) -> TaskChange:
    if then.expect is None:
        raise BatchRefused("tasks", "exists")
    if then.expect.state is not first.row.state or then.expect.attempt != first.row.attempt:
        raise BatchRefused("tasks", "moved")
    return TaskChange(keep_unset(then.row, first.row), first.expect)


def keep_unset(row: TaskRow, before: TaskRow) -> TaskRow:
    """`row`, with the result and the error of `before` where it leaves them UNSET."""
    unset = msgspec.UNSET
    if row.result is not unset and row.error is not unset:
        return row
    result = before.result if row.result is unset else row.result
    error = before.error if row.error is unset else row.error
    if result is row.result and error is row.error:
        return row
    return msgspec.structs.replace(row, result=result, error=error)
