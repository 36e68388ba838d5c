"""What a trace shows of a payment, and what neither trace nor log nor answer may show."""

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from tests.integration.payment.till import WAIT_SECONDS, Request, Till, authorize_request, capture_request, void_request

SECRET = "tok_that_nobody_may_see"  # noqa: S105 - what is looked for.
Shape = list[tuple[str, SpanKind, StatusCode, str | None]]


async def spans_of(till: Till, request: Request) -> list[ReadableSpan]:
    """Make a call and return the spans of its trace."""
    method = getattr(till.stub, type(request).__name__.removesuffix("Request"))
    call = method(request, timeout=WAIT_SECONDS)
    await call.code()
    trace_id = dict(await call.trailing_metadata())["trace-id"]
    return [
        span
        for span in till.spans.get_finished_spans()
        if span.context is not None and f"{span.context.trace_id:032x}" == trace_id
    ]


def shape(spans: list[ReadableSpan]) -> Shape:
    """Return names, kinds, status and parents' names."""
    names = {span.context.span_id: span.name for span in spans if span.context is not None}
    return [
        (span.name, span.kind, span.status.status_code, names.get(span.parent.span_id) if span.parent else None)
        for span in spans
    ]


async def test_a_call_to_the_processor_is_a_client_span_below_the_rpc(till: Till) -> None:
    """A refused card is no error in the trace."""
    service = "libretto.payment.v1.PaymentService"
    request = authorize_request()
    for sent, http, rpc in (
        (request, "PUT", f"{service}/AuthorizePayment"),
        (capture_request(request), "POST", f"{service}/CapturePayment"),
        (authorize_request("tok_declined"), "PUT", f"{service}/AuthorizePayment"),
    ):
        assert shape(await spans_of(till, sent)) == [
            (http, SpanKind.CLIENT, StatusCode.UNSET, rpc),
            (rpc, SpanKind.SERVER, StatusCode.UNSET, None),
        ]


@pytest.mark.parametrize("token", [SECRET, "tok_unavailable"])
async def test_a_token_is_in_no_span_no_log_and_no_answer(till: Till, token: str) -> None:
    """Not where all goes well, not where it is refused, and not where the processor fails."""
    request = authorize_request(token)
    with capture_logs() as logs:
        spans = await spans_of(till, request)
        outcome = await till.outcome(request)
        await till.send(void_request(request))

    assert not [span for span in spans if token in span.to_json()]
    assert not [entry for entry in logs if token in str(entry)]
    assert token.encode() not in outcome
    async with till.database.connection() as connection:
        kept = await connection.fetch("SELECT answer, refusal, fingerprint FROM request_keys")
    assert not [row for row in kept if token.encode() in b"".join(filter(None, row.values()))]
