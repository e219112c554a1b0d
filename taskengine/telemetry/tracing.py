"""Traces for OpenTelemetry: spans as plain records, and the way out to its exporter.

The ids are functions of what they name, so a restart in the middle of an instance goes on with the same trace, and
whoever knows an instance finds its trace. The library is an extra and is imported when its address is configured.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from taskengine.ambient import Ambient
from taskengine.clock import Micros
from taskengine.version import VERSION

__all__ = ["SpanRecord", "SpanSink", "is_wanted", "open_sink", "span_id_of", "trace_id_of"]

_ADDRESSES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_SERVICE: Final = "taskengine"


class SpanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One span that has ended. `parent_id` 0: the root. `error` empty: it ended well."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int = 0
    start_us: Micros
    end_us: Micros
    attributes: Mapping[str, str | int]
    error: str = ""


class SpanSink(Protocol):
    """Where spans go. Never waits and never fails: what cannot be sent is dropped by the library, with a log line."""

    def send(self, spans: Sequence[SpanRecord]) -> None: ...

    def close(self) -> None:
        """Send what is there, for a few seconds at most. Blocks: not on the loop's thread."""
        ...


def trace_id_of(instance_id: str, run: int) -> int:
    """128 bits: those of the instance's id for the first run; of later runs, and for other ids, a hash."""
    digits = instance_id.replace("-", "")
    if run == 1 and len(digits) == 32:
        try:
            return int(digits, 16)
        except ValueError:
            pass
    return _hash(f"{instance_id}/{run}", 16)


def span_id_of(instance_id: str, run: int, task: str = "", attempt: int = 0) -> int:
    """64 bits; without a task that of the instance's own span."""
    return _hash(f"{instance_id}/{run}/{attempt}/{task}", 8)


def _hash(text: str, size: int) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest()) or 1


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether an address to send traces to is configured, in OpenTelemetry's own variables."""
    return environ.get("OTEL_SDK_DISABLED", "").lower() != "true" and any(environ.get(name) for name in _ADDRESSES)


def open_sink(ambient: Ambient, environ: Mapping[str, str] = os.environ) -> SpanSink | None:
    """The way out, or None where no address is configured, or the extra is missing (which is logged)."""
    if not is_wanted(environ):
        return None
    try:
        return _OpenTelemetrySink(ambient)
    except ImportError as error:
        ambient.log.warning("traces.off", missing=error.name or str(error), install="pip install 'taskengine[tracing]'")
        return None


class _OpenTelemetrySink:
    """Hands finished spans to the library's batch processor, which sends them from a thread of its own."""

    def __init__(self, ambient: Ambient) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        given = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": _SERVICE}
        self._resource = Resource.create({"service.version": VERSION, **given})
        self._scope = InstrumentationScope("taskengine", VERSION)
        self._processor: Any = BatchSpanProcessor(OTLPSpanExporter())
        self._ambient = ambient

    def send(self, spans: Sequence[SpanRecord]) -> None:
        try:
            for span in spans:
                self._processor.on_end(self._readable(span))
        except Exception as error:  # somebody else's code, and nothing that work may depend on
            self._ambient.metrics.count("traces.dropped", len(spans))
            self._ambient.log.warning("traces.not_sent", error=repr(error))

    def close(self) -> None:
        self._processor.shutdown()

    def _readable(self, span: SpanRecord) -> Any:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

        def context(span_id: int) -> SpanContext:
            return SpanContext(span.trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

        return ReadableSpan(
            name=span.name,
            context=context(span.span_id),
            parent=context(span.parent_id) if span.parent_id else None,
            resource=self._resource,
            attributes=dict(span.attributes),
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.OK),
            start_time=span.start_us * 1000,
            end_time=span.end_us * 1000,
            instrumentation_scope=self._scope,
        )
