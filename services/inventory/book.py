"""A batch is decided item after item: the book holds the locked rows and keeps them up to date as items change them.

So two items of a batch never take the same piece, and what is to be written back is known as sums at the end.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar
from uuid import UUID

from services.common.values import DomainError
from services.inventory import domain
from services.inventory.domain import (
    AdjustStock,
    Change,
    CommitReservation,
    Movement,
    ReleaseReservation,
    Reservation,
    ReserveStock,
    StockLevel,
)

C = TypeVar("C")
R = TypeVar("R")


class Book:
    """What a transaction has locked, at one moment of the database's time, and what its items have done to it."""

    def __init__(
        self, now: dt.datetime, levels: Iterable[StockLevel], reservations: Iterable[Reservation] = ()
    ) -> None:
        """Open the book with the rows as they were found."""
        self._now = now
        self.levels = {level.sku: level for level in levels}
        self.reservations = {reservation.reservation_id: reservation for reservation in reservations}
        self._found = dict(self.reservations)
        self.movements: list[Movement] = []

    @property
    def made(self) -> list[Reservation]:
        """The reservations that were not found when the book was opened."""
        return [reservation for key, reservation in self.reservations.items() if key not in self._found]

    @property
    def changed(self) -> list[Reservation]:
        """The reservations that were found, and have changed since."""
        return [self.reservations[key] for key, found in self._found.items() if self.reservations[key] is not found]

    def each(self, act: Callable[[C], R], commands: Sequence[C]) -> list[R | DomainError]:
        """Act on each command in order: its result, or its refusal, which leaves the others alone."""
        results: list[R | DomainError] = []
        for command in commands:
            try:
                results.append(act(command))
            except DomainError as refusal:
                results.append(refusal)
        return results

    def adjust(self, command: AdjustStock) -> StockLevel:
        """Adjust a level, and return it."""
        movement = domain.adjust(self.levels.get(command.sku), command, self._now)
        self.levels.setdefault(command.sku, StockLevel(command.sku, self._now))
        self._move([movement])
        return self.levels[command.sku]

    def reserve(self, command: ReserveStock) -> Reservation:
        """Hold stock, and return the reservation."""
        existing = self.reservations.get(command.reservation_id)
        return self._take_over(domain.reserve(self.levels, existing, command, self._now))

    def commit(self, command: CommitReservation) -> Reservation:
        """Sell what is held, and return the reservation."""
        existing = self.reservations.get(command.reservation_id)
        return self._take_over(domain.commit(self.levels, existing, command, self._now))

    def release(self, command: ReleaseReservation) -> Reservation:
        """Give back what is held, and return the reservation."""
        existing = self.reservations.get(command.reservation_id)
        return self._take_over(domain.release(existing, command, self._now))

    def expire(self, reservation_id: UUID) -> Reservation:
        """Give back what an active reservation holds, and return it."""
        return self._take_over(domain.expire(self.reservations[reservation_id], self._now))

    def _take_over(self, change: Change) -> Reservation:
        self._move(change.movements)
        self.reservations[change.reservation.reservation_id] = change.reservation
        return change.reservation

    def _move(self, movements: Sequence[Movement]) -> None:
        for movement in movements:
            self.levels[movement.sku] = self.levels[movement.sku].after(movement)
        self.movements.extend(movements)
