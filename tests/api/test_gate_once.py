"""One start for each idempotency key, over real connections of which many are lost before the answer comes."""

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec
from api.apiworld import LIMIT_S, ApiWorld, api_world, listening, until

from taskengine.definition import read_yaml

COUNTING = """\
id: counting
params:
  n: {type: integer, default: 1}
tasks:
  - {name: t, job: count}
"""
PATH = "/api/v1/workflows/counting/execute"


async def send_and_leave(world: ApiWorld, key: str, body: bytes, dice: random.Random) -> None:
    """A client that hangs up: in the middle of its body, right behind it, or as soon as the answer begins."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {world.secrets['operate']}\r\n"
        f"Content-Type: application/json\r\nIdempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    way = dice.randrange(3)
    writer.write(head + (body[: len(body) // 2] if way == 0 else body))
    with suppress(ConnectionError):
        await writer.drain()
        if way == 2:
            await asyncio.wait_for(reader.read(1), LIMIT_S)
    writer.transport.abort()


async def test_64_clients_with_one_key_start_one_instance(tmp_path: Path) -> None:
    calls: list[int] = []

    async def count() -> None:
        calls.append(1)

    dice = random.Random(5)
    async with api_world(dsn=tmp_path / "引擎.db", jobs={"count": count}) as world, listening(world) as port:
        await world.engine.register_workflow(read_yaml(COUNTING))
        base = {"base_url": f"http://127.0.0.1:{port}", "headers": world.headers("operate"), "timeout": LIMIT_S}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, **base) as client:  # type: ignore[arg-type]
            for number in range(3):
                key, body = f"key-{number}", msgspec.json.encode({"params": {"n": number}})

                async def patient(key: str = key, body: bytes = body) -> httpx.Response:
                    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
                    return await client.post(PATH, content=body, headers=headers)

                lost = [send_and_leave(world, key, body, dice) for _ in range(48)]
                answers = await asyncio.gather(*lost, *(patient() for _ in range(16)))
                given = [answer for answer in answers if answer is not None]
                assert {answer.status_code for answer in given} <= {200, 202}
                assert len({answer.json()["data"]["instance_id"] for answer in given}) == 1

                headers = {"Idempotency-Key": key}
                other = await client.post(PATH, json={"params": {"n": 99}}, headers=headers)
                assert other.status_code == 409
                assert other.json()["code"] == "conflict"
        await until(lambda: len(calls) >= 3)
        history = await world.engine.list_instances(limit=100)
        assert len(history) == 3
        assert len(calls) == 3
        assert [event for event in world.log.events("error") if event.startswith("api.")] == []


async def test_a_key_belongs_to_its_caller_and_its_route(world: ApiWorld) -> None:
    """Another instance, another command or another token with the same key is another request."""
    await world.engine.register_workflow(
        read_yaml("id: quiet\ntasks:\n  - {name: t, job: sleep, params: {duration: 60s}}\n")
    )
    ids = [await world.engine.execute_workflow("quiet") for _ in range(2)]
    headers = {"Idempotency-Key": "same"}
    for scope in ("operate", "define"):
        async with world.client(scope) as client:
            for instance in ids:
                for verb in ("pause", "resume"):
                    response = await client.post(f"/api/v1/instances/{instance}/{verb}", headers=headers)
                    assert response.status_code in (200, 202), response.text
    states = {(await world.engine.get_instance(instance)).status for instance in ids}
    assert {str(state.value) for state in states} == {"Running"}
