"""Laws of the gate, on an application of small handlers: each law is about the gate and about no resource."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import msgspec
import pytest
import websockets
from api.apiworld import GENEROUS, LIMIT_S, ApiWorld, api_world, listening, until
from litestar import Request, WebSocket, delete, get, post, websocket
from litestar.params import FromPath, FromQuery, JSONBody

from taskengine import errors
from taskengine.api.gate import HostRules, Limits, Principal
from taskengine.api.parts import Asker, Parts
from taskengine.clock import ManualClock
from taskengine.wire import Envelope, ProblemBody

seen: list[Any] = []
raising: list[Exception] = []


class Note(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    count: int = 0


@get("/open", opt={"scope": "open"}, sync_to_thread=False)
def open_door() -> Envelope[str]:
    return Envelope(data="open")


@get("/things/{thing:str}", opt={"scope": "read"}, sync_to_thread=False)
def read_thing(thing: FromPath[str], principal: Asker, limit: FromQuery[int] = 1) -> Envelope[list[str]]:
    return Envelope(data=[thing, principal.name, str(limit)])


@post("/things", opt={"scope": "operate"}, sync_to_thread=False)
def make_thing(data: JSONBody[Note]) -> Envelope[str]:
    return Envelope(data=data.text)


@post("/things/{thing:str}/start", opt={"scope": "operate", "starts": True}, sync_to_thread=False)
def start_thing(thing: FromPath[str]) -> Envelope[str]:
    return Envelope(data=thing)


@post("/definitions", opt={"scope": "define", "body": "definition"})
async def define(request: Request[Any, Any, Any]) -> Envelope[int]:
    return Envelope(data=len(await request.body()))


@post("/check", opt={"scope": "read"}, sync_to_thread=False)
def check() -> Envelope[str]:
    return Envelope(data="checked")


@delete("/things/{thing:str}", opt={"scope": "admin"}, status_code=200, sync_to_thread=False)
def drop_thing(thing: FromPath[str]) -> Envelope[str]:
    return Envelope(data=thing)


@get("/raise", opt={"scope": "read"}, sync_to_thread=False)
def raise_it() -> Envelope[str]:
    raise raising.pop()


@get("/look", opt={"scope": "read"}, sync_to_thread=False)
def look(request: Request[Any, Any, Any], parts: Parts) -> Envelope[str]:
    seen.append((dict(request.headers), request.scope, parts))
    return Envelope(data="looked")


@websocket("/ws/{thing:str}", opt={"scope": "read"})
async def ws(socket: WebSocket[Any, Any, Any], thing: FromPath[str]) -> None:
    """Echoes."""
    if thing == "absent":
        raise errors.NotFound("thing", thing)
    if thing == "broken":
        raise RuntimeError("秘密")
    await socket.accept(subprotocols="taskengine.v1" if socket.scope["subprotocols"] else None)
    seen.append((dict(socket.headers), list(socket.scope["subprotocols"])))
    async for text in socket.iter_data(mode="text"):
        await socket.send_text(f"{thing}:{text}")


HANDLERS = [
    open_door,
    read_thing,
    make_thing,
    start_thing,
    define,
    check,
    drop_thing,
    raise_it,
    look,
    ws,
]


def small(**options: Any) -> Any:
    return api_world(handlers=list(HANDLERS), **options)


@pytest.fixture
async def door() -> AsyncIterator[ApiWorld]:
    async with small() as world:
        yield world


@pytest.fixture(autouse=True)
def _fresh() -> None:
    seen.clear()
    raising.clear()


def problem(response: httpx.Response, status: int, code: str) -> ProblemBody:
    """The body of an error, which has the same shape for all of them."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = msgspec.json.decode(response.content, type=ProblemBody)
    assert (body.status, body.code) == (status, code)
    assert body.title
    assert body.detail
    assert body.message == body.detail
    return body


# -- who may ---------------------------------------------------------------------------------------------------------


def test_a_handler_without_a_scope_stops_the_start() -> None:
    @get("/forgotten", sync_to_thread=False)
    def forgotten() -> str:
        return ""

    async def start() -> None:
        async with api_world(handlers=[forgotten]):
            pass

    with pytest.raises(ValueError, match=r"/forgotten.*says no scope"):
        asyncio.run(start())


