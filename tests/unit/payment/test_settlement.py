"""How payments are seen through at the card processor, whatever answers are lost on the way."""

import asyncio
import random
from uuid import UUID

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from structlog.testing import capture_logs

from services.common import deadline, tracing
from services.payment import settlement as module
from services.payment.domain import Authorization, DeclineReason, NoWordError
from services.payment.domain import AuthorizationState as A
from services.payment.domain import PaymentState as S
from services.payment.settlement import CONTRADICTIONS_LIMIT, Settlement
from tests.unit.payment.fakes import (
    AMOUNT,
    PAYMENT_ID,
    FakeIntents,
    FakeProcessor,
    LostReplyError,
    a_payment,
)

HELD = Authorization(A.AUTHORIZED, AMOUNT)
TAKEN = Authorization(A.CAPTURED, AMOUNT)
RELEASED = Authorization(A.VOIDED, AMOUNT)
DECLINED = Authorization(A.DECLINED, AMOUNT, DeclineReason.INSUFFICIENT_FUNDS)


def a_settlement(intents: FakeIntents, processor: FakeProcessor) -> Settlement:
    """Make a settlement with a seeded source."""
    tracer = tracing.new_provider("payment").get_tracer("test")
    return Settlement(intents, processor, random.Random(1), tracer)  # noqa: S311 - a test wants the same every time.


async def resolve(settlement: Settlement) -> None:
    """Begin to settle what was left behind, and see it end."""
    flights = await settlement.resolve_due()
    if flights:
        await asyncio.wait(flights)


async def test_what_was_begun_just_now_is_asked_without_a_look() -> None:
    """One call each to authorise, capture and void, where all goes well."""
    processor = FakeProcessor()
    for state, call, after in (
        (S.AUTHORIZING, "authorize", S.AUTHORIZED),
        (S.CAPTURING, "capture", S.CAPTURED),
        (S.VOIDED, "void", S.VOIDED),
    ):
        intents = FakeIntents(a_payment(state))
        processor.calls.clear()
        processor.ledger = {} if call == "authorize" else {PAYMENT_ID: HELD}

        assert await a_settlement(intents, processor).settled(PAYMENT_ID, begun=True)
        assert processor.calls == [call]
        assert (intents.payment.state, intents.payment.open) == (after, False)


@pytest.mark.parametrize(
    ("state", "at_processor", "calls", "after"),
    [
        (S.AUTHORIZING, None, ["find", "authorize"], S.AUTHORIZED),
        (S.AUTHORIZING, HELD, ["find"], S.AUTHORIZED),
        (S.AUTHORIZING, DECLINED, ["find"], S.DECLINED),
        (S.AUTHORIZING, RELEASED, ["find"], S.DECLINED),
        (S.CAPTURING, HELD, ["find", "capture"], S.CAPTURED),
        (S.CAPTURING, TAKEN, ["find"], S.CAPTURED),
        (S.CAPTURING, RELEASED, ["find"], S.DECLINED),
        (S.VOIDED, None, ["void"], S.VOIDED),
        (S.VOIDED, HELD, ["void"], S.VOIDED),
        (S.VOIDED, RELEASED, ["void"], S.VOIDED),
        (S.VOIDED, DECLINED, ["void"], S.VOIDED),
    ],
)
async def test_what_was_left_behind_is_looked_up_by_our_own_id_first(
    state: S, at_processor: Authorization | None, calls: list[str], after: S
) -> None:
    """A crash may have fallen before the call, or between its effect and our note of it: both end right."""
    processor, intents = FakeProcessor(), FakeIntents(a_payment(state))
    if at_processor is not None:
        processor.ledger[PAYMENT_ID] = at_processor

    await resolve(a_settlement(intents, processor))

    assert processor.calls == calls
    assert (intents.payment.state, intents.payment.open) == (after, False)


@pytest.mark.parametrize(("state", "call"), [(S.AUTHORIZING, "authorize"), (S.CAPTURING, "capture")])
async def test_a_lost_reply_is_looked_up_at_once(state: S, call: str) -> None:
    """The same flight learns what happened, and does nothing twice."""
    processor, intents = FakeProcessor(troubles=[LostReplyError()]), FakeIntents(a_payment(state))
    if state is S.CAPTURING:
        processor.ledger[PAYMENT_ID] = HELD

    assert await a_settlement(intents, processor).settled(PAYMENT_ID, begun=True)
    assert processor.calls == [call, "find"]
    assert intents.delays_seconds == []


