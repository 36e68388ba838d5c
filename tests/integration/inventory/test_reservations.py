"""The life of a reservation over gRPC: made, committed, released, expired, and what each state refuses."""

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from libretto.inventory.v1.inventory_service_pb2 import GetReservationRequest, ListReservationsRequest
from libretto.inventory.v1.reservation_pb2 import Reservation, ReservationLine, ReservationState

from tests.integration.inventory.stockroom import Stockroom, commit_request, release_request, reserve_request
from tests.rpc import new_uuid, refusal

ACTIVE = ReservationState.RESERVATION_STATE_ACTIVE
COMMITTED = ReservationState.RESERVATION_STATE_COMMITTED
RELEASED = ReservationState.RESERVATION_STATE_RELEASED
EXPIRED = ReservationState.RESERVATION_STATE_EXPIRED


def stranger(reservation: Reservation) -> Reservation:
    """Return a reservation's id with an order that it is not for."""
    return Reservation(reservation_id=reservation.reservation_id, order_id=new_uuid())


async def test_a_reservation_holds_its_lines_in_order_of_sku(stockroom: Stockroom) -> None:
    """It is answered as it can be read afterwards, and its pieces are no longer available."""
    skus = sorted([await stockroom.stocked(5), await stockroom.stocked(5)])
    request = reserve_request({skus[1]: 2, skus[0]: 5})
    request.hold_duration.CopyFrom(Duration(seconds=90))

    reservation = (await stockroom.inventory.ReserveStock(request)).reservation

    assert reservation == await stockroom.reservation(request.reservation_id)
    assert (reservation.order_id, reservation.state) == (request.order_id, ACTIVE)
    assert list(reservation.lines) == [
        ReservationLine(sku=skus[0], quantity=5),
        ReservationLine(sku=skus[1], quantity=2),
    ]
    assert reservation.expire_time.ToDatetime().timestamp() - reservation.create_time.ToDatetime().timestamp() == 90
    assert reservation.update_time == reservation.create_time
    assert [await stockroom.level(sku) for sku in skus] == [(0, 5, 0, 5), (3, 2, 0, 5)]


async def test_a_reservation_is_held_for_a_quarter_of_an_hour_unless_told_otherwise(stockroom: Stockroom) -> None:
    """The default of the contract."""
    reservation = await stockroom.reserved({await stockroom.stocked(1): 1})

    held = reservation.expire_time.ToDatetime() - reservation.create_time.ToDatetime()
    assert held.total_seconds() == 15 * 60


async def test_all_lines_are_held_or_none(stockroom: Stockroom) -> None:
    """The second line is short, so the first one's pieces stay available."""
    skus = sorted([await stockroom.stocked(5), await stockroom.stocked(1)])
    short = skus[0] if (await stockroom.level(skus[0]))[0] == 1 else skus[1]
    request = reserve_request(dict.fromkeys(skus, 2))

    refused = await refusal(stockroom.inventory.ReserveStock(request))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "OUT_OF_STOCK")
    assert (refused.domain, refused.metadata) == (
        "inventory.libretto",
        {"sku": short, "requested": "2", "available": "1"},
    )
    assert sum([(await stockroom.level(sku))[0] for sku in skus]) == 6
    unmade = await refusal(
        stockroom.inventory.GetReservation(GetReservationRequest(reservation_id=request.reservation_id))
    )
    assert (unmade.code, unmade.reason) == (grpc.StatusCode.NOT_FOUND, "RESERVATION_NOT_FOUND")


async def test_a_sku_that_nobody_knows_is_out_of_stock(stockroom: Stockroom) -> None:
    """There are no pieces of it."""
    refused = await refusal(stockroom.inventory.ReserveStock(reserve_request({"NEVER-SEEN": 1})))

    assert refused.reason == "OUT_OF_STOCK"
    assert refused.metadata == {"sku": "NEVER-SEEN", "requested": "1", "available": "0"}


