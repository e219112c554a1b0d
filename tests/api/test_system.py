"""The server itself over HTTP: health, version, metrics, status, nodes, functions."""

import os
from pathlib import Path
from typing import Literal, get_args

import msgspec
import pytest
from api.apiworld import STARTED_AT, ApiWorld, api_world

from taskengine.version import VERSION
from taskengine.wire import (
    DatabaseBody,
    Envelope,
    FunctionBody,
    HealthBody,
    NodeBody,
    RetentionBody,
    StatusBody,
    VersionInfo,
)

Word = Literal["ok", "starting", "degraded", "stopping"]


@pytest.mark.parametrize("word", get_args(Word))
async def test_health_is_one_word_for_everyone(word: Word) -> None:
    async with api_world(health=lambda: word) as world:
        for scope in (None, "read", "wrong"):
            async with world.client(scope) as client:
                health = await client.get("/health")
                assert (health.status_code, health.json()["data"]) == (200, {"status": word})
                alive = await client.get("/livez")
                assert (alive.status_code, alive.json()["data"]) == (200, {"status": "ok"})


@pytest.mark.parametrize(("word", "status"), [("ok", 200), ("starting", 503), ("degraded", 503), ("stopping", 503)])
async def test_it_is_ready_only_when_all_is_well(word: Word, status: int) -> None:
    async with api_world(health=lambda: word) as world, world.client(None) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == status
        if status == 503:
            assert answer.json()["code"] == "unavailable"
            assert answer.headers["retry-after"] == "1"


async def test_version_and_metrics_need_a_token(world: ApiWorld) -> None:
    async with world.client(None) as nobody, world.client("read") as reader:
        for path in ("/version", "/metrics", "/api/v1/status", "/api/v1/nodes", "/api/v1/functions"):
            assert (await nobody.get(path)).status_code == 401, path
            assert (await reader.get(path)).status_code == 200, path


async def test_the_version_says_what_runs_here(world: ApiWorld) -> None:
    async with world.client() as client:
        info = msgspec.json.decode((await client.get("/version")).content, type=Envelope[VersionInfo]).data
    assert (info.version, info.started_at) == (VERSION, STARTED_AT)
    assert info.python
    assert info.sqlite


async def test_metrics_are_the_text_of_prometheus(world: ApiWorld) -> None:
    async with world.client("read") as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text == "# HELP taskengine_up 1\n"


async def test_the_status_counts_instances(world: ApiWorld) -> None:
    async with world.client() as client:
        headers = {"Content-Type": "application/yaml"}
        await client.post("/api/v1/workflows", content=b"id: w\n", headers=headers)
        await client.post("/api/v1/workflows/w/execute?wait=20s")
        status = msgspec.json.decode((await client.get("/api/v1/status")).content, type=Envelope[StatusBody]).data
    assert status.instances == {"Success": 1}
    assert (status.store, status.stream_clients, status.running) == ("memory://", 0, 0)
    assert status.slots > 0


async def test_this_server_is_the_node(world: ApiWorld) -> None:
    async with world.client() as client:
        (node,) = msgspec.json.decode((await client.get("/api/v1/nodes")).content, type=Envelope[list[NodeBody]]).data
    assert (node.id, node.pid, node.version) == ("node-1", os.getpid(), VERSION)
    assert node.epoch >= 1


async def test_the_database_is_told_to_who_looks_after_it(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    async with api_world(dsn=path) as world, world.client() as client, world.client("define") as other:
        await client.post("/api/v1/workflows", content=b"id: w\n", headers={"Content-Type": "application/yaml"})
        await client.post("/api/v1/workflows/w/execute?wait=20s")
        assert (await other.get("/api/v1/admin/database")).status_code == 403
        answer = await client.get("/api/v1/admin/database")
    found = msgspec.json.decode(answer.content, type=Envelope[DatabaseBody]).data
    assert (found.kind, found.address, found.missing_steps) == ("sqlite", f"sqlite://{path}", [])
    assert found.instances == {"Success": 1}
    assert {table.name: (table.rows, table.exact) for table in found.tables or ()}["instances"] == (1, True)
    assert found.retention == RetentionBody(success=None, failed=None), "an embedded engine keeps everything"
    assert found.holder is not None
    assert (found.holder.pid, found.oldest_unfinished, found.filled_from) == (os.getpid(), None, None)


async def test_a_database_in_memory_has_no_schema(world: ApiWorld) -> None:
    async with world.client() as client:
        found = msgspec.json.decode(
            (await client.get("/api/v1/admin/database")).content, type=Envelope[DatabaseBody]
        ).data
    assert (found.kind, found.schema, found.missing_steps, found.size_bytes) == ("memory", 0, [], 0)


async def test_ended_instances_are_removed_on_request(world: ApiWorld) -> None:
    async with world.client() as client, world.client("define") as other:
        await client.post("/api/v1/workflows", content=b"id: w\n", headers={"Content-Type": "application/yaml"})
        for _ in range(3):
            await client.post("/api/v1/workflows/w/execute?wait=20s")

        async def prune(**request: object) -> tuple[int, bool]:
            answer = await client.post("/api/v1/admin/prune", json=request)
            assert answer.status_code == 200, answer.text
            return answer.json()["data"]["instances"], answer.json()["data"]["more"]

        assert (await other.post("/api/v1/admin/prune", json={})).status_code == 403
        assert await prune() == (0, False), "an embedded engine keeps everything"
        assert await prune(older_than=0, dry_run=True) == (3, False)
        assert await prune(older_than=0, workflow_id="other") == (0, False)
        assert await prune(older_than=0, status=["Failed"]) == (0, False)
        assert await prune(older_than=0, limit=2) == (2, True)
        assert await prune(older_than=0) == (1, False)


@pytest.mark.parametrize(
    ("request_body", "said"),
    [
        ({"status": ["Sucess"]}, "Success"),
        ({"status": ["Running"]}, "only ended instances"),
        ({"older_than": -1}, "span of time"),
        ({"limit": 0}, "limit"),
        ({"oldr": 1}, "oldr"),
        ({"dry_run": 0}, "dry_run"),
    ],
)
async def test_a_prune_that_cannot_be_meant(world: ApiWorld, request_body: dict[str, object], said: str) -> None:
    async with world.client() as client:
        answer = await client.post("/api/v1/admin/prune", json=request_body)
    assert answer.status_code == 400
    assert said in answer.text


async def test_functions_are_those_that_a_definition_may_name(world: ApiWorld) -> None:
    async with world.client("read") as client:
        answer = await client.get("/api/v1/functions")
    functions = msgspec.json.decode(answer.content, type=Envelope[list[FunctionBody]]).data
    assert [each.name for each in functions] == sorted(world.engine.registry.names())
    noop = next(each for each in functions if each.name == "noop")
    assert noop.builtin
    assert noop.doc


def test_the_words_of_health_are_those_of_the_wire() -> None:
    assert get_args(HealthBody.__annotations__["status"]) == get_args(Word)


async def test_a_wrong_question_is_told_by_its_place_and_name() -> None:
    async with api_world() as world, world.client("read") as client:
        problem = (await client.get("/api/v1/instances", params={"limit": "1000"})).json()
    assert problem["detail"] == "the request cannot be used: query.limit: Expected `int` <= 100"
    assert [(each["path"], each["message"]) for each in problem["errors"]] == [("query.limit", "Expected `int` <= 100")]
