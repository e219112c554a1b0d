"""Streams over a real server, read by the websockets library: beginning, going on, coming back, ending."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from api.apiworld import LIMIT_S, ApiWorld, Limits
from api.stream_rig import (
    all_frames,
    dial,
    end_of,
    frames_until,
    history,
    moved,
    next_frame,
    plain,
    said,
    seqs,
    stream_world,
    until,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus

from taskengine.api.stream.present import Present
from taskengine.definition import TaskBuilder, WorkflowBuilder
from taskengine.errors import Unavailable
from taskengine.functions import TaskContext
from taskengine.model.definition import WorkflowDefinition
from taskengine.wire.frames import FRAME_DECODER


class Gates:
    """Jobs that wait until the test lets them go, one after the other or all."""

    def __init__(self) -> None:
        self._open = asyncio.Semaphore(0)

    def go(self, count: int = 1000) -> None:
        for _ in range(count):
            self._open.release()

    async def wait(self, ctx: TaskContext) -> str:
        ctx.log.info("waiting %s", ctx.task_name)
        await self._open.acquire()
        return "done"


def chain(steps: int, name: str = "流程") -> WorkflowDefinition:
    workflow = WorkflowBuilder(name)
    for n in range(steps):
        task = TaskBuilder(f"step-{n}").with_job_function("wait")
        workflow.with_task(task.with_dependency(f"step-{n - 1}") if n else task)
    return workflow.build()


@pytest.fixture
def gates() -> Gates:
    return Gates()


@pytest.fixture
async def world(gates: Gates) -> AsyncIterator[ApiWorld]:
    async with stream_world(jobs={"wait": gates.wait}, heartbeat_s=15) as made:
        yield made


async def finish(world: ApiWorld, instance_id: str) -> None:
    await world.engine.wait_for_instance(instance_id, LIMIT_S)


# -- one instance ----------------------------------------------------------------------------------------------


async def test_a_snapshot_and_then_every_number_up_to_the_end(world: ApiWorld, gates: Gates) -> None:
    instance_id = await world.engine.execute_workflow(chain(3))
    async with dial(world, f"instances/{instance_id}") as socket:
        snapshot = await next_frame(socket)
        gates.go()
        frames = await all_frames(socket)
    assert snapshot["type"] == "snapshot"
    assert [task["name"] for task in snapshot["tasks"]] == ["step-0", "step-1", "step-2"]
    assert [body["id"] for body in snapshot["instances"]] == [instance_id]
    assert plain(frames) == plain(await history(world, instance_id, snapshot["seq"]))
    assert frames[-1]["status"] == "Success"
    assert (socket.close_code, socket.close_reason) == (1000, "ended")
    assert {frame["type"] for frame in frames} == {"task_status", "instance_status", "log"}


async def test_every_frame_is_of_the_published_shapes(world: ApiWorld, gates: Gates) -> None:
    instance_id = await world.engine.execute_workflow(chain(2))
    async with dial(world, f"instances/{instance_id}") as one, dial(world, "events") as many:
        gates.go()
        frames = await all_frames(one)
        frames += await frames_until(many, lambda frame: frame.get("status") == "Success" and not frame.get("more"))
    for frame in frames:
        FRAME_DECODER.decode(msgspec.json.encode(frame))


async def test_the_stream_of_an_ended_instance_is_its_snapshot_with_the_result(world: ApiWorld, gates: Gates) -> None:
    gates.go()
    instance_id = await world.engine.execute_workflow(chain(1))
    await finish(world, instance_id)
    async with dial(world, f"instances/{instance_id}") as socket:
        (snapshot,) = await all_frames(socket)
    assert snapshot["instances"][0]["result"] == {"step-0": "done"}
    assert (socket.close_code, socket.close_reason) == (1000, "ended")


@pytest.mark.parametrize("since", [0, 1, 2, 3, 4])
async def test_since_a_number_gives_exactly_the_rest(world: ApiWorld, gates: Gates, since: int) -> None:
    gates.go()
    instance_id = await world.engine.execute_workflow(chain(3))
    await finish(world, instance_id)
    async with dial(world, f"instances/{instance_id}?since={since}") as socket:
        assert await all_frames(socket) == await history(world, instance_id, since)
    assert socket.close_code == 1000


async def test_a_number_that_is_yet_to_come_is_a_gap(world: ApiWorld, gates: Gates) -> None:
    instance_id = await world.engine.execute_workflow(chain(1))
    async with dial(world, f"instances/{instance_id}?since=99") as socket:
        gap, snapshot = await next_frame(socket), await next_frame(socket)
    assert (gap["type"], snapshot["type"]) == ("gap", "snapshot")
    assert "99" in gap["reason"]
    gates.go()


async def test_with_keep_the_stream_goes_on_into_the_next_run(world: ApiWorld, gates: Gates) -> None:
    gates.go()
    instance_id = await world.engine.execute_workflow(chain(1))
    await finish(world, instance_id)
    async with dial(world, f"instances/{instance_id}?keep=true") as socket:
        await next_frame(socket)
        await world.engine.retry_instance(instance_id, from_task="step-0")
        frames = await frames_until(socket, lambda frame: frame.get("status") == "Success" and "run" in frame)
    assert {frame.get("run") for frame in frames if frame["type"] == "instance_status"} == {2}


async def test_filters_choose_and_the_rest_is_still_numbered(world: ApiWorld, gates: Gates) -> None:
    gates.go()
    instance_id = await world.engine.execute_workflow(chain(3))
    await finish(world, instance_id)
    async with dial(world, f"instances/{instance_id}?since=0&types=task_status&status=success") as socket:
        frames = await all_frames(socket)
    assert [frame["task_id"] for frame in frames] == ["step-0", "step-1", "step-2"]
    assert not any(frame.get("more") for frame in frames)


# -- many ------------------------------------------------------------------------------------------------------


async def test_many_begin_with_the_unfinished_and_the_counts(world: ApiWorld, gates: Gates) -> None:
    running = await world.engine.execute_workflow(chain(1))
    other = await world.engine.execute_workflow(chain(1, "other"))
    async with dial(world, "events") as everything, dial(world, "workflows/other") as flow:
        all_of_them, of_one = await next_frame(everything), await next_frame(flow)
    assert {body["id"] for body in all_of_them["instances"]} == {running, other}
    assert all_of_them["counts"] == {"Running": 2}
    assert [body["id"] for body in of_one["instances"]] == [other]
    assert of_one["counts"] == {"Running": 1}
    assert all_of_them["cursor"]
    gates.go()


async def test_a_workflow_tells_of_its_own_instances_also_of_new_ones(world: ApiWorld, gates: Gates) -> None:
    await world.engine.register_workflow(chain(1, "mine"))
    gates.go()
    async with dial(world, "workflows/mine") as socket:
        await next_frame(socket)
        await world.engine.execute_workflow(chain(1, "theirs"))
        mine = await world.engine.execute_workflow(chain(1, "mine"))
        frames = await frames_until(socket, lambda frame: frame.get("status") == "Success" and "run" not in frame)
    assert {frame["instance_id"] for frame in frames} == {mine}


async def test_a_cursor_that_the_ring_no_longer_has_is_a_gap_with_a_fresh_snapshot() -> None:
    async with stream_world(capacity=2) as world:
        async with dial(world, "events") as socket:
            cursor = (await next_frame(socket))["cursor"]
        for number in range(1, 6):
            world.engine.bus.publish(moved(number))
        for since in (cursor, "elsewhere-3", "x"):
            async with dial(world, f"events?since={since}") as socket:
                gap, snapshot = await next_frame(socket), await next_frame(socket)
                assert (gap["type"], snapshot["type"]) == ("gap", "snapshot")
            async with dial(world, f"events?since={snapshot['cursor']}") as socket:
                world.engine.bus.publish(said("still here"))
                assert (await next_frame(socket))["type"] == "log"
        assert world.metrics.total("stream.gaps") == 3


# -- coming back at random -------------------------------------------------------------------------------------


class Follower:
    """Reads a stream, drops it at random and comes back with what it last had. Whole numbers only count."""

    def __init__(self, world: ApiWorld, path: str, since: str, *, cursor: bool) -> None:
        self._world, self._path, self._cursor = world, path, cursor
        self.since = since
        self.frames: list[dict[str, Any]] = []
        self.gaps = 0
        self.done = False

    async def read(self, count: int) -> None:
        """`count` frames on a new connection, which is then dropped without a word."""
        async with asyncio.timeout(LIMIT_S), dial(self._world, f"{self._path}?since={self.since}") as socket:
            group: list[dict[str, Any]] = []
            try:
                for _ in range(count):
                    frame = await next_frame(socket)
                    self.gaps += frame["type"] == "gap"
                    if frame["type"] not in ("task_status", "instance_status"):
                        continue
                    group.append(frame)
                    if not frame.get("more"):
                        self.frames += group
                        self.since = frame["cursor"] if self._cursor else str(frame["seq"])
                        group = []
                socket.transport.abort()
            except ConnectionClosed:
                self.done = socket.close_code == 1000


async def _follow_at_random(drops: list[int], steps: int) -> None:
    gates = Gates()
    async with stream_world(jobs={"wait": gates.wait}) as world:
        async with dial(world, "events") as socket:
            cursor = (await next_frame(socket))["cursor"]
        instance_id = await world.engine.execute_workflow(chain(steps))
        one = Follower(world, f"instances/{instance_id}", "0", cursor=False)
        many = Follower(world, "events", cursor, cursor=True)
        for count in drops:
            gates.go(count)  # each step has at least two frames
            await one.read(count)
            there = len(await history(world, instance_id)) - len(many.frames)
            await many.read(min(count, there))
        gates.go()
        while not one.done:
            await one.read(1000)
        told = await history(world, instance_id)
        while len(many.frames) < len(told) and not many.gaps:
            await many.read(len(told) - len(many.frames))
        assert one.gaps == many.gaps == 0
        assert one.frames == told
        assert plain(many.frames) == told


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, 4), max_size=6), st.integers(2, 6))
def test_dropped_at_random_the_merged_stream_is_the_history(drops: list[int], steps: int) -> None:
    asyncio.run(_follow_at_random(drops, steps))


@pytest.mark.parametrize("every", [3, 5])
async def test_an_oracle_sees_it_when_the_hub_forgets_an_event(monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    """Sabotage: a hub that keeps silent about some events must not pass the comparison with the history."""
    from taskengine.api.stream.hub import Hub
    from taskengine.model.events import Event

    honest = Hub._tell_event

    def forgetful(self: Hub, event: Event, told: list[Any]) -> int:
        if event.seq % every == 0:
            self._seqs[event.instance_id] = event.seq  # as if it had been told
            return 0
        return honest(self, event, told)

    gates = Gates()
    monkeypatch.setattr(Hub, "_tell_event", forgetful)
    async with stream_world(jobs={"wait": gates.wait}) as world:
        async with dial(world, "events?types=task_status,instance_status") as socket:
            await next_frame(socket)
            instance_id = await world.engine.execute_workflow(chain(5))
            gates.go()
            await finish(world, instance_id)
            told = await history(world, instance_id)
            world.engine.bus.publish(moved(1, "last"))
            frames = await frames_until(socket, lambda frame: frame.get("instance_id") == "last")
        assert plain(frames[:-1]) != told


async def test_one_instance_hears_of_an_event_that_the_hub_forgot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers have no holes, so a stream of one instance notices by itself: a gap and a snapshot."""
    async with stream_world() as world:
        instance_id = await world.engine.execute_workflow(
            WorkflowBuilder("sleeper")
            .with_task(TaskBuilder("nap").with_job_function("sleep", {"duration": "1h"}))
            .build()
        )
        async with dial(world, f"instances/{instance_id}") as socket:
            snapshot = await next_frame(socket)
            world.engine.bus.publish(moved(snapshot["seq"] + 2, instance_id))
            frames = await frames_until(socket, lambda frame: frame["type"] == "snapshot")
        assert [frame["type"] for frame in frames][-2:] == ["gap", "snapshot"]


