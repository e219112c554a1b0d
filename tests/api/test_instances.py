"""Instances over HTTP: list, show, tasks, events, commands."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from api.apiworld import ApiWorld, api_world

from taskengine import TaskContext
from taskengine.wire import FRAME_DECODER

YAML = {"Content-Type": "application/yaml"}
FLOW = """\
id: flow
labels: {team: quant, tier: a}
tasks:
  - {name: 甲, job: noop}
  - {name: gate, job: hold, depends_on: [甲]}
  - {name: after, job: transform, depends_on: [gate], params: {value: [1, 2]}}
"""
FAILING = """\
id: failing
tasks:
  - {name: fine, job: noop}
  - {name: bad, job: flaky, depends_on: [fine], retry: {count: 1, interval: 0}}
  - {name: below, job: noop, depends_on: [bad]}
"""


SHIFTING = """\
id: shifting
tasks:
  - {name: 父, job: shifting, retry: {count: 1, interval: 0}}
"""


class Jobs:
    """`hold` ends when the gate is opened; `flaky` fails until it is mended."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.inside = asyncio.Event()
        self.mended = False

    async def hold(self) -> None:
        self.inside.set()
        await self.gate.wait()

    async def shifting(self, ctx: TaskContext) -> None:
        """Its second attempt makes other sub-tasks than its first."""
        kind = "旧" if ctx.attempt == 1 else "新"
        retry = {"count": 1, "interval": 0}
        await ctx.add_sub_tasks([{"name": f"{kind}{n}", "job": "second_time", "retry": retry} for n in range(6)])
        await self.second_time(ctx)

    async def second_time(self, ctx: TaskContext) -> None:
        if ctx.attempt == 1:
            raise ConnectionError("not yet")

    async def flaky(self) -> str:
        if not self.mended:
            raise ConnectionError("no route to 主机")
        return "done"


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
async def world(jobs: Jobs) -> AsyncIterator[ApiWorld]:
    names = ("hold", "flaky", "shifting", "second_time")
    async with api_world(jobs={name: getattr(jobs, name) for name in names}) as made:
        yield made


@pytest.fixture
async def client(world: ApiWorld) -> AsyncIterator[httpx.AsyncClient]:
    async with world.client() as made:
        yield made


async def _start(client: httpx.AsyncClient, text: str, wait: str = "") -> str:
    uploaded = await client.post("/api/v1/workflows", content=text.encode(), headers=YAML)
    assert uploaded.status_code in (200, 201), uploaded.text
    path = f"/api/v1/workflows/{quote(uploaded.json()['data']['id'])}/execute"
    answer = await client.post(path, params={"wait": wait} if wait else {})
    assert answer.status_code in (200, 202), answer.text
    instance_id: str = answer.json()["data"]["instance_id"]
    return f"/api/v1/instances/{instance_id}"


