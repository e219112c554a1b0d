"""How a batch becomes statements, on the writer's thread.

A list of rows per statement and `executemany`: multi-row VALUES and json_each were measured and are no faster.
Updates name the state that they expect; the number of rows that really changed is the check.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from taskengine.errors import BatchRefused, StoreLocked
from taskengine.model.records import Sweep
from taskengine.store import codec
from taskengine.store.batch import Batch

__all__ = ["apply"]

_TAKEN: Final = frozenset(
    {sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID, sqlite3.SQLITE_CONSTRAINT_UNIQUE}
)


def apply(db: sqlite3.Connection, batch: Batch, sql: Mapping[str, str], applied: Callable[[], None]) -> bool:
    """Run every statement and leave COMMIT to the caller; `applied` is called at the end. False: it had committed.

    Raises BatchRefused and sqlite3.Error with the transaction open, StoreLocked when the node's epoch has moved on.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        begun = db.execute(sql["begin_batch"], (batch.epoch, batch.lane, batch.number)).rowcount
    except sqlite3.IntegrityError:
        return False
    if begun != 1:
        found = db.execute(sql["read_epoch"]).fetchone()
        raise StoreLocked("the database", f"epoch {found and found[0]} after our {batch.epoch}")
    _write(db, batch, sql)
    db.execute(sql["forget_batches"], (batch.epoch, batch.lane, batch.acknowledged))
    applied()
    return True


def _write(db: sqlite3.Connection, batch: Batch, sql: Mapping[str, str]) -> None:
    if batch.definitions:
        _insert(db, "definitions", sql["insert_definition"], map(codec.definition_values, batch.definitions))
        pointers = ((row.workflow_id, row.version) for row in batch.definitions)
        _insert(db, "workflows", sql["save_current"], pointers)
    if batch.removals:  # behind the definitions of the batch: see Batch.removals
        _insert(db, "workflows", sql["remove_current"], ((workflow_id,) for workflow_id in batch.removals))
    if batch.functions:
        _insert(db, "functions", sql["save_function"], map(codec.function_values, batch.functions))
    if batch.instances:
        _write_instances(db, batch, sql)
    if batch.tasks:
        _write_tasks(db, batch, sql)
    if batch.attempts:
        attempts = (codec.attempt_values(owner, row) for owner, row in batch.attempts)
        _insert(db, "attempts", sql["insert_attempt"], attempts)
    if batch.events:
        _insert(db, "events", sql["insert_event"], map(codec.event_values, batch.events))
    if batch.commands:
        commands = (codec.command_values(owner, row) for owner, row in batch.commands)
        _insert(db, "commands", sql["insert_command"], commands)
    if batch.logs:
        _insert(db, "logs", sql["insert_log"], map(codec.log_values, batch.logs))
    if batch.artifacts:
        _insert(db, "artifacts", sql["save_artifact"], map(codec.artifact_values, batch.artifacts))
    if batch.tokens:
        _insert(db, "tokens", sql["save_token"], map(codec.token_values, batch.tokens))
    if batch.instance_removals:  # behind the changes of the batch
        _update(db, "instances", sql["remove_instance"], map(codec.removal_values, batch.instance_removals))
        _insert(db, "removed", sql["note_removed"], ((it.instance_id,) for it in batch.instance_removals))
    if batch.sweep is not None:
        _sweep(db, batch.sweep, sql)


def _sweep(db: sqlite3.Connection, sweep: Sweep, sql: Mapping[str, str]) -> None:
    noted = [instance_id for (instance_id,) in db.execute(sql["removed"], (sweep.instances,))]
    whose, left = msgspec.json.encode(noted).decode(), sweep.rows
    for table in ("logs", "artifacts", "attempts", "commands", "tasks", "events"):
        left -= db.execute(sql[f"sweep_{table}"], (whose, left)).rowcount
        if left <= 0:
            return
    db.execute(sql["sweep_first_events"], (whose,))
    db.execute(sql["forget_removed"], (whose,))


def _write_instances(db: sqlite3.Connection, batch: Batch, sql: Mapping[str, str]) -> None:
    fresh = (codec.instance_values(it.row) for it in batch.instances if it.expect is None)
    _insert(db, "instances", sql["insert_instance"], fresh)
    moved = (codec.instance_change_values(it.row, it.expect) for it in batch.instances if it.expect is not None)
    _update(db, "instances", sql["change_instance"], moved)


def _write_tasks(db: sqlite3.Connection, batch: Batch, sql: Mapping[str, str]) -> None:
    fresh = (codec.task_values(owner, it.row) for owner, it in batch.tasks if it.expect is None)
    _insert(db, "tasks", sql["insert_task"], fresh)
    moved = (codec.task_change_values(owner, it.row, it.expect) for owner, it in batch.tasks if it.expect is not None)
    _update(db, "tasks", sql["change_task"], moved)


def _insert(db: sqlite3.Connection, table: str, sql: str, rows: Iterable[codec.Values]) -> None:
    _execute(db, table, sql, _made(table, rows))


def _update(db: sqlite3.Connection, table: str, sql: str, rows: Iterable[codec.Values]) -> None:
    made = _made(table, rows)
    if made and _execute(db, table, sql, made) != len(made):
        raise BatchRefused(table, "moved")


def _made(table: str, rows: Iterable[codec.Values]) -> list[codec.Values]:
    try:
        return list(rows)
    except Exception as exc:  # making values is pure: whatever it raises is the record's fault
        raise BatchRefused(table, "unfit", str(exc)) from exc


def _execute(db: sqlite3.Connection, table: str, sql: str, rows: list[codec.Values]) -> int:
    if not rows:
        return 0
    try:
        return db.executemany(sql, rows).rowcount
    except sqlite3.IntegrityError as exc:
        if exc.sqlite_errorcode not in _TAKEN:
            raise BatchRefused(table, "unfit", str(exc)) from exc
        by_key = table == "instances" and exc.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_UNIQUE
        raise BatchRefused(table, "key" if by_key else "exists") from exc
    except sqlite3.Error as exc:
        # An error without a code is the driver's and means a value it cannot bind; DataError is one too large.
        if isinstance(exc, sqlite3.DataError) or not hasattr(exc, "sqlite_errorcode"):
            raise BatchRefused(table, "unfit", str(exc)) from exc
        raise
    except (ValueError, OverflowError, TypeError) as exc:
        raise BatchRefused(table, "unfit", str(exc)) from exc
