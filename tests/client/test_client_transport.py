"""Real sockets and a server that misbehaves: what the client makes of it."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from client.clientworld import (
    LIMIT_S,
    Either,
    Reply,
    Seen,
    SocketScript,
    TestTime,
    as_json,
    good,
    problem,
    scripted,
    scripted_socket,
)

from taskengine.client import AsyncClient, Client, Patience
from taskengine.errors import CommitFailed, ServerUnreachable, Unavailable


@pytest.fixture
def options(time_of_test: TestTime) -> dict[str, Any]:
    return {"pace": time_of_test.pace()}


class Engine:
    """Starts instances, one for each key, as a server does."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    def start(self, seen: Seen, **how: Any) -> Reply:
        name = self.made.setdefault(seen.headers["idempotency-key"], f"i-{len(self.made) + 1}")
        return good({"instance_id": name}, **how)


@pytest.mark.parametrize("cut_at", [0, 1, 20, 90])
def test_an_answer_cut_anywhere_starts_exactly_one_instance(
    either: Either, options: dict[str, Any], cut_at: int
) -> None:
    engine = Engine()
    with scripted(lambda seen: engine.start(seen, cut_at=cut_at), engine.start) as server:
        reply = either.ask(server.address, "execute", "w", {"city": "上海"}, options=options)
    assert (reply.instance_id, len(engine.made), len(server.seen)) == ("i-1", 1, 2)
    assert as_json(server.seen[1].body) == {"params": {"city": "上海"}}


def test_a_busy_server_starts_exactly_one_instance(
    either: Either, options: dict[str, Any], time_of_test: TestTime
) -> None:
    engine = Engine()
    with scripted(problem(503, "unavailable", "stopping", retry_after="2"), engine.start) as server:
        assert either.ask(server.address, "execute", "w", options=options).instance_id == "i-1"
    assert (len(engine.made), time_of_test.rests) == (1, [2.0])


def test_a_server_that_says_nothing_is_left_after_its_time(either: Either, options: dict[str, Any]) -> None:
    patience = Patience(read_s=0.05, total_s=0)
    with scripted(Reply(hang=True)) as server, pytest.raises(ServerUnreachable, match="no answer in time"):
        either.ask(server.address, "workflows", options={**options, "patience": patience})


def test_a_silent_server_is_asked_again(either: Either, options: dict[str, Any]) -> None:
    with scripted(Reply(hang=True), good([])) as server:
        assert either.ask(server.address, "functions", options={**options, "patience": Patience(read_s=0.05)}) == []
    assert len(server.seen) == 2


def test_a_port_without_a_server_is_told_from_a_slow_one(either: Either, options: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ServerUnreachable, match=r"connection refused.*taskengine serve"):
        either.ask(f"http://127.0.0.1:{port}", "workflows", options=options)


def test_a_page_for_people_is_no_answer(either: Either, options: dict[str, Any]) -> None:
    with (
        scripted(Reply(body=b"<html>Welcome!</html>", content_type="text/html")) as server,
        pytest.raises(ServerUnreachable, match=r"no taskengine server .*text/html"),
    ):
        either.ask(server.address, "workflows", options=options)


def test_something_that_is_no_http_at_all_is_no_answer(either: Either, options: dict[str, Any]) -> None:
    with listener(b"220 smtp.example ESMTP\r\n") as address, pytest.raises(ServerUnreachable):
        either.ask(address, "workflows", options={**options, "patience": Patience(total_s=0)})


def test_the_token_does_not_follow_a_redirect(either: Either, options: dict[str, Any]) -> None:
    with scripted(good([])) as other:
        redirect = Reply(status=307, headers={"location": other.address})
        with scripted(redirect) as server, pytest.raises(ServerUnreachable, match=other.address):
            either.ask(server.address, "workflows", options={**options, "token": "te_x"})
    assert other.seen == []


def test_a_proxy_of_the_environment_is_not_for_this_machine(
    either: Either, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(Reply(status=500)) as proxy, scripted(good([])) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.address)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert either.ask(server.address, "functions", options=options) == []
    assert proxy.seen == []


