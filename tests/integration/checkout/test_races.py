"""Many customers at once: stock is never sold twice, and one key is one order."""

import asyncio

from libretto.checkout.v1 import checkout_service_pb2 as pb
from libretto.checkout.v1.order_pb2 import OrderState

from tests.integration.checkout import shopping
from tests.integration.checkout.shopping import outcome, place_request, quoted, stocked
from tests.rpc import refusal
from tests.shop import Shop

CALLERS = 50
PIECES = 10


async def test_fifty_customers_at_once_buy_the_last_ten_pieces(shop: Shop) -> None:
    """Ten are confirmed and forty are out of stock; ten captures stand in the processor's own ledger."""
    product = await stocked(shop, PIECES)
    quotes = await asyncio.gather(*(quoted(shop, product) for _ in range(CALLERS)))
    requests = [place_request(quote) for quote in quotes]
    stats = shop.running["checkout"].stats
    stats.peak_open_calls = 0
    calls = [shop.checkout.PlaceOrder(request, timeout=2 * shopping.WAIT_SECONDS) for request in requests]
    codes = [(await call.code()).name for call in calls]
    assert (codes.count("OK"), codes.count("FAILED_PRECONDITION")) == (PIECES, CALLERS - PIECES)
    refusals = [await refusal(call) for call, code in zip(calls, codes, strict=True) if code != "OK"]
    assert {refused.reason for refused in refusals} == {"OUT_OF_STOCK"}
    assert stats.peak_open_calls >= 20

    confirmed = [(await call).order for call, code in zip(calls, codes, strict=True) if code == "OK"]
    assert {order.state for order in confirmed} == {OrderState.ORDER_STATE_CONFIRMED}
    for order in confirmed:
        await shopping.completed(shop, order.order_id)
        assert await shopping.ledger(shop, order) == [("authorized", 1250), ("captured", 1250)]
    for refused in refusals:
        order = await shopping.order(shop, refused.metadata["order_id"])
        await shopping.ledger_becomes(shop, order, [("authorized", 1250), ("voided", 1250)])
    assert await shopping.stock(shop, product.sku) == (0, 0, PIECES)


async def test_fifty_callers_with_one_request_id_get_one_order(shop: Shop) -> None:
    """One order, one capture, and fifty answers that are equal byte for byte."""
    product = await stocked(shop, CALLERS)
    quote = await quoted(shop, product)
    request = place_request(quote)
    answers = await asyncio.gather(*(outcome(shop, request) for _ in range(CALLERS)))
    assert len(set(answers)) == 1
    order = pb.PlaceOrderResponse.FromString(answers[0]).order
    assert order.state == OrderState.ORDER_STATE_CONFIRMED
    await shopping.completed(shop, order.order_id)
    assert await shopping.orders_of_quote(shop, quote) == [order.order_id]
    assert await shopping.ledger(shop, order) == [("authorized", 1250), ("captured", 1250)]
    assert await shopping.stock(shop, product.sku) == (CALLERS - 1, 0, 1)


async def test_customers_with_one_quote_at_once_get_one_order(shop: Shop) -> None:
    """One is confirmed; the others, each with a key of its own, learn which order has the quote."""
    quote = await quoted(shop, await stocked(shop, CALLERS))
    calls = [shop.checkout.PlaceOrder(place_request(quote), timeout=shopping.WAIT_SECONDS) for _ in range(10)]
    codes = [(await call.code()).name for call in calls]
    assert codes.count("OK") == 1
    order = (await calls[codes.index("OK")]).order
    refusals = [await refusal(call) for call, code in zip(calls, codes, strict=True) if code != "OK"]
    assert {(refused.reason, refused.metadata["order_id"]) for refused in refusals} == {
        ("QUOTE_ALREADY_USED", order.order_id)
    }


async def test_a_sold_out_product_does_not_hold_up_other_orders(shop: Shop) -> None:
    """Orders of different products, some refused, all in one crowd."""
    scarce, plenty = await stocked(shop, 1), await stocked(shop, 20)
    quotes = [await quoted(shop, product) for product in (scarce, plenty) for _ in range(10)]
    outcomes = await asyncio.gather(*(outcome(shop, place_request(quote)) for quote in quotes))
    assert len(set(outcomes)) == 20
    assert await shopping.stock(shop, plenty.sku) in {(10, reserved, 10 - reserved) for reserved in range(11)}
