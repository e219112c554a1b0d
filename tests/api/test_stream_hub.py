"""taskengine/api/stream: ring, queue and hub by themselves, on a clock of the test's own."""

import asyncio
from typing import Any

import msgspec
import pytest
from api.stream_rig import FLOW, HubRig, decoded, hub_rig, moved, said, seqs, went
from hypothesis import given
from hypothesis import strategies as st

from taskengine.api.stream import ring as rings
from taskengine.api.stream.client import Client, Ending
from taskengine.api.stream.frames import encode_frame, event_frames
from taskengine.api.stream.hub import ENDED, STOPPING
from taskengine.api.stream.interest import Choice, Interest, parse_choice
from taskengine.api.stream.parcel import Parcel, websocket_frame
from taskengine.api.stream.ring import Ring
from taskengine.errors import InvalidInput
from taskengine.wire.frames import FRAME_DECODER, LogUpdate, TaskStatus

ONE = Interest(instance_id="one")
ALL = 10**9


def taken(client: Client) -> list[dict[str, Any]]:
    return decoded(client.take(ALL))


# -- frames ----------------------------------------------------------------------------------------------------


def test_a_number_ends_with_the_frame_that_has_the_progress_and_says_no_more() -> None:
    *before, last = event_frames(moved(3, final=True))
    assert [frame.more for frame in before] == [True]
    assert not last.more
    assert last.progress is not None
    assert last.status == "Success"


def test_the_instance_is_told_of_only_when_it_moved_itself() -> None:
    assert [type(frame) for frame in event_frames(moved(2))] == [TaskStatus]


def test_a_lone_surrogate_in_a_log_line_does_not_stop_the_stream() -> None:
    frame = FRAME_DECODER.decode(Parcel([encode_frame(log_of("a\udcffb"))]).payloads[0])
    assert isinstance(frame, LogUpdate)
    assert frame.message == "a?b"


def log_of(message: str) -> LogUpdate:
    from taskengine.api.stream.frames import log_update

    return log_update(said(message))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_a_frame_is_framed_as_the_protocol_has_it(size: int) -> None:
    """Held against the websockets library, as a client reads it."""
    from websockets.client import ClientProtocol
    from websockets.protocol import OPEN
    from websockets.uri import parse_uri

    reader = ClientProtocol(parse_uri("ws://localhost"), max_size=None)
    reader.state = OPEN
    next(reader.parser, None)
    reader.parser = reader.parse()
    next(reader.parser)
    payload = b"x" * size
    reader.receive_data(websocket_frame(payload))
    (frame,) = reader.events_received()
    assert bytes(frame.data) == payload  # type: ignore[union-attr]
    assert frame.fin  # type: ignore[union-attr]


def test_of_an_event_stream_only_the_end_of_a_number_has_the_id() -> None:
    events = Parcel([b"{}", b"[]"], seq=7, resume="7").events
    assert events == b"data: {}\n\nid: 7\ndata: []\n\n"


# -- choice ----------------------------------------------------------------------------------------------------


def test_what_a_filter_leaves_of_a_number_is_a_number_of_its_own() -> None:
    frames = Choice(types=frozenset({"task_status"})).of(event_frames(moved(1)))
    assert [frame.more for frame in frames] == [False]


def test_a_status_filter_leaves_remarks_out_unless_they_are_asked_for() -> None:
    assert not parse_choice(None, "failed").has("log")
    assert parse_choice("log,task_status", "Failed").has("log")
    assert parse_choice(None, None).has("progress")
    assert not parse_choice("log", None).has("progress")


@pytest.mark.parametrize(("types", "status"), [("logs", None), (None, "Broken"), ("log,", "Failed,x")])
def test_an_unknown_filter_is_refused_with_what_there_is(types: str | None, status: str | None) -> None:
    with pytest.raises(InvalidInput, match="there are"):
        parse_choice(types, status)