async def test_a_reservation_is_not_begun_after_its_valid_until(stockroom: Stockroom) -> None:
    """By the database's clock; one that is in time is made."""
    sku = await stockroom.stocked(5)
    late = reserve_request({sku: 1})
    late.valid_until.CopyFrom(Timestamp(seconds=1_700_000_000))

    refused = await refusal(stockroom.inventory.ReserveStock(late))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VALID_UNTIL_PASSED")
    assert refused.domain == "common.libretto"
    assert await stockroom.level(sku) == (5, 0, 0, 5)

    in_time = reserve_request({sku: 1})
    in_time.valid_until.CopyFrom(Timestamp(seconds=32_503_680_000))
    assert (await stockroom.inventory.ReserveStock(in_time)).reservation.state == ACTIVE


async def test_a_reservation_id_belongs_to_one_order_and_its_lines(stockroom: Stockroom) -> None:
    """Another order or other lines cannot have it, nor commit or release it."""
    sku = await stockroom.stocked(9)
    made = await stockroom.reserved({sku: 2})

    for call in (
        stockroom.inventory.ReserveStock(
            reserve_request({sku: 3}, reservation_id=made.reservation_id, order_id=made.order_id)
        ),
        stockroom.inventory.ReserveStock(reserve_request({sku: 2}, reservation_id=made.reservation_id)),
        stockroom.inventory.CommitReservation(commit_request(stranger(made))),
        stockroom.inventory.ReleaseReservation(release_request(stranger(made))),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RESERVATION_ID_TAKEN")
    assert await stockroom.level(sku) == (7, 2, 0, 9)


async def test_a_committed_reservation_is_sold_and_cannot_be_released(stockroom: Stockroom) -> None:
    """It is answered again, with other keys too."""
    sku = await stockroom.stocked(3)
    made = await stockroom.reserved({sku: 2})

    committed = (await stockroom.inventory.CommitReservation(commit_request(made))).reservation

    assert committed.state == COMMITTED
    assert committed.update_time.ToDatetime() > committed.create_time.ToDatetime()
    assert (await stockroom.inventory.CommitReservation(commit_request(made))).reservation == committed
    refused = await refusal(stockroom.inventory.ReleaseReservation(release_request(made)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RESERVATION_COMMITTED")
    assert await stockroom.level(sku) == (1, 0, 2, 3)


async def test_a_released_reservation_gives_back_its_pieces_for_good(stockroom: Stockroom) -> None:
    """It is answered again; committing it, or making it again, comes too late."""
    sku = await stockroom.stocked(3)
    made = await stockroom.reserved({sku: 2})

    released = (await stockroom.inventory.ReleaseReservation(release_request(made))).reservation

    assert released.state == RELEASED
    assert (await stockroom.inventory.ReleaseReservation(release_request(made))).reservation == released
    again = reserve_request({sku: 2}, reservation_id=made.reservation_id, order_id=made.order_id)
    for call in (
        stockroom.inventory.CommitReservation(commit_request(made)),
        stockroom.inventory.ReserveStock(again),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ALREADY_UNDONE")
    assert await stockroom.level(sku) == (3, 0, 0, 3)


async def test_a_reservation_that_was_released_before_it_was_made_is_never_made(stockroom: Stockroom) -> None:
    """The release leaves a tombstone without lines, which the late reservation finds."""
    sku = await stockroom.stocked(3)
    late = reserve_request({sku: 2})
    unmade = Reservation(reservation_id=late.reservation_id, order_id=late.order_id)

    tombstone = (await stockroom.inventory.ReleaseReservation(release_request(unmade))).reservation

    assert (tombstone.state, list(tombstone.lines), tombstone.HasField("expire_time")) == (RELEASED, [], False)
    assert tombstone == await stockroom.reservation(late.reservation_id)
    assert (await stockroom.inventory.ReleaseReservation(release_request(unmade))).reservation == tombstone
    assert (await refusal(stockroom.inventory.ReserveStock(late))).reason == "ALREADY_UNDONE"
    assert (await refusal(stockroom.inventory.CommitReservation(commit_request(unmade)))).reason == "ALREADY_UNDONE"
    foreign = reserve_request({sku: 2}, reservation_id=late.reservation_id)
    assert (await refusal(stockroom.inventory.ReserveStock(foreign))).reason == "RESERVATION_ID_TAKEN"
    assert await stockroom.movements(sku) == [("ADJUSTED", 3, 0, 0)]


async def test_a_reservation_that_was_never_made_cannot_be_committed(stockroom: Stockroom) -> None:
    """Unlike a release, a commit writes nothing."""
    refused = await refusal(
        stockroom.inventory.CommitReservation(
            commit_request(Reservation(reservation_id=new_uuid(), order_id=new_uuid()))
        )
    )

    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RESERVATION_NOT_FOUND")


async def test_an_expired_reservation_is_committed_while_stock_lasts(stockroom: Stockroom) -> None:
    """Its pieces were given back; it takes others, and is not made again in between."""
    sku = await stockroom.stocked(3)
    expired = await stockroom.expired({sku: 2})
    assert (expired.state, await stockroom.level(sku)) == (EXPIRED, (3, 0, 0, 3))

    again = reserve_request({sku: 2}, reservation_id=expired.reservation_id, order_id=expired.order_id)
    refused = await refusal(stockroom.inventory.ReserveStock(again))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RESERVATION_EXPIRED")

    committed = (await stockroom.inventory.CommitReservation(commit_request(expired))).reservation
    assert (committed.state, await stockroom.level(sku)) == (COMMITTED, (1, 0, 2, 3))


async def test_an_expired_reservation_whose_pieces_are_gone_is_lost(stockroom: Stockroom) -> None:
    """Someone else took them; when there are pieces again, another try finds them."""
    sku, plenty = await stockroom.stocked(3), await stockroom.stocked(9)
    expired = await stockroom.expired({sku: 2, plenty: 1})
    thief = await stockroom.reserved({sku: 2})

    lost = commit_request(expired)
    refused = await refusal(stockroom.inventory.CommitReservation(lost))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RESERVATION_LOST")
    assert refused.metadata == {"sku": sku, "requested": "2", "available": "1"}
    assert await stockroom.level(plenty) == (9, 0, 0, 9)

    await stockroom.inventory.ReleaseReservation(release_request(thief))
    assert (await refusal(stockroom.inventory.CommitReservation(lost))).reason == "RESERVATION_LOST"
    assert (await stockroom.inventory.CommitReservation(commit_request(expired))).reservation.state == COMMITTED


async def test_an_expired_reservation_can_be_released(stockroom: Stockroom) -> None:
    """Nothing moves, but then it is over: it can no longer be committed."""
    sku = await stockroom.stocked(3)
    expired = await stockroom.expired({sku: 2})

    released = (await stockroom.inventory.ReleaseReservation(release_request(expired))).reservation

    assert (released.state, await stockroom.level(sku)) == (RELEASED, (3, 0, 0, 3))
    assert (await refusal(stockroom.inventory.CommitReservation(commit_request(expired)))).reason == "ALREADY_UNDONE"


@pytest.mark.parametrize("of_one_order", [True, False])
async def test_reservations_are_listed_oldest_first_by_pages(stockroom: Stockroom, of_one_order: bool) -> None:  # noqa: FBT001 - pytest's parameter.
    """Those of an order, or all; the token goes on after the last one, with the same filter only."""
    sku = await stockroom.stocked(5)
    order_id = new_uuid()
    made = [
        (await stockroom.inventory.ReserveStock(reserve_request({sku: 1}, order_id=order_id))).reservation
        for _ in range(5)
    ]

    shown: list[Reservation] = []
    request = ListReservationsRequest(page_size=2, order_id=order_id if of_one_order else "")
    while True:
        page = await stockroom.inventory.ListReservations(request)
        assert len(page.reservations) <= 2
        shown += page.reservations
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token

    assert [reservation for reservation in shown if reservation.order_id == order_id] == made
    request.order_id = new_uuid()
    refused = await refusal(stockroom.inventory.ListReservations(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