@pytest.mark.parametrize(
    ("state", "calls"),
    [
        (S.AUTHORIZING, ["authorize", "find"]),
        (S.CAPTURING, ["capture", "find"]),
        (S.VOIDED, ["void", "void"]),
    ],
)
async def test_a_processor_that_says_nothing_leaves_the_intent_open(state: S, calls: list[str]) -> None:
    """No answer is no verdict: the payment stands as it stood, and is put off."""
    processor, intents = FakeProcessor(troubles=[NoWordError()] * 2), FakeIntents(a_payment(state))
    before = intents.payment

    assert not await a_settlement(intents, processor).settled(PAYMENT_ID, begun=True)
    assert processor.calls == calls
    assert (intents.payment, intents.attempts) == (before, 1)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (S.AUTHORIZING, TAKEN),
        (S.CAPTURING, None),
        (S.VOIDED, TAKEN),
    ],
)
async def test_an_answer_that_makes_no_sense_is_put_off_and_is_never_success(
    state: S, word: Authorization | None
) -> None:
    """A capture of what we only authorised, a capture unknown there, or a capture after our void, decide nothing."""
    processor, intents = FakeProcessor(), FakeIntents(a_payment(state))
    if word is not None:
        processor.ledger[PAYMENT_ID] = word
    before = intents.payment

    await resolve(a_settlement(intents, processor))

    assert (intents.payment, intents.contradictions, intents.attempts) == (before, 1, 0)


async def test_a_contradiction_is_an_error_and_is_left_to_people_after_some_times() -> None:
    """The payment stays open, nobody asks any more, and the log has it from the first time on."""
    processor, intents = FakeProcessor(ledger={PAYMENT_ID: TAKEN}), FakeIntents(a_payment(S.VOIDED))
    settlement = a_settlement(intents, processor)

    with capture_logs() as logs:
        for _ in range(2 * CONTRADICTIONS_LIMIT):
            await resolve(settlement)

    assert processor.calls == ["void"] * CONTRADICTIONS_LIMIT
    assert (intents.payment.open, intents.stuck) == (True, True)
    assert {(entry["event"], entry["log_level"]) for entry in logs} == {("processor contradicts us", "error")}
    assert [entry["stuck"] for entry in logs] == [False] * (CONTRADICTIONS_LIMIT - 1) + [True]
    assert (logs[0]["payment_id"], logs[0]["word"], logs[0]["same_amount"]) == (str(PAYMENT_ID), "CAPTURED", True)


async def test_silence_is_never_left_to_people() -> None:
    """However long the processor is away, and though it contradicted us before."""
    intents = FakeIntents(a_payment(S.VOIDED), contradictions=CONTRADICTIONS_LIMIT - 1)
    for _ in range(2 * CONTRADICTIONS_LIMIT):
        await resolve(a_settlement(intents, FakeProcessor(troubles=[NoWordError()])))

    assert (intents.stuck, intents.attempts) == (False, 2 * CONTRADICTIONS_LIMIT)


async def test_attempts_are_spread_and_ever_rarer() -> None:
    """The delay is drawn below a limit that doubles with each attempt, up to a minute."""
    intents = FakeIntents(a_payment())
    for _ in range(60):
        processor = FakeProcessor(troubles=[NoWordError()])
        await resolve(a_settlement(intents, processor))
        assert processor.calls == ["find"]

    for attempt, delay_seconds in enumerate(intents.delays_seconds):
        assert 0 <= delay_seconds <= min(0.5 * 2**attempt, 60)
    assert max(intents.delays_seconds) > 1


