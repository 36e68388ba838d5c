"""What may be done with stock and with reservations, and what moves when it is done."""

import datetime as dt
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from services.common.values import AlreadyUndoneError, ValidUntilPassedError
from services.inventory import domain
from services.inventory.domain import (
    LEVEL_LIMIT_PIECES,
    AdjustmentImpossibleError,
    AdjustStock,
    Change,
    CommitReservation,
    Line,
    Movement,
    MovementKind,
    OutOfStockError,
    ReleaseReservation,
    Reservation,
    ReservationCommittedError,
    ReservationExpiredError,
    ReservationIdTakenError,
    ReservationLostError,
    ReservationNotFoundError,
    ReservationState,
    ReserveStock,
    SkuNotFoundError,
    StockLevel,
)

NOW = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(minutes=1)
LEVELS = {
    "LAMP": StockLevel("LAMP", NOW, available=5, reserved=2, sold=1),
    "VASE": StockLevel("VASE", NOW, available=1, reserved=1),
}
LINES = (Line("LAMP", 2), Line("VASE", 1))
RESERVE = ReserveStock(UUID(int=1), UUID(int=2), LINES, hold_seconds=60.0, valid_until=None)
COMMIT = CommitReservation(RESERVE.reservation_id, RESERVE.order_id)
RELEASE = ReleaseReservation(RESERVE.reservation_id, RESERVE.order_id)


def reservation(state: ReservationState) -> Reservation:
    """Return the reservation that RESERVE makes, in a state."""
    return Reservation(RESERVE.reservation_id, RESERVE.order_id, state, LINES, LATER, NOW, NOW)


def tombstone() -> Reservation:
    """Return the reservation that RELEASE writes when there is none."""
    return domain.release(None, RELEASE, NOW).reservation


def steps(movements: tuple[Movement, ...]) -> list[tuple[str, int, int, int]]:
    """Return what moves: SKU and the changes of available, reserved and sold."""
    return [
        (movement.sku, movement.available_change, movement.reserved_change, movement.sold_change)
        for movement in movements
    ]


def test_received_pieces_become_available() -> None:
    """A first adjustment needs no level; only adjustments change what was received."""
    movement = domain.adjust(None, AdjustStock("LAMP", 7), NOW)

    assert (movement.available_change, movement.received_change) == (7, 7)
    assert StockLevel("LAMP", NOW).after(movement).received == 7


def test_available_pieces_may_be_written_off_but_held_ones_may_not() -> None:
    """Two are reserved and one is sold: these stay, however many came in."""
    assert domain.adjust(LEVELS["LAMP"], AdjustStock("LAMP", -5), NOW).available_change == -5

    with pytest.raises(AdjustmentImpossibleError) as caught:
        domain.adjust(LEVELS["LAMP"], AdjustStock("LAMP", -6), NOW)
    assert caught.value.metadata == {"sku": "LAMP", "available": "5"}


def test_nothing_is_written_off_a_sku_that_never_came_in() -> None:
    """The SKU stays unknown."""
    with pytest.raises(SkuNotFoundError):
        domain.adjust(None, AdjustStock("LAMP", -1), NOW)


def test_a_level_has_a_limit() -> None:
    """It counts what was received, not what is left."""
    full = StockLevel("LAMP", NOW, available=1, sold=LEVEL_LIMIT_PIECES - 2)

    assert full.after(domain.adjust(full, AdjustStock("LAMP", 1), NOW)).received == LEVEL_LIMIT_PIECES
    with pytest.raises(AdjustmentImpossibleError):
        domain.adjust(full, AdjustStock("LAMP", 2), NOW)


