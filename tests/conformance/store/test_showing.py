"""The verbs that show one instance, and many at once, without reading all that there is."""

from typing import Any

from taskengine.model.states import InstanceState, Phase, TaskState
from taskengine.store.interface import Store

ENDED = {"phase": Phase.END, "final": InstanceState.SUCCESS}


async def test_a_sight_is_the_row_the_last_event_and_at_the_end_the_wanted_results(store: Store, rows: Any) -> None:
    tasks = [rows.task(0, result=b"0"), rows.task(1, result="二".encode().join([b'"', b'"'])), rows.task(2)]
    await rows.commit(store, rows.start("甲", *tasks), rows.start("other", rows.task(0, result=b"9"), **ENDED))
    asked: list[str] = []

    def wanted(version: Any) -> list[int]:
        asked.append(version)
        return [1, 2, 7]

    running = await store.sight("甲", wanted)
    assert running is not None
    assert running.row == await store.instance("甲")
    assert running.last == await store.last_event("甲")
    assert (dict(running.results), asked) == ({}, [])
    await rows.commit(store, rows.decision("甲", 2, instance=rows.moved(rows.instance("甲", **ENDED))))
    ended = await store.sight("甲", wanted)
    assert ended is not None
    assert (ended.row.final, ended.last) == (InstanceState.SUCCESS, await store.last_event("甲"))
    assert (dict(ended.results), asked) == ({1: '"二"'.encode()}, ["v"])


async def test_a_sight_of_what_is_not_there_is_none(store: Store, rows: Any) -> None:
    await rows.commit(store, rows.start("i"))
    for unknown in ("j", "", "\ud800", "i\x00"):
        assert await store.sight(unknown, lambda version: []) is None


async def test_the_last_events_of_many_come_at_once(store: Store, rows: Any) -> None:
    await rows.commit(store, rows.start("a"), rows.start("二"), rows.start("c"))
    await rows.commit(store, rows.decision("二", 2))
    await rows.commit(store, rows.decision("二", 3))
    found = await store.last_events(["二", "a", "nobody"])
    assert {name: event.seq for name, event in found.items()} == {"二": 3, "a": 1}
    assert found["二"] == await store.last_event("二")
    assert await store.last_events([]) == {}


async def test_open_tasks_are_told_by_bucket_and_untouched_ones_are_pending(store: Store, rows: Any) -> None:
    states = [TaskState.SUCCESS, TaskState.RUNNING, TaskState.READY, TaskState.RETRYING, TaskState.SKIPPED]
    await rows.commit(
        store,
        rows.start("i", *(rows.task(n, state=state) for n, state in enumerate(states))),
        rows.start("j", rows.task(6, state=TaskState.RUNNING)),
    )
    found = await store.open_tasks("i", 8)
    assert (found.running, found.pending) == ([1, 3], [2, 5, 6, 7])
    few = await store.open_tasks("i", 8, limit=1)
    assert (few.running, few.pending) == ([1], [2])
    added = await store.open_tasks("i", 2)
    assert (added.running, added.pending) == ([1, 3], [2]), "from 2 on they were added, and each has a row"
    assert (await store.open_tasks("nobody", 3)).pending == [0, 1, 2]


async def test_open_tasks_follow_the_moves(store: Store, rows: Any) -> None:
    await rows.commit(store, rows.start("i", rows.task(0, state=TaskState.RUNNING, attempt=1)))
    assert (await store.open_tasks("i", 1)).running == [0]
    done = rows.change(rows.task(0, state=TaskState.SUCCESS), TaskState.RUNNING)
    await rows.commit(store, rows.decision("i", 2, tasks=[done]))
    found = await store.open_tasks("i", 1)
    assert (found.running, found.pending) == ([], [])


async def test_added_tasks_are_found_by_name_until_they_are_out(store: Store, rows: Any) -> None:
    added = [
        rows.task(n, name=name, parent=0, spec=b"{}", added_by=by)
        for n, (name, by) in enumerate([("父/甲", -1), ("父/乙", 1), ("父/甲", 2)], start=1)
    ]
    await rows.commit(
        store, rows.start("i", rows.task(0, name="父"), *added), rows.start("j", rows.task(0, name="父/丙"))
    )
    found = [await store.added_task("i", name) for name in ("父/甲", "父/乙", "父", "父/丙", "\ud800")]
    assert found == [3, 2, None, None, None]
    assert await store.task_names("i", [0, 2, 3, 9]) == {0: "父", 2: "父/乙", 3: "父/甲"}
    assert await store.task_names("i", []) == await store.task_names("nobody", [0]) == {}
    (row,) = [task for task in await store.tasks("i") if task.ordinal == 2]
    assert (row.parent, row.spec, row.added_by) == (0, b"{}", 1)
    out = rows.change(rows.task(2, name="父/乙", parent=0, spec=b"{}", added_by=-1), row.state, row.attempt)
    await rows.commit(store, rows.decision("i", 2, tasks=[out]))
    assert await store.added_task("i", "父/乙") is None


async def test_states_of_tasks_are_read_by_ordinal(store: Store, rows: Any) -> None:
    await rows.commit(store, rows.start("i", rows.task(0, state=TaskState.FAILED), rows.task(3)))
    assert await store.task_states("i", [0, 1, 3]) == {0: TaskState.FAILED, 3: rows.task(3).state}
    assert await store.task_states("i", []) == await store.task_states("j", [0]) == {}


async def test_attempts_are_read_for_a_range_of_tasks(store: Store, rows: Any) -> None:
    attempts = [rows.attempt(ordinal, number) for ordinal, number in ((2, 1), (0, 2), (0, 1), (5, 1))]
    await rows.commit(store, rows.decision("i", instance=rows.new(rows.instance("i")), attempts=attempts))

    async def pairs(**bounds: int) -> list[tuple[int, int]]:
        return [(row.ordinal, row.attempt) for row in await store.attempts("i", **bounds)]

    assert await pairs(after=0) == [(2, 1), (5, 1)]
    assert await pairs(last=2) == [(0, 1), (0, 2), (2, 1)]
    assert await pairs(after=0, last=4) == [(2, 1)]
    assert await pairs(after=2, last=4) == []


async def test_tasks_are_found_and_counted_by_state_and_parent(store: Store, rows: Any) -> None:
    waiting, failed = TaskState.WAITING, TaskState.FAILED
    below = [
        rows.task(n, name=f"父/{n}", parent=1, spec=b"{}", added_by=by, state=state)
        for n, by, state in ((4, 1, failed), (5, 1, waiting), (6, 2, failed), (7, -1, failed))
    ]
    tasks = [rows.task(0, state=failed), rows.task(1, name="父", state=waiting), *below]
    await rows.commit(store, rows.start("i", *tasks), rows.start("j", rows.task(9, state=failed)))
    assert await store.tasks_in("i", [failed]) == [0, 4, 6], "and none that is out"
    assert await store.tasks_in("i", [failed, waiting], parent=1) == [4, 5, 6]
    assert await store.tasks_in("i", [failed], limit=2) == [0, 4]
    assert await store.tasks_in("i", []) == await store.tasks_in("nobody", [failed]) == []
    assert await store.tasks_in("i", [failed], parent=2) == []
    assert await store.count_tasks("i") == {failed: 3, waiting: 2}
    assert await store.count_tasks("i", parent=1) == {failed: 2, waiting: 1}
    assert await store.count_tasks("nobody") == await store.count_tasks("\ud800") == {}
