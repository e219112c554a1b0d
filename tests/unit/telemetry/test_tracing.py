"""taskengine/telemetry/tracing.py: ids that follow from what they name, and spans that a real collector receives."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from taskengine.ambient import Ambient
from taskengine.clock import Micros
from taskengine.telemetry.tracing import SpanRecord, is_wanted, open_sink, span_id_of, trace_id_of

INSTANCE = "0192f3c1-0000-7000-8000-000000000001"


class Collector(ThreadingHTTPServer):
    """Takes traces as OpenTelemetry's collector does, over HTTP on loopback."""

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:  # the library's name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert isinstance(self.server, Collector)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_trace_is_found_by_the_id_of_its_instance() -> None:
    assert f"{trace_id_of(INSTANCE, 1):032x}" == INSTANCE.replace("-", "")


def test_ids_are_functions_of_what_they_name_and_differ_for_everything_else() -> None:
    assert trace_id_of(INSTANCE, 2) == trace_id_of(INSTANCE, 2)
    assert trace_id_of("not-a-uuid", 1) == trace_id_of("not-a-uuid", 1)
    spans = {
        span_id_of(INSTANCE, run, task, attempt)
        for run in (1, 2)
        for task in ("a", "b", "1/a")
        for attempt in (1, 2, 11)
    }
    assert len(spans) == 18
    assert all(0 < span < 2**64 for span in spans)


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_traces_are_sent_when_an_address_is_configured(environ: dict[str, str], wanted: bool) -> None:
    assert is_wanted(environ) is wanted


def test_a_collector_receives_the_spans_with_their_tree(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_address[1]}")
    sink = open_sink(Ambient())
    assert sink is not None
    trace, root = trace_id_of(INSTANCE, 1), span_id_of(INSTANCE, 1)
    times = {"start_us": Micros(1_000_000), "end_us": Micros(3_000_000)}
    attributes = {"taskengine.task.name": "载入", "taskengine.task.attempt": 2}
    sink.send(
        [
            SpanRecord(name="etl", trace_id=trace, span_id=root, attributes={}, **times),
            SpanRecord(
                name="载入", trace_id=trace, span_id=7, parent_id=root, attributes=attributes, error="it broke", **times
            ),
        ]
    )
    sink.close()
    (request,) = collector.requests
    (resource,) = request.resource_spans
    assert {"service.name": "taskengine"}.items() <= {
        item.key: item.value.string_value for item in resource.resource.attributes
    }.items()
    first, second = resource.scope_spans[0].spans
    assert first.trace_id.hex() == INSTANCE.replace("-", "")
    assert second.trace_id == first.trace_id
    assert second.parent_span_id == first.span_id
    assert not first.parent_span_id
    assert (second.start_time_unix_nano, second.end_time_unix_nano) == (1_000_000_000, 3_000_000_000)
    assert second.status.message == "it broke"
    assert second.name == "载入"


def test_a_sink_that_cannot_send_hurts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    sink = open_sink(Ambient())
    assert sink is not None
    span = SpanRecord(
        name="x", trace_id=1, span_id=1, start_us=Micros(0), end_us=Micros(1), attributes={"bad": object()}
    )  # type: ignore[dict-item]  # what a library does with nonsense is its own affair
    sink.send([span] * 3)
    sink.close()
