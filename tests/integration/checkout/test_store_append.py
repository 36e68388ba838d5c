"""How a group of changes is committed: each order whole or not at all, under its epoch and its sequence, and once."""

import asyncio

import asyncpg
import pytest

from services.checkout.coordinator import Entry, EntryKind
from services.checkout.domain import Order, OrderState
from services.checkout.saga import Action
from services.checkout.store import OrderStore
from services.common.idempotency import Undecided
from tests.fakes.checkout import story_line
from tests.integration.checkout.orders import (
    NOW,
    RESERVED,
    SOLD_OUT,
    change,
    confirmation,
    fresh_order,
    place,
    rejection,
    request_of,
)
from tests.integration.checkout.shopping import execute
from tests.shop import Shop

SOLD = Entry(EntryKind.DONE, Action.COMMIT_RESERVATION)
COMPLETED = Entry(EntryKind.COMPLETED)
ATTENTION = Entry(EntryKind.NEEDS_ATTENTION, Action.COMMIT_RESERVATION, {"reason": "UNAVAILABLE"})


async def story(store: OrderStore, order: Order) -> list[str]:
    """Return an order's entries as texts, and see that their sequences are dense."""
    rows = await store.journal(order.order_id)
    assert [sequence for sequence, _, _ in rows] == list(range(1, len(rows) + 1))
    return [story_line(entry) for _, _, entry in rows]


async def test_an_outcome_its_entries_and_its_answer_are_one_commit(store: OrderStore) -> None:
    """The row, the journal and the verdict of the request change together; the token is gone."""
    order = await place(store)
    outcome = confirmation(order)
    assert await store.append([outcome]) == {order.order_id}
    stored = await store.get(order.order_id)
    assert (stored.state, stored.update_time, stored.payment_method_token) == (OrderState.CONFIRMED, NOW, None)
    assert await story(store, order) == ["PLACED", "DONE reserve_stock", "CONFIRMED"]
    assert await store.replayed(request_of(order)) == outcome.verdict


async def test_a_rejection_is_kept_with_its_reason_and_what_is_missing(store: OrderStore) -> None:
    """On the row, in the journal and as the verdict."""
    order = await place(store)
    outcome = rejection(order)
    await store.append([outcome])
    stored = await store.get(order.order_id)
    assert (stored.state, stored.rejection) == (OrderState.REJECTED, SOLD_OUT)
    assert await story(store, order) == ["PLACED", "REJECTED OUT_OF_STOCK"]
    assert await store.replayed(request_of(order)) == outcome.verdict


async def test_entries_without_an_outcome_leave_the_order_as_it_stands(store: OrderStore) -> None:
    """The token stays, as the saga still needs it, and there is no verdict."""
    order = await place(store)
    await store.append([change(order, RESERVED)])
    assert await store.get(order.order_id) == order
    assert await store.replayed(request_of(order)) == Undecided()


async def test_a_mark_for_attention_shows_until_the_order_is_completed(store: OrderStore) -> None:
    """It is a change of the order that its time tells; once all is done there is nothing to look at."""
    order = await place(store)
    await store.append([confirmation(order)])
    mark = change(order, ATTENTION, expected_sequence=3, attention={"action": "commit_reservation"})
    await store.append([mark])
    marked = await store.get(order.order_id)
    assert (marked.state, marked.needs_attention, marked.update_time) == (OrderState.CONFIRMED, True, NOW)
    await store.append([change(order, SOLD, COMPLETED, expected_sequence=4, state=OrderState.COMPLETED, finished=True)])
    done = await store.get(order.order_id)
    assert (done.state, done.needs_attention) == (OrderState.COMPLETED, False)


async def test_an_order_taken_over_is_fenced_and_its_neighbours_are_written(store: OrderStore, shop: Shop) -> None:
    """By another epoch or by another sequence: nothing of the change is written, not even its answer."""
    orders = [await place(store) for _ in range(4)]
    by_epoch, by_sequence, *free = orders
    await execute(shop, "checkout", "UPDATE orders SET epoch = 2 WHERE order_id = $1", by_epoch.order_id)
    await store.append([change(by_sequence, RESERVED)])
    written = await store.append([confirmation(order) for order in orders])
    assert written == {order.order_id for order in free}
    assert await story(store, by_epoch) == ["PLACED"]
    assert await story(store, by_sequence) == ["PLACED", "DONE reserve_stock"]
    for order in (by_epoch, by_sequence):
        assert (await store.get(order.order_id)).state is OrderState.PROCESSING
        assert await store.replayed(request_of(order)) == Undecided()


