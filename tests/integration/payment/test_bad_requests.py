"""Requests that are wrong are refused by field and reason, all fields together, before any work."""

import base64
import json

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from libretto.payment.v1 import payment_service_pb2 as pb

from tests.integration.payment.till import Till, authorize_request, void_request
from tests.rpc import new_uuid, refusal


def with_amount(currency: str = "EUR", units: int = 1, nanos: int = 0) -> pb.AuthorizePaymentRequest:
    """Make a request for an amount."""
    request = authorize_request()
    request.amount.CopyFrom(Money(currency_code=currency, units=units, nanos=nanos))
    return request


IDS = (("request_id", "FIELD_REQUIRED"), ("payment_id", "FIELD_REQUIRED"), ("order_id", "FIELD_REQUIRED"))

CASES: dict[str, tuple[Message, tuple[tuple[str, str], ...]]] = {
    "an empty authorisation": (
        pb.AuthorizePaymentRequest(),
        (*IDS, ("amount", "FIELD_REQUIRED"), ("payment_method_token", "FIELD_REQUIRED")),
    ),
    "an empty capture": (pb.CapturePaymentRequest(), IDS),
    "an empty void": (pb.VoidPaymentRequest(), IDS),
    "no payment": (pb.GetPaymentRequest(), (("payment_id", "FIELD_REQUIRED"),)),
    "an id that is no uuid": (authorize_request(payment_id="payment-1"), (("payment_id", "FIELD_INVALID"),)),
    "an order that is no uuid": (void_request(authorize_request(order_id="order-1")), (("order_id", "FIELD_INVALID"),)),
    "a key with a blank": (authorize_request(request_id="a key"), (("request_id", "FIELD_INVALID"),)),
    "a key that is too long": (authorize_request(request_id="k" * 65), (("request_id", "FIELD_INVALID"),)),
    "a card number": (authorize_request("4111111111111111"), (("payment_method_token", "FIELD_INVALID"),)),
    "a card number in groups": (
        authorize_request("4111-1111-1111-1111"),
        (("payment_method_token", "FIELD_INVALID"),),
    ),
    "a token with a blank": (authorize_request("tok succeeds"), (("payment_method_token", "FIELD_INVALID"),)),
    "a token that is too long": (authorize_request("t" * 201), (("payment_method_token", "FIELD_INVALID"),)),
    "an unknown currency": (with_amount("EUX"), (("amount.currency_code", "CURRENCY_UNKNOWN"),)),
    "no currency": (with_amount(""), (("amount.currency_code", "FIELD_REQUIRED"),)),
    "a negative amount": (with_amount(units=-1), (("amount", "FIELD_OUT_OF_RANGE"),)),
    "half a cent": (with_amount(nanos=5_000_000), (("amount.nanos", "FIELD_INVALID"),)),
    "half a yen": (with_amount("JPY", nanos=500_000_000), (("amount.nanos", "FIELD_INVALID"),)),
    "a huge amount": (with_amount(units=10_000_000_000), (("amount", "FIELD_OUT_OF_RANGE"),)),
    "a moment that is none": (
        pb.CapturePaymentRequest(
            request_id="key", payment_id=new_uuid(), order_id=new_uuid(), valid_until=Timestamp(seconds=2**62)
        ),
        (("valid_until", "FIELD_OUT_OF_RANGE"),),
    ),
    "a filter that is no uuid": (pb.ListPaymentsRequest(order_id="order-1"), (("order_id", "FIELD_INVALID"),)),
    "a negative page": (pb.ListPaymentsRequest(page_size=-1), (("page_size", "FIELD_OUT_OF_RANGE"),)),
    "a page token of nowhere": (
        pb.ListPaymentsRequest(page_token="next"),  # noqa: S106 - no secret.
        (("page_token", "PAGE_TOKEN_INVALID"),),
    ),
}


@pytest.mark.parametrize(("request_message", "fields"), CASES.values(), ids=CASES.keys())
async def test_a_wrong_request_is_refused_by_its_fields_and_nothing_is_written(
    till: Till, request_message: Message, fields: tuple[tuple[str, str], ...]
) -> None:
    """Code, path and reason of every field that is wrong; no payment and no key is kept."""
    before = await till.count("payments"), await till.count("request_keys")
    method = getattr(till.stub, type(request_message).__name__.removesuffix("Request"))

    refused = await refusal(method(request_message))

    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, fields)
    assert refused.reason == fields[0][1]
    assert (await till.count("payments"), await till.count("request_keys")) == before


@pytest.mark.parametrize("number", ["-1", "1e3", "x", "", "9" * 19, "\u0661"])
async def test_a_forged_page_token_is_refused(till: Till, number: str) -> None:
    """A token of the right form whose number is none."""
    for _ in range(2):
        await till.authorized(minor=0)
    token = (await till.stub.ListPayments(pb.ListPaymentsRequest(page_size=1))).next_page_token
    digest, _ = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps([digest, number]).encode()).decode().rstrip("=")

    refused = await refusal(till.stub.ListPayments(pb.ListPaymentsRequest(page_size=1, page_token=forged)))

    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")


async def test_a_refused_token_is_not_repeated_in_the_answer(till: Till) -> None:
    """What may be a card number by mistake goes nowhere."""
    refused = await refusal(till.answer(authorize_request("4111111111111111")))

    assert b"4111" not in refused.status


async def test_a_call_with_too_little_time_books_nothing(till: Till) -> None:
    """It is refused before work."""
    request = authorize_request()

    refused = await till.stub.AuthorizePayment(request, timeout=0.001).code()

    assert refused is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await till.effects(request) == []
    late = await refusal(till.stub.GetPayment(pb.GetPaymentRequest(payment_id=request.payment_id)))
    assert late.reason == "PAYMENT_NOT_FOUND"