def test_a_misspelled_scope_stops_the_start() -> None:
    @get("/typo", opt={"scope": "reed"}, sync_to_thread=False)
    def typo() -> str:
        return ""

    async def start() -> None:
        async with api_world(handlers=[typo]):
            pass

    with pytest.raises(ValueError, match="says no scope"):
        asyncio.run(start())


def test_a_websocket_without_a_scope_stops_the_start() -> None:
    @websocket("/forgotten")
    async def forgotten(socket: WebSocket[Any, Any, Any]) -> None: ...

    async def start() -> None:
        async with api_world(handlers=[forgotten]):
            pass

    with pytest.raises(ValueError, match="says no scope"):
        asyncio.run(start())


async def test_a_route_that_is_added_later_without_a_scope_is_for_nobody(door: ApiWorld) -> None:
    @get("/late", sync_to_thread=False)
    def late() -> str:
        return "late"

    door.app.register(late)
    async with door.client("admin") as client:
        problem(await client.get("/late"), 403, "not_allowed")
    async with door.client(None) as client:
        problem(await client.get("/late"), 401, "not_authenticated")


@pytest.mark.parametrize("path", ["/things/a", "/absent", "/", "/open/", "/open/x", "/things", "//", "/schema"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "HEAD", "PUT", "TRACE", "FOO"])
async def test_without_a_token_all_but_open_routes_look_alike(door: ApiWorld, method: str, path: str) -> None:
    async with door.client(None) as client:
        response = await client.request(method, path)
    if path == "/open/" and method == "GET":
        assert response.json()["data"] == "open"  # a trailing slash is the same route, for the router and the gate
        return
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_an_open_route_says_the_same_to_everyone(door: ApiWorld) -> None:
    answers = set()
    for scope in (None, "wrong", "expired", "revoked", "read", "admin"):
        async with door.client(scope) as client:
            answers.add((await client.get("/open")).text)
    assert len(answers) == 1


@pytest.mark.parametrize("scope", ["wrong", "expired", "revoked"])
async def test_a_token_that_is_not_valid_opens_nothing(door: ApiWorld, scope: str) -> None:
    async with door.client(scope) as client:
        problem(await client.get("/things/a"), 401, "not_authenticated")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic {}",
        "{}",
        "Token {}",
        "Bearer {} x",
        "Bearer {}x",
        'Bearer token="{}"',
        "Bearer\t",
    ],
)
async def test_only_a_bearer_token_counts(door: ApiWorld, header: str) -> None:
    value = header.format(door.secrets["admin"])
    async with door.client(None, headers={"Authorization": value}) as client:
        problem(await client.get("/things/a"), 401, "not_authenticated")


async def test_the_scheme_is_written_as_one_likes(door: ApiWorld) -> None:
    async with door.client(None, headers={"Authorization": f"bEARER  {door.secrets['read']}"}) as client:
        assert (await client.get("/things/a")).status_code == 200


async def test_two_authorization_headers_are_none(door: ApiWorld) -> None:
    pairs = [("Authorization", f"Bearer {door.secrets['admin']}"), ("Authorization", "Bearer x")]
    async with door.client(None) as client:
        problem(await client.get("/things/a", headers=pairs), 401, "not_authenticated")


@pytest.mark.parametrize("name", ["token", "access_token", "authorization", "Authorization"])
async def test_a_token_in_the_query_is_never_looked_at(door: ApiWorld, name: str) -> None:
    async with door.client(None) as client:
        problem(await client.get("/things/a", params={name: door.secrets["admin"]}), 401, "not_authenticated")


async def test_a_token_in_a_cookie_is_never_looked_at(door: ApiWorld) -> None:
    async with door.client(None, headers={"Cookie": f"token={door.secrets['admin']}"}) as client:
        problem(await client.get("/things/a"), 401, "not_authenticated")


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/things/a", "read"),
        ("POST", "/things", "operate"),
        ("POST", "/definitions", "define"),
        ("DELETE", "/things/a", "admin"),
    ],
)
async def test_a_smaller_scope_is_told_which_one_is_needed(door: ApiWorld, method: str, path: str, needed: str) -> None:
    order = ["read", "operate", "define", "admin"]
    for scope in order:
        async with door.client(scope) as client:
            body = {"json": {"text": "x"}} if method == "POST" else {}
            response = await client.request(method, path, **body)
        if order.index(scope) >= order.index(needed):
            assert response.status_code in (200, 201), response.text
        else:
            assert repr(needed) in problem(response, 403, "not_allowed").detail


