"""Orders written as messages of the contract."""

from libretto.checkout.v1 import checkout_service_pb2 as pb
from libretto.checkout.v1 import errors_pb2, order_pb2

from services.checkout.domain import Order, OrderLine, OrderRejectedError, Rejection
from services.common.errors import to_status
from services.common.fields import address_message, money_message, time_message
from services.common.idempotency import Answered, Refused


def verdict_of(order: Order) -> Answered | Refused:
    """Write the answer to the customer of a decided order."""
    if order.rejection is not None:
        return Refused(to_status(OrderRejectedError(order.order_id, order.rejection)).SerializeToString())
    response = pb.PlaceOrderResponse(order=order_message(order))
    return Answered(response.SerializeToString(deterministic=True))


def order_message(order: Order) -> order_pb2.Order:
    """Write an order."""
    return order_pb2.Order(
        order_id=str(order.order_id),
        number=order.number,
        state=order_pb2.OrderState.Value(f"ORDER_STATE_{order.state.value}"),
        quote_id=str(order.quote_id),
        customer=order_pb2.Customer(
            customer_id=order.customer.customer_id, email=order.customer.email, locale=order.customer.locale
        ),
        shipping_address=address_message(order.shipping_address),
        lines=[_line_message(line) for line in order.lines],
        total=money_message(order.total),
        coordination=order_pb2.Coordination.Value(f"COORDINATION_{order.coordination.value}"),
        reservation_id=str(order.reservation_id),
        payment_id=str(order.payment_id),
        rejection=None if order.rejection is None else _rejection_message(order.rejection),
        needs_attention=order.needs_attention,
        trace_id=order.trace_id,
        create_time=time_message(order.create_time),
        update_time=time_message(order.update_time),
    )


def _line_message(line: OrderLine) -> order_pb2.OrderLine:
    return order_pb2.OrderLine(
        product_id=str(line.product_id),
        sku=line.sku,
        title=line.title,
        unit_price=money_message(line.unit_price),
        quantity=line.quantity,
        line_total=money_message(line.line_total),
    )


def _rejection_message(rejection: Rejection) -> order_pb2.Rejection:
    reason = errors_pb2.ErrorReason.Value(f"ERROR_REASON_{rejection.reason.value}")
    return order_pb2.Rejection(reason=reason, metadata=rejection.metadata)
