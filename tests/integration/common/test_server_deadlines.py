"""Deadlines over real calls: what a handler sees, what the caller learns, and what is refused before it begins."""

from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from libretto.pricing.v1 import pricing_service_pb2 as pb

from services.common import deadline
from services.common.layers import Context
from tests.integration.common.host import Gate, hosted, soon
from tests.rpc import refusal

FAR_SECONDS = 30 * 86_400.0


class Look:
    """A handler that notes how much time it has."""

    seen_seconds = 0.0

    async def __call__(self, _request: Message, _context: Context) -> pb.GetQuoteResponse:
        """Note it."""
        self.seen_seconds = deadline.remaining_seconds() or 0.0
        return pb.GetQuoteResponse()


@pytest.mark.parametrize("timeout_seconds", [0.8, 1.5, 15.0, 150.0, 1_500.0, 80_000.0])
async def test_a_handler_has_its_caller_s_time_less_the_margin(timeout_seconds: float) -> None:
    """So that its answer arrives, however far gRPC rounds the time up on its way."""
    look = Look()
    async with hosted(look) as host:
        await host.send("GetQuote", b"", timeout_seconds=timeout_seconds)
    assert 0.5 * timeout_seconds < look.seen_seconds <= timeout_seconds - 0.01


async def test_a_missing_deadline_is_the_method_s_default() -> None:
    """GetQuote has one second by its contract, CreateQuote three; one in a month is as good as none."""
    look = Look()
    async with hosted(look) as host:
        await host.send("GetQuote", b"", timeout_seconds=None)
        assert 0.5 < look.seen_seconds <= 0.99
        await host.send("CreateQuote", b"", timeout_seconds=None)
        assert 2.0 < look.seen_seconds <= 2.99
        await host.send("CreateQuote", b"", timeout_seconds=FAR_SECONDS)
        assert 2.0 < look.seen_seconds <= 2.99


async def test_a_slow_handler_is_ended_before_its_caller_gives_up() -> None:
    """The caller reads our reason, not its own timer's silence; the handler is cancelled."""
    gate = Gate()
    async with hosted(gate, margin_ms=9_700) as host:
        found = await refusal(host.send("GetQuote", b"", timeout_seconds=10.0))
        assert gate.cancelled.is_set()
        assert host.running.stats.refused_for_deadline == 0
    assert (found.code, found.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_a_slow_handler_without_a_deadline_is_ended_by_the_default() -> None:
    """No call lasts for ever."""
    gate = Gate()
    async with hosted(gate, margin_ms=900) as host:
        found = await refusal(soon(host.send("GetQuote", b"", timeout_seconds=None)))
    assert (found.code, found.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_too_little_time_is_refused_before_the_handler_and_counted() -> None:
    """With more time the same call is answered."""
    async with hosted(minimum_ms=5_000) as host:
        for _ in range(2):
            found = await refusal(host.send("GetQuote", b"", timeout_seconds=4.0))
            assert (found.code, found.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT")
        assert host.handlers.requests == []
        assert host.running.stats.refused_for_deadline == 2
        await host.send("GetQuote", b"", timeout_seconds=60.0)
        assert len(host.handlers.requests) == 1
        assert host.running.stats.refused_for_deadline == 2


async def test_too_little_time_is_refused_even_for_bytes_that_are_no_request() -> None:
    """The time comes first: it costs the least to look at."""
    async with hosted(minimum_ms=5_000) as host:
        found = await refusal(host.send("GetQuote", b"\xff", timeout_seconds=4.0))
    assert found.reason == "DEADLINE_TOO_SHORT"


async def test_a_millisecond_is_too_late_for_the_caller_and_for_the_handler() -> None:
    """Whoever notices first: the caller sees DEADLINE_EXCEEDED, and nothing began."""
    async with hosted() as host:
        for _ in range(20):
            try:
                await host.send("GetQuote", b"", timeout_seconds=0.001)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017 - either side may raise it.
        await host.send("GetQuote", b"")
        assert len(host.handlers.requests) == 1


async def test_a_health_check_needs_no_deadline() -> None:
    """Its contract is not ours and states none."""
    async with hosted() as host:
        health: Any = health_pb2_grpc.HealthStub(host.channel)  # The stubs know no aio.
        response = await soon(health.Check(health_pb2.HealthCheckRequest()))
    assert response.status == health_pb2.HealthCheckResponse.SERVING
