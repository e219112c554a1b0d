"""Workflows over HTTP: list, show, draw, export, start, history."""

import asyncio
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from api.apiworld import ApiWorld

from taskengine.definition import read_yaml
from taskengine.model.definition import canonical_form, version_of

YAML = {"Content-Type": "application/yaml"}
DIAMOND = """\
id: 行情-Sync.v1
name: 每日 同步
labels: {team: quant}
params:
  day: {type: string, required: true, pattern: "^[0-9]{8}$"}
  note: null
tasks:
  - {name: 获取, job: noop}
  - {name: left, job: noop, depends_on: [获取]}
  - {name: right, job: noop, depends_on: [获取], when: "${{ params.day }}"}
  - {name: end, job: noop, depends_on: [left, right], trigger: none_failed}
"""
PATH = "/api/v1/workflows/" + quote("行情-Sync.v1")
EMPTY = "id: empty\n"


async def _upload(client: httpx.AsyncClient, text: str) -> str:
    answer = await client.post("/api/v1/workflows", content=text.encode(), headers=YAML)
    assert answer.status_code in (200, 201), answer.text
    version: str = answer.json()["data"]["version"]
    return version


async def test_a_name_in_any_language_works_in_a_path(world: ApiWorld) -> None:
    async with world.client() as client:
        version = await _upload(client, DIAMOND)
        data = (await client.get(PATH)).json()["data"]
    assert (data["id"], data["name"], data["version"]) == ("行情-Sync.v1", "每日 同步", version)
    assert data["task_count"] == 4
    assert data["labels"] == {"team": "quant"}
    assert [node["name"] for node in data["graph"]["nodes"]] == ["获取", "left", "right", "end"]
    assert {"from": "获取", "to": "left"} in data["graph"]["edges"]
    assert len(data["graph"]["edges"]) == 4


async def test_a_decomposed_spelling_finds_the_same_workflow(world: ApiWorld) -> None:
    async with world.client() as client:
        await _upload(client, "id: Grün\n")
        assert (await client.get("/api/v1/workflows/" + quote("Gru\u0308n"))).status_code == 200


async def test_declared_params_say_whether_they_have_a_default(world: ApiWorld) -> None:
    async with world.client() as client:
        await _upload(client, DIAMOND)
        day, note = (await client.get(PATH)).json()["data"]["params"]
    assert (day["required"], day["has_default"], day["pattern"]) == (True, False, "^[0-9]{8}$")
    assert (note["required"], note["has_default"], note["default"]) == (False, True, None)


async def test_workflows_are_listed_by_id(world: ApiWorld) -> None:
    async with world.client() as client:
        for name in ("b", "a", "c"):
            await _upload(client, f"id: {name}\n")
        listed = (await client.get("/api/v1/workflows")).json()
    assert [each["id"] for each in listed["data"]] == ["a", "b", "c"]
    assert listed["code"] == 0


async def test_an_unknown_workflow_is_404_everywhere(world: ApiWorld) -> None:
    async with world.client() as client:
        for path in ("", "/versions", "/graph", "/export", "/history"):
            answer = await client.get(f"/api/v1/workflows/nobody{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
            assert "nobody" in answer.json()["detail"]
        assert (await client.post("/api/v1/workflows/nobody/execute")).status_code == 404
        assert (await client.delete("/api/v1/workflows/nobody")).status_code == 404


# -- versions and tags ---------------------------------------------------------------------------------------------


async def test_the_tag_is_the_version_and_whoever_has_it_is_told_nothing_new(world: ApiWorld) -> None:
    async with world.client() as client:
        version = await _upload(client, EMPTY)
        for path in ("", "/graph", "/graph?format=svg", "/export"):
            first = await client.get(f"/api/v1/workflows/empty{path}")
            assert first.headers["etag"] == f'"{version}"'
            for named in (f'"{version}"', f'"x", W/"{version}"', "*"):
                again = await client.get(f"/api/v1/workflows/empty{path}", headers={"If-None-Match": named})
                assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", f'"{version}"')
        other = await client.get("/api/v1/workflows/empty", headers={"If-None-Match": '"0123"'})
        assert other.status_code == 200


async def test_versions_are_listed_and_found_by_their_beginning(world: ApiWorld) -> None:
    async with world.client() as client:
        old, new = await _upload(client, EMPTY), await _upload(client, EMPTY + "description: new\n")
        versions = (await client.get("/api/v1/workflows/empty/versions")).json()["data"]
        assert [(each["version"], each["current"]) for each in versions] == [(new, True), (old, False)]
        for path in ("", "/export", "/graph"):
            assert (await client.get(f"/api/v1/workflows/empty{path}?version={old[:9]}")).headers["etag"] == f'"{old}"'
        assert (await client.get("/api/v1/workflows/empty?version=ffffffff")).status_code == 404
        assert (await client.get("/api/v1/workflows/empty?version=no")).status_code == 400


# -- drawings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "media_type", "beginning"),
    [
        ("json", "application/json", '{"code":0,"message":"success","data":{"id"'),
        ("mermaid", "text/plain; charset=utf-8", "graph TD\n"),
        ("dot", "text/plain; charset=utf-8", 'digraph "行情-Sync.v1" {'),
        ("svg", "image/svg+xml", "<svg "),
        ("ascii", "text/plain; charset=utf-8", "●    获取\n├─╮\n"),
    ],
)
async def test_a_graph_is_drawn_in_each_form(world: ApiWorld, form: str, media_type: str, beginning: str) -> None:
    async with world.client("define") as client:
        await _upload(client, DIAMOND)
        answer = await client.get(f"{PATH}/graph?format={form}")
    assert answer.headers["content-type"] == media_type
    assert answer.text.startswith(beginning)
    assert "获取" in answer.text or form == "mermaid"


