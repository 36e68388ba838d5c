"""Requests sent again: one verdict a key, byte for byte; one effect a reservation, even when its key is forgotten."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from libretto.inventory.v1.inventory_service_pb2 import AdjustStockRequest
from libretto.inventory.v1.reservation_pb2 import Reservation, ReservationState

from tests.integration.inventory.stockroom import Stockroom, commit_request, release_request, reserve_request
from tests.rpc import new_key, new_uuid, refusal

PAST = Timestamp(seconds=1_700_000_000)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A mutation that has not been sent: a request that succeeds, and another body for the same key."""

    method: Callable[[Any], Awaitable[Message]]
    request: Message
    other: Message


async def adjustment(stockroom: Stockroom) -> Prepared:
    """Prepare AdjustStock."""
    request = AdjustStockRequest(request_id=new_key(), sku=await stockroom.stocked(5), change=2)
    return _prepared(stockroom.inventory.AdjustStock, request, change=3)


async def reservation(stockroom: Stockroom) -> Prepared:
    """Prepare ReserveStock."""
    request = reserve_request({await stockroom.stocked(5): 2})
    return _prepared(stockroom.inventory.ReserveStock, request, order_id=new_uuid())


async def commit(stockroom: Stockroom) -> Prepared:
    """Prepare CommitReservation."""
    made = await stockroom.reserved({await stockroom.stocked(5): 2})
    return _prepared(stockroom.inventory.CommitReservation, commit_request(made), order_id=new_uuid())


async def release(stockroom: Stockroom) -> Prepared:
    """Prepare ReleaseReservation."""
    made = await stockroom.reserved({await stockroom.stocked(5): 2})
    return _prepared(stockroom.inventory.ReleaseReservation, release_request(made), reservation_id=new_uuid())


def _prepared(method: Any, request: Message, **changes: object) -> Prepared:  # noqa: ANN401 - a method of the stub.
    other = type(request)()
    other.CopyFrom(request)
    for name, value in changes.items():
        setattr(other, name, value)
    return Prepared(method, request, other)


EACH = pytest.mark.parametrize("prepare", [adjustment, reservation, commit, release])


@EACH
async def test_a_request_sent_again_has_the_same_answer_and_no_second_effect(
    stockroom: Stockroom, prepare: Callable[[Stockroom], Awaitable[Prepared]]
) -> None:
    """Byte for byte."""
    prepared = await prepare(stockroom)

    first = await prepared.method(prepared.request)
    moved = await _movement_count(stockroom)
    again = await prepared.method(prepared.request)

    assert again.SerializeToString(deterministic=True) == first.SerializeToString(deterministic=True)
    assert await _movement_count(stockroom) == moved


@EACH
async def test_a_key_that_is_used_for_another_request_is_refused(
    stockroom: Stockroom, prepare: Callable[[Stockroom], Awaitable[Prepared]]
) -> None:
    """It changes nothing, and the first request keeps its answer."""
    prepared = await prepare(stockroom)
    first = await prepared.method(prepared.request)
    moved = await _movement_count(stockroom)

    refused = await refusal(prepared.method(prepared.other))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_ID_REUSED")
    assert await _movement_count(stockroom) == moved
    assert await prepared.method(prepared.request) == first


async def test_a_key_belongs_to_one_method(stockroom: Stockroom) -> None:
    """The same text may be used for each of the three steps of a reservation."""
    request = reserve_request({await stockroom.stocked(5): 2})
    made = (await stockroom.inventory.ReserveStock(request)).reservation

    commit_it = commit_request(made)
    commit_it.request_id = request.request_id
    committed = (await stockroom.inventory.CommitReservation(commit_it)).reservation

    assert committed.state == ReservationState.RESERVATION_STATE_COMMITTED


async def test_lines_in_another_order_are_the_same_request(stockroom: Stockroom) -> None:
    """What is compared are the values, not the bytes."""
    one, two = await stockroom.stocked(5), await stockroom.stocked(5)
    request = reserve_request({one: 1, two: 2})
    turned = reserve_request(
        {two: 2, one: 1},
        request_id=request.request_id,
        reservation_id=request.reservation_id.upper(),
        order_id=request.order_id,
    )

    first = await stockroom.inventory.ReserveStock(request)

    assert await stockroom.inventory.ReserveStock(turned) == first
    assert await stockroom.level(one) == (4, 1, 0, 5)


