"""What was booked where: orders, payments, stock and the card processor's own ledger, and whether they agree."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from google.protobuf.json_format import MessageToDict
from libretto.checkout.v1 import checkout_service_pb2, checkout_service_pb2_grpc, order_pb2
from libretto.inventory.v1 import inventory_service_pb2, inventory_service_pb2_grpc, stock_pb2
from libretto.payment.v1 import payment_pb2, payment_service_pb2, payment_service_pb2_grpc

from scripts.lib.shop import CARD_PROCESSOR, Shop
from services.common.fields import read_money
from services.common.values import Money

if TYPE_CHECKING:
    from libretto.checkout.v1.checkout_service_pb2_grpc import CheckoutServiceAsyncStub
    from libretto.inventory.v1.inventory_service_pb2_grpc import InventoryServiceAsyncStub
    from libretto.payment.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub

_LIMIT_SECONDS: Final = 10.0
_COMPLETED: Final = order_pb2.ORDER_STATE_COMPLETED
_REJECTED: Final = order_pb2.ORDER_STATE_REJECTED


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """An effect that the card processor has on record."""

    kind: str
    amount: Money
    time: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Booking:
    """An order, its payment, and what the card processor has on record of it."""

    order: order_pb2.Order
    payment: payment_pb2.Payment
    ledger: tuple[LedgerEntry, ...]

    @property
    def total(self) -> Money:
        """What the order costs."""
        return read_money(self.order.total)

    @property
    def captured(self) -> Money:
        """What payment says was taken."""
        taken = self.payment.HasField("captured_amount")
        return read_money(self.payment.captured_amount) if taken else Money(self.total.currency, 0)

    @property
    def order_state(self) -> str:
        """The order's state, such as `COMPLETED`."""
        return order_pb2.OrderState.Name(self.order.state).removeprefix("ORDER_STATE_")

    @property
    def payment_state(self) -> str:
        """The payment's state, such as `CAPTURED`."""
        return payment_pb2.PaymentState.Name(self.payment.state).removeprefix("PAYMENT_STATE_")

    def disagreements(self) -> list[str]:
        """Say what does not fit together, or is not finished yet."""
        held, taken = LedgerEntry("authorized", self.total), LedgerEntry("captured", self.total)
        nothing_kept = [(held, LedgerEntry("voided", self.total)), (LedgerEntry("declined", self.total),)]
        if self.order.state == _COMPLETED:
            fits = self.captured == self.total and self.ledger == (held, taken)
        elif self.order.state == _REJECTED:
            fits = self.captured.minor == 0 and self.ledger in nothing_kept
        else:
            fits = False
        entries = ", ".join(f"{entry.kind} {entry.amount}" for entry in self.ledger)
        story = f"{self.order_state}, payment {self.payment_state}, processor: {entries or 'nothing'}"
        return [] if fits else [f"order {self.order.number} is {story}"]


@dataclass(frozen=True, slots=True)
class Books:
    """The books of the shop at one moment."""

    bookings: tuple[Booking, ...]
    stock: tuple[stock_pb2.StockLevel, ...]

    def disagreements(self) -> list[str]:
        """Say what does not fit together, or is not finished yet; nothing once all is quiet and right."""
        wrong = [text for booking in self.bookings for text in booking.disagreements()]
        for level in self.stock:
            sold = self._sold(level.sku)
            if level.reserved or level.sold != sold or level.available != level.received - sold:
                wrong.append(f"{sold} pieces of {level.sku} were ordered for good, but its stock is {level}".strip())
        return wrong

    def as_data(self) -> dict[str, Any]:
        """Return the books as JSON knows them: the resources as their services answer them, and the ledger."""
        return {
            "orders": [
                {
                    "order": MessageToDict(booking.order),
                    "payment": MessageToDict(booking.payment),
                    "ledger": [
                        {"kind": entry.kind, "currency": entry.amount.currency, "amount_minor": entry.amount.minor}
                        for entry in booking.ledger
                    ],
                }
                for booking in self.bookings
            ],
            "stock": [MessageToDict(level) for level in self.stock],
        }

    def _sold(self, sku: str) -> int:
        completed = [booking.order for booking in self.bookings if booking.order.state == _COMPLETED]
        return sum(line.quantity for order in completed for line in order.lines if line.sku == sku)


async def read_books(shop: Shop, order_ids: Sequence[str], skus: Sequence[str]) -> Books:
    """Ask each service, and the card processor, for what it has on record."""
    inventory: InventoryServiceAsyncStub = inventory_service_pb2_grpc.InventoryServiceStub(shop.channels["inventory"])
    async with _processor_session(shop) as session:
        bookings = [await _booking(shop, session, order_id) for order_id in order_ids]
    levels = []
    for sku in skus:
        answer = await inventory.GetStock(inventory_service_pb2.GetStockRequest(sku=sku), timeout=_LIMIT_SECONDS)
        levels.append(answer.stock_level)
    return Books(tuple(bookings), tuple(levels))


def _processor_session(shop: Shop) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        f"http://{shop.addresses[CARD_PROCESSOR]}",
        headers={"Authorization": f"Bearer {shop.processor_api_key}"},
        timeout=aiohttp.ClientTimeout(total=_LIMIT_SECONDS),
        raise_for_status=True,
    )


def ledger_path(payment_id: str) -> str:
    """Return where the card processor shows its entries for one payment."""
    return f"/v1/ledger?authorization_id={payment_id}"


async def _booking(shop: Shop, session: aiohttp.ClientSession, order_id: str) -> Booking:
    checkout: CheckoutServiceAsyncStub = checkout_service_pb2_grpc.CheckoutServiceStub(shop.channels["checkout"])
    payments: PaymentServiceAsyncStub = payment_service_pb2_grpc.PaymentServiceStub(shop.channels["payment"])
    order_request = checkout_service_pb2.GetOrderRequest(order_id=order_id)
    order = (await checkout.GetOrder(order_request, timeout=_LIMIT_SECONDS)).order
    payment_request = payment_service_pb2.GetPaymentRequest(payment_id=order.payment_id)
    payment = (await payments.GetPayment(payment_request, timeout=_LIMIT_SECONDS)).payment
    currency = order.total.currency_code  # The ledger's entries have amounts only.
    async with session.get(ledger_path(order.payment_id)) as response:
        entries = (await response.json())["entries"]
    ledger = [LedgerEntry(entry["kind"], Money(currency, entry["amount_minor"]), entry["time"]) for entry in entries]
    return Booking(order, payment, tuple(ledger))