async def _data(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await client.get(path, params=params or None)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


# -- one instance --------------------------------------------------------------------------------------------------


async def test_a_running_instance_names_what_runs_and_what_waits(client: httpx.AsyncClient, jobs: Jobs) -> None:
    path = await _start(client, FLOW)
    await jobs.inside.wait()
    async with asyncio.timeout(10):
        while not (data := await _data(client, path))["progress"]["running_task_ids"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the row that says Running follows its start within 0.1 s
    assert data["progress"]["running_task_ids"] == ["gate"]
    assert data["progress"]["pending_task_ids"] == ["after"]
    assert (data["status"], data["result"], data["finished_at"]) == ("Running", None, None)
    assert data["duration"] >= 0


async def test_an_instance_that_has_ended_has_its_result_and_names_nothing(
    client: httpx.AsyncClient, jobs: Jobs
) -> None:
    jobs.gate.set()
    path = await _start(client, FLOW, wait="20s")
    data = await _data(client, path)
    assert (data["status"], data["result"]) == ("Success", {"after": [1, 2]})
    assert data["progress"] == {
        "total": 3, "percent": 100, "completed": 3, "failed": 0, "running": 0, "pending": 0, "skipped": 0,
        "cancelled": 0, "compensation": 0, "running_task_ids": [], "pending_task_ids": [],
    }  # fmt: skip


async def test_a_wait_holds_the_answer_back_until_the_end(client: httpx.AsyncClient, jobs: Jobs) -> None:
    path = await _start(client, FLOW)
    await jobs.inside.wait()
    early = await _data(client, path, wait="1ms")
    assert early["status"] == "Running"
    waiting = asyncio.create_task(_data(client, path, wait="20s"))
    await asyncio.sleep(0)
    assert not waiting.done()
    jobs.gate.set()
    assert (await waiting)["status"] == "Success"


async def test_an_unknown_instance_is_404_everywhere(client: httpx.AsyncClient) -> None:
    for path in ("", "/tasks", "/tasks/a", "/events", "/logs", "/logs?follow=true"):
        answer = await client.get(f"/api/v1/instances/nobody{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    for verb in ("pause", "resume", "cancel", "retry"):
        answer = await client.post(f"/api/v1/instances/nobody/{verb}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), verb


# -- tasks and events ----------------------------------------------------------------------------------------------


async def test_tasks_come_in_definition_order_with_their_attempts(client: httpx.AsyncClient) -> None:
    path = await _start(client, FAILING, wait="20s")
    page = await _data(client, path + "/tasks")
    fine, bad, below = page["items"]
    assert page["total"] == 3
    assert ([fine["status"], bad["status"]], fine["attempts"]) == (["Success", "Failed"], [])
    assert below["status"] in ("UpstreamFailed", "Cancelled")
    assert (bad["attempt"], [each["attempt"] for each in bad["attempts"]]) == (2, [1])
    assert bad["attempts"][0]["error"]["type"] == bad["error"]["type"] == "ConnectionError"
    assert bad["error"]["message"] == "no route to 主机"
    assert bad["depends_on"] == ["fine"]


async def test_pages_of_tasks_show_each_once(client: httpx.AsyncClient) -> None:
    path = await _start(client, FAILING, wait="20s")
    whole = await _data(client, path + "/tasks")
    for limit in (1, 2, 3):
        tasks: list[Any] = []
        cursor = None
        while cursor is not None or not tasks:
            page = await _data(client, path + "/tasks", limit=limit, **({} if cursor is None else {"cursor": cursor}))
            assert page["total"] == 3
            tasks += page["items"]
            cursor = page["cursor"]
        assert tasks == whole["items"], "with the attempts of each"
    assert [task["name"] for task in tasks] == ["fine", "bad", "below"]


async def test_pages_pass_over_sub_tasks_that_an_earlier_attempt_had_made(client: httpx.AsyncClient) -> None:
    path = await _start(client, SHIFTING, wait="20s")
    whole = await _data(client, path + "/tasks")
    assert [task["name"] for task in whole["items"]] == ["父", *(f"父/新{n}" for n in range(6))]
    assert all([each["attempt"] for each in task["attempts"]] == [1] for task in whole["items"])
    for limit in (1, 2, 4):
        tasks: list[Any] = []
        cursor = None
        while cursor is not None or not tasks:
            page = await _data(client, path + "/tasks", limit=limit, **({} if cursor is None else {"cursor": cursor}))
            tasks += page["items"]
            cursor = page["cursor"]
        assert tasks == whole["items"], "each once, with its attempts"


async def test_a_fork_goes_on_from_the_middle_with_a_mended_definition(client: httpx.AsyncClient, jobs: Jobs) -> None:
    path = await _start(client, FAILING, wait="20s")
    mended = FAILING.replace("job: flaky", "job: noop")
    assert (await client.post("/api/v1/workflows", content=mended, headers=YAML)).status_code == 200
    asked = {"from": "bad", "version": "latest"}
    answer = await client.post(f"{path}/fork", json=asked, headers={"Idempotency-Key": "key"})
    assert answer.status_code == 202
    fork = answer.headers["location"]
    assert fork.endswith(answer.json()["data"]["instance_id"])
    assert (await _data(client, fork, wait="20s"))["status"] == "Success"
    again = await client.post(f"{path}/fork", json=asked, headers={"Idempotency-Key": "key"})
    assert again.json()["data"] == answer.json()["data"]
    for body, status, word in (
        ({"from": "bda"}, 404, "bda"),
        ({}, 400, "from"),
        ({"from": "bad", "version": "0000"}, 404, "versions"),
        ({"from": "bad", "params": 7}, 400, "params"),
        ({"from": "bad", "depth": 7}, 400, "depth"),
    ):
        refused = await client.post(f"{path}/fork", json=body)
        assert (refused.status_code, word in refused.text) == (status, True), refused.text
    running = await _start(client, FLOW)
    refused = await client.post(f"{running}/fork", json={"from": "gate"})
    assert (refused.status_code, "only one that has ended" in refused.text) == (409, True)
    jobs.gate.set()


async def test_one_task_is_found_by_a_name_of_any_language(client: httpx.AsyncClient, jobs: Jobs) -> None:
    jobs.gate.set()
    path = await _start(client, FLOW, wait="20s")
    assert (await _data(client, f"{path}/tasks/{quote('甲')}"))["name"] == "甲"
    answer = await client.get(f"{path}/tasks/afterr")
    assert (answer.status_code, "`after`" in answer.json()["detail"]) == (404, True)


async def test_an_instance_and_its_tasks_are_explained(client: httpx.AsyncClient, jobs: Jobs) -> None:
    path = await _start(client, FLOW)
    await jobs.inside.wait()
    found = await _data(client, f"{path}/explain", task="after")
    assert found["why"].startswith("`after` waits for `gate`, which ")
    assert (found["task"], found["status"], found["instance_status"]) == ("after", "Pending", "Running")
    assert [(cause["task"], cause["status"] in ("Ready", "Running")) for cause in found["because"]] == [("gate", True)]
    assert (await _data(client, f"{path}/explain"))["task"] is None
    assert (await _data(client, f"{path}/explain", task="甲"))["status"] == "Success"
    answer = await client.get(f"{path}/explain", params={"task": "afterr"})
    assert (answer.status_code, "`after`" in answer.json()["detail"]) == (404, True)
    assert (await client.get(f"{path}/explain", params={"task": ""})).status_code == 404
    assert (await client.get("/api/v1/instances/nobody/explain")).status_code == 404
    jobs.gate.set()
    failed = await _start(client, FAILING, wait="20s")
    below = await _data(client, f"{failed}/explain", task="below")
    assert "because of `bad`, which failed: " in below["why"]
    assert [release["command"] for release in below["releases"]] == [
        f"taskengine instance retry {failed.rpartition('/')[2]}",
        f"taskengine instance retry {failed.rpartition('/')[2]} --from bad",
    ]


async def test_stored_events_are_frames_by_seq_and_pages_lose_none(client: httpx.AsyncClient) -> None:
    path = await _start(client, FAILING, wait="20s")
    whole = (await _data(client, path + "/events"))["items"]
    assert [FRAME_DECODER.decode(httpx.Response(200, json=frame).content).__class__.__name__ for frame in whole]
    seqs = [frame["seq"] for frame in whole]
    assert seqs == sorted(seqs)
    assert set(seqs) == set(range(1, seqs[-1] + 1))
    ends = [frame["seq"] for frame in whole if not frame.get("more")]
    assert ends == sorted(set(seqs))
    paged, cursor = [], None
    while cursor is not None or not paged:
        page = await _data(client, path + "/events", limit=1, **({} if cursor is None else {"cursor": cursor}))
        paged += page["items"]
        cursor = page["cursor"]
    assert paged == whole
    assert (await _data(client, path + "/events", after=seqs[-1]))["items"] == []
    assert whole[-1]["status"] == "Failed"


# -- lists ---------------------------------------------------------------------------------------------------------


async def _ids(client: httpx.AsyncClient, **params: Any) -> list[str]:
    return [f"/api/v1/instances/{item['id']}" for item in (await _data(client, "/api/v1/instances", **params))["items"]]


async def test_each_filter_narrows_the_list(client: httpx.AsyncClient, jobs: Jobs) -> None:
    jobs.gate.set()
    flow = await _start(client, FLOW, wait="20s")
    failing = await _start(client, FAILING, wait="20s")
    assert await _ids(client) == [failing, flow]
    assert await _ids(client, order="asc") == [flow, failing]
    assert await _ids(client, status="Success") == [flow]
    assert await _ids(client, status=["Success", "Failed"]) == [failing, flow]
    assert await _ids(client, workflow_id="flow") == [flow]
    assert await _ids(client, label="team:quant") == [flow]
    assert await _ids(client, label=["team:quant", "tier:b"]) == []
    assert await _ids(client, search="主机") == [failing]
    assert await _ids(client, prefix=flow.rsplit("/", 1)[1]) == [flow]
    assert await _ids(client, prefix="zzz") == []


async def test_the_span_of_creation_includes_its_beginning_and_not_its_end(
    client: httpx.AsyncClient, jobs: Jobs
) -> None:
    jobs.gate.set()
    first, second = await _start(client, FLOW, wait="20s"), await _start(client, FLOW, wait="20s")
    at = (await _data(client, second))["created_at"]
    assert await _ids(client, created_after=at) == [second]
    assert await _ids(client, created_before=at) == [first]
    assert await _ids(client, created_after=at, created_before=at) == []


async def test_a_count_is_made_when_it_is_asked_for(client: httpx.AsyncClient) -> None:
    await _start(client, "id: empty\n")
    assert (await _data(client, "/api/v1/instances"))["total"] is None
    assert (await _data(client, "/api/v1/instances", total="true"))["total"] == 1


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("label=team", "label=team:quant"),
        ("label=:x", "colon"),
        ("label=a:1&label=a:2", "both"),
        ("created_after=2024-01-01T00:00:00", "zone"),
        ("created_after=yesterday", "created_after"),
        ("status=running", "status"),
    ],
)
async def test_a_filter_that_cannot_be_is_400_and_says_what_would_be_right(
    client: httpx.AsyncClient, query: str, said: str
) -> None:
    answer = await client.get(f"/api/v1/instances?{query}")
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


# -- commands ------------------------------------------------------------------------------------------------------


async def test_a_pause_is_202_and_again_200_and_a_resume_goes_on(client: httpx.AsyncClient, jobs: Jobs) -> None:
    path = await _start(client, FLOW)
    await jobs.inside.wait()
    first, second = await client.post(path + "/pause"), await client.post(path + "/pause")
    assert [first.status_code, second.status_code] == [202, 200]
    assert [each.json()["data"]["status"] for each in (first, second)] == ["Paused", "Paused"]
    resumed = await client.post(path + "/resume", json={})
    assert (resumed.status_code, resumed.json()["data"]["status"]) == (202, "Running")
    assert (await client.post(path + "/resume")).status_code == 200
    jobs.gate.set()
    assert (await _data(client, path, wait="20s"))["status"] == "Success"


async def test_a_cancel_keeps_its_reason(client: httpx.AsyncClient, jobs: Jobs) -> None:
    path = await _start(client, FLOW)
    await jobs.inside.wait()
    answer = await client.post(path + "/cancel", json={"reason": "错误的日期"})
    assert answer.status_code == 202
    data = await _data(client, path, wait="20s")
    assert (data["status"], data["error_message"]) == ("Cancelled", "错误的日期")
    assert (await client.post(path + "/pause")).status_code == 409


async def test_a_retry_opens_a_new_run(client: httpx.AsyncClient, jobs: Jobs) -> None:
    path = await _start(client, FAILING, wait="20s")
    jobs.mended = True
    assert (await client.post(path + "/retry")).status_code == 202
    data = await _data(client, path, wait="20s")
    assert (data["status"], data["run"]) == ("Success", 2)


async def test_a_retry_may_begin_at_a_task(client: httpx.AsyncClient, jobs: Jobs) -> None:
    jobs.gate.set()
    path = await _start(client, FLOW, wait="20s")
    assert (await client.post(path + "/retry", json={"from": "gate"})).status_code == 202
    assert (await _data(client, path, wait="20s"))["run"] == 2
    attempts = {task["name"]: task["attempt"] for task in (await _data(client, path + "/tasks"))["items"]}
    assert attempts == {"甲": 1, "gate": 2, "after": 2}
    both = await client.post(path + "/retry", json={"from": "gate", "only": "after"})
    assert both.status_code == 400
    assert (await client.post(path + "/retry", json={"from": "nobody"})).status_code in (404, 409)


async def test_the_same_key_is_the_same_command_and_has_one_effect(client: httpx.AsyncClient, jobs: Jobs) -> None:
    jobs.gate.set()
    path = await _start(client, FLOW, wait="20s")
    for _ in range(3):
        answer = await client.post(path + "/retry", json={"only": "after"}, headers={"Idempotency-Key": "once"})
        assert answer.status_code == 202
        await _data(client, path, wait="20s")
    assert (await _data(client, path))["run"] == 2
    await client.post(path + "/retry", json={"only": "after"}, headers={"Idempotency-Key": "twice"})
    assert (await _data(client, path, wait="20s"))["run"] == 3


async def test_one_key_of_two_callers_is_two_commands(world: ApiWorld, client: httpx.AsyncClient, jobs: Jobs) -> None:
    jobs.gate.set()
    path = await _start(client, FLOW, wait="20s")
    async with world.client("operate") as other:
        for caller in (client, other):
            await caller.post(path + "/retry", json={"only": "after"}, headers={"Idempotency-Key": "mine"})
            await _data(client, path, wait="20s")
    assert (await _data(client, path))["run"] == 3


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("pause", {"now": "true"}),
        ("pause", {"Now": True}),
        ("resume", {"now": True}),
        ("cancel", {"reason": 3}),
        ("cancel", {"reason": "x" * 1001}),
        ("retry", {"from_task": "a"}),
        ("retry", {"from": ["a"]}),
        ("retry", []),
    ],
)
async def test_a_body_that_does_not_fit_is_400_and_changes_nothing(
    client: httpx.AsyncClient, verb: str, body: Any
) -> None:
    path = await _start(client, "id: t\ntasks: [{name: nap, sleep: 1h}]")
    assert (await client.post(f"{path}/{verb}", json=body)).status_code == 400
    data = await _data(client, path)
    assert (data["status"], data["run"], data["error_message"]) == ("Running", 1, None)


