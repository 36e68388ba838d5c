"""What a command, and the card processor's word, make of a payment in each of its states."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from services.common.values import AlreadyUndoneError, DomainError, Money, ValidUntilPassedError
from services.payment.book import Book
from services.payment.domain import (
    TRANSITIONS,
    AlreadyCapturedError,
    Authorization,
    AuthorizationLapsedError,
    AuthorizePayment,
    CapturePayment,
    CardDeclinedError,
    DeclineReason,
    InsufficientFundsError,
    Intent,
    OrderHasPaymentError,
    Payment,
    PaymentIdTakenError,
    PaymentMethodInvalidError,
    PaymentNotFoundError,
    VoidPayment,
    authorize,
    capture,
    standing,
    told,
    void,
)
from services.payment.domain import AuthorizationState as A
from services.payment.domain import PaymentState as S
from tests.unit.payment.fakes import AMOUNT, NOW, ORDER_ID, PAYMENT_ID, TOKEN, a_payment

LATER = NOW + dt.timedelta(minutes=1)
AUTHORIZE = AuthorizePayment("authorize-2", PAYMENT_ID, ORDER_ID, AMOUNT, TOKEN, None)
CAPTURE = CapturePayment("capture-2", PAYMENT_ID, ORDER_ID, None)
VOID = VoidPayment("void-2", PAYMENT_ID, ORDER_ID)
OTHER_ID = UUID(int=9)


@pytest.mark.parametrize(
    ("state", "after_authorize", "after_capture", "after_void"),
    [
        (S.AUTHORIZING, S.AUTHORIZING, S.AUTHORIZING, S.VOIDED),
        (S.AUTHORIZED, S.AUTHORIZED, S.CAPTURING, S.VOIDED),
        (S.CAPTURING, S.CAPTURING, S.CAPTURING, S.CAPTURING),
        (S.CAPTURED, S.CAPTURED, S.CAPTURED, AlreadyCapturedError),
        (S.DECLINED, CardDeclinedError, CardDeclinedError, S.DECLINED),
        (S.VOIDED, AlreadyUndoneError, AlreadyUndoneError, S.VOIDED),
    ],
)
def test_each_state_has_one_answer_to_each_command(
    state: S,
    after_authorize: S | type[DomainError],
    after_capture: S | type[DomainError],
    after_void: S | type[DomainError],
) -> None:
    """The whole table: what a command leads to, or how it is refused."""
    payment = a_payment(state)
    decisions: list[tuple[Callable[[], Payment], S | type[DomainError]]] = [
        (lambda: authorize(payment, AUTHORIZE, LATER), after_authorize),
        (lambda: capture(payment, CAPTURE, LATER), after_capture),
        (lambda: void(payment, VOID, LATER), after_void),
    ]

    for decide, after in decisions:
        if isinstance(after, S):
            decided = decide()
            assert decided.state is after
            assert decided is payment or (after in TRANSITIONS[state] and decided.update_time == LATER)
        else:
            with pytest.raises(after):
                decide()


@pytest.mark.parametrize("state", list(S))
@pytest.mark.parametrize("at_processor", [None, *A])
def test_the_processors_word_moves_only_what_waits_for_it(state: S, at_processor: A | None) -> None:
    """The whole table of the processor's words: what is not listed changes nothing."""
    moves = {
        (S.AUTHORIZING, None): S.VOIDED,
        (S.AUTHORIZING, A.AUTHORIZED): S.AUTHORIZED,
        (S.AUTHORIZING, A.DECLINED): S.DECLINED,
        (S.AUTHORIZING, A.VOIDED): S.DECLINED,
        (S.CAPTURING, A.CAPTURED): S.CAPTURED,
        (S.CAPTURING, A.DECLINED): S.DECLINED,
        (S.CAPTURING, A.VOIDED): S.DECLINED,
    }
    releases = {(S.VOIDED, A.VOIDED), (S.VOIDED, A.DECLINED)}
    payment = a_payment(state)
    word = None if at_processor is None else Authorization(at_processor, AMOUNT)

    after = told(payment, word, LATER)

    assert after.state == moves.get((state, at_processor), state)
    if (state, at_processor) in releases:
        assert (after.hold_open, after.update_time) == (False, LATER)
    elif (state, at_processor) not in moves:
        assert after is payment


@pytest.mark.parametrize("state", [S.AUTHORIZING, S.CAPTURING, S.VOIDED])
def test_a_word_about_another_amount_decides_nothing(state: S) -> None:
    """Another amount than ours is an answer that we do not understand."""
    payment = a_payment(state)
    for at_processor in A:
        assert told(payment, Authorization(at_processor, Money("EUR", 1251)), LATER) is payment
        assert told(payment, Authorization(at_processor, Money("USD", 1250)), LATER) is payment


@pytest.mark.parametrize(
    ("reason", "refusal"),
    [
        (DeclineReason.CARD_DECLINED, CardDeclinedError),
        (DeclineReason.INSUFFICIENT_FUNDS, InsufficientFundsError),
        (DeclineReason.PAYMENT_METHOD_INVALID, PaymentMethodInvalidError),
    ],
)
def test_a_decline_keeps_its_reason(reason: DeclineReason, refusal: type[DomainError]) -> None:
    """Each reason has its refusal, and names the payment."""
    payment = told(a_payment(), Authorization(A.DECLINED, AMOUNT, reason), LATER)

    assert payment.decline_reason is reason
    with pytest.raises(refusal) as caught:
        standing(payment)
    assert caught.value.metadata == {"payment_id": str(PAYMENT_ID)}


