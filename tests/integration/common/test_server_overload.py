"""A server with as many open calls as it takes: one more is refused with all that a caller needs, health is not."""

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.common.host import SERVICE, Gate, hosted, soon
from tests.rpc import refusal


async def test_a_call_too_many_is_refused_with_a_reason_a_wait_and_its_trace() -> None:
    """Before its handler; once a call has ended, another one is taken."""
    gate = Gate(expected=2)
    async with hosted(gate, open_calls_limit=2) as host:
        open_calls = asyncio.gather(*(host.send("GetQuote", b"") for _ in range(2)))
        await soon(gate.full.wait())
        found = await refusal(host.send("GetQuote", b""))
        assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert found.retry_after_seconds == 1.0
        assert found.trace_id
        assert len(host.handlers.requests) == 2
        assert (host.running.stats.open_calls, host.running.stats.peak_open_calls) == (2, 2)
        gate.open.set()
        await open_calls
        assert await host.send("GetQuote", b"") == b""


async def test_a_server_with_too_many_calls_is_still_healthy() -> None:
    """Whoever is told otherwise restarts it, which helps nobody; such questions are no calls that count."""
    gate = Gate(expected=1)
    async with hosted(gate, open_calls_limit=1) as host:
        open_call = asyncio.ensure_future(host.send("GetQuote", b""))
        await soon(gate.full.wait())
        stub = health_pb2_grpc.HealthStub(host.channel)
        # The stub has this method, but its types do not know it.
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=10)  # type: ignore[attr-defined]
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert host.running.stats.peak_open_calls == 1
        gate.open.set()
        await open_call
