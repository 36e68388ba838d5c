"""Orders: what they are, how they are placed on a quote, and why they are refused."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import Final
from uuid import UUID

from services.common.values import Address, DomainError, ErrorKind, Money, derived_id

_NUMBER_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no letter that looks like a digit or another letter."""
_NUMBER_DIGITS: Final = 10


class OrderState(Enum):
    """Where an order stands: PROCESSING → CONFIRMED → COMPLETED, or PROCESSING → REJECTED."""

    PROCESSING = "PROCESSING"
    CONFIRMED = "CONFIRMED"
    COMPLETED = "COMPLETED"
    REJECTED = "REJECTED"


class Coordination(Enum):
    """How the services work together on an order."""

    ORCHESTRATION = "ORCHESTRATION"
    CHOREOGRAPHY = "CHOREOGRAPHY"


class RejectionReason(StrEnum):
    """Why an order was rejected, as `libretto.checkout.v1.ErrorReason` names it."""

    OUT_OF_STOCK = "OUT_OF_STOCK"
    CARD_DECLINED = "CARD_DECLINED"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    PAYMENT_METHOD_INVALID = "PAYMENT_METHOD_INVALID"
    AUTHORIZATION_LAPSED = "AUTHORIZATION_LAPSED"
    ORDER_TIMED_OUT = "ORDER_TIMED_OUT"
    STEP_REFUSED = "STEP_REFUSED"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an order was rejected, and what one needs to go on."""

    reason: RejectionReason
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Customer:
    """Who buys. Personal: kept in the order's row only."""

    customer_id: str
    email: str = field(repr=False)
    locale: str


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One product of an order, as quoted."""

    product_id: UUID
    sku: str
    title: str
    unit_price: Money
    quantity: int
    line_total: Money


@dataclass(frozen=True, slots=True)
class Quote:
    """What pricing promised."""

    quote_id: UUID
    lines: tuple[OrderLine, ...]
    total: Money
    shipping_address: Address = field(repr=False)
    expire_time: dt.datetime


@dataclass(frozen=True, slots=True)
class Placement:
    """A request to order a quote."""

    quote_id: UUID
    customer: Customer
    payment_method_token: str = field(repr=False)
    shipping_address: Address = field(repr=False)
    coordination: Coordination | None
    """None: the server's default."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order as its row holds it. All that its saga needs is here, and never changes."""

    order_id: UUID
    request_id: str
    quote_id: UUID
    customer: Customer
    shipping_address: Address = field(repr=False)
    lines: tuple[OrderLine, ...]
    total: Money
    coordination: Coordination
    saga_version: int
    trace_context: Mapping[str, str]
    """The W3C headers of the span under which it was placed."""
    decide_by: dt.datetime
    """Until when its steps up to the pivot may begin; afterwards it is aborted."""
    create_time: dt.datetime
    update_time: dt.datetime
    payment_method_token: str | None = field(repr=False)
    """None once the outcome is decided."""
    state: OrderState = OrderState.PROCESSING
    rejection: Rejection | None = None
    needs_attention: bool = False

    @property
    def number(self) -> str:
        """The number for people."""
        return order_number(self.order_id)

    @property
    def reservation_id(self) -> UUID:
        """The id of the stock that is held for it."""
        return derived_id(self.order_id, "reservation")

    @property
    def payment_id(self) -> UUID:
        """The id of its payment."""
        return derived_id(self.order_id, "payment")

    @property
    def trace_id(self) -> str:
        """The id of its trace: the second part of a W3C traceparent."""
        _, _, rest = self.trace_context.get("traceparent", "").partition("-")
        return rest.partition("-")[0]

    def confirmed(self, time: dt.datetime) -> "Order":
        """Return it as it stands when it is paid."""
        return replace(self, state=OrderState.CONFIRMED, update_time=time, payment_method_token=None)

    def rejected(self, rejection: Rejection, time: dt.datetime) -> "Order":
        """Return it as it stands when it is refused."""
        return replace(
            self, state=OrderState.REJECTED, rejection=rejection, update_time=time, payment_method_token=None
        )


def order_number(order_id: UUID) -> str:
    """Make the order's number: fifty random bits of its id and a check character (Luhn's algorithm modulo 32)."""
    bits = order_id.int
    digits = [(bits >> (5 * place)) % 32 for place in range(_NUMBER_DIGITS)]
    text = "".join(_NUMBER_ALPHABET[digit] for digit in (*digits, _check_digit(digits)))
    return f"{text[:4]}-{text[4:8]}-{text[8:]}"


def is_order_number(text: str) -> bool:
    """Tell whether a number was copied without a slip: any single wrong character is found."""
    plain = text.replace("-", "")
    if len(plain) != _NUMBER_DIGITS + 1 or any(character not in _NUMBER_ALPHABET for character in plain):
        return False
    *digits, check = (_NUMBER_ALPHABET.index(character) for character in plain)
    return _check_digit(digits) == check