def test_a_proxy_of_the_environment_is_not_for_streams_within_this_machine(
    either: Either, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(Reply(status=500)) as proxy, scripted_socket(lambda path: SocketScript()) as (address, _):
        for name in ("http_proxy", "https_proxy", "ws_proxy"):
            monkeypatch.setenv(name, proxy.address)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert either.take(address, "stream", options=options) == []
    assert proxy.seen == []


@pytest.mark.skipif(sys.platform != "linux", reason="another system treats a full queue of connections otherwise")
def test_a_machine_that_does_not_answer_at_all_is_left_after_its_time(either: Either, options: dict[str, Any]) -> None:
    patience = Patience(connect_s=0.1, total_s=0)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as waiting:
        address = server.getsockname()
        with contextlib.suppress(TimeoutError):
            while True:
                waiting.enter_context(socket.create_connection(address, timeout=0.1))
        with pytest.raises(ServerUnreachable, match="no connection in time"):
            either.ask(f"http://127.0.0.1:{address[1]}", "functions", options={**options, "patience": patience})


def test_one_client_keeps_its_connection_and_can_be_closed_twice(options: dict[str, Any]) -> None:
    with scripted(good([])) as server:
        client = Client(server.address, **options)
        client.functions(), client.functions()
        client.close(), client.close()
        assert client.functions() == []
        client.close()
    assert len(server.seen) == 3


def test_threads_share_a_client(options: dict[str, Any]) -> None:
    results: list[Any] = []
    with scripted(good([])) as server, Client(server.address, **options) as client:
        threads = [threading.Thread(target=lambda: results.append(client.functions())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
    assert results == [[]] * 8


async def test_many_may_wait_at_once(options: dict[str, Any]) -> None:
    together = threading.Barrier(150)

    def reply(_: Seen) -> Reply:
        together.wait(LIMIT_S)
        return good([])

    with scripted(reply) as server:
        async with AsyncClient(server.address, **options) as client:
            assert await asyncio.gather(*(client.functions() for _ in range(150))) == [[]] * 150


def test_a_failed_commit_keeps_its_name(either: Either, options: dict[str, Any]) -> None:
    with scripted(problem(503, "commit_failed", "disk full")) as server, pytest.raises(CommitFailed, match="disk full"):
        either.ask(server.address, "pause", "i-1", options={**options, "patience": Patience(total_s=0)})


def test_pages_are_followed_to_their_end(either: Either, options: dict[str, Any]) -> None:
    def page(seen: Seen) -> Reply:
        more = "cursor=" not in seen.path
        return good({"items": [], "has_more": more, "cursor": "c 1" if more else None})

    with scripted(page) as server:
        assert either.take(server.address, "iter_instances", status=["Failed", "TimedOut"], options=options) == []
        assert either.ask(server.address, "tasks", "i-1", options=options) == []
    assert [seen.path.partition("?")[2] for seen in server.seen[:2]] == [
        "status=Failed&status=TimedOut&limit=100&order=desc",
        "status=Failed&status=TimedOut&limit=100&cursor=c+1&order=desc",
    ]


@contextmanager
def listener(greeting: bytes) -> Iterator[str]:
    """Something that says one thing and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with server.accept()[0] as connection:
                connection.sendall(greeting)
                connection.recv(65536)

        thread = threading.Thread(target=greet)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(LIMIT_S)


class Certificate:
    """For `localhost`, signed by itself."""

    def __init__(self, folder: Path) -> None:
        self.file, self.key = folder / "cert.pem", folder / "key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
        files = ["-out", str(self.file), "-keyout", str(self.key)]
        subprocess.run([*command, *names, *files], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    return Certificate(tmp_path_factory.mktemp("certificate"))


@contextmanager
def tls_server(certificate: Certificate) -> Iterator[str]:
    """Answers each connection once with an empty list, if it comes to that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    body = good([]).body
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            while True:
                connection, _ = server.accept()
                if stopping.is_set():
                    connection.close()
                    return
                try:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        secured.recv(65536)
                        secured.sendall(answer)
                except OSError:
                    connection.close()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"https://localhost:{server.getsockname()[1]}"
        finally:
            stopping.set()
            socket.create_connection(server.getsockname()).close()
            thread.join(LIMIT_S)


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(
    either: Either, options: dict[str, Any], certificate: Certificate, time_of_test: TestTime
) -> None:
    with tls_server(certificate) as address, pytest.raises(ServerUnreachable, match=r"not trusted.*ca_file="):
        either.ask(address, "functions", options=options)
    assert time_of_test.rests == []


def test_an_authority_of_ones_own_can_be_named(
    either: Either, options: dict[str, Any], certificate: Certificate
) -> None:
    with tls_server(certificate) as address:
        assert either.ask(address, "functions", options={**options, "ca_file": certificate.file}) == []


def test_a_certificate_is_good_for_its_own_name_only(
    either: Either, options: dict[str, Any], certificate: Certificate
) -> None:
    with tls_server(certificate) as address:
        named = address.replace("localhost", "127.0.0.1")
        with pytest.raises(ServerUnreachable, match=r"not trusted.*127\.0\.0\.1"):
            either.ask(named, "functions", options={**options, "ca_file": certificate.file})


def test_tls_to_a_server_without_it_is_explained(either: Either, options: dict[str, Any]) -> None:
    with listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        secured = address.replace("http:", "https:")
        with pytest.raises(ServerUnreachable, match="use http://"):
            either.ask(secured, "functions", options=options)


def test_unavailable_when_patience_has_ended(either: Either, options: dict[str, Any], time_of_test: TestTime) -> None:
    with scripted(problem(503, "unavailable", "starting")) as server, pytest.raises(Unavailable, match="starting"):
        either.ask(server.address, "workflows", options=options)
    assert sum(time_of_test.rests) <= Patience().total_s
