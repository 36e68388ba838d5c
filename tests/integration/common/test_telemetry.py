"""Where spans go: to a collector where one is named, to a file where a setting says so, never in the way."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace.export import SpanExportResult

from services.common import tracing
from services.common.tracing import SpanFile


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """A back-end that keeps what it is sent."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.received: list[tuple[str, str]] = []

    async def Export(  # noqa: N802 - the RPC's name
        self,
        request: trace_service_pb2.ExportTraceServiceRequest,
        context: object,  # noqa: ARG002 - the library passes it
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Keep the service and the name of each span."""
        for resource in request.resource_spans:
            attributes = {item.key: item.value.string_value for item in resource.resource.attributes}
            spans = [span for scope in resource.scope_spans for span in scope.spans]
            self.received += [(attributes["service.name"], span.name) for span in spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest_asyncio.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """Run a collector, and name it in the environment."""
    collector, server = Collector(), grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    yield collector
    await server.stop(None)


async def test_spans_go_to_the_collector_that_the_environment_names(collector: Collector) -> None:
    """By OTLP, with the service's name, at the latest when the process stops."""
    telemetry = tracing.from_environment("catalog", None)
    with telemetry.tracer.start_as_current_span("a call"):
        pass

    await asyncio.to_thread(telemetry.shut_down)

    assert collector.received == [("catalog", "a call")]


async def test_a_dead_collector_holds_up_a_stop_for_two_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its spans are lost, and nothing else."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    telemetry = tracing.from_environment("catalog", None)
    with telemetry.tracer.start_as_current_span("a call"):
        pass

    began = time.monotonic()
    await asyncio.to_thread(telemetry.shut_down)

    assert time.monotonic() - began < 3


async def test_spans_go_to_the_file_that_a_setting_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One JSON object a line."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    path = tmp_path / "spans.jsonl"
    telemetry = tracing.from_environment("catalog", path)
    for name in ("one", "two"):
        with telemetry.tracer.start_as_current_span(name):
            pass

    await asyncio.to_thread(telemetry.shut_down)

    assert [json.loads(line)["name"] for line in path.read_text().splitlines()] == ["one", "two"]


def test_a_full_file_of_spans_is_put_aside_and_a_new_one_begins(tmp_path: Path) -> None:
    """So at most two of them are kept."""
    path = tmp_path / "spans.jsonl"
    provider = tracing.new_provider("catalog")
    spans = [provider.get_tracer("test").start_span(str(number)) for number in range(3)]
    file = SpanFile(path, limit_bytes=1)

    for span in spans:
        span.end()
        assert file.export([span]) is SpanExportResult.SUCCESS  # type: ignore[list-item]  # an SDK span is readable

    assert json.loads(path.read_text())["name"] == "2"
    assert json.loads(path.with_name("spans.jsonl.1").read_text())["name"] == "1"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_cannot_be_written_costs_its_spans_and_nothing_else(tmp_path: Path) -> None:
    """The exporter says so and raises nothing."""
    assert SpanFile(tmp_path / "no folder" / "spans.jsonl").export([]) is SpanExportResult.FAILURE
