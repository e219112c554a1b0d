"""The reading verbs: order, pages, filters, exact bytes."""

import itertools
from typing import Any

import msgspec
import pytest

from taskengine.errors import BatchRefused
from taskengine.model.records import CommandRow, LogBatch
from taskengine.model.states import Hold, InstanceState, Phase, TaskState
from taskengine.store.interface import InstanceQuery, Store

ENDED = {"phase": Phase.END, "final": InstanceState.SUCCESS}


async def test_what_is_not_there_is_none_or_empty(store: Store) -> None:
    assert await store.instance("i") is None
    assert await store.load(["i"]) == {}
    assert await store.command("i", "c") is None
    assert await store.instances() == await store.tasks("i") == await store.events("i") == []
    assert await store.attempts("i") == await store.commands("i") == await store.functions() == []
    assert await store.results("i", [0]) == await store.task_errors("i", [0]) == {}
    assert await store.count_instances() == 0
    assert [row async for row in store.unfinished()] == []


async def test_instances_come_by_age_then_id(store: Store, rows: Any) -> None:
    for name, created_us in (("b", 2), ("a", 2), ("c", 1), ("d", 3)):
        await rows.commit(store, rows.start(name, created_us=created_us))
    assert [row.id for row in await store.instances()] == ["d", "b", "a", "c"]
    assert [row.id for row in await store.instances(descending=False)] == ["c", "a", "b", "d"]
    assert [row.id for row in await store.instances(limit=2, offset=1)] == ["b", "a"]
    assert await store.instances(offset=4) == await store.instances(limit=0) == []


async def test_instances_are_chosen_by_workflow_state_and_prefix(store: Store, rows: Any) -> None:
    kinds = {
        "run": {},
        "pause": {"hold": Hold.PAUSED},
        "end": ENDED,
        "fail": {"phase": Phase.END, "final": InstanceState.FAILED},
    }
    for at, (workflow, (kind, values)) in enumerate(itertools.product(("w", "流程"), kinds.items())):
        await rows.commit(store, rows.start(f"{workflow}-{kind}", workflow_id=workflow, created_us=at, **values))
    ended = frozenset({InstanceState.SUCCESS, InstanceState.FAILED})
    assert [row.id for row in await store.instances(InstanceQuery(workflow_id="流程"), descending=False)] == [
        f"流程-{kind}" for kind in kinds
    ]
    assert [row.id for row in await store.instances(InstanceQuery(states=frozenset({InstanceState.PAUSED})))] == [
        "流程-pause",
        "w-pause",
    ]
    assert [row.id for row in await store.instances(InstanceQuery(workflow_id="w", states=ended))] == [
        "w-fail",
        "w-end",
    ]
    assert [row.id for row in await store.instances(InstanceQuery(prefix="流程-p"))] == ["流程-pause"]
    for prefix in ("%", "x"):
        assert await store.instances(InstanceQuery(prefix=prefix)) == []
    assert await store.count_instances() == 8
    assert await store.count_instances(InstanceQuery(workflow_id="w")) == 4
    assert await store.count_instances(InstanceQuery(states=ended)) == 4
    running = frozenset({InstanceState.RUNNING})
    assert await store.count_instances(InstanceQuery(workflow_id="w", states=running)) == 1
    assert dict((await store.status()).instances) == {
        InstanceState.RUNNING: 2,
        InstanceState.PAUSED: 2,
        InstanceState.SUCCESS: 2,
        InstanceState.FAILED: 2,
    }


async def test_the_state_of_an_instance_follows_its_moves(store: Store, rows: Any) -> None:
    await rows.commit(store, rows.start("i"))
    await rows.commit(store, rows.decision("i", 2, instance=rows.moved(rows.instance("i", **ENDED))))
    assert await store.count_instances(InstanceQuery(states=frozenset({InstanceState.RUNNING}))) == 0
    assert [row.id for row in await store.instances(InstanceQuery(states=frozenset({InstanceState.SUCCESS})))] == ["i"]
    assert [row async for row in store.unfinished()] == []


