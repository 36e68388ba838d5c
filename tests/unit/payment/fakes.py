"""Fakes of payment's own ports: a card processor that is told what to answer, and intents in memory."""

import asyncio
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from services.common.values import Money
from services.payment import domain
from services.payment.domain import Authorization, AuthorizationState, Intent, NoWordError, Payment

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
PAYMENT_ID, ORDER_ID = UUID(int=1), UUID(int=2)
AMOUNT = Money("EUR", 1250)
TOKEN = "tok_of_a_card"  # noqa: S105 - what tests look for where it must not be.


class LostReplyError(NoWordError):
    """The call takes effect, and then its answer is lost."""


@dataclass
class FakeProcessor:
    """A processor with a ledger in memory. `troubles` are raised by the next calls, None for a call that goes well."""

    ledger: dict[UUID, Authorization] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    troubles: list[NoWordError | None] = field(default_factory=list)
    gate: asyncio.Event | None = None
    """Where set, calls that act wait for it."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """Is set when a call that acts has come."""

    async def find(self, payment_id: UUID) -> Authorization | None:
        """Look up."""
        return self._answer("find", self.ledger.get(payment_id))

    async def authorize(self, payment_id: UUID, amount: Money, token: str) -> Authorization:
        """Hold, unless the id is known."""
        assert token == TOKEN
        return await self._act("authorize", payment_id, Authorization(AuthorizationState.AUTHORIZED, amount))

    async def capture(self, payment_id: UUID) -> Authorization:
        """Take what is held."""
        return await self._act("capture", payment_id, Authorization(AuthorizationState.CAPTURED, AMOUNT))

    async def void(self, payment_id: UUID) -> Authorization:
        """Release what is held."""
        return await self._act("void", payment_id, Authorization(AuthorizationState.VOIDED, None))

    async def _act(self, call: str, payment_id: UUID, wished: Authorization) -> Authorization:
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        if not self.troubles or self.troubles[0] is None or isinstance(self.troubles[0], LostReplyError):
            found = self.ledger.get(payment_id)
            if found is None or (found.state is AuthorizationState.AUTHORIZED and call != "authorize"):
                self.ledger[payment_id] = wished
        return self._answer(call, self.ledger.get(payment_id)) or wished

    def _answer(self, call: str, word: Authorization | None) -> Authorization | None:
        self.calls.append(call)
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble is not None:
            raise trouble
        return word


@dataclass
class FakeIntents:
    """The store's part for the settlement, over one payment in memory."""

    payment: Payment
    token: str | None = TOKEN
    attempts: int = 0
    contradictions: int = 0
    stuck: bool = False
    origin: Mapping[str, str] = field(default_factory=dict)
    """The trace context of what made the payment."""
    delays_seconds: list[float] = field(default_factory=list)
    meanwhile: Callable[[], object] | None = None
    """Happens once, when a word was recorded, before the settlement hears of it."""

    async def intent(self, payment_id: UUID) -> Intent | None:
        """Read what is open."""
        assert payment_id == self.payment.payment_id
        if not self.payment.open or self.stuck:
            return None
        return Intent(self.payment, self.attempts, self.contradictions, self.token)

    async def record(self, payment_id: UUID, word: Authorization | None) -> Intent | None:
        """Decide as the domain does."""
        self.payment = domain.told(self.payment, word, self.payment.update_time + dt.timedelta(seconds=1))
        left = await self.intent(payment_id)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return left

    async def postpone(self, payment_id: UUID, delay_seconds: float) -> None:
        """Note the delay."""
        assert payment_id == self.payment.payment_id
        self.attempts += 1
        self.delays_seconds.append(delay_seconds)

    async def contradicted(self, payment: Payment, delay_seconds: float | None) -> None:
        """Note the delay, or that there is none."""
        assert payment == self.payment
        self.contradictions += 1
        if delay_seconds is None:
            self.stuck = True
        else:
            self.delays_seconds.append(delay_seconds)

    async def claim_due(self, limit: int) -> Mapping[UUID, Mapping[str, str]]:
        """Give out the payment, where something is open."""
        assert limit > 0
        return {self.payment.payment_id: self.origin} if self.payment.open and not self.stuck else {}

    def void(self) -> None:
        """Void the payment, as another caller does meanwhile."""
        command = domain.VoidPayment("void-1", self.payment.payment_id, self.payment.order_id)
        self.payment = domain.void(self.payment, command, self.payment.update_time)

    def capture(self) -> None:
        """Begin to capture the payment, as another caller does meanwhile."""
        command = domain.CapturePayment("capture-1", self.payment.payment_id, self.payment.order_id, None)
        self.payment = domain.capture(self.payment, command, self.payment.update_time)


def a_payment(state: domain.PaymentState = domain.PaymentState.AUTHORIZING) -> Payment:
    """Make a payment of AMOUNT in a state that a payment really comes to."""
    authorize = domain.AuthorizePayment("authorize-1", PAYMENT_ID, ORDER_ID, AMOUNT, TOKEN, None)
    authorizing = domain.authorize(None, authorize, NOW)
    authorized = domain.told(authorizing, Authorization(AuthorizationState.AUTHORIZED, AMOUNT), NOW)
    capture = domain.CapturePayment("capture-1", PAYMENT_ID, ORDER_ID, None)
    capturing = domain.capture(authorized, capture, NOW)
    declined = Authorization(AuthorizationState.DECLINED, AMOUNT, domain.DeclineReason.CARD_DECLINED)
    return {
        domain.PaymentState.AUTHORIZING: authorizing,
        domain.PaymentState.AUTHORIZED: authorized,
        domain.PaymentState.CAPTURING: capturing,
        domain.PaymentState.CAPTURED: domain.told(capturing, Authorization(AuthorizationState.CAPTURED, AMOUNT), NOW),
        domain.PaymentState.DECLINED: domain.told(authorizing, declined, NOW),
        domain.PaymentState.VOIDED: domain.void(authorized, domain.VoidPayment("void-1", PAYMENT_ID, ORDER_ID), NOW),
    }[state]
