"""A request_id gets one verdict, byte for byte, however often and by however many it is sent."""

import asyncio
import copy
from collections.abc import Awaitable, Callable

import grpc
import pytest
from libretto.payment.v1.payment_service_pb2 import VoidPaymentRequest, VoidPaymentResponse

from tests.integration.payment.till import (
    SHORT_SECONDS,
    Request,
    Till,
    authorize_request,
    capture_request,
    void_request,
)
from tests.rpc import new_uuid, refusal

Make = Callable[[Till], Awaitable[Request]]


async def an_authorisation(_till: Till) -> Request:
    """Return a request to authorise a new payment."""
    return authorize_request()


async def a_decline(_till: Till) -> Request:
    """Return a request that the card's issuer declines."""
    return authorize_request("tok_declined")


async def a_capture(till: Till) -> Request:
    """Return a request to capture an authorised payment."""
    return capture_request(await till.authorized())


async def a_void(till: Till) -> Request:
    """Return a request to void an authorised payment."""
    return void_request(await till.authorized())


async def a_void_too_late(till: Till) -> Request:
    """Return a request to void a captured payment."""
    return void_request(await till.send(capture_request(await till.authorized())))


async def a_capture_of_nothing(_till: Till) -> Request:
    """Return a request to capture a payment that is not there."""
    return capture_request(authorize_request())


ALL = [an_authorisation, a_decline, a_capture, a_void, a_void_too_late, a_capture_of_nothing]


@pytest.mark.parametrize("make", ALL)
async def test_a_request_sent_again_has_the_same_bytes_also_after_the_payment_moved_on(till: Till, make: Make) -> None:
    """Success and refusal are replayed; the payment's later states are not in them."""
    request = await make(till)
    first = await till.outcome(request)

    assert await till.outcome(request) == first
    for later in (void_request(request), capture_request(request), void_request(request)):
        await till.outcome(later)
    assert await till.outcome(request) == first


@pytest.mark.parametrize("make", ALL)
async def test_a_key_with_another_request_is_refused_and_changes_nothing(till: Till, make: Make) -> None:
    """Whatever the first verdict was, another payment under the key is neither made nor changed."""
    request = await make(till)
    first = await till.outcome(request)
    rows = await till.count("payments")
    other = copy.deepcopy(request)
    other.payment_id = new_uuid()

    refused = await refusal(till.answer(other))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_ID_REUSED")
    assert await till.count("payments") == rows
    assert await till.effects(other) == []
    assert await till.outcome(request) == first


async def test_another_token_under_a_used_key_is_refused(till: Till) -> None:
    """The token is a part of the request, though it is not kept."""
    request = authorize_request()
    await till.send(request)
    request.payment_method_token = "tok_declined"  # noqa: S105 - a test token.

    assert (await refusal(till.answer(request))).reason == "REQUEST_ID_REUSED"


async def test_keys_belong_to_their_method(till: Till) -> None:
    """One text may be the key of an authorisation, a capture and a void."""
    request = authorize_request()
    payment = await till.send(request)
    capture, void = capture_request(payment), void_request(payment)
    capture.request_id = void.request_id = request.request_id

    assert (await till.send(capture)).captured_amount == payment.amount
    assert (await refusal(till.answer(void))).reason == "ALREADY_CAPTURED"


@pytest.mark.parametrize("make", [an_authorisation, a_decline, a_capture, a_void])
async def test_when_keys_have_expired_the_payment_answers_for_itself(till: Till, make: Make) -> None:
    """Without the stored verdict the same request finds its goal reached, and acts no more."""
    request = await make(till)
    first = await till.outcome(request)
    await till.settled(request)
    effects = await till.effects(request)
    await till.execute("DELETE FROM request_keys WHERE request_id = $1", request.request_id)

    again = await till.outcome(request)

    if isinstance(request, VoidPaymentRequest):  # The hold's release, behind the first answer, was a change of its own.
        assert VoidPaymentResponse.FromString(again).payment == await till.payment(request)
    else:
        assert again == first
    assert await till.effects(request) == effects


@pytest.mark.parametrize("make", [an_authorisation, a_decline, a_capture, a_void])
async def test_fifty_callers_with_one_key_have_one_answer_and_one_effect(till: Till, make: Make) -> None:
    """They share one flight to the processor, and all get the stored verdict."""
    request = await make(till)
    before = await till.effects(request)

    answers = await asyncio.gather(*(till.outcome(request) for _ in range(50)))

    assert set(answers) == {answers[0]}
    await till.settled(request)
    assert len(await till.effects(request)) == len(before) + 1


async def test_callers_with_keys_of_their_own_share_the_outcome(till: Till) -> None:
    """Equal requests under different keys wait for the one that began, and get the same payment."""
    first = authorize_request("tok_slow")
    others = [authorize_request("tok_slow", payment_id=first.payment_id, order_id=first.order_id) for _ in range(9)]

    payments = await asyncio.gather(*map(till.send, [first, *others]))

    assert payments == [payments[0]] * 10
    assert await till.effects(first) == ["authorized"]


async def test_what_is_pending_is_no_verdict(till: Till) -> None:
    """A capture that came too early may be sent again with its key, and then captures."""
    request = authorize_request("tok_slow")
    authorizing = asyncio.create_task(till.send(request))
    await till.begun(request)
    capture = capture_request(request)

    refused = await refusal(till.answer(capture, SHORT_SECONDS))

    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "OUTCOME_PENDING")
    await authorizing
    assert (await till.send(capture)).HasField("captured_amount")
