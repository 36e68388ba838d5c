"""A valid request for each RPC: every required field is set, every message is there, and every list has two items."""

from collections.abc import Callable, Mapping

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from libretto.catalog.v1 import catalog_service_pb2 as catalog
from libretto.checkout.v1 import checkout_service_pb2 as checkout
from libretto.checkout.v1 import order_pb2
from libretto.inventory.v1 import inventory_service_pb2 as inventory
from libretto.inventory.v1.reservation_pb2 import ReservationLine
from libretto.payment.v1 import payment_service_pb2 as payment
from libretto.pricing.v1 import pricing_service_pb2 as pricing

from tests.integration.bad_input.world import ADDRESS, CARD, CUSTOMER, PRICE, World
from tests.rpc import new_key, new_sku, new_uuid

IN_2100 = Timestamp(seconds=4_102_444_800)

VALID: Mapping[str, Callable[[World], Message]] = {
    "catalog.GetProduct": lambda world: catalog.GetProductRequest(product_id=world.product_ids[0]),
    "catalog.BatchGetProducts": lambda world: catalog.BatchGetProductsRequest(product_ids=world.product_ids),
    "catalog.ListProducts": lambda _: catalog.ListProductsRequest(page_size=2, category="kitchen"),
    "catalog.SearchProducts": lambda _: catalog.SearchProductsRequest(query="lamp", page_size=2),
    "catalog.CreateProduct": lambda _: catalog.CreateProductRequest(
        request_id=new_key(),
        product_id=new_uuid(),
        sku=new_sku(),
        title="Lamp",
        description="It shines.",
        category="kitchen",
        list_price=PRICE,
    ),
    "catalog.UpdateProduct": lambda world: catalog.UpdateProductRequest(
        request_id=new_key(),
        product_id=world.product_ids[0],
        title="Lantern",
        description="It shines.",
        category="kitchen",
        list_price=PRICE,
    ),
    "catalog.ArchiveProduct": lambda world: catalog.ArchiveProductRequest(
        request_id=new_key(), product_id=world.product_ids[0]
    ),
    "inventory.GetStock": lambda world: inventory.GetStockRequest(sku=world.skus[0]),
    "inventory.BatchGetStock": lambda world: inventory.BatchGetStockRequest(skus=world.skus),
    "inventory.AdjustStock": lambda world: inventory.AdjustStockRequest(
        request_id=new_key(), sku=world.skus[0], change=5
    ),
    "inventory.ListMovements": lambda world: inventory.ListMovementsRequest(
        page_size=2, sku=world.skus[0], order_id=world.order_id
    ),
    "inventory.ReserveStock": lambda world: inventory.ReserveStockRequest(
        request_id=new_key(),
        reservation_id=new_uuid(),
        order_id=new_uuid(),
        lines=[ReservationLine(sku=sku, quantity=1) for sku in world.skus],
        hold_duration=Duration(seconds=600),
        valid_until=IN_2100,
    ),
    "inventory.CommitReservation": lambda world: inventory.CommitReservationRequest(
        request_id=new_key(), reservation_id=world.reservation_id, order_id=world.reserving_order_id
    ),
    "inventory.ReleaseReservation": lambda _: inventory.ReleaseReservationRequest(
        request_id=new_key(), reservation_id=new_uuid(), order_id=new_uuid()
    ),
    "inventory.GetReservation": lambda world: inventory.GetReservationRequest(reservation_id=world.reservation_id),
    "inventory.ListReservations": lambda world: inventory.ListReservationsRequest(
        page_size=2, order_id=world.reserving_order_id
    ),
    "payment.AuthorizePayment": lambda _: payment.AuthorizePaymentRequest(
        request_id=new_key(),
        payment_id=new_uuid(),
        order_id=new_uuid(),
        amount=PRICE,
        payment_method_token=CARD,
        valid_until=IN_2100,
    ),
    "payment.CapturePayment": lambda world: payment.CapturePaymentRequest(
        request_id=new_key(), payment_id=world.payment_id, order_id=world.paying_order_id, valid_until=IN_2100
    ),
    "payment.VoidPayment": lambda _: payment.VoidPaymentRequest(
        request_id=new_key(), payment_id=new_uuid(), order_id=new_uuid()
    ),
    "payment.GetPayment": lambda world: payment.GetPaymentRequest(payment_id=world.payment_id),
    "payment.ListPayments": lambda world: payment.ListPaymentsRequest(page_size=2, order_id=world.paying_order_id),
    "pricing.CreateQuote": lambda world: pricing.CreateQuoteRequest(
        request_id=new_key(),
        quote_id=new_uuid(),
        lines=[pricing.CreateQuoteLine(product_id=product_id, quantity=1) for product_id in world.product_ids],
        currency_code="EUR",
        shipping_address=ADDRESS,
    ),
    "pricing.GetQuote": lambda world: pricing.GetQuoteRequest(quote_id=world.quote_id),
    "checkout.PlaceOrder": lambda world: checkout.PlaceOrderRequest(
        request_id=new_key(),
        quote_id=world.quote_id,
        customer=CUSTOMER,
        payment_method_token=CARD,
        shipping_address=ADDRESS,
        coordination=order_pb2.COORDINATION_ORCHESTRATION,
    ),
    "checkout.GetOrder": lambda world: checkout.GetOrderRequest(order_id=world.order_id),
    "checkout.ListOrders": lambda _: checkout.ListOrdersRequest(
        page_size=2, customer_id="customer-1", state=order_pb2.ORDER_STATE_COMPLETED
    ),
}