async def test_an_unknown_form_is_refused(world: ApiWorld) -> None:
    async with world.client() as client:
        await _upload(client, EMPTY)
        answer = await client.get("/api/v1/workflows/empty/graph?format=png")
    assert answer.status_code == 400
    assert "png" in answer.json()["detail"]


async def test_a_large_graph_is_drawn_besides_the_loop_and_is_the_same(world: ApiWorld) -> None:
    tasks = "".join(f"  - {{name: t{n}, job: noop}}\n" for n in range(301))
    async with world.client() as client:
        await _upload(client, "id: wide\ntasks:\n" + tasks)
        assert (await client.get("/api/v1/workflows/wide/graph?format=svg")).text.count("<rect") == 301
        assert (await client.get("/api/v1/workflows/wide/export")).text.count("name: t") == 301


async def test_an_export_uploads_to_the_same_version(world: ApiWorld) -> None:
    async with world.client() as client:
        version = await _upload(client, DIAMOND)
        text = (await client.get(f"{PATH}/export")).text
    assert version_of(canonical_form(read_yaml(text))) == version


# -- starting ------------------------------------------------------------------------------------------------------


async def test_a_start_is_202_with_the_place_of_the_instance(world: ApiWorld) -> None:
    async with world.client("operate") as client, world.client() as admin:
        await _upload(admin, DIAMOND)
        answer = await client.post(f"{PATH}/execute", json={"params": {"day": "20240102"}})
        assert answer.status_code == 202
        instance_id = answer.json()["data"]["instance_id"]
        assert answer.headers["location"] == f"/api/v1/instances/{instance_id}"
        assert answer.json()["data"]["instance"] is None
        data = (await client.get(answer.headers["location"])).json()["data"]
    assert (data["workflow_id"], data["params"]) == ("行情-Sync.v1", {"day": "20240102", "note": None})


@pytest.mark.parametrize("body", [b"", b"{}", b" ", b'{"params": {}}'])
async def test_nothing_to_say_needs_no_body(world: ApiWorld, body: bytes) -> None:
    async with world.client() as client:
        await _upload(client, EMPTY)
        headers = {"Content-Type": "application/json"} if body else {}
        answer = await client.post("/api/v1/workflows/empty/execute", content=body, headers=headers)
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[]", "`object`"),
        (b'{"parms": {}}', "parms"),
        (b'{"params": 3}', "$.params"),
        (b'{"params"', "no JSON"),
        (b"\xff", "no JSON"),
    ],
)
async def test_a_broken_body_is_400_and_starts_nothing(world: ApiWorld, body: bytes, said: str) -> None:
    async with world.client() as client:
        await _upload(client, EMPTY)
        headers = {"Content-Type": "application/json"}
        answer = await client.post("/api/v1/workflows/empty/execute", content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
        assert said in answer.json()["detail"]
        assert (await client.get("/api/v1/instances")).json()["data"]["items"] == []


async def test_params_that_do_not_fit_are_422_with_each_problem(world: ApiWorld) -> None:
    async with world.client() as client:
        await _upload(client, DIAMOND)
        answer = await client.post(f"{PATH}/execute", json={"params": {"day": "soon", "extra": 1}})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_params")
    assert len(answer.json()["errors"]) == 2


async def test_the_same_key_gives_the_same_instance_and_other_params_a_conflict(world: ApiWorld) -> None:
    async with world.client() as client:
        await _upload(client, DIAMOND)
        headers = {"Idempotency-Key": "nightly 2024"}
        body = {"params": {"day": "20240102"}}
        first, second = [await client.post(f"{PATH}/execute", json=body, headers=headers) for _ in range(2)]
        assert first.json()["data"]["instance_id"] == second.json()["data"]["instance_id"]
        other = await client.post(f"{PATH}/execute", json={"params": {"day": "20240103"}}, headers=headers)
        assert (other.status_code, other.json()["code"]) == (409, "conflict")


async def test_starts_at_once_with_one_key_make_one_instance(world: ApiWorld) -> None:
    async with world.client() as client:
        await _upload(client, EMPTY)
        headers = {"Idempotency-Key": "k"}
        answers = await asyncio.gather(
            *[client.post("/api/v1/workflows/empty/execute", headers=headers) for _ in range(10)]
        )
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["data"]["instance_id"] for answer in answers}) == 1


