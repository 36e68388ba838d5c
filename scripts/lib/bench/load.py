"""Customers for the bench: goods and quotes prepared, orders placed on them, and the books compared at the end."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp
from google.type.postal_address_pb2 import PostalAddress
from libretto.catalog.v1 import catalog_service_pb2, catalog_service_pb2_grpc
from libretto.checkout.v1 import checkout_service_pb2, checkout_service_pb2_grpc, order_pb2
from libretto.checkout.v1.checkout_service_pb2 import PlaceOrderRequest
from libretto.inventory.v1 import inventory_service_pb2, inventory_service_pb2_grpc
from libretto.pricing.v1 import pricing_service_pb2, pricing_service_pb2_grpc

from scripts.lib.shop import CARD_PROCESSOR, Shop
from services.common.fields import money_message
from services.common.values import Money

if TYPE_CHECKING:
    from libretto.catalog.v1.catalog_service_pb2_grpc import CatalogServiceAsyncStub
    from libretto.checkout.v1.checkout_service_pb2_grpc import CheckoutServiceAsyncStub
    from libretto.inventory.v1.inventory_service_pb2_grpc import InventoryServiceAsyncStub
    from libretto.pricing.v1.pricing_service_pb2_grpc import PricingServiceAsyncStub

T = TypeVar("T")

_SKU: Final = "BENCH"
_PRICE: Final = Money("EUR", 19_90)
_ADDRESS: Final = PostalAddress(region_code="AT", postal_code="1010", locality="Wien", address_lines=["Opernring 2"])
_CUSTOMER: Final = order_pb2.Customer(customer_id="bench", email="bench@example.com")
_CALL_SECONDS: Final = 10.0
_ORDER_SECONDS: Final = 30.0
_COMPLETION_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.05
_QUOTES_AT_ONCE: Final = 8
_PAGE: Final = 200
_CONFIRMED: Final = order_pb2.ORDER_STATE_CONFIRMED
_COMPLETED: Final = order_pb2.ORDER_STATE_COMPLETED


class BenchError(Exception):
    """What was measured is no result; the message tells why."""


@dataclass(frozen=True, slots=True)
class Books:
    """How often the same thing happened in the eyes of each party; all are equal when the books agree."""

    confirmed: int
    """Orders answered as CONFIRMED, as the customers have it."""
    completed: int
    """Those that are COMPLETED, as checkout has it."""
    captured: int
    """Captures of the right amount for those, as the card processor's ledger has it; any other one counts as -1."""
    sold: int
    """Pieces sold, less any that are still reserved, as inventory has it."""

    def require_agreement(self) -> None:
        """Raise BenchError unless the books agree."""
        if len({self.confirmed, self.completed, self.captured, self.sold}) > 1:
            raise BenchError(f"the books do not agree: {self}")


