"""What the shop does not know or cannot do: each documented refusal that one field can cause, with nothing booked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from libretto.catalog.v1 import catalog_service_pb2 as catalog
from libretto.checkout.v1 import order_pb2
from libretto.inventory.v1 import inventory_service_pb2 as inventory

from tests.integration.bad_input.methods import call
from tests.integration.bad_input.requests import VALID
from tests.integration.bad_input.walks import change
from tests.integration.bad_input.world import World, new_quote, nothing_booked
from tests.rpc import new_sku, new_uuid, refusal

NOT_FOUND, REFUSED = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION
LONG_AGO = Timestamp(seconds=1)
TOO_MANY = {"requested": "1000"}
IN_YEN = {"currency_code": "JPY"}
A_DAY_AGO = """
    UPDATE quotes SET create_time = create_time - interval '1 day', expire_time = expire_time - interval '1 day'
    WHERE quote_id = $1
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A method, what is different from a valid request, and how that is refused."""

    name: str
    path: str
    value: Callable[[World], Any]
    code: grpc.StatusCode
    reason: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Some of it, where the contract promises any."""
    domain: str = ""
    """Where it is not the service's own."""

    def __str__(self) -> str:
        """Name the case."""
        return f"{self.name} {self.path}: {self.reason}"


def unknown(_world: World) -> str:
    """Return an id that nothing has."""
    return new_uuid()


def reserved(world: World) -> str:
    """Return the id of a reservation that another order has."""
    return world.reservation_id


def unknown_sku(_world: World) -> str:
    """Return a SKU of which nothing was ever received."""
    return new_sku()


UNKNOWN_IDS = [
    Case("catalog.GetProduct", "product_id", unknown, NOT_FOUND, "PRODUCT_NOT_FOUND"),
    Case("catalog.UpdateProduct", "product_id", unknown, NOT_FOUND, "PRODUCT_NOT_FOUND"),
    Case("catalog.ArchiveProduct", "product_id", unknown, NOT_FOUND, "PRODUCT_NOT_FOUND"),
    Case("inventory.GetStock", "sku", unknown_sku, NOT_FOUND, "SKU_NOT_FOUND"),
    Case("inventory.ReserveStock", "lines[1].sku", unknown_sku, REFUSED, "OUT_OF_STOCK", {"available": "0"}),
    Case("inventory.CommitReservation", "reservation_id", unknown, NOT_FOUND, "RESERVATION_NOT_FOUND"),
    Case("inventory.CommitReservation", "order_id", unknown, REFUSED, "RESERVATION_ID_TAKEN"),
    Case("inventory.GetReservation", "reservation_id", unknown, NOT_FOUND, "RESERVATION_NOT_FOUND"),
    Case("payment.CapturePayment", "payment_id", unknown, NOT_FOUND, "PAYMENT_NOT_FOUND"),
    Case("payment.CapturePayment", "order_id", unknown, REFUSED, "PAYMENT_ID_TAKEN"),
    Case("payment.GetPayment", "payment_id", unknown, NOT_FOUND, "PAYMENT_NOT_FOUND"),
    Case(
        "pricing.CreateQuote",
        "lines[1].product_id",
        unknown,
        NOT_FOUND,
        "PRODUCT_NOT_FOUND",
        {"field": "lines[1].product_id"},
    ),
    Case("pricing.GetQuote", "quote_id", unknown, NOT_FOUND, "QUOTE_NOT_FOUND"),
    Case("checkout.PlaceOrder", "quote_id", unknown, NOT_FOUND, "QUOTE_NOT_FOUND"),
    Case("checkout.GetOrder", "order_id", unknown, NOT_FOUND, "ORDER_NOT_FOUND"),
]

OTHER_REFUSALS = [
    Case("catalog.CreateProduct", "sku", lambda world: world.skus[0], REFUSED, "SKU_TAKEN"),
    Case("catalog.CreateProduct", "product_id", lambda world: world.product_ids[0], REFUSED, "PRODUCT_ID_TAKEN"),
    Case("catalog.UpdateProduct", "etag", lambda _: "stale", grpc.StatusCode.ABORTED, "ETAG_MISMATCH"),
    Case("catalog.ArchiveProduct", "etag", lambda _: "stale", grpc.StatusCode.ABORTED, "ETAG_MISMATCH"),
    Case("inventory.AdjustStock", "change", lambda _: -1_000_000, REFUSED, "ADJUSTMENT_IMPOSSIBLE"),
    Case(
        "inventory.ReserveStock", "lines[0].quantity", lambda _: 1_000, REFUSED, "OUT_OF_STOCK", {"requested": "1000"}
    ),
    Case(
        "inventory.ReserveStock", "reservation_id", lambda world: world.reservation_id, REFUSED, "RESERVATION_ID_TAKEN"
    ),
    Case("inventory.ReserveStock", "valid_until", lambda _: LONG_AGO, REFUSED, "VALID_UNTIL_PASSED", domain="common"),
    Case(
        "inventory.ReleaseReservation",
        "reservation_id",
        lambda world: world.reservation_id,
        REFUSED,
        "RESERVATION_ID_TAKEN",
    ),
    Case("payment.AuthorizePayment", "payment_id", lambda world: world.payment_id, REFUSED, "PAYMENT_ID_TAKEN"),
    Case("payment.AuthorizePayment", "order_id", lambda world: world.paying_order_id, REFUSED, "ORDER_HAS_PAYMENT"),
    Case("payment.AuthorizePayment", "valid_until", lambda _: LONG_AGO, REFUSED, "VALID_UNTIL_PASSED", domain="common"),
    Case("payment.CapturePayment", "valid_until", lambda _: LONG_AGO, REFUSED, "VALID_UNTIL_PASSED", domain="common"),
    Case("payment.VoidPayment", "payment_id", lambda world: world.payment_id, REFUSED, "PAYMENT_ID_TAKEN"),
    Case("payment.VoidPayment", "order_id", lambda world: world.paying_order_id, REFUSED, "ORDER_HAS_PAYMENT"),
    Case(
        "pricing.CreateQuote",
        "currency_code",
        lambda _: "JPY",
        REFUSED,
        "CURRENCY_NOT_OFFERED",
        {"currency_code": "JPY"},
    ),
    Case("pricing.CreateQuote", "quote_id", lambda world: world.quote_id, REFUSED, "QUOTE_ID_TAKEN"),
    Case("checkout.PlaceOrder", "quote_id", lambda world: world.used_quote_id, REFUSED, "QUOTE_ALREADY_USED"),
    Case("checkout.PlaceOrder", "shipping_address.locality", lambda _: "Graz", REFUSED, "SHIPPING_ADDRESS_MISMATCH"),
    Case(
        "checkout.PlaceOrder",
        "coordination",
        lambda _: order_pb2.COORDINATION_CHOREOGRAPHY,
        REFUSED,
        "COORDINATION_UNAVAILABLE",
    ),
]


