"""`Store.commit`: all or nothing, only where expected, never twice."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from taskengine.errors import BatchRefused, StoreError, StoreLocked
from taskengine.model.records import CommandRow, Decision, DefinitionRow, FunctionRow, ParkKind, TaskFailure, Verdict
from taskengine.model.states import Hold, InstanceState, Phase, TaskState
from taskengine.store.batch import Batch
from taskengine.store.interface import Store

READY, RUNNING, SUCCESS = TaskState.READY, TaskState.RUNNING, TaskState.SUCCESS


async def test_every_row_of_a_decision_is_there(store: Store, rows: Any) -> None:
    failure = msgspec.json.encode(TaskFailure(type="ValueError", message="no"))
    instance = rows.instance(
        "i",
        params=b'{"a": [1, 2.5, null]}',
        run=3,
        phase=Phase.END,
        hold=Hold.NONE,
        verdict=Verdict.FAILED,
        final=InstanceState.FAILED,
        compensate_asked=True,
        hard=True,
        deadline_us=9,
        deadline_left_us=8,
        created_us=1,
        started_us=2,
        finished_us=3,
        error="boom",
        idempotency_key="k",
    )
    task = rows.task(
        5,
        TaskState.WAITING,
        4,
        tries=2,
        parent=1,
        spec=b'{"job":"x"}',
        added_by=1,
        begun=True,
        due_us=77,
        park=ParkKind.SLEEP,
        key="signal",
        body_seq=6,
        losses=1,
        suspect=True,
        reason="why",
        started_us=10,
        finished_us=11,
        result=b"[1]",
        error=failure,
    )
    attempt = rows.attempt(5, 3, started_us=1, finished_us=2, error=failure)
    command = CommandRow(id="c", kind="pause", answer=b'{"ok":true}')
    decision = rows.decision(
        "i", 9, instance=rows.new(instance), tasks=[rows.change(task)], attempts=[attempt], commands=[command]
    )
    await rows.commit(store, decision)
    assert await store.instance("i") == instance
    assert await store.tasks("i") == [task]
    assert await store.attempts("i") == [attempt]
    assert await store.events("i") == [decision.event]
    assert await store.command("i", "c") == command
    loaded = (await store.load(["i"]))["i"]
    assert loaded is not None
    light = msgspec.structs.replace(task, result=msgspec.UNSET, error=msgspec.UNSET)
    assert (loaded.row, loaded.tasks, loaded.last_seq) == (instance, [light], 9)


async def test_a_task_moves_only_from_where_it_is_expected(store: Store, rows: Any) -> None:
    await rows.commit(store, rows.start("i", rows.task()))
    for state, attempt in ((RUNNING, 1), (READY, 2)):
        with pytest.raises(BatchRefused) as refused:
            await rows.commit(
                store, rows.decision("i", 2, tasks=[rows.change(rows.task(state=SUCCESS), state, attempt)])
            )
        assert (refused.value.table, refused.value.reason) == ("tasks", "moved")
    await rows.commit(store, rows.decision("i", 2, tasks=[rows.change(rows.task(state=SUCCESS), READY, 1)]))
    assert (await store.tasks("i"))[0].state is SUCCESS


async def test_a_task_that_is_not_there_does_not_move(store: Store, rows: Any) -> None:
    await rows.commit(store, rows.start("i"), rows.start("j", rows.task()))
    with pytest.raises(BatchRefused, match="moved"):
        await rows.commit(store, rows.decision("i", 2, tasks=[rows.change(rows.task(state=RUNNING), READY)]))


@pytest.mark.parametrize(
    "guard", [(Phase.NEW, Hold.NONE, 1), (Phase.RUN, Hold.PAUSED, 1), (Phase.RUN, Hold.NONE, 2)], ids=str
)
async def test_an_instance_moves_only_from_where_it_is_expected(
    store: Store, rows: Any, guard: tuple[Phase, Hold, int]
) -> None:
    await rows.commit(store, rows.start("i"))
    drained = rows.instance("i", phase=Phase.DRAIN)
    with pytest.raises(BatchRefused) as refused:
        await rows.commit(store, rows.decision("i", 2, instance=rows.moved(drained, *guard)))
    assert (refused.value.table, refused.value.reason) == ("instances", "moved")
    await rows.commit(store, rows.decision("i", 2, instance=rows.moved(drained)))
    assert await store.instance("i") == drained


def _second(kind: str, rows: Any) -> Decision:
    """A decision whose one row of this kind is there already."""
    made: dict[str, Callable[[], Decision]] = {
        "instances": lambda: rows.decision("i", 2, instance=rows.new(rows.instance("i"))),
        "tasks": lambda: rows.decision("i", 2, tasks=[rows.change(rows.task(0))]),
        "attempts": lambda: rows.decision("i", 2, attempts=[rows.attempt(0, 1)]),
        "events": lambda: rows.decision("i", 1),
        "commands": lambda: rows.decision("i", 2, commands=[CommandRow(id="c", kind="other")]),
    }
    return made[kind]()


@pytest.mark.parametrize("table", ["instances", "tasks", "attempts", "events", "commands"])
async def test_a_row_is_inserted_once(store: Store, rows: Any, everything: Any, table: str) -> None:
    first = rows.decision(
        "i",
        instance=rows.new(rows.instance("i")),
        tasks=[rows.change(rows.task())],
        attempts=[rows.attempt()],
        commands=[CommandRow(id="c", kind="pause")],
    )
    await rows.commit(store, first)
    before = await everything(store)
    with pytest.raises(BatchRefused) as refused:
        await rows.commit(store, rows.start("j", rows.task()), _second(table, rows))
    assert (refused.value.table, refused.value.reason) == (table, "exists")
    assert await everything(store) == before


@pytest.mark.parametrize("table", ["attempts", "events", "commands"])
async def test_a_row_is_inserted_once_within_a_batch(store: Store, rows: Any, table: str) -> None:
    twice = {
        "attempts": [rows.decision("i", 2, attempts=[rows.attempt(), rows.attempt()])],
        "events": [rows.decision("i", 2), rows.decision("i", 2)],
        "commands": [rows.decision("i", seq, commands=[CommandRow(id="c", kind="k")]) for seq in (2, 3)],
    }
    await rows.commit(store, rows.start("i"))
    with pytest.raises(BatchRefused) as refused:
        await rows.commit(store, *twice[table])
    assert (refused.value.table, refused.value.reason) == (table, "exists")


async def test_the_same_names_live_side_by_side_in_different_instances(store: Store, rows: Any) -> None:
    both = [
        rows.decision(
            name,
            instance=rows.new(rows.instance(name)),
            tasks=[rows.change(rows.task(name=name))],
            attempts=[rows.attempt(run=run)],
            commands=[CommandRow(id="c", kind=name)],
        )
        for run, name in enumerate(("i", "j"))
    ]
    await rows.commit(store, *both)
    for run, name in enumerate(("i", "j")):
        assert [task.name for task in await store.tasks(name)] == [name]
        assert [attempt.run for attempt in await store.attempts(name)] == [run]
        assert [command.kind for command in await store.commands(name)] == [name]


async def test_a_refused_batch_leaves_nothing(store: Store, rows: Any, everything: Any) -> None:
    await rows.commit(store, rows.start("i", rows.task(), rows.task(1)))
    before = await everything(store)
    good = rows.decision(
        "i",
        2,
        instance=rows.moved(rows.instance("i", phase=Phase.DRAIN)),
        tasks=[rows.change(rows.task(state=RUNNING), READY), rows.change(rows.task(2))],
        attempts=[rows.attempt()],
        commands=[CommandRow(id="c", kind="k")],
    )
    bad = rows.decision("i", 3, tasks=[rows.change(rows.task(1, SUCCESS), RUNNING)])
    others = [rows.definition(), FunctionRow(name="f", path="m:f"), rows.lines(1, 2), rows.token()]
    with pytest.raises(BatchRefused):
        await rows.commit(store, rows.start("j"), *others, good, bad)
    assert await everything(store) == before
    await rows.commit(store, good)
    assert (await store.load(["i"]))["i"].last_seq == 2


async def test_a_batch_that_is_sent_again_has_no_second_effect(store: Store, rows: Any, everything: Any) -> None:
    first = rows.batch(store, rows.start("i", rows.task()))
    await store.commit(first)
    await store.commit(first)
    second = rows.batch(store, rows.decision("i", 2, tasks=[rows.change(rows.task(state=RUNNING), READY)]))
    await store.commit(second)
    before = await everything(store)
    await store.commit(second)
    await store.commit(first)  # the row of the last acknowledged batch is still known
    assert await everything(store) == before


async def test_a_refused_batch_is_not_remembered_as_committed(store: Store, rows: Any) -> None:
    batch = rows.batch(store, rows.decision("i", 2, tasks=[rows.change(rows.task(state=RUNNING), READY)]))
    for _ in range(2):
        with pytest.raises(BatchRefused):
            await store.commit(batch)


async def test_an_empty_batch_commits(store: Store, rows: Any) -> None:
    batch = rows.batch(store)
    assert batch.rows == 0
    await store.commit(batch)
    await store.commit(batch)


async def test_a_batch_of_an_older_epoch_is_fatal(new_store: Store, rows: Any, everything: Any) -> None:
    await new_store.open()
    old = new_store.epoch
    await new_store.close()
    await new_store.open()
    with pytest.raises(StoreLocked):
        await new_store.commit(rows.batch(new_store, rows.start("i"), epoch=old))
    assert await new_store.instance("i") is None


async def test_an_idempotency_key_makes_one_instance_of_a_workflow(store: Store, rows: Any) -> None:
    await rows.commit(store, rows.start("i", idempotency_key="钥匙"))
    with pytest.raises(BatchRefused) as refused:
        await rows.commit(store, rows.start("j", idempotency_key="钥匙"))
    assert (refused.value.table, refused.value.reason) == ("instances", "key")
    assert await store.instance("j") is None
    await rows.commit(store, rows.start("j", workflow_id="other", idempotency_key="钥匙"))
    await rows.commit(store, rows.start("k"), rows.start("l"))  # none is not a key
    assert (await store.instance_by_key("w", "钥匙")).id == "i"
    assert (await store.instance_by_key("other", "钥匙")).id == "j"
    assert await store.instance_by_key("w", "another") is None


async def test_an_idempotency_key_is_taken_within_a_batch(store: Store, rows: Any) -> None:
    with pytest.raises(BatchRefused) as refused:
        await rows.commit(store, rows.start("i", idempotency_key="k"), rows.start("j", idempotency_key="k"))
    assert refused.value.reason == "key"


async def test_an_instance_that_exists_is_not_taken_for_a_key(store: Store, rows: Any) -> None:
    await rows.commit(store, rows.start("i", idempotency_key="k"))
    with pytest.raises(BatchRefused) as refused:
        await rows.commit(store, rows.start("i", idempotency_key="l"))
    assert refused.value.reason == "exists"


async def test_unset_leaves_result_and_error_alone(store: Store, rows: Any) -> None:
    await rows.commit(store, rows.start("i", rows.task(0, result=b'"r"', error=b'"e"'), rows.task(1)))
    move = rows.change(rows.task(0, RUNNING), READY)
    await rows.commit(store, rows.decision("i", 2, tasks=[move, rows.change(rows.task(1, RUNNING), READY)]))
    assert [(task.result, task.error) for task in await store.tasks("i")] == [(b'"r"', b'"e"'), (None, None)]


@pytest.mark.parametrize("result", [msgspec.UNSET, None, b"2"], ids=str)
@pytest.mark.parametrize("error", [msgspec.UNSET, None, b"3"], ids=str)
async def test_result_and_error_change_apart(store: Store, rows: Any, result: Any, error: Any) -> None:
    await rows.commit(store, rows.start("i", rows.task(0, result=b"0", error=b"1")))
    row = rows.task(0, RUNNING, result=result, error=error)
    await rows.commit(store, rows.decision("i", 2, tasks=[rows.change(row, READY)]))
    task = (await store.tasks("i"))[0]
    assert task.result == (b"0" if result is msgspec.UNSET else result)
    assert task.error == (b"1" if error is msgspec.UNSET else error)


async def test_who_an_instance_is_never_changes(store: Store, rows: Any) -> None:
    first = rows.instance("i", params=b"[1]", created_us=5, idempotency_key="k")
    await rows.commit(store, rows.decision("i", 1, instance=rows.new(first)))
    other = rows.instance(
        "i", workflow_id="x", version="y", params=b"[2]", created_us=6, idempotency_key="l", hard=True
    )
    await rows.commit(store, rows.decision("i", 2, instance=rows.moved(other)))
    assert await store.instance("i") == msgspec.structs.replace(first, hard=True)
    assert await store.instance_by_key("x", "l") is None


UNFIT = {
    "half a surrogate pair": {"reason": "\ud83d"},
    "not UTF-8": {"result": b"\xff"},
    "beyond 64 bits": {"tries": 1 << 63},
}


@pytest.mark.parametrize("values", UNFIT.values(), ids=UNFIT)
async def test_a_value_that_does_not_fit_is_refused(
    store: Store, rows: Any, everything: Any, values: dict[str, Any]
) -> None:
    before = await everything(store)
    with pytest.raises(BatchRefused) as refused:
        await rows.commit(store, rows.start("j", rows.task()), rows.start("i", rows.task(**values)))
    assert refused.value.reason == "unfit"
    assert await everything(store) == before


async def test_an_event_that_cannot_be_encoded_is_refused(store: Store, rows: Any) -> None:
    with pytest.raises(BatchRefused) as refused:
        await rows.commit(store, rows.decision("i", event=rows.event("i", 1, reason="\udcff")))
    assert (refused.value.table, refused.value.reason) == ("events", "unfit")


async def test_a_definition_is_kept_once_and_the_last_saved_is_current(store: Store, rows: Any) -> None:
    old = DefinitionRow(workflow_id="w", version="v1", canonical='{"名":1}'.encode(), created_us=1)
    new = DefinitionRow(workflow_id="w", version="v2", canonical=b"{}", created_us=2)
    other = DefinitionRow(workflow_id="a", version="v3", canonical=b"{}", created_us=3)
    await rows.commit(store, old, new, other)
    assert await store.current("w") == new
    assert await store.workflows() == [other, new]
    await rows.commit(store, DefinitionRow(workflow_id="w", version="v1", canonical=old.canonical, created_us=9))
    assert await store.current("w") == old
    assert await store.definition("v2") == new
    assert await store.definition("v4") is None
    assert await store.current("nobody") is None


async def test_of_functions_the_last_one_stays(store: Store, rows: Any) -> None:
    first = FunctionRow(name="装载", path="m:f", signature="(a)", doc="做", source_hash="h")
    await rows.commit(store, first, FunctionRow(name="a", path="m:a"))
    assert [row.name for row in await store.functions()] == ["a", "装载"]
    last = FunctionRow(name="装载", path="m:h")
    await rows.commit(store, FunctionRow(name="装载", path="m:g"), last)
    assert (await store.functions())[1] == last


async def test_what_is_committed_is_there_after_the_next_open(new_store: Store, rows: Any, everything: Any) -> None:
    await new_store.open()
    epoch = new_store.epoch
    await rows.commit(new_store, rows.start("i", rows.task(result=b"1")))
    before = await everything(new_store)
    await new_store.close()
    await new_store.open()
    assert await everything(new_store) == before
    assert new_store.epoch > epoch


async def test_an_open_store_is_not_opened_again(store: Store, rows: Any) -> None:
    epoch = store.epoch
    with pytest.raises(StoreError, match="open already"):
        await store.open()
    assert store.epoch == epoch
    await rows.commit(store, rows.start("i"))


async def test_a_closed_store_says_so(new_store: Store, rows: Any) -> None:
    batch = Batch(epoch=1, lane=0, number=1, acknowledged=0)
    with pytest.raises(Exception, match="not open"):
        await new_store.instance("i")
    await new_store.close()
    await new_store.open()
    await new_store.close()
    await new_store.close()
    with pytest.raises(Exception, match="not open"):
        await new_store.note_address("http://127.0.0.1:1")
    for verb in (lambda: new_store.commit(batch), lambda: new_store.instance("i"), new_store.status):
        with pytest.raises(Exception, match="not open") as failed:
            await verb()
        assert not isinstance(failed.value, StoreError)
