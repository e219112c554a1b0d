"""Merging decisions."""

from typing import Any

import msgspec
import pytest

from taskengine.errors import BatchRefused
from taskengine.model.ids import InstanceId
from taskengine.model.records import (
    CommandRow,
    DefinitionRow,
    FunctionRow,
    InstanceChange,
    InstanceGuard,
    InstanceRemoval,
    InstanceRow,
    LogBatch,
    LogRow,
    TaskChange,
    TaskGuard,
    TaskRow,
    TokenRow,
    WorkflowRemoval,
)
from taskengine.model.states import Hold, Phase, TaskState
from taskengine.store.batch import Batch, merge

UNSET = msgspec.UNSET


def _merge(*writes: Any) -> Batch:
    return merge(writes, epoch=3, lane=1, number=7, acknowledged=6)


def _task(state: TaskState, **values: Any) -> TaskRow:
    return TaskRow(ordinal=0, name="t", state=state, attempt=1, **values)


def test_a_batch_carries_its_name() -> None:
    batch = _merge()
    assert (batch.epoch, batch.lane, batch.number, batch.acknowledged, batch.rows) == (3, 1, 7, 6, 0)


def test_moves_of_one_task_become_one(make: Any) -> None:
    moves = [(TaskState.READY, TaskState.RUNNING), (TaskState.RUNNING, TaskState.SUCCESS)]
    batch = _merge(*(make.move("a", seq, *move) for seq, move in enumerate(moves, 2)))
    ((owner, change),) = batch.tasks
    assert (owner, change.expect, change.row.state) == ("a", TaskGuard(TaskState.READY, 1), TaskState.SUCCESS)
    assert [event.seq for event in batch.events] == [2, 3]


def test_a_new_row_that_moves_is_still_new(make: Any) -> None:
    batch = _merge(make.start("a"), make.move("a", 2))
    ((_, change),) = batch.tasks
    assert (change.expect, change.row.state) == (None, TaskState.RUNNING)


@pytest.mark.parametrize("first", [UNSET, None, b"1"], ids=str)
@pytest.mark.parametrize("then", [UNSET, None, b"2"], ids=str)
def test_what_the_last_leaves_unset_is_that_of_the_one_before(make: Any, first: Any, then: Any) -> None:
    changes = (
        TaskChange(_task(TaskState.READY, result=first, error=then)),
        TaskChange(_task(TaskState.RUNNING, result=then, error=first), TaskGuard(TaskState.READY, 1)),
    )
    batch = _merge(make.decision("a", 1, tasks=changes))
    ((_, change),) = batch.tasks
    assert change.row.result == (first if then is UNSET else then)
    assert change.row.error == (then if first is UNSET else first)


def test_changes_of_an_instance_become_one(make: Any) -> None:
    row = InstanceRow(id="a", workflow_id="w", version="v", phase=Phase.DRAIN)
    paused = msgspec.structs.replace(row, hold=Hold.PAUSED)
    batch = _merge(
        make.start("a"),
        make.decision("a", 2, instance=InstanceChange(row, InstanceGuard(Phase.RUN, Hold.NONE, 1))),
        make.decision("a", 3, instance=InstanceChange(paused, InstanceGuard(Phase.DRAIN, Hold.NONE, 1))),
    )
    assert list(batch.instances) == [InstanceChange(paused)]


@pytest.mark.parametrize("guard", [(Phase.NEW, Hold.NONE, 1), (Phase.RUN, Hold.PAUSED, 1), (Phase.RUN, Hold.NONE, 2)])
def test_an_instance_change_that_expects_something_else_is_refused(make: Any, guard: Any) -> None:
    row = InstanceRow(id="a", workflow_id="w", version="v", phase=Phase.DRAIN)
    change = InstanceChange(row, InstanceGuard(*guard))
    with pytest.raises(BatchRefused, match=r"instances.*moved"):
        _merge(make.start("a"), make.decision("a", 2, instance=change))


def test_a_second_insert_is_refused(make: Any) -> None:
    with pytest.raises(BatchRefused, match=r"instances.*exists"):
        _merge(make.start("a"), make.start("a"))
    again = make.decision("a", 2, tasks=make.start("a").tasks)
    with pytest.raises(BatchRefused, match=r"tasks.*exists"):
        _merge(make.start("a"), again)


def test_a_task_change_that_expects_something_else_is_refused(make: Any) -> None:
    with pytest.raises(BatchRefused, match=r"tasks.*moved"):
        _merge(make.start("a"), make.stale("a", 2))


def test_the_same_ordinal_of_two_instances_is_two_rows(make: Any) -> None:
    batch = _merge(make.start("a"), make.start("b"))
    assert [owner for owner, _ in batch.tasks] == ["a", "b"]


def test_rows_without_a_past_keep_their_order(make: Any) -> None:
    commands = [CommandRow(id=name, kind="k") for name in "cab"]
    definitions = [DefinitionRow(workflow_id="w", version=name, canonical=b"{}", created_us=1) for name in "zx"]
    batch = _merge(
        definitions[0],
        make.decision("a", 1, commands=tuple(commands)),
        FunctionRow(name="f", path="old"),
        definitions[1],
        FunctionRow(name="f", path="new"),
    )
    assert [command for _, command in batch.commands] == commands
    assert list(batch.definitions) == definitions
    assert list(batch.functions) == [FunctionRow(name="f", path="new")]
    assert batch.rows == 1 + 3 + 2 + 1


def test_lines_and_tokens_are_counted_and_of_a_token_the_last_stays() -> None:
    lines = [
        LogRow(instance_id="a", id=number, task="t", attempt=1, level="info", message="", at_us=1)
        for number in (2, 1, 2)
    ]
    old, new = (TokenRow(id="t", name=name, scope="read", digest="00", created_us=1) for name in ("old", "new"))
    other = TokenRow(id="u", name="other", scope="read", digest="00", created_us=1)
    batch = _merge(LogBatch((lines[0], lines[1])), old, LogBatch(()), other, new, LogBatch((lines[2],)))
    assert list(batch.logs) == lines
    assert list(batch.tokens) == [new, other]
    assert batch.rows == 3 + 2


def test_a_removal_lasts_until_the_workflow_is_saved_again() -> None:
    save = DefinitionRow(workflow_id="w", version="v", canonical=b"{}", created_us=1)
    other = DefinitionRow(workflow_id="x", version="u", canonical=b"{}", created_us=1)
    removal = WorkflowRemoval(workflow_id="w")
    assert list(_merge(removal, save).removals) == []
    assert list(_merge(save, removal, other).removals) == ["w"]
    again = _merge(removal, save, removal, removal)
    assert (list(again.removals), list(again.definitions), again.rows) == (["w"], [save], 2)


def test_only_writes_are_taken() -> None:
    with pytest.raises(TypeError, match="str"):
        _merge("a")


def test_what_changes_behind_its_removal_is_refused_as_it_would_be_one_by_one(make: Any) -> None:
    removal = InstanceRemoval(instance_id=InstanceId("a"), run=1)
    end = InstanceChange(InstanceRow(id="a", workflow_id="w", version="v", phase=Phase.END))
    assert _merge(make.decision("a", 1, instance=end), removal, make.decision("b", 1)).instance_removals == [removal]
    for later in (make.start("a"), make.decision("a", 2, instance=end), removal):
        with pytest.raises(BatchRefused):
            _merge(removal, later)
