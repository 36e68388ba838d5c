"""Authorise, capture and void, each as its contract says."""

import datetime as dt

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from libretto.payment.v1.payment_pb2 import DeclineReason, Payment, PaymentState
from libretto.payment.v1.payment_service_pb2 import GetPaymentRequest, ListPaymentsRequest

from tests.integration.payment.till import Till, authorize_request, capture_request, void_request
from tests.rpc import new_uuid, refusal

REFUSED = grpc.StatusCode.FAILED_PRECONDITION


def moment(seconds_from_now: float) -> Timestamp:
    """Return a moment in the past or the future."""
    stamp = Timestamp()
    stamp.FromDatetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds_from_now))
    return stamp


async def test_a_payment_is_authorised_and_captured(till: Till) -> None:
    """The plain way: every field of the payment at each step, and one entry for each in the processor's ledger."""
    request = authorize_request()
    authorized = await till.send(request)
    captured = await till.send(capture_request(authorized))

    expected = Payment(
        payment_id=request.payment_id,
        order_id=request.order_id,
        state=PaymentState.PAYMENT_STATE_AUTHORIZED,
        amount=Money(currency_code="EUR", units=12, nanos=500_000_000),
        create_time=authorized.create_time,
        update_time=authorized.update_time,
    )
    assert authorized == expected
    assert expected.create_time.ToDatetime() < expected.update_time.ToDatetime()
    expected.state = PaymentState.PAYMENT_STATE_CAPTURED
    expected.captured_amount.CopyFrom(expected.amount)
    expected.update_time.CopyFrom(captured.update_time)
    assert captured == expected
    assert await till.payment(captured) == captured
    assert await till.effects(captured) == ["authorized", "captured"]


async def test_an_authorised_payment_is_voided_and_its_hold_released(till: Till) -> None:
    """The answer comes at once, the release behind it; then it can be neither authorised nor captured."""
    payment = await till.authorized()

    voided = await till.send(void_request(payment))

    assert (voided.state, voided.amount) == (PaymentState.PAYMENT_STATE_VOIDED, payment.amount)
    assert not voided.HasField("captured_amount")
    await till.settled(payment)
    assert await till.effects(payment) == ["authorized", "voided"]
    late = authorize_request(payment_id=payment.payment_id, order_id=payment.order_id)
    for request in (late, capture_request(payment)):
        refused = await refusal(till.answer(request))
        assert (refused.code, refused.reason, refused.domain) == (REFUSED, "ALREADY_UNDONE", "common.libretto")
    assert await till.effects(payment) == ["authorized", "voided"]


async def test_what_was_never_authorised_is_voided_for_good(till: Till) -> None:
    """The tombstone has no amount, keeps its order, and the processor never hears of it."""
    late = authorize_request()

    voided = await till.send(void_request(late))

    assert (voided.state, voided.order_id) == (PaymentState.PAYMENT_STATE_VOIDED, late.order_id)
    assert not voided.HasField("amount")
    assert (await refusal(till.answer(late))).reason == "ALREADY_UNDONE"
    assert (await refusal(till.answer(capture_request(late)))).reason == "ALREADY_UNDONE"
    assert await till.effects(late) == []
    again = await till.send(void_request(late))
    assert again == voided


async def test_a_captured_payment_cannot_be_voided(till: Till) -> None:
    """It is captured for good; authorise and capture are answered with it again."""
    request = authorize_request()
    captured = await till.send(capture_request(await till.send(request)))

    refused = await refusal(till.answer(void_request(captured)))

    assert (refused.code, refused.reason, refused.domain) == (REFUSED, "ALREADY_CAPTURED", "payment.libretto")
    assert refused.metadata == {"payment_id": captured.payment_id}
    assert await till.send(capture_request(captured)) == captured
    again = authorize_request(payment_id=request.payment_id, order_id=request.order_id)
    assert await till.send(again) == captured
    assert await till.effects(captured) == ["authorized", "captured"]


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("tok_declined", "CARD_DECLINED"),
        ("tok_insufficient_funds", "INSUFFICIENT_FUNDS"),
        ("tok_nobody_knows", "PAYMENT_METHOD_INVALID"),
    ],
)
async def test_a_decline_has_its_reason_and_is_final(till: Till, token: str, reason: str) -> None:
    """Authorise and capture are refused with it; void has nothing to undo and answers with the payment."""
    request = authorize_request(token)

    refused = await refusal(till.answer(request))

    assert (refused.code, refused.reason, refused.domain) == (REFUSED, reason, "payment.libretto")
    assert refused.metadata == {"payment_id": request.payment_id}
    payment = await till.payment(request)
    assert payment.state == PaymentState.PAYMENT_STATE_DECLINED
    assert DeclineReason.Name(payment.decline_reason) == f"DECLINE_REASON_{reason}"
    other_card = authorize_request(payment_id=request.payment_id, order_id=request.order_id)
    assert (await refusal(till.answer(other_card))).reason == reason
    assert (await refusal(till.answer(capture_request(request)))).reason == reason
    assert await till.send(void_request(request)) == payment
    assert await till.effects(request) == ["declined"]