async def test_the_unfinished_come_oldest_first_over_all_pages(store: Store, rows: Any) -> None:
    names = [f"{number:03}" for number in range(450)]
    # Many of one age, so that a page ends between two of them.
    starts = [rows.start(name, created_us=int(name) // 7) for name in names]
    ends = [rows.start(f"x{name}", created_us=3, **ENDED) for name in names[:50]]
    await rows.commit(store, *starts, *ends)
    assert [row.id async for row in store.unfinished()] == names


async def test_the_unfinished_may_finish_while_they_are_read(store: Store, rows: Any) -> None:
    await rows.commit(store, *(rows.start(f"{number:03}", created_us=number) for number in range(250)))
    seen = []
    async for row in store.unfinished():
        seen.append(row.id)
        end = msgspec.structs.replace(row, **ENDED)
        await rows.commit(store, rows.decision(row.id, 2, instance=rows.moved(end)))
    assert seen == [f"{number:03}" for number in range(250)]


async def test_tasks_come_by_ordinal_in_pages(store: Store, rows: Any) -> None:
    tasks = [rows.task(ordinal, result=b"%d" % ordinal, error=None) for ordinal in (10, 2, 0, 7)]
    await rows.commit(store, rows.start("i", *tasks), rows.start("j", rows.task(1)))
    assert [task.ordinal for task in await store.tasks("i")] == [0, 2, 7, 10]
    assert [task.ordinal for task in await store.tasks("i", limit=2)] == [0, 2]
    assert [task.ordinal for task in await store.tasks("i", after=2, limit=5)] == [7, 10]
    loaded = (await store.load(["i"]))["i"]
    assert loaded is not None
    assert [(task.ordinal, task.result) for task in loaded.tasks] == [(o, msgspec.UNSET) for o in (0, 2, 7, 10)]


async def test_results_and_errors_are_read_by_ordinal(store: Store, rows: Any) -> None:
    tasks = [rows.task(0, result=b"null"), rows.task(1, error=b"{}"), rows.task(2, result=b"2"), rows.task(3)]
    await rows.commit(store, rows.start("i", *tasks))
    assert await store.results("i", [0, 1, 2, 3, 99]) == {0: b"null", 2: b"2"}
    assert await store.results("i", {2}) == {2: b"2"}
    assert await store.results("i", []) == {}
    assert await store.task_errors("i", range(4)) == {1: b"{}"}
    assert await store.results("i", range(5000)) == {0: b"null", 2: b"2"}


async def test_events_come_by_seq_in_pages(store: Store, rows: Any) -> None:
    await rows.commit(store, rows.start("i"), rows.start("j"))
    for seq in range(2, 8):
        await rows.commit(store, rows.decision("i", seq))
    assert [event.seq for event in await store.events("i")] == [1, 2, 3, 4, 5, 6, 7]
    assert [event.seq for event in await store.events("i", after=2, limit=3)] == [3, 4, 5]
    assert await store.events("i", after=7) == []
    assert (await store.load(["i"]))["i"].last_seq == 7


async def test_attempts_come_by_task_and_number(store: Store, rows: Any) -> None:
    attempts = [rows.attempt(ordinal, number) for ordinal, number in ((2, 1), (0, 2), (0, 10), (0, 1))]
    await rows.commit(store, rows.decision("i", instance=rows.new(rows.instance("i")), attempts=attempts))
    assert [(row.ordinal, row.attempt) for row in await store.attempts("i")] == [(0, 1), (0, 2), (0, 10), (2, 1)]
    assert [row.attempt for row in await store.attempts("i", 0)] == [1, 2, 10]
    assert await store.attempts("i", 1) == []


async def test_commands_come_in_the_order_of_their_commits(store: Store, rows: Any) -> None:
    await rows.commit(store, rows.start("i"))
    for seq, names in ((2, "zb"), (3, "a")):
        commands = [CommandRow(id=name, kind="pause", answer=b"[1, 2]") for name in names]
        await rows.commit(store, rows.decision("i", seq, commands=commands))
    assert [row.id for row in await store.commands("i")] == ["z", "b", "a"]
    assert await store.command("i", "b") == CommandRow(id="b", kind="pause", answer=b"[1, 2]")


TEXTS = ["数据 装载 🚀", "مرحبا", "'; DROP TABLE tasks; --", "\u2028\u202e", ""]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
async def test_text_of_any_script_comes_back_exactly(store: Store, rows: Any, text: str) -> None:
    json = msgspec.json.encode({"值": text})
    task = rows.task(name=text, reason=text, key=text, result=json, error=json, spec=json)
    instance = rows.instance("i", workflow_id=text, params=json, error=text)
    event = rows.event("i", 1, reason=text)
    await rows.commit(store, rows.decision("i", instance=rows.new(instance), tasks=[rows.change(task)], event=event))
    assert await store.instance("i") == instance
    assert await store.tasks("i") == [task]
    assert await store.events("i") == [event]
    assert [row.id for row in await store.instances(InstanceQuery(workflow_id=text))] == ["i"]


async def test_nul_comes_back_or_is_replaced_where_people_read_it(store: Store, rows: Any, backend: Any) -> None:
    """JSON has an escape for it, so results keep it everywhere. A name with it is refused where it cannot be kept."""
    text, json = "a\x00b", msgspec.json.encode({"值": "a\x00b", "b": "a\\u0000b"})
    shown = text if backend.holds_nul else "a\ufffdb"
    await rows.commit(store, rows.start("i", rows.task(reason=text, result=json), error=text, params=json))
    await rows.commit(store, LogBatch((rows.line(1, message=text),)))
    assert [(row.reason, row.result) for row in await store.tasks("i")] == [(shown, json)]
    assert [(row.error, row.params) for row in await store.instances()] == [(shown, json)]
    assert [line.message for line in await store.logs("i")] == [shown]
    named = rows.batch(store, rows.start("j", workflow_id=text))
    if backend.holds_nul:
        await store.commit(named)
    else:
        with pytest.raises(BatchRefused) as refused:
            await store.commit(named)
        assert (refused.value.table, refused.value.reason) == ("instances", "unfit")
    found = [row.id for row in await store.instances(InstanceQuery(search="\x00"))]
    assert sorted(found) == (["i", "j"] if backend.holds_nul else [])
    assert (await store.instance("\x00")) is None


async def test_large_results_come_back_exactly(store: Store, rows: Any) -> None:
    big = b'"' + "大".encode() * (1 << 20) + b'"'
    await rows.commit(store, rows.start("i", rows.task(0, result=big), rows.task(1, error=big)))
    assert (await store.results("i", [0]))[0] == big
    assert (await store.task_errors("i", [1]))[1] == big
    await rows.commit(
        store, rows.decision("i", 2, tasks=[rows.change(rows.task(0, TaskState.RUNNING), TaskState.READY)])
    )
    assert (await store.tasks("i"))[0].result == big


async def test_json_is_not_rewritten(store: Store, rows: Any) -> None:
    odd = b'{ "b":1.0,"a" : 1e5,\n"b":2 }'
    await rows.commit(store, rows.start("i", rows.task(result=odd), params=odd))
    assert (await store.results("i", [0]))[0] == odd
    assert (await store.instance("i")).params == odd


async def test_the_status_tells_what_the_store_is(store: Store, rows: Any, backend: Any) -> None:
    status = await store.status()
    assert backend.name in status.address
    assert (status.schema > 0) is backend.migrates
    assert (status.size_bytes > 0) is backend.measures


async def test_several_instances_are_loaded_at_once_each_with_its_own(store: Store, rows: Any) -> None:
    for name in ("a", "b"):
        await rows.commit(store, rows.start(name))
    loaded = await store.load(["b", "a", "nobody"])
    assert sorted(loaded) == ["a", "b"]
    for name in ("a", "b"):
        assert loaded[name] == (await store.load([name]))[name]
        assert loaded[name].row.id == name
        assert loaded[name].commands == await store.commands(name)
    assert await store.load([]) == {}
