"""The services that checkout calls: pricing for the quote, inventory and payment as participants of the saga."""

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from libretto.inventory.v1 import inventory_service_pb2, inventory_service_pb2_grpc, reservation_pb2
from libretto.payment.v1 import payment_service_pb2, payment_service_pb2_grpc
from libretto.pricing.v1 import pricing_service_pb2, pricing_service_pb2_grpc, quote_pb2
from opentelemetry import trace

from services.checkout.coordinator import Answer, Done, NotKnown, Refused
from services.checkout.domain import Order, OrderLine, Quote, QuoteNotFoundError
from services.checkout.saga import Action
from services.common import deadline, tracing
from services.common.errors import RemoteError
from services.common.fields import money_message, read_address, read_money, time_message
from services.common.values import DeadlineTooShortError

if TYPE_CHECKING:
    from libretto.inventory.v1.inventory_service_pb2_grpc import InventoryServiceAsyncStub
    from libretto.payment.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub
    from libretto.pricing.v1.pricing_service_pb2_grpc import PricingServiceAsyncStub

_VERDICTS = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
    }
)
"""The codes that say no for good, with a reason of Libretto. Anything else leaves the outcome open: the same request
asks again."""


class PricingClient:
    """Reads quotes."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """Call pricing over a channel of `services.common.client`."""
        self._stub: PricingServiceAsyncStub = pricing_service_pb2_grpc.PricingServiceStub(channel)

    async def get_quote(self, quote_id: UUID) -> Quote:
        """Read a quote. Raises QuoteNotFoundError, RemoteError."""
        try:
            response = await self._stub.GetQuote(pricing_service_pb2.GetQuoteRequest(quote_id=str(quote_id)))
        except RemoteError as error:
            if error.reason == QuoteNotFoundError.reason:
                raise QuoteNotFoundError(quote_id) from None
            raise
        quote = response.quote
        return Quote(
            quote_id=quote_id,
            lines=tuple(_line(line) for line in quote.lines),
            total=read_money(quote.total),
            shipping_address=read_address(quote.shipping_address),
            expire_time=quote.expire_time.ToDatetime(dt.UTC),
        )


class GrpcParticipants:
    """Asks inventory and payment for the saga's actions."""

    def __init__(self, inventory: grpc.aio.Channel, payment: grpc.aio.Channel, tracer: trace.Tracer) -> None:
        """Call over channels of `services.common.client`; each action is a span of its own."""
        self._tracer = tracer
        stock: InventoryServiceAsyncStub = inventory_service_pb2_grpc.InventoryServiceStub(inventory)
        money: PaymentServiceAsyncStub = payment_service_pb2_grpc.PaymentServiceStub(payment)
        self._calls: dict[Action, tuple[Callable[[Any], Awaitable[Message]], Callable[[Order], Message]]] = {
            Action.RESERVE_STOCK: (stock.ReserveStock, reserve_stock),
            Action.COMMIT_RESERVATION: (stock.CommitReservation, commit_reservation),
            Action.RELEASE_RESERVATION: (stock.ReleaseReservation, release_reservation),
            Action.AUTHORIZE_PAYMENT: (money.AuthorizePayment, authorize_payment),
            Action.CAPTURE_PAYMENT: (money.CapturePayment, capture_payment),
            Action.VOID_PAYMENT: (money.VoidPayment, void_payment),
        }

    async def perform(self, action: Action, order: Order, budget_seconds: float) -> Answer:
        """Ask once; how the call ended says what is known."""
        call, request_of = self._calls[action]
        with tracing.span(self._tracer, action) as span:
            try:
                with deadline.within(budget_seconds):
                    await call(request_of(order))
            except RemoteError as error:
                answer = _answer(error)
            except DeadlineTooShortError:
                answer = NotKnown("NOT_SENT")
            else:
                return Done()
            span.set_attribute("libretto.reason", answer.reason if isinstance(answer, Refused) else answer.why)
            return answer


def _answer(error: RemoteError) -> Refused | NotKnown:
    reason = error.reason or error.code.name
    if error.service and error.code in _VERDICTS:
        return Refused(reason, error.metadata)
    return NotKnown(reason, error.retry_after_seconds)


def _key(order: Order, action: Action) -> str:
    return f"{order.order_id}-{action}"


def reserve_stock(order: Order) -> inventory_service_pb2.ReserveStockRequest:
    """Hold an order's lines for ten times as long as the saga may take before the pivot."""
    hold_duration = Duration()
    hold_duration.FromTimedelta(10 * (order.decide_by - order.create_time))
    return inventory_service_pb2.ReserveStockRequest(
        request_id=_key(order, Action.RESERVE_STOCK),
        reservation_id=str(order.reservation_id),
        order_id=str(order.order_id),
        lines=[reservation_pb2.ReservationLine(sku=line.sku, quantity=line.quantity) for line in order.lines],
        hold_duration=hold_duration,
        valid_until=time_message(order.decide_by),
    )


def commit_reservation(order: Order) -> inventory_service_pb2.CommitReservationRequest:
    """Sell what is held."""
    return inventory_service_pb2.CommitReservationRequest(
        request_id=_key(order, Action.COMMIT_RESERVATION),
        reservation_id=str(order.reservation_id),
        order_id=str(order.order_id),
    )


def release_reservation(order: Order) -> inventory_service_pb2.ReleaseReservationRequest:
    """Give back what is held, or see to it that it never will be."""
    return inventory_service_pb2.ReleaseReservationRequest(
        request_id=_key(order, Action.RELEASE_RESERVATION),
        reservation_id=str(order.reservation_id),
        order_id=str(order.order_id),
    )


def authorize_payment(order: Order) -> payment_service_pb2.AuthorizePaymentRequest:
    """Hold the total on the card."""
    return payment_service_pb2.AuthorizePaymentRequest(
        request_id=_key(order, Action.AUTHORIZE_PAYMENT),
        payment_id=str(order.payment_id),
        order_id=str(order.order_id),
        amount=money_message(order.total),
        payment_method_token=order.payment_method_token or "",
        valid_until=time_message(order.decide_by),
    )


def capture_payment(order: Order) -> payment_service_pb2.CapturePaymentRequest:
    """Take the total."""
    return payment_service_pb2.CapturePaymentRequest(
        request_id=_key(order, Action.CAPTURE_PAYMENT),
        payment_id=str(order.payment_id),
        order_id=str(order.order_id),
        valid_until=time_message(order.decide_by),
    )


def void_payment(order: Order) -> payment_service_pb2.VoidPaymentRequest:
    """See to it that the total is never taken."""
    return payment_service_pb2.VoidPaymentRequest(
        request_id=_key(order, Action.VOID_PAYMENT),
        payment_id=str(order.payment_id),
        order_id=str(order.order_id),
    )


def _line(line: quote_pb2.QuoteLine) -> OrderLine:
    return OrderLine(
        product_id=UUID(line.product_id),
        sku=line.sku,
        title=line.title,
        unit_price=read_money(line.unit_price),
        quantity=line.quantity,
        line_total=read_money(line.line_total),
    )
