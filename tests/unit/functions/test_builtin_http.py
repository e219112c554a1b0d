"""http_request against a real server on loopback."""

import base64
import datetime as dt
import email.utils
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from taskengine.clock import SystemClock
from taskengine.functions import Caller, Raised, Returned, builtin_registry
from taskengine.functions.builtin.http_request import MAX_BODY
from taskengine.model.definition import Executor


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers: dict[str, tuple[int, dict[str, str], bytes]] = {}  # noqa: RUF012
    release = threading.Event()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self) -> None:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("content-length", 0))
        if path == "/slow":
            self.release.wait(10)
        echo = {
            "method": self.command,
            "path": path,
            "query": query,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": self.rfile.read(length).decode(),
        }
        default = (200, {"content-type": "application/json"}, json.dumps(echo).encode())
        status, headers, body = self.answers.get(path, default)
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer  # noqa: N815


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Handler.answers, Handler.release = {}, threading.Event()
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    Handler.release.set()
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
async def http(start: Any, make_caller: Callable[..., Caller], server: str) -> AsyncIterator[Callable[..., Any]]:
    caller = make_caller()
    job = builtin_registry().get("http_request")

    async def request(path: str = "/", /, info: dict[str, Any] | None = None, **params: Any) -> Any:
        call = start(job, {"url": server + path, **params}, caller=caller, **(info or {}))
        return await call.wait()

    yield request
    await caller.stop(1)


def result(outcome: Any) -> Any:
    assert isinstance(outcome, Returned), outcome
    return msgspec.json.decode(outcome.result)


async def test_the_answer_is_the_result(http: Any) -> None:
    got = result(await http("/行情?a=1"))
    assert got["status"] == 200
    assert got["headers"]["content-type"] == "application/json"
    assert got["json"]["method"] == "GET"
    assert got["json"]["query"] == "a=1"
    assert got["elapsed"] > 0
    assert "text" not in got


async def test_method_headers_and_query_are_sent(http: Any) -> None:
    sent = result(
        await http(
            "/x", method="put", headers={"X-N": 5, "X-Flag": True}, query={"代码": ["1", "2"], "n": 5, "no": None}
        )
    )["json"]
    assert sent["method"] == "PUT"
    assert (sent["headers"]["x-n"], sent["headers"]["x-flag"]) == ("5", "true")
    assert sent["query"] == "%E4%BB%A3%E7%A0%81=1&%E4%BB%A3%E7%A0%81=2&n=5"


async def test_json_and_text_bodies_are_sent(http: Any) -> None:
    sent = result(await http("/x", method="POST", json={"名": [1, None]}))["json"]
    assert json.loads(sent["body"]) == {"名": [1, None]}
    assert sent["headers"]["content-type"] == "application/json"
    sent = result(await http("/x", method="POST", json=None))["json"]
    assert sent["body"] == "null"
    sent = result(await http("/x", method="POST", body="正文", headers={"Content-Type": "text/plain"}))["json"]
    assert (sent["body"], sent["headers"]["content-type"]) == ("正文", "text/plain")
    sent = result(await http("/x", method="POST", json=1, headers={"Content-Type": "application/x+json"}))["json"]
    assert sent["headers"]["content-type"] == "application/x+json"


async def test_basic_and_bearer_authorization(http: Any) -> None:
    sent = result(await http("/x", auth={"basic": {"username": "用户", "password": "p"}}))["json"]
    wanted = base64.b64encode("用户:p".encode()).decode()
    assert sent["headers"]["authorization"] == f"Basic {wanted}"
    sent = result(await http("/x", auth={"bearer": "token"}))["json"]
    assert sent["headers"]["authorization"] == "Bearer token"
    assert "either basic or bearer" in (await http("/x", auth={})).error.message


async def test_text_answers_are_decoded_with_their_charset(http: Any) -> None:
    Handler.answers["/gbk"] = (200, {"content-type": "text/csv; charset=GBK"}, "代码,名称".encode("gbk"))
    Handler.answers["/bad"] = (200, {"content-type": "application/json; charset=nonsense"}, b"{broken")
    assert result(await http("/gbk"))["text"] == "代码,名称"
    assert result(await http("/bad"))["text"] == "{broken"


