"""Calls that go out: with a deadline, with the trace, and with typed errors for whatever comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.message import Message
from libretto.pricing.v1 import pricing_service_pb2 as pb
from libretto.pricing.v1 import pricing_service_pb2_grpc, quote_pb2
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan

from services.common import deadline, values
from services.common.client import MAX_RESPONSE_BYTES, open_channel
from services.common.deadline import DeadlineRules
from services.common.errors import RemoteError
from services.common.layers import Context
from services.common.values import DeadlineTooShortError, DomainError, ErrorKind
from tests.integration.common.host import SERVICE, Gate, Host, hosted, soon

if TYPE_CHECKING:
    from libretto.pricing.v1.pricing_service_pb2_grpc import PricingServiceAsyncStub

RULES = DeadlineRules(margin_ms=100, minimum_ms=20)
REQUEST = pb.GetQuoteRequest(quote_id="q")
HUNDREDTH = 1.01
"""By how much gRPC may round a timeout up on its way."""


class PaintingSoldError(DomainError):
    """A refusal of a service's own."""

    kind, service, reason = ErrorKind.REFUSED, "gallery", "PAINTING_SOLD"


class Look:
    """A handler that notes how much time its caller gave."""

    seen_seconds: float | None = None

    async def __call__(self, _request: Message, context: Context) -> pb.GetQuoteResponse:
        """Note it."""
        self.seen_seconds = context.time_remaining()
        return pb.GetQuoteResponse()


@asynccontextmanager
async def calling(host: Host, target: str = "") -> "AsyncIterator[PricingServiceAsyncStub]":
    """Call a host as one of our services would."""
    async with open_channel(target or host.running.address, host.telemetry, RULES) as channel:
        yield pricing_service_pb2_grpc.PricingServiceStub(channel)


@pytest.mark.parametrize(
    ("present_seconds", "budget_seconds", "arrives_seconds"),
    [(None, None, 0.9), (0.5, None, 0.4), (None, 0.6, 0.5), (0.5, 60.0, 0.4), (60.0, 0.5, 0.4), (8.0, None, 7.9)],
)
async def test_a_call_goes_out_with_the_nearer_deadline_less_the_margin(
    present_seconds: float | None, budget_seconds: float | None, arrives_seconds: float
) -> None:
    """The present call's, the step's budget, or the default of the contract, which is one second."""
    look = Look()
    far_seconds = 86_400.0
    async with hosted(look) as host, calling(host) as stub:
        with deadline.without_callers():
            if present_seconds is None and budget_seconds is None:
                await stub.GetQuote(REQUEST)
            else:
                with deadline.within(present_seconds or far_seconds), deadline.within(budget_seconds or far_seconds):
                    await stub.GetQuote(REQUEST)
    assert look.seen_seconds is not None
    assert arrives_seconds - 0.3 < look.seen_seconds <= arrives_seconds * HUNDREDTH


async def test_a_call_with_too_little_time_never_leaves() -> None:
    """Nothing is sent that nobody would wait for."""
    async with hosted() as host, calling(host) as stub:
        with deadline.within(0.11), pytest.raises(DeadlineTooShortError):
            await stub.GetQuote(REQUEST)
        assert host.handlers.requests == []


async def test_time_shrinks_over_two_hops() -> None:
    """Each handler ends before its caller, each call out before its handler."""
    look = Look()
    async with hosted(look) as last, calling(last) as stub:

        async def forward(_request: Message, _context: Context) -> pb.GetQuoteResponse:
            return await stub.GetQuote(REQUEST)

        async with hosted(forward, margin_ms=100) as first:
            await first.send("GetQuote", b"", timeout_seconds=0.9)
    assert look.seen_seconds is not None
    assert 0.3 < look.seen_seconds <= 0.7 * HUNDREDTH


async def test_a_refusal_comes_back_as_a_typed_error() -> None:
    """With code, service, reason, metadata and wait."""

    async def refuse(_request: Message, _context: Context) -> Message:
        error = PaintingSoldError("Sold.", painting_id="42")
        error.retry_after_seconds = 3.0
        raise error

    async with hosted(refuse) as host, calling(host) as stub:
        with pytest.raises(RemoteError) as caught:
            await stub.GetQuote(REQUEST)
    error = caught.value
    assert (error.code, error.service, error.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "gallery",
        "PAINTING_SOLD",
    )
    assert error.metadata == {"painting_id": "42"}
    assert error.retry_after_seconds == 3.0


async def test_a_service_that_is_not_there_is_unavailable() -> None:
    """At once, without a reason, for no one of ours has answered."""
    async with hosted() as host, calling(host, f"{host.running.address}.nowhere") as stub:
        with pytest.raises(RemoteError) as caught:
            await soon(stub.GetQuote(REQUEST))
    assert (caught.value.code, caught.value.service, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "", "")


async def test_a_service_that_does_not_answer_in_time_is_given_up() -> None:
    """By its own deadline, or else by ours."""
    gate = Gate()
    async with hosted(gate) as host, calling(host) as stub:
        with deadline.within(0.4), pytest.raises(RemoteError) as caught:
            await soon(stub.GetQuote(REQUEST))
        gate.open.set()
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_cancelling_the_caller_ends_the_call_at_the_other_side() -> None:
    """Nobody works on for nobody."""
    gate = Gate()
    async with hosted(gate) as host, calling(host) as stub:
        with deadline.within(60.0):
            call = asyncio.ensure_future(stub.GetQuote(REQUEST))
        await soon(gate.full.wait())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await soon(gate.cancelled.wait())


async def test_a_long_answer_is_taken() -> None:
    """A batch of products may hold more than a request may; beyond the limit nothing is believed."""

    async def answer(_request: Message, _context: Context) -> pb.GetQuoteResponse:
        return pb.GetQuoteResponse(quote=quote_pb2.Quote(quote_id="x" * length))

    async with hosted(answer) as host, calling(host) as stub:
        length = MAX_RESPONSE_BYTES - 100
        assert len((await stub.GetQuote(REQUEST)).quote.quote_id) == length
        length = MAX_RESPONSE_BYTES + 1
        with pytest.raises(RemoteError) as caught:
            await stub.GetQuote(REQUEST)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def only(spans: tuple[ReadableSpan, ...], kind: trace.SpanKind) -> ReadableSpan:
    """Return the one span of a kind."""
    (span,) = [span for span in spans if span.kind is kind]
    return span


async def test_the_trace_goes_with_the_call() -> None:
    """Caller's span, client's span, server's span: each the parent of the next, with the code of what came back."""

    async def refuse(_request: Message, _context: Context) -> Message:
        raise values.OverloadedError("Too much.")

    async with hosted(refuse) as host, calling(host) as stub:
        with host.telemetry.tracer.start_as_current_span("root") as root, pytest.raises(RemoteError):
            await stub.GetQuote(REQUEST)
        spans = host.spans.get_finished_spans()
    client, server = only(spans, trace.SpanKind.CLIENT), only(spans, trace.SpanKind.SERVER)
    assert client.parent is not None
    assert server.parent is not None
    assert client.context is not None
    assert client.parent.span_id == root.get_span_context().span_id
    assert server.parent.span_id == client.context.span_id
    assert client.name == server.name == f"{SERVICE}/GetQuote"
    codes = {(span.attributes or {}).get("rpc.response.status_code") for span in (client, server)}
    assert codes == {"RESOURCE_EXHAUSTED"}
