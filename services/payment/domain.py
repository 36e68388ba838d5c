"""Payments: their states, and what a command or the card processor's word makes of one.

Every decision is a function from a payment as it stands to the payment as it stands then; the same object comes back
where nothing changes. Capture and void exclude each other: each leaves a state that the other needs.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol
from uuid import UUID

from services.common.values import AlreadyUndoneError, DomainError, ErrorKind, Money, check_valid_until


class PaymentState(Enum):
    """Where a payment stands, as the contract describes it."""

    AUTHORIZING = "AUTHORIZING"
    AUTHORIZED = "AUTHORIZED"
    CAPTURING = "CAPTURING"
    CAPTURED = "CAPTURED"
    DECLINED = "DECLINED"
    VOIDED = "VOIDED"


TRANSITIONS: Mapping[PaymentState, frozenset[PaymentState]] = {
    PaymentState.AUTHORIZING: frozenset({PaymentState.AUTHORIZED, PaymentState.DECLINED, PaymentState.VOIDED}),
    PaymentState.AUTHORIZED: frozenset({PaymentState.CAPTURING, PaymentState.VOIDED}),
    PaymentState.CAPTURING: frozenset({PaymentState.CAPTURED, PaymentState.DECLINED}),
    PaymentState.CAPTURED: frozenset(),
    PaymentState.DECLINED: frozenset(),
    PaymentState.VOIDED: frozenset(),
}
"""Where each state may lead. There is no other way."""

UNDECIDED = frozenset({PaymentState.AUTHORIZING, PaymentState.CAPTURING})
"""The states in which the card processor has the word."""


class DeclineReason(Enum):
    """Why a card processor declined, as the contract describes it."""

    CARD_DECLINED = "CARD_DECLINED"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    PAYMENT_METHOD_INVALID = "PAYMENT_METHOD_INVALID"
    AUTHORIZATION_LAPSED = "AUTHORIZATION_LAPSED"


@dataclass(frozen=True, slots=True)
class Payment:
    """The money of one order."""

    payment_id: UUID
    order_id: UUID
    state: PaymentState
    amount: Money | None
    """None where it was voided before it was authorised."""
    create_time: dt.datetime
    update_time: dt.datetime
    decline_reason: DeclineReason | None = None
    hold_open: bool = False
    """It is voided, and the processor has not confirmed yet that nothing is held."""
    begun_by: str | None = None
    """The request_id whose verdict waits for the processor's word."""

    @property
    def captured_amount(self) -> Money | None:
        """What was taken: nothing, or the whole amount."""
        return self.amount if self.state is PaymentState.CAPTURED else None

    @property
    def open(self) -> bool:
        """Whether there is something left to be settled with the processor."""
        return self.state in UNDECIDED or self.hold_open


@dataclass(frozen=True, slots=True)
class Intent:
    """What is to be settled with the processor about a payment."""

    payment: Payment
    attempts: int
    """How often the processor gave no word, since the payment last changed."""
    contradictions: int
    """How often its word decided nothing, since the payment last changed."""
    token: str | None = field(default=None, repr=False)
    """The payment method, where an authorisation may still be asked for."""


@dataclass(frozen=True, slots=True)
class AuthorizePayment:
    """Have an amount held."""

    request_id: str
    """Kept with the payment while what the request began is undecided."""
    payment_id: UUID
    order_id: UUID
    amount: Money
    token: str = field(repr=False)
    valid_until: dt.datetime | None


@dataclass(frozen=True, slots=True)
class CapturePayment:
    """Take the amount."""

    request_id: str
    payment_id: UUID
    order_id: UUID
    valid_until: dt.datetime | None


@dataclass(frozen=True, slots=True)
class VoidPayment:
    """Never take the amount."""

    request_id: str
    payment_id: UUID
    order_id: UUID


class AuthorizationState(Enum):
    """Where an authorisation stands at the processor."""

    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    VOIDED = "voided"
    DECLINED = "declined"


@dataclass(frozen=True, slots=True)
class Authorization:
    """An authorisation as it stands at the processor, under the payment's id."""

    state: AuthorizationState
    amount: Money | None
    """None where the processor heard of it first when it was voided."""
    decline_reason: DeclineReason | None = None


class NoWordError(Exception):
    """The processor did not answer, or not in a way that we understand: whether it acted is unknown."""


