"""Server-sent events, and programs that other people wrote: curl, and the websockets command line."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from api.apiworld import LIMIT_S, ApiWorld
from api.stream_rig import history, moved, parse_events, plain, said, seqs, stream_world, until
from api.test_stream_sockets import Gates, chain, finish

PATH = "/api/v1/events"


@pytest.fixture
def gates() -> Gates:
    return Gates()


@pytest.fixture
async def world(gates: Gates) -> AsyncIterator[ApiWorld]:
    async with stream_world(jobs={"wait": gates.wait}) as made:
        yield made


def http(world: ApiWorld) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.port}", headers=world.headers("read"), timeout=LIMIT_S)


async def read_until(response: httpx.Response, text: str) -> str:
    """What has come once `text` has."""
    received = ""
    async for piece in response.aiter_text():
        received += piece
        if text in received:
            break
    return received


async def test_one_instance_as_events_ends_with_it(world: ApiWorld, gates: Gates) -> None:
    instance_id = await world.engine.execute_workflow(chain(2))
    async with http(world) as client, client.stream("GET", PATH, params={"instance_id": instance_id}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-accel-buffering"] == "no"
        gates.go()
        events = parse_events(await read_until(response, ": ended"))
    (identity, snapshot), *rest = events
    assert (snapshot["type"], identity) == ("snapshot", str(snapshot["seq"]))
    frames = [data for _, data in rest]
    assert plain(frames) == plain(await history(world, instance_id, snapshot["seq"]))
    ends = [(identity, data["seq"]) for identity, data in rest if "seq" in data and not data.get("more")]
    assert all(identity == str(seq) for identity, seq in ends)


@pytest.mark.parametrize("last", ["1", "2"])
async def test_the_last_event_id_is_heard_and_comes_before_since(world: ApiWorld, gates: Gates, last: str) -> None:
    gates.go()
    instance_id = await world.engine.execute_workflow(chain(2))
    await finish(world, instance_id)
    async with http(world) as client:
        answer = await client.get(
            PATH, params={"instance_id": instance_id, "since": "0"}, headers={"Last-Event-ID": last}
        )
    assert [data for _, data in parse_events(answer.text)] == await history(world, instance_id, int(last))


async def test_who_comes_back_for_an_ended_instance_is_told_to_stop(world: ApiWorld, gates: Gates) -> None:
    """An EventSource comes back after every end; only a 204 keeps it away."""
    gates.go()
    instance_id = await world.engine.execute_workflow(chain(1))
    await finish(world, instance_id)
    last = seqs(await history(world, instance_id))[-1]
    async with http(world) as client:
        params = {"instance_id": instance_id}
        assert (await client.get(PATH, params=params, headers={"Last-Event-ID": str(last)})).status_code == 204
        assert (await client.get(PATH, params=params, headers={"Last-Event-ID": str(last - 1)})).status_code == 200


async def test_many_instances_go_on_from_a_cursor(world: ApiWorld) -> None:
    async with http(world) as client:
        async with client.stream("GET", PATH) as response:
            (cursor, _), *_ = parse_events(await read_until(response, "snapshot") + "\n\n")
            world.engine.bus.publish(moved(1))
            world.engine.bus.publish(moved(2))
        headers = {"Last-Event-ID": cursor}
        async with client.stream("GET", PATH, headers=headers, params={"types": "task_status"}) as response:
            events = parse_events(await read_until(response, '"seq":2'))
    assert [data["seq"] for _, data in events] == [1, 2]
    assert [identity for identity, _ in events] == [data["cursor"] for _, data in events]


async def test_silence_is_a_comment_that_moves_the_id() -> None:
    params = {"types": "log"}
    async with (
        stream_world(heartbeat_s=0.1) as world,
        http(world) as client,
        client.stream("GET", PATH, params=params) as response,
    ):
        await until(lambda: world.parts.hub.clients)
        world.engine.bus.publish(moved(1))
        cursor = world.parts.hub.ring.cursor(1)
        assert f": heartbeat\nid: {cursor}\n\n" in await read_until(response, f"id: {cursor}")


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"instance_id": "unknown"}, 404),
        ({"workflow_id": "unknown"}, 404),
        ({"types": "x"}, 400),
        ({"status": "x"}, 400),
    ],
)
async def test_what_cannot_be_streamed_is_a_problem(world: ApiWorld, params: dict[str, str], status: int) -> None:
    async with http(world) as client:
        answer = await client.get(PATH, params=params)
    assert answer.status_code == answer.json()["status"] == status


async def test_a_stopping_server_ends_event_streams(world: ApiWorld) -> None:
    async with http(world) as client, client.stream("GET", PATH) as response:
        await until(lambda: world.parts.hub.clients)
        await world.parts.hub.stop()
        received = "".join([piece async for piece in response.aiter_text()])
    assert received.endswith(": the server is stopping\n\n")
    assert world.log.events("error") == []


async def test_a_reader_that_hangs_up_is_forgotten(world: ApiWorld) -> None:
    async with http(world) as client:
        async with client.stream("GET", PATH) as response:
            await read_until(response, "snapshot")
            world.engine.bus.publish(said("on its way"))
        await until(lambda: not world.parts.hub.clients)
    assert world.log.events("error") == []


# -- other people's programs -----------------------------------------------------------------------------------


async def run(*command: str, after_line: str, then: object) -> tuple[int, str]:
    """Exit code and output of a program; `then` is called once it has printed `after_line`."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    output = ""
    async with asyncio.timeout(LIMIT_S):
        while after_line not in output:
            piece = await process.stdout.read(65_536)
            assert piece, f"it ended too soon: {output}"
            output += piece.decode()
        then()  # type: ignore[operator]
        output += (await process.stdout.read()).decode()
        return await process.wait(), output


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_follows_an_instance_to_its_end(world: ApiWorld, gates: Gates) -> None:
    instance_id = await world.engine.execute_workflow(chain(2))
    url = f"http://127.0.0.1:{world.port}{PATH}?instance_id={instance_id}"
    header = f"Authorization: Bearer {world.secrets['read']}"
    code, output = await run("curl", "-sN", "-H", header, url, after_line="snapshot", then=gates.go)
    assert code == 0
    frames = [data for _, data in parse_events(output)]
    assert plain(frames) == plain(await history(world, instance_id, frames[0]["seq"]))


async def test_the_websockets_command_line_follows_an_instance_to_its_end(world: ApiWorld, gates: Gates) -> None:
    """It has no option for a header or a subprotocol, so its `connect` gets the token; the rest is its own."""
    instance_id = await world.engine.execute_workflow(chain(2))
    script = _WITH_TOKEN.format(token=world.secrets["read"])
    url = f"ws://127.0.0.1:{world.port}/api/v1/ws/instances/{instance_id}"
    _, output = await run(sys.executable, "-c", script, url, after_line="snapshot", then=gates.go)
    lines = [line.partition("< ")[2] for line in output.splitlines() if "< {" in line]
    frames = [msgspec.json.decode(line.encode()) for line in lines]
    assert plain(frames) == plain(await history(world, instance_id, frames[0]["seq"]))
    assert "1000" in output
    assert "ended" in output


_WITH_TOKEN = """\
import sys
from websockets.asyncio import client
import websockets.cli
plain = websockets.cli.connect
token = {{"Authorization": "Bearer {token}"}}
websockets.cli.connect = lambda url, **more: plain(url, **more, additional_headers=token)
websockets.cli.main(sys.argv[1:])
"""
