"""Batches: each item sees what the earlier ones did; and whatever is done in whatever order, the sums hold."""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TypeVar
from uuid import UUID, uuid4

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.common.values import DomainError
from services.inventory.book import Book
from services.inventory.domain import (
    AdjustStock,
    CommitReservation,
    Line,
    Movement,
    OutOfStockError,
    ReleaseReservation,
    Reservation,
    ReservationState,
    ReserveStock,
    StockLevel,
)

C = TypeVar("C")
R = TypeVar("R")

NOW = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC)
SKUS = ("LAMP", "SOFA", "VASE")


def reserve(reservation_id: UUID, *lines: Line) -> ReserveStock:
    """Return a command for the order that this reservation always has."""
    order_id = UUID(int=reservation_id.int + 100)
    return ReserveStock(reservation_id, order_id, lines, hold_seconds=60.0, valid_until=None)


def test_no_piece_is_taken_twice_in_a_batch() -> None:
    """Five want the last three pieces: the first three get them, the others learn that none is left."""
    book = Book(NOW, [StockLevel("LAMP", NOW, available=3)])

    results = book.each(book.reserve, [reserve(uuid4(), Line("LAMP", 1)) for _ in range(5)])

    assert [type(result) for result in results] == [Reservation] * 3 + [OutOfStockError] * 2
    assert book.levels["LAMP"] == StockLevel("LAMP", NOW, available=0, reserved=3)
    assert book.made == results[:3]
    assert len(book.movements) == 3


def test_a_refused_item_leaves_its_neighbours_and_its_own_other_lines_alone() -> None:
    """The greedy one in the middle takes nothing, so the last one finds what it needs."""
    book = Book(NOW, [StockLevel("LAMP", NOW, available=2), StockLevel("VASE", NOW, available=1)])
    greedy = reserve(uuid4(), Line("LAMP", 1), Line("VASE", 2))

    results = book.each(book.reserve, [reserve(uuid4(), Line("LAMP", 1)), greedy, reserve(uuid4(), Line("LAMP", 1))])

    assert [isinstance(result, Reservation) for result in results] == [True, False, True]
    assert book.levels["VASE"].available == 1


def test_what_is_written_back_is_what_the_batch_made_and_changed() -> None:
    """A reservation that was made is no change of one, and one that stayed as it was is neither."""
    held = reserve(UUID(int=1), Line("LAMP", 1))
    before = Book(NOW, [StockLevel("LAMP", NOW, available=5)])
    existing = [before.reserve(held), before.reserve(reserve(UUID(int=2), Line("LAMP", 1)))]
    book = Book(NOW, before.levels.values(), existing)

    book.each(
        book.release,
        [
            ReleaseReservation(reservation_id, UUID(int=reservation_id.int + 100))
            for reservation_id in (UUID(int=1), UUID(int=3))
        ],
    )

    assert [(item.reservation_id.int, item.state) for item in book.changed] == [(1, ReservationState.RELEASED)]
    assert [(item.reservation_id.int, item.state) for item in book.made] == [(3, ReservationState.RELEASED)]


_skus = st.sampled_from(SKUS)
_ids = st.integers(1, 8).map(lambda number: UUID(int=number))
_lines = st.dictionaries(_skus, st.integers(1, 4), min_size=1).map(
    lambda wanted: tuple(Line(sku, quantity) for sku, quantity in sorted(wanted.items()))
)


def _batches(items: st.SearchStrategy[C]) -> st.SearchStrategy[list[C]]:
    return st.lists(items, min_size=1, max_size=5)