# -- ring ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2000), max_size=60), st.integers(1, 10), st.integers(1, 20_000))
def test_a_ring_keeps_its_bounds_and_its_newest_and_has_no_holes(texts: list[int], count: int, room: int) -> None:
    ring = Ring("r", count, room)
    for number, size in enumerate(texts, 1):
        entry = ring.append(moved(number, text="x" * size))
        entry.parcel(Choice(), one=False)
        ring.settle([entry])
        assert len(ring) <= count
        assert ring.bytes <= room or len(ring) == 1
        kept = ring.after(ring.last - len(ring), ALL)
        assert [each.position for each in kept] == list(range(ring.last - len(ring) + 1, number + 1))
        assert ring.bytes == sum(each.weight for each in kept)


def test_a_cursor_is_known_while_everything_behind_it_is_there() -> None:
    ring = Ring("r", 2)
    for number in range(1, 5):
        ring.settle([ring.append(moved(number))])
    assert [ring.position(f"r-{number}") for number in range(6)] == [None, None, 2, 3, 4, None]


@pytest.mark.parametrize("cursor", ["", "r", "r-", "r--1", "s-1", "r-x", "r-" + "9" * 5000, "r-²", "r-1-1", "\udcff"])
def test_a_cursor_of_elsewhere_is_not_known(cursor: str) -> None:
    ring = Ring("r")
    ring.settle([ring.append(moved(1))])
    assert ring.position(cursor) is None


def test_a_ring_holds_at_least_one_event() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Ring("r", 0)


# -- telling ---------------------------------------------------------------------------------------------------


async def test_each_client_gets_what_it_wants_and_nothing_else() -> None:
    async with hub_rig() as rig:
        clients = {
            "one": rig.hub.join(ONE),
            "flow": rig.hub.join(Interest(workflow_id=FLOW)),
            "all": rig.hub.join(Interest()),
            "logs": rig.hub.join(Interest(choice=Choice(types=frozenset({"log"})))),
        }
        rig.tell(moved(1), moved(1, "two"), moved(1, "three", workflow="other"), said("hm", "two"), went(0.5))
        found = {
            name: [(frame["instance_id"], frame["type"]) for frame in taken(client)] for name, client in clients.items()
        }
        status = ["task_status", "instance_status"]
        of = lambda name: [(name, kind) for kind in status]  # noqa: E731
        assert found["one"] == [*of("one"), ("one", "progress")]
        assert found["flow"] == [*of("one"), *of("two"), ("two", "log"), ("one", "progress")]
        assert found["all"] == [*of("one"), *of("two"), *of("three"), ("two", "log"), ("one", "progress")]
        assert found["logs"] == [("two", "log")]


async def test_an_event_is_encoded_once_for_all_and_not_at_all_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[object] = []

    def counting(frame: msgspec.Struct) -> bytes:
        encoded.append(frame)
        return encode_frame(frame)

    monkeypatch.setattr(rings, "encode_frame", counting)
    async with hub_rig() as rig:
        rig.hub.join(Interest(instance_id="other"))
        rig.tell(moved(2))
        assert not encoded
        many = [rig.hub.join(interest) for interest in (ONE, Interest(), Interest(), Interest(workflow_id=FLOW))]
        rig.tell(moved(3))
        assert len(encoded) == 1
        assert many[1].take(ALL)[0] is many[2].take(ALL)[0]


async def test_only_a_stream_over_many_has_cursors() -> None:
    async with hub_rig() as rig:
        one, many = rig.hub.join(ONE), rig.hub.join(Interest())
        rig.tell(moved(1))
        assert [frame.get("cursor") for frame in taken(one)] == [None, None]
        assert [frame.get("cursor") for frame in taken(many)] == [None, rig.hub.ring.cursor(1)]


async def test_publishing_only_puts_aside_and_the_loop_tells_later_in_one_go() -> None:
    async with hub_rig(linger_s=0.01) as rig:
        client = rig.hub.join(ONE)
        rig.bus.publish(moved(1))
        rig.bus.publish(moved(2))
        assert not client.queued
        await rig.clock.advance(0)
        assert client.queued == 2
        rig.bus.publish(moved(3))
        await rig.clock.advance(0.005)
        assert client.queued == 2
        await rig.clock.advance(0.005)
        assert client.queued == 3


