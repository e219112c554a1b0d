"""Streams over real WebSockets that are cut, refused and closed; and log lines whose connection is cut."""

import asyncio
import contextlib
import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import msgspec
import pytest
from client.clientworld import (
    LIMIT_S,
    Either,
    Reply,
    Seen,
    SocketScript,
    TestTime,
    chunked,
    good,
    ndjson,
    problem,
    scripted,
    scripted_socket,
    silent_socket,
)
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from taskengine.client import AsyncClient, Patience
from taskengine.errors import InvalidInput, NotAllowed, NotFound, ServerUnreachable
from taskengine.wire import GapFrame, InstanceStatus, LogLine, Snapshot, StreamFrame, TaskStatus

AT = datetime(2024, 1, 1, tzinfo=UTC)


def task(seq: int, name: str, *, more: bool = False) -> TaskStatus:
    return TaskStatus(
        instance_id="i-1",
        workflow_id="w",
        seq=seq,
        task_id=name,
        status="Running",
        move="dispatch",
        attempt=1,
        timestamp=AT,
        more=more,
    )


END = InstanceStatus(instance_id="i-1", workflow_id="w", seq=6, status="Success", timestamp=AT)
HISTORY: list[StreamFrame] = [
    *(task(seq, name, more=name != "c") for seq in range(1, 6) for name in "abc"),
    task(6, "a", more=True),
    END,
]


def encoded(frames: list[StreamFrame]) -> list[bytes]:
    return [msgspec.json.encode(frame) for frame in frames]


def since_of(path: str) -> int:
    return int(parse_qs(urlsplit(path).query).get("since", ["0"])[0])


def history_server(cuts: list[int]) -> Callable[[str], SocketScript]:
    """Tells what is behind `since`; the n-th connection is cut after `cuts[n]` frames, later ones come to the end."""
    connection = iter(cuts)

    def script(path: str) -> SocketScript:
        rest = [frame for frame in HISTORY if frame.seq > since_of(path)]  # type: ignore[union-attr, operator]
        cut = next(connection, None)
        if cut is None or cut >= len(rest):
            return SocketScript(messages=encoded(rest), reason="ended")
        return SocketScript(messages=encoded(rest[:cut]), code=None)

    return script


@pytest.fixture
def options(time_of_test: TestTime) -> dict[str, Any]:
    return {"pace": time_of_test.pace()}


@pytest.mark.parametrize("seed", range(8))
def test_a_stream_that_is_cut_at_random_tells_the_history_once(
    either: Either, options: dict[str, Any], seed: int
) -> None:
    cuts = [Random(seed * 100 + n).randrange(0, 8) for n in range(6)]
    with scripted_socket(history_server(cuts)) as (address, requests):
        assert either.take(address, "stream", "i-1", options=options) == HISTORY
    assert len(requests) >= 2


def test_a_stream_says_how_its_connection_is(either: Either, options: dict[str, Any], time_of_test: TestTime) -> None:
    states: list[tuple[str, str]] = []
    with scripted_socket(history_server([3, 0, 0])) as (address, _):
        either.take(address, "stream", "i-1", on_state=lambda *said: states.append(said), options=options)
    assert [state for state, _ in states] == ["connected", "reconnecting"] * 3 + ["connected", "closed"]
    assert time_of_test.rests == [0.5, 1.0, 2.0]
    assert "next try in 0.5 s" in states[1][1]
    assert states[-1][1] == "ended"


def test_rests_of_a_stream_double_up_to_half_a_minute_and_begin_again_after_a_frame(
    either: Either, options: dict[str, Any], time_of_test: TestTime
) -> None:
    with scripted_socket(history_server([1, *[0] * 8, 1])) as (address, _):
        either.take(address, "stream", "i-1", options=options)
    assert time_of_test.rests == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 0.5]


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013])
def test_a_server_that_stops_is_waited_for(either: Either, options: dict[str, Any], code: int) -> None:
    scripts = iter([SocketScript(messages=encoded(HISTORY[:3]), code=code, reason="later")])
    later = history_server([])
    with scripted_socket(lambda path: next(scripts, None) or later(path)) as (address, requests):
        assert either.take(address, "stream", "i-1", options=options) == HISTORY
    assert since_of(requests[1].path) == 1


