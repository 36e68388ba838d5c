"""A small world in a shop: one of each thing that a request can name; and a look at all that is booked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from google.type.money_pb2 import Money
from google.type.postal_address_pb2 import PostalAddress
from libretto.catalog.v1 import catalog_service_pb2 as catalog
from libretto.checkout.v1 import checkout_service_pb2 as checkout
from libretto.checkout.v1 import order_pb2
from libretto.inventory.v1 import inventory_service_pb2 as inventory
from libretto.inventory.v1.reservation_pb2 import ReservationLine
from libretto.payment.v1 import payment_service_pb2 as payment
from libretto.pricing.v1 import pricing_service_pb2 as pricing

from services.common.database import Database
from tests.rpc import new_key, new_sku, new_uuid
from tests.shop import Shop

CARD = "tok_succeeds"
PRICE = Money(currency_code="EUR", units=12, nanos=500_000_000)
ADDRESS = PostalAddress(region_code="AT", address_lines=["Ring 1"], postal_code="1010", locality="Wien")
CUSTOMER = order_pb2.Customer(customer_id="customer-1", email="ada@example.com", locale="de-AT")
KEYS = "request_keys"
BOUND_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class World:
    """The ids of what is there, each thing once and unused, unless it says otherwise."""

    shop: Shop
    product_ids: tuple[str, str]
    skus: tuple[str, str]
    """Those of the products; plenty of pieces of each."""
    quote_id: str
    reservation_id: str
    reserving_order_id: str
    """The order of the reservation; only inventory knows it."""
    payment_id: str
    """An authorised payment."""
    paying_order_id: str
    """The order of the payment; only payment knows it."""
    order_id: str
    """A completed order."""
    used_quote_id: str
    """The quote of that order."""


async def new_world(shop: Shop) -> World:
    """Make one of each thing."""
    skus = (new_sku(), new_sku())
    product_ids = (await _product(shop, skus[0]), await _product(shop, skus[1]))
    reservation_id, reserving_order_id = new_uuid(), new_uuid()
    await shop.inventory.ReserveStock(
        inventory.ReserveStockRequest(
            request_id=new_key(),
            reservation_id=reservation_id,
            order_id=reserving_order_id,
            lines=[ReservationLine(sku=skus[0], quantity=2)],
        )
    )
    payment_id, paying_order_id = new_uuid(), new_uuid()
    await shop.payment.AuthorizePayment(
        payment.AuthorizePaymentRequest(
            request_id=new_key(),
            payment_id=payment_id,
            order_id=paying_order_id,
            amount=PRICE,
            payment_method_token=CARD,
        )
    )
    used_quote_id = await new_quote(shop, product_ids)
    return World(
        shop=shop,
        product_ids=product_ids,
        skus=skus,
        quote_id=await new_quote(shop, product_ids),
        reservation_id=reservation_id,
        reserving_order_id=reserving_order_id,
        payment_id=payment_id,
        paying_order_id=paying_order_id,
        order_id=await _order(shop, used_quote_id),
        used_quote_id=used_quote_id,
    )


async def _product(shop: Shop, sku: str) -> str:
    request = catalog.CreateProductRequest(request_id=new_key(), sku=sku, title="Lamp", list_price=PRICE)
    product = (await shop.catalog.CreateProduct(request)).product
    await shop.inventory.AdjustStock(inventory.AdjustStockRequest(request_id=new_key(), sku=sku, change=1_000))
    return product.product_id


async def new_quote(shop: Shop, product_ids: tuple[str, ...]) -> str:
    """Have a quote made for one piece of each product."""
    request = pricing.CreateQuoteRequest(
        request_id=new_key(),
        lines=[pricing.CreateQuoteLine(product_id=product_id, quantity=1) for product_id in product_ids],
        currency_code="EUR",
        shipping_address=ADDRESS,
    )
    return (await shop.pricing.CreateQuote(request)).quote.quote_id


async def _order(shop: Shop, quote_id: str) -> str:
    request = checkout.PlaceOrderRequest(
        request_id=new_key(),
        quote_id=quote_id,
        customer=CUSTOMER,
        payment_method_token=CARD,
        shipping_address=ADDRESS,
    )
    order = (await shop.checkout.PlaceOrder(request)).order
    await until_completed(shop, order.order_id)
    return order.order_id


async def until_completed(shop: Shop, order_id: str) -> None:
    """Wait until all is done that goes on behind an order's answer."""
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            order = (await shop.checkout.GetOrder(checkout.GetOrderRequest(order_id=order_id))).order
            if order.state == order_pb2.ORDER_STATE_COMPLETED:
                return


async def rows(shop: Shop) -> dict[str, str]:
    """Return a digest of the rows of each table of each database, such as `payment.payments`."""
    found = await asyncio.gather(*(_rows(service, database) for service, database in shop.databases.items()))
    return {name: digest for digests in found for name, digest in digests.items()}


async def _rows(service: str, database: Database) -> dict[str, str]:
    async with database.connection() as connection:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        digests = [
            f"SELECT '{name}', md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {name} AS t"  # noqa: S608 - the catalogue's own names.
            for (name,) in tables
        ]
        found = await connection.fetch(" UNION ALL ".join(digests))
    return {f"{service}.{name}": digest for name, digest in found}


@asynccontextmanager
async def nothing_booked(world: World, *, verdict_kept: bool = False) -> AsyncIterator[None]:
    """Prove that no row of any table of any service changes while the block runs, nor anything at the processor.

    A refusal by the domain is a verdict, which is kept with its key and nothing else.
    """
    before = await rows(world.shop), _effects(world)
    yield
    after = await rows(world.shop), _effects(world)
    if verdict_kept:
        for tables in (before[0], after[0]):
            for name in [name for name in tables if name.endswith(KEYS)]:
                del tables[name]
    assert after == before


@asynccontextmanager
async def anything_booked(world: World) -> AsyncIterator[None]:
    """Prove that something changes while the block runs: what the other one looks at is where it would be seen."""
    before = await rows(world.shop)
    yield
    assert await rows(world.shop) != before


def _effects(world: World) -> int:
    """Return how many entries the card processor's ledger has."""
    entries = world.shop.processor.call("GET", "/v1/ledger").body["entries"]
    return len(entries)