def test_a_reservation_holds_all_its_lines_until_it_expires() -> None:
    """Each line moves its pieces from available to reserved."""
    change = domain.reserve(LEVELS, None, RESERVE, NOW)

    assert change.reservation == reservation(ReservationState.ACTIVE)
    assert steps(change.movements) == [("LAMP", -2, 2, 0), ("VASE", -1, 1, 0)]
    assert {movement.kind for movement in change.movements} == {MovementKind.RESERVED}
    assert {movement.reservation_id for movement in change.movements} == {RESERVE.reservation_id}
    assert {movement.order_id for movement in change.movements} == {RESERVE.order_id}


@pytest.mark.parametrize(
    ("line", "available"), [(Line("LAMP", 6), "5"), (Line("VASE", 2), "1"), (Line("ZEBRA", 1), "0")]
)
def test_one_line_that_is_short_refuses_the_whole_reservation(line: Line, available: str) -> None:
    """The refusal names the first such line, also for a SKU that nobody knows."""
    command = replace(RESERVE, lines=(Line("LAMP", 1), line) if line.sku != "LAMP" else (line, Line("VASE", 2)))

    with pytest.raises(OutOfStockError) as caught:
        domain.reserve(LEVELS, None, command, NOW)
    assert caught.value.metadata == {"sku": line.sku, "requested": str(line.quantity), "available": available}


@pytest.mark.parametrize("state", [ReservationState.ACTIVE, ReservationState.COMMITTED])
def test_an_equal_reservation_is_answered_again(state: ReservationState) -> None:
    """How long it was to be held does not count, and lateness neither: it was made before."""
    existing = reservation(state)
    command = replace(RESERVE, hold_seconds=5.0, valid_until=NOW - dt.timedelta(seconds=1))

    assert domain.reserve({}, existing, command, NOW) == Change(existing)


@pytest.mark.parametrize(
    "command", [replace(RESERVE, order_id=uuid4()), replace(RESERVE, lines=LINES[:1])], ids=["order", "lines"]
)
@pytest.mark.parametrize("state", ReservationState)
def test_a_reservation_id_belongs_to_one_order_and_its_lines(state: ReservationState, command: ReserveStock) -> None:
    """Another order or other lines cannot have it, whatever became of it."""
    with pytest.raises(ReservationIdTakenError):
        domain.reserve(LEVELS, reservation(state), command, NOW)


def test_a_reservation_that_was_released_is_never_made_again() -> None:
    """Neither after it was held nor when its release came first."""
    for released in (reservation(ReservationState.RELEASED), tombstone()):
        with pytest.raises(AlreadyUndoneError):
            domain.reserve(LEVELS, released, RESERVE, NOW)
    with pytest.raises(ReservationIdTakenError):
        domain.reserve(LEVELS, tombstone(), replace(RESERVE, order_id=uuid4()), NOW)


def test_a_reservation_that_expired_is_not_made_again() -> None:
    """Its pieces may be there, but only a commit takes them."""
    with pytest.raises(ReservationExpiredError):
        domain.reserve(LEVELS, reservation(ReservationState.EXPIRED), RESERVE, NOW)


def test_a_reservation_is_not_begun_after_its_valid_until() -> None:
    """At the moment itself it still is."""
    command = replace(RESERVE, valid_until=NOW)

    assert domain.reserve(LEVELS, None, command, NOW).movements
    with pytest.raises(ValidUntilPassedError):
        domain.reserve(LEVELS, None, command, NOW + dt.timedelta(microseconds=1))


def test_a_commit_sells_what_is_held() -> None:
    """The pieces move from reserved to sold."""
    change = domain.commit(LEVELS, reservation(ReservationState.ACTIVE), COMMIT, LATER)

    assert change.reservation == replace(reservation(ReservationState.COMMITTED), update_time=LATER)
    assert steps(change.movements) == [("LAMP", 0, -2, 2), ("VASE", 0, -1, 1)]


