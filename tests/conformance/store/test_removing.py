"""Instances are taken away in two steps: one row at once, all that it has left behind in slices."""

from typing import Any

import msgspec
import pytest

from taskengine.errors import BatchRefused
from taskengine.model.artifacts import ArtifactRef, digest_of, reference
from taskengine.model.definition import Retention, WorkflowDefinition, canonical_form, version_of
from taskengine.model.ids import InstanceId, WorkflowId
from taskengine.model.records import Aged, CommandRow, Decision, InstanceRemoval, InstanceRow, Sweep
from taskengine.model.states import InstanceState, Phase
from taskengine.store.interface import InstanceQuery, Store

LARGE = reference(ArtifactRef(digest_of(b"large"), 5))
ALL = Sweep(instances=1000, rows=100_000)


def ended(rows: Any, instance_id: str = "i", *, tasks: int = 3, **values: Any) -> Decision:
    """One that has ended at once, with tasks, earlier attempts and a command."""
    plain = {"phase": Phase.END, "final": InstanceState.SUCCESS, "created_us": 5, "finished_us": 9}
    return rows.decision(
        instance_id,
        1,
        instance=rows.new(rows.instance(instance_id, **{**plain, **values})),
        tasks=[rows.change(rows.task(number, result=LARGE if number == 0 else None)) for number in range(tasks)],
        attempts=[rows.attempt(number) for number in range(tasks)],
        commands=[CommandRow(id="c", kind="pause"), CommandRow(id="d", kind="resume")],
    )


async def put(store: Store, rows: Any, instance_id: str = "i", **values: Any) -> None:
    """The same, with more events and some lines."""
    later = [rows.decision(instance_id, seq) for seq in (2, 3, 4)]
    await rows.commit(store, ended(rows, instance_id, **values), *later, rows.lines(1, 2, instance_id=instance_id))


def gone(instance_id: str = "i", run: int = 1) -> InstanceRemoval:
    return InstanceRemoval(instance_id=InstanceId(instance_id), run=run)


async def left_of(store: Store, instance_id: str) -> int:
    """Its rows beside the one of the instance itself."""
    return (
        len(await store.tasks(InstanceId(instance_id)))
        + len(await store.attempts(InstanceId(instance_id)))
        + len(await store.events(InstanceId(instance_id)))
        + len(await store.commands(InstanceId(instance_id)))
        + len(await store.logs(InstanceId(instance_id)))
        + len(await store.artifacts(InstanceId(instance_id)))
    )


PUT = 3 + 3 + 4 + 2 + 2 + 1


async def test_a_removed_instance_is_seen_by_no_reader(looks: Any, store: Store, rows: Any) -> None:
    await put(store, rows, idempotency_key="k")
    await rows.commit(store, gone())
    for look in await looks():
        assert await look.instance("i") is await look.sight("i", lambda version: ()) is None
        assert await look.instances() == await look.aged() == []
        assert await look.count_instances() == 0
        assert await look.load(["i"]) == {}
        assert await look.instance_by_key("w", "k") is None
        assert [row async for row in look.unfinished()] == []
        assert (await look.status()).instances == {}
        assert await look.removed() == ["i"]


async def test_what_is_kept_stays_as_it_was(store: Store, rows: Any, everything: Any) -> None:
    for instance_id in ("h", "j"):
        await put(store, rows, instance_id)
    await rows.commit(store, rows.start("k", rows.task()), rows.definition())
    before = await everything(store)
    await put(store, rows, "i")
    await rows.commit(store, gone("i"))
    for _ in range(10):
        await rows.commit(store, Sweep(instances=1, rows=4))
    assert await store.removed() == []
    assert await left_of(store, "i") == 0
    assert await everything(store) == before


