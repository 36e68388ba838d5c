"""Traces: spans around calls in and out, the W3C trace context between them, and where spans go.

Names and attributes follow OpenTelemetry's semantic conventions for RPC. Only a fault of ours makes a span red: a
refused card is an answer. Nothing here is global: a `Telemetry` is made at the composition root and passed on.
"""

import functools
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf.message import Message
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.common.errors import StatusError, grpc_code
from services.common.layers import Context, Handler, Layer, Method

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACEPARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_CODES_OF_OUR_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
"""The codes that the semantic conventions count as errors of a server."""
_SHUT_DOWN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where a process sends its spans."""

    provider: TracerProvider

    @property
    def tracer(self) -> trace.Tracer:
        """The tracer of all spans of Libretto."""
        return self.provider.get_tracer("libretto")

    def shut_down(self) -> None:
        """Send what is waiting, for at most two seconds: a dead collector may not hold up a stop.

        The SDK's own limits do not hold (it waited for 7 s), so its thread is left behind when the time is over.
        """
        sending = threading.Thread(target=self.provider.shutdown, daemon=True)
        sending.start()
        sending.join(_SHUT_DOWN_SECONDS)


def from_environment(service_name: str, span_file: Path | None) -> Telemetry:
    """Send spans by OTLP where OTEL_EXPORTER_OTLP_ENDPOINT is set, and to a file where one is named."""
    provider = new_provider(service_name)
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 - 0.1 s that most do not need.
            OTLPSpanExporter,
        )

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    if span_file is not None:
        provider.add_span_processor(BatchSpanProcessor(SpanFile(span_file), schedule_delay_millis=500))
    return Telemetry(provider)


def new_provider(service_name: str) -> TracerProvider:
    """Make a provider that names its service, samples as the caller did, and does nothing at the interpreter's exit."""
    resource = Resource({"service.name": service_name, "service.namespace": "libretto"})
    return TracerProvider(resource=resource, shutdown_on_exit=False)


class SpanFile(SpanExporter):
    """Appends spans to a file, one JSON object a line. A full file becomes `<file>.1` and a new one begins."""

    def __init__(self, path: Path, limit_bytes: int = 64 * 1024 * 1024) -> None:
        """Write to a path, and keep at most two files of the limit each."""
        self._path, self._limit_bytes = path, limit_bytes

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append the spans."""
        try:
            if self._path.exists() and self._path.stat().st_size > self._limit_bytes:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(span.to_json(indent=None) + "\n" for span in spans)
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS


def layer(telemetry: Telemetry) -> Layer:
    """Give each call a server span: a child of the caller's, or the root of a new trace."""
    tracer = telemetry.tracer

    def wrap(method: Method, handler: Handler) -> Handler:
        attributes = _attributes(method)

        @functools.wraps(handler)
        async def traced(request: Message, context: Context) -> Message:
            parent = _PROPAGATOR.extract(_caller_headers(context))
            with tracer.start_as_current_span(
                method.full_name,
                parent,
                trace.SpanKind.SERVER,
                attributes,
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                context.set_trailing_metadata((("trace-id", current_trace_id()),))
                try:
                    response = await handler(request, context)
                except StatusError as error:
                    end_call(span, grpc_code(error.status.code), _CODES_OF_OUR_FAULTS)
                    raise
                except BaseException:  # Cancelled by the caller: nothing else passes the errors' layer.
                    end_call(span, grpc.StatusCode.CANCELLED, frozenset())
                    raise
                end_call(span, grpc.StatusCode.OK, _CODES_OF_OUR_FAULTS)
                return response

        return traced

    return wrap


@contextmanager
def span(
    tracer: trace.Tracer,
    name: str,
    *,
    parent: otel_context.Context | None = None,
    kind: trace.SpanKind = trace.SpanKind.INTERNAL,
    attributes: Mapping[str, str] | None = None,
) -> Iterator[trace.Span]:
    """Open a span for work of ours. What fails in it makes it red by its type; its text, maybe personal, stays out."""
    with tracer.start_as_current_span(
        name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as opened:
        try:
            yield opened
        except Exception as error:
            opened.set_attribute("error.type", type(error).__qualname__)
            opened.set_status(trace.Status(trace.StatusCode.ERROR))
            raise


def start_client_span(tracer: trace.Tracer, method: Method) -> trace.Span:
    """Begin the span of a call that goes out."""
    return tracer.start_span(method.full_name, kind=trace.SpanKind.CLIENT, attributes=_attributes(method))


def end_call(span: trace.Span, code: grpc.StatusCode, faults: frozenset[grpc.StatusCode]) -> None:
    """Note how the call of a span ended, and mark it red if that is one of the faults."""
    span.set_attribute("rpc.response.status_code", code.name)
    if code in faults:
        span.set_attribute("error.type", code.name)
        span.set_status(trace.Status(trace.StatusCode.ERROR))


def end_client_span(span: trace.Span, code: grpc.StatusCode) -> None:
    """End the span of a call that went out. An expected refusal is no error here either."""
    end_call(span, code, _CODES_OF_OUR_FAULTS | {grpc.StatusCode.RESOURCE_EXHAUSTED})
    span.end()


def context_headers(span: trace.Span) -> dict[str, str]:
    """Return the W3C headers that carry a span's context over a hop."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers, trace.set_span_in_context(span))
    return headers


def current_headers() -> dict[str, str]:
    """Return the W3C headers of the present span, to be stored with what will go on later."""
    return context_headers(trace.get_current_span())


def restored(headers: Mapping[str, str]) -> otel_context.Context:
    """Return the context that stored headers describe, to be the parent of what goes on."""
    return _PROPAGATOR.extract(dict(headers))


def current_trace_id() -> str:
    """Return the present trace's id: 32 hexadecimal digits, all zero where there is none."""
    return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)


def _attributes(method: Method) -> dict[str, str]:
    return {"rpc.system.name": "grpc", "rpc.method": method.full_name}


def _caller_headers(context: Context) -> dict[str, str]:
    """Take the caller's traceparent if it is one. Nothing else of his may travel to spans, rows and logs."""
    pairs = context.invocation_metadata() or ()
    return {
        key: value
        for key, value in pairs
        if key == "traceparent" and isinstance(value, str) and _TRACEPARENT.fullmatch(value)
    }
