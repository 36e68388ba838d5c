"""How an order is placed in the database: once a key, once a quote, with the first entry of its journal."""

import asyncio
import datetime as dt
from dataclasses import replace
from uuid import UUID

import pytest
from google.rpc import error_details_pb2, status_pb2

from services.checkout import store as store_module
from services.checkout.coordinator import EntryKind
from services.checkout.domain import Coordination, Order, OrderNotFoundError, QuoteExpiredError
from services.checkout.store import OrderStore
from services.common.database import Connection
from services.common.idempotency import Refused, Undecided, Verdict
from services.common.values import Address, Money
from tests.integration.checkout.orders import NOW, fresh_order, place, rejection, request_of
from tests.rpc import new_uuid
from tests.shop import Shop

CALLERS = 10


def refused(verdict: Verdict) -> tuple[str, dict[str, str]]:
    """Return the reason and the metadata of a verdict that is a refusal."""
    assert isinstance(verdict, Refused)
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(verdict.status).details[0].Unpack(info)
    return info.reason, dict(info.metadata)


async def count(shop: Shop, quote_id: UUID) -> int:
    """Count the orders of a quote."""
    async with shop.databases["checkout"].connection() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM orders WHERE quote_id = $1", quote_id))


async def test_an_order_is_read_back_as_it_was_placed(store: OrderStore) -> None:
    """Every field, to the microsecond: its saga is a function of this row."""
    address = Address("JP", ("一番町 1", "2F"), "102-0082", "Tokyo", "Chiyoda", "x", "ja", "s", "o", ("Ada", "Bea"))
    order = fresh_order(
        create_time=NOW,
        update_time=NOW,
        decide_by=NOW + dt.timedelta(seconds=59.999_999),
        shipping_address=address,
        total=Money("JPY", 999_999_999_999),
        coordination=Coordination.ORCHESTRATION,
        trace_context={"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "tracestate": "a=b"},
    )
    verdict, placed = await store.place(request_of(order), order)
    assert (verdict, placed) == (Undecided(), order)
    assert await store.get(order.order_id) == await store.get_by_request(order.request_id) == order


async def test_an_order_begins_its_journal_with_its_first_commit(store: OrderStore) -> None:
    """One entry that fixes the mode and the table that the saga runs by."""
    order = await place(store)
    ((sequence, epoch, entry),) = await store.journal(order.order_id)
    assert (sequence, epoch, entry.kind) == (1, 1, EntryKind.PLACED)
    assert entry.details == {"coordination": "ORCHESTRATION", "saga_version": "1"}


async def test_a_request_that_comes_again_finds_its_order_and_places_none(store: OrderStore, shop: Shop) -> None:
    """There is no verdict yet, and the order that the second call would have placed is not."""
    order = await place(store)
    second = replace(order, order_id=UUID(new_uuid()))
    assert await store.place(request_of(order), second) == (Undecided(), order)
    assert await store.replayed(request_of(order)) == Undecided()
    assert await count(shop, order.quote_id) == 1


async def test_a_key_that_comes_with_another_request_is_refused_and_changes_nothing(
    store: OrderStore, shop: Shop
) -> None:
    """Whether it is looked up or placed."""
    order = await place(store)
    other = replace(fresh_order(), request_id=order.request_id)
    looked_up = await store.replayed(request_of(other))
    assert looked_up is not None
    assert refused(looked_up)[0] == "REQUEST_ID_REUSED"
    verdict, placed = await store.place(request_of(other), other)
    assert (refused(verdict)[0], placed) == ("REQUEST_ID_REUSED", None)
    assert await count(shop, other.quote_id) == 0


async def test_a_refusal_before_placing_is_the_keys_verdict_for_good(store: OrderStore, shop: Shop) -> None:
    """The same request later, when it could be placed, gets the same bytes."""
    order = fresh_order()
    first, nothing = await store.place(request_of(order), QuoteExpiredError(NOW))
    again, still_nothing = await store.place(request_of(order), order)
    assert refused(first) == ("QUOTE_EXPIRED", {"expire_time": NOW.isoformat()})
    assert (again, nothing, still_nothing) == (first, None, None)
    assert await store.replayed(request_of(order)) == first
    assert await count(shop, order.quote_id) == 0


async def test_a_quote_has_one_live_order(store: OrderStore, shop: Shop) -> None:
    """A second click with a new key learns which order has it."""
    order = await place(store)
    second = fresh_order(quote_id=order.quote_id)
    verdict, placed = await store.place(request_of(second), second)
    assert (refused(verdict), placed) == (("QUOTE_ALREADY_USED", {"order_id": str(order.order_id)}), None)
    assert await count(shop, order.quote_id) == 1


async def test_after_a_rejection_the_quote_may_be_ordered_again(store: OrderStore) -> None:
    """The rejected order is kept beside the new one."""
    first = await place(store)
    await store.append([rejection(first)])
    second = await place(store, quote_id=first.quote_id)
    assert {(await store.get(order.order_id)).state.value for order in (first, second)} == {"REJECTED", "PROCESSING"}


async def test_callers_with_one_key_at_once_place_one_order(store: OrderStore, shop: Shop) -> None:
    """Each brings an order of its own; one of them is kept, and nobody is refused."""
    order = fresh_order()
    offers = [replace(order, order_id=UUID(new_uuid())) for _ in range(CALLERS)]
    results = await asyncio.gather(*(store.place(request_of(order), offer) for offer in offers))
    assert [verdict for verdict, _ in results] == [Undecided()] * CALLERS
    assert len({placed.order_id for _, placed in results if placed}) == await count(shop, order.quote_id) == 1


async def test_callers_with_one_quote_at_once_place_one_order(store: OrderStore) -> None:
    """The others all learn which order has it."""
    quote_id = UUID(new_uuid())
    offers = [fresh_order(quote_id=quote_id) for _ in range(CALLERS)]
    results = await asyncio.gather(*(store.place(request_of(offer), offer) for offer in offers))
    (winner,) = (placed for _, placed in results if placed)
    refusals = [refused(verdict) for verdict, placed in results if not placed]
    assert refusals == [("QUOTE_ALREADY_USED", {"order_id": str(winner.order_id)})] * (CALLERS - 1)


async def test_a_quote_that_becomes_free_at_this_moment_is_ordered(
    store: OrderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its live order is rejected between the attempt to insert and the look at who has it."""
    first = await place(store)
    insert = store_module._insert  # noqa: SLF001 - the moment lies between two statements of one transaction.

    async def insert_and_reject(connection: Connection, order: Order) -> Order | None:
        inserted = await insert(connection, order)
        if inserted is None:
            await store.append([rejection(first)])
        return inserted

    monkeypatch.setattr(store_module, "_insert", insert_and_reject)
    assert (await place(store, quote_id=first.quote_id)).quote_id == first.quote_id


async def test_an_order_that_does_not_exist_is_not_found(store: OrderStore) -> None:
    """By its id a refusal; by its request a fault, as a key without a verdict has an order."""
    with pytest.raises(OrderNotFoundError):
        await store.get(UUID(new_uuid()))
    with pytest.raises(LookupError):
        await store.get_by_request("never-used")
