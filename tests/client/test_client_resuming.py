"""A stream that is cut anywhere, any number of times, tells the whole history once."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from taskengine.client.lines import LineCutter
from taskengine.client.resuming import FramePlace, LogPlace
from taskengine.wire import (
    GapFrame,
    HeartbeatFrame,
    InstanceStatus,
    LogLine,
    LogUpdate,
    Snapshot,
    StreamFrame,
    TaskStatus,
)

AT = datetime(2024, 1, 1, tzinfo=UTC)
WORKFLOW = "w"


def frame(instance_id: str, seq: int, task: int, *, more: bool, cursor: str | None = None) -> StreamFrame:
    return TaskStatus(
        instance_id=instance_id,
        workflow_id=WORKFLOW,
        seq=seq,
        task_id=f"t{task}",
        status="Running",
        move="dispatch",
        attempt=1,
        timestamp=AT,
        more=more,
        cursor=cursor,
    )


def number(instance_id: str, seq: int, size: int, cursor: str | None = None) -> list[StreamFrame]:
    """All frames of one number."""
    return [frame(instance_id, seq, n, more=n < size, cursor=cursor if n == size else None) for n in range(1, size + 1)]


def take(place: FramePlace, frames: list[StreamFrame]) -> list[StreamFrame]:
    taken = [place.take(msgspec.json.encode(each)) for each in frames]
    return [each for each in taken if each is not None]


@st.composite
def one_history(draw: st.DrawFn) -> tuple[list[StreamFrame], list[int]]:
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=8))
    frames = [each for seq, size in enumerate(sizes, 1) for each in number("i", seq, size)]
    return frames, draw(st.lists(st.integers(0, len(frames)), max_size=6))


@given(one_history())
def test_frames_of_an_instance_cut_anywhere_are_its_history(case: tuple[list[StreamFrame], list[int]]) -> None:
    history, cuts = case
    place = FramePlace(None, "i")
    passed: list[StreamFrame] = []
    for cut in [*cuts, len(history)]:
        place.reopened()
        since = place.query().get("since", 0)
        rest = [each for each in history if each.seq > since]  # type: ignore[union-attr, operator]
        passed += take(place, rest[:cut])
    assert passed == history


@st.composite
def many_histories(draw: st.DrawFn) -> tuple[list[list[StreamFrame]], list[int], set[int]]:
    """Numbers of several instances in the order of their commits, the cuts, and before which numbers a heartbeat is."""
    order = draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3)), min_size=1, max_size=10))
    last = dict.fromkeys("abc", 0)
    numbers = []
    for position, (instance_id, size) in enumerate(order, 1):
        last[instance_id] += 1
        numbers.append(number(instance_id, last[instance_id], size, f"c{position}"))
    total = sum(map(len, numbers))
    return numbers, draw(st.lists(st.integers(0, total), max_size=6)), set(draw(st.sets(st.integers(0, len(numbers)))))


@given(many_histories())
def test_frames_of_many_instances_cut_anywhere_are_their_history(
    case: tuple[list[list[StreamFrame]], list[int], set[int]],
) -> None:
    numbers, cuts, beats = case
    place = FramePlace(None, None)
    passed: list[StreamFrame] = []
    for cut in [*cuts, 1_000]:
        place.reopened()
        since = str(place.query().get("since", "c0"))
        begin = int(since.removeprefix("c"))
        sent: list[StreamFrame] = []
        for position, frames in enumerate(numbers[begin:], begin):
            if position in beats:
                sent.append(HeartbeatFrame(timestamp=AT, cursor=f"c{position}"))
            sent += frames
        passed += [each for each in take(place, sent[:cut]) if isinstance(each, TaskStatus)]
    assert passed == [each for frames in numbers for each in frames]


@given(st.data(), st.lists(st.integers(1, 3), min_size=1, max_size=6), st.integers(0, 3))
def test_lines_cut_anywhere_are_whole_and_once(data: st.DataObject, sizes: list[int], cuts: int) -> None:
    lines = [
        LogLine(id=n, instance_id="i", task="t", attempt=1, level="info", message="\u2028名\x85" * size, at=AT)
        for n, size in enumerate(sizes, 1)
    ]
    place, passed = LogPlace(0, None), list[LogLine]()
    for last in [False] * cuts + [True]:
        since = int(str(place.query()["since"] or 0))
        text = b"".join(msgspec.json.encode(line) + b"\n" for line in lines if line.id > since)
        text = text if last else text[: data.draw(st.integers(0, len(text)))]
        cutter = LineCutter()
        for part in _parts(text, data):
            passed += [line for line in map(place.take, cutter.feed(part)) if line is not None]
    assert passed == lines


def _parts(text: bytes, data: st.DataObject) -> Iterator[bytes]:
    while text:
        size = data.draw(st.integers(1, max(1, len(text))))
        yield text[:size]
        text = text[size:]


def snapshot(**fields: Any) -> Snapshot:
    return Snapshot(instances=[], timestamp=AT, **fields)


def test_a_snapshot_stands_for_everything_before_it() -> None:
    place = FramePlace(None, "i")
    frames = [snapshot(seq=2), *number("i", 2, 1), *number("i", 3, 1)]
    assert take(place, frames) == [frames[0], frames[2]]
    assert place.query() == {"since": 3}


def test_after_a_gap_the_stream_goes_on_from_the_snapshot() -> None:
    place = FramePlace(1, "i")
    frames = [GapFrame(timestamp=AT, reason="too old"), snapshot(seq=9), *number("i", 10, 2)]
    assert take(place, frames) == frames
    assert place.query() == {"since": 10}


def test_an_old_snapshot_does_not_send_the_stream_back() -> None:
    place = FramePlace(None, "i")
    take(place, number("i", 5, 1))
    take(place, [snapshot(seq=3)])
    assert place.query() == {"since": 5}
    assert take(place, number("i", 4, 1) + number("i", 5, 1)) == []


def test_a_cursor_does_not_move_within_a_number() -> None:
    place = FramePlace(None, None)
    take(place, [snapshot(cursor="c0"), frame("i", 1, 1, more=True), HeartbeatFrame(timestamp=AT, cursor="c9")])
    assert place.query() == {"since": "c0"}
    take(place, [frame("i", 1, 2, more=False, cursor="c1")])
    assert place.query() == {"since": "c1"}


def test_what_has_no_number_is_passed_on() -> None:
    said = LogUpdate(instance_id="i", workflow_id="w", task_id="t", attempt=1, level="info", message="x", timestamp=AT)
    assert take(FramePlace(None, "i"), [said, said]) == [said, said]


def test_the_last_frame_may_be_that_of_the_instance() -> None:
    place = FramePlace(None, "i")
    last = InstanceStatus(instance_id="i", workflow_id="w", seq=1, status="Success", timestamp=AT)
    assert take(place, [frame("i", 1, 1, more=True), last]) == [frame("i", 1, 1, more=True), last]
    assert place.query() == {"since": 1}


def test_a_snapshot_ends_the_number_that_was_cut() -> None:
    place = FramePlace(None, None)
    take(place, [frame("i", 1, 1, more=True), snapshot(cursor="c7"), HeartbeatFrame(timestamp=AT, cursor="c9")])
    assert place.query() == {"since": "c9"}


def test_what_somebody_has_seen_is_not_told_again() -> None:
    assert take(FramePlace(3, "i"), number("i", 3, 2)) == []
    line = LogLine(id=7, instance_id="i", task="t", attempt=1, level="info", message="x", at=AT)
    place = LogPlace(0, "t")
    assert place.take(msgspec.json.encode(line)) == line
    assert place.take(msgspec.json.encode(line)) is None
    assert place.query() == {"follow": True, "task": "t", "since": 7}
    assert LogPlace(7, None).take(msgspec.json.encode(line)) is None