async def test_credentials_stay_at_the_gate(door: ApiWorld) -> None:
    async with door.client("read", headers={**door.headers("read"), "Cookie": "a=b"}) as client:
        await client.get("/look")
    headers, scope, parts = seen[0]
    assert door.secrets["read"] not in str(headers) + str(scope["headers"])
    assert "cookie" not in headers
    assert isinstance(scope["user"], Principal)
    assert parts is door.parts


# -- wrong tokens ----------------------------------------------------------------------------------------------------


async def test_wrong_tokens_are_counted_and_then_refused_for_a_while() -> None:
    clock = ManualClock()
    async with small(clock=clock, limits=Limits()) as world:
        async with world.client("wrong") as client:
            codes = [(await client.get("/things/a")).status_code for _ in range(21)]
            assert codes == [401] * 20 + [429]
            response = await client.get("/things/a")
            problem(response, 429, "too_many_requests")
            assert 1 <= int(response.headers["retry-after"]) <= 60
            clock.tick(float(response.headers["retry-after"]))
            problem(await client.get("/things/a"), 401, "not_authenticated")
        async with world.client("read") as client:
            assert (await client.get("/things/a")).status_code == 200  # nobody locks out who has a token
        assert world.log.events("warning") == ["gate.wrong_token"] * 21
        assert len(world.audit.entries) == 21
        assert world.metrics.total("gate.refused", reason="rate") == 2


async def test_asking_without_a_token_is_no_attempt() -> None:
    async with small(limits=Limits(failed_logins_per_minute=1)) as world, world.client(None) as client:
        for _ in range(5):
            problem(await client.get("/things/a"), 401, "not_authenticated")


# -- hosts and origins -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/open", "/things/a", "/absent"])
async def test_a_foreign_host_name_is_misdirected(door: ApiWorld, path: str) -> None:
    async with door.client("admin", base_url="http://evil.example") as client:
        problem(await client.get(path), 421, "misdirected")


async def test_two_host_headers_are_refused(door: ApiWorld) -> None:
    async with door.client("admin") as client:
        response = await client.get("/open", headers=[("Host", "localhost"), ("Host", "evil.example")])
    problem(response, 400, "invalid_input")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/things"), ("DELETE", "/things/a"), ("PUT", "/open"), ("POST", "/absent")]
)
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1"])
async def test_a_foreign_page_changes_nothing(door: ApiWorld, method: str, path: str, origin: str) -> None:
    async with door.client("admin") as client:
        problem(await client.request(method, path, headers={"Origin": origin}), 403, "not_allowed")


async def test_our_own_and_configured_pages_may_call() -> None:
    async with small(hosts=HostRules.of(origins=["https://ops.example"])) as world, world.client() as client:
        for origin in ("http://localhost", "https://ops.example"):
            response = await client.post("/things", json={"text": "x"}, headers={"Origin": origin})
            assert response.status_code == 201


async def test_no_page_of_another_origin_may_read(door: ApiWorld) -> None:
    async with door.client("admin") as client:
        for method in ("GET", "OPTIONS"):
            headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "GET"}
            response = await client.request(method, "/things/a", headers=headers)
            assert not [name for name in response.headers if name.startswith("access-control")]


async def test_forwarded_headers_count_behind_a_configured_proxy_only() -> None:
    headers = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "engine.example"}
    for proxies, client_address in (([], "127.0.0.1"), (["127.0.0.1"], "203.0.113.7")):
        async with small(hosts=HostRules.of(hosts=["engine.example"], proxies=proxies)) as world:
            async with world.client("admin", headers={**world.headers("admin"), **headers}) as client:
                given = {"Origin": "https://engine.example"}
                response = await client.post("/things", json={"text": "x"}, headers=given)
            assert response.status_code == (201 if proxies else 403)
            if proxies:
                entry = world.audit.entries[-1]
                assert (entry.client, entry.peer, entry.forwarded) == (client_address, "127.0.0.1", "203.0.113.7")


