"""The servicer: requests parsed, orders placed, verdicts waited for, orders written as messages."""

import re
from typing import Final
from uuid import UUID

from libretto.checkout.v1 import checkout_service_pb2 as pb
from libretto.checkout.v1 import checkout_service_pb2_grpc, order_pb2
from opentelemetry import trace

from services.checkout.domain import (
    Coordination,
    Customer,
    Order,
    OrderState,
    Placement,
)
from services.checkout.messages import order_message
from services.checkout.placing import Placing
from services.common import deadline
from services.common.fields import REQUEST_ID, Fields
from services.common.idempotency import Fingerprints, Keyed, Undecided, Verdict
from services.common.layers import Context
from services.common.pages import parse_page

_EMAIL: Final = re.compile(r"[^@\s\x00]{1,64}@[^@\s\x00]{1,189}")
_LOCALE: Final = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}")
_DEFAULT_LOCALE: Final = "en"
_LAST_MOMENT_SECONDS: Final = 0.025
"""How long before the call's time is over an order that is not decided yet is answered as it stands."""
_POLL_SECONDS: Final = 0.1


class CheckoutServicer(checkout_service_pb2_grpc.CheckoutServiceServicer):
    """Answers CheckoutService."""

    def __init__(self, placing: Placing, fingerprints: Fingerprints) -> None:
        """Answer from a store, and have orders placed."""
        self._placing, self._store, self._fingerprints = placing, placing.store, fingerprints

    async def PlaceOrder(self, request: pb.PlaceOrderRequest, context: Context) -> pb.PlaceOrderResponse:
        """Place an order, or find the one that the request placed before, and wait for its verdict."""
        keyed = self._fingerprints.keyed(request.request_id, _place_order(request))
        verdict = await self._store.replayed(keyed)
        if verdict is None:
            verdict = await self._placing.place(keyed)
        if not isinstance(verdict, Undecided):
            return verdict.parse(pb.PlaceOrderResponse)
        order = await self._store.get_by_request(keyed.request_id)
        _describe(order)
        verdict = await self._wait(keyed, order)
        if isinstance(verdict, Undecided):
            order = await self._store.get(order.order_id)
            if order.state is OrderState.PROCESSING:
                return pb.PlaceOrderResponse(order=order_message(order))
            verdict = await self._store.replayed(keyed) or verdict  # It was decided in the last moment.
        return verdict.parse(pb.PlaceOrderResponse)

    async def GetOrder(self, request: pb.GetOrderRequest, context: Context) -> pb.GetOrderResponse:
        """Read one order."""
        with Fields() as fields:
            order_id = fields.uuid("order_id", request.order_id)
        return pb.GetOrderResponse(order=order_message(await self._store.get(order_id)))

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Context) -> pb.ListOrdersResponse:
        """List orders, newest first."""
        with Fields() as fields:
            customer_id = request.customer_id or None
            if customer_id is not None:
                fields.matching("customer_id", customer_id, REQUEST_ID, "1 to 64 characters of [A-Za-z0-9_-]")
            state = fields.optional_enum("state", request.state, order_pb2.OrderState.Name, "ORDER_STATE_", OrderState)
            filters = ("orders", request.customer_id, str(request.state))
            page = parse_page(fields, request.page_size, request.page_token, key_length=1, filters=filters)
            after = page.position(fields, UUID, None)
        orders = await self._store.list_orders(after, customer_id, state, page.size + 1)
        shown, next_page_token = page.cut(orders, lambda order: (str(order.order_id),))
        return pb.ListOrdersResponse(orders=map(order_message, shown), next_page_token=next_page_token)

    async def _wait(self, keyed: Keyed[Placement], order: Order) -> Verdict:
        """Wait for a verdict until shortly before the call's time is over: from the saga here, or from the database."""
        left_seconds = (deadline.remaining_seconds() or 0.0) - _LAST_MOMENT_SECONDS
        verdict = await self._placing.sagas.verdict(order.order_id, max(0.0, left_seconds))
        while verdict is None:
            stored = await self._store.replayed(keyed)
            left_seconds = (deadline.remaining_seconds() or 0.0) - _LAST_MOMENT_SECONDS
            if stored is not None and not isinstance(stored, Undecided):
                return stored
            if left_seconds <= 0:
                return Undecided()
            await self._placing.clock.sleep(min(_POLL_SECONDS, left_seconds))
        return verdict


def _describe(order: Order) -> None:
    """Let the call's span say which order it is about."""
    span = trace.get_current_span()
    span.set_attribute("libretto.order_id", str(order.order_id))
    span.set_attribute("libretto.order_number", order.number)


def _place_order(request: pb.PlaceOrderRequest) -> Placement:
    with Fields() as fields:
        fields.request_id(request.request_id)
        quote_id = fields.uuid("quote_id", request.quote_id)
        customer = _customer(fields.nested("customer", request.customer, present=request.HasField("customer")), request)
        token = fields.token("payment_method_token", request.payment_method_token)
        address = fields.address(
            "shipping_address", request.shipping_address, present=request.HasField("shipping_address")
        )
        coordination = fields.optional_enum(
            "coordination", request.coordination, order_pb2.Coordination.Name, "COORDINATION_", Coordination
        )
    return Placement(quote_id, customer, token, address, coordination)


def _customer(fields: Fields | None, request: pb.PlaceOrderRequest) -> Customer:
    message = request.customer
    if fields is not None:
        fields.matching("customer_id", message.customer_id, REQUEST_ID, "1 to 64 characters of [A-Za-z0-9_-]")
        fields.matching("email", message.email, _EMAIL, "an e-mail address of at most 254 characters")
        if message.locale:
            fields.matching("locale", message.locale, _LOCALE, "a tag of BCP 47, such as de-AT")
    return Customer(message.customer_id, message.email, message.locale or _DEFAULT_LOCALE)
