"""Sagas as tasks: begun, waited for, ended with the service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from services.checkout.coordinator import Answer, Coordinator, Done, Limits, NotKnown, Refused
from services.checkout.domain import Order
from services.checkout.journal import GroupJournal
from services.checkout.messages import verdict_of
from services.checkout.runner import SagaRunner
from services.checkout.saga import Action
from services.common import deadline
from services.common.tracing import new_provider
from services.common.values import OverloadedError
from tests.fakes.checkout import EMAIL, Call, Late, ScriptedParticipants, new_order
from tests.fakes.checkout_store import FIRST_EPOCH, FIRST_SEQUENCE, MemoryJournalStore
from tests.fakes.clock import VirtualClock, in_virtual_time
from tests.fakes.saga_run import Longest, Script

LIMIT = 2
SLOW: Script = {Action.RESERVE_STOCK: [Late(1.0, Done())]}


class Failing:
    """Participants with a fault of their own."""

    async def perform(self, action: Action, order: Order, budget_seconds: float) -> Answer:
        """Fail."""
        raise ZeroDivisionError(action, order.order_id, budget_seconds)


@dataclass(frozen=True, slots=True)
class House:
    """A runner, the store of its journal, and the time."""

    clock: VirtualClock
    store: MemoryJournalStore
    sagas: SagaRunner

    def begun(self, number: int = 1) -> Order:
        """Place an order and begin its saga."""
        order = new_order(self.clock, number)
        self.store.place(order)
        self.sagas.begin(order, FIRST_EPOCH, FIRST_SEQUENCE)
        return order

    async def verdict(self, order: Order, timeout_seconds: float = 100.0) -> object:
        """Wait for an order's verdict."""
        return await self.sagas.verdict(order.order_id, timeout_seconds)


@asynccontextmanager
async def running(
    participants: ScriptedParticipants | Failing, exporter: InMemorySpanExporter | None = None
) -> AsyncIterator[House]:
    """Run sagas with some participants until the block ends; their spans go to the exporter."""
    provider = new_provider("checkout")
    provider.add_span_processor(SimpleSpanProcessor(exporter or InMemorySpanExporter()))
    clock = VirtualClock()
    store = MemoryJournalStore(clock)
    journal = GroupJournal(store, clock, verdict_of)
    coordinator = Coordinator(participants, journal, clock, Longest(), Limits())
    sagas = SagaRunner(coordinator, journal, verdict_of, provider.get_tracer("test"), LIMIT)
    async with journal.writing(), sagas.running():
        yield House(clock, store, sagas)


@in_virtual_time
async def test_whoever_waits_gets_the_verdict_once_it_is_committed() -> None:
    """All who wait for it, and before the saga has come to its end."""
    script: Script = {**SLOW, Action.COMMIT_RESERVATION: [Late(1.5, Done())]}
    async with running(ScriptedParticipants(VirtualClock(), script)) as house:
        order = house.begun()
        verdicts = [await house.verdict(order) for _ in range(2)]
        assert verdicts == house.store.rows[order.order_id].verdicts * 2
        assert house.clock.monotonic_seconds() < 1.5
    assert house.store.story(order)[-1] == "COMPLETED"


@in_virtual_time
async def test_whoever_cannot_wait_that_long_gets_nothing_and_harms_nothing() -> None:
    """The saga goes on; nobody waits for an order whose saga is not here."""
    async with running(ScriptedParticipants(VirtualClock(), SLOW)) as house:
        order = house.begun()
        assert await house.verdict(order, 0.5) is None
        assert await house.sagas.verdict(UUID(int=1), 0.5) is None
        assert await house.verdict(order) is not None