async def test_who_left_costs_and_gets_nothing() -> None:
    async with hub_rig() as rig:
        interests = [ONE, Interest(workflow_id=FLOW), Interest()]
        clients = [rig.hub.join(interest) for interest in interests]
        assert rig.hub.clients == rig.metrics.gauges["stream.clients"] == 3
        for client in clients:
            rig.hub.leave(client)
            rig.hub.leave(client)
        rig.tell(moved(1))
        assert rig.hub.clients == rig.metrics.gauges["stream.clients"] == 0
        assert [client.queued for client in clients] == [0, 0, 0]
        assert not rig.metrics.counted.get("stream.frames")


async def test_the_end_of_an_instance_ends_its_stream_behind_the_last_frame() -> None:
    async with hub_rig() as rig:
        one, kept, many = (
            rig.hub.join(ONE),
            rig.hub.join(Interest(instance_id="one", keep=True)),
            rig.hub.join(Interest()),
        )
        rig.tell(moved(1), moved(2, final=True), moved(3))
        assert one.ending == ENDED
        assert seqs(taken(one)) == [1, 2]
        assert kept.ending is many.ending is None
        assert seqs(taken(kept)) == seqs(taken(many)) == [1, 2, 3]


# -- losing ----------------------------------------------------------------------------------------------------


async def test_a_number_that_was_never_told_is_a_loss_and_no_silence() -> None:
    async with hub_rig() as rig:
        one, many = rig.hub.join(ONE), rig.hub.join(Interest())
        other = rig.hub.join(Interest(instance_id="two"))
        rig.tell(moved(1), moved(3), moved(1, "two"))
        assert one.lost
        assert many.lost
        assert not other.lost
        returning = rig.hub.join(Interest(), behind=1)
        assert rig.hub.missed(returning, 100) is None


async def test_a_number_that_was_told_is_not_told_again() -> None:
    async with hub_rig() as rig:
        many = rig.hub.join(Interest())
        rig.tell(moved(1), moved(2), moved(2), moved(1), moved(3))
        assert seqs(taken(many)) == [1, 2, 3]


async def test_one_frame_that_cannot_be_told_is_a_loss_of_its_own_listeners_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(event: Any) -> Any:
        if event.instance_id == "one":
            raise RuntimeError("no frames")
        return event_frames(event)

    monkeypatch.setattr(rings, "event_frames", fails)
    async with hub_rig() as rig:
        one, two = rig.hub.join(ONE), rig.hub.join(Interest(instance_id="two"))
        rig.tell(moved(1), moved(1, "two"))
        assert one.lost
        assert seqs(taken(two)) == [1]


def queue(parcels: int = 4, size: int = 1000) -> Client:
    return Client(Interest(), max_parcels=parcels, max_bytes=size)


def numbered(number: int, size: int = 10) -> Parcel:
    return Parcel([b"x" * size], seq=number, position=number)


def remark(size: int = 10) -> Parcel:
    return Parcel([b"y" * size])


def test_remarks_go_before_anything_is_lost() -> None:
    client = queue(4)
    for parcel in (remark(), numbered(1), remark(), numbered(2), numbered(3)):
        client.offer(parcel)
    assert not client.lost
    assert [parcel.seq for parcel in client.take(ALL)] == [1, 2, 3]


def test_a_remark_finds_no_room_and_nothing_else_happens() -> None:
    client = queue(2)
    for parcel in (numbered(1), numbered(2), remark()):
        client.offer(parcel)
    assert not client.lost
    assert client.queued == 2


@pytest.mark.parametrize("bound", [{"parcels": 3}, {"size": 30}])
def test_an_overflow_throws_the_queue_away_and_queues_nothing_more(bound: dict[str, int]) -> None:
    client = queue(**bound)
    for number in range(1, 6):
        client.offer(numbered(number))
    assert client.lost
    assert client.queued == client.queued_bytes == 0
    client.reopen()
    client.offer(numbered(6))
    assert [parcel.seq for parcel in client.take(ALL)] == [6]


