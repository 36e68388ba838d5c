"""The sweep that gives back what was held too long: by itself, bounded, and out of everybody's way."""

import asyncio

from libretto.inventory.v1.reservation_pb2 import Reservation, ReservationState

from services.common.database import Connection
from tests.integration.card_processor import Processor
from tests.integration.inventory.stockroom import Stockroom, commit_request, imbalances, new_store
from tests.shop import open_shop

ACTIVE = ReservationState.RESERVATION_STATE_ACTIVE
COMMITTED = ReservationState.RESERVATION_STATE_COMMITTED
EXPIRED = ReservationState.RESERVATION_STATE_EXPIRED

WAIT_SECONDS = 10.0


async def states(stockroom: Stockroom, *reservations: Reservation) -> list[int]:
    """Return where reservations stand."""
    return [(await stockroom.reservation(one.reservation_id)).state for one in reservations]


async def test_a_service_expires_what_is_overdue_by_itself(postgres_url: str, processor: Processor) -> None:
    """As often as its setting says; where there is more than one sweep takes, the next one follows at once."""
    settings = {"inventory": {"sweep_interval_seconds": str(WAIT_SECONDS / 10), "sweep_limit": "1"}}
    async with open_shop(postgres_url, processor, ("inventory",), settings) as shop:
        stockroom = Stockroom(shop.inventory, shop.databases["inventory"])
        sku = await stockroom.stocked(25)
        *overdue, in_time = [await stockroom.reserved({sku: 2}) for _ in range(12)]
        await stockroom.make_overdue(*overdue)

        async with asyncio.timeout(WAIT_SECONDS):
            while await stockroom.level(sku) != (23, 2, 0, 25):
                pass

        assert await states(stockroom, in_time, *overdue) == [ACTIVE] + [EXPIRED] * len(overdue)
        assert await imbalances(stockroom.database) == []


async def test_what_ran_out_is_held_until_the_sweep_comes(stockroom: Stockroom) -> None:
    """So it can still be committed, and the sweep finds nothing to do."""
    sku = await stockroom.stocked(2)
    reservation = await stockroom.reserved({sku: 2})
    await stockroom.make_overdue(reservation)

    assert await stockroom.level(sku) == (0, 2, 0, 2)
    assert (await stockroom.inventory.CommitReservation(commit_request(reservation))).reservation.state == COMMITTED
    assert await new_store(stockroom.database).expire_overdue(limit=10) == 0
    assert await stockroom.level(sku) == (0, 0, 2, 2)


async def test_a_sweep_takes_no_more_than_its_limit(stockroom: Stockroom) -> None:
    """The next one takes the rest; nothing is given back twice."""
    sku = await stockroom.stocked(9)
    reservations = [await stockroom.reserved({sku: 3}) for _ in range(3)]
    await stockroom.make_overdue(*reservations)
    store = new_store(stockroom.database)

    assert [await store.expire_overdue(limit=2) for _ in range(3)] == [2, 1, 0]
    assert await stockroom.level(sku) == (9, 0, 0, 9)
    assert await states(stockroom, *reservations) == [EXPIRED] * 3


async def test_full_sweeps_follow_each_other_at_once_up_to_a_limit(stockroom: Stockroom) -> None:
    """So what is overdue does not pile up; a sweep that is not full is the last."""
    sku = await stockroom.stocked(9)
    reservations = [await stockroom.reserved({sku: 1}) for _ in range(9)]
    await stockroom.make_overdue(*reservations)
    store = new_store(stockroom.database)

    assert [await store.sweep(limit=2, rounds_limit=3) for _ in range(3)] == [6, 3, 0]
    assert await stockroom.level(sku) == (9, 0, 0, 9)


async def test_a_sweep_waits_for_nobody(stockroom: Stockroom) -> None:
    """What someone else is at work on is left for the next sweep."""
    sku = await stockroom.stocked(4)
    busy, idle = await stockroom.reserved({sku: 1}), await stockroom.reserved({sku: 1})
    await stockroom.make_overdue(busy, idle)
    store = new_store(stockroom.database)

    async def at_work(connection: Connection) -> int:
        await connection.execute("SELECT FROM reservations WHERE reservation_id = $1 FOR UPDATE", busy.reservation_id)
        return await store.expire_overdue(limit=10)

    assert await stockroom.database.transaction(at_work) == 1
    assert await states(stockroom, busy, idle) == [ACTIVE, EXPIRED]
    assert await store.expire_overdue(limit=10) == 1


async def test_two_sweeps_at_once_share_the_work(stockroom: Stockroom) -> None:
    """As two replicas do."""
    sku = await stockroom.stocked(40)
    reservations = [await stockroom.reserved({sku: 2}) for _ in range(20)]
    await stockroom.make_overdue(*reservations)
    store = new_store(stockroom.database)

    counts = await asyncio.gather(*(store.expire_overdue(limit=20) for _ in range(2)))

    assert sum(counts) == 20
    assert await stockroom.level(sku) == (40, 0, 0, 40)
