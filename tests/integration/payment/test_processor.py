"""The client of the card processor over real HTTP: what is a word, what is none, and what goes over the wire."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.common import tracing
from services.common.tracing import Telemetry
from services.common.values import Money
from services.payment.domain import Authorization, AuthorizationState, DeclineReason, NoWordError
from services.payment.processor import HttpCardProcessor, open_processor

PAYMENT_ID = UUID("0190d3b0-7c1e-7c3a-9d0f-3b1f6c2a4e55")
AMOUNT = Money("EUR", 1250)
AUTHORIZED: dict[str, object] = {
    "id": str(PAYMENT_ID),
    "state": "authorized",
    "amount_minor": 1250,
    "currency": "EUR",
    "captured_minor": 0,
    "decline_code": None,
}
CAPTURED = AUTHORIZED | {"state": "captured", "captured_minor": 1250}
DECLINED = AUTHORIZED | {"state": "declined"}
TOMBSTONE = AUTHORIZED | {"state": "voided", "amount_minor": None, "currency": None}

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json(body: object, status: int = 200) -> Answer:
    """Answer with a JSON body."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return answer


def text(body: str, status: int = 200, **headers: str) -> Answer:
    """Answer with a text."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=body, status=status, headers=headers)

    return answer


async def drop(request: web.Request) -> web.StreamResponse:
    """Close the connection instead of an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hang(_request: web.Request) -> web.StreamResponse:
    """Answer never."""
    await asyncio.Event().wait()
    return web.Response()


@dataclass
class Counter:
    """A processor that answers as it is told, and notes what it was asked."""

    answer: Answer = field(default=drop)
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Note and answer."""
        self.requests.append((request.method, request.path, dict(request.headers), await request.read()))
        return await self.answer(request)


@dataclass
class Line:
    """The client, the counter at its other end, and the client's spans."""

    client: HttpCardProcessor
    counter: Counter
    spans: InMemorySpanExporter
    tracer: trace.Tracer


@pytest_asyncio.fixture(loop_scope="session")
async def line() -> AsyncIterator[Line]:
    """A client connected to a counter, with a time limit of 200 ms a call."""
    counter, spans, provider = Counter(), InMemorySpanExporter(), tracing.new_provider("payment")
    provider.add_span_processor(SimpleSpanProcessor(spans))
    telemetry = Telemetry(provider)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", counter.handle)
    async with TestServer(application, shutdown_timeout=0) as server:
        url = str(server.make_url("/"))
        async with open_processor(url, "the-key", 0.2, telemetry) as client:
            yield Line(client, counter, spans, telemetry.tracer)


async def test_an_authorisation_goes_out_once_with_our_id_the_key_and_the_trace(line: Line) -> None:
    """The request is what the processor's interface wants; the span is the parent of what it does there."""
    line.counter.answer = json(AUTHORIZED, 201)
    with line.tracer.start_as_current_span("the caller") as caller:
        word = await line.client.authorize(PAYMENT_ID, AMOUNT, "tok_secret")

    assert word == Authorization(AuthorizationState.AUTHORIZED, AMOUNT)
    ((method, path, headers, body),) = line.counter.requests
    assert (method, path) == ("PUT", f"/v1/authorizations/{PAYMENT_ID}")
    assert body == b'{"amount_minor": 1250, "currency": "EUR", "token": "tok_secret"}'
    assert headers["Authorization"] == "Bearer the-key"
    span, _ = line.spans.get_finished_spans()
    assert span.parent == caller.get_span_context()
    assert span.context is not None
    assert headers["traceparent"].startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-")
    assert (span.name, span.kind, span.status.status_code) == ("PUT", trace.SpanKind.CLIENT, trace.StatusCode.UNSET)
    attributes = dict(span.attributes or {})
    assert attributes.pop("server.port")
    assert attributes.pop("url.full").endswith(path)  # type: ignore[union-attr]
    assert attributes == {
        "http.request.method": "PUT",
        "http.response.status_code": 201,
        "server.address": "127.0.0.1",
    }
    assert "tok_secret" not in span.to_json()


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (json(CAPTURED), Authorization(AuthorizationState.CAPTURED, AMOUNT)),
        (json(TOMBSTONE), Authorization(AuthorizationState.VOIDED, None)),
        (
            json({"error": {"code": "voided"}, "authorization": TOMBSTONE}, 409),
            Authorization(AuthorizationState.VOIDED, None),
        ),
        (
            json({"error": {}, "authorization": DECLINED | {"decline_code": "invalid_token"}}, 402),
            Authorization(AuthorizationState.DECLINED, AMOUNT, DeclineReason.PAYMENT_METHOD_INVALID),
        ),
        (
            json({"error": {}, "authorization": DECLINED | {"decline_code": "stolen"}}, 402),
            Authorization(AuthorizationState.DECLINED, AMOUNT, DeclineReason.CARD_DECLINED),
        ),
    ],
)
async def test_an_answer_is_read_for_how_the_authorisation_stands(
    line: Line, answer: Answer, word: Authorization
) -> None:
    """Also where it is no success: a refusal carries the authorisation. A decline with a new code is a decline."""
    line.counter.answer = answer

    assert await line.client.capture(PAYMENT_ID) == word
    assert line.spans.get_finished_spans()[0].status.status_code is trace.StatusCode.UNSET


