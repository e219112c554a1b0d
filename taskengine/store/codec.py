"""Rows as tuples of column values and back, the same for every SQL database.

Enums are their strings, booleans 0 and 1, JSON is text. Writing decodes JSON bytes, which checks that they are
UTF-8; reading expects JSON columns as bytes. The order of the values is that of the columns in the `.sql` files.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

from taskengine.errors import StoreCorrupt
from taskengine.model.events import decode_body, encode_body
from taskengine.model.ids import InstanceId
from taskengine.model.records import (
    Aged,
    ArtifactRow,
    AttemptRow,
    CommandRow,
    DefinitionRow,
    EventRow,
    FunctionRow,
    InstanceGuard,
    InstanceRemoval,
    InstanceRow,
    LogRow,
    Outcome,
    ParkKind,
    TaskGuard,
    TaskRow,
    TokenRow,
    Verdict,
)
from taskengine.model.states import Hold, InstanceState, Phase, TaskState

__all__ = [
    "Values",
    "aged_row",
    "artifact_row",
    "artifact_values",
    "askable",
    "attempt_row",
    "attempt_values",
    "check_fit",
    "command_row",
    "command_values",
    "definition_row",
    "definition_values",
    "event_row",
    "event_values",
    "function_row",
    "function_values",
    "instance_change_values",
    "instance_row",
    "instance_values",
    "log_row",
    "log_values",
    "removal_values",
    "task_change_values",
    "task_row",
    "task_values",
    "token_row",
    "token_values",
]

Values = tuple[Any, ...]
"""One row on its way into or out of a driver."""

_E = TypeVar("_E", bound=StrEnum)


def _by_value(kind: type[_E]) -> dict[str, _E]:
    # A dictionary look-up costs a fifth of calling the enum; loading an instance does it for every task.
    return {member.value: member for member in kind}


_PHASES: Final = _by_value(Phase)
_HOLDS: Final = _by_value(Hold)
_VERDICTS: Final = _by_value(Verdict)
_INSTANCE_STATES: Final = _by_value(InstanceState)
_TASK_STATES: Final = _by_value(TaskState)
_PARKS: Final = _by_value(ParkKind)
_OUTCOMES: Final = _by_value(Outcome)

_INT64: Final = 1 << 63


def _text(json: bytes | None) -> str | None:
    return None if json is None else json.decode()


def instance_values(row: InstanceRow) -> Values:
    return (
        row.id,
        row.workflow_id,
        row.version,
        row.params.decode(),
        row.created_us,
        row.idempotency_key,
        *_instance_moving_values(row),
    )


def _instance_moving_values(row: InstanceRow) -> Values:
    return (
        row.state.value,
        row.run,
        row.phase.value,
        row.hold.value,
        row.verdict.value,
        None if row.final is None else row.final.value,
        int(row.compensate_asked),
        int(row.hard),
        row.deadline_us,
        row.deadline_left_us,
        row.started_us,
        row.finished_us,
        row.error,
    )


def instance_change_values(row: InstanceRow, expect: InstanceGuard) -> Values:
    """What moves, then the row's id and where it must be."""
    return (*_instance_moving_values(row), row.id, expect.phase.value, expect.hold.value, expect.run)


def instance_row(values: Values) -> InstanceRow:
    (
        instance_id,
        workflow_id,
        version,
        params,
        created_us,
        key,
        _state,  # for people and indexes; phase, hold and final say the same
        run,
        phase,
        hold,
        verdict,
        final,
        compensate_asked,
        hard,
        deadline_us,
        deadline_left_us,
        started_us,
        finished_us,
        error,
    ) = values
    try:
        return InstanceRow(
            id=instance_id,
            workflow_id=workflow_id,
            version=version,
            params=params,
            run=run,
            phase=_PHASES[phase],
            hold=_HOLDS[hold],
            verdict=_VERDICTS[verdict],
            final=None if final is None else _INSTANCE_STATES[final],
            compensate_asked=bool(compensate_asked),
            hard=bool(hard),
            deadline_us=deadline_us,
            deadline_left_us=deadline_left_us,
            created_us=created_us,
            started_us=started_us,
            finished_us=finished_us,
            error=error,
            idempotency_key=key,
        )
    except KeyError as exc:
        raise StoreCorrupt(f"instance {instance_id}: unknown value {exc}") from exc


