"""Inventory, payment and the card processor, simulated: the real rules of their domains over rows in memory.

They answer as their services would: each key gets one verdict, which is replayed; what was undone before it was done
stays undone; capture and void exclude each other; and while the card processor has the word, the outcome is pending.
"""

import datetime as dt
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any
from uuid import UUID

from services.checkout.domain import Order
from services.checkout.saga import Action
from services.common.values import Clock, DomainError, OutcomePendingError
from services.inventory import domain as stock
from services.payment import domain as money
from services.payment.domain import Authorization, AuthorizationState, DeclineReason, Payment, PaymentState

Spawn = Callable[[Coroutine[Any, Any, None]], None]

STOCK_ACTIONS = frozenset({Action.RESERVE_STOCK, Action.COMMIT_RESERVATION, Action.RELEASE_RESERVATION})
"""What inventory does; the rest is payment's."""
_LAPSE_SHARE = 0.03
"""How many holds lapse at the processor by themselves."""
_DECLINE_SHARE = 0.15
_NO_WORD_SHARE = 0.2


class SimulatedInventory:
    """Stock and reservations."""

    def __init__(self, clock: Clock, pieces: dict[str, int]) -> None:
        """Begin with so many pieces by SKU."""
        self._clock = clock
        now = clock.now()
        self.received = dict(pieces)
        self.levels = {sku: stock.StockLevel(sku, now, available) for sku, available in pieces.items()}
        self.reservations: dict[UUID, stock.Reservation] = {}

    def act(self, action: Action, order: Order) -> None:
        """Do what is asked, in one transaction. Raises the domain's refusals."""
        now, ids = self._clock.now(), (order.reservation_id, order.order_id)
        self._expire(now)
        existing = self.reservations.get(order.reservation_id)
        match action:
            case Action.RESERVE_STOCK:
                lines = tuple(stock.Line(line.sku, line.quantity) for line in order.lines)
                hold_seconds = 10 * (order.decide_by - order.create_time).total_seconds()
                command = stock.ReserveStock(*ids, lines, hold_seconds, order.decide_by)
                self._apply(stock.reserve(self.levels, existing, command, now))
            case Action.COMMIT_RESERVATION:
                self._apply(stock.commit(self.levels, existing, stock.CommitReservation(*ids), now))
            case _:
                self._apply(stock.release(existing, stock.ReleaseReservation(*ids), now))

    def write_off(self) -> None:
        """Lose every piece that is not held."""
        now = self._clock.now()
        self._expire(now)
        for sku, level in list(self.levels.items()):
            movement = stock.adjust(level, stock.AdjustStock(sku, -level.available), now)
            self.levels[sku] = level.after(movement)
            self.received[sku] -= level.available

    def _expire(self, now: dt.datetime) -> None:
        for held in list(self.reservations.values()):
            overdue = held.expire_time is not None and held.expire_time <= now
            if overdue and held.state is stock.ReservationState.ACTIVE:
                self._apply(stock.expire(held, now))

    def _apply(self, change: stock.Change) -> None:
        self.reservations[change.reservation.reservation_id] = change.reservation
        for movement in change.movements:
            self.levels[movement.sku] = self.levels[movement.sku].after(movement)


