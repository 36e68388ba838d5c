"""Many callers at once, over real gRPC: what is promised to one is not promised to another."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Sequence

import grpc
from google.protobuf.message import Message
from libretto.inventory.v1.inventory_service_pb2 import ReserveStockRequest
from libretto.inventory.v1.reservation_pb2 import Reservation, ReservationState

from tests.integration.inventory.stockroom import (
    Stockroom,
    commit_request,
    new_store,
    release_request,
    reserve_request,
)
from tests.rpc import read_refusal

TIMEOUT_SECONDS = 30.0


async def outcome(call: Awaitable[Message]) -> str:
    """Return OK, or why a call was refused."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return read_refusal(error).reason
    return "OK"


async def outcomes(*calls: Awaitable[Message]) -> Sequence[str]:
    """Make calls at once, and return how each ended."""
    return await asyncio.gather(*map(outcome, calls))


async def test_fifty_at_once_want_the_last_ten_pieces(stockroom: Stockroom) -> None:
    """Ten get one, forty are refused, none is left."""
    sku = await stockroom.stocked(10)

    ended = await outcomes(*(_reserve(stockroom, reserve_request({sku: 1})) for _ in range(50)))

    assert Counter(ended) == {"OK": 10, "OUT_OF_STOCK": 40}
    assert await stockroom.level(sku) == (0, 10, 0, 10)


async def test_callers_at_once_with_one_key_have_one_answer(stockroom: Stockroom) -> None:
    """The others wait for the first."""
    sku = await stockroom.stocked(100)
    request = reserve_request({sku: 3})

    answers = await asyncio.gather(*(_reserve(stockroom, request) for _ in range(20)))

    assert {answer.SerializeToString(deterministic=True) for answer in answers} == {
        answers[0].SerializeToString(deterministic=True)
    }
    assert await stockroom.level(sku) == (97, 3, 0, 100)


async def test_one_reservation_is_made_once_by_callers_with_different_keys(stockroom: Stockroom) -> None:
    """Equal ones are answered again, one with other lines is refused: or it came first and the others are."""
    sku = await stockroom.stocked(1_000)
    for _ in range(10):
        first = reserve_request({sku: 1})
        ids = {"reservation_id": first.reservation_id, "order_id": first.order_id}
        requests = [first, *(reserve_request({sku: quantity}, **ids) for quantity in (1, 1, 2))]

        ended = await outcomes(*(_reserve(stockroom, request) for request in requests))

        assert Counter(ended) in ({"OK": 3, "RESERVATION_ID_TAKEN": 1}, {"OK": 1, "RESERVATION_ID_TAKEN": 3})


async def test_a_release_that_meets_its_reservation_leaves_nothing_held(stockroom: Stockroom) -> None:
    """Whichever comes first: the reservation is released after it, or never made."""
    sku = await stockroom.stocked(5)
    for turn in range(40):
        request = reserve_request({sku: 2})
        unmade = Reservation(reservation_id=request.reservation_id, order_id=request.order_id)
        calls = [_reserve(stockroom, request), _release(stockroom, unmade)]

        ended = await outcomes(*(calls if turn % 2 else reversed(calls)))

        assert set(ended) in ({"OK"}, {"OK", "ALREADY_UNDONE"})
        state = (await stockroom.reservation(request.reservation_id)).state
        assert state == ReservationState.RESERVATION_STATE_RELEASED
        assert await stockroom.level(sku) == (5, 0, 0, 5)


async def test_a_commit_and_a_release_that_meet_exclude_each_other(stockroom: Stockroom) -> None:
    """One wins, and the other learns it, also when the sweep comes in between."""
    sku = await stockroom.stocked(1_000)
    store = new_store(stockroom.database)
    for turn in range(40):
        made = await stockroom.reserved({sku: 1})
        if turn % 3 == 0:
            await stockroom.make_overdue(made)
        calls = outcome(_commit(stockroom, made)), outcome(_release(stockroom, made))

        committed, released, _ = await asyncio.gather(*calls, store.expire_overdue(limit=10))

        assert (committed, released) in (("OK", "RESERVATION_COMMITTED"), ("ALREADY_UNDONE", "OK"))


async def test_orders_over_the_same_skus_are_reserved_sold_and_given_back_at_once(stockroom: Stockroom) -> None:
    """Each of sixty orders is reserved twice and ended twice, at random: all end in a way that is allowed."""
    chance = random.Random(11)  # noqa: S311 - a seed that makes the run repeatable.
    skus = [await stockroom.stocked(40) for _ in range(4)]

    async def order() -> Sequence[str]:
        wanted = chance.sample(skus, chance.randint(1, 4))
        request = reserve_request({sku: chance.randint(1, 3) for sku in wanted})
        made = Reservation(reservation_id=request.reservation_id, order_id=request.order_id)
        ends = [chance.choice((_commit, _commit, _release)) for _ in range(2)]
        reserved = await outcomes(_reserve(stockroom, request), _reserve(stockroom, request))
        assert set(reserved) in ({"OK"}, {"OUT_OF_STOCK"})
        ended = await outcomes(*(end(stockroom, made) for end in ends))
        return [f"{end.__name__} {how}" for end, how in zip(ends, ended, strict=True)]

    ended = Counter(how for hows in await asyncio.gather(*(order() for _ in range(60))) for how in hows)

    assert {"_commit OK", "_release OK"} < set(ended)
    assert set(ended) <= {
        "_commit OK",
        "_commit ALREADY_UNDONE",
        "_commit RESERVATION_NOT_FOUND",
        "_release OK",
        "_release RESERVATION_COMMITTED",
    }
    assert [(await stockroom.level(sku))[1] for sku in skus] == [0, 0, 0, 0]


async def _reserve(stockroom: Stockroom, request: ReserveStockRequest) -> Message:
    return await stockroom.inventory.ReserveStock(request, timeout=TIMEOUT_SECONDS)


async def _commit(stockroom: Stockroom, reservation: Reservation) -> Message:
    return await stockroom.inventory.CommitReservation(commit_request(reservation), timeout=TIMEOUT_SECONDS)


async def _release(stockroom: Stockroom, reservation: Reservation) -> Message:
    return await stockroom.inventory.ReleaseReservation(release_request(reservation), timeout=TIMEOUT_SECONDS)