async def test_the_processor_may_never_have_heard_of_an_authorisation(line: Line) -> None:
    """Only its own 404 says so; and to what it acknowledged before, it says nothing."""
    line.counter.answer = json({"error": {"code": "not_found"}}, 404)

    assert await line.client.find(PAYMENT_ID) is None
    for act in (line.client.capture, line.client.void):
        with pytest.raises(NoWordError):
            await act(PAYMENT_ID)


@pytest.mark.parametrize(
    "answer",
    [
        drop,
        hang,
        json(AUTHORIZED, 202),
        json(AUTHORIZED, 500),
        json({"error": {"code": "unavailable"}}, 503),
        json({"error": {"code": "unauthorized"}}, 401),
        json({"error": {"code": "invalid_field"}}, 400),
        json({"error": {"code": "id_reused"}}, 409),
        json({"error": {}, "authorization": AUTHORIZED}, 404),
        text("", 302, Location="/elsewhere"),
        text("<h1>Not Found</h1>", 404),
        text("{", 200),
        text("[" * 20_000, 200),
        text("", 200),
        json([], 200),
        json(None, 200),
        json({}, 200),
        json({"padding": "x" * 100_000} | AUTHORIZED),
        json(AUTHORIZED | {"id": "another"}),
        json(AUTHORIZED | {"state": "pending"}),
        json(AUTHORIZED | {"state": []}),
        json(AUTHORIZED | {"currency": "XXX"}),
        json(AUTHORIZED | {"amount_minor": None}),
        json(AUTHORIZED | {"amount_minor": "1250"}),
        json(AUTHORIZED | {"captured_minor": 1250}),
        json(CAPTURED | {"captured_minor": 1249}),
    ],
)
async def test_what_is_not_understood_is_no_word_and_is_not_asked_twice(line: Line, answer: Answer) -> None:
    """Neither success nor refusal. The library's own repeats would hide that a call went out twice."""
    line.counter.answer = json(AUTHORIZED)
    await line.client.find(PAYMENT_ID)  # So that there is a connection to be used again: those are repeated on.
    line.counter.answer = answer
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: line.client.find(PAYMENT_ID),
        lambda: line.client.authorize(PAYMENT_ID, AMOUNT, "tok_secret"),
        lambda: line.client.capture(PAYMENT_ID),
        lambda: line.client.void(PAYMENT_ID),
    ]

    for number, call in enumerate(calls, start=1):
        with pytest.raises(NoWordError) as caught:
            await call()
        assert "tok_secret" not in str(caught.value)
        assert len(line.counter.requests) == 1 + number

    _, *spans = line.spans.get_finished_spans()
    assert [span.name for span in spans] == ["GET", "PUT", "POST", "POST"]
    for span in spans:
        assert span.status.status_code is trace.StatusCode.ERROR
        assert (span.attributes or {})["error.type"]
        assert (span.events, span.status.description) == ((), None)


async def test_a_processor_that_is_not_there_is_no_word() -> None:
    """Refused connections are like any other silence."""
    telemetry = Telemetry(tracing.new_provider("payment"))
    async with open_processor("http://127.0.0.1:1", "the-key", 0.2, telemetry) as client:
        with pytest.raises(NoWordError):
            await client.find(PAYMENT_ID)