class Stockroom(RuleBasedStateMachine):
    """Random batches of everything that can be asked for, over few SKUs and few reservations."""

    def __init__(self) -> None:
        """Begin with nothing at all."""
        super().__init__()
        self.now = NOW
        self.levels: dict[str, StockLevel] = {}
        self.reservations: dict[UUID, Reservation] = {}
        self.movements: list[Movement] = []

    def run(self, act: Callable[[Book, C], R], commands: Sequence[C]) -> None:
        """Run one batch as the store does: open a book, decide, write back what was made, changed and moved."""
        self.now += dt.timedelta(seconds=1)
        book = Book(self.now, self.levels.values(), self.reservations.values())
        found = dict(self.reservations)
        results = book.each(lambda command: act(book, command), commands)
        for movement in book.movements:
            level = self.levels.get(movement.sku, StockLevel(movement.sku, self.now))
            self.levels[movement.sku] = level.after(movement)
        self.reservations |= {item.reservation_id: item for item in (*book.made, *book.changed)}
        self.movements += book.movements
        assert self.levels == book.levels
        assert self.reservations == book.reservations
        if all(isinstance(result, DomainError) for result in results):
            assert (found, []) == (self.reservations, book.movements)

    @rule(changes=_batches(st.tuples(_skus, st.integers(-4, 12).filter(bool))))
    def adjust(self, changes: list[tuple[str, int]]) -> None:
        """Pieces come in or are written off."""
        self.run(Book.adjust, [AdjustStock(sku, change) for sku, change in changes])

    @rule(wanted=_batches(st.tuples(_ids, _lines)))
    def reserve(self, wanted: list[tuple[UUID, tuple[Line, ...]]]) -> None:
        """Orders ask for stock, some twice, some under an id that has other lines."""
        self.run(Book.reserve, [reserve(reservation_id, *lines) for reservation_id, lines in wanted])

    @rule(pairs=_batches(st.tuples(_ids, st.booleans())))
    def commit(self, pairs: list[tuple[UUID, bool]]) -> None:
        """Orders are paid for; some callers name another order than the reservation's."""
        self.run(Book.commit, [CommitReservation(key, _order(key, right=right)) for key, right in pairs])

    @rule(pairs=_batches(st.tuples(_ids, st.booleans())))
    def release(self, pairs: list[tuple[UUID, bool]]) -> None:
        """Orders are given up, some of them before they held anything."""
        self.run(Book.release, [ReleaseReservation(key, _order(key, right=right)) for key, right in pairs])

    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        """The sweeper takes some of those that are active."""
        active = [key for key, item in self.reservations.items() if item.state is ReservationState.ACTIVE]
        if active:
            self.run(Book.expire, data.draw(st.lists(st.sampled_from(active), min_size=1, unique=True)))

    @invariant()
    def no_part_of_a_level_is_negative(self) -> None:
        """Nothing is promised that is not there."""
        for level in self.levels.values():
            assert min(level.available, level.reserved, level.sold) >= 0

    @invariant()
    def every_piece_stands_somewhere(self) -> None:
        """What was received is what the adjustments brought: available, reserved and sold share it."""
        received = _sums(self.movements, attrgetter("received_change"))
        assert {sku: level.received for sku, level in self.levels.items()} == received

    @invariant()
    def movements_add_up_to_the_level(self) -> None:
        """Each part of a level is the sum of its movements."""
        for part in ("available", "reserved", "sold"):
            sums = _sums(self.movements, attrgetter(f"{part}_change"))
            assert {sku: getattr(level, part) for sku, level in self.levels.items()} == sums

    @invariant()
    def what_is_held_and_sold_are_the_lines_of_reservations(self) -> None:
        """Reserved are the lines of active reservations, sold those of committed ones."""
        for state, part in ((ReservationState.ACTIVE, "reserved"), (ReservationState.COMMITTED, "sold")):
            lines = Counter[str]()
            for item in self.reservations.values():
                if item.state is state:
                    lines.update({line.sku: line.quantity for line in item.lines})
            assert {sku: getattr(level, part) for sku, level in self.levels.items() if getattr(level, part)} == lines


def _order(reservation_id: UUID, *, right: bool) -> UUID:
    return UUID(int=reservation_id.int + (100 if right else 200))


def _sums(movements: Sequence[Movement], change: Callable[[Movement], int]) -> dict[str, int]:
    sums = {movement.sku: 0 for movement in movements}
    for movement in movements:
        sums[movement.sku] += change(movement)
    return sums


TestStockroom = Stockroom.TestCase
TestStockroom.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, database=None
)