@pytest.mark.parametrize(
    "values",
    [{"phase": Phase.RUN, "final": None, "finished_us": None}, {"run": 2}],
    ids=["it runs again", "another run has ended"],
)
async def test_a_retry_that_came_first_wins(store: Store, rows: Any, everything: Any, values: Any) -> None:
    await put(store, rows, **values)
    await put(store, rows, "j")
    before = await everything(store)
    with pytest.raises(BatchRefused) as refused:
        await rows.commit(store, gone("j"), gone("i"), rows.start("k"))
    assert (refused.value.table, refused.value.reason) == ("instances", "moved")
    assert await everything(store) == before
    assert await store.removed() == []


async def test_a_retry_in_the_same_batch_wins(store: Store, rows: Any) -> None:
    await put(store, rows)
    again = rows.moved(rows.instance("i", run=2), Phase.END)
    with pytest.raises(BatchRefused):
        await rows.commit(store, rows.decision("i", 5, instance=again), gone())
    assert (await store.instance("i")).run == 1


@pytest.mark.parametrize("what", [[gone("nobody's")], [gone(), gone()]], ids=["unknown", "twice"])
async def test_only_what_is_there_can_be_removed(store: Store, rows: Any, what: list[InstanceRemoval]) -> None:
    await put(store, rows)
    with pytest.raises(BatchRefused) as refused:
        await rows.commit(store, *what)
    assert (refused.value.table, refused.value.reason) == ("instances", "moved")
    assert await store.removed() == []
    await rows.commit(store, gone())
    with pytest.raises(BatchRefused):
        await rows.commit(store, gone())


async def test_an_end_and_a_removal_may_come_in_one_batch(store: Store, rows: Any) -> None:
    await rows.commit(store, rows.start("i"))
    end = rows.moved(rows.instance("i", phase=Phase.END, final=InstanceState.FAILED))
    await rows.commit(store, rows.decision("i", 2, instance=end), gone())
    assert await store.instance("i") is None
    await rows.commit(store, ALL)
    assert (await left_of(store, "i"), await store.removed()) == (0, [])


async def test_a_key_is_free_when_its_instance_is_gone(store: Store, rows: Any) -> None:
    await put(store, rows, idempotency_key="k")
    await rows.commit(store, gone())
    await rows.commit(store, rows.start("j", idempotency_key="k"))
    found = await store.instance_by_key(WorkflowId("w"), "k")
    assert found is not None
    assert found.id == "j"


@pytest.mark.parametrize(("instances", "size"), [(1, 1), (1, 5), (2, 3), (3, 1000)])
async def test_a_sweep_takes_a_slice(store: Store, rows: Any, instances: int, size: int) -> None:
    names = ["a", "b", "c", "d"]
    for name in names:
        await put(store, rows, name)
    await rows.commit(store, *map(gone, names))
    left, sweeps = PUT * len(names), 0
    while await store.removed():
        await rows.commit(store, Sweep(instances=instances, rows=size))
        now = sum([await left_of(store, name) for name in names])
        assert left - now <= size + instances
        left, sweeps = now, sweeps + 1
    assert left == 0
    assert sweeps <= (PUT - 1) * len(names) // size + 2 * len(names)
    await rows.commit(store, Sweep(instances=instances, rows=size))


async def test_its_id_is_taken_as_long_as_anything_is_left(store: Store, rows: Any) -> None:
    """Else a sweep could not tell the rows of the new one from those of the old one."""
    await put(store, rows)
    await rows.commit(store, gone())
    again = rows.start("i", rows.task(7))
    refusals = 0
    while await store.removed():
        with pytest.raises(BatchRefused) as refused:
            await rows.commit(store, again)
        assert refused.value.reason == "exists"
        refusals += 1
        await rows.commit(store, Sweep(instances=10, rows=3))
    assert refusals > 4
    await rows.commit(store, again)
    await rows.commit(store, ALL)
    assert [task.ordinal for task in await store.tasks(InstanceId("i"))] == [7]