def test_gaps_and_snapshots_are_passed_on(either: Either, options: dict[str, Any]) -> None:
    gap, snapshot = GapFrame(timestamp=AT, reason="too old"), Snapshot(instances=[], timestamp=AT, seq=5)
    frames = [gap, snapshot, *HISTORY[-2:]]
    with scripted_socket(lambda path: SocketScript(messages=encoded(frames))) as (address, _):
        assert either.take(address, "stream", "i-1", since=2, options=options) == frames


@pytest.mark.parametrize(
    ("named", "path"),
    [
        ({"instance_id": "i-1"}, "/api/v1/ws/instances/i-1"),
        ({"instance_id": "i-1", "since": 7, "keep": True}, "/api/v1/ws/instances/i-1?keep=true&since=7"),
        ({"workflow_id": "上海"}, "/api/v1/ws/workflows/%E4%B8%8A%E6%B5%B7"),
        ({"types": ("log", "progress")}, "/api/v1/ws/events?types=log%2Cprogress"),
        ({"since": "c 7", "status": ("Failed",)}, "/api/v1/ws/events?status=Failed&since=c+7"),
    ],
)
def test_the_narrowest_route_is_taken(
    either: Either, options: dict[str, Any], named: dict[str, Any], path: str
) -> None:
    with scripted_socket(lambda path: SocketScript()) as (address, requests):
        assert either.take(address, "stream", options={**options, "token": "te_x"}, **named) == []
    assert [request.path for request in requests] == [path]
    assert requests[0].headers["Authorization"] == "Bearer te_x"
    assert "te_x" not in path


@pytest.mark.parametrize(
    "named",
    [{"instance_id": "i", "workflow_id": "w"}, {"since": 3}, {"workflow_id": "w", "since": 3}, {"keep": True}],
)
def test_arguments_that_contradict_each_other_are_refused(
    either: Either, options: dict[str, Any], named: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        either.take("http://127.0.0.1:1", "stream", options=options, **named)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (404, "not_found", NotFound),
        (401, "not_authenticated", NotAllowed),
        (403, "not_allowed", NotAllowed),
        (400, "invalid_input", InvalidInput),
    ],
)
def test_a_refused_stream_says_why_at_once(
    either: Either, options: dict[str, Any], time_of_test: TestTime, status: int, code: str, error: type[Exception]
) -> None:
    refusal = problem(status, code, "no instance 'i-1'").body
    script = SocketScript(refuse=status, refusal=refusal)
    with scripted_socket(lambda path: script) as (address, _), pytest.raises(error, match="no instance 'i-1'"):
        either.take(address, "stream", "i-1", options=options)
    assert time_of_test.rests == []


