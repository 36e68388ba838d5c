"""The journal of all sagas: what goes into one commit, in which order, and what a failing database changes of that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain, repeat

import pytest

from services.checkout.coordinator import Entry, EntryKind
from services.checkout.domain import Order, OrderState
from services.checkout.journal import GROUP_LIMIT, FencedError, GroupJournal, JournalRefusedError
from services.checkout.messages import verdict_of
from services.checkout.saga import Action
from tests.fakes.checkout import new_order
from tests.fakes.checkout_store import FIRST_EPOCH, FIRST_SEQUENCE, Fault, MemoryJournalStore
from tests.fakes.clock import VirtualClock, in_virtual_time

RESERVED = Entry(EntryKind.DONE, Action.RESERVE_STOCK)
AUTHORIZED = Entry(EntryKind.DONE, Action.AUTHORIZE_PAYMENT)
SOLD = Entry(EntryKind.DONE, Action.COMMIT_RESERVATION)
CONFIRMED, COMPLETED = Entry(EntryKind.CONFIRMED), Entry(EntryKind.COMPLETED)
SOLD_OUT = Entry(EntryKind.REJECTED, details={"reason": "OUT_OF_STOCK", "sku": "MUG"})
LINGER_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Desk:
    """A journal that is being written, its store, and the time."""

    clock: VirtualClock
    store: MemoryJournalStore
    journal: GroupJournal

    def opened(self, number: int = 1) -> Order:
        """Place an order and open its journal."""
        order = new_order(self.clock, number)
        self.store.place(order)
        self.journal.open(order, FIRST_EPOCH, FIRST_SEQUENCE)
        return order


@asynccontextmanager
async def writing(*faults: Fault) -> AsyncIterator[Desk]:
    """Write a journal to a store whose first commits fail like this."""
    clock = VirtualClock()
    coming = chain(faults, repeat(Fault.NOTHING))
    store = MemoryJournalStore(clock, lambda: next(coming))
    journal = GroupJournal(store, clock, verdict_of)
    async with journal.writing():
        yield Desk(clock, store, journal)


@in_virtual_time
async def test_entries_ride_with_the_outcome_that_is_waited_for() -> None:
    """One commit, at once, in the order in which they were noted."""
    async with writing() as desk:
        order = desk.opened()
        desk.journal.note(order, RESERVED)
        desk.journal.note(order, AUTHORIZED)
        decided = await desk.journal.commit_outcome(order, CONFIRMED)
        assert desk.clock.monotonic_seconds() < LINGER_SECONDS
        assert desk.store.story(order) == ["PLACED", "DONE reserve_stock", "DONE authorize_payment", "CONFIRMED"]
        assert len(desk.store.groups) == 1
        assert decided.state is desk.store.rows[order.order_id].state is OrderState.CONFIRMED


@in_virtual_time
async def test_an_outcome_is_committed_with_its_answer_before_the_order_is_returned() -> None:
    """The verdict of the request and the rejection stand in the same change as the entry."""
    async with writing() as desk:
        order = desk.opened()
        decided = await desk.journal.commit_outcome(order, SOLD_OUT)
        row = desk.store.rows[order.order_id]
        assert row.verdicts == [verdict_of(decided)]
        assert (row.state, row.rejection) == (OrderState.REJECTED, decided.rejection)
        assert decided.rejection is not None
        assert decided.rejection.metadata == {"sku": "MUG"}


@in_virtual_time
async def test_entries_that_nobody_waits_for_follow_a_moment_later() -> None:
    """They linger for company, and are then written by themselves in one commit."""
    async with writing() as desk:
        first, second = desk.opened(1), desk.opened(2)
        desk.journal.note(first, RESERVED)
        await desk.clock.sleep(LINGER_SECONDS / 2)
        desk.journal.note(second, RESERVED)
        await desk.clock.sleep(LINGER_SECONDS / 4)
        assert desk.store.groups == []
        await desk.clock.sleep(LINGER_SECONDS)
        assert [sorted(group) for group in desk.store.groups] == [sorted((first.order_id, second.order_id))]


@in_virtual_time
async def test_concurrent_outcomes_share_their_commits() -> None:
    """What comes while a commit is under way waits for the next one, however many orders it is."""
    async with writing() as desk:
        orders = [desk.opened(number) for number in range(100)]
        await asyncio.gather(*(desk.journal.commit_outcome(order, CONFIRMED) for order in orders))
        assert len(desk.store.groups) <= 2
        assert {desk.store.rows[order.order_id].state for order in orders} == {OrderState.CONFIRMED}


@in_virtual_time
async def test_a_commit_holds_no_more_orders_than_its_limit_and_the_oldest_first() -> None:
    """Orders stand in it sorted by id, as their rows are locked in that order."""
    async with writing() as desk:
        orders = [desk.opened(number) for number in range(2 * GROUP_LIMIT + 1)]
        waits = [asyncio.create_task(desk.journal.commit_outcome(order, CONFIRMED)) for order in orders]
        await asyncio.wait(waits)
        assert [len(group) for group in desk.store.groups] == [GROUP_LIMIT, GROUP_LIMIT, 1]
        assert all(group == sorted(group) for group in desk.store.groups)
        assert set(desk.store.groups[0]) == {order.order_id for order in orders[:GROUP_LIMIT]}
        assert desk.clock.monotonic_seconds() < LINGER_SECONDS


@in_virtual_time
async def test_the_entries_of_each_order_stay_in_their_order_across_commits() -> None:
    """First in, first out, however they fall into groups."""
    async with writing() as desk:
        orders = [desk.opened(number) for number in range(3)]
        for action in (Action.RESERVE_STOCK, Action.AUTHORIZE_PAYMENT, Action.CAPTURE_PAYMENT):
            for order in orders:
                desk.journal.note(order, Entry(EntryKind.DONE, action))
            await desk.clock.sleep(LINGER_SECONDS * 0.7)
        await asyncio.gather(*(desk.journal.commit_outcome(order, CONFIRMED) for order in orders))
        expected = ["PLACED", "DONE reserve_stock", "DONE authorize_payment", "DONE capture_payment", "CONFIRMED"]
        assert [desk.store.story(order) for order in orders] == [expected] * 3


@in_virtual_time
async def test_a_fenced_order_fails_alone() -> None:
    """Another coordinator owns it: nothing of it is written, its neighbours in the same commit are."""
    async with writing() as desk:
        fenced, other = desk.opened(1), desk.opened(2)
        desk.store.take_over(fenced)
        desk.journal.note(fenced, RESERVED)
        results = await asyncio.gather(
            *(desk.journal.commit_outcome(order, CONFIRMED) for order in (fenced, other)), return_exceptions=True
        )
        assert isinstance(results[0], FencedError)
        assert desk.store.story(fenced) == ["PLACED"]
        assert desk.store.story(other) == ["PLACED", "CONFIRMED"]
        assert len(desk.store.groups) == 1


@in_virtual_time
async def test_nothing_more_is_written_of_an_order_that_was_fenced() -> None:
    """Not even where its new owner gave it back the numbers that it had."""
    async with writing() as desk:
        order = desk.opened()
        desk.store.take_over(order)
        desk.journal.note(order, RESERVED)
        await desk.clock.sleep(1)
        desk.store.rows[order.order_id].epoch = FIRST_EPOCH
        with pytest.raises(FencedError):
            await desk.journal.commit_outcome(order, CONFIRMED)
        assert desk.store.story(order) == ["PLACED"]
        assert desk.store.groups == [[order.order_id], []]


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER], ids=str)
@in_virtual_time
async def test_a_commit_that_fails_is_repeated_with_the_same_entries(fault: Fault) -> None:
    """Whether or not it was written, and whatever was noted meanwhile: each entry stands once, in its order."""
    async with writing(*[fault] * 5) as desk:
        order, other = desk.opened(1), desk.opened(2)
        outcome = asyncio.create_task(desk.journal.commit_outcome(order, CONFIRMED))
        await desk.clock.sleep(0.1)
        desk.journal.note(other, RESERVED)
        await outcome
        desk.journal.note(order, SOLD)
        await desk.clock.sleep(1)
        assert desk.store.groups == [*[[order.order_id]] * 6, sorted((order.order_id, other.order_id))]
        assert desk.store.story(order) == ["PLACED", "CONFIRMED", "DONE commit_reservation"]
        assert desk.store.story(other) == ["PLACED", "DONE reserve_stock"]


@in_virtual_time
async def test_the_pauses_between_repeated_commits_grow_to_a_limit() -> None:
    """A database that comes back after a minute is not asked a thousand times."""
    async with writing(*[Fault.BEFORE] * 20) as desk:
        await desk.journal.commit_outcome(desk.opened(), CONFIRMED)
        assert len(desk.store.groups) == 21
        assert 15 * 2.0 < desk.clock.monotonic_seconds() < 20 * 2.0


@in_virtual_time
async def test_an_order_that_breaks_the_commit_is_given_up_and_the_others_are_written() -> None:
    """A group that fails as a whole is written order by order; the journal goes on for those that come later."""
    async with writing() as desk:
        broken, *others = (desk.opened(number) for number in range(4))
        desk.store.broken.add(broken.order_id)
        results = await asyncio.gather(
            *(desk.journal.commit_outcome(order, CONFIRMED) for order in (broken, *others)), return_exceptions=True
        )
        assert isinstance(results[0], JournalRefusedError)
        later = desk.opened(9)
        await desk.journal.commit_outcome(later, CONFIRMED)
        stories = [desk.store.story(order) for order in (*others, later)]
        assert stories == [["PLACED", "CONFIRMED"]] * 4
        desk.store.broken.clear()
        desk.journal.note(broken, Entry(EntryKind.NEEDS_ATTENTION, details={"reason": "INTERNAL"}))
        await desk.clock.sleep(1)
        assert desk.store.story(broken) == ["PLACED", "NEEDS_ATTENTION INTERNAL"]
        assert len(desk.store.groups) == 7


@in_virtual_time
async def test_an_order_is_forgotten_when_it_is_closed_and_its_last_entry_is_written() -> None:
    """Not before, and an order that has nothing left to be written at once."""
    async with writing() as desk:
        order, idle = desk.opened(1), desk.opened(2)
        await desk.journal.commit_outcome(order, CONFIRMED)
        desk.journal.note(order, COMPLETED)
        for closing in (order, idle):
            desk.journal.close(closing)
        with pytest.raises(KeyError):
            desk.journal.note(idle, COMPLETED)
        await desk.clock.sleep(1)
        with pytest.raises(KeyError):
            desk.journal.note(order, COMPLETED)
        assert desk.store.story(order) == ["PLACED", "CONFIRMED", "COMPLETED"]


@in_virtual_time
async def test_who_stops_waiting_for_an_outcome_does_not_stop_its_commit() -> None:
    """Cancelling never stops a group commit."""
    async with writing(Fault.BEFORE) as desk:
        order = desk.opened()
        outcome = asyncio.create_task(desk.journal.commit_outcome(order, CONFIRMED))
        await desk.clock.sleep(0)
        outcome.cancel()
        await asyncio.wait([outcome])
        assert outcome.cancelled()
        await desk.clock.sleep(1)
        assert desk.store.story(order) == ["PLACED", "CONFIRMED"]


@pytest.mark.parametrize("fault", [Fault.NOTHING, Fault.BEFORE, Fault.AFTER], ids=str)
@pytest.mark.parametrize("before_end_seconds", [0.0, 0.01, LINGER_SECONDS + 0.0005])
@in_virtual_time
async def test_what_is_left_is_written_at_the_end(fault: Fault, before_end_seconds: float) -> None:
    """Also where the end comes while a commit is under way, whose fate is then learned and not guessed."""
    async with writing(fault) as desk:
        order = desk.opened()
        desk.journal.note(order, RESERVED)
        await desk.clock.sleep(before_end_seconds)
        desk.journal.note(order, AUTHORIZED)
    assert desk.store.story(order) == ["PLACED", "DONE reserve_stock", "DONE authorize_payment"]
    assert desk.clock.monotonic_seconds() < 0.5


@in_virtual_time
async def test_the_end_does_not_wait_for_ever_for_a_database_that_is_away() -> None:
    """What could not be written in time is left to whoever takes the orders over."""
    async with writing(*[Fault.BEFORE] * 1000) as desk:
        desk.journal.note(desk.opened(), RESERVED)
    assert desk.clock.monotonic_seconds() < 10
