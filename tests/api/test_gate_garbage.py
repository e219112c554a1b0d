"""What no honest client sends: raw garbage on the socket, hostile JSON, broken WebSocket frames.

The law is the same for all: a clear refusal or a closed connection within seconds, never a 500, a hang, a line in the
log that says error; and the server goes on as before.
"""

import asyncio
import base64
import os
import random
import struct
from contextlib import suppress

import httpx
import pytest
from api.apiworld import LIMIT_S, LINEAR, ApiWorld, api_world, listening
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskengine.definition import read_yaml

PATIENCE_S = 5.0
HUGE = b"9" * 5000


async def say(port: int, *pieces: bytes, hang_up: bool = False) -> bytes:
    """Send the pieces, say that nothing more comes, and read until the server closes or is silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if hang_up:
            return b""
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            while piece := await reader.read(65536):
                answer += piece
    except (ConnectionError, OSError):
        pass
    finally:
        writer.transport.abort()
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()]


async def alive(world: ApiWorld) -> None:
    """The server answers as if nothing had happened, and nobody was told of an error."""
    async with httpx.AsyncClient(timeout=LIMIT_S) as client:
        url = f"http://127.0.0.1:{world.port}"
        assert (await client.get(f"{url}/livez")).status_code == 200
        assert (await client.get(f"{url}/api/v1/workflows", headers=world.headers("read"))).status_code == 200
    assert [line for line in world.log.lines if line[0] == "error"] == []


# -- HTTP ------------------------------------------------------------------------------------------------------------

RAW = {
    "nothing": b"",
    "newlines": b"\r\n" * 1000,
    "random": random.Random(1).randbytes(5000),
    "NULs": b"\0" * 5000,
    "TLS hello": bytes.fromhex("16030100c8010000c40303") + b"x" * 200,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /livez\r\n\r\n",
    "version 9": b"GET /livez HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "empty host": b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n",
    "half a line": b"GET /liv",
    "half a head": b"GET /livez HTTP/1.1\r\nHost: localh",
    "huge target": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "huge header": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 500_000 + b"\r\n\r\n",
    "many headers": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    "bare CR": b"GET /livez HTTP/1.1\rHost: localhost\r\r",
    "bare LF": b"GET /livez HTTP/1.1\nHost: localhost\n\n",
    "header without colon": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nnonsense\r\n\r\n",
    "folded header": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    "control in header": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\x1b[31m\r\n\r\n",
    "high bytes in target": b"GET /\xff\xfe\xc0\xaf HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "length that is no number": b"POST /api/v1/workflows HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    "negative length": b"POST /api/v1/workflows HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "huge length": b"POST /api/v1/workflows HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + HUGE + b"\r\n\r\n",
    "two lengths": b"POST /api/v1/workflows HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
    b"Content-Length: 5\r\n\r\nx",
    "length and chunks": b"POST /api/v1/workflows HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/v1/workflows HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bad chunk": b"POST /api/v1/workflows HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "unknown coding": b"POST /api/v1/workflows HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\nxx",
    "CONNECT": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "pipelined": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200,
    "upgrade to nonsense": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    "upgrade without key": b"GET /api/v1/ws/events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
}


@pytest.mark.parametrize("name", RAW)
async def test_garbage_on_the_socket_harms_nobody(live: ApiWorld, name: str) -> None:
    answer = await say(live.port, RAW[name])
    assert not [status for status in statuses(answer) if status >= 500]
    opened = {"pipelined", "bare LF", "folded header", "many headers", "huge header", "upgrade to nonsense"}
    if name not in opened:
        assert not [status for status in statuses(answer) if status < 400], answer[:200]
    await alive(live)


@pytest.mark.parametrize("seed", range(5))
async def test_requests_with_flipped_bytes_harm_nobody(live: ApiWorld, seed: int) -> None:
    dice = random.Random(seed)
    whole = (
        f"POST /api/v1/workflows HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {live.secrets['read']}\r\n"
        'Content-Type: application/json\r\nContent-Length: 14\r\n\r\n{"content": 1}'
    ).encode()
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        answer = await say(live.port, bytes(data[: dice.randint(1, len(data))]))
        assert not [status for status in statuses(answer) if status >= 500 or status < 300], (bytes(data), answer)
    await alive(live)


async def test_many_half_requests_do_not_stop_the_others(live: ApiWorld) -> None:
    held = [await asyncio.open_connection("127.0.0.1", live.port) for _ in range(100)]
    for _, writer in held:
        writer.write(b"POST /api/v1/workflows HTTP/1.1\r\nHost: localhost\r\nContent-Le")
    await alive(live)
    for _, writer in held:
        writer.transport.abort()


# -- JSON ------------------------------------------------------------------------------------------------------------

HOSTILE = {
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "deep params": b'{"params": ' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
    "deep in content": b'{"content": "' + b"[" * 100_000 + b'"}',
    "huge number": b'{"params": {"x": ' + b"9" * 100_000 + b"}}",
    "huge exponent": b'{"params": {"x": 1e99999999}}',
    "NaN": b'{"params": {"x": NaN}}',
    "Infinity": b'{"params": {"x": -Infinity}}',
    "duplicate keys": b'{"params": {}, "params": {"city": "x"}, "content": "a", "content": "b"}',
    "lone surrogate": b'{"params": {"city": "\\ud800"}, "content": "\\udfff"}',
    "NUL": b'{"params": {"city": "\\u0000"}, "content": "id: a\\u0000"}',
    "raw NUL": b'{"params": {"city": "\0"}}',
    "broken utf-8": b'{"params": {"city": "\xff\xc0\xaf"}}',
    "utf-16": '{"params": {}}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "scalar": b"1",
    "null": b"null",
    "list": b"[]",
    "truncated": b'{"params": {"city": "x"',
    "two values": b"{} {}",
    "many keys": b"{" + b",".join(b'"k%d": 1' % n for n in range(20_000)) + b"}",
    "yaml bomb": b'{"content": "a: &a [x,x,x,x,x,x,x,x,x]\\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\\n'
    b'c: &c [*b,*b,*b,*b,*b,*b,*b,*b]\\nd: [*c,*c,*c,*c,*c,*c,*c,*c]"}',
    "prototype": b'{"__proto__": {"admin": true}, "constructor": {}}',
    "strange key": '{"params": {"‮\u200b": 1}}'.encode(),
}

TARGETS = (
    ("POST", "/api/v1/workflows"),
    ("POST", "/api/v1/validate"),
    ("POST", "/api/v1/workflows/linear/execute"),
    ("POST", "/api/v1/instances/absent/cancel"),
    ("POST", "/api/v1/instances/absent/retry"),
    ("POST", "/api/v1/admin/tokens"),
)


@pytest.fixture
async def stocked(live: ApiWorld) -> ApiWorld:
    await live.engine.register_workflow(read_yaml(LINEAR))
    return live


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_json_is_refused_or_taken_but_never_an_accident(stocked: ApiWorld, name: str) -> None:
    headers = {**stocked.headers("admin"), "Content-Type": "application/json"}
    async with httpx.AsyncClient(timeout=PATIENCE_S, base_url=f"http://127.0.0.1:{stocked.port}") as client:
        for method, path in TARGETS:
            response = await client.request(method, path, content=HOSTILE[name], headers=headers)
            assert response.status_code < 500, (path, response.text[:300])
            if response.status_code >= 400:
                assert response.headers["content-type"] == "application/problem+json"
                assert len(response.content) < 20_000
                assert "Traceback" not in response.text
    await alive(stocked)


# -- WebSockets ------------------------------------------------------------------------------------------------------


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, bits: int = 0) -> bytes:
    """One frame as a client sends it, or as it should not."""
    head = bytes([(0x80 if fin else 0) | bits | opcode])
    flag = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([flag | len(payload)])
    elif len(payload) < 65536:
        head += bytes([flag | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([flag | 127]) + struct.pack("!Q", len(payload))
    return head + (b"\0\0\0\0" if masked else b"") + payload


FRAMES = {
    "random": random.Random(2).randbytes(3000),
    "not masked": frame(1, b"hello", masked=False),
    "reserved bits": frame(1, b"hello", bits=0x70),
    "unknown opcode": frame(5, b"x"),
    "unknown control": frame(13, b"x"),
    "broken utf-8": frame(1, b"\xff\xfe"),
    "too large": frame(1, b"x" * 70_000),
    "says it is endless": b"\x81\xff" + struct.pack("!Q", 2**62) + b"\0\0\0\0x",
    "many fragments": frame(1, b"x" * 30_000, fin=False) + frame(0, b"x" * 30_000, fin=False) * 5,
    "continuation of nothing": frame(0, b"x"),
    "text inside of a text": frame(1, b"x", fin=False) + frame(1, b"x"),
    "large ping": frame(9, b"x" * 126),
    "fragmented ping": frame(9, b"x", fin=False),
    "close without reason": frame(8, b"x"),
    "close with strange code": frame(8, struct.pack("!H", 1)),
    "close with broken text": frame(8, struct.pack("!H", 1000) + b"\xff"),
    "pings": frame(9, b"x") * 2000,
    "texts": frame(1, b"hello") * 2000,
    "binary": frame(2, os.urandom(1000)),
    "JSON": frame(1, b'{"type": "subscribe", "id": 1}'),
    "deep JSON": frame(1, b"[" * 60_000),
    "empty": frame(1, b""),
    "half": frame(1, b"hello")[:4],
    "nothing": b"",
}


def upgrade(world: ApiWorld, path: str) -> bytes:
    key = base64.b64encode(b"0123456789abcdef").decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {world.secrets['read']}\r\n"
        f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("name", FRAMES)
async def test_broken_frames_end_their_own_connection_only(live: ApiWorld, name: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    try:
        writer.write(upgrade(live, "/api/v1/ws/events"))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LIMIT_S)
        assert statuses(head) == [101]
        with suppress(ConnectionError):
            writer.write(FRAMES[name])
            await writer.drain()
        await alive(live)
    finally:
        writer.transport.abort()
    await alive(live)


@given(data=st.lists(st.binary(max_size=300), max_size=5), path=st.sampled_from(["/api/v1/ws/events", "/api/v1/ws/x"]))
@settings(max_examples=10, suppress_health_check=list(HealthCheck), derandomize=True)
def test_random_bytes_after_the_handshake_harm_nobody(data: list[bytes], path: str) -> None:
    async def scene() -> None:
        async with api_world() as world, listening(world):
            answer = await say(world.port, upgrade(world, path), *data)
            assert not [status for status in statuses(answer) if status >= 500]
            await alive(world)

    asyncio.run(scene())
