"""All rows in dictionaries, and what a batch does to them: the same checks as a database makes, in the same order."""

from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

import msgspec

from taskengine.errors import BatchRefused
from taskengine.model.ids import CommandId, InstanceId, Ordinal, Version, WorkflowId
from taskengine.model.records import (
    ArtifactRow,
    AttemptRow,
    CommandRow,
    DefinitionRow,
    EventRow,
    FunctionRow,
    InstanceChange,
    InstanceRow,
    LogRow,
    Sweep,
    TaskChange,
    TaskRow,
    TokenRow,
)
from taskengine.model.states import Phase
from taskengine.store import codec
from taskengine.store.batch import Batch, keep_unset

__all__ = ["Snapshot", "apply", "check", "check_fit"]


class Snapshot:
    """All committed rows of one moment. Opaque: hand it to a new MemoryStore."""

    __slots__ = (
        "artifacts",
        "attempts",
        "batches",
        "commands",
        "current",
        "definitions",
        "epoch",
        "events",
        "functions",
        "instances",
        "keys",
        "logs",
        "removed",
        "tasks",
        "tokens",
    )

    def __init__(self) -> None:
        self.epoch = 0
        self.batches: set[tuple[int, int, int]] = set()
        self.definitions: dict[Version, DefinitionRow] = {}
        self.current: dict[WorkflowId, Version] = {}
        self.functions: dict[str, FunctionRow] = {}
        self.instances: dict[InstanceId, InstanceRow] = {}
        self.keys: dict[tuple[WorkflowId, str], InstanceId] = {}
        self.tasks: dict[InstanceId, dict[int, TaskRow]] = {}
        self.attempts: dict[InstanceId, dict[tuple[int, int], AttemptRow]] = {}
        self.events: dict[InstanceId, dict[int, EventRow]] = {}
        self.commands: dict[InstanceId, dict[CommandId, CommandRow]] = {}
        self.logs: dict[InstanceId, dict[int, LogRow]] = {}
        self.tokens: dict[str, TokenRow] = {}
        self.artifacts: dict[InstanceId, dict[tuple[int, str], ArtifactRow]] = {}
        self.removed: dict[InstanceId, None] = {}

    def copy(self) -> "Snapshot":
        """Rows are frozen and shared; the tables are not."""
        twin = Snapshot()
        twin.epoch, twin.batches = self.epoch, set(self.batches)
        twin.definitions, twin.current = dict(self.definitions), dict(self.current)
        twin.functions, twin.instances, twin.keys = dict(self.functions), dict(self.instances), dict(self.keys)
        twin.tasks = {owner: dict(rows) for owner, rows in self.tasks.items()}
        twin.attempts = {owner: dict(rows) for owner, rows in self.attempts.items()}
        twin.events = {owner: dict(rows) for owner, rows in self.events.items()}
        twin.commands = {owner: dict(rows) for owner, rows in self.commands.items()}
        twin.logs = {owner: dict(rows) for owner, rows in self.logs.items()}
        twin.tokens, twin.removed = dict(self.tokens), dict(self.removed)
        twin.artifacts = {owner: dict(rows) for owner, rows in self.artifacts.items()}
        return twin


def check_fit(batch: Batch) -> None:
    """Every row takes the form it would have in a database. Raises BatchRefused."""
    makers: tuple[tuple[str, Iterable[codec.Values]], ...] = (
        ("definitions", (codec.definition_values(row) for row in batch.definitions)),
        ("functions", (codec.function_values(row) for row in batch.functions)),
        ("instances", (codec.instance_values(change.row) for change in batch.instances)),
        ("tasks", (codec.task_values(owner, change.row) for owner, change in batch.tasks)),
        ("attempts", (codec.attempt_values(owner, row) for owner, row in batch.attempts)),
        ("events", (codec.event_values(row) for row in batch.events)),
        ("commands", (codec.command_values(owner, row) for owner, row in batch.commands)),
        ("logs", (codec.log_values(row) for row in batch.logs)),
        ("tokens", (codec.token_values(row) for row in batch.tokens)),
        ("workflows", ((workflow_id,) for workflow_id in batch.removals)),
        ("instances", (codec.removal_values(removal) for removal in batch.instance_removals)),
    )
    for table, values in makers:
        try:
            codec.check_fit(values)
        except Exception as exc:  # making values is pure: whatever it raises is the record's fault
            raise BatchRefused(table, "unfit", str(exc)) from exc


def check(rows: Snapshot, batch: Batch) -> None:
    """Would all of it apply? Raises BatchRefused; changes nothing."""
    _check_instances(rows, batch.instances)
    for owner, task in batch.tasks:
        _check_task(rows.tasks.get(owner, {}).get(task.row.ordinal), task)
    _check_new(
        "attempts",
        (
            (rows.attempts.get(it, {}), (it, row.ordinal, row.attempt), (row.ordinal, row.attempt))
            for it, row in batch.attempts
        ),
    )
    _check_new(
        "events", ((rows.events.get(row.instance_id, {}), (row.instance_id, row.seq), row.seq) for row in batch.events)
    )
    _check_new("commands", ((rows.commands.get(it, {}), (it, row.id), row.id) for it, row in batch.commands))
    _check_removals(rows, batch)