async def test_an_unexpected_status_fails_without_the_query(http: Any) -> None:
    Handler.answers["/x"] = (500, {}, "内部错误".encode())
    outcome = await http("/x?token=secret")
    assert isinstance(outcome, Raised)
    assert outcome.error.type == "HTTPStatusError"
    assert outcome.error.message.endswith("/x answered 500: 内部错误")
    assert outcome.error.retryable
    assert outcome.error.retry_after_us is None


async def test_expected_status_replaces_what_is_expected(http: Any) -> None:
    Handler.answers["/gone"] = (404, {}, b"")
    assert result(await http("/gone", expected_status=404))["status"] == 404
    assert result(await http("/gone", expected_status=[200, 404]))["status"] == 404
    assert (await http("/", expected_status=[204])).error.type == "HTTPStatusError"


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_sets_the_delay(http: Any, status: int) -> None:
    Handler.answers["/busy"] = (status, {"retry-after": "7"}, b"")
    error = (await http("/busy")).error
    assert (error.retry_after_us, error.retryable) == (7_000_000, True)
    assert "HTTPStatusError" in error.bases


async def test_retry_after_may_be_a_date(http: Any) -> None:
    at = dt.datetime.fromtimestamp(SystemClock().now_us() / 1e6, dt.UTC) + dt.timedelta(seconds=60)
    Handler.answers["/busy"] = (503, {"retry-after": email.utils.format_datetime(at, usegmt=True)}, b"")
    assert 50_000_000 < (await http("/busy")).error.retry_after_us <= 60_000_000
    Handler.answers["/busy"] = (503, {"retry-after": "sometime"}, b"")
    assert (await http("/busy")).error.retry_after_us is None


async def test_redirects_are_followed(http: Any) -> None:
    Handler.answers["/old"] = (302, {"location": "/new"}, b"")
    assert result(await http("/old"))["json"]["path"] == "/new"
    Handler.answers["/loop"] = (302, {"location": "/loop"}, b"")
    assert "redirects" in (await http("/loop")).error.message


async def test_an_answer_that_is_too_large_is_refused(http: Any) -> None:
    Handler.answers["/large"] = (200, {}, b"x" * (MAX_BODY + 1))
    assert "more than 10,485,760 bytes" in (await http("/large")).error.message


async def test_the_deadline_of_the_task_bounds_the_request(http: Any) -> None:
    deadline_us = SystemClock().now_us() + 200_000
    error = (await http("/slow", info={"deadline_us": deadline_us})).error
    assert error.type == "TimeoutError"
    assert "/slow: no answer in 0." in error.message


async def test_a_server_that_is_not_there_is_a_connection_error(http: Any) -> None:
    error = (await http(url="http://127.0.0.1:1/x")).error
    assert (error.type, error.traceback) == ("ConnectionError", "")
    assert error.message.startswith("GET http://127.0.0.1:1/x: ")


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({"url": "ftp://host/x"}, "no http or https address"),
        ({"url": "no address"}, "no http or https address"),
        ({"url": "http://[::1"}, "cannot be made"),
        ({"body": "x", "json": 1}, "either json or body"),
        ({"method": "GET", "timeout": 5}, "unknown argument 'timeout'"),
        ({"expected_status": "ok"}, "'expected_status'"),
        ({"headers": {"X": [1]}}, "'headers'"),
        ({"headers": {"X": "a\nb"}}, "a line break"),
    ],
)
async def test_a_request_that_cannot_be_made_says_why(http: Any, params: dict[str, Any], part: str) -> None:
    outcome = await http("/", **params)
    assert isinstance(outcome, Raised)
    assert part in outcome.error.message


async def test_save_as_is_not_supported_yet(http: Any) -> None:
    error = (await http("/", save_as="x.csv")).error
    assert (error.type, error.retryable) == ("NotSupportedYet", False)
    assert "docs/not-yet.md" in error.message


async def test_password_and_user_of_the_address_stay_out_of_messages(http: Any, server: str) -> None:
    Handler.answers["/x"] = (500, {}, b"")
    error = (await http(url=server.replace("//", "//user:hidden@") + "/x")).error
    assert "hidden" not in error.message


async def test_it_runs_on_the_loop_only(start: Any, server: str) -> None:
    call = start(builtin_registry().get("http_request"), {"url": server}, executor=Executor.THREAD)
    assert "on the loop only" in (await call.wait()).error.message