class SimulatedProcessor:
    """The card processor, with a ledger of its own."""

    def __init__(self, source: random.Random) -> None:
        """Decide about cards by a source of randomness."""
        self._random = source
        self.authorizations: dict[UUID, Authorization] = {}
        self.captures: Counter[UUID] = Counter()
        """How often the money of each payment was taken."""

    def ask(self, payment: Payment) -> Authorization | None:
        """Do what a payment needs, once, and say how it stands; None where there was no word, before or after."""
        silence = self._random.random()
        if silence < _NO_WORD_SHARE / 2:
            return None
        word = self._done(payment)
        return None if silence < _NO_WORD_SHARE else word

    def _done(self, payment: Payment) -> Authorization:
        found = self.authorizations.get(payment.payment_id)
        if payment.hold_open:
            word = self._voided(found)
        elif found is None:
            word = self._authorized(payment)
        elif payment.state is PaymentState.CAPTURING and found.state is AuthorizationState.AUTHORIZED:
            word = self._captured(payment, found)
        else:
            word = found
        self.authorizations[payment.payment_id] = word
        return word

    def _authorized(self, payment: Payment) -> Authorization:
        if self._random.random() < _DECLINE_SHARE:
            return Authorization(AuthorizationState.DECLINED, payment.amount, DeclineReason.CARD_DECLINED)
        return Authorization(AuthorizationState.AUTHORIZED, payment.amount)

    def _captured(self, payment: Payment, found: Authorization) -> Authorization:
        if self._random.random() < _LAPSE_SHARE:
            return replace(found, state=AuthorizationState.VOIDED)
        self.captures[payment.payment_id] += 1
        return replace(found, state=AuthorizationState.CAPTURED)

    def _voided(self, found: Authorization | None) -> Authorization:
        if found is None:
            return Authorization(AuthorizationState.VOIDED, None)
        return (
            replace(found, state=AuthorizationState.VOIDED) if found.state is AuthorizationState.AUTHORIZED else found
        )


class SimulatedPayment:
    """Payments, seen through at the processor behind the calls."""

    def __init__(self, clock: Clock, source: random.Random, spawn: Spawn, processor_seconds: float) -> None:
        """Settle in tasks of their own; the processor takes `processor_seconds` on average."""
        self._clock, self._random, self._spawn, self._seconds = clock, source, spawn, processor_seconds
        self.processor = SimulatedProcessor(source)
        self.payments: dict[UUID, Payment] = {}

    def act(self, action: Action, order: Order) -> None:
        """Decide what is asked, in one transaction. Raises the domain's refusals, and OutcomePendingError."""
        now, found = self._clock.now(), self.payments.get(order.payment_id)
        ids = ("a key", order.payment_id, order.order_id)
        match action:
            case Action.AUTHORIZE_PAYMENT:
                token, valid_until = order.payment_method_token or "", order.decide_by
                command = money.AuthorizePayment(*ids, order.total, token, valid_until)
                payment = money.authorize(found, command, now)
            case Action.CAPTURE_PAYMENT:
                payment = money.capture(found, money.CapturePayment(*ids, order.decide_by), now)
            case _:
                payment = money.void(found, money.VoidPayment(*ids), now)
        self.payments[payment.payment_id] = payment
        if payment.open and payment is not found:
            self._spawn(self._settle(payment))
        if payment.state in money.UNDECIDED:
            raise OutcomePendingError("The processor has the word.")

    async def _settle(self, begun: Payment) -> None:
        """Ask the processor until nothing is open, or until somebody else changed the payment."""
        payment = begun
        while payment.open and self.payments[payment.payment_id] is payment:
            await self._clock.sleep(self._random.expovariate(1 / self._seconds))
            if self.payments[payment.payment_id] is not payment:
                return
            word = self.processor.ask(payment)
            if word is not None:
                payment = self.payments[payment.payment_id] = money.told(payment, word, self._clock.now())


class SimulatedServices:
    """Inventory and payment behind their keys."""

    def __init__(self, inventory: SimulatedInventory, payment: SimulatedPayment) -> None:
        """Begin with keys that nobody used."""
        self.inventory, self.payment = inventory, payment
        self._verdicts: dict[tuple[UUID, Action], DomainError | None] = {}

    def handle(self, action: Action, order: Order) -> DomainError | None:
        """Answer one request: None for success, else the refusal, or OutcomePendingError, which is no verdict."""
        key = (order.order_id, action)
        if key in self._verdicts:
            return self._verdicts[key]
        verdict: DomainError | None = None
        try:
            (self.inventory if action in STOCK_ACTIONS else self.payment).act(action, order)
        except OutcomePendingError as pending:
            return pending
        except DomainError as refusal:
            verdict = refusal
        self._verdicts[key] = verdict
        return verdict
