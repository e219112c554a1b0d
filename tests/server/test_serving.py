"""A real server at work: its streams, its metrics, its traces, and the peers that do not behave."""

import contextlib
import gzip
import http.server
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from server.process import PATIENCE_S, ServerProcess

JOBS = """
import asyncio, os
from taskengine import TaskContext, job

@job("chatter")
async def chatter(ctx: TaskContext, gate: str) -> None:
    while not os.path.exists(gate):
        for _ in range(50):
            ctx.log.info("x" * 4000)
        await asyncio.sleep(0.005)
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.py"
    path.write_text(JOBS)
    return path


def client(server: ServerProcess) -> httpx.Client:
    return httpx.Client(base_url=server.address, headers=server.headers, trust_env=False, timeout=PATIENCE_S)


def run(asker: httpx.Client, text: str, workflow: str, *, wait: str = "?wait=30s") -> str:
    answer = asker.post("/api/v1/workflows", content=text.encode(), headers={"Content-Type": "application/yaml"})
    assert answer.status_code in (200, 201), answer.text
    return str(asker.post(f"/api/v1/workflows/{workflow}/execute{wait}").json()["data"]["instance_id"])


def samples(asker: httpx.Client) -> dict[str, float]:
    """Every sample of /metrics, labels in braces."""
    answer = asker.get("/metrics")
    assert answer.status_code == 200
    return {
        sample.name + "".join(f"{{{name}={value}}}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)  # another process has no event to wait for


def test_the_metrics_tell_what_the_server_did(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, client(server) as asker:
        run(asker, "id: 好\ntasks: [{name: a, job: noop}]\n", "好")
        run(asker, "id: bad\ntasks: [{name: a, job: fail, params: {message: no}}]\n", "bad")
        with httpx.Client(base_url=server.address, trust_env=False) as nobody:
            assert nobody.get("/metrics").status_code == 401
        found = samples(asker)
    assert found["taskengine_instances_started_total"] == 2
    assert found["taskengine_instances_ended_total{status=Success}"] == 1
    assert found["taskengine_instances_ended_total{status=Failed}"] == 1
    assert found["taskengine_instances_current{status=Success}"] == 1
    assert found["taskengine_tasks_ended_total{job=noop}{status=Success}"] == 1
    assert found["taskengine_commit_seconds_count"] >= 2
    assert found["taskengine_commit_rows_sum"] >= 4
    route = "{method=POST}{route=/api/v1/workflows/{workflow_id}/execute}"
    requests = {name: value for name, value in found.items() if name.startswith("taskengine_http_requests_total")}
    assert sum(value for name, value in requests.items() if "execute" in name) == 2, (route, requests)
    assert any(name.startswith("taskengine_gate_refused_total") for name in found)
    assert found["taskengine_engine_slots"] == 20
    assert found["taskengine_actors_alive"] >= 1
    assert "taskengine_loop_lag_seconds" in found
    assert found["taskengine_stream_clients"] == 0 or "taskengine_stream_clients" not in found
    (build,) = (name for name in found if name.startswith("taskengine_build_info"))
    assert re.search(r"\{version=\d+\.\d+", build)


# -- traces ------------------------------------------------------------------------------------------------------


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes traces over OTLP/HTTP, without reading what they say."""

    received: list[bytes]
    delay: threading.Event | None = None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.delay is not None:
            self.delay.wait(PATIENCE_S)
        self.received.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def collector() -> Iterator[tuple[str, type[Collector]]]:
    handler = type("Here", (Collector,), {"received": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", handler
        if handler.delay is not None:
            handler.delay.set()
        listening.shutdown()
        thread.join()


def test_a_trace_of_what_has_run_is_sent_at_the_latest_at_the_end(
    tmp_path: Path, collector: tuple[str, type[Collector]]
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    address, handler = collector
    # Sixty seconds between two sendings: only an orderly end sends what is there.
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with ServerProcess(tmp_path, environment=environment) as server:
        with client(server) as asker:
            instance = run(asker, "id: traced\ntasks: [{name: 读取, job: noop}]\n", "traced")
        assert server.stop() == 0
        assert "traces." not in server.log
    sent = b"".join(handler.received)
    assert bytes.fromhex(instance.replace("-", "")) in sent
    assert "读取".encode() in sent


def test_a_collector_that_does_not_answer_does_not_hold_up_the_end(
    tmp_path: Path, collector: tuple[str, type[Collector]]
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    address, handler = collector
    handler.delay = threading.Event()
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with ServerProcess(tmp_path, settings={"EXECUTION__GRACE": "4s"}, environment=environment) as server:
        with client(server) as asker:
            run(asker, "id: traced\ntasks: [{name: a, job: noop}]\n", "traced")
        began = server.signal()
        assert server.wait() == 0
        assert time.monotonic() - began < 4 + 5


# -- connections -------------------------------------------------------------------------------------------------


def handshake(server: ServerProcess, *headers: str) -> bytes:
    host = server.address.removeprefix("http://")
    lines = [
        "GET /api/v1/ws/events HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def dial(server: ServerProcess) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(PATIENCE_S)
    host, port = server.address.removeprefix("http://").split(":")
    made.connect((host, int(port)))
    return made


def test_a_stream_that_is_never_read_is_dropped(tmp_path: Path, app: Path) -> None:
    gate = tmp_path / "gate"
    with ServerProcess(tmp_path, apps=(app,)) as server, client(server) as asker, dial(server) as deaf:
        deaf.sendall(handshake(server, f"Authorization: Bearer {server.token}"))
        until(lambda: samples(asker).get("taskengine_stream_clients") == 1, "it connects")
        text = f"id: loud\ntasks: [{{name: a, job: chatter, params: {{gate: '{gate}'}}}}]\n"
        run(asker, text, "loud", wait="")
        until(lambda: samples(asker).get("taskengine_stream_clients") == 0, "it is sent away")
        gate.touch()
        assert samples(asker)["taskengine_stream_closed_total{reason=too_slow}"] == 1
        port = deaf.getsockname()[1]
        until(lambda: port not in peers(server), "its connection is dropped")


def peers(server: ServerProcess) -> set[int]:
    """The ports of those who are connected, as the server's side has them (proc(5)): state 01 is established."""
    own = int(server.address.rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        int(row[2].rpartition(":")[2], 16)
        for row in rows
        if int(row[1].rpartition(":")[2], 16) == own and row[3] == "01"
    }


def test_a_refused_stream_gets_its_answer_and_is_no_error_of_the_server(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        for headers in ((), ("Authorization: Bearer te_wrong",), ("Origin: http://evil.example",)):
            with dial(server) as refused:
                refused.sendall(handshake(server, *headers))
                head = refused.recv(12)
                assert head.startswith(b"HTTP/1.1 40"), head
        with dial(server) as gone:  # and one that does not wait for its answer
            gone.sendall(handshake(server))
        assert server.stop() == 0
        assert "ERROR" not in server.log
        assert "ASGI" not in server.log


def test_streams_are_told_why_they_end_when_the_server_stops(tmp_path: Path) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with ServerProcess(tmp_path) as server:
        url = f"ws{server.address.removeprefix('http')}/api/v1/ws/events"
        with connect(url, additional_headers=server.headers) as stream:
            stream.recv(PATIENCE_S)
            server.signal()
            with contextlib.suppress(ConnectionClosed):
                while stream.recv(PATIENCE_S):
                    pass
            assert (stream.close_code, stream.close_reason) == (1012, "the server is stopping")
        assert server.wait() == 0
        assert "ERROR" not in server.log


def test_a_head_that_never_ends_is_dropped(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, settings={"SERVER__READ_TIMEOUT": "1s"}) as server, dial(server) as slow:
        slow.sendall(b"GET /livez HTTP/1.1\r\nHost: ")
        with contextlib.suppress(ConnectionResetError):
            assert slow.recv(100) == b""


def test_a_head_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, dial(server) as long:
        try:
            long.sendall(b"GET /livez HTTP/1.1\r\n" + b"X-A: b\r\n" * 20_000)
            assert long.recv(12) == b"HTTP/1.1 431"
        except (ConnectionResetError, BrokenPipeError):
            pass  # it did not wait for the rest
        with client(server) as asker:
            assert asker.get("/livez").status_code == 200
