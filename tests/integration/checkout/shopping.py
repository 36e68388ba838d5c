"""Shopping for tests, as any customer does it: products in stock, quotes, orders; and looks behind the counter."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message
from google.type.money_pb2 import Money
from libretto.catalog.v1.product_pb2 import Product
from libretto.checkout.v1 import checkout_service_pb2 as pb
from libretto.checkout.v1.order_pb2 import Customer, Order, OrderState
from libretto.inventory.v1.inventory_service_pb2 import AdjustStockRequest, GetReservationRequest, GetStockRequest
from libretto.inventory.v1.reservation_pb2 import ReservationState
from libretto.payment.v1.payment_pb2 import Payment, PaymentState
from libretto.payment.v1.payment_service_pb2 import GetPaymentRequest
from libretto.pricing.v1.quote_pb2 import Quote

from services.common.database import Connection
from tests.integration.card_processor import Processor
from tests.integration.catalog.products import create_product
from tests.integration.pricing.quotes import line, request_for
from tests.rpc import new_key, read_refusal
from tests.shop import CALLS, Shop, open_shop

_PLACE_TRIES = 5
WAIT_SECONDS = 20.0
EMAIL = "ada.lovelace@example.com"
PRICE = Money(currency_code="EUR", units=12, nanos=500_000_000)


async def stocked(shop: Shop, pieces: int, **fields: Any) -> Product:  # noqa: ANN401 - whatever a field takes.
    """Create a product of which so many pieces came in."""
    product = await create_product(shop, **{"list_price": PRICE, **fields})
    if pieces:
        await shop.inventory.AdjustStock(AdjustStockRequest(request_id=new_key(), sku=product.sku, change=pieces))
    return product


async def quoted(shop: Shop, product: Product, quantity: int = 1) -> Quote:
    """Have some pieces of a product quoted."""
    return (await shop.pricing.CreateQuote(request_for(line(product, quantity)))).quote


def place_request(quote: Quote, token: str = "tok_succeeds", **fields: Any) -> pb.PlaceOrderRequest:  # noqa: ANN401, S107
    """Make a request to order a quote with a test token, with some fields set otherwise."""
    usual: dict[str, Any] = {
        "request_id": new_key(),
        "quote_id": quote.quote_id,
        "customer": Customer(customer_id="ada", email=EMAIL, locale="de-DE"),
        "payment_method_token": token,
        "shipping_address": quote.shipping_address,
    }
    return pb.PlaceOrderRequest(**(usual | fields))


async def placed(shop: Shop, request: pb.PlaceOrderRequest, seconds: float = WAIT_SECONDS) -> Order:
    """Place an order and return it. As a client should, repeat the same request when a busy machine took too long."""
    for _ in range(_PLACE_TRIES):
        try:
            return (await shop.checkout.PlaceOrder(request, timeout=seconds)).order
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
    raise TimeoutError(f"no answer to an order within {seconds} s, {_PLACE_TRIES} times")


async def outcome(shop: Shop, request: pb.PlaceOrderRequest) -> bytes:
    """Place an order, and return the bytes of what came back: a response or a status."""
    try:
        response: Message = await shop.checkout.PlaceOrder(request, timeout=WAIT_SECONDS)
        return response.SerializeToString(deterministic=True)
    except grpc.aio.AioRpcError as error:
        return read_refusal(error).status


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Ask again until it is so, for a bounded time."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not await true():  # noqa: ASYNC110 - the services, in the same loop, set no events for tests.
            await asyncio.sleep(0)


async def order(shop: Shop, order_id: str) -> Order:
    """Return an order as it stands."""
    return (await shop.checkout.GetOrder(pb.GetOrderRequest(order_id=order_id))).order


async def reached(shop: Shop, order_id: str, state: "OrderState.ValueType") -> Order:
    """Wait until an order is in a state, and return it."""

    async def there() -> bool:
        return (await order(shop, order_id)).state == state

    await until(there)
    return await order(shop, order_id)


async def completed(shop: Shop, order_id: str) -> Order:
    """Wait until an order is completed, and return it."""
    return await reached(shop, order_id, OrderState.ORDER_STATE_COMPLETED)


async def undone(shop: Shop, order_id: str) -> None:
    """Wait until all of a rejected order is undone, as its journal says."""

    async def there() -> bool:
        return (await journal(shop, order_id))[-1] == "CLOSED"

    await until(there)


async def journal(shop: Shop, order_id: str) -> list[str]:
    """Return an order's entries as texts: kind, action and reason, where they have them."""
    async with shop.databases["checkout"].connection() as connection:
        rows = await connection.fetch(
            "SELECT concat_ws(' ', kind, action, details ->> 'reason') AS line FROM journal"
            " WHERE order_id = $1 ORDER BY sequence",
            order_id,
        )
    return [row["line"] for row in rows]


