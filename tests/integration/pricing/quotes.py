"""Quotes for tests, asked for as any caller asks."""

from typing import Any

from google.type.postal_address_pb2 import PostalAddress
from libretto.catalog.v1.product_pb2 import Product
from libretto.pricing.v1 import pricing_service_pb2 as pb

from tests.rpc import new_key
from tests.shop import Shop

ADDRESS = PostalAddress(
    region_code="DE",
    postal_code="10117",
    locality="Berlin",
    address_lines=["Unter den Linden 1", "Hinterhaus"],
    recipients=["Ada Lovelace"],
)


def line(product: Product | str, quantity: int = 1) -> pb.CreateQuoteLine:
    """Return a line for a product, or for whatever has this id."""
    product_id = product if isinstance(product, str) else product.product_id
    return pb.CreateQuoteLine(product_id=product_id, quantity=quantity)


def request_for(*lines: pb.CreateQuoteLine, **fields: Any) -> pb.CreateQuoteRequest:  # noqa: ANN401 - any field's value.
    """Return a request for some lines in euros, with some fields set otherwise."""
    usual: dict[str, Any] = {
        "request_id": new_key(),
        "lines": lines,
        "currency_code": "EUR",
        "shipping_address": ADDRESS,
    }
    return pb.CreateQuoteRequest(**(usual | fields))


async def count_quotes(shop: Shop) -> int:
    """Return how many quotes there are."""
    async with shop.databases["pricing"].connection() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM quotes"))
