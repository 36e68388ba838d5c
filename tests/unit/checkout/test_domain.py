"""How orders are numbered and named, when a quote can be ordered, and which reason the customer gets."""

import datetime as dt
import random
from dataclasses import replace
from uuid import UUID

import pytest

from services.checkout.domain import (
    CheckoutError,
    Coordination,
    CoordinationUnavailableError,
    Customer,
    OrderRejectedError,
    OrderState,
    Placement,
    Quote,
    QuoteExpiredError,
    Rejection,
    RejectionReason,
    ShippingAddressMismatchError,
    check,
    is_order_number,
    order_number,
    rejection_for,
)
from services.common.values import Money
from tests.fakes.checkout import ADDRESS, EMAIL, TOKEN, new_order
from tests.fakes.clock import VirtualClock, in_virtual_time

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
QUOTE = Quote(UUID(int=7), (), Money("EUR", 2500), ADDRESS, NOW + dt.timedelta(minutes=15))
PLACEMENT = Placement(QUOTE.quote_id, Customer("ada", EMAIL, "en"), TOKEN, ADDRESS, None)


def any_id(seed: int) -> UUID:
    """Make an id out of a seed."""
    return UUID(int=random.Random(seed).getrandbits(128))  # noqa: S311 - a test's ids guard nothing.


@pytest.mark.parametrize("seed", range(20))
def test_every_single_wrong_character_of_an_order_number_is_found(seed: int) -> None:
    """The check character tells a number from each of the 341 that differ in one place, itself included."""
    number = order_number(any_id(seed))
    assert is_order_number(number)
    assert not [
        slip
        for place, right in enumerate(number)
        if right != "-"
        for wrong in ALPHABET
        if wrong != right and is_order_number(slip := number[:place] + wrong + number[place + 1 :])
    ]


def test_an_order_number_is_eleven_characters_in_groups_made_of_the_order_id_alone() -> None:
    """The contract's form, the same each time, and the last fifty bits of the id tell numbers apart."""
    number = order_number(any_id(1))
    assert [len(group) for group in number.split("-")] == [4, 4, 3]
    assert number == order_number(any_id(1))
    assert len({order_number(UUID(int=any_id(1).int ^ (1 << bit))) for bit in range(50)} - {number}) == 50


@pytest.mark.parametrize("text", ["", "-", "0000-0000-0000", "0000-0000-0U0", "0000-0000-00o", "00000000001"])
def test_a_text_of_another_form_is_no_order_number(text: str) -> None:
    """Too short, too long, a letter that looks like another, or a wrong check character."""
    assert not is_order_number(text)


@in_virtual_time
async def test_what_belongs_to_an_order_has_ids_that_follow_from_the_orders() -> None:
    """The reservation's and the payment's ids differ from each other and from the order's, and never change."""
    order = new_order(VirtualClock())
    again = replace(order, state=OrderState.CONFIRMED, payment_method_token=None)
    assert (order.reservation_id, order.payment_id) == (again.reservation_id, again.payment_id)
    assert len({order.order_id, order.reservation_id, order.payment_id}) == 3


@in_virtual_time
async def test_the_trace_id_is_the_second_part_of_the_traceparent() -> None:
    """An order that was placed outside any trace has none."""
    order = new_order(VirtualClock())
    traced = replace(order, trace_context={"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"})
    assert (traced.trace_id, order.trace_id) == ("ab" * 16, "")


@in_virtual_time
async def test_the_token_is_gone_from_an_order_whose_outcome_is_decided() -> None:
    """Confirmed or rejected, and in no text that shows the order, as little as the e-mail address or the street."""
    order = new_order(VirtualClock())
    later = order.create_time + dt.timedelta(seconds=1)
    confirmed = order.confirmed(later)
    rejected = order.rejected(Rejection(RejectionReason.CARD_DECLINED), later)
    assert (confirmed.state, confirmed.update_time, confirmed.payment_method_token) == (
        OrderState.CONFIRMED,
        later,
        None,
    )
    assert (rejected.state, rejected.update_time, rejected.payment_method_token) == (OrderState.REJECTED, later, None)
    assert not [secret for secret in (TOKEN, EMAIL, "Ring 1") if secret in repr(order)]


def test_a_quote_of_the_same_address_that_has_time_left_can_be_ordered() -> None:
    """With orchestration, by name or as the default."""
    assert check(PLACEMENT, QUOTE, NOW) is None
    assert check(replace(PLACEMENT, coordination=Coordination.ORCHESTRATION), QUOTE, NOW) is None


@pytest.mark.parametrize(
    ("request_changes", "now", "refusal"),
    [
        ({"coordination": Coordination.CHOREOGRAPHY}, NOW, CoordinationUnavailableError),
        ({}, QUOTE.expire_time, QuoteExpiredError),
        ({}, QUOTE.expire_time + dt.timedelta(days=1), QuoteExpiredError),
        ({"shipping_address": replace(ADDRESS, locality="Graz")}, NOW, ShippingAddressMismatchError),
        ({"shipping_address": replace(ADDRESS, recipients=())}, NOW, ShippingAddressMismatchError),
    ],
)
def test_a_quote_that_cannot_be_ordered_is_refused(
    request_changes: dict[str, object], now: dt.datetime, refusal: type[CheckoutError]
) -> None:
    """The moment at which it expires is too late, and every field of the address counts."""
    assert isinstance(check(replace(PLACEMENT, **request_changes), QUOTE, now), refusal)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reason", "metadata", "expected"),
    [
        (
            "OUT_OF_STOCK",
            {"sku": "MUG", "requested": "2", "available": "1", "shelf": "7"},
            Rejection(RejectionReason.OUT_OF_STOCK, {"sku": "MUG", "requested": "2", "available": "1"}),
        ),
        ("CARD_DECLINED", {"payment_id": "7"}, Rejection(RejectionReason.CARD_DECLINED)),
        ("INSUFFICIENT_FUNDS", {}, Rejection(RejectionReason.INSUFFICIENT_FUNDS)),
        ("PAYMENT_METHOD_INVALID", {}, Rejection(RejectionReason.PAYMENT_METHOD_INVALID)),
        ("AUTHORIZATION_LAPSED", {}, Rejection(RejectionReason.AUTHORIZATION_LAPSED)),
        ("VALID_UNTIL_PASSED", {}, Rejection(RejectionReason.ORDER_TIMED_OUT)),
        ("PAYMENT_ID_TAKEN", {"payment_id": "7"}, Rejection(RejectionReason.STEP_REFUSED, {"step": "a_step"})),
        ("UNIMPLEMENTED", {}, Rejection(RejectionReason.STEP_REFUSED, {"step": "a_step"})),
    ],
)
def test_a_refused_step_becomes_a_reason_that_the_customer_understands(
    reason: str, metadata: dict[str, str], expected: Rejection
) -> None:
    """With what one needs to go on and nothing else; what no customer can mend names the step only."""
    assert rejection_for("a_step", reason, metadata) == expected


@pytest.mark.parametrize("reason", RejectionReason)
def test_every_rejection_has_a_sentence_a_reason_and_the_orders_id(reason: RejectionReason) -> None:
    """As the error that the caller gets."""
    order_id = any_id(3)
    error = OrderRejectedError(order_id, Rejection(reason, {"sku": "MUG"}))
    assert error.message.endswith("othing was charged.")
    assert (error.reason, error.metadata) == (reason.value, {"sku": "MUG", "order_id": str(order_id)})