def test_a_hold_that_is_gone_when_it_is_captured_has_lapsed() -> None:
    """The processor's refusal to capture is a decline of its own kind."""
    payment = told(a_payment(S.CAPTURING), Authorization(A.VOIDED, AMOUNT), LATER)

    with pytest.raises(AuthorizationLapsedError):
        standing(payment)


def test_only_a_captured_payment_has_a_captured_amount() -> None:
    """Nothing or the whole amount is taken."""
    taken = {state: a_payment(state).captured_amount for state in S}

    assert taken == dict.fromkeys(S) | {S.CAPTURED: AMOUNT}


def test_a_void_leaves_a_hold_to_be_released() -> None:
    """Also while authorising: the hold may come yet. A decline and a tombstone hold nothing."""
    assert void(a_payment(S.AUTHORIZING), VOID, LATER).hold_open
    assert void(a_payment(S.AUTHORIZED), VOID, LATER).hold_open
    tombstone = void(None, VOID, LATER)
    assert (tombstone.state, tombstone.amount, tombstone.order_id, tombstone.hold_open, tombstone.open) == (
        S.VOIDED,
        None,
        ORDER_ID,
        False,
        False,
    )


def test_what_is_undecided_remembers_who_began_it() -> None:
    """The verdict is stored for that request when it is known, and then the request is forgotten."""
    assert a_payment(S.AUTHORIZING).begun_by == "authorize-1"
    assert a_payment(S.CAPTURING).begun_by == "capture-1"
    assert {a_payment(state).begun_by for state in S if state not in {S.AUTHORIZING, S.CAPTURING}} == {None}


def test_an_amount_of_zero_needs_no_processor() -> None:
    """It is authorised, captured and voided at once, and nothing is left open."""
    free = replace(AUTHORIZE, amount=Money("JPY", 0))
    authorized = authorize(None, free, NOW)
    captured = capture(authorized, CAPTURE, LATER)
    voided = void(authorized, VOID, LATER)

    assert (authorized.state, authorized.open, authorized.begun_by) == (S.AUTHORIZED, False, None)
    assert (captured.state, captured.open, captured.captured_amount) == (S.CAPTURED, False, Money("JPY", 0))
    assert (voided.state, voided.open) == (S.VOIDED, False)


def test_an_unknown_payment_cannot_be_captured() -> None:
    """Neither can another payment of the same order, under the wrong id."""
    for found in (None, replace(a_payment(), payment_id=OTHER_ID)):
        with pytest.raises(PaymentNotFoundError):
            capture(found, CAPTURE, NOW)


def test_a_payments_id_belongs_to_its_order_and_amount() -> None:
    """Another order or another amount under the same id is refused; a voided payment has no amount to differ from."""
    payment = a_payment(S.AUTHORIZED)
    with pytest.raises(PaymentIdTakenError):
        authorize(payment, replace(AUTHORIZE, amount=Money("EUR", 1)), NOW)
    for state in S:
        payment = a_payment(state)
        with pytest.raises(PaymentIdTakenError):
            authorize(payment, replace(AUTHORIZE, order_id=OTHER_ID), NOW)
        with pytest.raises(PaymentIdTakenError):
            capture(payment, replace(CAPTURE, order_id=OTHER_ID), NOW)
        with pytest.raises(PaymentIdTakenError):
            void(payment, replace(VOID, order_id=OTHER_ID), NOW)
    with pytest.raises(AlreadyUndoneError):
        authorize(void(None, VOID, NOW), AUTHORIZE, NOW)


def test_valid_until_refuses_only_what_is_not_begun() -> None:
    """At its moment it is still good; what was begun before goes on, and undoing has no limit."""
    late_authorize, late_capture = replace(AUTHORIZE, valid_until=NOW), replace(CAPTURE, valid_until=NOW)
    with pytest.raises(ValidUntilPassedError):
        authorize(None, late_authorize, LATER)
    for state in (S.AUTHORIZING, S.AUTHORIZED):
        with pytest.raises(ValidUntilPassedError):
            capture(a_payment(state), late_capture, LATER)
    for state in (S.CAPTURING, S.CAPTURED):
        assert capture(a_payment(state), late_capture, LATER).state is state
    for state in (S.AUTHORIZING, S.AUTHORIZED):
        assert authorize(a_payment(state), late_authorize, LATER).state is state
    assert authorize(None, late_authorize, NOW).state is S.AUTHORIZING
    assert capture(a_payment(S.AUTHORIZED), late_capture, NOW).state is S.CAPTURING


def test_an_order_has_one_payment_and_each_command_of_a_batch_sees_the_ones_before() -> None:
    """Of three requests for one order the first begins, an equal one waits, and another payment is refused."""
    book = Book(NOW, [])

    assert book.decide(authorize, AUTHORIZE) is None
    assert book.decide(authorize, replace(AUTHORIZE, request_id="authorize-3")) is None
    refusal = book.decide(authorize, replace(AUTHORIZE, request_id="authorize-4", payment_id=OTHER_ID))

    assert isinstance(refusal, OrderHasPaymentError)
    assert refusal.metadata == {"payment_id": str(PAYMENT_ID)}
    assert isinstance(book.decide(void, replace(VOID, payment_id=OTHER_ID)), OrderHasPaymentError)
    assert (book.made, book.begun, book.turned_away) == ({PAYMENT_ID: AUTHORIZE}, {PAYMENT_ID}, ["authorize-3"])
    assert book.changed == []


def test_a_token_is_in_no_text() -> None:
    """What might be logged by mistake does not show it."""
    assert TOKEN not in repr(AUTHORIZE)
    assert TOKEN not in repr(Intent(a_payment(), 0, 0, TOKEN))
