"""What a crash leaves behind between intent, call and result is resolved, once, under the id that we chose."""

import asyncio
from uuid import UUID

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from services.common import tracing
from services.common.idempotency import Answered, Fingerprints, Keyed, Refused, Undecided
from services.common.values import Money
from services.payment import settlement
from services.payment.domain import AuthorizePayment, CapturePayment, VoidPayment
from services.payment.service import WRITERS
from services.payment.store import PaymentStore
from tests.integration.payment.till import (
    MINOR,
    WAIT_SECONDS,
    Request,
    Till,
    authorize_request,
    capture_request,
    until,
    void_request,
)
from tests.rpc import new_key, refusal

FINGERPRINTS = Fingerprints("a-key-for-tests")


def a_store(till: Till, *, lease_seconds: float = 0, authorize_limit_seconds: float = 60) -> PaymentStore:
    """Make a store beside the service's: what is begun in it is left behind, and found by the service's loop."""
    return PaymentStore(
        till.database, WRITERS, lease_seconds=lease_seconds, authorize_limit_seconds=authorize_limit_seconds
    )


def keyed_authorize(request: Request, token: str = "tok_succeeds") -> Keyed[AuthorizePayment]:  # noqa: S107
    """Return the command of a request to authorise, as the service makes it."""
    ids = UUID(request.payment_id), UUID(request.order_id)
    command = AuthorizePayment(request.request_id, *ids, Money("EUR", MINOR), token, None)
    return FINGERPRINTS.keyed(request.request_id, command)


def keyed_capture(request: Request) -> Keyed[CapturePayment]:
    """Return the command of a request to capture, as the service makes it."""
    command = CapturePayment(request.request_id, UUID(request.payment_id), UUID(request.order_id), None)
    return FINGERPRINTS.keyed(request.request_id, command)


def keyed_void(request: Request) -> Keyed[VoidPayment]:
    """Return a command to void the payment of a request, with a fresh key."""
    command = VoidPayment(new_key(), UUID(request.payment_id), UUID(request.order_id))
    return FINGERPRINTS.keyed(command.request_id, command)


async def test_an_authorisation_that_was_never_sent_is_sent(till: Till) -> None:
    """The crash fell between the intent and the call: the loop asks, and the caller's key has its verdict."""
    request = authorize_request()
    await a_store(till).authorize([keyed_authorize(request)])

    await till.reaches(request, "AUTHORIZED")

    assert await till.send(request) == await till.payment(request)
    assert await till.effects(request) == ["authorized"]


@pytest.mark.parametrize("token", ["tok_succeeds", "tok_declined"])
async def test_an_authorisation_whose_result_was_not_written_is_found(till: Till, token: str) -> None:
    """The crash fell between the call's effect and our note of it: it is looked up, not done again."""
    request = authorize_request(token)
    till.processor.authorize(request.payment_id, token)
    await a_store(till).authorize([keyed_authorize(request, token)])

    await till.settled(request)

    assert await till.outcome(request) == await till.outcome(request)
    assert await till.effects(request) == [{"tok_succeeds": "authorized", "tok_declined": "declined"}[token]]


@pytest.mark.parametrize("sent", [False, True])
async def test_a_capture_without_a_result_is_resolved(till: Till, sent: bool) -> None:  # noqa: FBT001 - a parameter.
    """Whether the call took effect or never went out: the amount is taken once."""
    capture = capture_request(await till.authorized())
    if sent:
        till.processor.capture(capture.payment_id)
    await a_store(till).capture([keyed_capture(capture)])

    await till.reaches(capture, "CAPTURED")

    assert (await till.send(capture)).HasField("captured_amount")
    assert (await refusal(till.answer(void_request(capture)))).reason == "ALREADY_CAPTURED"
    assert await till.effects(capture) == ["authorized", "captured"]


async def test_a_hold_that_a_void_left_behind_is_released(till: Till) -> None:
    """The crash fell after the promise never to capture."""
    payment = await till.authorized()
    command = VoidPayment(new_key(), UUID(payment.payment_id), UUID(payment.order_id))
    await a_store(till).void([FINGERPRINTS.keyed(command.request_id, command)])

    await till.settled(payment)

    assert await till.effects(payment) == ["authorized", "voided"]


async def test_an_authorisation_that_is_unknown_and_too_late_is_given_up(till: Till) -> None:
    """It is voided here and at the processor, and its caller learns that its time passed: nobody undid it."""
    request = authorize_request()
    await a_store(till, authorize_limit_seconds=0).authorize([keyed_authorize(request)])

    await till.settled(request)

    assert (await refusal(till.answer(request))).reason == "VALID_UNTIL_PASSED"
    assert await till.state(request) == "VOIDED"
    assert await till.effects(request) == ["voided"]
    assert (await till.row(request))["token"] is None