async def test_a_void_while_authorising_releases_the_hold_that_comes_back() -> None:
    """The flight that brings the hold sees that the payment was voided meanwhile, and gives it back."""
    gate = asyncio.Event()
    processor, intents = FakeProcessor(gate=gate), FakeIntents(a_payment())
    settlement = a_settlement(intents, processor)
    flight = settlement.fly(PAYMENT_ID, begun=True)
    await processor.reached.wait()

    intents.void()
    assert settlement.fly(PAYMENT_ID, begun=True) is flight
    gate.set()

    assert flight is not None
    assert await flight
    assert processor.calls == ["authorize", "void"]
    assert (intents.payment.state, intents.payment.hold_open) == (S.VOIDED, False)


async def test_a_void_is_kept_though_its_authorisation_is_lost() -> None:
    """A lost reply, then a void: the processor is told to void, whether it holds anything or not."""
    processor, intents = FakeProcessor(troubles=[LostReplyError()]), FakeIntents(a_payment())
    processor.gate = asyncio.Event()
    settlement = a_settlement(intents, processor)
    flight = settlement.fly(PAYMENT_ID, begun=True)
    await processor.reached.wait()
    intents.void()
    processor.gate.set()

    assert flight is not None
    assert await flight
    assert processor.calls[0] == "authorize"
    assert processor.calls[-1] == "void"
    assert (intents.payment.state, intents.payment.open) == (S.VOIDED, False)
    assert processor.ledger[PAYMENT_ID].state is A.VOIDED


async def test_an_authorisation_that_is_unknown_and_too_late_is_given_up() -> None:
    """It becomes void here and there, so that nothing can be held by a call that is still on its way."""
    processor, intents = FakeProcessor(), FakeIntents(a_payment(), token=None)

    await resolve(a_settlement(intents, processor))

    assert processor.calls == ["find", "void"]
    assert (intents.payment.state, intents.payment.open) == (S.VOIDED, False)


async def test_an_authorisation_that_took_effect_counts_though_it_is_late() -> None:
    """The limit of time only keeps from asking; it undoes nothing."""
    processor, intents = FakeProcessor(ledger={PAYMENT_ID: HELD}), FakeIntents(a_payment(), token=None)

    await resolve(a_settlement(intents, processor))

    assert intents.payment.state is S.AUTHORIZED


async def test_fifty_callers_share_one_flight() -> None:
    """All learn the same, from one call."""
    processor, intents = FakeProcessor(), FakeIntents(a_payment())
    settlement = a_settlement(intents, processor)

    answers = await asyncio.gather(*(settlement.settled(PAYMENT_ID, begun=index == 0) for index in range(50)))

    assert answers == [True] * 50
    assert processor.calls == ["authorize"]


async def test_a_flight_looks_once_more_for_who_joins_it_at_its_end() -> None:
    """A capture that is begun when the authorisation's last word is written is not left to the next round."""
    processor, intents = FakeProcessor(), FakeIntents(a_payment())
    settlement = a_settlement(intents, processor)

    def begin_to_capture() -> None:
        intents.capture()
        settlement.fly(PAYMENT_ID, begun=True)

    intents.meanwhile = begin_to_capture

    assert await settlement.settled(PAYMENT_ID, begun=True)
    assert processor.calls == ["authorize", "find", "capture"]
    assert intents.payment.state is S.CAPTURED


async def test_a_caller_whose_time_ends_leaves_the_flight_under_way() -> None:
    """It learns that nothing is known yet, a little before its deadline; the flight goes on."""
    processor, intents = FakeProcessor(gate=asyncio.Event()), FakeIntents(a_payment())
    settlement = a_settlement(intents, processor)
    with deadline.within(0.03):
        assert not await settlement.settled(PAYMENT_ID, begun=True)
        left_seconds = deadline.remaining_seconds()
    assert left_seconds is not None
    assert left_seconds > 0

    assert processor.gate is not None
    processor.gate.set()
    assert await settlement.settled(PAYMENT_ID, begun=False)
    assert processor.calls == ["authorize"]


async def test_a_flight_has_not_its_callers_deadline() -> None:
    """It outlives the call, so what it does later must not be refused as too late."""

    class Watch(FakeProcessor):
        async def capture(self, payment_id: UUID) -> Authorization:
            left_seconds.append(deadline.remaining_seconds())
            return await super().capture(payment_id)

    left_seconds: list[float | None] = []
    processor = Watch(ledger={PAYMENT_ID: HELD})
    with deadline.within(20):
        assert await a_settlement(FakeIntents(a_payment(S.CAPTURING)), processor).settled(PAYMENT_ID, begun=True)
        assert deadline.remaining_seconds() is not None

    assert left_seconds == [None]


