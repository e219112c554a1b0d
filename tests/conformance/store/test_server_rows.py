"""What a server keeps: log lines, tokens, the versions of a workflow and its removal, the address."""

from typing import Any

import msgspec
import pytest

from taskengine.errors import BatchRefused, StoreError
from taskengine.model.records import LogBatch, WorkflowRemoval
from taskengine.store.interface import InstanceQuery, Store


async def test_what_is_not_there_is_empty(looks: Any, store: Store) -> None:
    for look in await looks():
        assert await look.logs("i") == await look.logs("i", tail=5) == await look.tokens() == []
        assert await look.versions("w") == []
        assert await look.last_log("i") == 0


async def test_lines_come_by_id_in_pages(looks: Any, store: Store, rows: Any) -> None:
    await rows.commit(store, rows.lines(3, 1), rows.lines(2, instance_id="j"))
    await rows.commit(store, rows.lines(*range(4, 11)), rows.start("i"))
    for look in await looks():
        assert [line.id for line in await look.logs("i")] == [1, 3, 4, 5, 6, 7, 8, 9, 10]
        assert [line.id for line in await look.logs("i", after=3, limit=2)] == [4, 5]
        assert [line.id for line in await look.logs("j")] == [2]
        assert await look.logs("i", after=10) == await look.logs("i", limit=0) == []
        assert (await look.last_log("i"), await look.last_log("j"), await look.last_log("k")) == (10, 2, 0)


async def test_the_tail_is_the_last_of_those_that_match_in_order(looks: Any, store: Store, rows: Any) -> None:
    await rows.commit(store, *(rows.lines(number, task=f"t{number % 2}") for number in range(1, 21)))
    for look in await looks():
        assert [line.id for line in await look.logs("i", tail=3)] == [18, 19, 20]
        assert [line.id for line in await look.logs("i", tail=3, task="t1")] == [15, 17, 19]
        assert [line.id for line in await look.logs("i", tail=9, after=17)] == [18, 19, 20]
        assert [line.id for line in await look.logs("i", tail=9, after=17, task="t1")] == [19]
        assert [line.id for line in await look.logs("i", tail=4, limit=2)] == [17, 18, 19, 20]
        assert len(await look.logs("i", tail=100)) == 20
        assert await look.logs("i", tail=0) == await look.logs("i", tail=5, task="t2") == []


async def test_lines_of_one_task_are_those_of_its_exact_name(store: Store, rows: Any) -> None:
    names = ["load", "load/0", "LOAD", "l%", "任务", ""]
    await rows.commit(store, *(rows.lines(number, task=name) for number, name in enumerate(names, 1)))
    for number, name in enumerate(names, 1):
        assert [line.id for line in await store.logs("i", task=name)] == [number]
    assert [line.id for line in await store.logs("i", task="load", after=1)] == []


TEXTS = ["数据 🚀", "\x1b[31mred", "'; DROP TABLE logs; --", "x" * 100_000, ""]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:20]))
async def test_a_line_comes_back_exactly(store: Store, rows: Any, text: str) -> None:
    line = rows.line(1, message=text, task=text, level="stderr", attempt=7, at_us=1 << 50)
    await rows.commit(store, LogBatch((line,)))
    assert await store.logs("i") == [line]


async def test_a_line_that_is_there_is_passed_over_and_its_neighbours_stay(store: Store, rows: Any) -> None:
    first = rows.lines(1, 2, message="first")
    await rows.commit(store, first)
    again = rows.lines(2, 3, 3, message="again")
    await rows.commit(store, rows.start("i"), again, rows.lines(3, message="last"), rows.token())
    assert [(line.id, line.message) for line in await store.logs("i")] == [(1, "first"), (2, "first"), (3, "again")]
    assert await store.instance("i") is not None
    assert await store.tokens() == [rows.token()]


@pytest.mark.parametrize("values", [{"message": "\ud83d"}, {"task": "\udcff"}, {"at_us": 1 << 63}], ids=ascii)
async def test_a_line_that_does_not_fit_is_refused(
    store: Store, rows: Any, everything: Any, values: dict[str, Any]
) -> None:
    before = await everything(store)
    with pytest.raises(BatchRefused) as refused:
        await rows.commit(store, rows.start("j"), rows.token(), rows.lines(1), rows.lines(2, **values))
    assert (refused.value.table, refused.value.reason) == ("logs", "unfit")
    assert await everything(store) == before


async def test_a_token_is_replaced_as_a_whole(looks: Any, store: Store, rows: Any) -> None:
    first = rows.token("a", name="笔记本", scope="admin", digest="ff", created_us=5, expires_us=9)
    other = rows.token("b", created_us=4)
    await rows.commit(store, first, other, rows.token("c", created_us=4))
    revoked = msgspec.structs.replace(first, revoked_us=7, expires_us=None, scope="read", name="x", digest="00")
    for look in await looks():
        assert [row.id for row in await look.tokens()] == ["b", "c", "a"]
        assert (await look.tokens())[2] == first
    await rows.commit(store, first, revoked)
    for look in await looks():
        assert await look.tokens() == [other, rows.token("c", created_us=4), revoked]


async def test_a_token_that_does_not_fit_is_refused(store: Store, rows: Any) -> None:
    with pytest.raises(BatchRefused) as refused:
        await rows.commit(store, rows.token(name="\ud83d"))
    assert (refused.value.table, refused.value.reason) == ("tokens", "unfit")