class CardProcessor(Protocol):
    """The card processor. The id of an authorisation is its payment's id, so each call may be repeated.

    Each method returns how the authorisation stands now, also where that is not what was asked for, and raises
    NoWordError.
    """

    async def find(self, payment_id: UUID) -> Authorization | None:
        """Look an authorisation up; None where the processor never heard of it."""

    async def authorize(self, payment_id: UUID, amount: Money, token: str) -> Authorization:
        """Have an amount held."""

    async def capture(self, payment_id: UUID) -> Authorization:
        """Take the whole amount that is held."""

    async def void(self, payment_id: UUID) -> Authorization:
        """Release what is held; an unknown authorisation will never be given."""


class PaymentError(DomainError):
    """The base of payment's refusals."""

    service = "payment"


class PaymentNotFoundError(PaymentError):
    """No payment has this id."""

    kind, reason = ErrorKind.NOT_FOUND, "PAYMENT_NOT_FOUND"

    def __init__(self, payment_id: UUID) -> None:
        """Name the payment."""
        super().__init__(f"There is no payment {payment_id}.", payment_id=str(payment_id))


class PaymentIdTakenError(PaymentError):
    """A payment with this id was made for another order or another amount."""

    kind, reason = ErrorKind.REFUSED, "PAYMENT_ID_TAKEN"

    def __init__(self, payment_id: UUID) -> None:
        """Name the payment."""
        super().__init__(
            f"The payment {payment_id} was made for another order or another amount.", payment_id=str(payment_id)
        )


class OrderHasPaymentError(PaymentError):
    """Another payment pays this order."""

    kind, reason = ErrorKind.REFUSED, "ORDER_HAS_PAYMENT"

    def __init__(self, payment_id: UUID) -> None:
        """Name the payment that the order has."""
        super().__init__(f"The order has the payment {payment_id}, and no other.", payment_id=str(payment_id))


class CardDeclinedError(PaymentError):
    """The card's issuer declined."""

    kind, reason = ErrorKind.REFUSED, "CARD_DECLINED"

    def __init__(self, payment_id: UUID) -> None:
        """Name the payment."""
        super().__init__("The card was declined; another one may do.", payment_id=str(payment_id))


class InsufficientFundsError(PaymentError):
    """The account does not hold enough."""

    kind, reason = ErrorKind.REFUSED, "INSUFFICIENT_FUNDS"

    def __init__(self, payment_id: UUID) -> None:
        """Name the payment."""
        super().__init__("The account does not hold enough; another card may do.", payment_id=str(payment_id))


class PaymentMethodInvalidError(PaymentError):
    """The token stands for no usable payment method."""

    kind, reason = ErrorKind.REFUSED, "PAYMENT_METHOD_INVALID"

    def __init__(self, payment_id: UUID) -> None:
        """Name the payment."""
        super().__init__("The token stands for no usable payment method.", payment_id=str(payment_id))


class AuthorizationLapsedError(PaymentError):
    """The hold lapsed at the processor before it was captured."""

    kind, reason = ErrorKind.REFUSED, "AUTHORIZATION_LAPSED"

    def __init__(self, payment_id: UUID) -> None:
        """Name the payment."""
        super().__init__("The hold on the card lapsed before it was captured.", payment_id=str(payment_id))


class AlreadyCapturedError(PaymentError):
    """The payment is captured and cannot be voided."""

    kind, reason = ErrorKind.REFUSED, "ALREADY_CAPTURED"

    def __init__(self, payment_id: UUID) -> None:
        """Name the payment."""
        super().__init__(f"The payment {payment_id} is captured and cannot be voided.", payment_id=str(payment_id))


_DECLINES = {
    DeclineReason.CARD_DECLINED: CardDeclinedError,
    DeclineReason.INSUFFICIENT_FUNDS: InsufficientFundsError,
    DeclineReason.PAYMENT_METHOD_INVALID: PaymentMethodInvalidError,
    DeclineReason.AUTHORIZATION_LAPSED: AuthorizationLapsedError,
}


# What a command makes of `found`: the payment with the command's id, else the payment of its order, else None.
# Each raises what the contract lists.


def authorize(found: Payment | None, command: AuthorizePayment, now: dt.datetime) -> Payment:
    """Begin to authorise a payment, or tell how it stands."""
    if found is None:
        check_valid_until(command.valid_until, now)
        payment = Payment(
            command.payment_id,
            command.order_id,
            PaymentState.AUTHORIZING,
            command.amount,
            now,
            now,
            begun_by=command.request_id,
        )
        return payment if command.amount.minor else _moved(payment, PaymentState.AUTHORIZED, now)
    _check_ids(found, command)
    if found.amount not in {None, command.amount}:
        raise PaymentIdTakenError(found.payment_id)
    return standing(found)


