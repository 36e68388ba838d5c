"""What identifies a person, and the payment method's token, stand where they must and nowhere else."""

import json

import pytest
from google.type.postal_address_pb2 import PostalAddress
from libretto.checkout.v1.order_pb2 import Customer
from structlog.testing import capture_logs

from tests.integration.checkout import shopping
from tests.integration.checkout.shopping import outcome, place_request, stocked
from tests.integration.pricing.quotes import line, request_for
from tests.rpc import refusal
from tests.shop import Shop

EMAIL = "only.in.the.orders.row@example.com"
STREET, NAME = "Street of the orders row 7", "Name in the orders row"
TOKENS = ["tok_succeeds", "tok_declined", "tok_that_nobody_may_see", "tok_lost_reply"]


@pytest.mark.parametrize("token", TOKENS)
async def test_no_log_span_or_journal_entry_names_a_person_or_a_token(shop: Shop, token: str) -> None:
    """Of an order that is paid, of one whose card is refused, and of one that is asked for twice."""
    secrets = (EMAIL, STREET, NAME, token)
    product = await stocked(shop, 1)
    address = PostalAddress(region_code="DE", address_lines=[STREET], recipients=[NAME])
    quote = (await shop.pricing.CreateQuote(request_for(line(product), shipping_address=address))).quote
    request = place_request(quote, token, customer=Customer(customer_id="ada", email=EMAIL))
    with capture_logs() as logs:
        call = shop.checkout.PlaceOrder(request, timeout=shopping.WAIT_SECONDS)
        paid = (await call.code()).name == "OK"
        order_id = (await call).order.order_id if paid else (await refusal(call)).metadata["order_id"]
        await (shopping.completed if paid else shopping.undone)(shop, order_id)
        answer = await outcome(shop, request)
    assert not [entry for entry in logs for secret in secrets if secret in str(entry)]

    trace_id = int((await shopping.order(shop, order_id)).trace_id, 16)
    spans = [span.to_json() for span in shop.spans.get_finished_spans() if span.context.trace_id == trace_id]
    assert len(spans) > 10
    assert not [span for span in spans for secret in secrets if secret in span]

    async with shop.databases["checkout"].connection() as connection:
        entries = await connection.fetch("SELECT j::text AS entry FROM journal AS j WHERE order_id = $1", order_id)
        (order,) = await connection.fetch("SELECT o::text AS order FROM orders AS o WHERE order_id = $1", order_id)
    assert not [row["entry"] for row in entries for secret in secrets if secret in row["entry"]]
    assert EMAIL in order["order"]
    assert token not in order["order"]
    assert token.encode() not in answer


async def test_a_token_is_in_no_answer_while_its_order_is_under_way(shop: Shop) -> None:
    """The row still needs it; nobody is shown it, and an unexpected log of the order would not hold it."""
    product = await stocked(shop, 1)
    quote = (await shop.pricing.CreateQuote(request_for(line(product)))).quote
    async with shopping.stock_held(shop, product.sku):
        order = await shopping.placed(shop, place_request(quote, "tok_slow"), 0.5)
        async with shop.databases["checkout"].connection() as connection:
            token = await connection.fetchval(
                "SELECT payment_method_token FROM orders WHERE order_id = $1", order.order_id
            )
        shown = await shopping.order(shop, order.order_id)
    assert token == "tok_slow"  # noqa: S105 - a test token.
    assert "tok_slow" not in str(order) + str(shown)


async def test_a_card_number_is_refused_before_anything_is_kept_and_not_repeated(shop: Shop) -> None:
    """Card numbers never enter."""
    number = "4111111111111111"
    quote = (await shop.pricing.CreateQuote(request_for(line(await stocked(shop, 1))))).quote
    with capture_logs() as logs:
        refused = await refusal(shop.checkout.PlaceOrder(place_request(quote, number)))
    assert refused.fields == (("payment_method_token", "FIELD_INVALID"),)
    assert number.encode() not in refused.status
    assert number not in json.dumps(logs, default=str)
    assert await shopping.orders_of_quote(shop, quote) == []
