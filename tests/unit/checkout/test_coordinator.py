"""The ways an order can go: what is asked of whom in which order, when the outcome is committed, what is written."""

import pytest

from services.checkout.coordinator import Done, NotKnown, Refused
from services.checkout.domain import OrderState, Rejection, RejectionReason
from services.checkout.saga import Action
from tests.fakes.checkout import Late
from tests.fakes.clock import in_virtual_time
from tests.fakes.saga_run import Script, run_saga

RESERVE, RELEASE, COMMIT = Action.RESERVE_STOCK, Action.RELEASE_RESERVATION, Action.COMMIT_RESERVATION
AUTHORIZE, VOID, CAPTURE = Action.AUTHORIZE_PAYMENT, Action.VOID_PAYMENT, Action.CAPTURE_PAYMENT

SOLD_OUT = Refused("OUT_OF_STOCK", {"sku": "MUG", "requested": "2", "available": "1"})
DECLINED = Refused("CARD_DECLINED", {"payment_id": "7"})
BOTH_AT_ONCE = ["reserve_stock", "authorize_payment", "reserve_stock.", "authorize_payment."]
VOIDED_THEN_REJECTED_THEN_RELEASED = [
    "void_payment",
    "void_payment.",
    "REJECTED",
    "release_reservation",
    "release_reservation.",
]
PAID = ["DONE reserve_stock", "DONE authorize_payment", "DONE capture_payment", "CONFIRMED"]
UNDONE = ["UNDONE void_payment", "UNDONE release_reservation", "CLOSED"]


@in_virtual_time
async def test_an_order_that_nobody_refuses_is_confirmed_and_then_completed() -> None:
    """Stock and card at the same time, then the capture, then the outcome, and the sale after that."""
    run = await run_saga()
    assert run.trail == [
        *BOTH_AT_ONCE,
        "capture_payment",
        "capture_payment.",
        "CONFIRMED",
        "commit_reservation",
        "commit_reservation.",
    ]
    assert run.story == [*PAID, "DONE commit_reservation", "COMPLETED"]
    assert run.decided.state is OrderState.CONFIRMED


@pytest.mark.parametrize(
    ("script", "story", "rejection"),
    [
        (
            {RESERVE: [SOLD_OUT]},
            ["REFUSED reserve_stock OUT_OF_STOCK", "DONE authorize_payment"],
            Rejection(RejectionReason.OUT_OF_STOCK, dict(SOLD_OUT.metadata)),
        ),
        (
            {AUTHORIZE: [DECLINED]},
            ["DONE reserve_stock", "REFUSED authorize_payment CARD_DECLINED"],
            Rejection(RejectionReason.CARD_DECLINED),
        ),
        (
            {AUTHORIZE: [Refused("INSUFFICIENT_FUNDS")]},
            ["DONE reserve_stock", "REFUSED authorize_payment INSUFFICIENT_FUNDS"],
            Rejection(RejectionReason.INSUFFICIENT_FUNDS),
        ),
        (
            {RESERVE: [SOLD_OUT], AUTHORIZE: [DECLINED]},
            ["REFUSED reserve_stock OUT_OF_STOCK", "REFUSED authorize_payment CARD_DECLINED"],
            Rejection(RejectionReason.OUT_OF_STOCK, dict(SOLD_OUT.metadata)),
        ),
        (
            {AUTHORIZE: [Refused("PAYMENT_ID_TAKEN", {"reason": "odd"})]},
            ["DONE reserve_stock", "REFUSED authorize_payment PAYMENT_ID_TAKEN"],
            Rejection(RejectionReason.STEP_REFUSED, {"step": "authorize_payment"}),
        ),
    ],
    ids=["sold out", "declined", "no funds", "both", "for no customer to mend"],
)
@in_virtual_time
async def test_a_step_that_is_refused_voids_the_payment_first_and_alone(
    script: Script, story: list[str], rejection: Rejection
) -> None:
    """Only when the void has its answer the rejection is committed, and only after that the stock is given back."""
    run = await run_saga(script)
    assert run.trail == [*BOTH_AT_ONCE, *VOIDED_THEN_REJECTED_THEN_RELEASED]
    assert run.story == [*story, UNDONE[0], f"REJECTED {rejection.reason}", *UNDONE[1:]]
    assert (run.decided.state, run.decided.rejection) == (OrderState.REJECTED, rejection)


@in_virtual_time
async def test_the_void_waits_until_the_steps_beside_the_refused_one_have_ended() -> None:
    """The card's slow answer comes first: while a payment is voided no other call of the order is under way."""
    run = await run_saga({RESERVE: [SOLD_OUT], AUTHORIZE: [Late(5.0, Done())], VOID: [Late(3.0, Done())]})
    assert run.trail == [
        "reserve_stock",
        "authorize_payment",
        "reserve_stock.",
        "authorize_payment.",
        *VOIDED_THEN_REJECTED_THEN_RELEASED,
    ]


