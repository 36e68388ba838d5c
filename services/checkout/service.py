"""The servicer: requests parsed, orders placed, verdicts waited for, orders written as messages."""

import re
from typing import Final
from uuid import UUID

from libretto.checkout.v1 import checkout_service_pb2 as pb
from libretto.checkout.v1 import checkout_service_pb2_grpc, order_pb2

from services.checkout.domain import (
    Coordination,
    Customer,
    Order,
    OrderState,
    Placement,
)
from services.checkout.messages import order_message
from services.checkout.placing import Placing
from services.checkout.store import OrderStore
from services.common.fields import REQUEST_ID, Fields
from services.common.idempotency import Fingerprints
from services.common.layers import Context
from services.common.pages import parse_page

_EMAIL: Final = re.compile(r"[^@\s\x00]{1,64}@[^@\s\x00]{1,189}")
_LOCALE: Final = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}")
_DEFAULT_LOCALE: Final = "en"


class CheckoutServicer(checkout_service_pb2_grpc.CheckoutServiceServicer):
    """Answers CheckoutService."""

    def __init__(self, placing: Placing, store: OrderStore, fingerprints: Fingerprints) -> None:
        """Have orders placed, and read them from a store."""
        self._placing, self._store, self._fingerprints = placing, store, fingerprints

    async def PlaceOrder(self, request: pb.PlaceOrderRequest, context: Context) -> pb.PlaceOrderResponse:
        """Place an order, and answer its verdict or, when the time is nearly over, the order as it stands."""
        keyed = self._fingerprints.keyed(request.request_id, _place_order(request))
        outcome = await self._placing.place(keyed)
        if isinstance(outcome, Order):
            return pb.PlaceOrderResponse(order=order_message(outcome))
        return outcome.parse(pb.PlaceOrderResponse)

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


def _place_order(request: pb.PlaceOrderRequest) -> Placement:
    with Fields() as fields:
        fields.request_id(request.request_id)
        quote_id = fields.uuid("quote_id", request.quote_id)
        customer = _customer(fields.nested("customer", present=request.HasField("customer")), request)
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