def capture(found: Payment | None, command: CapturePayment, now: dt.datetime) -> Payment:
    """Begin to take the amount, or tell how the payment stands."""
    if found is None or found.payment_id != command.payment_id:
        raise PaymentNotFoundError(command.payment_id)
    _check_ids(found, command)
    payment = standing(found)
    if payment.state in {PaymentState.AUTHORIZING, PaymentState.AUTHORIZED}:
        check_valid_until(command.valid_until, now)
    if payment.state is not PaymentState.AUTHORIZED or payment.amount is None:
        return payment
    capturing = _moved(payment, PaymentState.CAPTURING, now, begun_by=command.request_id)
    return capturing if payment.amount.minor else _moved(capturing, PaymentState.CAPTURED, now)


def void(found: Payment | None, command: VoidPayment, now: dt.datetime) -> Payment:
    """Void the payment, or tell how it stands."""
    if found is None:
        return Payment(command.payment_id, command.order_id, PaymentState.VOIDED, None, now, now)
    _check_ids(found, command)
    if found.state is PaymentState.CAPTURED:
        raise AlreadyCapturedError(found.payment_id)
    if found.state in {PaymentState.AUTHORIZING, PaymentState.AUTHORIZED}:
        return _voided(found, now)
    return found


def told(payment: Payment, word: Authorization | None, now: dt.datetime) -> Payment:
    """Take the processor's word for how the authorisation stands. A word that decides nothing changes nothing.

    None says that the processor never heard of it and that it is too late to ask: an authorisation is then given up,
    and its caller learns that its time has passed, as nobody undid it.
    """
    if word is None:
        return _voided(payment, now) if payment.state is PaymentState.AUTHORIZING else payment
    if word.amount not in {None, payment.amount}:
        return payment
    if payment.hold_open and word.state in _NOTHING_HELD:
        return replace(payment, hold_open=False, update_time=now)
    if payment.state in UNDECIDED and word.state in _NOTHING_HELD:
        reason = DeclineReason.AUTHORIZATION_LAPSED
        if payment.state is PaymentState.AUTHORIZING:
            reason = word.decline_reason or reason
        return _moved(payment, PaymentState.DECLINED, now, decline_reason=reason)
    wished = _WISHES.get((payment.state, word.state))
    return payment if wished is None else _moved(payment, wished, now)


def standing(payment: Payment) -> Payment:
    """Return the payment, unless it is declined or voided: that is raised, as the refusal of what was asked."""
    if payment.state is PaymentState.VOIDED:
        raise AlreadyUndoneError("The payment")
    if payment.decline_reason is not None:
        raise _DECLINES[payment.decline_reason](payment.payment_id)
    return payment


_NOTHING_HELD = frozenset({AuthorizationState.DECLINED, AuthorizationState.VOIDED})
_WISHES = {
    (PaymentState.AUTHORIZING, AuthorizationState.AUTHORIZED): PaymentState.AUTHORIZED,
    (PaymentState.CAPTURING, AuthorizationState.CAPTURED): PaymentState.CAPTURED,
}
"""What a wish becomes when the processor says that it was granted."""


def _voided(payment: Payment, now: dt.datetime) -> Payment:
    something_held = payment.amount is not None and payment.amount.minor > 0
    return _moved(payment, PaymentState.VOIDED, now, hold_open=something_held)


def _moved(
    payment: Payment,
    state: PaymentState,
    now: dt.datetime,
    *,
    begun_by: str | None = None,
    decline_reason: DeclineReason | None = None,
    hold_open: bool = False,
) -> Payment:
    if state not in TRANSITIONS[payment.state]:
        raise ValueError(f"a payment does not go from {payment.state.name} to {state.name}")
    return replace(
        payment, state=state, update_time=now, begun_by=begun_by, decline_reason=decline_reason, hold_open=hold_open
    )


def _check_ids(found: Payment, command: AuthorizePayment | CapturePayment | VoidPayment) -> None:
    if found.payment_id != command.payment_id:
        raise OrderHasPaymentError(found.payment_id)
    if found.order_id != command.order_id:
        raise PaymentIdTakenError(found.payment_id)