async def test_a_commit_repeated_after_its_answer_was_lost_counts_as_written(store: OrderStore, shop: Shop) -> None:
    """Whole or in part, and without writing anything twice; a fenced order stays fenced."""
    first, second, fenced = [await place(store) for _ in range(3)]
    await execute(shop, "checkout", "UPDATE orders SET epoch = 2 WHERE order_id = $1", fenced.order_id)
    changes = [confirmation(order) for order in (first, second, fenced)]
    assert await store.append(changes[:1]) == {first.order_id}
    assert await store.append(changes) == {first.order_id, second.order_id}
    assert await store.append(changes) == {first.order_id, second.order_id}
    assert [await story(store, order) for order in (first, second)] == [
        ["PLACED", "DONE reserve_stock", "CONFIRMED"]
    ] * 2


async def test_what_was_written_before_a_take_over_counts_as_written(store: OrderStore, shop: Shop) -> None:
    """My own entry there is success; another's under that number means that I am fenced."""
    mine, others = await place(store), await place(store)
    changes = [change(order, RESERVED) for order in (mine, others)]
    await store.append(changes[:1])
    for order in (mine, others):
        await execute(shop, "checkout", "UPDATE orders SET epoch = 2 WHERE order_id = $1", order.order_id)
    await store.append([change(others, RESERVED, epoch=2)])
    assert await store.append(changes) == {mine.order_id}


async def test_groups_of_the_same_orders_at_once_write_each_order_once(store: OrderStore) -> None:
    """Rows are locked in the order of their ids, so that no two groups wait for each other in a circle."""
    orders = [await place(store) for _ in range(20)]
    changes = [confirmation(order) for order in orders]
    groups = [changes, changes[::-1], changes[::2], changes[::-3]]
    results = await asyncio.gather(*(store.append(group) for group in groups))
    assert results == [{item.order_id for item in group} for group in groups]
    assert {len(await story(store, order)) for order in orders} == {3}


async def test_nothing_to_write_is_no_commit(store: OrderStore) -> None:
    """As when every order of a group is fenced already."""
    assert await store.append([]) == set()


async def test_an_order_that_does_not_exist_is_fenced(store: OrderStore) -> None:
    """It has no row with the epoch and the sequence."""
    assert await store.append([confirmation(fresh_order())]) == set()


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE orders SET state = 'CONFIRMED' WHERE order_id = $1", "token_only_while_processing"),
        (
            "UPDATE orders SET state = 'REJECTED', payment_method_token = NULL WHERE order_id = $1",
            "rejected_with_reason",
        ),
        ("""UPDATE orders SET rejection = '{"reason": "OUT_OF_STOCK"}' WHERE order_id = $1""", "rejected_with_reason"),
        ("UPDATE orders SET state = 'LOST', payment_method_token = NULL WHERE order_id = $1", "known_state"),
        ("UPDATE orders SET total_minor = -1 WHERE order_id = $1", "total_not_negative"),
    ],
)
async def test_the_database_keeps_what_no_order_may_be(
    store: OrderStore, shop: Shop, statement: str, constraint: str
) -> None:
    """A net below the rules: whoever writes it, it is refused."""
    order = await place(store)
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await execute(shop, "checkout", statement, order.order_id)
    assert caught.value.constraint_name == constraint


async def test_the_database_keeps_one_outcome_and_one_entry_a_number(store: OrderStore, shop: Shop) -> None:
    """The nets below the fence."""
    order = await place(store)
    await store.append([confirmation(order)])
    insert = "INSERT INTO journal VALUES ($1, $2, 1, $3, NULL, '{}', now())"
    for sequence, kind, constraint in ((3, "DONE", "journal_pkey"), (4, "REJECTED", "journal_outcome")):
        with pytest.raises(asyncpg.UniqueViolationError) as caught:
            await execute(shop, "checkout", insert, order.order_id, sequence, kind)
        assert caught.value.constraint_name == constraint


async def test_a_second_outcome_breaks_its_commit_as_a_whole(store: OrderStore) -> None:
    """The journal then writes the group order by order; here the first order's row stays as it was."""
    order, other = await place(store), await place(store)
    await store.append([confirmation(order)])
    again = rejection(order, expected_sequence=3)
    with pytest.raises(asyncpg.UniqueViolationError):
        await store.append([again, confirmation(other)])
    states = [(await store.get(item.order_id)).state for item in (order, other)]
    assert states == [OrderState.CONFIRMED, OrderState.PROCESSING]
