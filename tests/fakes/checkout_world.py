"""The world around a few sagas, out of one seed: services, a network that loses and delays, a database that fails."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.checkout.coordinator import Answer, Done, NotKnown, Refused
from services.checkout.domain import Order
from services.checkout.saga import Action
from services.common.values import DomainError, ErrorKind, OutcomePendingError
from tests.fakes.checkout_services import STOCK_ACTIONS, SimulatedInventory, SimulatedPayment, SimulatedServices
from tests.fakes.checkout_store import Fault, MemoryJournalStore
from tests.fakes.clock import VirtualClock

_FAULT_SHARES = (0.0, 0.1, 0.3, 0.6)
_LONGEST_DELAY_SECONDS = 200.0
_OUTAGES_SECONDS = (0.0, 0.0, 0.0, 50.0, 400.0, 2000.0)
_TURNED_AWAY = (NotKnown("UNAVAILABLE"), NotKnown("OVERLOADED", 1.0))


@dataclass(slots=True)
class Call:
    """One call of a saga: when it began and ended, and what the world looked like when it began."""

    action: Action
    began_seconds: float
    beside: tuple[Action, ...]
    """What else of the same order was under way when it began."""
    rejected: bool
    """Whether the order's rejection was committed when it began."""
    answer: Answer | None = None


class World:
    """Services, network and database out of one source of randomness; the participants of its sagas."""

    def __init__(self, seed: int) -> None:
        """Draw how bad it is out there."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.clock, self.random = VirtualClock(), random.Random(seed)  # noqa: S311 - a seed has to repeat itself.
        self.fault_share = self.random.choice(_FAULT_SHARES)
        self.delay_seconds = self.random.choice((0.001, 0.1, 3.0))
        processor_seconds = self.random.choice((0.01, 1.0, 20.0))
        pieces = {"MUG": self.random.randint(1, 8), "PEN": self.random.randint(1, 8)}
        self.services = SimulatedServices(
            SimulatedInventory(self.clock, pieces),
            SimulatedPayment(self.clock, self.random, self.spawn, processor_seconds),
        )
        self.store = MemoryJournalStore(self.clock, self._next_fault)
        self._outages = {stock: self._outage() for stock in (True, False)}
        self.spawn(self._clear_shelves(self._outages[True][1]))
        self.orders: list[Order] = []
        self.calls: dict[UUID, list[Call]] = defaultdict(list)
        """By order, in the order in which they began."""
        self.captured_without_stock: list[UUID] = []

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the sagas."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def become_quiet(self) -> None:
        """Wait until nothing is under way any more: late requests have arrived, payments are settled."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def perform(self, action: Action, order: Order, budget_seconds: float) -> Answer:
        """Send a request over the network, and wait for the reply until the budget is over."""
        calls = self.calls[order.order_id]
        under_way = tuple(call.action for call in calls if call.answer is None)
        rejected = self.store.rows[order.order_id].rejection is not None
        call = Call(action, self.clock.monotonic_seconds(), under_way, rejected)
        calls.append(call)
        call.answer = await self._sent(action, order, budget_seconds)
        return call.answer

    async def _sent(self, action: Action, order: Order, budget_seconds: float) -> Answer:
        if self._fails(0.2):
            return NotKnown("NOT_SENT")
        reply: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if not self._fails(0.4) and not self._is_away(action):
            self.spawn(self._delivered(action, order, reply))
        try:
            async with asyncio.timeout(budget_seconds):
                return await reply
        except TimeoutError:
            return NotKnown("DEADLINE_EXCEEDED")

    async def _delivered(self, action: Action, order: Order, reply: "asyncio.Future[Answer]") -> None:
        await self.clock.sleep(self._delay_seconds())
        if self._fails(0.2):
            answer: Answer = self.random.choice(_TURNED_AWAY)
        else:
            answer = _answer(self.services.handle(action, order))
            if action is Action.CAPTURE_PAYMENT and isinstance(answer, Done | NotKnown):
                self._look_for_stock(order)
        if self._fails(0.4):
            return
        await self.clock.sleep(self._delay_seconds())
        if not reply.done():
            reply.set_result(answer)

    def _look_for_stock(self, order: Order) -> None:
        """Note a payment whose capture has begun although nothing is held for it."""
        payment = self.services.payment.payments.get(order.payment_id)
        held = self.services.inventory.reservations.get(order.reservation_id)
        capturing = payment is not None and payment.state.name in {"CAPTURING", "CAPTURED"}
        if capturing and (held is None or held.state.name not in {"ACTIVE", "COMMITTED"}):
            self.captured_without_stock.append(order.order_id)

    def _outage(self) -> tuple[float, float]:
        """Draw from when until when a service is not reached."""
        begin_seconds = self.random.uniform(0, 5)
        return begin_seconds, begin_seconds + self.random.choice(_OUTAGES_SECONDS)

    def _is_away(self, action: Action) -> bool:
        begin_seconds, end_seconds = self._outages[action in STOCK_ACTIONS]
        return begin_seconds <= self.clock.monotonic_seconds() < end_seconds

    async def _clear_shelves(self, time_seconds: float) -> None:
        """Write off what is available when inventory is back: what expired meanwhile may be gone."""
        await self.clock.sleep(time_seconds)
        if self.random.random() < self.fault_share:
            self.services.inventory.write_off()

    def _fails(self, part: float) -> bool:
        """Draw whether something goes wrong that is so large a part of all that goes wrong."""
        return self.random.random() < self.fault_share * part

    def _delay_seconds(self) -> float:
        """Draw how long a message is under way: mostly short, at times longer than an order may take."""
        if self._fails(0.3):
            return self.random.uniform(0, _LONGEST_DELAY_SECONDS)
        return self.random.expovariate(1 / self.delay_seconds)

    def _next_fault(self) -> Fault:
        return self.random.choice((Fault.BEFORE, Fault.AFTER)) if self._fails(0.5) else Fault.NOTHING


def _answer(error: DomainError | None) -> Answer:
    if error is None:
        return Done()
    if isinstance(error, OutcomePendingError):
        return NotKnown(error.reason, error.retry_after_seconds)
    assert error.kind in {ErrorKind.REFUSED, ErrorKind.NOT_FOUND}
    return Refused(error.reason, error.metadata)
