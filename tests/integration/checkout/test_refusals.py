"""Orders that are refused: with which reason, what is kept of them, and that nothing is booked or held."""

import datetime as dt

import grpc
import pytest
from google.type.postal_address_pb2 import PostalAddress
from libretto.checkout.v1 import checkout_service_pb2 as pb
from libretto.checkout.v1 import errors_pb2
from libretto.checkout.v1.order_pb2 import Coordination, Order, OrderState
from libretto.pricing.v1.quote_pb2 import Quote

from tests.integration.card_processor import Processor
from tests.integration.checkout import shopping
from tests.integration.checkout.shopping import place_request, placed, quoted, stocked, undone
from tests.rpc import Refusal, new_uuid, refusal
from tests.shop import Shop, open_shop

REFUSED = grpc.StatusCode.FAILED_PRECONDITION


async def rejected(shop: Shop, request: pb.PlaceOrderRequest) -> tuple[Refusal, Order]:
    """Place an order that is refused and kept; returns the refusal, and the order once all is undone."""
    refused = await refusal(shop.checkout.PlaceOrder(request, timeout=shopping.WAIT_SECONDS))
    assert (refused.code, refused.domain) == (REFUSED, "checkout.libretto")
    await undone(shop, refused.metadata["order_id"])
    order = await shopping.order(shop, refused.metadata["order_id"])
    assert order.state == OrderState.ORDER_STATE_REJECTED
    assert order.rejection.reason == errors_pb2.ErrorReason.Value(f"ERROR_REASON_{refused.reason}")
    assert {**order.rejection.metadata, "order_id": order.order_id} == refused.metadata
    assert await shopping.reservation_state(shop, order) == "RELEASED"
    assert not order.needs_attention
    return refused, order


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("tok_declined", "CARD_DECLINED"),
        ("tok_insufficient_funds", "INSUFFICIENT_FUNDS"),
        ("tok_of_nobody", "PAYMENT_METHOD_INVALID"),
    ],
)
async def test_a_refused_card_rejects_the_order_and_gives_the_stock_back(shop: Shop, token: str, reason: str) -> None:
    """The order is kept with the reason; at the processor nothing is held."""
    product = await stocked(shop, 3)
    refused, order = await rejected(shop, place_request(await quoted(shop, product, 2), token))
    assert (refused.reason, set(refused.metadata)) == (reason, {"order_id"})
    assert await shopping.stock(shop, product.sku) == (3, 0, 0)
    assert await shopping.payment_state(shop, order) == "DECLINED"
    assert [kind for kind, _ in await shopping.ledger(shop, order)] == ["declined"]


async def test_sold_out_rejects_the_order_and_releases_the_hold_on_the_card(shop: Shop) -> None:
    """The refusal says what is missing; the processor cancels the hold behind the answer."""
    product = await stocked(shop, 1)
    refused, order = await rejected(shop, place_request(await quoted(shop, product, 2)))
    assert refused.reason == "OUT_OF_STOCK"
    assert refused.metadata == {
        "order_id": order.order_id,
        "sku": product.sku,
        "requested": "2",
        "available": "1",
    }
    assert await shopping.stock(shop, product.sku) == (1, 0, 0)
    assert await shopping.payment_state(shop, order) == "VOIDED"
    await shopping.ledger_becomes(shop, order, [("authorized", 2500), ("voided", 2500)])


async def test_a_product_that_never_came_in_is_out_of_stock(shop: Shop) -> None:
    """Its SKU is not known to inventory; the customer needs to know no more than that there is none."""
    product = await stocked(shop, 0)
    refused, _ = await rejected(shop, place_request(await quoted(shop, product)))
    assert (refused.reason, refused.metadata["sku"]) == ("OUT_OF_STOCK", product.sku)


async def test_stock_and_card_both_refused_is_out_of_stock(shop: Shop) -> None:
    """The first row of the table gives the reason: another card would not help."""
    refused, order = await rejected(shop, place_request(await quoted(shop, await stocked(shop, 1), 2), "tok_declined"))
    assert refused.reason == "OUT_OF_STOCK"
    assert await shopping.payment_state(shop, order) == "DECLINED"


async def test_the_journal_of_a_rejected_order_voids_first_and_releases_last(shop: Shop) -> None:
    """The rejection stands between the payment's verdict and any other undo."""
    _, order = await rejected(shop, place_request(await quoted(shop, await stocked(shop, 1), 2)))
    story = await shopping.journal(shop, order.order_id)
    assert sorted(story[1:3]) == ["DONE authorize_payment", "REFUSED reserve_stock OUT_OF_STOCK"]
    assert [story[0], *story[3:]] == [
        "PLACED",
        "UNDONE void_payment",
        "REJECTED OUT_OF_STOCK",
        "UNDONE release_reservation",
        "CLOSED",
    ]