def test_one_that_is_larger_than_the_bound_goes_alone() -> None:
    client = queue(size=5)
    client.offer(numbered(1, 500))
    assert [parcel.seq for parcel in client.take(1)] == [1]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=60), st.integers(1, 6), st.integers(1, 90))
def test_a_queue_never_exceeds_its_bounds(offers: list[tuple[bool, int]], parcels: int, size: int) -> None:
    client = queue(parcels, size)
    for number, (droppable, length) in enumerate(offers, 1):
        client.offer(remark(length) if droppable else numbered(number, length))
        assert client.queued <= parcels
        assert client.queued_bytes <= max(size, 40)
        assert client.queued or not client.queued_bytes


async def test_a_waiting_handler_is_woken_by_each_thing_that_concerns_it() -> None:
    for wake in (
        lambda client: client.offer(numbered(1)),
        lambda client: client.lose("gone"),
        lambda client: client.beat(),
        lambda client: client.end(STOPPING),
    ):
        client = queue()
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            waiting = group.create_task(client.wait())
            await asyncio.sleep(0)  # it waits now
            assert not waiting.done()
            wake(client)


def test_the_first_reason_to_end_stays() -> None:
    client = queue()
    client.end(ENDED)
    client.end(STOPPING)
    assert client.ending == ENDED


def test_an_end_at_once_is_no_friendly_end_although_one_was_to_come() -> None:
    slow = Ending(1013, "too slow", "too_slow")
    client = queue()
    client.offer(numbered(1))
    client.end(ENDED)
    client.end(slow, now=True)
    client.end(STOPPING, now=True)
    assert client.ending == slow
    assert not client.queued


# -- coming back -----------------------------------------------------------------------------------------------


def read_missed(rig: HubRig, client: Client, limit: int) -> list[dict[str, Any]] | None:
    frames: list[dict[str, Any]] = []
    while parcels := rig.hub.missed(client, limit):
        frames += decoded(parcels)
    return None if parcels is None else frames


async def test_who_comes_back_with_a_cursor_gets_exactly_the_rest_and_then_what_happens() -> None:
    async with hub_rig() as rig:
        rig.tell(*[moved(number) for number in range(1, 8)])
        client = rig.hub.join(Interest(), behind=4)
        rig.tell(moved(8))
        assert not client.queued
        assert seqs(read_missed(rig, client, 2) or []) == [5, 6, 7, 8]
        rig.tell(moved(9))
        assert seqs(taken(client)) == [9]


async def test_who_is_overtaken_by_the_ring_while_it_reads_is_told() -> None:
    async with hub_rig(capacity=3) as rig:
        rig.tell(*[moved(number) for number in range(1, 4)])
        client = rig.hub.join(Interest(), behind=1)
        assert rig.hub.missed(client, 1)
        rig.tell(*[moved(number) for number in range(4, 9)])
        assert rig.hub.missed(client, 1) is None


@given(
    st.lists(
        st.one_of(st.tuples(st.just("tell"), st.sampled_from("ab")), st.tuples(st.just("drop"), st.just("")),
                  st.tuples(st.just("take"), st.just(""))),
        max_size=60,
    ),
    st.integers(1, 12),
)  # fmt: skip
def test_dropped_and_resumed_at_random_nothing_is_missed_or_repeated_in_silence(
    steps: list[tuple[str, str]], capacity: int
) -> None:
    """The law of streams over many, on the hub alone: history, or a gap that says so."""
    asyncio.run(_drop_and_resume(steps, capacity))