async def test_a_flight_that_hangs_holds_up_nobody() -> None:
    """The loop begins flights and waits for none; one that is under way is not begun twice."""
    processor, intents = FakeProcessor(gate=asyncio.Event()), FakeIntents(a_payment())
    settlement = a_settlement(intents, processor)

    async with asyncio.timeout(5):
        (flight,) = await settlement.resolve_due()
        await processor.reached.wait()
        assert await settlement.resolve_due() == [flight]

    assert processor.gate is not None
    processor.gate.set()
    assert await flight
    assert processor.calls == ["find", "authorize"]


async def test_a_flight_without_a_caller_is_in_the_trace_of_what_made_the_payment() -> None:
    """One with a caller is in the caller's, and needs no span of its own."""
    provider, spans = tracing.new_provider("payment"), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("the order") as order:
        intents = FakeIntents(a_payment(), origin=tracing.current_headers())
    source = random.Random(1)  # noqa: S311 - as above.
    await resolve(Settlement(intents, FakeProcessor(troubles=[None, NoWordError()]), source, tracer))
    assert await Settlement(intents, FakeProcessor(), source, tracer).settled(PAYMENT_ID, begun=False)

    _, span = spans.get_finished_spans()
    assert (span.name, span.kind) == ("resolve payment", SpanKind.INTERNAL)
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (
        order.get_span_context().trace_id,
        order.get_span_context().span_id,
    )


async def test_a_cancelled_caller_leaves_the_flight_under_way() -> None:
    """The call that is out is not broken off by one of those who wait for it."""
    processor, intents = FakeProcessor(gate=asyncio.Event()), FakeIntents(a_payment())
    settlement = a_settlement(intents, processor)
    waiting = asyncio.create_task(settlement.settled(PAYMENT_ID, begun=True))
    await processor.reached.wait()
    waiting.cancel()
    await asyncio.wait([waiting])

    assert processor.gate is not None
    processor.gate.set()
    assert await settlement.settled(PAYMENT_ID, begun=False)
    assert processor.calls == ["authorize"]


@pytest.mark.parametrize("origin", [None, {}])
async def test_a_stop_waits_for_flights_and_then_ends_them(origin: dict[str, str] | None) -> None:
    """A caller's and the loop's: within the grace one may end by itself; after it, it is broken off."""
    processor, intents = FakeProcessor(gate=asyncio.Event()), FakeIntents(a_payment())
    settlement = a_settlement(intents, processor)
    flight = settlement.fly(PAYMENT_ID, origin=origin)
    assert flight is not None
    await processor.reached.wait()

    await settlement.close(grace_seconds=0)

    assert flight.cancelled()
    assert intents.payment.state is S.AUTHORIZING
    await settlement.close(grace_seconds=0)


async def test_flights_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above it nothing is started; the intent is found by the loop, when there is room."""
    monkeypatch.setattr(module, "FLIGHTS_LIMIT", 0)
    processor, intents = FakeProcessor(), FakeIntents(a_payment())
    settlement = a_settlement(intents, processor)

    assert not await settlement.settled(PAYMENT_ID, begun=True)
    await resolve(settlement)
    assert processor.calls == []

    monkeypatch.undo()
    await resolve(settlement)
    assert intents.payment.state is S.AUTHORIZED


async def test_a_flight_that_fails_is_not_silent_and_ends_nothing_else() -> None:
    """A fault of ours leaves the intent open, and the next round goes on."""
    processor, intents = FakeProcessor(), FakeIntents(a_payment())
    settlement = a_settlement(intents, processor)
    processor.ledger = None  # type: ignore[assignment]  # Any unexpected error will do.
    with capture_logs() as logs:
        assert not await settlement.settled(PAYMENT_ID, begun=True)
    assert [(entry["event"], entry["payment_id"]) for entry in logs] == [("incident", str(PAYMENT_ID))]
    assert intents.payment == a_payment()

    processor.ledger = {}
    await resolve(settlement)
    assert intents.payment.state is S.AUTHORIZED
