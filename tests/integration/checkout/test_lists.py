"""Orders read one by one and in pages, newest first."""

import base64
import datetime as dt
import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import grpc
import pytest
from libretto.checkout.v1 import checkout_service_pb2 as pb
from libretto.checkout.v1.order_pb2 import OrderState

from services.checkout.domain import Customer, Order
from services.checkout.store import OrderStore
from tests.integration.checkout.orders import NOW, confirmation, place, rejection
from tests.rpc import new_key, new_uuid, refusal
from tests.shop import Shop


async def placed(store: OrderStore, customer_id: str, count: int, minutes: Sequence[int] | None = None) -> list[str]:
    """Place orders of a customer, a minute apart or at these minutes; returns their ids, newest first."""
    orders: list[Order] = [
        await place(
            store,
            customer=Customer(customer_id, "ada@example.com", "en"),
            create_time=NOW + dt.timedelta(minutes=minute),
            update_time=NOW,
        )
        for minute in minutes or range(count)
    ]
    orders.sort(key=lambda order: (order.create_time, order.order_id), reverse=True)
    return [str(order.order_id) for order in orders]


async def page(shop: Shop, **fields: Any) -> tuple[list[str], str]:  # noqa: ANN401 - whatever a field takes.
    """Read a page; returns the ids and the token of the next one."""
    response = await shop.checkout.ListOrders(pb.ListOrdersRequest(**fields))
    return [order.order_id for order in response.orders], response.next_page_token


async def test_orders_are_listed_newest_first_page_by_page(shop: Shop, store: OrderStore) -> None:
    """Each once, those of one moment in the order of their ids, and the last page has no token."""
    customer = new_key()
    expected = await placed(store, customer, 7, minutes=(0, 1, 1, 1, 1, 2, 3))
    found, token = await page(shop, customer_id=customer, page_size=3)
    pages = [found]
    while token:
        found, token = await page(shop, customer_id=customer, page_size=3, page_token=token)
        pages.append(found)
    assert pages == [expected[:3], expected[3:6], expected[6:]]


async def test_an_order_placed_between_two_pages_moves_nothing(shop: Shop, store: OrderStore) -> None:
    """It stands before the first page; the second one goes on where the first ended."""
    customer = new_key()
    expected = await placed(store, customer, 4)
    first, token = await page(shop, customer_id=customer, page_size=2)
    newest = await placed(store, customer, 1, minutes=[60])
    second, _ = await page(shop, customer_id=customer, page_size=2, page_token=token)
    assert (first, second) == (expected[:2], expected[2:])
    assert (await page(shop, customer_id=customer))[0] == newest + expected


async def test_orders_are_listed_by_state(shop: Shop, store: OrderStore) -> None:
    """The filters narrow together; a page that is exactly full has no token."""
    customer = new_key()
    processing, confirmed, rejected = await placed(store, customer, 3)
    await store.append([confirmation(await store.get(UUID(confirmed))), rejection(await store.get(UUID(rejected)))])
    for state, expected in (("PROCESSING", processing), ("CONFIRMED", confirmed), ("REJECTED", rejected)):
        value = OrderState.Value(f"ORDER_STATE_{state}")
        assert await page(shop, customer_id=customer, state=value, page_size=1) == ([expected], "")
    assert await page(shop, customer_id=customer, state=OrderState.ORDER_STATE_COMPLETED) == ([], "")


async def test_all_orders_are_listed_without_a_filter(shop: Shop, store: OrderStore) -> None:
    """Fifty at most unless more are asked for."""
    await placed(store, new_key(), 51)
    assert len((await page(shop))[0]) == 50
    assert len((await page(shop, page_size=51))[0]) == 51


def forged(token: str, key: str) -> str:
    """Return a page token of the same list that begins after another key."""
    digest, _ = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return base64.urlsafe_b64encode(json.dumps([digest, key]).encode()).decode().rstrip("=")


async def test_a_page_token_of_another_list_or_of_nobody_is_refused(shop: Shop, store: OrderStore) -> None:
    """Bound to the filter, and read as what it must be: it is a caller's text."""
    customer = new_key()
    await placed(store, customer, 2)
    _, token = await page(shop, customer_id=customer, page_size=1)
    wrong = (
        {"page_token": token},
        {"page_token": token, "customer_id": customer, "state": OrderState.ORDER_STATE_REJECTED},
        {"page_token": "x", "customer_id": customer},
        {"page_token": forged(token, "no id"), "customer_id": customer},
    )
    for fields in wrong:
        refused = await refusal(page(shop, **fields))
        assert (refused.code, refused.fields) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            (("page_token", "PAGE_TOKEN_INVALID"),),
        )
    assert await page(shop, page_token=forged(token, new_uuid()), customer_id=customer) == ([], "")


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({"page_size": -1}, ("page_size", "FIELD_OUT_OF_RANGE")),
        ({"customer_id": "not an id"}, ("customer_id", "FIELD_INVALID")),
        ({"state": 99}, ("state", "FIELD_INVALID")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_wrong_field_of_a_list_is_refused(
    shop: Shop, fields: dict[str, Any], violation: tuple[str, str]
) -> None:
    """With its name and its reason."""
    refused = await refusal(page(shop, **fields))
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (violation,))


async def test_an_order_that_does_not_exist_is_not_found(shop: Shop) -> None:
    """An id that is none is refused as a field instead."""
    refused = await refusal(shop.checkout.GetOrder(pb.GetOrderRequest(order_id=new_uuid())))
    assert (refused.code, refused.reason, refused.domain) == (
        grpc.StatusCode.NOT_FOUND,
        "ORDER_NOT_FOUND",
        "checkout.libretto",
    )
    refused = await refusal(shop.checkout.GetOrder(pb.GetOrderRequest(order_id="no id")))
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (("order_id", "FIELD_INVALID"),))