async def _drop_and_resume(steps: list[tuple[str, str]], capacity: int) -> None:
    async with hub_rig(capacity=capacity, max_parcels=1000) as rig:
        counts = {"a": 0, "b": 0}
        published: list[tuple[str, int]] = []
        seen: list[tuple[str, int]] = []
        client, cursor = rig.hub.join(Interest()), rig.hub.ring.cursor(0)
        for step, name in [*steps, ("take", "")]:
            if step == "tell":
                counts[name] += 1
                published.append((name, counts[name]))
                rig.tell(moved(counts[name], name))
            elif step == "take":
                frames = taken(client)
                seen += [(frame["instance_id"], frame["seq"]) for frame in frames if not frame.get("more")]
                cursor = next((frame["cursor"] for frame in reversed(frames) if "cursor" in frame), cursor)
            else:
                rig.hub.leave(client)
                position = rig.hub.ring.position(cursor)
                client = rig.hub.join(Interest(), behind=position)
                if position is None:  # a gap is told: what it has seen is then a snapshot's, and it begins anew
                    seen = published.copy()
                    cursor = rig.hub.ring.cursor(rig.hub.ring.last)
                    continue
                frames = read_missed(rig, client, 3) or []
                seen += [(frame["instance_id"], frame["seq"]) for frame in frames if not frame.get("more")]
                cursor = next((frame["cursor"] for frame in reversed(frames) if "cursor" in frame), cursor)
        assert seen == published


# -- looking after ---------------------------------------------------------------------------------------------


async def test_silence_is_broken_by_a_heartbeat() -> None:
    async with hub_rig(heartbeat_s=15) as rig:
        client = rig.hub.join(ONE)
        await rig.clock.advance(14)
        assert not client.take_beat()
        await rig.clock.advance(2)
        assert client.take_beat()
        assert not client.take_beat()


async def test_who_takes_nothing_for_too_long_has_to_go_and_hears_how_to_come_back() -> None:
    async with hub_rig(patience_s=10) as rig:
        one, many, patient = rig.hub.join(ONE), rig.hub.join(Interest()), rig.hub.join(ONE)
        one.told, many.told = 7, 9
        cut: list[str] = []
        one.cut = lambda: cut.append("one")
        one.blocked_s = many.blocked_s = rig.clock.monotonic()
        await rig.clock.advance(9)
        assert one.ending is None
        await rig.clock.advance(2)
        assert "one" in cut
        assert patient.ending is None
        assert one.ending == Ending(1013, "too slow; come back with since=7", "too_slow")
        assert many.ending is not None
        assert many.ending.reason.endswith(f"since={rig.hub.ring.cursor(9)}")
        assert len(many.ending.reason) <= 123


async def test_who_takes_slowly_but_steadily_may_stay() -> None:
    async with hub_rig(patience_s=10) as rig:
        slow, waiting = rig.hub.join(ONE), 1000
        slow.unsent = lambda: waiting
        slow.blocked_s = rig.clock.monotonic()
        for _ in range(6):
            waiting -= 10
            await rig.clock.advance(9)
        assert slow.ending is None
        await rig.clock.advance(12)
        assert slow.ending is not None


async def test_a_closed_bus_sends_everybody_away_behind_what_is_left_to_tell() -> None:
    async with hub_rig() as rig:
        client = rig.hub.join(ONE)
        rig.bus.publish(moved(1))
        rig.bus.close()
        assert client.ending == STOPPING
        assert seqs(taken(client)) == [1]


async def test_a_stopped_hub_takes_nobody_and_listens_no_more() -> None:
    async with hub_rig() as rig:
        await rig.hub.stop(0)
        await rig.hub.stop(0)
        await rig.hub.start()
        assert rig.hub.join(ONE).ending == STOPPING
        assert not rig.bus.listened


async def test_a_hub_that_stops_waits_for_its_clients_and_cuts_those_who_stay() -> None:
    async with hub_rig() as rig:
        obedient, stuck = rig.hub.join(ONE), rig.hub.join(ONE)
        stuck.cut = lambda: rig.hub.leave(stuck)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            stopping = group.create_task(rig.hub.stop(2))
            await asyncio.sleep(0)  # it has told them
            assert obedient.ending == STOPPING
            rig.hub.leave(obedient)
            await rig.clock.advance(1)
            assert not stopping.done()
            await rig.clock.advance(1.5)
        assert rig.hub.clients == 0
