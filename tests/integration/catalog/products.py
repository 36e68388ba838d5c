"""Products for tests, made as any caller makes them."""

from typing import Any

from google.type.money_pb2 import Money
from libretto.catalog.v1 import catalog_service_pb2 as pb
from libretto.catalog.v1.product_pb2 import Product

from tests.rpc import new_key, new_sku
from tests.shop import Shop


def creation(**fields: Any) -> pb.CreateProductRequest:  # noqa: ANN401 - whatever a field of the request takes.
    """Return a request for a product of its own, with some fields set otherwise."""
    usual: dict[str, Any] = {
        "request_id": new_key(),
        "sku": new_sku(),
        "title": "A blue mug",
        "description": "Holds tea.",
        "category": "kitchen",
        "list_price": Money(currency_code="EUR", units=12, nanos=500_000_000),
    }
    return pb.CreateProductRequest(**(usual | fields))


async def create_product(shop: Shop, **fields: Any) -> Product:  # noqa: ANN401 - as above.
    """Create a product of its own, with some fields set otherwise."""
    return (await shop.catalog.CreateProduct(creation(**fields))).product


async def forget_key(shop: Shop, service: str, request_id: str) -> None:
    """Remove a key, as will happen when its time is over."""
    async with shop.databases[service].connection() as connection:
        await connection.execute("DELETE FROM request_keys WHERE request_id = $1", request_id)