async def test_versions_come_newest_first(looks: Any, store: Store, rows: Any) -> None:
    made = [rows.definition(f"v{number}", created_us=at) for number, at in enumerate((5, 7, 7, 6))]
    other = rows.definition("x", "other", created_us=9)
    await rows.commit(store, *made, other)
    await rows.commit(store, msgspec.structs.replace(made[0], created_us=99))
    for look in await looks():
        assert [row.version for row in await look.versions("w")] == ["v2", "v1", "v3", "v0"]
        assert await look.versions("other") == [other]
        assert (await look.current("w")).version == "v0"


async def test_a_removed_workflow_has_no_current_version_and_keeps_its_definitions(
    looks: Any, store: Store, rows: Any
) -> None:
    definition = rows.definition(canonical=b'{"labels":{"a":"b"}}')
    await rows.commit(store, definition, rows.definition("x", "other"), rows.start("i"))
    await rows.commit(store, WorkflowRemoval(workflow_id="w"))
    for look in await looks():
        assert await look.current("w") is None
        assert [row.workflow_id for row in await look.workflows()] == ["other"]
        assert await look.definition("v") == definition
        assert await look.versions("w") == [definition]
        assert [row.id for row in await look.instances(InstanceQuery(labels={"a": "b"}))] == ["i"]
    await rows.commit(store, definition)
    assert await store.current("w") == definition


async def test_of_a_save_and_a_removal_in_one_batch_the_last_counts(store: Store, rows: Any) -> None:
    old, new, removal = rows.definition("v1"), rows.definition("v2"), WorkflowRemoval(workflow_id="w")
    for writes, current in (
        ([old, removal], None),
        ([removal, old], "v1"),
        ([old, removal, new], "v2"),
        ([old, removal, new, removal], None),
        ([removal, removal, new, old], "v1"),
    ):
        await rows.commit(store, *writes)
        found = await store.current("w")
        assert (None if found is None else found.version) == current


async def test_removing_what_is_not_there_changes_nothing(store: Store, rows: Any, everything: Any) -> None:
    await rows.commit(store, rows.definition())
    before = await everything(store)
    await rows.commit(store, WorkflowRemoval(workflow_id="nobody's"))
    assert await everything(store) == before


async def test_rows_of_every_kind_are_there_after_the_next_open(new_store: Store, rows: Any, everything: Any) -> None:
    await new_store.open()
    await rows.commit(new_store, rows.start("i"), rows.lines(1, 2), rows.token(), rows.definition(), rows.lines(3))
    before = await everything(new_store)
    assert (len(before["logs"]), len(before["tokens"]), len(before["versions"])) == (3, 1, 1)
    await new_store.close()
    await new_store.open()
    assert await everything(new_store) == before


async def test_a_batch_of_lines_and_tokens_that_is_sent_again_has_no_second_effect(
    store: Store, rows: Any, everything: Any
) -> None:
    batch = rows.batch(store, rows.lines(1, 2), rows.token(), rows.definition(), WorkflowRemoval(workflow_id="w"))
    assert batch.rows == 2 + 1 + 1 + 1
    await store.commit(batch)
    before = await everything(store)
    await store.commit(batch)
    assert await everything(store) == before


async def test_an_address_can_be_noted_wherever_rows_can_be_read(looks: Any, store: Store) -> None:
    for look in await looks():
        await look.note_address("http://127.0.0.1:8080")
        await look.note_address("")


async def test_a_store_that_only_reads_takes_no_batch_and_has_no_epoch(store: Store, rows: Any, looks: Any) -> None:
    await rows.commit(store, rows.start("i"))
    _, reader = await looks()
    assert reader.epoch == 0
    for write in (rows.start("j"), rows.lines(1), rows.token(), WorkflowRemoval(workflow_id="w")):
        with pytest.raises(StoreError, match="reading only"):
            await reader.commit(rows.batch(store, write))
    assert [row.id for row in await store.instances()] == ["i"]
    assert await store.logs("i") == await store.tokens() == []


ODD = ["\udcff", "\ud83d"]


@pytest.mark.parametrize("text", ODD, ids=ascii)
async def test_what_cannot_be_stored_can_be_asked_for_and_is_not_there(store: Store, rows: Any, text: str) -> None:
    await rows.commit(store, rows.start("i"), rows.lines(1), rows.definition(canonical=b'{"labels":{"a":"b"}}'))
    assert await store.instance(text) is await store.current(text) is await store.command("i", text) is None
    assert await store.instance_by_key("w", text) is await store.definition(text) is None
    assert await store.logs(text) == await store.logs("i", task=text) == await store.versions(text) == []
    assert await store.last_log(text) == 0
    for query in (
        InstanceQuery(workflow_id=text),
        InstanceQuery(search=text),
        InstanceQuery(prefix=text),
        InstanceQuery(labels={text: "b"}),
        InstanceQuery(labels={"a": text}),
    ):
        assert await store.instances(query) == []
        assert await store.count_instances(query) == 0


async def test_numbers_beyond_64_bits_can_be_asked_for(store: Store, rows: Any) -> None:
    huge = 1 << 70
    await rows.commit(store, rows.start("i", created_us=5), rows.lines(1))
    assert await store.count_instances(InstanceQuery(created_after_us=-huge, created_before_us=huge)) == 1
    assert await store.count_instances(InstanceQuery(created_after_us=huge)) == 0
    assert [row.id for row in await store.instances(limit=huge, after=(huge, "x"))] == ["i"]
    assert await store.instances(offset=huge) == await store.logs("i", after=huge) == []
    assert len(await store.logs("i", after=-huge, tail=huge)) == 1
