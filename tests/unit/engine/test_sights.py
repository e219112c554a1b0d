"""Committed copies in memory: when they are kept, when they are dropped, and that nothing older replaces newer."""

from typing import Any

from taskengine.engine.sights import Ending, Sights, results_of
from taskengine.model.events import EventBody
from taskengine.model.ids import InstanceId
from taskengine.model.progress import Progress
from taskengine.model.records import Decision, EventRow, InstanceRow, TaskChange, TaskRow
from taskengine.model.states import InstanceState, Phase

NOTHING, HALF, ALL = Progress(pending=2), Progress(completed=1, pending=1), Progress(completed=2)
I = InstanceId("甲")  # noqa: E741  # as the rules write an instance


def row(phase: Phase = Phase.RUN, name: str = I, **values: Any) -> InstanceRow:
    final = InstanceState.SUCCESS if phase is Phase.END else None
    plain = {"id": name, "workflow_id": "w", "version": "v", "params": b"{}", "created_us": 1}
    return InstanceRow(**{**plain, "phase": phase, "final": final, **values})


def end(name: str = I, results: dict[Any, bytes] | None = None, **values: Any) -> Ending:
    return Ending(row(Phase.END, name, **values), ALL, results)


def test_the_latest_commit_is_what_is_seen() -> None:
    sights = Sights()
    assert sights.live(I) is sights.ended(I) is None
    sights.publish(row(), NOTHING, None)
    sights.publish(row(), HALF, None)
    assert sights.live(I) == (row(), HALF)
    sights.publish(row(Phase.END), ALL, {})
    assert (sights.live(I), sights.ended(I)) == (None, end(results={}))


def test_a_new_run_takes_the_ending_away() -> None:
    sights = Sights()
    sights.publish(row(Phase.END), ALL, {})
    sights.publish(row(run=2), HALF, None)
    assert sights.ended(I) is None
    assert sights.live(I) == (row(run=2), HALF)


def test_what_has_left_memory_is_asked_of_the_store_unless_it_has_ended() -> None:
    sights = Sights()
    sights.publish(row(), HALF, None)
    sights.leave(I)
    assert sights.live(I) is None
    sights.publish(row(Phase.END), ALL, {})
    sights.leave(I)
    assert sights.ended(I) is not None


def test_an_answer_of_the_store_is_kept() -> None:
    sights = Sights()
    sights.keep(I, sights.begin(I), end())
    assert sights.ended(I) == end()


def test_an_answer_that_may_be_old_is_not_kept() -> None:
    sights = Sights()
    for between in (
        lambda: sights.publish(row(run=2), HALF, None),
        lambda: sights.enter(I),
        lambda: sights.forget(I),
        lambda: sights.begin(I),
        sights.close,
    ):
        ticket = sights.begin(I)
        between()
        sights.keep(I, ticket, end())
        assert sights.ended(I) is None


def test_one_answer_more_does_not_spoil_the_other() -> None:
    sights = Sights()
    first, second = sights.begin(I), sights.begin(I)
    sights.keep(I, first, end(error="first"))
    sights.keep(I, second, end(error="second"))
    found = sights.ended(I)
    assert found is not None
    assert found.row.error == "second"


def test_of_a_failed_actor_nothing_is_known() -> None:
    sights = Sights()
    sights.publish(row(), HALF, None)
    sights.forget(I)
    assert sights.live(I) is None
    sights.publish(row(Phase.END), ALL, {})
    sights.forget(I)
    assert sights.ended(I) is None


def test_those_looked_at_for_longest_go_first() -> None:
    sights = Sights(most=2)
    for name in ("a", "b"):
        sights.publish(row(Phase.END, name), ALL, {})
    assert sights.ended(InstanceId("a"))
    sights.publish(row(Phase.END, "c"), ALL, {})
    assert [name for name in "abc" if sights.ended(InstanceId(name))] == ["a", "c"]


def test_endings_are_bounded_in_bytes_and_a_large_one_is_not_kept() -> None:
    sights = Sights(most_bytes=640_000)
    sights.publish(row(Phase.END, "large", params=b"x" * 10_001), ALL, {})
    assert sights.ended(InstanceId("large")) is None
    names = [f"{n:03}" for n in range(200)]
    for name in names:
        sights.publish(row(Phase.END, name), ALL, {0: b"x" * 6_000})  # type: ignore[dict-item]
    kept = [name for name in names if sights.ended(InstanceId(name))]
    assert 70 <= len(kept) <= 80
    assert kept == names[-len(kept) :]
    for name in kept:
        sights.forget(InstanceId(name))
    for name in names:
        sights.publish(row(Phase.END, name), ALL, {})
    assert all(sights.ended(InstanceId(name)) for name in names), "what was dropped makes room"


def test_after_the_close_nothing_is_remembered() -> None:
    sights = Sights()
    sights.publish(row(), HALF, None)
    sights.close()
    assert sights.live(I) is None
    sights.publish(row(), HALF, None)
    sights.publish(row(Phase.END, "b"), ALL, {})
    assert sights.live(I) is sights.ended(InstanceId("b")) is None


def decision(*tasks: TaskRow) -> Decision:
    event = EventRow(instance_id=I, seq=1, at_us=1, body=EventBody(state=InstanceState.SUCCESS))  # type: ignore[arg-type]
    return Decision(instance_id=I, event=event, tasks=tuple(TaskChange(task) for task in tasks))


def task(ordinal: int, **values: Any) -> TaskRow:
    return TaskRow(**{"ordinal": ordinal, "name": f"t{ordinal}", **values})


def test_results_are_known_only_if_the_decision_writes_all_of_them() -> None:
    assert results_of(decision(task(0, result=b"0"), task(1, result=None), task(2, result=b"2")), (1, 2)) == {2: b"2"}
    assert results_of(decision(task(1, result=b"1")), (1, 2)) is None
    assert results_of(decision(task(1, result=b"1"), task(2)), (1, 2)) is None, "an untouched result stays as it was"
    assert results_of(decision(), ()) == {}