@pytest.mark.parametrize("case", [*UNKNOWN_IDS, *OTHER_REFUSALS], ids=str)
async def test_a_request_that_cannot_be_met_is_refused_by_its_reason(world: World, case: Case) -> None:
    """With the code and the metadata that the contract states. Only the verdict itself is kept."""
    request = VALID[case.name](world)
    change(request, case.path, case.value(world))
    async with nothing_booked(world, verdict_kept=True):
        found = await refusal(call(world.shop, case.name, request))
    assert (found.code, found.reason) == (case.code, case.reason)
    assert found.domain == f"{case.domain or case.name.partition('.')[0]}.libretto"
    assert case.metadata.items() <= found.metadata.items()
    assert found.fields == ()


async def test_writing_off_pieces_of_an_unknown_sku_is_refused(world: World) -> None:
    """Only a receipt makes a SKU known."""
    request = VALID["inventory.AdjustStock"](world)
    change(request, "sku", new_sku())
    change(request, "change", -5)
    async with nothing_booked(world, verdict_kept=True):
        found = await refusal(call(world.shop, "inventory.AdjustStock", request))
    assert (found.code, found.reason) == (NOT_FOUND, "SKU_NOT_FOUND")


async def test_unknown_ids_of_a_batch_fail_their_own_items_only(world: World) -> None:
    """With the status that the single call would have."""
    product_ids = [world.product_ids[0], new_uuid()]
    skus = [new_sku(), world.skus[0]]
    async with nothing_booked(world):
        products = await call(
            world.shop, "catalog.BatchGetProducts", catalog.BatchGetProductsRequest(product_ids=product_ids)
        )
        levels = await call(world.shop, "inventory.BatchGetStock", inventory.BatchGetStockRequest(skus=skus))
    assert [result.WhichOneof("result") for result in products.results] == ["product", "status"]
    assert [result.WhichOneof("result") for result in levels.results] == ["status", "stock_level"]
    assert products.results[1].status.code == levels.results[0].status.code == NOT_FOUND.value[0]


async def test_an_expired_quote_is_refused(world: World) -> None:
    """With the time at which it expired; nothing is held and nothing is charged."""
    quote_id = await new_quote(world.shop, world.product_ids)
    async with world.shop.databases["pricing"].connection() as connection:
        await connection.execute(A_DAY_AGO, quote_id)
    request = VALID["checkout.PlaceOrder"](world)
    change(request, "quote_id", quote_id)
    async with nothing_booked(world, verdict_kept=True):
        found = await refusal(call(world.shop, "checkout.PlaceOrder", request))
    assert (found.code, found.reason, found.domain) == (REFUSED, "QUOTE_EXPIRED", "checkout.libretto")
    assert set(found.metadata) == {"expire_time"}


async def test_a_total_that_is_too_large_is_refused(world: World) -> None:
    """Each price is allowed; their sum is not."""
    creation = VALID["catalog.CreateProduct"](world)
    change(creation, "list_price.units", 9_999_999_999)
    product = (await call(world.shop, "catalog.CreateProduct", creation)).product
    request = VALID["pricing.CreateQuote"](world)
    change(request, "lines[0].product_id", product.product_id)
    change(request, "lines[0].quantity", 2)
    async with nothing_booked(world, verdict_kept=True):
        found = await refusal(call(world.shop, "pricing.CreateQuote", request))
    assert (found.code, found.reason) == (REFUSED, "TOTAL_TOO_LARGE")


async def test_an_archived_product_is_neither_changed_nor_quoted(fresh_world: World) -> None:
    """By the same reason of two services."""
    world = fresh_world
    await call(world.shop, "catalog.ArchiveProduct", VALID["catalog.ArchiveProduct"](world))
    async with nothing_booked(world, verdict_kept=True):
        for name, service in (("catalog.UpdateProduct", "catalog"), ("pricing.CreateQuote", "pricing")):
            found = await refusal(call(world.shop, name, VALID[name](world)))
            assert (found.code, found.reason, found.domain) == (REFUSED, "PRODUCT_ARCHIVED", f"{service}.libretto")
