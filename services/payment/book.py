"""The payments that a batch of commands may touch: each command sees what those before it did."""

import datetime as dt
from collections.abc import Callable, Iterable
from typing import TypeVar
from uuid import UUID

from services.common.values import DomainError
from services.payment.domain import UNDECIDED, AuthorizePayment, CapturePayment, Payment, VoidPayment

C = TypeVar("C", AuthorizePayment, CapturePayment, VoidPayment)
Command = AuthorizePayment | CapturePayment | VoidPayment
Decision = Callable[[Payment | None, C, dt.datetime], Payment]
"""What a command makes of the payment with its id, else of the payment of its order, at a moment."""


class Book:
    """Payments as they stand, over payments as they were read."""

    def __init__(self, now: dt.datetime, payments: Iterable[Payment]) -> None:
        """Begin with what was read, at a moment of the database's clock."""
        self.now = now
        self.read = {payment.payment_id: payment for payment in payments}
        self.made: dict[UUID, Command] = {}
        """What made the payments that are new."""
        self.begun: set[UUID] = set()
        """The payments about which there is something new to be settled with the card processor."""
        self.turned_away: list[str] = []
        """The request_ids that began nothing, because something else is undecided."""
        self._payments = dict(self.read)
        self._ids_by_order = {payment.order_id: payment.payment_id for payment in self.read.values()}

    def __getitem__(self, payment_id: UUID) -> Payment:
        """Return a payment as it stands."""
        return self._payments[payment_id]

    def decide(self, decision: Decision[C], command: C) -> Payment | DomainError | None:
        """Decide one command: returns the payment, the refusal, or None where the processor has the word."""
        payment_id, order_id = command.payment_id, command.order_id
        found = self._payments.get(payment_id) or self._payments.get(self._ids_by_order.get(order_id, payment_id))
        try:
            payment = decision(found, command, self.now)
        except DomainError as refusal:
            return refusal
        self._payments[payment_id] = payment
        self._ids_by_order[order_id] = payment_id
        if found is None:
            self.made[payment_id] = command
        if payment.open and payment is not found:
            self.begun.add(payment_id)
        if payment.state not in UNDECIDED:
            return payment
        if payment is found:
            self.turned_away.append(command.request_id)
        return None

    def change(self, payment: Payment) -> None:
        """Note how a payment that was read stands now."""
        self._payments[payment.payment_id] = payment

    @property
    def changed(self) -> list[tuple[Payment, Payment]]:
        """The payments that changed: as they were read, and as they stand."""
        pairs = [(before, self._payments[payment_id]) for payment_id, before in self.read.items()]
        return [(before, after) for before, after in pairs if after is not before]
