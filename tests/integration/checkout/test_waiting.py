"""How long a caller waits, and what becomes of an order whose caller waits no longer."""

import asyncio
from uuid import UUID

import grpc
import pytest
from libretto.checkout.v1 import checkout_service_pb2 as pb
from libretto.checkout.v1.order_pb2 import OrderState
from libretto.payment.v1.payment_pb2 import PaymentState
from libretto.payment.v1.payment_service_pb2 import ListPaymentsRequest

from services.checkout.domain import Placement
from services.checkout.runner import SagaRunner
from services.checkout.store import OrderStore
from services.common.database import ensure_database
from services.common.idempotency import Keyed, Undecided, Verdict
from tests.integration.card_processor import Processor
from tests.integration.checkout import shopping
from tests.integration.checkout.shopping import (
    outcome,
    place_request,
    placed,
    quoted,
    stock_held,
    stocked,
    until,
    waits_for_a_lock,
)
from tests.rpc import refusal
from tests.shop import Shop, open_shop

SHORT_SECONDS = 0.5
PROCESSING, CONFIRMED = OrderState.ORDER_STATE_PROCESSING, OrderState.ORDER_STATE_CONFIRMED


async def test_a_short_deadline_is_answered_with_the_order_as_it_stands(shop: Shop) -> None:
    """It is PROCESSING, goes on by itself, and the same request_id learns the outcome."""
    product = await stocked(shop, 1)
    request = place_request(await quoted(shop, product), "tok_slow")
    async with stock_held(shop, product.sku):
        order = await placed(shop, request, SHORT_SECONDS)
        assert order.state == PROCESSING
        assert (await placed(shop, request, SHORT_SECONDS)).state == PROCESSING
    confirmed = await placed(shop, request)
    assert (confirmed.state, confirmed.order_id) == (CONFIRMED, order.order_id)
    await shopping.completed(shop, order.order_id)
    assert await shopping.ledger(shop, order) == [("authorized", 1250), ("captured", 1250)]


async def test_a_caller_who_comes_back_later_waits_for_the_order_that_is_under_way(shop: Shop) -> None:
    """It is answered as soon as there is an outcome, a refusal too."""
    product = await stocked(shop, 1)
    request = place_request(await quoted(shop, product, 2))
    async with stock_held(shop, product.sku):
        assert (await placed(shop, request, SHORT_SECONDS)).state == PROCESSING
        waiting = asyncio.create_task(outcome(shop, request))
    refused = await refusal(shop.checkout.PlaceOrder(request))
    assert refused.reason == "OUT_OF_STOCK"
    assert await waiting == refused.status


async def test_cancelling_a_placed_order_ends_the_wait_and_not_the_order(shop: Shop) -> None:
    """It is completed without its caller."""
    product = await stocked(shop, 1)
    quote = await quoted(shop, product)
    request = place_request(quote)

    async def is_placed() -> bool:
        return len(await shopping.orders_of_quote(shop, quote)) == 1

    async with stock_held(shop, product.sku):
        call = shop.checkout.PlaceOrder(request, timeout=shopping.WAIT_SECONDS)
        await until(is_placed)
        call.cancel()
        assert await call.code() == grpc.StatusCode.CANCELLED
    (order_id,) = await shopping.orders_of_quote(shop, quote)
    order = await shopping.completed(shop, order_id)
    assert await shopping.ledger(shop, order) == [("authorized", 1250), ("captured", 1250)]
    assert (await placed(shop, request)).order_id == order_id


async def test_cancelling_while_an_order_is_being_placed_does_not_part_it_from_its_saga(shop: Shop) -> None:
    """Its first commit is under way: it is placed, and goes on to its end."""
    quote = await quoted(shop, await stocked(shop, 1))

    async def is_being_placed() -> bool:
        return await waits_for_a_lock(shop, "checkout")

    async with shopping.locked(shop, "checkout", "LOCK TABLE orders IN EXCLUSIVE MODE"):
        call = shop.checkout.PlaceOrder(place_request(quote), timeout=shopping.WAIT_SECONDS)
        await until(is_being_placed)
        call.cancel()
        assert await call.code() == grpc.StatusCode.CANCELLED

    async def is_placed() -> bool:
        return len(await shopping.orders_of_quote(shop, quote)) == 1

    await until(is_placed)
    (order_id,) = await shopping.orders_of_quote(shop, quote)
    await shopping.completed(shop, order_id)


