"""The story that the demo tells, step by step, and what must be true in it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from libretto.catalog.v1 import catalog_service_pb2, catalog_service_pb2_grpc
from libretto.inventory.v1 import inventory_service_pb2, inventory_service_pb2_grpc

from scripts.lib import trace_tree
from scripts.lib.demo.bookings import Books, ledger_path, read_books
from scripts.lib.demo.cast import ADA, BATON, BORIS, CLARA, GLASSES, SCORE, SHELVES, order_request, quote_request
from scripts.lib.demo.grpcurl import Call, Grpcurl
from scripts.lib.demo.narrator import Narrator
from scripts.lib.demo.transcript import Transcript
from scripts.lib.shop import CARD_PROCESSOR, SERVICES, Shop
from services.common.fields import money_message

if TYPE_CHECKING:
    from libretto.catalog.v1.catalog_service_pb2_grpc import CatalogServiceAsyncStub
    from libretto.inventory.v1.inventory_service_pb2_grpc import InventoryServiceAsyncStub

T = TypeVar("T")

_CALL_SECONDS: Final = 10.0
_SETTLE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.1
_RPCS: Final = {service.name: service.rpcs for service in SERVICES}


class DemoError(Exception):
    """The shop did something else than the story says; the message tells what."""


_STEPS_OF_A_CONFIRMED_ORDER: Final = (
    ("checkout", "PlaceOrder"),
    ("pricing", "GetQuote"),
    ("inventory", "ReserveStock"),
    ("payment", "AuthorizePayment"),
    ("payment", "CapturePayment"),
    ("inventory", "CommitReservation"),
)
_STEPS_OF_A_REFUSED_CARD: Final = (
    ("checkout", "PlaceOrder"),
    ("pricing", "GetQuote"),
    ("inventory", "ReserveStock"),
    ("payment", "AuthorizePayment"),
    ("payment", "VoidPayment"),
    ("inventory", "ReleaseReservation"),
)


@dataclass(slots=True)
class Story:
    """Tells the story on an open shop."""

    shop: Shop
    grpcurl: Grpcurl
    narrator: Narrator
    transcript: Transcript
    products: dict[str, str] = field(default_factory=dict)
    """The id of each product, by SKU."""
    orders: list[str] = field(default_factory=list)
    """The ids of the orders, in the order they were placed."""

    async def tell(self) -> None:
        """Tell it all. Raises DemoError, GrpcurlError, AioRpcError, aiohttp.ClientError."""
        await self._look_around()
        await self._fill_shelves()
        quote_id = await self._ask_for_a_price()
        order, request = await self._buy(quote_id)
        await self._press_the_button_twice(request, order)
        refused = await self._have_a_card_refused()
        await self._find_it_sold_out()
        await self._follow_the_order(order["traceId"])
        await self._follow_the_refusal(refused)
        await self._open_the_books(order)

    async def _look_around(self) -> None:
        self.narrator.heading(
            "The house",
            "Five services, each with a database of its own, and one party outside that holds the money. "
            "Every server tells by reflection what it serves, so grpcurl needs no files.",
        )
        self.narrator.gap()
        for name, address in self.shop.addresses.items():
            self.narrator.row(f"{name:16} {address}")
        self._show("list_services", await self.grpcurl.list_services(self.shop.addresses["checkout"]))

    async def _fill_shelves(self) -> None:
        self.narrator.heading(
            "Goods on the shelves",
            "Products belong to the catalog, pieces to inventory. They are made by the services' own calls "
            "(CreateProduct, AdjustStock), never by SQL.",
        )
        self.narrator.gap()
        catalog: CatalogServiceAsyncStub = catalog_service_pb2_grpc.CatalogServiceStub(self.shop.channels["catalog"])
        inventory: InventoryServiceAsyncStub = inventory_service_pb2_grpc.InventoryServiceStub(
            self.shop.channels["inventory"]
        )
        for goods in SHELVES:
            create = catalog_service_pb2.CreateProductRequest(
                request_id=f"demo-{goods.sku}", sku=goods.sku, title=goods.title, list_price=money_message(goods.price)
            )
            created = await catalog.CreateProduct(create, timeout=_CALL_SECONDS)
            self.products[goods.sku] = created.product.product_id
            adjust = inventory_service_pb2.AdjustStockRequest(
                request_id=f"demo-{goods.sku}", sku=goods.sku, change=goods.pieces
            )
            await inventory.AdjustStock(adjust, timeout=_CALL_SECONDS)
            self.narrator.row(f"{goods.pieces} x {goods.title:38} {goods.price!s:>12}   {goods.sku}")

    async def _ask_for_a_price(self) -> str:
        self.narrator.heading(
            "A quote",
            "Ada wants two batons and the last opera glasses. A price in a cart is no promise: a quote is, until it "
            "expires. Pricing asks the catalog and locks lines, prices and address.",
        )
        return await self._quote("quote", {BATON.sku: 2, GLASSES.sku: 1})

    async def _buy(self, quote_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        self.narrator.heading(
            "The order",
            "One call. Behind it stock is reserved and the card authorised at the same time, then the money is "
            "captured, then the stock is sold. The token stands for a card; card numbers never enter.",
        )
        request = order_request("demo-order-ada", quote_id, ADA, "tok_succeeds")
        call = await self._place("order", request)
        order = call.answer["order"]
        _require(order["state"] == "ORDER_STATE_CONFIRMED", f"the order should be confirmed, but is {order['state']}")
        self.orders.append(order["orderId"])
        return order, request

    async def _press_the_button_twice(self, request: dict[str, Any], order: Mapping[str, Any]) -> None:
        self.narrator.heading(
            "The same request again",
            "Ada's connection was bad, so her client sends it once more, with the same request_id. She gets the same "
            "answer byte for byte, and pays once.",
        )
        call = await self.grpcurl.call(*self._method("checkout", "PlaceOrder"), request)
        self.transcript.add_call("order_again", call)
        self.narrator.command(call.line)
        first = next(step for step in self.transcript.steps if step["name"] == "order")
        _require(call.stdout == first["stdout"], "the same request was answered differently the second time")
        self.narrator.row(f"(the same {len(call.stdout)} bytes as before: order {order['number']})")

    async def _have_a_card_refused(self) -> str:
        self.narrator.heading(
            "A refused card",
            "Boris wants a score; his card is declined. That is an answer, no fault: a status with a typed reason, and "
            "what one needs to go on. What was reserved is given back.",
        )
        quote_id = await self._quote("quote_boris", {SCORE.sku: 1})
        refused = await self._place_in_vain(
            "refused_card", order_request("demo-order-boris", quote_id, BORIS, "tok_declined"), "CARD_DECLINED"
        )
        self.narrator.heading(
            "Another card on the same quote",
            "A rejected order leaves its quote free, so Boris tries another card, with a new request_id. "
            "The price is still the one that he was promised.",
        )
        call = await self._place("another_card", order_request("demo-order-boris-2", quote_id, BORIS, "tok_succeeds"))
        self.orders.append(call.answer["order"]["orderId"])
        return refused

    async def _find_it_sold_out(self) -> None:
        self.narrator.heading(
            "Sold out",
            "Clara wants the opera glasses that Ada has bought. The quote is no reservation, so it is the order that "
            "is refused; her card had been authorised meanwhile, and is released.",
        )
        quote_id = await self._quote("quote_clara", {GLASSES.sku: 1})
        await self._place_in_vain(
            "sold_out", order_request("demo-order-clara", quote_id, CLARA, "tok_succeeds"), "OUT_OF_STOCK"
        )

    async def _follow_the_order(self, trace_id: str) -> None:
        self.narrator.heading(
            "One trace",
            "The whole story of Ada's order, over all services, from their own spans: when each began, how long it "
            "took, and how it ended. The answer to Ada does not wait for the last step.",
        )
        await self._show_trace("order", trace_id, _STEPS_OF_A_CONFIRMED_ORDER)

    async def _follow_the_refusal(self, order_id: str) -> None:
        self.narrator.heading(
            "The trace of the refusal",
            "The same for Boris's first try. The payment is voided first and alone, because it alone decides; then "
            "the stock is released. A refusal is an answer, so no step is marked as failed.",
        )
        books = await read_books(self.shop, [order_id], [])
        await self._show_trace("refused_card", books.bookings[0].order.trace_id, _STEPS_OF_A_REFUSED_CARD)

    async def _show_trace(self, name: str, trace_id: str, steps: Sequence[tuple[str, str]]) -> None:
        expected = [(service, f"{_RPCS[service]}/{rpc}") for service, rpc in steps]

        async def look() -> tuple[list[trace_tree.Span], list[str]]:
            spans = trace_tree.read_spans(self.shop.folder.spans, trace_id)
            return spans, trace_tree.missing(spans, expected)

        (tree,) = trace_tree.trees(await _settled("the trace lacks", look))
        self.transcript.add_trace(name, tree)
        self.narrator.gap()
        self.narrator.row(trace_tree.HEADER)
        for span, line in trace_tree.render(tree):
            self.narrator.row(line, refused=span.refused, failed=span.failed)

    async def _open_the_books(self, order: Mapping[str, Any]) -> None:
        self.narrator.heading(
            "What was booked where",
            "Order, payment and stock are three services' own records, and the ledger is the card processor's. They "
            "must agree, though none can look into another's database.",
        )

        async def look() -> tuple[Books, list[str]]:
            books = await read_books(self.shop, self.orders, [goods.sku for goods in SHELVES])
            return books, books.disagreements()

        books = await _settled("the books do not agree:", look)
        self.transcript.add_books(books)
        calls = [
            ("get_order", "checkout", "GetOrder", {"orderId": order["orderId"]}),
            ("get_payment", "payment", "GetPayment", {"paymentId": order["paymentId"]}),
            *((f"get_stock_{goods.sku}", "inventory", "GetStock", {"sku": goods.sku}) for goods in SHELVES),
        ]
        for name, service, rpc, request in calls:
            self._show(name, await self.grpcurl.call(*self._method(service, rpc), request))
        path = ledger_path(order["paymentId"])
        self.narrator.command(f"GET http://{self.shop.addresses[CARD_PROCESSOR]}{path}  (with the shop's key)")
        for entry in books.bookings[0].ledger:
            self.narrator.row(f"{entry.time}  {entry.kind:10}  {entry.amount!s:>11}")
        self._show_books(books)

    def _show_books(self, books: Books) -> None:
        self.narrator.gap()
        self.narrator.text("All four orders together:")
        self.narrator.gap()
        for booking in books.bookings:
            ledger = ", ".join(f"{entry.kind} {entry.amount}" for entry in booking.ledger).replace(" EUR", "")
            self.narrator.row(
                f"{booking.order.number}  {booking.order.customer.customer_id:6} {booking.order_state:10} "
                f"{booking.total!s:>11}  payment {booking.payment_state:9} processor: {ledger}",
                refused=booking.captured.minor == 0,
            )
        self.narrator.gap()
        for level in books.stock:
            self.narrator.row(
                f"{level.sku:14} {level.received} received = {level.available} available + {level.reserved} reserved "
                f"+ {level.sold} sold"
            )

    async def _quote(self, name: str, pieces: Mapping[str, int]) -> str:
        pieces_by_id = {self.products[sku]: quantity for sku, quantity in pieces.items()}
        request = quote_request(f"demo-{name.replace('_', '-')}", pieces_by_id)
        call = await self.grpcurl.call(*self._method("pricing", "CreateQuote"), request)
        self._show(name, call)
        return str(call.answer["quote"]["quoteId"])

    async def _place(self, name: str, request: dict[str, Any]) -> Call:
        call = await self.grpcurl.call(*self._method("checkout", "PlaceOrder"), request)
        self._show(name, call)
        return call

    async def _place_in_vain(self, name: str, request: dict[str, Any], reason: str) -> str:
        """Place an order that must be refused with a reason; return its id."""
        refusal = (await self._place(name, request)).refusal
        expected = ("FailedPrecondition", reason)
        _require((refusal.code, refusal.reason) == expected, f"expected {expected}, but the answer was {refusal}")
        self.orders.append(refusal.metadata["order_id"])
        return refusal.metadata["order_id"]

    def _show(self, name: str, call: Call) -> None:
        self.transcript.add_call(name, call)
        self.narrator.command(call.line)
        if call.exit_code != 0:
            self.narrator.refusal(call.stderr)
        elif "/" in call.arguments[-1]:
            self.narrator.answer(call.answer)
        else:
            self.narrator.output(call.stdout)

    def _method(self, service: str, rpc: str) -> tuple[str, str]:
        return self.shop.addresses[service], f"{_RPCS[service]}/{rpc}"


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads like an assertion.
    if not holds:
        raise DemoError(otherwise)


async def _settled(complaint: str, look: Callable[[], Awaitable[tuple[T, list[str]]]]) -> T:
    """Look until nothing is wrong, for a while: spans are written twice a second, and sagas end behind the answer."""
    give_up = time.monotonic() + _SETTLE_SECONDS
    while True:
        found, wrong = await look()
        if not wrong:
            return found
        if time.monotonic() > give_up:
            raise DemoError(f"{complaint} {'; '.join(wrong)}")
        await asyncio.sleep(_POLL_SECONDS)