@in_virtual_time
async def test_a_saga_has_no_callers_deadline() -> None:
    """Its steps have budgets of their own, however little time its caller had."""
    left: list[float | None] = []

    class Listening(ScriptedParticipants):
        async def perform(self, action: Action, order: Order, budget_seconds: float) -> Answer:
            left.append(deadline.remaining_seconds())
            return await super().perform(action, order, budget_seconds)

    async with running(Listening(VirtualClock())) as house:
        with deadline.within(0.001):
            order = house.begun()
        await house.verdict(order)
    assert set(left) == {None}


@in_virtual_time
async def test_there_is_room_for_so_many_sagas_at_once() -> None:
    """Those that are about to begin count, and those that have not come to their ends, which is later than outcomes."""
    async with running(ScriptedParticipants(VirtualClock(), SLOW)) as house:
        orders = [house.begun(number) for number in range(LIMIT - 1)]
        with house.sagas.room(), pytest.raises(OverloadedError), house.sagas.room():
            pass
        orders.append(house.begun(LIMIT))
        with pytest.raises(OverloadedError), house.sagas.room():
            pass
        for order in orders:
            await house.verdict(order)
        await house.clock.sleep(1)
        with house.sagas.room():
            pass


@in_virtual_time
async def test_a_saga_that_was_taken_over_leaves_its_callers_to_the_database() -> None:
    """They get nothing from here, at once, and its order is forgotten."""
    async with running(ScriptedParticipants(VirtualClock(), SLOW)) as house:
        order = house.begun()
        house.store.take_over(order)
        assert await house.verdict(order) is None
        assert house.clock.monotonic_seconds() < 2
    assert house.store.story(order) == ["PLACED"]


@in_virtual_time
async def test_a_saga_that_fails_leaves_its_callers_to_the_database_and_the_others_alone() -> None:
    """A fault of ours is logged, and takes no other saga with it."""
    async with running(Failing()) as house:
        order = house.begun()
        assert await house.verdict(order) is None
        await house.clock.sleep(1)
        assert house.store.story(order) == ["PLACED", "NEEDS_ATTENTION INTERNAL"]


@in_virtual_time
async def test_at_the_end_sagas_come_to_theirs_within_a_limit() -> None:
    """One that needs a second is waited for; one that cannot go on is left where it stands, with its entries kept."""
    script: Script = {Action.AUTHORIZE_PAYMENT: [Refused("CARD_DECLINED")], Action.VOID_PAYMENT: [NotKnown("LOST")]}
    async with running(ScriptedParticipants(VirtualClock(), SLOW)) as house:
        order = house.begun()
    assert house.store.story(order)[-1] == "COMPLETED"
    async with running(ScriptedParticipants(VirtualClock(), script)) as house:
        order, begin_seconds = house.begun(), house.clock.monotonic_seconds()
    assert sorted(house.store.story(order)[1:]) == ["DONE reserve_stock", "REFUSED authorize_payment CARD_DECLINED"]
    assert house.clock.monotonic_seconds() - begin_seconds < 6


@in_virtual_time
async def test_a_step_that_fails_beside_another_harms_no_other_saga() -> None:
    """The other step is ended with it, and whoever comes later is served."""

    class FailsOnce(ScriptedParticipants):
        async def perform(self, action: Action, order: Order, budget_seconds: float) -> Answer:
            if action is Action.AUTHORIZE_PAYMENT and len(self.calls) < 2:
                self.calls.append(Call(order, action, 0.0, budget_seconds))
                raise ZeroDivisionError(EMAIL)
            return await super().perform(action, order, budget_seconds)

    exporter = InMemorySpanExporter()
    async with running(FailsOnce(VirtualClock(), SLOW), exporter) as house:
        failed, later = house.begun(1), house.begun(2)
        assert await house.verdict(failed) is None
        assert await house.verdict(later) is not None
    assert house.store.story(failed) == ["PLACED", "NEEDS_ATTENTION INTERNAL"]
    assert house.store.story(later)[-1] == "COMPLETED"
    (span,) = (span for span in exporter.get_finished_spans() if span.status.status_code is StatusCode.ERROR)
    assert EMAIL not in span.to_json()
