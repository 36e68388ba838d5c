"""Deadlines over two hops, and on every call of a saga: how much of a caller's time arrives where."""

import math
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from services.common import deadline
from services.common.layers import Context, Method
from tests.integration.card_processor import Processor
from tests.integration.catalog.products import create_product, creation
from tests.integration.checkout import shopping
from tests.integration.checkout.shopping import place_request, placed, quoted, stocked, undone, until, waits_for_a_lock
from tests.integration.pricing.quotes import count_quotes, line, request_for
from tests.rpc import refusal
from tests.shop import Shop, open_shop

LONG_SECONDS, CALLER_SECONDS = 10.0, 4.0
DEMANDING_MS = 1_500
NEVER = float("inf")
Arrivals = dict[str, float]
"""What was left when a call arrived, in seconds, as the wire says: by method; NEVER where no deadline came."""


@pytest.fixture
def arrivals(monkeypatch: pytest.MonkeyPatch) -> Arrivals:
    """The time left of every call, at whichever service of this process it arrives."""
    seen: Arrivals = {}
    time_left = deadline._time_left  # noqa: SLF001 - the one place where the wire's word is heard.

    def spy(method: Method, context: Context) -> float:
        seen[method.full_name.rpartition("/")[2]] = context.time_remaining() or NEVER
        return time_left(method, context)

    monkeypatch.setattr(deadline, "_time_left", spy)
    return seen


async def test_a_callers_300_ms_arrive_two_hops_later_less_what_the_hops_took(shop: Shop, arrivals: Arrivals) -> None:
    """Client, pricing, catalog: each hop keeps a margin for the way back. A busy machine may take longer, not less."""
    product = await create_product(shop)
    at_catalog = []
    for _ in range(5):
        await shop.pricing.CreateQuote(request_for(line(product)), timeout=0.3)
        assert arrivals["CreateQuote"] <= 0.305
        assert arrivals["BatchGetProducts"] < arrivals["CreateQuote"]
        at_catalog.append(arrivals["BatchGetProducts"])
    assert 0.2 <= max(at_catalog) <= 0.295


async def test_a_caller_without_a_deadline_gives_the_second_hop_what_the_contract_says(
    shop: Shop, arrivals: Arrivals
) -> None:
    """The method's default, passed on like a caller's own."""
    await shop.pricing.CreateQuote(request_for(line(await create_product(shop))))
    assert arrivals["CreateQuote"] == NEVER
    assert 2.0 < arrivals["BatchGetProducts"] < 3.0


async def test_every_call_of_a_saga_arrives_with_the_budget_of_its_step(shop: Shop, arrivals: Arrivals) -> None:
    """Whatever its caller's deadline was: after the first commit a saga has budgets of its own."""
    order = await placed(shop, place_request(await quoted(shop, await stocked(shop, 1))), seconds=CALLER_SECONDS)
    await shopping.completed(shop, order.order_id)
    sold_out = place_request(await quoted(shop, await stocked(shop, 0)))
    refused = await refusal(shop.checkout.PlaceOrder(sold_out, timeout=CALLER_SECONDS))
    await undone(shop, refused.metadata["order_id"])
    budgets = {
        "ReserveStock": 2,
        "AuthorizePayment": 10,
        "CapturePayment": 10,
        "CommitReservation": 2,
        "VoidPayment": 5,
        "ReleaseReservation": 5,
    }
    assert {method: math.ceil(arrivals[method]) for method in budgets} == budgets
    assert arrivals["GetQuote"] < CALLER_SECONDS


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def demanding(postgres_url: str, processor: Processor) -> AsyncIterator[Shop]:
    """A pricing that calls a catalog which begins nothing with less than a second and a half left."""
    settings = {"catalog": {"minimum_ms": str(DEMANDING_MS)}}
    async with open_shop(postgres_url, processor, ("catalog", "pricing"), settings) as running:
        yield running


async def test_a_call_with_too_little_time_left_is_refused_before_work_and_counted(demanding: Shop) -> None:
    """At the second hop: nothing is read there, and nothing is kept at the first."""
    product = await create_product(demanding)
    stats = demanding.running["catalog"].stats
    stats.refused_for_deadline = 0
    async with shopping.locked(demanding, "catalog", "LOCK TABLE products"):
        refused = await refusal(demanding.pricing.CreateQuote(request_for(line(product)), timeout=1.0))
    assert (refused.code, refused.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert stats.refused_for_deadline == 1
    assert await count_quotes(demanding) == 0


async def test_a_direct_call_with_too_little_time_left_is_told_so(demanding: Shop) -> None:
    """DEADLINE_EXCEEDED with its own reason; with enough left the same call is done."""
    stats = demanding.running["catalog"].stats
    refused_before = stats.refused_for_deadline
    refused = await refusal(demanding.catalog.CreateProduct(creation(), timeout=1.0))
    assert (refused.code, refused.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT")
    assert stats.refused_for_deadline == refused_before + 1
    await create_product(demanding)


@pytest.mark.parametrize("timeout_seconds", [LONG_SECONDS, 0.3], ids=["cancelled", "out of time"])
async def test_a_caller_who_waits_no_longer_ends_the_query_two_hops_away(shop: Shop, timeout_seconds: float) -> None:
    """Whether it hangs up or its time is over: PostgreSQL's own list shows the query in catalog, and then no more."""

    async def waiting() -> bool:
        return await waits_for_a_lock(shop, "catalog")

    async def gone() -> bool:
        return not await waits_for_a_lock(shop, "catalog")

    request = request_for(line(await create_product(shop)))
    async with shopping.locked(shop, "catalog", "LOCK TABLE products"):
        call = shop.pricing.CreateQuote(request, timeout=timeout_seconds)
        await until(waiting)
        if timeout_seconds == LONG_SECONDS:
            call.cancel()
            assert await call.code() == grpc.StatusCode.CANCELLED
        await until(gone)
        assert await call.code() != grpc.StatusCode.OK
    assert (await shop.pricing.CreateQuote(request)).quote.quote_id
