"""Orders that are paid: what the customer is answered, what is booked where, and what is there when all is done."""

import pytest
from google.type.money_pb2 import Money
from libretto.checkout.v1.order_pb2 import Coordination, Order, OrderState
from libretto.payment.v1.payment_pb2 import PaymentState

from services.checkout.domain import is_order_number
from tests.integration.checkout import shopping
from tests.integration.checkout.shopping import completed, place_request, placed, quoted, stocked
from tests.integration.pricing.quotes import line, request_for
from tests.shop import Shop

CONFIRMED, COMPLETED = OrderState.ORDER_STATE_CONFIRMED, OrderState.ORDER_STATE_COMPLETED


async def test_an_order_is_confirmed_when_it_is_paid(shop: Shop) -> None:
    """It holds what was quoted, the customer, and the ids under which stock and money are booked."""
    product = await stocked(shop, 5)
    quote = await quoted(shop, product, 2)
    request = place_request(quote)
    order = await placed(shop, request)
    assert order.state == CONFIRMED
    assert (order.quote_id, order.total, order.shipping_address) == (
        quote.quote_id,
        quote.total,
        quote.shipping_address,
    )
    assert [(item.sku, item.quantity, item.line_total) for item in order.lines] == [(product.sku, 2, quote.total)]
    assert order.customer == request.customer
    assert is_order_number(order.number)
    assert order.coordination == Coordination.COORDINATION_ORCHESTRATION
    assert order.create_time.ToDatetime() < order.update_time.ToDatetime()
    assert not order.HasField("rejection")
    assert not order.needs_attention


async def test_a_paid_order_is_completed_behind_the_answer(shop: Shop) -> None:
    """Stock is sold, money is captured once, and nothing dangles: in our books and in the processor's own."""
    product = await stocked(shop, 5)
    order = await placed(shop, place_request(await quoted(shop, product, 2)))
    assert (await completed(shop, order.order_id)).state == COMPLETED
    assert await shopping.stock(shop, product.sku) == (3, 0, 2)
    assert await shopping.reservation_state(shop, order) == "COMMITTED"
    payment = await shopping.payment(shop, order)
    assert payment.state == PaymentState.PAYMENT_STATE_CAPTURED
    assert payment.amount == payment.captured_amount == order.total
    assert (payment.order_id, payment.payment_id) == (order.order_id, order.payment_id)
    assert await shopping.ledger(shop, order) == [("authorized", 2500), ("captured", 2500)]


async def test_a_completed_order_differs_from_its_confirmation_in_state_and_time_only(shop: Shop) -> None:
    """GetOrder shows the present."""
    order = await placed(shop, place_request(await quoted(shop, await stocked(shop, 1))))
    now = await completed(shop, order.order_id)
    assert now.update_time.ToDatetime() >= order.update_time.ToDatetime()
    expected = Order()
    expected.CopyFrom(order)
    expected.state = COMPLETED
    expected.update_time.CopyFrom(now.update_time)
    assert now == expected


async def test_the_journal_tells_the_story_of_an_order(shop: Shop) -> None:
    """The steps beside each other in either order, the others in the table's; its row says the same."""
    order = await placed(shop, place_request(await quoted(shop, await stocked(shop, 1))))
    await completed(shop, order.order_id)
    story = await shopping.journal(shop, order.order_id)
    assert sorted(story[1:3]) == ["DONE authorize_payment", "DONE reserve_stock"]
    assert [story[0], *story[3:]] == [
        "PLACED",
        "DONE capture_payment",
        "CONFIRMED",
        "DONE commit_reservation",
        "COMPLETED",
    ]


async def test_an_order_of_several_products_is_one_payment_and_one_reservation(shop: Shop) -> None:
    """All lines in the order of the quote, and the total is their sum."""
    products = [await stocked(shop, 10, list_price=Money(currency_code="EUR", units=units)) for units in (3, 1, 2)]
    lines = [line(product, quantity) for quantity, product in enumerate(products, 1)]
    quote = (await shop.pricing.CreateQuote(request_for(*lines))).quote
    order = await placed(shop, place_request(quote))
    assert [(item.sku, item.line_total.units) for item in order.lines] == [
        (product.sku, units) for product, units in zip(products, (3, 2, 6), strict=True)
    ]
    assert order.total.units == 11
    await completed(shop, order.order_id)
    assert [await shopping.stock(shop, product.sku) for product in products] == [(9, 0, 1), (8, 0, 2), (7, 0, 3)]


@pytest.mark.parametrize("token", ["tok_slow", "tok_slow_capture", "tok_lost_reply", "tok_lost_capture"])
async def test_a_processor_that_is_slow_or_fails_to_answer_takes_the_money_once(shop: Shop, token: str) -> None:
    """The same authorisation is looked up again, never a new one made."""
    product = await stocked(shop, 1)
    order = await placed(shop, place_request(await quoted(shop, product), token))
    assert order.state == CONFIRMED
    assert await shopping.ledger(shop, order) == [("authorized", 1250), ("captured", 1250)]
    await completed(shop, order.order_id)
    assert await shopping.stock(shop, product.sku) == (0, 0, 1)


async def test_an_order_that_costs_nothing_is_paid_without_the_processor(shop: Shop) -> None:
    """Every order has a payment, which decides about it; the processor never hears of this one."""
    product = await stocked(shop, 1, list_price=Money(currency_code="EUR"))
    order = await placed(shop, place_request(await quoted(shop, product)))
    assert order.state == CONFIRMED
    assert await shopping.payment_state(shop, order) == "CAPTURED"
    assert await shopping.ledger(shop, order) == []
    await completed(shop, order.order_id)


@pytest.mark.parametrize(
    "coordination", [Coordination.COORDINATION_UNSPECIFIED, Coordination.COORDINATION_ORCHESTRATION]
)
async def test_unspecified_coordination_is_the_servers_default(
    shop: Shop, coordination: "Coordination.ValueType"
) -> None:
    """Both names lead to the same, and the order says which it was."""
    quote = await quoted(shop, await stocked(shop, 1))
    order = await placed(shop, place_request(quote, coordination=coordination))
    assert (order.state, order.coordination) == (CONFIRMED, Coordination.COORDINATION_ORCHESTRATION)


async def test_a_customer_without_a_locale_is_written_to_in_english(shop: Shop) -> None:
    """The contract's default."""
    request = place_request(await quoted(shop, await stocked(shop, 1)))
    request.customer.locale = ""
    assert (await placed(shop, request)).customer.locale == "en"