def test_a_replaced_token_is_read_again_once(either: Either, options: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("te_old")
    refused = SocketScript(refuse=401, refusal=problem(401, "not_authenticated", "who?").body)
    later = history_server([])

    def script(path: str) -> SocketScript:
        file.write_text("te_new")
        return refused if len(requests) == 1 else later(path)

    with scripted_socket(script) as (address, requests):
        assert either.take(address, "stream", "i-1", options={**options, "token_file": file}) == HISTORY
    assert [request.headers["Authorization"] for request in requests] == ["Bearer te_old", "Bearer te_new"]
    with scripted_socket(lambda path: refused) as (address, requests), pytest.raises(NotAllowed, match="who"):
        either.take(address, "stream", "i-1", options={**options, "token_file": file})


def test_a_client_that_is_sent_away_does_not_come_back(either: Either, options: dict[str, Any]) -> None:
    script = SocketScript(code=1008, reason="not you")
    with scripted_socket(lambda path: script) as (address, requests), pytest.raises(NotAllowed, match="not you"):
        either.take(address, "stream", "i-1", options=options)
    assert len(requests) == 1


def test_a_page_in_place_of_a_stream_is_no_stream(either: Either, options: dict[str, Any]) -> None:
    page = SocketScript(refuse=200, refusal=b"<html>", refusal_type="text/html")
    with scripted_socket(lambda path: page) as (address, _), pytest.raises(ServerUnreachable, match="no taskengine"):
        either.take(address, "stream", "i-1", options=options)


def test_a_busy_server_is_tried_again(either: Either, options: dict[str, Any], time_of_test: TestTime) -> None:
    scripts = iter([SocketScript(refuse=503, refusal=problem(503, "unavailable", "full").body)])
    later = history_server([])
    with scripted_socket(lambda path: next(scripts, None) or later(path)) as (address, _):
        assert either.take(address, "stream", "i-1", options=options) == HISTORY
    assert time_of_test.rests == [0.5]


def test_a_stream_whose_server_was_never_there_ends_soon(either: Either, options: dict[str, Any]) -> None:
    states: list[str] = []
    with scripted_socket(lambda path: SocketScript()) as (address, _):
        pass
    with pytest.raises(ServerUnreachable, match="connection refused"):
        either.take(address, "stream", "i-1", on_state=lambda state, _: states.append(state), options=options)
    assert states == ["reconnecting", "closed"]


def test_a_lost_stream_is_given_up_when_its_patience_ends(
    either: Either, options: dict[str, Any], time_of_test: TestTime
) -> None:
    script = SocketScript(code=1012, reason="stopping")
    named = {**options, "patience": Patience(lost_s=100)}
    with scripted_socket(lambda path: script) as (address, _), pytest.raises(ServerUnreachable, match="stopping"):
        either.take(address, "stream", "i-1", options=named)
    assert 60 < sum(time_of_test.rests) <= 100


def test_a_frame_of_another_release_is_told_of(either: Either, options: dict[str, Any]) -> None:
    script = SocketScript(messages=[b'{"type": "hologram"}'])
    with scripted_socket(lambda path: script) as (address, _), pytest.raises(ServerUnreachable, match="release"):
        either.take(address, "stream", "i-1", options=options)


def test_a_message_too_large_for_anybody_ends_the_stream(
    either: Either, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskengine.client.wiring.MAX_FRAME", 64)
    with scripted_socket(history_server([])) as (address, _), pytest.raises(ServerUnreachable, match="larger than"):
        either.take(address, "stream", "i-1", options=options)


def test_a_server_that_has_died_in_silence_is_noticed(either: Either, options: dict[str, Any]) -> None:
    named = {**options, "patience": Patience(ping_s=0.05, lost_s=0)}
    with silent_socket() as address, pytest.raises(ServerUnreachable, match=r"cut.*ping timeout"):
        either.take(address, "stream", "i-1", options=named)


def test_a_server_that_never_opens_a_stream_is_left(either: Either, options: dict[str, Any]) -> None:
    named = {**options, "patience": Patience(connect_s=0.05, refused_s=0)}
    with scripted(Reply(hang=True)) as server, pytest.raises(ServerUnreachable, match="in time"):
        either.take(server.address, "stream", "i-1", options=named)


def test_a_stream_can_be_left_in_the_middle(either: Either, options: dict[str, Any]) -> None:
    with scripted_socket(history_server([])) as (address, _):
        assert either.take(address, "stream", "i-1", count=2, options=options) == HISTORY[:2]


@pytest.mark.parametrize("busy", [False, True], ids=["waiting", "in the loop"])
def test_a_stream_that_is_cancelled_by_a_scope_leaves_nothing_open(options: dict[str, Any], busy: bool) -> None:
    """A scope interrupts every wait of what it ends, so the goodbye would be, too; sockets left open are warned of."""

    async def run(address: str) -> None:
        async with AsyncClient(address, **options) as client:
            with anyio.CancelScope() as scope:
                async with aclosing(client.stream("i-1")) as stream, anyio.create_task_group() as group:
                    group.start_soon(stop_later, scope, read := anyio.Event())
                    async for _ in stream:
                        read.set()
                        if busy:
                            await anyio.sleep_forever()
            assert scope.cancelled_caught

    async def stop_later(scope: anyio.CancelScope, read: anyio.Event) -> None:
        await read.wait()
        scope.cancel()

    with silent_after(HISTORY[:1]) as (address, goodbyes):
        asyncio.run(asyncio.wait_for(run(address), LIMIT_S))
        assert goodbyes.get(timeout=LIMIT_S) == 1000


def test_a_cancelled_stream_is_closed_although_the_server_does_not_answer(options: dict[str, Any]) -> None:
    async def run(address: str) -> None:
        async with AsyncClient(address, **options) as client:
            with anyio.CancelScope() as scope:

                def is_open(state: str, _: str) -> None:
                    scope.cancel()

                async with aclosing(client.stream("i-1", on_state=is_open)) as stream:
                    await anext(stream)
            assert scope.cancelled_caught

    with warnings.catch_warnings(record=True) as warned, silent_socket() as address:
        warnings.simplefilter("always")
        asyncio.run(asyncio.wait_for(run(address), LIMIT_S))
        gc.collect()  # what was left open says so now
    assert [str(each.message) for each in warned] == []


@contextmanager
def silent_after(frames: list[StreamFrame]) -> Iterator[tuple[str, "Queue[int | None]"]]:
    """A WebSocket server that tells these and then waits; and the codes with which its clients have left."""
    left: Queue[int | None] = Queue()

    def handle(connection: ServerConnection) -> None:
        for message in encoded(frames):
            connection.send(message.decode())
        with contextlib.suppress(ConnectionClosed):
            connection.recv()
        left.put(connection.close_code)

    with serve(handle, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}", left
        finally:
            server.shutdown()
            thread.join(LIMIT_S)


LINES = [
    LogLine(id=n * 3, instance_id="i-1", task="t", attempt=1, level="info", message=f"\u2028行 {n}\n", at=AT)
    for n in range(1, 6)
]
ENDED = {
    "id": "i-1",
    "workflow_id": "w",
    "workflow_name": "w",
    "version": "v",
    "run": 1,
    "params": {},
    "created_at": AT,
    "progress": dict.fromkeys(
        ["total", "percent", "completed", "failed", "running", "pending", "skipped", "cancelled", "compensation"], 0
    ),
}


class LineServer:
    """Tells the lines behind `since`, but for the first answer. The instance has ended when a second one was given."""

    def __init__(self, first: Reply) -> None:
        self._first: Reply | None = first
        self.answers = 0

    def __call__(self, seen: Seen) -> Reply:
        if "/logs" not in seen.path:
            return good({**ENDED, "status": "Success" if self.answers > 1 else "Running"})
        self.answers += 1
        first, self._first = self._first, None
        if first is not None:
            return first
        text = ndjson(line for line in LINES if line.id > since_of(seen.path))
        return told([text[:7], text[7:]])


def told(parts: list[bytes], *, complete: bool = True) -> Reply:
    """Chunks of lines; without its end the answer is cut."""
    return Reply(
        body=chunked(parts, complete=complete),
        content_type="application/x-ndjson",
        headers={"transfer-encoding": "chunked"},
        cut_at=None if complete else 10_000,
    )


@pytest.mark.parametrize("cut_at", [0, 1, 80, 140, 300, 500])
def test_lines_cut_anywhere_are_told_once(either: Either, options: dict[str, Any], cut_at: int) -> None:
    with scripted(LineServer(told([ndjson(LINES)[:cut_at]], complete=False))) as server:
        assert either.take(server.address, "follow_logs", "i-1", options=options) == LINES


def test_lines_that_end_before_their_instance_are_asked_for_again(either: Either, options: dict[str, Any]) -> None:
    with scripted(LineServer(told([ndjson(LINES[:2])]))) as server:
        assert either.take(server.address, "follow_logs", "i-1", options=options) == LINES
    assert sum("/logs" in seen.path for seen in server.seen) == 2


def test_lines_of_an_unknown_instance_are_an_error(either: Either, options: dict[str, Any]) -> None:
    with scripted(problem(404, "not_found", "no instance 'i-1'")) as server, pytest.raises(NotFound):
        either.take(server.address, "follow_logs", "i-1", options=options)


@pytest.mark.parametrize("tail", [-1])
def test_a_tail_is_a_number_of_lines(either: Either, options: dict[str, Any], tail: int) -> None:
    with pytest.raises(InvalidInput, match="tail"):
        either.take("http://127.0.0.1:1", "follow_logs", "i-1", tail=tail, options=options)


@pytest.mark.parametrize(("tail", "lines"), [(0, LINES[3:]), (2, LINES[1:])])
def test_a_tail_is_told_before_what_comes(
    either: Either, options: dict[str, Any], tail: int, lines: list[LogLine]
) -> None:
    def reply(seen: Seen) -> Reply:
        if "follow=true" in seen.path:
            assert "since=9" in seen.path
            return told([ndjson(line for line in LINES if line.id > 9)])
        if "/logs" in seen.path:
            return good({"items": LINES[3 - max(tail, 1) : 3]})
        return good({**ENDED, "status": "Success"})

    with scripted(reply) as server:
        assert either.take(server.address, "follow_logs", "i-1", tail=tail, options=options) == lines