def _check_instances(rows: Snapshot, changes: Iterable[InstanceChange]) -> None:
    fresh: set[tuple[WorkflowId, str]] = set()
    for change in changes:
        row, expect, before = change.row, change.expect, rows.instances.get(change.row.id)
        if expect is not None:
            if before is None or (before.phase, before.hold, before.run) != (expect.phase, expect.hold, expect.run):
                raise BatchRefused("instances", "moved")
            continue
        if before is not None:
            raise BatchRefused("instances", "exists")
        if row.idempotency_key is not None:
            key = (row.workflow_id, row.idempotency_key)
            if key in rows.keys or key in fresh:
                raise BatchRefused("instances", "key")
            fresh.add(key)


def _check_removals(rows: Snapshot, batch: Batch) -> None:
    """Each must be ended as the changes of the same batch leave it."""
    changed = {change.row.id: change.row for change in batch.instances}
    for removal in batch.instance_removals:
        row = changed.get(removal.instance_id) or rows.instances.get(removal.instance_id)
        if row is None or row.phase is not Phase.END or row.run != removal.run:
            raise BatchRefused("instances", "moved")


def _check_task(before: TaskRow | None, change: TaskChange) -> None:
    expect = change.expect
    if expect is None:
        if before is not None:
            raise BatchRefused("tasks", "exists")
    elif before is None or before.state is not expect.state or before.attempt != expect.attempt:
        raise BatchRefused("tasks", "moved")


def _check_new(table: str, entries: Iterable[tuple[Collection[object], object, object]]) -> None:
    """Each entry: the keys that are there, the key in the whole table, the key among the former."""
    seen: set[object] = set()
    for present, name, key in entries:
        if key in present or name in seen:
            raise BatchRefused(table, "exists")
        seen.add(name)


def apply(rows: Snapshot, batch: Batch) -> None:
    for definition in batch.definitions:
        rows.definitions.setdefault(definition.version, definition)
        rows.current[definition.workflow_id] = definition.version
    for workflow_id in batch.removals:
        rows.current.pop(workflow_id, None)
    for function in batch.functions:
        rows.functions[function.name] = function
    for change in batch.instances:
        _put_instance(rows, change.row)
    for owner, task in batch.tasks:
        table = rows.tasks.setdefault(owner, {})
        before = table.get(task.row.ordinal, _BLANK)
        table[task.row.ordinal] = keep_unset(task.row, before)
    for owner, attempt in batch.attempts:
        rows.attempts.setdefault(owner, {})[attempt.ordinal, attempt.attempt] = attempt
    for event in batch.events:
        rows.events.setdefault(event.instance_id, {})[event.seq] = event
    for owner, command in batch.commands:
        rows.commands.setdefault(owner, {})[command.id] = command
    for line in batch.logs:
        rows.logs.setdefault(line.instance_id, {}).setdefault(line.id, line)
    for artifact in batch.artifacts:
        rows.artifacts.setdefault(artifact.instance_id, {})[artifact.ordinal, artifact.name] = artifact
    for token in batch.tokens:
        rows.tokens[token.id] = token
    for removal in batch.instance_removals:
        gone = rows.instances.pop(removal.instance_id)
        if gone.idempotency_key is not None:
            del rows.keys[gone.workflow_id, gone.idempotency_key]
        rows.removed[gone.id] = None
    if batch.sweep is not None:
        _sweep(rows, batch.sweep)


def _sweep(rows: Snapshot, sweep: Sweep) -> None:
    noted, left = list(islice(rows.removed, sweep.instances)), sweep.rows
    tables: list[dict[InstanceId, dict[Any, Any]]]
    tables = [rows.logs, rows.artifacts, rows.attempts, rows.commands, rows.tasks, rows.events]
    for table in tables:
        for instance_id in noted:
            own = table.get(instance_id, {})
            going = [key for key in own if table is not rows.events or key != 1][:left]
            for key in going:
                del own[key]
            left -= len(going)
        if left <= 0:
            return
    for instance_id in noted:
        for table in tables:
            table.pop(instance_id, None)
        del rows.removed[instance_id]


_BLANK = TaskRow(ordinal=Ordinal(0), name="", result=None, error=None)
"""What a new task has where its row says UNSET."""


def _put_instance(rows: Snapshot, row: InstanceRow) -> None:
    before = rows.instances.get(row.id)
    if before is not None:
        row = msgspec.structs.replace(
            row,
            workflow_id=before.workflow_id,
            version=before.version,
            params=before.params,
            created_us=before.created_us,
            idempotency_key=before.idempotency_key,
        )
    elif row.idempotency_key is not None:
        rows.keys[row.workflow_id, row.idempotency_key] = row.id
    rows.instances[row.id] = row