async def test_a_hold_that_lapsed_is_refused_at_capture(till: Till) -> None:
    """The processor gave the hold up by itself: the payment is declined, and void agrees."""
    payment = await till.authorized()
    till.processor.void(payment.payment_id)

    refused = await refusal(till.answer(capture_request(payment)))

    assert (refused.code, refused.reason) == (REFUSED, "AUTHORIZATION_LAPSED")
    voided = await till.send(void_request(payment))
    assert (voided.state, voided.decline_reason) == (
        PaymentState.PAYMENT_STATE_DECLINED,
        DeclineReason.DECLINE_REASON_AUTHORIZATION_LAPSED,
    )
    again = authorize_request(payment_id=payment.payment_id, order_id=payment.order_id)
    assert (await refusal(till.answer(again))).reason == "AUTHORIZATION_LAPSED"


async def test_an_amount_of_zero_is_paid_without_the_processor(till: Till) -> None:
    """It has all the states, and the ledger has nothing."""
    payment = await till.authorized(minor=0)
    assert payment.amount == Money(currency_code="EUR")
    captured = await till.send(capture_request(payment))

    assert captured.state == PaymentState.PAYMENT_STATE_CAPTURED
    assert captured.captured_amount == Money(currency_code="EUR")
    other = await till.authorized(minor=0)
    assert (await till.send(void_request(other))).state == PaymentState.PAYMENT_STATE_VOIDED
    assert (await till.effects(captured), await till.effects(other)) == ([], [])


async def test_a_payments_id_belongs_to_one_order_and_one_amount(till: Till) -> None:
    """Another order or amount under the same id is refused, and changes nothing."""
    payment = await till.authorized()
    other_amount = authorize_request(minor=1251, payment_id=payment.payment_id, order_id=payment.order_id)
    other_order = authorize_request(payment_id=payment.payment_id)

    for request in (other_amount, other_order, capture_request(other_order), void_request(other_order)):
        refused = await refusal(till.answer(request))
        assert (refused.code, refused.reason) == (REFUSED, "PAYMENT_ID_TAKEN")
    assert await till.payment(payment) == payment
    assert await till.effects(payment) == ["authorized"]


async def test_an_order_has_one_payment(till: Till) -> None:
    """Another payment for it is refused, authorised or voided, and names the one that there is."""
    payment = await till.authorized()
    other = authorize_request(order_id=payment.order_id)

    for request in (other, void_request(other)):
        refused = await refusal(till.answer(request))
        assert (refused.code, refused.reason) == (REFUSED, "ORDER_HAS_PAYMENT")
        assert refused.metadata == {"payment_id": payment.payment_id}
    assert (await refusal(till.answer(capture_request(other)))).reason == "PAYMENT_NOT_FOUND"
    assert await till.effects(other) == []


async def test_an_unknown_payment_is_not_found(till: Till) -> None:
    """By get and by capture."""
    unknown = authorize_request()
    got = await refusal(till.stub.GetPayment(GetPaymentRequest(payment_id=unknown.payment_id)))
    captured = await refusal(till.answer(capture_request(unknown)))

    assert (got.code, got.reason) == (captured.code, captured.reason)
    assert (got.code, got.reason) == (grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND")
    assert got.metadata == {"payment_id": unknown.payment_id}


async def test_what_comes_after_its_valid_until_is_refused(till: Till) -> None:
    """Nothing is begun; what was done in time is answered again, also later."""
    late = authorize_request()
    late.valid_until.CopyFrom(moment(-1))
    refused = await refusal(till.answer(late))
    assert (refused.code, refused.reason) == (REFUSED, "VALID_UNTIL_PASSED")
    assert (await refusal(till.stub.GetPayment(GetPaymentRequest(payment_id=late.payment_id)))).reason == (
        "PAYMENT_NOT_FOUND"
    )

    payment = await till.authorized()
    assert (await refusal(till.answer(capture_request(payment, moment(-1))))).reason == "VALID_UNTIL_PASSED"
    captured = await till.send(capture_request(payment, moment(60)))
    assert await till.send(capture_request(payment, moment(-1))) == captured
    assert await till.effects(payment) == ["authorized", "captured"]
    assert await till.effects(late) == []


async def test_payments_are_listed_in_pages_oldest_first_and_by_order(till: Till) -> None:
    """Pages continue after their tokens; a token belongs to its filter."""
    made = [await till.authorized(minor=0) for _ in range(3)]
    listed: list[Payment] = []
    page_token = ""
    for _ in range(1_000):
        page = await till.stub.ListPayments(ListPaymentsRequest(page_size=2, page_token=page_token))
        assert len(page.payments) <= 2
        listed.extend(page.payments)
        page_token = page.next_page_token
        if not page_token:
            break

    assert listed[-3:] == made
    of_order = await till.stub.ListPayments(ListPaymentsRequest(order_id=made[1].order_id))
    assert (list(of_order.payments), of_order.next_page_token) == ([made[1]], "")
    of_none = await till.stub.ListPayments(ListPaymentsRequest(order_id=new_uuid()))
    assert list(of_none.payments) == []
    first = await till.stub.ListPayments(ListPaymentsRequest(page_size=1))
    refused = await refusal(
        till.stub.ListPayments(ListPaymentsRequest(page_token=first.next_page_token, order_id=made[1].order_id))
    )
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