def test_a_commit_of_an_expired_reservation_sells_available_pieces() -> None:
    """Its own pieces were given back, so it takes others."""
    change = domain.commit(LEVELS, reservation(ReservationState.EXPIRED), COMMIT, LATER)

    assert change.reservation.state is ReservationState.COMMITTED
    assert steps(change.movements) == [("LAMP", -2, 0, 2), ("VASE", -1, 0, 1)]
    assert {movement.kind for movement in change.movements} == {MovementKind.COMMITTED}


def test_a_commit_of_an_expired_reservation_whose_pieces_are_gone_is_lost() -> None:
    """It is all or nothing here too."""
    levels = LEVELS | {"VASE": StockLevel("VASE", NOW, sold=2)}

    with pytest.raises(ReservationLostError) as caught:
        domain.commit(levels, reservation(ReservationState.EXPIRED), COMMIT, NOW)
    assert caught.value.metadata == {"sku": "VASE", "requested": "1", "available": "0"}


def test_a_committed_reservation_is_answered_again() -> None:
    """Nothing is sold twice."""
    committed = reservation(ReservationState.COMMITTED)

    assert domain.commit(LEVELS, committed, COMMIT, LATER) == Change(committed)


def test_only_a_reservation_that_stands_can_be_committed() -> None:
    """It must be there, be this order's, and not be released."""
    with pytest.raises(ReservationNotFoundError):
        domain.commit(LEVELS, None, COMMIT, NOW)
    with pytest.raises(ReservationIdTakenError):
        domain.commit(LEVELS, reservation(ReservationState.ACTIVE), replace(COMMIT, order_id=uuid4()), NOW)
    for released in (reservation(ReservationState.RELEASED), tombstone()):
        with pytest.raises(AlreadyUndoneError):
            domain.commit(LEVELS, released, COMMIT, NOW)


def test_a_release_gives_back_what_is_held() -> None:
    """The pieces move from reserved to available."""
    change = domain.release(reservation(ReservationState.ACTIVE), RELEASE, LATER)

    assert change.reservation == replace(reservation(ReservationState.RELEASED), update_time=LATER)
    assert steps(change.movements) == [("LAMP", 2, -2, 0), ("VASE", 1, -1, 0)]


def test_a_release_of_an_expired_reservation_moves_nothing() -> None:
    """Its pieces were given back when it expired."""
    change = domain.release(reservation(ReservationState.EXPIRED), RELEASE, LATER)

    assert change == Change(replace(reservation(ReservationState.RELEASED), update_time=LATER))


def test_a_release_of_what_was_never_made_writes_a_tombstone() -> None:
    """It has no lines and never expires; a second release finds it."""
    change = domain.release(None, RELEASE, NOW)

    released = ReservationState.RELEASED
    assert change == Change(
        Reservation(
            RELEASE.reservation_id, RELEASE.order_id, released, (), expire_time=None, create_time=NOW, update_time=NOW
        )
    )
    assert domain.release(change.reservation, RELEASE, LATER) == change


def test_a_released_reservation_is_answered_again() -> None:
    """Nothing is given back twice."""
    released = reservation(ReservationState.RELEASED)

    assert domain.release(released, RELEASE, LATER) == Change(released)


def test_a_release_takes_back_no_sale_and_no_other_orders_stock() -> None:
    """Both are refused."""
    with pytest.raises(ReservationCommittedError):
        domain.release(reservation(ReservationState.COMMITTED), RELEASE, NOW)
    for state in ReservationState:
        with pytest.raises(ReservationIdTakenError):
            domain.release(reservation(state), replace(RELEASE, order_id=uuid4()), NOW)


def test_an_expiry_gives_back_what_is_held() -> None:
    """As a release does, but the reservation may still be committed."""
    change = domain.expire(reservation(ReservationState.ACTIVE), LATER)

    assert change.reservation == replace(reservation(ReservationState.EXPIRED), update_time=LATER)
    assert steps(change.movements) == [("LAMP", 2, -2, 0), ("VASE", 1, -1, 0)]
    assert {movement.kind for movement in change.movements} == {MovementKind.EXPIRED}
