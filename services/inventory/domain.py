"""The rules of stock: what is available may be reserved, what is reserved may be sold, and nothing is promised twice.

Decisions are pure functions: they take what is known, locked, and the database's present time, and return a change or
raise the refusal. What came before in the same batch is part of what they are given (`book.py` sees to that).
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from uuid import UUID

from services.common.values import AlreadyUndoneError, DomainError, ErrorKind, check_valid_until

LEVEL_LIMIT_PIECES = 999_999_999_999
"""The most pieces of one SKU that may ever have come in."""

# The steps that one piece can take: by how much available, reserved and sold change.
_HOLD = (-1, 1, 0)
_SELL_HELD = (0, -1, 1)
_SELL_AVAILABLE = (-1, 0, 1)
_GIVE_BACK = (1, -1, 0)

_NAME = "The reservation"


class ReservationState(Enum):
    """Where a reservation stands: ACTIVE → COMMITTED, RELEASED or EXPIRED; EXPIRED → COMMITTED or RELEASED."""

    ACTIVE = auto()
    COMMITTED = auto()
    RELEASED = auto()
    EXPIRED = auto()


class MovementKind(Enum):
    """What moved stock."""

    ADJUSTED = auto()
    RESERVED = auto()
    COMMITTED = auto()
    RELEASED = auto()
    EXPIRED = auto()


@dataclass(frozen=True, slots=True)
class Line:
    """Some pieces of one SKU."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Movement:
    """One change of a level: by how many pieces each of its parts grew or shrank, and for which order."""

    sku: str
    kind: MovementKind
    create_time: dt.datetime
    available_change: int = 0
    reserved_change: int = 0
    sold_change: int = 0
    reservation_id: UUID | None = None
    order_id: UUID | None = None

    @property
    def received_change(self) -> int:
        """By how much the pieces that ever came in changed: only an adjustment does that."""
        return self.available_change if self.kind is MovementKind.ADJUSTED else 0


@dataclass(frozen=True, slots=True)
class RecordedMovement:
    """A movement that was written down, with the id that it got."""

    movement_id: UUID
    movement: Movement


