"""The card processor over HTTP/JSON. What is no clear answer is NoWordError, never a success and never a refusal."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
from opentelemetry import trace

from services.common import tracing
from services.common.tracing import Telemetry
from services.common.values import Money
from services.payment.domain import Authorization, AuthorizationState, DeclineReason, NoWordError

_BODY_LIMIT_BYTES = 64 * 1024
_DECLINE_REASONS = {
    "card_declined": DeclineReason.CARD_DECLINED,
    "insufficient_funds": DeclineReason.INSUFFICIENT_FUNDS,
    "invalid_token": DeclineReason.PAYMENT_METHOD_INVALID,
}


class HttpCardProcessor:
    """Calls the card processor, each call once and in a span of its own."""

    def __init__(self, session: aiohttp.ClientSession, url: str, tracer: trace.Tracer) -> None:
        """Call the processor at a URL; the session has the key and the time limit."""
        self._session, self._url, self._tracer = session, url.rstrip("/"), tracer
        self._attributes: dict[str, str | int] = {
            "server.address": urlsplit(url).hostname or "",
            "server.port": urlsplit(url).port or 0,
        }

    async def find(self, payment_id: UUID) -> Authorization | None:
        """Look an authorisation up; None where the processor never heard of it."""
        return await self._call("GET", payment_id)

    async def authorize(self, payment_id: UUID, amount: Money, token: str) -> Authorization:
        """Have an amount held."""
        body = {"amount_minor": amount.minor, "currency": amount.currency, "token": token}
        return _known(await self._call("PUT", payment_id, body=body))

    async def capture(self, payment_id: UUID) -> Authorization:
        """Take the whole amount that is held."""
        return _known(await self._call("POST", payment_id, "/capture"))

    async def void(self, payment_id: UUID) -> Authorization:
        """Release what is held; an unknown authorisation will never be given."""
        return _known(await self._call("POST", payment_id, "/void"))

    async def _call(
        self, method: str, payment_id: UUID, action: str = "", body: dict[str, object] | None = None
    ) -> Authorization | None:
        path = f"/v1/authorizations/{payment_id}{action}"
        attributes = {**self._attributes, "http.request.method": method, "url.full": self._url + path}
        with self._tracer.start_as_current_span(
            method,
            kind=trace.SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return await self._answer(span, method, path, payment_id, body)
            except NoWordError as error:
                span.set_attribute("error.type", type(error.__cause__ or error).__name__)
                span.set_status(trace.Status(trace.StatusCode.ERROR))
                raise

    async def _answer(
        self, span: trace.Span, method: str, path: str, payment_id: UUID, body: dict[str, object] | None
    ) -> Authorization | None:
        headers = tracing.context_headers(span)
        content = bytearray()
        try:
            async with self._session.request(
                method, self._url + path, json=body, headers=headers, allow_redirects=False
            ) as response:
                span.set_attribute("http.response.status_code", response.status)
                async for chunk in response.content.iter_chunked(_BODY_LIMIT_BYTES):
                    content += chunk
                    if len(content) > _BODY_LIMIT_BYTES:
                        raise NoWordError("the answer is too long")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoWordError(f"no answer: {type(error).__name__}") from error
        return _word(response.status, bytes(content), payment_id)


@asynccontextmanager
async def open_processor(
    url: str, api_key: str, timeout_seconds: float, telemetry: Telemetry
) -> AsyncIterator[HttpCardProcessor]:
    """Keep connections to the card processor open while the block runs; each call may take `timeout_seconds`."""
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {api_key}"},
        timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=[_once],
    ) as session:
        yield HttpCardProcessor(session, url, telemetry.tracer)


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Hide a broken connection from the library: it would send a PUT again by itself, where we have to ask first."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise NoWordError(f"the connection broke: {type(error).__name__}") from error


def _word(status: int, content: bytes, payment_id: UUID) -> Authorization | None:
    """Read an answer: the authorisation as it stands, or None where there is none."""
    try:
        body = json.loads(content)
        if status in {HTTPStatus.OK, HTTPStatus.CREATED}:
            return _authorization(body, payment_id)
        if status in {HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.CONFLICT}:
            return _authorization(body["authorization"], payment_id)
        if status == HTTPStatus.NOT_FOUND and body["error"]["code"] == "not_found":
            return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NoWordError(f"an answer {status} that is not understood") from error
    raise NoWordError(f"an answer {status} that says nothing")


def _authorization(item: dict[str, object], payment_id: UUID) -> Authorization:
    """Read an authorisation. Raises ValueError, KeyError or TypeError for what is none, or contradicts itself."""
    state = AuthorizationState(item["state"])
    currency, amount_minor = item["currency"], item["amount_minor"]
    amount = None
    if isinstance(currency, str) and isinstance(amount_minor, int):
        amount = Money(currency, amount_minor)
    elif state is not AuthorizationState.VOIDED:
        raise ValueError("only what was voided first has no amount")
    captured_minor = amount_minor if state is AuthorizationState.CAPTURED else 0
    if item["id"] != str(payment_id) or item["captured_minor"] != captured_minor:
        raise ValueError("another authorisation, or another amount than the whole")
    if state is not AuthorizationState.DECLINED:
        return Authorization(state, amount)
    # A code that we do not know is a decline all the same.
    return Authorization(state, amount, _DECLINE_REASONS.get(str(item["decline_code"]), DeclineReason.CARD_DECLINED))


def _known(word: Authorization | None) -> Authorization:
    if word is None:
        raise NoWordError("the processor never heard of what it acknowledged before")
    return word