@in_virtual_time
async def test_a_refused_capture_aborts_like_any_step_before_it() -> None:
    """The hold on the card lapsed: nothing is charged, the stock is given back."""
    run = await run_saga({CAPTURE: [Refused("AUTHORIZATION_LAPSED")]})
    assert run.trail == [*BOTH_AT_ONCE, "capture_payment", "capture_payment.", *VOIDED_THEN_REJECTED_THEN_RELEASED]
    assert run.story == [
        "DONE reserve_stock",
        "DONE authorize_payment",
        "REFUSED capture_payment AUTHORIZATION_LAPSED",
        UNDONE[0],
        "REJECTED AUTHORIZATION_LAPSED",
        *UNDONE[1:],
    ]


@in_virtual_time
async def test_an_order_whose_capture_stays_unknown_is_voided_and_has_timed_out() -> None:
    """No answer is no refusal: the payment's row says which it was."""
    run = await run_saga({CAPTURE: [NotKnown("UNAVAILABLE")]})
    assert run.trail[-5:] == VOIDED_THEN_REJECTED_THEN_RELEASED
    assert run.story == [
        "DONE reserve_stock",
        "DONE authorize_payment",
        UNDONE[0],
        "REJECTED ORDER_TIMED_OUT",
        *UNDONE[1:],
    ]


@pytest.mark.parametrize(
    "script",
    [
        {CAPTURE: [NotKnown("DEADLINE_EXCEEDED")]},
        {CAPTURE: [Refused("VALID_UNTIL_PASSED")]},
        {AUTHORIZE: [NotKnown("UNAVAILABLE")]},
    ],
    ids=["capture unknown", "capture too late", "authorisation unknown"],
)
@in_virtual_time
async def test_a_void_that_comes_after_the_capture_sends_the_order_forward(script: Script) -> None:
    """The money was taken, so the order is confirmed and completed, and nothing is given back."""
    run = await run_saga({**script, VOID: [Refused("ALREADY_CAPTURED")]})
    assert run.trail[-5:] == [
        "void_payment",
        "void_payment.",
        "CONFIRMED",
        "commit_reservation",
        "commit_reservation.",
    ]
    assert run.story[-4:] == [
        "REFUSED void_payment ALREADY_CAPTURED",
        "CONFIRMED",
        "DONE commit_reservation",
        "COMPLETED",
    ]
    assert (run.asked.count(VOID), run.asked.count(RELEASE)) == (1, 0)


@in_virtual_time
async def test_a_void_without_an_answer_is_asked_again_before_anything_else_happens() -> None:
    """Pending, lost, overloaded: the rejection waits for the verdict."""
    unknown = [NotKnown("OUTCOME_PENDING", 0.2), NotKnown("DEADLINE_EXCEEDED"), NotKnown("OVERLOADED", 1.0)]
    run = await run_saga({RESERVE: [SOLD_OUT], VOID: [*unknown, Done()]})
    assert run.trail == [*BOTH_AT_ONCE, *["void_payment", "void_payment."] * 3, *VOIDED_THEN_REJECTED_THEN_RELEASED]
    assert run.story.count("UNDONE void_payment") == 1


@pytest.mark.parametrize("reason", ["REQUEST_ID_REUSED", "ORDER_HAS_PAYMENT", "PAYMENT_ID_TAKEN", "UNIMPLEMENTED"])
@in_virtual_time
async def test_a_void_refused_for_another_reason_confirms_nothing(reason: str) -> None:
    """It says neither voided nor captured: a person is called, and it is asked again until it says one of them."""
    run = await run_saga({RESERVE: [SOLD_OUT], VOID: [*[Refused(reason)] * 100, Done()]})
    assert run.decided.state is OrderState.REJECTED
    assert run.story.count(f"NEEDS_ATTENTION void_payment {reason}") == 1
    assert run.trail[-5:] == VOIDED_THEN_REJECTED_THEN_RELEASED


@in_virtual_time
async def test_lost_stock_of_a_paid_order_calls_a_person_and_completes_nothing() -> None:
    """RESERVATION_LOST is for good; until there is a saga that cancels, a person decides."""
    run = await run_saga({COMMIT: [Refused("RESERVATION_LOST", {"sku": "MUG"})]})
    assert run.story == [
        *PAID,
        "REFUSED commit_reservation RESERVATION_LOST",
        "NEEDS_ATTENTION commit_reservation RESERVATION_LOST",
    ]
    assert run.decided.state is OrderState.CONFIRMED


@in_virtual_time
async def test_an_undo_that_is_refused_calls_a_person() -> None:
    """No undo is refused for business reasons, so this one is a fault; the rejection stands."""
    run = await run_saga({AUTHORIZE: [DECLINED], RELEASE: [Refused("RESERVATION_COMMITTED")]})
    assert run.story[-3:] == [
        "REJECTED CARD_DECLINED",
        "REFUSED release_reservation RESERVATION_COMMITTED",
        "NEEDS_ATTENTION release_reservation RESERVATION_COMMITTED",
    ]
