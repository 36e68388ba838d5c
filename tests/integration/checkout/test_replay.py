"""A request_id gets one verdict: the same bytes whenever it comes again, and none for a request that is another."""

from typing import Any

import pytest
from google.type.postal_address_pb2 import PostalAddress
from libretto.checkout.v1 import checkout_service_pb2 as pb
from libretto.checkout.v1.order_pb2 import Coordination, Customer, OrderState

from tests.integration.checkout import shopping
from tests.integration.checkout.shopping import EMAIL, outcome, place_request, placed, quoted, stocked, undone
from tests.rpc import new_uuid, refusal
from tests.shop import Shop


async def test_a_confirmation_is_answered_again_byte_for_byte_when_the_order_is_completed(shop: Shop) -> None:
    """The verdict shows the order as it was confirmed; nothing is booked a second time."""
    product = await stocked(shop, 5)
    request = place_request(await quoted(shop, product))
    first = await outcome(shop, request)
    order = pb.PlaceOrderResponse.FromString(first).order
    await shopping.completed(shop, order.order_id)
    assert [await outcome(shop, request) for _ in range(3)] == [first] * 3
    assert order.state == OrderState.ORDER_STATE_CONFIRMED
    assert await shopping.stock(shop, product.sku) == (4, 0, 1)
    assert await shopping.ledger(shop, order) == [("authorized", 1250), ("captured", 1250)]


async def test_a_rejection_is_answered_again_byte_for_byte_when_the_goods_are_there(shop: Shop) -> None:
    """Also after the quote was paid by another request."""
    product = await stocked(shop, 1)
    quote = await quoted(shop, product)
    request = place_request(quote, "tok_declined")
    first = await outcome(shop, request)
    await placed(shop, place_request(quote))
    assert [await outcome(shop, request) for _ in range(3)] == [first] * 3
    assert len(await shopping.orders_of_quote(shop, quote)) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"quote_id": "5b0c1f1e-0000-4000-8000-000000000000"},
        {"coordination": Coordination.COORDINATION_CHOREOGRAPHY},
        {"shipping_address": PostalAddress(region_code="DE", address_lines=["Elsewhere 1"])},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_a_refusal_before_placing_is_answered_again_byte_for_byte(shop: Shop, changes: dict[str, Any]) -> None:
    """Every refusal of the domain is a verdict, also one that left no order behind."""
    request = place_request(await quoted(shop, await stocked(shop, 1)), **changes)
    first = await outcome(shop, request)
    assert [await outcome(shop, request) for _ in range(3)] == [first] * 3


async def test_a_used_quote_stays_used_for_the_key_that_was_told_so(shop: Shop) -> None:
    """Even when the order that had it was rejected afterwards: another key finds the quote free."""
    quote = await quoted(shop, await stocked(shop, 1))
    async with shopping.stock_held(shop, quote.lines[0].sku):
        live = await placed(shop, place_request(quote, "tok_declined"), 0.5)
        request = place_request(quote)
        told = await refusal(shop.checkout.PlaceOrder(request))
    await undone(shop, live.order_id)
    again = await refusal(shop.checkout.PlaceOrder(request))
    assert (told.reason, told.metadata) == ("QUOTE_ALREADY_USED", {"order_id": live.order_id})
    assert again.status == told.status
    assert (await placed(shop, place_request(quote))).state == OrderState.ORDER_STATE_CONFIRMED


@pytest.mark.parametrize("token", ["tok_succeeds", "tok_declined"])
async def test_a_key_that_comes_with_another_request_is_refused_and_changes_nothing(shop: Shop, token: str) -> None:
    """Whatever field differs, and whatever the verdict was; the first request still gets it."""
    quote = await quoted(shop, await stocked(shop, 5))
    request = place_request(quote, token)
    first = await outcome(shop, request)
    for changes in (
        {"quote_id": new_uuid()},
        {"customer": Customer(customer_id="bea", email=EMAIL, locale="de-DE")},
        {"customer": Customer(customer_id="ada", email="bea@example.com", locale="de-DE")},
        {"payment_method_token": "tok_slow"},
        {"shipping_address": PostalAddress(region_code="DE", address_lines=["Elsewhere 1"])},
        {"coordination": Coordination.COORDINATION_ORCHESTRATION},
    ):
        other = place_request(quote, token, **{"request_id": request.request_id, **changes})
        assert (await refusal(shop.checkout.PlaceOrder(other))).reason == "REQUEST_ID_REUSED"
    assert await outcome(shop, request) == first
    assert len(await shopping.orders_of_quote(shop, quote)) == 1


async def test_the_same_request_written_otherwise_is_the_same_request(shop: Shop) -> None:
    """Fingerprints are taken over what a request means: an id in capitals, a default that is left out."""
    request = place_request(await quoted(shop, await stocked(shop, 5)))
    request.customer.locale = "en"
    first = await outcome(shop, request)
    request.quote_id = request.quote_id.upper()
    request.customer.locale = ""
    assert await outcome(shop, request) == first