class Customers:
    """All customers of the bench: they buy one piece each time, all of the same product."""

    def __init__(self, shop: Shop) -> None:
        """Buy in an open shop."""
        self._shop = shop
        self._keys = itertools.count()
        self._product_id = ""
        self._payments: dict[str, str] = {}
        """The payment's id of each order that was answered as CONFIRMED, by the order's id."""
        self._checkout: CheckoutServiceAsyncStub = checkout_service_pb2_grpc.CheckoutServiceStub(
            shop.channels["checkout"]
        )
        self._inventory: InventoryServiceAsyncStub = inventory_service_pb2_grpc.InventoryServiceStub(
            shop.channels["inventory"]
        )

    async def fill_shelves(self, pieces: int) -> None:
        """Make the product, and let so many pieces of it come in."""
        catalog: CatalogServiceAsyncStub = catalog_service_pb2_grpc.CatalogServiceStub(self._shop.channels["catalog"])
        create = catalog_service_pb2.CreateProductRequest(
            request_id=self._key(), sku=_SKU, title="Conductor's baton", list_price=money_message(_PRICE)
        )
        self._product_id = (await catalog.CreateProduct(create, timeout=_CALL_SECONDS)).product.product_id
        adjust = inventory_service_pb2.AdjustStockRequest(request_id=self._key(), sku=_SKU, change=pieces)
        await self._inventory.AdjustStock(adjust, timeout=_CALL_SECONDS)

    async def prepare(self, orders: int) -> list[PlaceOrderRequest]:
        """Have a quote made for each of so many orders; return the requests that will place them."""
        pricing: PricingServiceAsyncStub = pricing_service_pb2_grpc.PricingServiceStub(self._shop.channels["pricing"])
        requests: list[PlaceOrderRequest] = []

        async def quote(key: str) -> None:
            line = pricing_service_pb2.CreateQuoteLine(product_id=self._product_id, quantity=1)
            create = pricing_service_pb2.CreateQuoteRequest(
                request_id=key, lines=[line], currency_code=_PRICE.currency, shipping_address=_ADDRESS
            )
            made = (await pricing.CreateQuote(create, timeout=_CALL_SECONDS)).quote
            requests.append(
                PlaceOrderRequest(
                    request_id=key,
                    quote_id=made.quote_id,
                    customer=_CUSTOMER,
                    payment_method_token="tok_succeeds",  # noqa: S106 - a test token of the simulated processor.
                    shipping_address=_ADDRESS,
                )
            )

        await _share_out([self._key() for _ in range(orders)], _QUOTES_AT_ONCE, quote)
        return requests

    async def place(self, requests: Sequence[PlaceOrderRequest], concurrency: int) -> list[float]:
        """Place orders, so many at once, a new one as soon as one is answered; return how long each took, in ms.

        Raises BenchError for an answer other than CONFIRMED, AioRpcError for a refusal.
        """
        latencies_ms: list[float] = []

        async def place(request: PlaceOrderRequest) -> None:
            began = time.perf_counter()
            order = (await self._checkout.PlaceOrder(request, timeout=_ORDER_SECONDS)).order
            latencies_ms.append(1000 * (time.perf_counter() - began))
            if order.state != _CONFIRMED:
                raise BenchError(f"an order was not confirmed within {_ORDER_SECONDS:.0f} s")
            self._payments[order.order_id] = order.payment_id

        await _share_out(requests, concurrency, place)
        return latencies_ms

    async def until_completed(self) -> None:
        """Wait until what goes on behind the answers is done. Raises BenchError when it takes too long."""
        unfinished = checkout_service_pb2.ListOrdersRequest(state=_CONFIRMED, page_size=1)
        try:
            async with asyncio.timeout(_COMPLETION_SECONDS):
                while True:
                    page = await self._checkout.ListOrders(unfinished, timeout=_CALL_SECONDS)
                    if not page.orders:
                        return
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise BenchError(f"not all orders were completed {_COMPLETION_SECONDS:.0f} s after the last") from None

    async def read_books(self) -> Books:
        """Ask every party what happened."""
        get_stock = inventory_service_pb2.GetStockRequest(sku=_SKU)
        level = (await self._inventory.GetStock(get_stock, timeout=_CALL_SECONDS)).stock_level
        return Books(
            confirmed=len(self._payments),
            completed=len(await self._completed() & self._payments.keys()),
            captured=await self._captured(),
            sold=level.sold - level.reserved,
        )

    async def _completed(self) -> set[str]:
        order_ids: set[str] = set()
        request = checkout_service_pb2.ListOrdersRequest(state=_COMPLETED, page_size=_PAGE)
        while True:
            page = await self._checkout.ListOrders(request, timeout=_CALL_SECONDS)
            order_ids |= {order.order_id for order in page.orders}
            if not page.next_page_token:
                return order_ids
            request.page_token = page.next_page_token

    async def _captured(self) -> int:
        ours = set(self._payments.values())
        count = 0
        after: int | None = 0
        url = f"http://{self._shop.addresses[CARD_PROCESSOR]}/v1/ledger"
        headers = {"Authorization": f"Bearer {self._shop.processor_api_key}"}
        timeout = aiohttp.ClientTimeout(total=_CALL_SECONDS)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout, raise_for_status=True) as session:
            while after is not None:
                async with session.get(url, params={"after": after, "limit": _PAGE}) as response:
                    page = await response.json()
                for entry in page["entries"]:
                    if entry["kind"] == "captured":
                        fits = entry["authorization_id"] in ours and entry["amount_minor"] == _PRICE.minor
                        count += 1 if fits else -1
                after = page["next_after"]
        return count

    def _key(self) -> str:
        return f"bench-{next(self._keys)}"


async def _share_out(items: Iterable[T], workers: int, work: Callable[[T], Awaitable[None]]) -> None:
    """Have workers go through items, each with one at a time; the first failure ends all, and is raised."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(worker())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