async def test_cancelling_before_an_order_is_placed_leaves_nothing_behind(shop: Shop) -> None:
    """The quote is still being read: there is no order, and the key is new."""
    quote = await quoted(shop, await stocked(shop, 1))
    request = place_request(quote)

    async def is_being_read() -> bool:
        return await waits_for_a_lock(shop, "pricing")

    async with shopping.locked(shop, "pricing", "LOCK TABLE quotes"):
        call = shop.checkout.PlaceOrder(request, timeout=shopping.WAIT_SECONDS)
        await until(is_being_read)
        call.cancel()
        assert await call.code() == grpc.StatusCode.CANCELLED
    async with shop.databases["checkout"].connection() as connection:
        keys = await connection.fetchval("SELECT count(*) FROM request_keys WHERE request_id = $1", request.request_id)
    assert (keys, await shopping.orders_of_quote(shop, quote)) == (0, [])


async def test_at_one_millisecond_the_caller_sees_its_deadline_and_nothing_is_booked(shop: Shop) -> None:
    """Too little to begin anything."""
    product = await stocked(shop, 1)
    quote = await quoted(shop, product)
    call = shop.checkout.PlaceOrder(place_request(quote), timeout=0.001)
    assert await call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await placed(shop, place_request(quote))).state == CONFIRMED
    assert len(await shopping.orders_of_quote(shop, quote)) == 1


async def test_without_a_deadline_an_order_gets_the_methods_default(shop: Shop) -> None:
    """Twenty seconds, as the contract says, which an order does not need."""
    response: pb.PlaceOrderResponse = await shop.checkout.PlaceOrder(
        place_request(await quoted(shop, await stocked(shop, 1)))
    )
    assert response.order.state == CONFIRMED


@pytest.mark.parametrize("token", ["tok_succeeds", "tok_declined"])
async def test_an_order_decided_in_the_last_moment_is_answered_with_its_verdict(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    """After the last look at the verdict and before the order is read: a rejected order is never answered with OK."""
    verdict, replayed = SagaRunner.verdict, OrderStore.replayed
    looks: list[str] = []

    async def elsewhere(sagas: SagaRunner, order_id: UUID, timeout_seconds: float) -> None:
        await verdict(sagas, order_id, timeout_seconds)

    async def too_early(store: OrderStore, request: Keyed[Placement]) -> Verdict | None:
        looks.append(request.request_id)
        return Undecided() if len(looks) == 2 else await replayed(store, request)

    monkeypatch.setattr(SagaRunner, "verdict", elsewhere)
    monkeypatch.setattr(SagaRunner, "runs", lambda *_: False)
    monkeypatch.setattr(OrderStore, "replayed", too_early)
    monkeypatch.setattr("services.checkout.placing._left_seconds", lambda: 0.0 if looks[1:] else 5.0)
    request = place_request(await quoted(shop, await stocked(shop, 1)), token)
    first = await outcome(shop, request)
    assert len(looks) == 3
    assert first == await outcome(shop, request)
    if token == "tok_declined":  # noqa: S105 - a test token.
        assert (await refusal(shop.checkout.PlaceOrder(request))).reason == "CARD_DECLINED"


@pytest.mark.parametrize("pieces", [1, 0], ids=["confirmed", "sold out"])
async def test_a_caller_of_another_replica_waits_for_the_same_verdict(
    postgres_url: str, processor: Processor, shop: Shop, pieces: int
) -> None:
    """The saga runs elsewhere; its verdict is found in the database that both have."""
    product = await stocked(shop, 1)
    request = place_request(await quoted(shop, product, 2 - pieces))
    async with shop.databases["checkout"].connection() as connection:
        url = await ensure_database(postgres_url, await connection.fetchval("SELECT current_database()"))
    async with shopping.beside(postgres_url, processor, shop, database_url=url) as replica:
        async with stock_held(shop, product.sku):
            assert (await placed(shop, request, SHORT_SECONDS)).state == PROCESSING
            waiting = asyncio.create_task(outcome(replica, request))
            assert (await placed(replica, request, SHORT_SECONDS)).state == PROCESSING
        assert await waiting == await outcome(shop, request)


async def test_a_stop_lets_waiting_callers_have_the_order_as_it_stands(postgres_url: str, processor: Processor) -> None:
    """They are answered at once, and not cut off when the grace is over; the saga is given its time."""
    async with open_shop(postgres_url, processor) as house:
        product = await stocked(house, 1)
        quote = await quoted(house, product)

        async def is_placed() -> bool:
            return len(await shopping.orders_of_quote(house, quote)) == 1

        async with stock_held(house, product.sku):
            call = asyncio.create_task(placed(house, place_request(quote)))
            await until(is_placed)
            stop = asyncio.create_task(house.running["checkout"].stop())
            assert (await call).state == PROCESSING
        await stop
        payments = await house.payment.ListPayments(ListPaymentsRequest())
        assert [payment.state for payment in payments.payments] == [PaymentState.PAYMENT_STATE_CAPTURED]