async def test_a_wait_answers_200_with_the_result_when_it_has_ended(world: ApiWorld) -> None:
    async with world.client() as client:
        await _upload(client, "id: t\ntasks: [{name: only, job: transform, params: {value: 7}}]")
        answer = await client.post("/api/v1/workflows/t/execute?wait=20s")
    data = answer.json()["data"]["instance"]
    assert answer.status_code == 200
    assert (data["status"], data["result"]) == ("Success", {"only": 7})


async def test_a_wait_that_ends_first_answers_202_with_the_instance_as_it_is(world: ApiWorld) -> None:
    async with world.client() as client:
        await _upload(client, "id: t\ntasks: [{name: nap, sleep: 1h}]")
        answer = await client.post("/api/v1/workflows/t/execute?wait=10ms")
    assert answer.status_code == 202
    assert answer.json()["data"]["instance"]["status"] == "Running"
    assert answer.json()["data"]["instance"]["result"] is None


@pytest.mark.parametrize("wait", ["61s", "soon", "-1", "", "1h"])
async def test_a_wait_is_a_duration_of_at_most_a_minute_and_a_bad_one_starts_nothing(
    world: ApiWorld, wait: str
) -> None:
    async with world.client() as client:
        await _upload(client, EMPTY)
        answer = await client.post("/api/v1/workflows/empty/execute", params={"wait": wait})
        assert answer.status_code == 400
        assert (await client.get("/api/v1/instances")).json()["data"]["items"] == []


# -- history -------------------------------------------------------------------------------------------------------


async def _start(client: httpx.AsyncClient, count: int) -> list[str]:
    await _upload(client, EMPTY)
    answers = [await client.post("/api/v1/workflows/empty/execute?wait=20s") for _ in range(count)]
    return [answer.json()["data"]["instance_id"] for answer in answers]


async def _pages(client: httpx.AsyncClient, path: str, **params: Any) -> list[dict[str, Any]]:
    pages, cursor = [], None
    while cursor is not None or not pages:
        asked = params | ({} if cursor is None else {"cursor": cursor})
        page = (await client.get(path, params=asked)).json()["data"]
        pages.append(page)
        cursor = page["cursor"]
        assert page["has_more"] == (cursor is not None)
    return pages


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 5, 100])
async def test_pages_by_cursor_show_each_instance_once_in_order(world: ApiWorld, order: str, limit: int) -> None:
    async with world.client() as client:
        ids = await _start(client, 5)
        for path in ("/api/v1/workflows/empty/history", "/api/v1/instances"):
            pages = await _pages(client, path, order=order, limit=limit)
            shown = [item["id"] for page in pages for item in page["items"]]
            assert shown == (ids if order == "asc" else ids[::-1])
            assert all(len(page["items"]) <= limit for page in pages)


async def test_history_counts_all_and_pages_by_offset(world: ApiWorld) -> None:
    async with world.client() as client:
        ids = await _start(client, 3)
        page = (await client.get("/api/v1/workflows/empty/history?offset=1&limit=1")).json()["data"]
        assert ([item["id"] for item in page["items"]], page["total"], page["has_more"]) == ([ids[1]], 3, True)
        none = (await client.get("/api/v1/workflows/empty/history?status=Failed&status=Cancelled")).json()["data"]
        assert (none["items"], none["total"]) == ([], 0)


async def test_a_deleted_workflow_keeps_its_history(world: ApiWorld) -> None:
    async with world.client() as client:
        ids = await _start(client, 1)
        assert (await client.delete("/api/v1/workflows/empty")).status_code == 204
        page = (await client.get("/api/v1/workflows/empty/history?status=Failed")).json()["data"]
        assert page["items"] == []
        page = (await client.get("/api/v1/workflows/empty/history")).json()["data"]
        assert [item["id"] for item in page["items"]] == ids


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "offset=-1", "order=up", "status=running", "cursor=%00", "cursor=x", "cursor=",
     "cursor=YXNjOjEuYQ", "cursor=ZGVzYzp4Lnk", "cursor=dGFzazox"],
)  # fmt: skip
async def test_a_bad_page_is_400(world: ApiWorld, query: str) -> None:
    async with world.client() as client:
        await _upload(client, EMPTY)
        answer = await client.get(f"/api/v1/workflows/empty/history?{query}")
        assert answer.status_code == 400, answer.text
        assert (await client.get(f"/api/v1/instances?{query}")).status_code == 400


async def test_cursor_and_offset_exclude_each_other(world: ApiWorld) -> None:
    async with world.client() as client:
        await _start(client, 2)
        cursor = (await client.get("/api/v1/instances?limit=1")).json()["data"]["cursor"]
        for path in ("/api/v1/instances", "/api/v1/workflows/empty/history"):
            assert (await client.get(path, params={"cursor": cursor, "offset": 1})).status_code == 400