async def test_what_was_begun_goes_on_after_the_next_open(new_store: Store, rows: Any) -> None:
    await new_store.open()
    await put(new_store, rows)
    await put(new_store, rows, "j")
    await rows.commit(new_store, gone())
    await rows.commit(new_store, Sweep(instances=1, rows=5))
    await new_store.close()
    await new_store.open()
    assert await new_store.removed() == ["i"]
    assert await left_of(new_store, "i") == PUT - 5
    await rows.commit(new_store, ALL)
    assert (await left_of(new_store, "i"), await left_of(new_store, "j")) == (0, PUT)


async def test_a_batch_that_is_sent_again_removes_nothing_more(store: Store, rows: Any) -> None:
    for name in ("i", "j"):
        await put(store, rows, name)
    for batch in (rows.batch(store, gone()), rows.batch(store, Sweep(instances=1, rows=3))):
        await store.commit(batch)
        await store.commit(batch)
    assert await left_of(store, "i") == PUT - 3
    assert await store.removed() == ["i"]
    assert await left_of(store, "j") == PUT


async def test_an_instance_of_many_rows_goes_in_slices_as_well(store: Store, rows: Any) -> None:
    await rows.commit(store, ended(rows, tasks=500), rows.lines(*range(1, 1001)))
    await rows.commit(store, gone())
    counts = []
    while await store.removed():
        counts.append(await left_of(store, "i"))
        await rows.commit(store, Sweep(instances=100, rows=600))
    assert counts == [2004, 1404, 804, 204]


async def test_ages_come_oldest_first_in_pages(looks: Any, store: Store, rows: Any) -> None:
    await put(store, rows, "b", created_us=7, finished_us=30, run=2, version="v2", idempotency_key="k")
    await put(store, rows, "a", created_us=7, final=InstanceState.FAILED)
    await put(store, rows, "c", created_us=6, workflow_id="other")
    await rows.commit(store, rows.start("d", created_us=5))
    for look in await looks():
        assert [aged.id for aged in await look.aged()] == ["d", "c", "a", "b"]
        assert [aged.id for aged in await look.aged(after=(6, "c"), limit=1)] == ["a"]
        assert [aged.id for aged in await look.aged(after=(7, "a"))] == ["b"]
        succeeded = InstanceQuery(states=frozenset({InstanceState.SUCCESS}))
        assert [aged.id for aged in await look.aged(succeeded)] == ["c", "b"]
        early = msgspec.structs.replace(succeeded, created_before_us=7)
        assert [aged.id for aged in await look.aged(early)] == ["c"]
        assert [aged.id for aged in await look.aged(InstanceQuery(workflow_id="w"))] == ["d", "a", "b"]
        assert (await look.aged(after=(7, "a")))[0] == Aged(
            id=InstanceId("b"),
            workflow_id=WorkflowId("w"),
            version="v2",
            run=2,
            state=InstanceState.SUCCESS,
            created_us=7,
            finished_us=30,
            keyed=True,
        )
        assert (await look.aged())[0].finished_us is None


async def test_only_versions_that_say_how_long_are_keeping(looks: Any, store: Store, rows: Any) -> None:
    def stored(**parts: Any) -> Any:
        canonical = canonical_form(WorkflowDefinition(id=WorkflowId("w"), **parts))
        return rows.definition(version_of(canonical), canonical=canonical)

    own = stored(retention=Retention(success_us=None))
    await rows.commit(store, stored(), stored(description='"retention": 7'), own, stored(labels={"retention": "x"}))
    await rows.commit(store, stored())
    for look in await looks():
        assert await look.keeping() == [own]


@pytest.mark.parametrize("values", [{"instance_id": "\ud83d"}, {"run": 1 << 63}], ids=ascii)
async def test_a_removal_that_does_not_fit_is_refused(store: Store, rows: Any, values: Any) -> None:
    await put(store, rows)
    with pytest.raises(BatchRefused) as refused:
        await rows.commit(store, msgspec.structs.replace(gone(), **values))
    assert refused.value.reason in ("unfit", "moved")
    assert isinstance(await store.instance(InstanceId("i")), InstanceRow)