# -- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"])
async def test_a_body_has_a_known_type(door: ApiWorld, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    async with door.client() as client:
        for path in ("/things", "/definitions"):
            problem(await client.post(path, content=b'{"text": "x"}', headers=headers), 415, "unsupported_type")


async def test_yaml_is_taken_where_a_definition_is(door: ApiWorld) -> None:
    async with door.client() as client:
        for kind in ("application/yaml", "text/yaml; charset=utf-8", "application/x-yaml"):
            assert (await client.post("/definitions", content=b"id: x", headers={"Content-Type": kind})).is_success
            response = await client.post("/things", content=b"text: x", headers={"Content-Type": kind})
            problem(response, 415, "unsupported_type")


async def test_no_body_needs_no_type(door: ApiWorld) -> None:
    async with door.client() as client:
        assert (await client.post("/things/a/start")).status_code == 201


@pytest.mark.parametrize(("path", "limit"), [("/definitions", 4096), ("/things", 1024)])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_has_a_limit(path: str, limit: int, chunked: bool) -> None:
    limits = msgspec.structs.replace(GENEROUS, definition_bytes=4096, body_bytes=1024)

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 256):
            yield b" " * 256
        yield b" " * (size % 256)

    async with small(limits=limits) as world, listening(world) as port:
        url = f"http://127.0.0.1:{port}{path}"
        headers = {**world.headers("admin"), "Content-Type": "application/json"}
        async with httpx.AsyncClient(timeout=LIMIT_S) as client:
            for size in (limit + 1, limit * 50):
                content: Any = pieces(size) if chunked else b" " * size
                problem(await client.post(url, content=content, headers=headers), 413, "too_large")
            content = pieces(limit) if chunked else b" " * limit
            response = await client.post(url, content=content, headers=headers)
            assert response.status_code in (201, 400)  # 400: spaces are no JSON


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (b'{"count": 1}', ""),
        (b'{"text": 1}', "text"),
        (b'{"text": "x", "typo": 1}', "typo"),
        (b'{"text": "x", "count": 1e999}', "out of range"),
        (b'{"text": "x", "count": 1.5}', "count"),
        (b"[]", ""),
        (b"{", ""),
        (b"", ""),
        (b"\xff\xfe", ""),
        (b'{"text": "\\ud800"}', ""),
        (b"\x00", ""),
        (b"[" * 100_000, ""),
        (b'{"text": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", ""),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_body_that_cannot_be_read_is_a_400(door: ApiWorld, content: bytes, path: str) -> None:
    async with door.client() as client:
        response = await client.post("/things", content=content, headers={"Content-Type": "application/json"})
    body = problem(response, 400, "invalid_input")
    assert path in str(body.errors) + body.detail
    assert door.log.lines == []


@pytest.mark.parametrize(
    "query", ["limit=x", "limit=", "limit=1&limit=2", "limit=99999999999999999999999", "limit=1.5"]
)
async def test_a_parameter_that_cannot_be_read_is_a_400(door: ApiWorld, query: str) -> None:
    async with door.client() as client:
        response = await client.get(f"/things/a?{query}")
    if response.status_code != 200:  # of several values one may be chosen, and an int has no bound here
        assert "limit" in str(problem(response, 400, "invalid_input").errors)
    assert door.log.lines == []


async def test_a_body_that_does_not_come_is_a_408() -> None:
    limits = msgspec.structs.replace(GENEROUS, read_timeout_s=0.2)
    async with small(limits=limits) as world, listening(world) as port:
        answer = await raw(
            port,
            f"POST /things HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {world.secrets['admin']}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode(),
        )
        assert answer.startswith(b"HTTP/1.1 408")


async def test_a_client_that_leaves_in_the_middle_of_a_body_is_no_error() -> None:
    async with small() as world, listening(world) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST /things HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {world.secrets['admin']}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await until(lambda: bool(world.audit.entries))
        assert world.log.lines == []


# -- read-only, rates ------------------------------------------------------------------------------------------------


async def test_a_read_only_server_changes_nothing() -> None:
    async with small(read_only=True) as world, world.client("admin") as client:
        for method, path in (("POST", "/things"), ("DELETE", "/things/a"), ("POST", "/definitions")):
            body = problem(await client.request(method, path, json={"text": "x"}), 403, "not_allowed")
            assert "read-only" in body.detail
        assert (await client.get("/things/a")).status_code == 200
        assert (await client.post("/check")).status_code == 201  # looks, and changes nothing


async def test_starts_have_a_rate() -> None:
    clock = ManualClock()
    limits = msgspec.structs.replace(GENEROUS, starts_per_s=2.0, starts_burst=3)
    async with small(clock=clock, limits=limits) as world, world.client("operate") as client:
        codes = [(await client.post("/things/a/start")).status_code for _ in range(4)]
        assert codes == [201, 201, 201, 429]
        response = await client.post("/things/a/start")
        assert response.headers["retry-after"] == "1"
        assert (await client.post("/things", json={"text": "x"})).status_code == 201
        clock.tick(0.5)
        assert (await client.post("/things/a/start")).status_code == 201


# -- errors ----------------------------------------------------------------------------------------------------------

PROBLEM = errors.Problem(message="错", path="tasks[2].retry", line=3, column=5, excerpt="  - x")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.InvalidInput("x"), 400, "invalid_input"),
        (errors.NotSupportedYet("x"), 400, "not_supported_yet"),
        (errors.InvalidDefinition([PROBLEM]), 422, "invalid_definition"),
        (errors.InvalidParams([PROBLEM, PROBLEM]), 422, "invalid_params"),
        (errors.InvalidDefinition([]), 422, "invalid_definition"),
        (errors.InvalidExpression("a +", "ends"), 422, "invalid_expression"),
        (errors.NotFound("instance", "x"), 404, "not_found"),
        (errors.Conflict("x"), 409, "conflict"),
        (errors.IllegalMove("task", "Ready", "retry"), 409, "illegal_move"),
        (errors.CommitFailed("x"), 503, "commit_failed"),
        (errors.Unavailable("x"), 503, "unavailable"),
        (errors.StoreUnavailable("x"), 503, "store_unavailable"),
        (errors.NotFound("instance", "\ud800" * 5000), 404, "not_found"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_errors_of_the_engine_have_their_status(door: ApiWorld, error: Exception, status: int, code: str) -> None:
    raising.append(error)
    async with door.client() as client:
        response = await client.get("/raise")
    body = problem(response, status, code)
    assert ("retry-after" in response.headers) is (status == 503)
    if isinstance(error, errors.InvalidDefinition | errors.InvalidParams):
        assert len(body.errors) == len(error.problems)
        assert all((each.path, each.line, each.column) == ("tasks[2].retry", 3, 5) for each in body.errors)
    assert door.log.lines == []


@pytest.mark.parametrize("error", [RuntimeError("秘密"), errors.TaskEngineError("秘密"), KeyError("秘密")], ids=str)
async def test_a_bug_is_logged_once_and_told_by_its_id(door: ApiWorld, error: Exception) -> None:
    raising.append(error)
    async with door.client() as client:
        response = await client.get("/raise")
    assert response.status_code == 500
    body = msgspec.json.decode(response.content, type=ProblemBody)
    assert "Traceback" not in response.text
    [(level, event, fields)] = door.log.lines
    assert (level, event, fields["id"], fields["exc"]) == ("error", "api.failed", body.id, error)
    assert body.id in body.detail or body.id


async def test_a_wrong_method_names_the_right_ones(door: ApiWorld) -> None:
    async with door.client() as client:
        for method in ("PUT", "OPTIONS", "HEAD", "FOO"):
            response = await client.request(method, "/things/a")
            assert response.status_code == 405
            assert response.headers["allow"] == "DELETE, GET"


# -- what every answer has -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/open", "/things/a", "/absent", "/raise"])
async def test_every_answer_has_the_headers_of_safety(door: ApiWorld, path: str) -> None:
    raising.append(errors.Conflict("x"))
    async with door.client() as client:
        headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "server" not in headers


async def test_every_call_that_could_change_something_leaves_a_line(door: ApiWorld) -> None:
    async with door.client("operate") as client:
        await client.post("/things", json={"text": "x"})
        await client.post("/things/日/start")
        await client.delete("/things/a")
        await client.get("/things/a")
        await client.post("/check")
        await client.post("/absent")
        await client.post("/things", content=b"{", headers={"Content-Type": "application/json"})
    rows = [(entry.method, entry.route, entry.ids, entry.status) for entry in door.audit.entries]
    assert rows == [
        ("POST", "/things", {}, 201),
        ("POST", "/things/{thing}/start", {"thing": "日"}, 201),
        ("DELETE", "/things/{thing}", {"thing": "a"}, 403),
        ("POST", "/things", {}, 400),
    ]
    assert {entry.principal for entry in door.audit.entries} == {"operate token"}
    assert {entry.client for entry in door.audit.entries} == {"127.0.0.1"}


async def test_requests_are_counted_by_route_and_never_by_path(door: ApiWorld) -> None:
    async with door.client() as client:
        for number in range(3):
            await client.get(f"/things/{number}")
            await client.get(f"/absent/{number}")
            await client.request(f"FOO{number}", "/things/x")
    assert door.metrics.total("http.requests", route="/things/{thing}", status="200", method="GET") == 3
    assert door.metrics.total("http.requests", route="unmatched", status="404") == 3
    assert door.metrics.total("http.requests", method="OTHER") == 3
    assert door.metrics.observed.count("http.duration_s") == 9


# -- WebSockets ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def sockets(**options: Any) -> AsyncIterator[ApiWorld]:
    async with small(**options) as world, listening(world):
        yield world


def connect(world: ApiWorld, path: str = "/ws/a", **options: Any) -> Any:
    return websockets.connect(f"ws://127.0.0.1:{world.port}{path}", open_timeout=LIMIT_S, proxy=None, **options)


async def refused(world: ApiWorld, path: str = "/ws/a", **options: Any) -> ProblemBody:
    """The problem with which a connection was answered."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with connect(world, path, **options):
            pass
    response = caught.value.response
    assert response.headers["content-type"] == "application/problem+json"
    body = msgspec.json.decode(response.body or b"", type=ProblemBody)
    assert body.status == response.status_code
    return body


async def test_a_websocket_opens_with_a_header_or_a_subprotocol() -> None:
    async with sockets() as world:
        token = world.secrets["read"]
        offered = ["taskengine.v1", f"taskengine.token.{token}"]
        for options in ({"additional_headers": world.headers("read")}, {"subprotocols": offered}):
            async with connect(world, **options) as socket:
                await socket.send("x")
                assert await socket.recv() == "a:x"
                if "subprotocols" in options:
                    assert socket.subprotocol == "taskengine.v1"
        assert not [entry for entry in seen if token in str(entry)]


async def test_a_websocket_without_a_right_token_is_not_accepted() -> None:
    async with sockets() as world:
        for scope in (None, "wrong", "expired", "revoked"):
            headers = {} if scope is None else world.headers(scope)
            assert (await refused(world, additional_headers=headers)).code == "not_authenticated"
            assert (await refused(world, "/ws", additional_headers=headers)).code == "not_authenticated"
            assert (await refused(world, "/absent", additional_headers=headers)).code == "not_authenticated"
        path = f"/ws/a?token={world.secrets['admin']}&access_token={world.secrets['admin']}"
        assert (await refused(world, path)).code == "not_authenticated"
        assert seen == []


async def test_a_websocket_of_a_foreign_page_is_not_accepted() -> None:
    async with sockets() as world:
        headers = world.headers("read")
        assert (await refused(world, additional_headers=headers, origin="http://evil.example")).code == "not_allowed"
        async with connect(world, additional_headers=headers, origin=f"http://127.0.0.1:{world.port}"):
            pass


async def test_a_refused_websocket_says_why() -> None:
    async with sockets() as world:
        headers = world.headers("read")
        assert (await refused(world, "/ws/absent", additional_headers=headers)).code == "not_found"
        assert (await refused(world, "/nothing", additional_headers=headers)).status == 404
        body = await refused(world, "/ws/broken", additional_headers=headers)
        assert (body.status, body.code) == (500, "internal_error")
        assert "秘密" not in body.detail
        assert world.log.events("error") == ["api.failed"]


async def test_websockets_have_a_cap_for_each_token_and_for_all() -> None:
    limits = msgspec.structs.replace(GENEROUS, websockets=3, websockets_per_principal=2)
    async with sockets(limits=limits) as world:
        read, admin = world.headers("read"), world.headers("admin")
        async with connect(world, additional_headers=read), connect(world, additional_headers=read):
            assert (await refused(world, additional_headers=read)).status == 429
            async with connect(world, additional_headers=admin):
                assert (await refused(world, additional_headers=world.headers("define"))).status == 503
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    async with connect(world, additional_headers=read):
                        break
                except websockets.InvalidStatus:
                    await asyncio.sleep(0.01)  # until the server has seen that the others left


# -- raw -------------------------------------------------------------------------------------------------------------


async def raw(port: int, data: bytes) -> bytes:
    """What a server answers to these bytes, until it closes or says nothing for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        await writer.drain()
        return await asyncio.wait_for(reader.read(65536), LIMIT_S)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
