"""What pricing makes of the catalog's answers, with a catalog in front of it that answers as a test wants."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
from google.rpc import code_pb2, status_pb2
from google.type.money_pb2 import Money
from libretto.catalog.v1 import catalog_service_pb2 as pb
from libretto.catalog.v1.product_pb2 import PRODUCT_STATE_ACTIVE, Product

from services.common.layers import Context
from tests.integration.card_processor import Processor
from tests.integration.pricing.quotes import count_quotes, line, request_for
from tests.rpc import new_uuid, refusal
from tests.shop import Shop, open_shop

Answer = Callable[[pb.BatchGetProductsRequest, Context], Awaitable[pb.BatchGetProductsResponse]]


@dataclass(slots=True)
class ScriptedCatalog:
    """A catalog that answers BatchGetProducts by a function, which a test may change."""

    answer: Answer

    async def batch_get_products(
        self, request: pb.BatchGetProductsRequest, context: Context
    ) -> pb.BatchGetProductsResponse:
        """Answer as the test wants."""
        return await self.answer(request, context)


@asynccontextmanager
async def pricing_before(
    catalog: ScriptedCatalog, postgres_url: str, processor: Processor, **settings: str
) -> AsyncIterator[Shop]:
    """Serve pricing alone, in front of a scripted catalog."""
    handler = grpc.unary_unary_rpc_method_handler(
        catalog.batch_get_products,
        request_deserializer=pb.BatchGetProductsRequest.FromString,
        response_serializer=pb.BatchGetProductsResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("libretto.catalog.v1.CatalogService", {"BatchGetProducts": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    overrides = {"pricing": {"catalog_target": f"127.0.0.1:{port}"} | settings}
    try:
        async with open_shop(postgres_url, processor, ("pricing",), overrides) as shop:
            yield shop
    finally:
        await server.stop(None)


async def answer_all(request: pb.BatchGetProductsRequest, _context: Context) -> pb.BatchGetProductsResponse:
    """Answer a product that costs a euro for each id."""
    price = Money(currency_code="EUR", units=1)
    products = [
        Product(product_id=product_id, sku="MUG", title="A mug", list_price=price, state=PRODUCT_STATE_ACTIVE)
        for product_id in request.product_ids
    ]
    return pb.BatchGetProductsResponse(results=[pb.BatchGetProductsResult(product=product) for product in products])


async def test_no_transaction_is_open_while_the_catalog_is_asked(postgres_url: str, processor: Processor) -> None:
    """Else a slow catalog would hold pricing's locks. All products are asked for in one call."""
    catalog = ScriptedCatalog(answer_all)
    seen: list[tuple[int, int]] = []

    async with pricing_before(catalog, postgres_url, processor) as shop:

        async def look(request: pb.BatchGetProductsRequest, context: Context) -> pb.BatchGetProductsResponse:
            async with shop.databases["pricing"].connection() as connection:
                open_transactions = await connection.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
                )
            seen.append((len(request.product_ids), open_transactions))
            return await answer_all(request, context)

        catalog.answer = look
        await shop.pricing.CreateQuote(request_for(line(new_uuid()), line(new_uuid())))

    assert seen == [(2, 0)]


async def test_a_catalog_that_is_unavailable_leaves_no_verdict(postgres_url: str, processor: Processor) -> None:
    """UNAVAILABLE says when to come again; the same request then succeeds."""
    catalog = ScriptedCatalog(answer_all)

    async def fail(_request: pb.BatchGetProductsRequest, context: Context) -> pb.BatchGetProductsResponse:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "down for a moment")

    async with pricing_before(catalog, postgres_url, processor) as shop:
        request = request_for(line(new_uuid()))
        catalog.answer = fail
        refused = await refusal(shop.pricing.CreateQuote(request))
        stored = await count_quotes(shop)
        catalog.answer = answer_all
        quote = (await shop.pricing.CreateQuote(request)).quote

    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")
    assert refused.retry_after_seconds is not None
    assert stored == 0
    assert quote.total == Money(currency_code="EUR", units=1)


async def test_an_item_that_the_catalog_could_not_read_is_not_taken_for_an_unknown_product(
    postgres_url: str, processor: Processor
) -> None:
    """Only PRODUCT_NOT_FOUND says that there is none; what may pass is no verdict."""
    catalog = ScriptedCatalog(answer_all)
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="this one cannot be read just now")

    async def answer(request: pb.BatchGetProductsRequest, _context: Context) -> pb.BatchGetProductsResponse:
        return pb.BatchGetProductsResponse(
            results=[pb.BatchGetProductsResult(status=status) for _ in request.product_ids]
        )

    async with pricing_before(catalog, postgres_url, processor) as shop:
        catalog.answer = answer
        refused = await refusal(shop.pricing.CreateQuote(request_for(line(new_uuid()))))

    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")


async def test_the_lifetime_of_quotes_is_a_setting(postgres_url: str, processor: Processor) -> None:
    """Whole minutes or half a second."""
    catalog = ScriptedCatalog(answer_all)

    async with pricing_before(catalog, postgres_url, processor, quote_lifetime_seconds="0.5") as shop:
        quote = (await shop.pricing.CreateQuote(request_for(line(new_uuid())))).quote

    assert quote.expire_time.ToNanoseconds() - quote.create_time.ToNanoseconds() == 500_000_000