def removal_values(removal: InstanceRemoval) -> Values:
    """The id, and the run in which the instance must still be ended."""
    return (removal.instance_id, removal.run)


def aged_row(values: Values) -> Aged:
    instance_id, workflow_id, version, run, state, created_us, finished_us, keyed = values
    try:
        return Aged(
            id=instance_id,
            workflow_id=workflow_id,
            version=version,
            run=run,
            state=_INSTANCE_STATES[state],
            created_us=created_us,
            finished_us=finished_us,
            keyed=bool(keyed),
        )
    except KeyError as exc:
        raise StoreCorrupt(f"instance {instance_id}: unknown value {exc}") from exc


def _task_plain_values(row: TaskRow) -> Values:
    return (
        row.name,
        row.state.value,
        row.attempt,
        row.tries,
        row.parent,
        _text(row.spec),
        row.added_by,
        int(row.begun),
        row.due_us,
        row.park.value,
        row.key,
        row.body_seq,
        row.losses,
        int(row.suspect),
        row.reason,
        row.started_us,
        row.finished_us,
    )


def task_values(instance_id: InstanceId, row: TaskRow) -> Values:
    result = None if row.result is msgspec.UNSET else _text(row.result)
    error = None if row.error is msgspec.UNSET else _text(row.error)
    return (instance_id, row.ordinal, *_task_plain_values(row), result, error)


def task_change_values(instance_id: InstanceId, row: TaskRow, expect: TaskGuard) -> Values:
    """The new values, each of result and error behind a flag that says whether it changes, then the row's key and
    where it must be."""
    keep_result, keep_error = row.result is msgspec.UNSET, row.error is msgspec.UNSET
    return (
        *_task_plain_values(row),
        0 if keep_result else 1,
        None if row.result is msgspec.UNSET else _text(row.result),
        0 if keep_error else 1,
        None if row.error is msgspec.UNSET else _text(row.error),
        instance_id,
        row.ordinal,
        expect.state.value,
        expect.attempt,
    )


def task_row(values: Values) -> TaskRow:
    """Of 18 values (result and error stay UNSET) or 20."""
    ordinal, name, state, attempt, tries, parent, spec, added_by, begun, due_us, park, key, body_seq = values[:13]
    losses, suspect, reason, started_us, finished_us = values[13:18]
    result, error = values[18:] or (msgspec.UNSET, msgspec.UNSET)
    try:
        return TaskRow(
            ordinal=ordinal,
            name=name,
            state=_TASK_STATES[state],
            attempt=attempt,
            tries=tries,
            parent=parent,
            spec=spec,
            added_by=added_by,
            begun=bool(begun),
            due_us=due_us,
            park=_PARKS[park],
            key=key,
            body_seq=body_seq,
            losses=losses,
            suspect=bool(suspect),
            reason=reason,
            started_us=started_us,
            finished_us=finished_us,
            result=result,
            error=error,
        )
    except KeyError as exc:
        raise StoreCorrupt(f"task {name!r}: unknown value {exc}") from exc


def attempt_values(instance_id: InstanceId, row: AttemptRow) -> Values:
    times = (row.started_us, row.finished_us)
    return (instance_id, row.ordinal, row.attempt, row.run, row.outcome.value, *times, _text(row.error))


def attempt_row(values: Values) -> AttemptRow:
    ordinal, attempt, run, outcome, started_us, finished_us, error = values
    try:
        return AttemptRow(
            ordinal=ordinal,
            attempt=attempt,
            run=run,
            outcome=_OUTCOMES[outcome],
            started_us=started_us,
            finished_us=finished_us,
            error=error,
        )
    except KeyError as exc:
        raise StoreCorrupt(f"attempt {attempt} of task {ordinal}: unknown value {exc}") from exc