def _check_digit(digits: list[int]) -> int:
    base = len(_NUMBER_ALPHABET)
    doubled = [sum(divmod(2 * digit, base)) for digit in digits[::-2]]
    return -(sum(doubled) + sum(digits[-2::-2])) % base


class CheckoutError(DomainError):
    """The base of checkout's own refusals."""

    service = "checkout"


class OrderNotFoundError(CheckoutError):
    """No order has this id."""

    kind, reason = ErrorKind.NOT_FOUND, "ORDER_NOT_FOUND"

    def __init__(self, order_id: UUID) -> None:
        """Name the id."""
        super().__init__(f"There is no order {order_id}.")


class QuoteNotFoundError(CheckoutError):
    """No quote has this id."""

    kind, reason = ErrorKind.NOT_FOUND, "QUOTE_NOT_FOUND"

    def __init__(self, quote_id: UUID) -> None:
        """Name the id."""
        super().__init__(f"There is no quote {quote_id}.")


class QuoteExpiredError(CheckoutError):
    """The quote's time is over."""

    kind, reason = ErrorKind.REFUSED, "QUOTE_EXPIRED"

    def __init__(self, expire_time: dt.datetime) -> None:
        """Say since when."""
        super().__init__("The quote has expired; have a new one made.", expire_time=expire_time.isoformat())


class QuoteAlreadyUsedError(CheckoutError):
    """An order that is not rejected has the quote."""

    kind, reason = ErrorKind.REFUSED, "QUOTE_ALREADY_USED"

    def __init__(self, order_id: UUID) -> None:
        """Name the order."""
        super().__init__("The quote is ordered already.", order_id=str(order_id))


class ShippingAddressMismatchError(CheckoutError):
    """The address is not the quote's."""

    kind, reason = ErrorKind.REFUSED, "SHIPPING_ADDRESS_MISMATCH"

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__("The shipping address is not the quote's; have a quote made for this address.")


class CoordinationUnavailableError(CheckoutError):
    """The coordination asked for is not switched on."""

    kind, reason = ErrorKind.REFUSED, "COORDINATION_UNAVAILABLE"

    def __init__(self, coordination: Coordination) -> None:
        """Name it."""
        super().__init__(f"{coordination.name} is not switched on here.")


class OrderRejectedError(CheckoutError):
    """The order was refused and is kept as REJECTED; nothing is charged. Its reason is the rejection's."""

    kind = ErrorKind.REFUSED

    def __init__(self, order_id: UUID, rejection: Rejection) -> None:
        """Say why, and which order it was."""
        super().__init__(_SENTENCES[rejection.reason], **rejection.metadata, order_id=str(order_id))
        self.reason = rejection.reason.value


_SENTENCES: Final = {
    RejectionReason.OUT_OF_STOCK: "Too few pieces are available; nothing was charged.",
    RejectionReason.CARD_DECLINED: "The card was declined; another one may do. Nothing was charged.",
    RejectionReason.INSUFFICIENT_FUNDS: "The account does not hold enough; another card may do. Nothing was charged.",
    RejectionReason.PAYMENT_METHOD_INVALID: "The payment method cannot be used. Nothing was charged.",
    RejectionReason.AUTHORIZATION_LAPSED: "The hold on the card lapsed. Nothing was charged.",
    RejectionReason.ORDER_TIMED_OUT: "The order could not be decided in time. Nothing was charged.",
    RejectionReason.STEP_REFUSED: "A service refused a step of the order. Nothing was charged.",
}


def check(request: Placement, quote: Quote, now: dt.datetime) -> CheckoutError | None:
    """Judge whether a quote can be ordered; None: yes. This is the only time its expiry is judged."""
    if request.coordination is Coordination.CHOREOGRAPHY:
        return CoordinationUnavailableError(request.coordination)
    if quote.expire_time <= now:
        return QuoteExpiredError(quote.expire_time)
    if quote.shipping_address != request.shipping_address:
        return ShippingAddressMismatchError()
    return None


def rejection_for(step: str, reason: str, metadata: Mapping[str, str]) -> Rejection:
    """Turn a participant's refusal of a step into the reason that the customer gets.

    Only stock's metadata goes on to the customer: sku, requested and available.
    """
    if reason == RejectionReason.OUT_OF_STOCK:
        known = {key: metadata[key] for key in ("sku", "requested", "available") if key in metadata}
        return Rejection(RejectionReason.OUT_OF_STOCK, known)
    if reason == "VALID_UNTIL_PASSED":
        return Rejection(RejectionReason.ORDER_TIMED_OUT)
    if reason in set(RejectionReason):
        return Rejection(RejectionReason(reason))
    return Rejection(RejectionReason.STEP_REFUSED, {"step": step})
