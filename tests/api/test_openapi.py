"""The document: complete, of one shape, the same for everyone; and the page that shows it."""

import base64
import hashlib
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest
from api.apiworld import ApiWorld
from litestar.routes import HTTPRoute, WebSocketRoute

from taskengine import wire
from taskengine.api.app import routes
from taskengine.api.openapi import make_document
from taskengine.wire import PROBLEM_TYPE

METHODS = ("get", "post", "put", "patch", "delete")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return make_document(routes())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


async def test_the_document_has_every_route(world: ApiWorld, document: dict[str, Any]) -> None:
    served = {
        (route.path_format, str(method).lower())
        for route in world.app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method != "OPTIONS"
    }
    assert {(path, method) for path, method, _ in operations(document)} == served
    sockets = {route.path_format for route in world.app.routes if isinstance(route, WebSocketRoute)}
    assert {each["path"] for each in document["x-websockets"]} == sockets
    assert all(path in document["info"]["description"] for path in sockets)


def test_every_operation_says_who_may_call_and_what_the_gate_answers(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        answers = set(operation["responses"])
        where = f"{method} {path}"
        if operation["x-scope"] == "open":
            assert operation["security"] == [], where
        else:
            assert operation["security"] == [{"bearer": []}], where
            assert answers >= {"400", "401", "403", "421", "429"}, where
        if method != "get":
            assert answers >= {"403", "408", "413", "415"}, where
        assert any(code < "400" for code in answers), where
        assert "500" not in answers, where
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_every_error_has_the_one_shape(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for code, response in operation["responses"].items():
            assert response["description"], f"{method} {path} {code}"
            if code >= "400":
                schema = response["content"][PROBLEM_TYPE]["schema"]
                assert schema == {"$ref": "#/components/schemas/ProblemBody"}, f"{method} {path} {code}"
                assert list(response["content"]) == [PROBLEM_TYPE]
        assert "Retry-After" in operation["responses"].get("429", {"headers": ["Retry-After"]})["headers"]


def test_successes_are_described_in_our_words(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for code, response in operation["responses"].items():
            if code < "300":
                assert response["description"] != HTTPStatus(int(code)).description, f"{method} {path} {code}"


def test_routes_say_themselves_in_which_ways_they_succeed(document: dict[str, Any]) -> None:
    found = {operation["operationId"]: operation["responses"] for _, _, operation in operations(document)}
    assert {"200", "201"} <= set(found["upload_workflow"])
    for name in ("execute_workflow", "pause_instance", "resume_instance", "cancel_instance", "retry_instance"):
        assert {"200", "202"} <= set(found[name]), name
    for name in ("get_workflow", "get_graph", "export_workflow"):
        assert {"200", "304"} <= set(found[name]), name
        assert "content" not in found[name]["304"]
    assert set(found["get_logs"]["200"]["content"]) == {"application/json", "application/x-ndjson"}
    assert {"text/plain", "image/svg+xml"} <= set(found["get_graph"]["200"]["content"])
    assert set(found["event_stream"]["200"]["content"]) == {"text/event-stream"}
    assert {"204", "404", "429", "503"} <= set(found["event_stream"])
    assert "content" not in found["event_stream"]["204"]


def test_parameters_say_what_they_are(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), f"{method} {path} {parameter['name']}"


def test_names_are_told_apart_and_texts_are_there(document: dict[str, Any]) -> None:
    found = [operation for _, _, operation in operations(document)]
    ids = [operation["operationId"] for operation in found]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z_]+", each) for each in ids)
    tags = {tag["name"] for tag in document["tags"]}
    assert all(set(operation["tags"]) <= tags for operation in found)
    assert all(operation["summary"] and len(operation["description"]) > 20 for operation in found)


def test_bodies_have_examples(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            assert content.get("examples") or content.get("example"), f"{method} {path} {kind}"


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    text = str(document)
    schemas = document["components"]["schemas"]
    assert {name for name in re.findall(r"#/components/schemas/([A-Za-z_0-9.]+)", text) if name not in schemas} == set()
    ids = {operation["operationId"] for _, _, operation in operations(document)}
    linked = {
        link["operationId"]
        for _, _, operation in operations(document)
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    }
    assert linked
    assert linked <= ids
    assert "taskengine." not in "".join(schemas)


def test_requests_with_typing_errors_are_refused_by_the_document_too(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["TokenRequest"]["additionalProperties"] is False
    assert wire.TokenRequest.__struct_config__.forbid_unknown_fields


async def test_the_document_is_open_and_the_same_for_everyone(world: ApiWorld) -> None:
    texts = set()
    for scope in (None, "wrong", "admin"):
        async with world.client(scope) as client:
            response = await client.get("/schema/openapi.json")
            assert response.headers["content-type"].startswith("application/json")
            assert response.json()["openapi"].startswith("3.1")
            texts.add(response.text)
    assert len(texts) == 1


async def test_the_page_runs_its_own_script_only_and_loads_nothing(world: ApiWorld) -> None:
    async with world.client(None) as client:
        response = await client.get("/schema")
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page = response.content
    for tag in (b"script", b"style"):
        blocks = re.findall(rb"<" + tag + rb">(.*?)</" + tag + rb">", page, flags=re.DOTALL)
        assert len(blocks) == 1
        digest = base64.b64encode(hashlib.sha256(blocks[0]).digest()).decode()
        assert f"{tag.decode()}-src 'sha256-{digest}'" in policy
    assert not re.findall(rb"""(?:src|href)\s*=\s*["'](?!/schema/)""", page)
    assert b"http://" not in page
    assert b"https://" not in page
    assert not re.findall(rb"""\s(?:on[a-z]+|style)\s*=\s*["']""", page)
    for unsafe in (
        b"innerHTML",
        b"outerHTML",
        b"insertAdjacentHTML",
        b"document.write",
        b"eval(",
        b"localStorage",
        b"sessionStorage",
        b"document.cookie",
    ):
        assert unsafe not in page
