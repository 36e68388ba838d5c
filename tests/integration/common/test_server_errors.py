"""What a caller sees when a call fails: code, reason and trace, and nothing that was not meant for it."""

import asyncio
from collections.abc import Awaitable

import grpc
import pytest
from google.protobuf.message import Message
from libretto.pricing.v1 import pricing_service_pb2 as pb
from structlog.testing import capture_logs

from services.common import errors, values
from services.common.fields import Fields
from services.common.layers import Context
from services.common.values import DomainError, ErrorKind
from tests.integration.common.host import Answer, Gate, Host, hosted, soon
from tests.rpc import refusal

SECRET = "Ada Lovelace, 4111111111111111"  # noqa: S105 - what tests look for where it must not be.
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


class PaintingSoldError(DomainError):
    """A refusal of a service's own."""

    kind, service, reason = ErrorKind.REFUSED, "gallery", "PAINTING_SOLD"


def failing(error: BaseException) -> Answer:
    """Make a handler that fails."""

    async def fail(_request: Message, _context: Context) -> Message:
        raise error

    return fail


def get_quote(host: Host, metadata: tuple[tuple[str, str | bytes], ...] = ()) -> "Awaitable[pb.GetQuoteResponse]":
    """Call the handler."""
    return host.stub.GetQuote(pb.GetQuoteRequest(), timeout=10, metadata=metadata)


async def test_a_domain_error_arrives_with_code_reason_and_metadata() -> None:
    """As the contract says; the domain is the service's."""
    async with hosted(failing(PaintingSoldError("Sold.", painting_id="42"))) as host:
        found = await refusal(get_quote(host))
    assert (found.code, found.reason, found.domain) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PAINTING_SOLD",
        "gallery.libretto",
    )
    assert found.metadata == {"painting_id": "42"}
    assert found.fields == ()
    assert found.retry_after_seconds is None


async def test_wrong_fields_arrive_by_path_and_reason() -> None:
    """All of them."""

    async def parse(_request: Message, _context: Context) -> Message:
        with Fields() as fields:
            fields.uuid("quote_id", "")
            fields.sku("lines[0].sku", "lamp")
        return pb.GetQuoteResponse()

    async with hosted(parse) as host:
        found = await refusal(get_quote(host))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_REQUIRED")
    assert found.fields == (("quote_id", "FIELD_REQUIRED"), ("lines[0].sku", "FIELD_INVALID"))


async def test_a_wait_arrives_with_what_may_pass() -> None:
    """In seconds."""
    async with hosted(failing(values.OutcomePendingError("Later."))) as host:
        found = await refusal(get_quote(host))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "OUTCOME_PENDING")
    assert found.retry_after_seconds == 0.2


@pytest.mark.parametrize(
    "error", [ValueError(SECRET), KeyError(SECRET), grpc.aio.UsageError(SECRET), TimeoutError(SECRET)]
)
async def test_what_no_one_expected_arrives_as_an_incident_and_no_more(error: Exception) -> None:
    """Nothing of the exception is in the answer; the id in it finds the line in the log, which has the trace."""
    async with hosted(failing(error)) as host:
        with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as caught:
            await get_quote(host)
        found = await refusal(get_quote(host))
    assert SECRET not in f"{caught.value!r} {caught.value.debug_error_string()}"
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    (line,) = logs
    assert line["incident_id"] in (caught.value.details() or "")
    assert line["error_type"] == type(error).__qualname__
    assert SECRET not in str(line)
    assert (found.reason, found.domain) == ("INTERNAL", "common.libretto")
    assert found.metadata["incident_id"] != line["incident_id"]


async def test_a_refusal_is_sent_byte_for_byte_as_it_stands() -> None:
    """As a stored one has to be."""
    status = errors.to_status(PaintingSoldError("Sold, in the words of an older release."))
    async with hosted(failing(errors.StatusError(status))) as host:
        found = await refusal(get_quote(host))
    assert found.status == status.SerializeToString()


async def test_a_sentence_in_any_script_arrives() -> None:
    """Also line breaks and percent signs, which HTTP/2 has to encode."""
    sentence = "Schön verkauft, 売り切れ, 100 %\nsold 🪔"
    async with hosted(failing(PaintingSoldError(sentence))) as host:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get_quote(host)
    assert caught.value.details() == sentence


async def test_a_stray_cancellation_is_answered() -> None:
    """A handler that raises CancelledError would leave its caller waiting; it is an incident instead."""
    async with hosted(failing(asyncio.CancelledError())) as host:
        with capture_logs():
            found = await refusal(soon(get_quote(host)))
    assert (found.code, found.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")


async def test_a_caller_that_goes_away_ends_the_handler() -> None:
    """Nothing is logged for it, and the call is no longer counted as open."""
    gate = Gate()
    async with hosted(gate) as host:
        with capture_logs() as logs:
            call = host.stub.GetQuote(pb.GetQuoteRequest(), timeout=60)
            await soon(gate.full.wait())
            assert host.running.stats.open_calls == 1
            call.cancel()
            await soon(gate.cancelled.wait())
            with pytest.raises(asyncio.CancelledError):
                await call
        gate.open.set()
        await get_quote(host)
        assert host.running.stats.open_calls == 0
        assert logs == []


async def test_every_answer_has_its_trace_s_id() -> None:
    """Good ones, refused ones, malformed ones, and those that came too late."""
    async with hosted(minimum_ms=5_000) as host:
        good = host.stub.GetQuote(pb.GetQuoteRequest(), timeout=10)
        await good
        trailing = dict(await good.trailing_metadata())
        host.handlers.answer = failing(PaintingSoldError("Sold."))
        refused = await refusal(get_quote(host))
        malformed = await refusal(host.send("GetQuote", b"\xff"))
        late = await refusal(host.send("GetQuote", b"", timeout_seconds=4.0))
        traces = [str(trailing["trace-id"]), refused.trace_id, malformed.trace_id, late.trace_id]
        made = {f"{span.context.trace_id:032x}" for span in host.spans.get_finished_spans() if span.context}
    assert late.reason == "DEADLINE_TOO_SHORT"
    assert len(set(traces)) == 4
    assert set(traces) == made


async def test_a_caller_s_trace_goes_on() -> None:
    """Its id is the answer's."""
    async with hosted(failing(PaintingSoldError("Sold."))) as host:
        found = await refusal(get_quote(host, (("traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-01"),)))
    assert found.trace_id == TRACE_ID


@pytest.mark.parametrize(
    "metadata",
    [
        (("traceparent", "garbage"),),
        (("traceparent", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"),),
        (("traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-01"), ("traceparent", "again")),
        (("tracestate", "=" * 600),),
        (("trace-id-bin", b"\xff\x00\xfe"),),
        (("traceparent-bin", b"\xff"),),
    ],
    ids=str,
)
async def test_strange_metadata_does_no_harm(metadata: tuple[tuple[str, str | bytes], ...]) -> None:
    """A trace that cannot be read is a new one."""
    async with hosted() as host:
        assert await soon(get_quote(host, metadata)) == pb.GetQuoteResponse()


async def test_an_unknown_method_is_unimplemented() -> None:
    """The library's own answer."""
    async with hosted() as host:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await host.send("DeleteQuote", b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