async def test_a_refusal_is_kept_as_the_keys_verdict(stockroom: Stockroom) -> None:
    """Stock that comes in later does not change it; a new key has a new chance."""
    sku = await stockroom.stocked(1)
    request = reserve_request({sku: 2})
    refused = await refusal(stockroom.inventory.ReserveStock(request))
    await stockroom.inventory.AdjustStock(AdjustStockRequest(request_id=new_key(), sku=sku, change=5))

    again = await refusal(stockroom.inventory.ReserveStock(request))

    assert again.status == refused.status
    request.request_id = new_key()
    assert (await stockroom.inventory.ReserveStock(request)).reservation.lines[0].quantity == 2


async def test_a_lateness_is_kept_as_the_keys_verdict(stockroom: Stockroom) -> None:
    """A request that came too late is never begun afterwards."""
    late = reserve_request({await stockroom.stocked(5): 2})
    late.valid_until.CopyFrom(PAST)
    refused = await refusal(stockroom.inventory.ReserveStock(late))

    assert (await refusal(stockroom.inventory.ReserveStock(late))).status == refused.status


async def test_a_replay_tells_what_was_although_the_reservation_moved_on(stockroom: Stockroom) -> None:
    """GetReservation tells what is."""
    request = reserve_request({await stockroom.stocked(5): 2})
    first = await stockroom.inventory.ReserveStock(request)
    await stockroom.make_overdue(first.reservation)
    released = (await stockroom.inventory.ReleaseReservation(release_request(first.reservation))).reservation

    again = await stockroom.inventory.ReserveStock(request)

    assert again == first
    assert await stockroom.reservation(request.reservation_id) == released


async def test_a_forgotten_key_makes_no_second_reservation(stockroom: Stockroom) -> None:
    """The reservation itself is the permanent key; time to hold and lateness do not count."""
    sku = await stockroom.stocked(5)
    request = reserve_request({sku: 2})
    made = (await stockroom.inventory.ReserveStock(request)).reservation
    await stockroom.forget_keys()

    request.hold_duration.CopyFrom(Duration(seconds=5))
    request.valid_until.CopyFrom(PAST)

    assert (await stockroom.inventory.ReserveStock(request)).reservation == made
    committed = (await stockroom.inventory.CommitReservation(commit_request(made))).reservation
    await stockroom.forget_keys()
    assert (await stockroom.inventory.ReserveStock(request)).reservation == committed
    assert await stockroom.level(sku) == (3, 0, 2, 5)


async def test_forgotten_keys_neither_sell_nor_give_back_twice(stockroom: Stockroom) -> None:
    """A commit or release sent again finds the reservation in its goal state."""
    sku = await stockroom.stocked(5)
    sold, given_back = await stockroom.reserved({sku: 2}), await stockroom.reserved({sku: 1})
    commit_it, release_it = commit_request(sold), release_request(given_back)
    committed = await stockroom.inventory.CommitReservation(commit_it)
    released = await stockroom.inventory.ReleaseReservation(release_it)
    await stockroom.forget_keys()

    assert await stockroom.inventory.CommitReservation(commit_it) == committed
    assert await stockroom.inventory.ReleaseReservation(release_it) == released
    assert await stockroom.level(sku) == (3, 0, 2, 5)


async def test_a_forgotten_key_undoes_no_tombstone(stockroom: Stockroom) -> None:
    """A late reservation is refused for ever."""
    late = reserve_request({await stockroom.stocked(5): 2})
    unmade = Reservation(reservation_id=late.reservation_id, order_id=late.order_id)
    await stockroom.inventory.ReleaseReservation(release_request(unmade))
    assert (await refusal(stockroom.inventory.ReserveStock(late))).reason == "ALREADY_UNDONE"
    await stockroom.forget_keys()

    assert (await refusal(stockroom.inventory.ReserveStock(late))).reason == "ALREADY_UNDONE"


async def _movement_count(stockroom: Stockroom) -> int:
    async with stockroom.database.connection() as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM stock_movements")
    return count