# -- handshake -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("instances/unknown", 404),
        ("workflows/unknown", 404),
        ("events?types=nonsense", 400),
        ("events?status=nonsense", 400),
        ("instances/{known}?since=x", 400),
        ("instances/{known}?since=-1", 400),
        ("instances/{known}?keep=perhaps", 400),
    ],
)
async def test_what_cannot_be_streamed_is_refused_in_the_handshake(
    world: ApiWorld, gates: Gates, path: str, status: int
) -> None:
    known = await world.engine.execute_workflow(chain(1))
    with pytest.raises(InvalidStatus) as refused:
        await dial(world, path.format(known=known))
    assert refused.value.response.status_code == status
    assert refused.value.response.body
    assert msgspec.json.decode(refused.value.response.body)["status"] == status
    assert world.parts.hub.clients == 0
    gates.go()


@pytest.mark.parametrize("path", ["instances/unknown", "events"])
async def test_nobody_without_a_token_learns_what_there_is(world: ApiWorld, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await dial(world, path, scope=None)
    assert refused.value.response.status_code == 401


async def test_our_subprotocol_is_chosen_when_it_is_offered(world: ApiWorld) -> None:
    token = world.secrets["read"]
    offered = ["taskengine.v1", f"taskengine.token.{token}"]
    async with dial(world, "events", scope=None, subprotocols=offered) as socket:
        assert socket.subprotocol == "taskengine.v1"
        assert (await next_frame(socket))["type"] == "snapshot"
    async with dial(world, "events") as socket:
        assert socket.subprotocol is None


async def test_more_streams_than_the_server_allows_are_refused() -> None:
    async with stream_world(limits=Limits(websockets=1)) as world, dial(world, "events"):
        with pytest.raises(InvalidStatus) as refused:
            await dial(world, "events")
        assert refused.value.response.status_code in (429, 503)


# -- inbound ---------------------------------------------------------------------------------------------------


async def test_a_ping_is_answered_with_a_heartbeat(world: ApiWorld) -> None:
    async with dial(world, "events") as socket:
        snapshot = await next_frame(socket)
        await socket.send('{"type": "ping"}')
        beat = await next_frame(socket)
    assert (beat["type"], beat["cursor"]) == ("heartbeat", snapshot["cursor"])


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", 1008),
        ("hello", 1008),
        ("[]", 1008),
        ('{"type": "pong"}', 1008),
        ('{"type": "ping", "more": 1}', 1008),
        ("[" * 60_000, 1008),
        (b'{"type": "ping"}', 1008),
        ("x" * 70_000, 1009),
        (b"\xff" * 70_000, 1009),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_any_other_message_ends_the_stream(world: ApiWorld, message: Any, code: int) -> None:
    async with dial(world, "events") as socket:
        await socket.send(message)
        assert (await end_of(socket))[0] == code
    assert world.log.events("error") == []


@given(
    st.lists(st.one_of(st.text(max_size=200), st.binary(max_size=200)), min_size=1, max_size=4), st.binary(max_size=60)
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_message_is_a_fault_of_the_server(messages: list[str | bytes], raw: bytes) -> None:
    asyncio.run(_send_nonsense(messages, raw))


async def _send_nonsense(messages: list[str | bytes], raw: bytes) -> None:
    async with stream_world() as world:
        async with dial(world, "events") as socket:
            try:
                for message in messages:
                    await socket.send(message)
            except ConnectionClosed:
                pass
        async with dial(world, "events") as socket:
            await next_frame(socket)
            socket.transport.write(raw)  # no frame at all, or half of one
            socket.transport.write_eof()
        await until(lambda: not world.parts.hub.clients)
        assert world.log.events("error") == []


# -- ending ----------------------------------------------------------------------------------------------------


async def test_a_stopping_server_tells_everybody_why(world: ApiWorld, gates: Gates) -> None:
    instance_id = await world.engine.execute_workflow(chain(1))
    async with dial(world, "events") as many, dial(world, f"instances/{instance_id}") as one:
        await next_frame(many)
        await next_frame(one)
        await world.parts.hub.stop()
        assert world.parts.hub.clients == 0
        for socket in (many, one):
            assert await end_of(socket) == (1012, "the server is stopping")
    gates.go()


async def test_a_stopping_engine_ends_all_streams_behind_its_last_event(gates: Gates) -> None:
    async with stream_world(jobs={"wait": gates.wait}) as world:
        instance_id = await world.engine.execute_workflow(chain(2))
        async with dial(world, f"instances/{instance_id}") as socket:
            snapshot = await next_frame(socket)
            await world.engine.stop(grace_s=1)
            frames = await all_frames(socket)
        assert socket.close_code == 1012
        assert seqs(frames) == list(range(snapshot["seq"] + 1, snapshot["seq"] + 1 + len(seqs(frames))))


async def test_a_client_that_hangs_up_is_forgotten(world: ApiWorld) -> None:
    for abort in (False, True):
        async with dial(world, "events") as socket:
            await next_frame(socket)
            assert world.parts.hub.clients == 1
            if abort:
                socket.transport.abort()
        await until(lambda: not world.parts.hub.clients)
    assert world.log.events("error") == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unavailable("the store is away"), "unavailable: come back later"),
        (RuntimeError("a fault"), "the server failed"),
    ],
)
async def test_a_stream_that_cannot_go_on_ends_alone_with_1011(
    world: ApiWorld, gates: Gates, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    async def fails(self: Present, *_: object) -> Any:
        raise error

    instance_id = await world.engine.execute_workflow(chain(1))
    async with dial(world, f"instances/{instance_id}") as other:
        await next_frame(other)
        monkeypatch.setattr(Present, "many", fails)
        async with dial(world, "events") as socket:
            code, text = await end_of(socket)
        assert (code, str(text).startswith(reason)) == (1011, True)
        gates.go()
        assert (await end_of(other)) == (1000, "ended")
    logged = world.log.events("error")
    assert logged == ([] if isinstance(error, Unavailable) else ["stream.failed"])


# -- another ASGI server ---------------------------------------------------------------------------------------


async def test_without_our_connections_the_frames_are_the_same(gates: Gates) -> None:
    async with stream_world(jobs={"wait": gates.wait}, stock=True) as world:
        instance_id = await world.engine.execute_workflow(chain(3))
        async with dial(world, f"instances/{instance_id}") as socket, dial(world, "events") as many:
            snapshot = await next_frame(socket)
            await next_frame(many)
            gates.go()
            frames = await all_frames(socket)
            await many.send('{"type": "ping"}')
            await frames_until(many, lambda frame: frame["type"] == "heartbeat")
            await world.parts.hub.stop()
            assert await end_of(many) == (1012, "the server is stopping")
        assert plain(frames) == plain(await history(world, instance_id, snapshot["seq"]))
        assert (socket.close_code, socket.close_reason) == (1000, "ended")