async def test_after_a_rejection_the_same_quote_is_paid_with_another_card(shop: Shop) -> None:
    """By a new request; both orders are kept, and each has a payment of its own."""
    quote = await quoted(shop, await stocked(shop, 1))
    _, first = await rejected(shop, place_request(quote, "tok_declined"))
    second = await placed(shop, place_request(quote))
    assert second.state == OrderState.ORDER_STATE_CONFIRMED
    assert await shopping.orders_of_quote(shop, quote) == [first.order_id, second.order_id]
    assert first.payment_id != second.payment_id
    assert await shopping.payment_state(shop, second) == "CAPTURED"


async def test_an_order_that_cannot_be_decided_in_time_is_rejected_and_nothing_is_held(impatient: Shop) -> None:
    """The processor does not answer; the void is a promise, so the order need not wait for it either."""
    product = await stocked(impatient, 1)
    refused, order = await rejected(impatient, place_request(await quoted(impatient, product), "tok_unavailable"))
    assert (refused.reason, set(refused.metadata)) == ("ORDER_TIMED_OUT", {"order_id"})
    assert await shopping.payment_state(impatient, order) == "VOIDED"
    assert await shopping.stock(impatient, product.sku) == (1, 0, 0)


async def test_a_quote_that_a_live_order_has_is_refused_with_that_order(shop: Shop) -> None:
    """A second click with a new key, and again when the order is long completed."""
    quote = await quoted(shop, await stocked(shop, 5))
    order = await placed(shop, place_request(quote))
    for _ in range(2):
        refused = await refusal(shop.checkout.PlaceOrder(place_request(quote)))
        assert (refused.code, refused.reason) == (REFUSED, "QUOTE_ALREADY_USED")
        assert refused.metadata == {"order_id": order.order_id}
        await shopping.completed(shop, order.order_id)
    assert await shopping.orders_of_quote(shop, quote) == [order.order_id]


async def unbooked(shop: Shop, quote: Quote, request: pb.PlaceOrderRequest) -> Refusal:
    """Place an order that is refused before anything is booked: no order, and the stock as it was."""
    refused = await refusal(shop.checkout.PlaceOrder(request))
    assert await shopping.orders_of_quote(shop, quote) == []
    assert await shopping.stock(shop, quote.lines[0].sku) == (1, 0, 0)
    return refused


async def test_another_address_than_the_quotes_is_refused(shop: Shop) -> None:
    """In any field: tax and shipping were computed for the quote's."""
    quote = await quoted(shop, await stocked(shop, 1))
    address = PostalAddress()
    address.CopyFrom(quote.shipping_address)
    address.postal_code = "10999"
    refused = await unbooked(shop, quote, place_request(quote, shipping_address=address))
    assert (refused.code, refused.reason) == (REFUSED, "SHIPPING_ADDRESS_MISMATCH")


async def test_a_quote_whose_time_is_over_is_refused(shop: Shop) -> None:
    """The metadata says since when."""
    quote = await quoted(shop, await stocked(shop, 1))
    set_back = (
        "UPDATE quotes SET create_time = $2::timestamptz - interval '1 hour', expire_time = $2 WHERE quote_id = $1"
    )
    passed = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    await shopping.execute(shop, "pricing", set_back, quote.quote_id, passed)
    refused = await unbooked(shop, quote, place_request(quote))
    assert (refused.code, refused.reason) == (REFUSED, "QUOTE_EXPIRED")
    assert refused.metadata == {"expire_time": passed.isoformat()}


async def test_a_coordination_that_is_not_switched_on_is_refused(shop: Shop) -> None:
    """Choreography, so far."""
    quote = await quoted(shop, await stocked(shop, 1))
    request = place_request(quote, coordination=Coordination.COORDINATION_CHOREOGRAPHY)
    refused = await unbooked(shop, quote, request)
    assert (refused.code, refused.reason) == (REFUSED, "COORDINATION_UNAVAILABLE")


async def test_a_quote_that_does_not_exist_is_not_found(shop: Shop) -> None:
    """As an order's request: the id is fine, and there is nothing under it."""
    quote = await quoted(shop, await stocked(shop, 1))
    refused = await unbooked(shop, quote, place_request(quote, quote_id=new_uuid()))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "QUOTE_NOT_FOUND")


async def test_more_orders_than_may_run_at_once_are_refused_before_anything_is_booked(
    postgres_url: str, processor: Processor, shop: Shop
) -> None:
    """OVERLOADED with a wait, and no verdict: the same request succeeds when there is room."""
    async with shopping.beside(postgres_url, processor, shop, saga_limit="0") as full:
        quote = await quoted(full, await stocked(full, 1))
        refused = await unbooked(full, quote, place_request(quote))
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert refused.retry_after_seconds == 1.0


async def test_without_pricing_nothing_is_placed_and_the_key_stays_new(
    postgres_url: str, processor: Processor, shop: Shop
) -> None:
    """DEPENDENCY_UNAVAILABLE is no verdict."""
    quote = await quoted(shop, await stocked(shop, 1))
    request = place_request(quote)
    async with open_shop(postgres_url, processor, ("checkout",)) as alone:
        refused = await refusal(alone.checkout.PlaceOrder(request))
        async with alone.databases["checkout"].connection() as connection:
            assert await connection.fetchval("SELECT count(*) FROM request_keys") == 0
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")
    assert refused.retry_after_seconds is not None