async def test_what_was_left_behind_is_resolved_in_the_trace_of_its_order(till: Till) -> None:
    """No caller is there any more, but the payment keeps the trace of who made it: also where that was a void."""
    request, undone = authorize_request(), authorize_request()
    with tracing.new_provider("test").get_tracer("test").start_as_current_span("the order") as order:
        await a_store(till).authorize([keyed_authorize(request)])
        await a_store(till).void([keyed_void(undone)])
    context = order.get_span_context()
    assert f"-{context.trace_id:032x}-{context.span_id:016x}-" in (await till.row(undone))["trace_context"]

    def spans() -> list[ReadableSpan]:
        finished = till.spans.get_finished_spans()
        return [span for span in finished if span.context is not None and span.context.trace_id == context.trace_id]

    async def resolved() -> bool:
        await asyncio.sleep(0)
        return bool(spans()) and spans()[-1].name == "resolve payment"

    await until(resolved)
    *calls, resolve = spans()
    assert resolve.parent is not None
    assert resolve.parent.span_id == context.span_id
    assert [(call.name, call.parent) for call in calls] == [("GET", resolve.context), ("PUT", resolve.context)]


async def test_a_contradiction_is_left_open_and_is_not_attempted_for_ever(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What we voided was captured there behind our back: that is no success, and a person has to look."""
    monkeypatch.setattr(settlement, "CONTRADICTIONS_LIMIT", 2)
    payment = await till.authorized()
    till.processor.capture(payment.payment_id)

    await till.send(void_request(payment))
    await till.settled(payment)

    row = await till.row(payment)
    assert (row["state"], row["hold_open"], row["stuck"], row["contradictions"]) == ("VOIDED", True, True, 2)
    assert await till.effects(payment) == ["authorized", "captured"]


async def test_a_change_frees_what_was_stuck(till: Till) -> None:
    """Until then its caller hears that the outcome is pending; what is found out too late does not bind it again."""
    store, request = a_store(till, lease_seconds=WAIT_SECONDS), authorize_request()
    await store.authorize([keyed_authorize(request)])
    stale = await store.payment(UUID(request.payment_id))
    assert stale is not None
    await store.contradicted(stale, None)
    assert await store.intent(stale.payment_id) is None
    assert (await refusal(till.answer(request))).reason == "OUTCOME_PENDING"
    assert await till.effects(request) == []

    await store.void([keyed_void(request)])
    await store.contradicted(stale, None)
    row = await till.row(request)
    assert (row["stuck"], row["contradictions"]) == (False, 0)

    await till.send(void_request(request))
    await till.execute("UPDATE payments SET next_attempt_time = now() WHERE payment_id = $1", request.payment_id)
    await till.settled(request)
    assert await till.effects(request) == ["voided"]


async def test_an_intent_is_left_to_whoever_took_it(till: Till) -> None:
    """For the lease nobody else takes it: neither the loop, nor another replica's."""
    store = a_store(till, lease_seconds=WAIT_SECONDS)
    request = authorize_request("tok_unavailable")
    await store.authorize([keyed_authorize(request, "tok_unavailable")])
    assert UUID(request.payment_id) not in await store.claim_due(32)

    await store.postpone(UUID(request.payment_id), 0)
    taken = await asyncio.gather(*(a_store(till, lease_seconds=WAIT_SECONDS).claim_due(32) for _ in range(4)))

    assert sum(UUID(request.payment_id) in ids for ids in taken) <= 1
    await till.send(void_request(request))


async def test_a_set_gives_each_item_its_own_verdict(till: Till) -> None:
    """One transaction, in the order of keys: what begins, what is answered or refused, and what waits for the first."""
    done = authorize_request()
    await till.send(done)
    again = authorize_request(payment_id=done.payment_id, order_id=done.order_id)
    first = authorize_request("tok_unavailable", request_id=f"a-{new_key()}")
    equal = authorize_request(payment_id=first.payment_id, order_id=first.order_id, request_id=f"b-{new_key()}")
    rival = authorize_request(order_id=first.order_id, request_id=f"c-{new_key()}")
    requests = [keyed_authorize(request) for request in (rival, equal, done, again)]
    requests += [keyed_authorize(first, "tok_unavailable"), keyed_authorize(done, "tok_declined")]

    asked = await a_store(till, lease_seconds=WAIT_SECONDS).authorize(requests)

    assert [type(verdict) for verdict in asked.verdicts] == [Refused, Undecided, Answered, Answered, Undecided, Refused]
    assert asked.begun == {UUID(first.payment_id)}
    await till.send(void_request(first))
    assert [(await refusal(till.answer(request))).reason for request in (first, equal, rival)] == [
        "ALREADY_UNDONE",
        "ALREADY_UNDONE",
        "ORDER_HAS_PAYMENT",
    ]
