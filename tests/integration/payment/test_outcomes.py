"""Calls to the processor whose outcome is late, lost or not to be had: no verdict is made up, and none gets lost."""

import asyncio
import time

import grpc
import pytest

from tests.integration.payment.till import (
    SHORT_SECONDS,
    WAIT_SECONDS,
    Request,
    Till,
    authorize_request,
    capture_request,
    void_request,
)
from tests.rpc import Refusal, refusal


async def pending(till: Till, request: Request, seconds: float = SHORT_SECONDS) -> Refusal:
    """Make a call whose outcome is not known in time, and return the refusal that says so."""
    refused = await refusal(till.answer(request, seconds))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "OUTCOME_PENDING")
    assert refused.retry_after_seconds is not None
    assert 0 < refused.retry_after_seconds <= 1
    return refused


async def test_a_slow_authorisation_is_pending_at_the_deadline_and_known_later(till: Till) -> None:
    """The caller hears before its deadline; the call to the processor goes on, once."""
    request = authorize_request("tok_slow")
    started = time.monotonic()
    await pending(till, request)
    assert time.monotonic() - started < 2 * SHORT_SECONDS
    assert await till.state(request) == "AUTHORIZING"

    payment = await till.send(request)

    assert await till.payment(payment) == payment
    assert await till.effects(request) == ["authorized"]


async def test_a_slow_capture_is_pending_at_the_deadline_and_known_later(till: Till) -> None:
    """As with the authorisation."""
    capture = capture_request(await till.authorized("tok_slow_capture"))
    await pending(till, capture)
    assert await till.state(capture) == "CAPTURING"

    assert (await till.send(capture)).HasField("captured_amount")
    assert await till.effects(capture) == ["authorized", "captured"]


async def test_a_caller_that_leaves_does_not_stop_the_call_to_the_processor(till: Till) -> None:
    """Its request is decided all the same, and the verdict waits for it."""
    request = authorize_request("tok_slow")
    call = till.stub.AuthorizePayment(request, timeout=WAIT_SECONDS)
    await till.begun(request)
    call.cancel()

    await till.reaches(request, "AUTHORIZED")
    payment = await till.send(request)
    assert payment == await till.payment(request)
    assert await till.effects(request) == ["authorized"]


@pytest.mark.parametrize("token", ["tok_lost_reply", "tok_lost_capture"])
async def test_a_lost_reply_is_looked_up_by_our_own_id(till: Till, token: str) -> None:
    """The same call still answers OK, and the ledger has one authorisation and one capture."""
    payment = await till.authorized(token)
    captured = await till.send(capture_request(payment))

    assert captured.HasField("captured_amount")
    assert await till.effects(payment) == ["authorized", "captured"]


async def test_a_void_while_authorising_answers_at_once_and_the_hold_is_released(till: Till) -> None:
    """The authorisation learns that it was undone; what the processor holds when it comes back is given up."""
    request = authorize_request("tok_slow")
    authorizing = asyncio.create_task(refusal(till.answer(request)))
    await till.begun(request)

    voided = await till.send(void_request(request), SHORT_SECONDS)

    assert not voided.HasField("captured_amount")
    assert await till.state(request) == "VOIDED"
    assert (await authorizing).reason == "ALREADY_UNDONE"
    await till.settled(request)
    assert (await till.effects(request))[-1] == "voided"
    assert (await refusal(till.answer(capture_request(request)))).reason == "ALREADY_UNDONE"


async def test_a_void_while_capturing_waits_for_the_truth(till: Till) -> None:
    """With too little time it is pending and may be sent again; then it learns that the money was taken."""
    payment = await till.authorized("tok_slow_capture")
    capturing = asyncio.create_task(till.send(capture_request(payment)))
    await till.reaches(payment, "CAPTURING")
    void = void_request(payment)
    await pending(till, void, SHORT_SECONDS / 2)

    assert (await refusal(till.answer(void))).reason == "ALREADY_CAPTURED"
    assert (await capturing).HasField("captured_amount")
    assert await till.effects(payment) == ["authorized", "captured"]


async def test_a_void_while_a_capture_fails_agrees_with_the_decline(till: Till) -> None:
    """The hold lapsed under the capture: void has nothing left to undo."""
    payment = await till.authorized("tok_slow_capture")
    capturing = asyncio.create_task(refusal(till.answer(capture_request(payment))))
    await till.reaches(payment, "CAPTURING")
    till.processor.void(payment.payment_id)

    await till.send(void_request(payment))

    assert await till.state(payment) == "DECLINED"
    assert (await capturing).reason == "AUTHORIZATION_LAPSED"


async def test_a_capture_while_authorising_is_pending_or_waits(till: Till) -> None:
    """It begins when there is something to capture."""
    request = authorize_request("tok_slow")
    authorizing = asyncio.create_task(till.send(request))
    await till.begun(request)
    await pending(till, capture_request(request), SHORT_SECONDS / 2)

    captured = await till.send(capture_request(request))

    assert captured.HasField("captured_amount")
    await authorizing
    assert await till.effects(request) == ["authorized", "captured"]


async def test_an_unavailable_processor_is_no_verdict_and_void_ends_it(till: Till) -> None:
    """The outcome is pending, not declined; a void needs no processor, and is told to it behind the answer."""
    request = authorize_request("tok_unavailable")
    await pending(till, request, WAIT_SECONDS)
    assert await till.state(request) == "AUTHORIZING"

    await till.send(void_request(request))

    await till.settled(request)
    assert await till.effects(request) == ["voided"]
    assert (await refusal(till.answer(request))).reason == "ALREADY_UNDONE"


async def test_an_authorisation_that_the_processor_takes_later_succeeds(till: Till) -> None:
    """What could not be had at first is asked for again, by the loop and by the same request."""
    request = authorize_request("tok_unavailable")
    await pending(till, request, WAIT_SECONDS)
    till.processor.authorize(request.payment_id)

    await till.reaches(request, "AUTHORIZED")

    assert await till.send(request) == await till.payment(request)
    assert await till.effects(request) == ["authorized"]


async def test_a_token_is_erased_when_the_processor_has_answered(till: Till) -> None:
    """It stays only while an authorisation may still have to be asked for."""
    request = authorize_request("tok_unavailable")
    await pending(till, request, WAIT_SECONDS)
    assert (await till.row(request))["token"] == request.payment_method_token
    till.processor.authorize(request.payment_id)
    await till.reaches(request, "AUTHORIZED")
    assert (await till.row(request))["token"] is None

    for token in ("tok_succeeds", "tok_declined"):
        answered = authorize_request(token)
        await till.outcome(answered)
        assert (await till.row(answered))["token"] is None
    voided = authorize_request("tok_unavailable")
    await pending(till, voided, WAIT_SECONDS)
    await till.send(void_request(voided))
    assert (await till.row(voided))["token"] is None