async def stock(shop: Shop, sku: str) -> tuple[int, int, int]:
    """Return how many pieces are available, reserved and sold."""
    level = (await shop.inventory.GetStock(GetStockRequest(sku=sku))).stock_level
    return level.available, level.reserved, level.sold


async def payment(shop: Shop, of: Order) -> Payment:
    """Return an order's payment."""
    return (await shop.payment.GetPayment(GetPaymentRequest(payment_id=of.payment_id))).payment


async def payment_state(shop: Shop, of: Order) -> str:
    """Return the state of an order's payment."""
    return PaymentState.Name((await payment(shop, of)).state).removeprefix("PAYMENT_STATE_")


async def reservation_state(shop: Shop, of: Order) -> str:
    """Return the state of an order's reservation."""
    request = GetReservationRequest(reservation_id=of.reservation_id)
    reservation = (await shop.inventory.GetReservation(request)).reservation
    return ReservationState.Name(reservation.state).removeprefix("RESERVATION_STATE_")


async def ledger(shop: Shop, of: Order) -> list[tuple[str, int]]:
    """Return the kinds and amounts of a payment's entries in the processor's own ledger."""
    return await asyncio.to_thread(shop.processor.effects, of.payment_id)


async def ledger_becomes(shop: Shop, of: Order, entries: list[tuple[str, int]]) -> None:
    """Wait until the processor's ledger holds exactly these entries for an order's payment."""

    async def there() -> bool:
        return await ledger(shop, of) == entries

    await until(there)


async def orders_of_quote(shop: Shop, quote: Quote) -> list[str]:
    """Return the ids of all orders that a quote ever had, oldest first."""
    async with shop.databases["checkout"].connection() as connection:
        rows = await connection.fetch(
            "SELECT order_id FROM orders WHERE quote_id = $1 ORDER BY create_time", quote.quote_id
        )
    return [str(row["order_id"]) for row in rows]


async def execute(shop: Shop, service: str, statement: str, *values: object) -> None:
    """Change a service's rows behind its back."""

    async def work(connection: Connection) -> None:
        await connection.execute(statement, *values)

    await shop.databases[service].transaction(work)


@asynccontextmanager
async def locked(shop: Shop, service: str, statement: str, *values: object) -> AsyncIterator[None]:
    """Hold what a statement locks in a service's database, so that calls which need it wait."""
    async with shop.databases[service].connection() as connection, connection.transaction():
        await connection.execute(statement, *values)
        yield


async def waits_for_a_lock(shop: Shop, service: str) -> bool:
    """Tell whether PostgreSQL's own list shows a query of a service that waits for a lock."""
    async with shop.databases[service].connection() as connection:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = $1 AND wait_event_type = 'Lock'",
            service,
        )
    return count > 0


@asynccontextmanager
async def stock_held(shop: Shop, sku: str) -> AsyncIterator[None]:
    """Let every reservation of a SKU wait."""
    async with locked(shop, "inventory", "SELECT 1 FROM stock WHERE sku = $1 FOR UPDATE", sku):
        yield


@asynccontextmanager
async def beside(postgres_url: str, processor: Processor, shop: Shop, **settings: str) -> AsyncIterator[Shop]:
    """Open a second checkout with settings of its own on the same shop, and a database of its own."""
    targets = {f"{name}_target": shop.running[name].address for name in CALLS["checkout"]}
    async with open_shop(postgres_url, processor, ("checkout",), {"checkout": {**targets, **settings}}) as second:
        running = shop.running | second.running
        databases, channels = shop.databases | second.databases, shop.channels | second.channels
        yield Shop(processor, shop.spans, running, databases, channels)
