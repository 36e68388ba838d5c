"""The service that pricing calls: the catalog, for products and their prices."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import grpc
from libretto.catalog.v1 import catalog_service_pb2, catalog_service_pb2_grpc, product_pb2

from services.common.errors import RemoteError
from services.common.fields import read_money
from services.pricing.domain import Product

if TYPE_CHECKING:
    from libretto.catalog.v1.catalog_service_pb2_grpc import CatalogServiceAsyncStub

_UNKNOWN = "PRODUCT_NOT_FOUND"


class CatalogClient:
    """Reads products."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """Call the catalog over a channel of `services.common.client`."""
        self._stub: CatalogServiceAsyncStub = catalog_service_pb2_grpc.CatalogServiceStub(channel)

    async def products(self, product_ids: Sequence[UUID]) -> dict[UUID, Product]:
        """Read those of at most 64 products that exist, by id. Raises RemoteError."""
        request = catalog_service_pb2.BatchGetProductsRequest(product_ids=map(str, product_ids))
        response = await self._stub.BatchGetProducts(request)
        results = zip(product_ids, response.results, strict=True)
        return {product_id: _product(product_id, result.product) for product_id, result in results if _is_known(result)}


def _is_known(result: catalog_service_pb2.BatchGetProductsResult) -> bool:
    if result.HasField("product"):
        return True
    error = RemoteError(result.status)
    if error.reason != _UNKNOWN:
        raise error
    return False


def _product(product_id: UUID, message: product_pb2.Product) -> Product:
    return Product(
        product_id=product_id,
        sku=message.sku,
        title=message.title,
        price=read_money(message.list_price),
        on_sale=message.state == product_pb2.PRODUCT_STATE_ACTIVE,
    )