def event_values(row: EventRow) -> Values:
    return (row.instance_id, row.seq, row.at_us, encode_body(row.body).decode())


def event_row(values: Values) -> EventRow:
    instance_id, seq, at_us, body = values
    try:
        return EventRow(instance_id=instance_id, seq=seq, at_us=at_us, body=decode_body(body))
    except msgspec.DecodeError as exc:
        raise StoreCorrupt(f"event {seq} of instance {instance_id}: {exc}") from exc


def command_values(instance_id: InstanceId, row: CommandRow) -> Values:
    return (instance_id, row.id, row.kind, row.answer.decode())


def command_row(values: Values) -> CommandRow:
    command_id, kind, answer = values
    return CommandRow(id=command_id, kind=kind, answer=answer)


def definition_values(row: DefinitionRow) -> Values:
    return (row.version, row.workflow_id, row.canonical.decode(), row.created_us)


def definition_row(values: Values) -> DefinitionRow:
    version, workflow_id, canonical, created_us = values
    return DefinitionRow(version=version, workflow_id=workflow_id, canonical=canonical, created_us=created_us)


def function_values(row: FunctionRow) -> Values:
    return (row.name, row.path, row.signature, row.doc, row.source_hash)


def function_row(values: Values) -> FunctionRow:
    name, path, signature, doc, source_hash = values
    return FunctionRow(name=name, path=path, signature=signature, doc=doc, source_hash=source_hash)


def log_values(row: LogRow) -> Values:
    return (row.instance_id, row.id, row.task, row.attempt, row.level, row.at_us, row.message)


def log_row(values: Values) -> LogRow:
    instance_id, log_id, task, attempt, level, at_us, message = values
    return LogRow(
        instance_id=instance_id, id=log_id, task=task, attempt=attempt, level=level, at_us=at_us, message=message
    )


def artifact_values(row: ArtifactRow) -> Values:
    return (row.instance_id, row.ordinal, row.name, row.digest, row.size, row.at_us)


def artifact_row(values: Values) -> ArtifactRow:
    instance_id, ordinal, name, digest, size, at_us = values
    return ArtifactRow(instance_id=instance_id, ordinal=ordinal, name=name, digest=digest, size=size, at_us=at_us)


def token_values(row: TokenRow) -> Values:
    return (row.id, row.name, row.scope, row.digest, row.created_us, row.expires_us, row.revoked_us)


def token_row(values: Values) -> TokenRow:
    token_id, name, scope, digest, created_us, expires_us, revoked_us = values
    return TokenRow(
        id=token_id,
        name=name,
        scope=scope,
        digest=digest,
        created_us=created_us,
        expires_us=expires_us,
        revoked_us=revoked_us,
    )


def askable(values: Iterable[object], *, nul: bool = True) -> Values | None:
    """Values to look for, as a driver takes them; None: no row can hold such a text, so nothing matches.

    nul  whether a text in the database can hold the character U+0000
    Half a surrogate pair comes from a command line in another encoding. An integer beyond 64 bits is cut down to the
    largest one, which compares alike with every integer that can be stored.
    """
    made: list[object] = []
    for value in values:
        if isinstance(value, str):
            if not nul and "\0" in value:
                return None
            if not value.isascii() and not _is_utf8(value):
                return None
        elif isinstance(value, int):
            value = max(-_INT64, min(value, _INT64 - 1))
        made.append(value)
    return tuple(made)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_fit(rows: Iterable[Values]) -> None:
    """Raises ValueError for what no database takes: half a surrogate pair, an integer beyond 64 bits.

    A driver finds these out by itself; the store in memory asks here, so that it refuses the same rows.
    """
    for row in rows:
        for value in row:
            kind = type(value)
            if kind is str:
                if not value.isascii():
                    value.encode()
            elif kind is int and not -_INT64 <= value < _INT64:
                raise ValueError("an integer beyond 64 bits")