async def test_reading_is_enough_to_look_and_not_to_change(world: ApiWorld, client: httpx.AsyncClient) -> None:
    path = await _start(client, "id: t\ntasks: [{name: nap, sleep: 1h}]")
    async with world.client("read") as reader:
        for part in ("", "/tasks", "/tasks/nap", "/events", "/logs"):
            assert (await reader.get(path + part)).status_code == 200
        for verb in ("pause", "resume", "cancel", "retry"):
            assert (await reader.post(f"{path}/{verb}")).status_code == 403


async def test_tasks_are_added_to_a_running_instance() -> None:
    gate = asyncio.Event()

    async def held() -> None:
        await gate.wait()

    async with api_world(jobs={"held": held}) as world, world.client("operate") as client, world.client() as admin:
        body = b"id: w\ntasks: [{name: a, job: held}]\n"
        await admin.post("/api/v1/workflows", content=body, headers={"Content-Type": "application/yaml"})
        started = await client.post("/api/v1/workflows/w/execute", json={})
        tasks = f"/api/v1/instances/{started.json()['data']['instance_id']}/tasks"
        one = {"name": "x", "job": "noop", "params": {"n": 1}}
        for key, added in (("k", 1), ("k", 1), ("other", 0)):
            answer = await client.post(tasks, json={"parent": "a", "tasks": [one]}, headers={"Idempotency-Key": key})
            assert (answer.status_code, answer.json()["data"]) == (200, {"added": added})
        for wrong, status in (
            ({"parent": "a", "tasks": [one, one]}, 400),
            ({"parent": "a", "tasks": [{"name": "y", "jbo": "noop"}]}, 400),
            ({"parent": "b", "tasks": [one]}, 404),
            ({"parent": "a"}, 400),
        ):
            answer = await client.post(tasks, json=wrong)
            assert answer.status_code == status, answer.text
        listed = (await client.get(tasks)).json()["data"]["items"]
        assert [task["name"] for task in listed] == ["a", "a/x"]
        gate.set()
        ended = await client.get(f"{tasks.removesuffix('/tasks')}?wait=20s")
        assert ended.json()["data"]["progress"]["completed"] == 2
        assert (await client.get(f"{tasks}/a%2Fx")).json()["data"]["status"] == "Success"
        assert (await client.post(tasks, json={"tasks": [one]})).status_code == 409