@dataclass(frozen=True, slots=True)
class StockLevel:
    """The pieces of one SKU that ever came in, and where they stand: available + reserved + sold = received."""

    sku: str
    update_time: dt.datetime
    available: int = 0
    reserved: int = 0
    sold: int = 0

    @property
    def received(self) -> int:
        """Pieces that ever came in, less those written off."""
        return self.available + self.reserved + self.sold

    def after(self, movement: Movement) -> "StockLevel":
        """Return the level that a movement leaves behind."""
        return replace(
            self,
            update_time=movement.create_time,
            available=self.available + movement.available_change,
            reserved=self.reserved + movement.reserved_change,
            sold=self.sold + movement.sold_change,
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """Stock held for one order. One that was released before it was made has no lines and no expire_time."""

    reservation_id: UUID
    order_id: UUID
    state: ReservationState
    lines: tuple[Line, ...]
    expire_time: dt.datetime | None
    create_time: dt.datetime
    update_time: dt.datetime


@dataclass(frozen=True, slots=True)
class Change:
    """What an accepted command does: the reservation as it stands afterwards, and what moves, if anything does."""

    reservation: Reservation
    movements: tuple[Movement, ...] = ()


@dataclass(frozen=True, slots=True)
class AdjustStock:
    """Add pieces that came in, or with a negative change write some off."""

    sku: str
    change: int


@dataclass(frozen=True, slots=True)
class ReserveStock:
    """Hold all lines for an order, or none. The lines are in order of SKU, each SKU once."""

    reservation_id: UUID
    order_id: UUID
    lines: tuple[Line, ...]
    hold_seconds: float
    valid_until: dt.datetime | None


@dataclass(frozen=True, slots=True)
class CommitReservation:
    """Sell what is held."""

    reservation_id: UUID
    order_id: UUID


@dataclass(frozen=True, slots=True)
class ReleaseReservation:
    """Give back what is held, or see that it is never held."""

    reservation_id: UUID
    order_id: UUID


class InventoryError(DomainError):
    """The base of what inventory refuses."""

    service = "inventory"


class SkuNotFoundError(InventoryError):
    """No stock of this SKU was ever received."""

    kind, reason = ErrorKind.NOT_FOUND, "SKU_NOT_FOUND"

    def __init__(self, sku: str) -> None:
        """Name the SKU."""
        super().__init__(f"No stock of {sku} was ever received.", sku=sku)


class ReservationNotFoundError(InventoryError):
    """No reservation has this id."""

    kind, reason = ErrorKind.NOT_FOUND, "RESERVATION_NOT_FOUND"

    def __init__(self, reservation_id: UUID) -> None:
        """Name the reservation."""
        super().__init__(f"There is no reservation {reservation_id}.", reservation_id=str(reservation_id))


class OutOfStockError(InventoryError):
    """Too few pieces are available, or none of this SKU was ever received."""

    kind, reason = ErrorKind.REFUSED, "OUT_OF_STOCK"

    def __init__(self, wanted: Line, available: int) -> None:
        """State what was wanted, and how many pieces there are."""
        super().__init__(
            f"{wanted.quantity} of {wanted.sku} are wanted; {available} are available.", **_shortage(wanted, available)
        )


class ReservationIdTakenError(InventoryError):
    """A reservation with this id was made for another order or other lines."""

    kind, reason = ErrorKind.REFUSED, "RESERVATION_ID_TAKEN"

    def __init__(self, reservation_id: UUID) -> None:
        """Name the reservation."""
        super().__init__(
            f"The reservation {reservation_id} belongs to another order or holds other lines.",
            reservation_id=str(reservation_id),
        )


class ReservationExpiredError(InventoryError):
    """The reservation was made before and has expired."""

    kind, reason = ErrorKind.REFUSED, "RESERVATION_EXPIRED"

    def __init__(self, reservation_id: UUID) -> None:
        """Name the reservation."""
        super().__init__(
            f"The reservation {reservation_id} has expired and is not made again.", reservation_id=str(reservation_id)
        )


class ReservationCommittedError(InventoryError):
    """The reservation is committed and cannot be released."""

    kind, reason = ErrorKind.REFUSED, "RESERVATION_COMMITTED"

    def __init__(self, reservation_id: UUID) -> None:
        """Name the reservation."""
        super().__init__(
            f"The reservation {reservation_id} is committed: its pieces are sold.", reservation_id=str(reservation_id)
        )


class ReservationLostError(InventoryError):
    """The reservation expired and its pieces are gone."""

    kind, reason = ErrorKind.REFUSED, "RESERVATION_LOST"

    def __init__(self, wanted: Line, available: int) -> None:
        """State what was held, and how many pieces there are now."""
        super().__init__(
            f"The reservation expired; it held {wanted.quantity} of {wanted.sku}, of which {available} are available.",
            **_shortage(wanted, available),
        )


class AdjustmentImpossibleError(InventoryError):
    """The adjustment would take more pieces than are available, or pass the limit of a level."""

    kind, reason = ErrorKind.REFUSED, "ADJUSTMENT_IMPOSSIBLE"

    def __init__(self, command: AdjustStock, available: int) -> None:
        """State the change that was asked for, and how many pieces are available."""
        super().__init__(
            f"The stock of {command.sku}, of which {available} are available, cannot change by {command.change}.",
            sku=command.sku,
            available=str(available),
        )


def adjust(level: StockLevel | None, command: AdjustStock, now: dt.datetime) -> Movement:
    """Decide an adjustment of a level, None where the SKU is new.

    Raises SkuNotFoundError where there is nothing to write off from, and AdjustmentImpossibleError.
    """
    if level is None and command.change < 0:
        raise SkuNotFoundError(command.sku)
    available, received = (0, 0) if level is None else (level.available, level.received)
    if available + command.change < 0 or received + command.change > LEVEL_LIMIT_PIECES:
        raise AdjustmentImpossibleError(command, available)
    return Movement(command.sku, MovementKind.ADJUSTED, now, available_change=command.change)


def reserve(
    levels: Mapping[str, StockLevel], existing: Reservation | None, command: ReserveStock, now: dt.datetime
) -> Change:
    """Decide whether to hold stock. A reservation that was made before is answered as it stands.

    Raises ReservationIdTakenError, AlreadyUndoneError, ReservationExpiredError, ValidUntilPassedError and
    OutOfStockError.
    """
    if existing is not None:
        return Change(_made_before(existing, command))
    check_valid_until(command.valid_until, now)
    short = _first_short_line(levels, command.lines)
    if short is not None:
        raise OutOfStockError(short, _available(levels, short.sku))
    reservation = Reservation(
        command.reservation_id,
        command.order_id,
        ReservationState.ACTIVE,
        command.lines,
        expire_time=now + dt.timedelta(seconds=command.hold_seconds),
        create_time=now,
        update_time=now,
    )
    return Change(reservation, _movements(reservation, MovementKind.RESERVED, _HOLD, now))


def commit(
    levels: Mapping[str, StockLevel], existing: Reservation | None, command: CommitReservation, now: dt.datetime
) -> Change:
    """Decide whether to sell what is held. What is committed is answered as it stands; what expired is taken again.

    Raises ReservationNotFoundError, ReservationIdTakenError, AlreadyUndoneError and ReservationLostError.
    """
    if existing is None:
        raise ReservationNotFoundError(command.reservation_id)
    if existing.order_id != command.order_id:
        raise ReservationIdTakenError(command.reservation_id)
    if existing.state is ReservationState.RELEASED:
        raise AlreadyUndoneError(_NAME)
    if existing.state is ReservationState.COMMITTED:
        return Change(existing)
    step = _SELL_HELD
    if existing.state is ReservationState.EXPIRED:
        step = _SELL_AVAILABLE
        short = _first_short_line(levels, existing.lines)
        if short is not None:
            raise ReservationLostError(short, _available(levels, short.sku))
    committed = replace(existing, state=ReservationState.COMMITTED, update_time=now)
    return Change(committed, _movements(existing, MovementKind.COMMITTED, step, now))


def release(existing: Reservation | None, command: ReleaseReservation, now: dt.datetime) -> Change:
    """Decide whether to give back what is held. What was never made is written as released, so that it never will be.

    Raises ReservationIdTakenError and ReservationCommittedError.
    """
    if existing is None:
        undone = ReservationState.RELEASED
        return Change(Reservation(command.reservation_id, command.order_id, undone, (), None, now, now))
    if existing.order_id != command.order_id:
        raise ReservationIdTakenError(command.reservation_id)
    if existing.state is ReservationState.COMMITTED:
        raise ReservationCommittedError(command.reservation_id)
    if existing.state is ReservationState.RELEASED:
        return Change(existing)
    released = replace(existing, state=ReservationState.RELEASED, update_time=now)
    if existing.state is ReservationState.EXPIRED:
        return Change(released)
    return Change(released, _movements(existing, MovementKind.RELEASED, _GIVE_BACK, now))


def expire(existing: Reservation, now: dt.datetime) -> Change:
    """Give back what an active reservation holds, because its time ran out."""
    expired = replace(existing, state=ReservationState.EXPIRED, update_time=now)
    return Change(expired, _movements(existing, MovementKind.EXPIRED, _GIVE_BACK, now))


def _made_before(existing: Reservation, command: ReserveStock) -> Reservation:
    """Return what an equal command made before, or raise why this one may not have it."""
    never_made = existing.state is ReservationState.RELEASED and not existing.lines
    if existing.order_id != command.order_id or not (never_made or existing.lines == command.lines):
        raise ReservationIdTakenError(command.reservation_id)
    if existing.state is ReservationState.RELEASED:
        raise AlreadyUndoneError(_NAME)
    if existing.state is ReservationState.EXPIRED:
        raise ReservationExpiredError(command.reservation_id)
    return existing


def _movements(
    reservation: Reservation, kind: MovementKind, step: tuple[int, int, int], now: dt.datetime
) -> tuple[Movement, ...]:
    """Move every piece of a reservation by one step."""
    available, reserved, sold = step
    return tuple(
        Movement(
            line.sku,
            kind,
            now,
            available * line.quantity,
            reserved * line.quantity,
            sold * line.quantity,
            reservation.reservation_id,
            reservation.order_id,
        )
        for line in reservation.lines
    )


def _first_short_line(levels: Mapping[str, StockLevel], lines: tuple[Line, ...]) -> Line | None:
    return next((line for line in lines if _available(levels, line.sku) < line.quantity), None)


def _available(levels: Mapping[str, StockLevel], sku: str) -> int:
    return levels[sku].available if sku in levels else 0


def _shortage(wanted: Line, available: int) -> dict[str, str]:
    return {"sku": wanted.sku, "requested": str(wanted.quantity), "available": str(available)}
