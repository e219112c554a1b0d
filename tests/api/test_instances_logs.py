"""Log lines over HTTP: pages, tails, and lines as they come."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from api.apiworld import ApiWorld, api_world, listening

from taskengine.api.following import follow_lines
from taskengine.functions import TaskContext
from taskengine.wire import LogLine

YAML = {"Content-Type": "application/yaml"}
TALK = """\
id: talk
tasks:
  - {name: one, job: say, params: {count: 5}}
  - {name: 二, job: say, depends_on: [one], params: {count: 3}}
"""
SLOW = "id: slow\ntasks: [{name: one, job: say_when_told}]\n"


class Jobs:
    """`say_when_told` says what it is handed, until it is handed None."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[str | None] = asyncio.Queue()

    async def say(self, ctx: TaskContext, count: int) -> None:
        for n in range(count):
            ctx.log.info(f"{ctx.task_name} {n}")

    async def say_when_told(self, ctx: TaskContext) -> None:
        while (word := await self.words.get()) is not None:
            ctx.log.info(word)


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
async def world(jobs: Jobs) -> AsyncIterator[ApiWorld]:
    async with api_world(jobs={"say": jobs.say, "say_when_told": jobs.say_when_told}) as made:
        yield made


async def _start(client: httpx.AsyncClient, text: str, wait: str = "") -> str:
    uploaded = await client.post("/api/v1/workflows", content=text.encode(), headers=YAML)
    path = f"/api/v1/workflows/{uploaded.json()['data']['id']}/execute"
    answer = await client.post(path, params={"wait": wait} if wait else {})
    instance_id: str = answer.json()["data"]["instance_id"]
    return instance_id


async def _page(client: httpx.AsyncClient, instance_id: str, **params: Any) -> Any:
    answer = await client.get(f"/api/v1/instances/{instance_id}/logs", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def _messages(lines: list[Any]) -> list[str]:
    return [line["message"] for line in lines]


async def test_lines_are_told_in_the_order_in_which_they_were_said(world: ApiWorld) -> None:
    async with world.client() as client:
        instance_id = await _start(client, TALK, wait="20s")
        page = await _page(client, instance_id)
    assert _messages(page["items"]) == [*(f"one {n}" for n in range(5)), *(f"二 {n}" for n in range(3))]
    assert [line["id"] for line in page["items"]] == list(range(1, 9))
    first = msgspec.convert(page["items"][0], LogLine)
    assert (first.task, first.attempt, first.level, first.instance_id) == ("one", 1, "info", instance_id)


async def test_task_since_and_tail_choose_lines(world: ApiWorld) -> None:
    async with world.client() as client:
        instance_id = await _start(client, TALK, wait="20s")
        assert _messages((await _page(client, instance_id, task="二"))["items"]) == ["二 0", "二 1", "二 2"]
        assert _messages((await _page(client, instance_id, since=6))["items"]) == ["二 1", "二 2"]
        assert _messages((await _page(client, instance_id, tail=2))["items"]) == ["二 1", "二 2"]
        assert _messages((await _page(client, instance_id, tail=2, task="one"))["items"]) == ["one 3", "one 4"]
        answer = await client.get(f"/api/v1/instances/{instance_id}/logs?tail=0")
        assert answer.status_code == 400


async def test_pages_of_lines_show_each_once(world: ApiWorld) -> None:
    async with world.client() as client:
        instance_id = await _start(client, TALK, wait="20s")
        seen, cursor = [], None
        while cursor is not None or not seen:
            page = await _page(client, instance_id, limit=3, **({} if cursor is None else {"cursor": cursor}))
            seen += [line["id"] for line in page["items"]]
            cursor = page["cursor"]
    assert seen == list(range(1, 9))


# -- following -----------------------------------------------------------------------------------------------------


async def test_following_an_instance_that_has_ended_gives_all_its_lines_and_ends(world: ApiWorld) -> None:
    async with world.client() as client:
        instance_id = await _start(client, TALK, wait="20s")
        answer = await client.get(f"/api/v1/instances/{instance_id}/logs?follow=true")
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [msgspec.json.decode(line, type=LogLine) for line in answer.content.splitlines()]
        assert [line.id for line in lines] == list(range(1, 9))
        some = await client.get(f"/api/v1/instances/{instance_id}/logs?follow=true&task=one&tail=2")
        assert [msgspec.json.decode(line)["message"] for line in some.content.splitlines()] == ["one 3", "one 4"]


@pytest.mark.parametrize(("task", "tail"), [(None, None), ("one", None), (None, 0), ("one", 1)])
async def test_a_follower_hears_each_line_once_as_it_is_said_and_then_the_end(
    world: ApiWorld, jobs: Jobs, task: str | None, tail: int | None
) -> None:
    """Each line is said only when the one before was heard, so none of them may wait for the next."""
    async with world.client() as client:
        instance_id = await _start(client, SLOW)
        heard: list[str] = []
        if tail is None:
            jobs.words.put_nowait("line 0")  # else the first bunch is the tail, which is empty
        async with asyncio.timeout(20):
            async for lines in follow_lines(world.engine, instance_id, task=task, tail=tail):
                heard += [line.message for line in lines]
                jobs.words.put_nowait(f"line {len(heard)}" if len(heard) < 5 else None)
    assert heard == [f"line {n}" for n in range(5)]


async def test_a_follower_over_the_wire_gets_lines_while_the_task_runs(world: ApiWorld, jobs: Jobs) -> None:
    async with (
        listening(world),
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{world.port}", headers=world.headers("read"), timeout=20
        ) as reader,
        world.client() as client,
    ):
        instance_id = await _start(client, SLOW)
        jobs.words.put_nowait("first")
        heard = []
        async with reader.stream("GET", f"/api/v1/instances/{instance_id}/logs?follow=true") as answer:
            async for line in answer.aiter_lines():
                heard.append(msgspec.json.decode(line)["message"])
                jobs.words.put_nowait("second" if len(heard) < 2 else None)
    assert heard == ["first", "second"]


async def test_a_follower_that_leaves_is_forgotten(world: ApiWorld, jobs: Jobs) -> None:
    async with listening(world), world.client() as client:
        instance_id = await _start(client, SLOW)
        jobs.words.put_nowait("first")
        listened = len(world.engine.bus._subscriptions)
        async with (
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{world.port}", headers=world.headers("read"), timeout=20
            ) as reader,
            reader.stream("GET", f"/api/v1/instances/{instance_id}/logs?follow=true") as answer,
        ):
            await anext(answer.aiter_lines())
            assert len(world.engine.bus._subscriptions) == listened + 1
        async with asyncio.timeout(10):
            while len(world.engine.bus._subscriptions) > listened:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # the server sees the closed connection in its own time
        jobs.words.put_nowait(None)
        await client.get(f"/api/v1/instances/{instance_id}?wait=20s")


async def test_followers_end_when_the_engine_stops(jobs: Jobs) -> None:
    async with api_world(jobs={"say_when_told": jobs.say_when_told}) as world:
        async with world.client() as client:
            instance_id = await _start(client, SLOW)
        jobs.words.put_nowait("first")
        heard: list[str] = []
        began = asyncio.Event()

        async def follow() -> None:
            async for lines in follow_lines(world.engine, instance_id):
                heard.extend(line.message for line in lines)
                began.set()

        following = asyncio.create_task(follow())
        await asyncio.wait_for(began.wait(), 10)
        await world.engine.stop(grace_s=0)
        await asyncio.wait_for(asyncio.gather(following, return_exceptions=True), 10)
    assert heard == ["first"]
