"""Sees payments through at the card processor: asks, writes down what it says, and goes on until nothing is open.

What is to be asked stands in the payment's row before any call (an intent), and no transaction is open across a call.
A payment has at most one flight in this process, shared by the handlers that wait for it and the loop that resolves
what was left behind. A call that had no answer is followed by a look at the authorisation under our own id, never by
anything new. A processor that says nothing is asked for ever, ever more rarely; one that contradicts us, until a limit.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol
from uuid import UUID

from opentelemetry import trace

from services.common import deadline, tracing
from services.common.errors import incident
from services.common.logs import get_logger
from services.common.values import DependencyUnavailableError
from services.payment.domain import (
    Authorization,
    AuthorizationState,
    CardProcessor,
    Intent,
    NoWordError,
    Payment,
    PaymentState,
)

FLIGHTS_LIMIT = 256
CLAIM_LIMIT = 32
CONTRADICTIONS_LIMIT = 20
"""How often the processor may contradict us about a payment before it is left to people."""
_STEPS_LIMIT = 5
"""Calls with a result in one flight: an authorisation, its void, and some to spare."""
_BACKOFF_SECONDS, _BACKOFF_LIMIT_SECONDS, _BACKOFF_DOUBLINGS = 0.5, 60.0, 7
_ANSWER_SECONDS = 0.02
"""What a handler keeps of its time to answer that the outcome is pending."""

_log = get_logger(__name__)


class Intents(Protocol):
    """What is to be settled, and what came of it: the part of the store that is needed here."""

    async def intent(self, payment_id: UUID) -> Intent | None:
        """Read what is to be settled about a payment, if anything."""

    async def record(self, payment_id: UUID, word: Authorization | None) -> Intent | None:
        """Take the processor's word, as `domain.told` does, and return what is then left to be settled, if anything."""

    async def postpone(self, payment_id: UUID, delay_seconds: float) -> None:
        """Count an attempt that the processor gave no word to, and leave the intent alone for a while."""

    async def contradicted(self, payment: Payment, delay_seconds: float | None) -> None:
        """Count a word that decides nothing, and leave the intent alone for a while; None leaves it to people."""

    async def claim_due(self, limit: int) -> Mapping[UUID, Mapping[str, str]]:
        """Take at most `limit` intents whose time has come, each with the trace context of what made its payment."""


class Settlement:
    """The flights of this process."""

    def __init__(self, intents: Intents, processor: CardProcessor, source: random.Random, tracer: trace.Tracer) -> None:
        """Settle intents with a processor; `source` spreads the attempts."""
        self._intents, self._processor, self._source, self._tracer = intents, processor, source, tracer
        self._flights: dict[UUID, asyncio.Task[bool]] = {}
        self._again: set[UUID] = set()

    def fly(
        self, payment_id: UUID, *, begun: bool = False, origin: Mapping[str, str] | None = None
    ) -> asyncio.Task[bool] | None:
        """Return the payment's flight, a new one where there is none; None where too many are under way.

        `begun` says that its intent was written just now, by the caller: nothing can have been asked yet. A flight that
        is under way then looks once more before it ends. The flight runs in the trace of the caller who started it, or
        where there is none in that of `origin`, and has no caller's deadline. Its result is whether there is nothing
        left to be asked.
        """
        flight = self._flights.get(payment_id)
        if flight is not None:
            if begun:
                self._again.add(payment_id)
            return flight
        if len(self._flights) >= FLIGHTS_LIMIT:
            return None
        with deadline.without_callers():
            flight = asyncio.create_task(
                self._fly(payment_id, begun=begun) if origin is None else self._resolve(payment_id, origin)
            )
        self._flights[payment_id] = flight
        flight.add_done_callback(partial(_report, payment_id))
        return flight

    async def settled(self, payment_id: UUID, *, begun: bool) -> bool:
        """Wait for the payment's flight, inside the caller's time; return whether there is nothing left to be asked."""
        flight = self.fly(payment_id, begun=begun)
        if flight is None:
            return False
        left_seconds = deadline.remaining_seconds()
        limit_seconds = None if left_seconds is None else max(left_seconds - _ANSWER_SECONDS, 0)
        ended, _ = await asyncio.wait([flight], timeout=limit_seconds)
        return bool(ended) and not flight.cancelled() and flight.exception() is None and flight.result()

    async def resolve_due(self) -> Sequence[asyncio.Task[bool]]:
        """Begin to settle intents that were left behind: those of a process that ended, and those that got no word.

        Returns their flights. Nobody has to wait for them: one that hangs must not hold up the others.
        """
        limit = min(CLAIM_LIMIT, FLIGHTS_LIMIT - len(self._flights))
        if limit <= 0:
            return []
        claimed = await self._intents.claim_due(limit)
        flights = [self.fly(payment_id, origin=origin) for payment_id, origin in claimed.items()]
        return [flight for flight in flights if flight is not None]

    async def close(self, grace_seconds: float) -> None:
        """Let flights end within the grace, then end them. What they leave open is resolved at the next start."""
        if self._flights:
            _, late = await asyncio.wait(self._flights.values(), timeout=grace_seconds)
            for flight in late:
                flight.cancel()
            if late:
                await asyncio.wait(late)

    async def _resolve(self, payment_id: UUID, origin: Mapping[str, str]) -> bool:
        """Fly without a caller, in the trace of what made the payment."""
        attributes = {"libretto.payment_id": str(payment_id)}
        with tracing.span(self._tracer, "resolve payment", parent=tracing.restored(origin), attributes=attributes):
            return await self._fly(payment_id, begun=False)

    async def _fly(self, payment_id: UUID, *, begun: bool) -> bool:
        try:
            settled = await self._see_through(payment_id, begun=begun)
            while payment_id in self._again:
                self._again.discard(payment_id)
                settled = await self._see_through(payment_id, begun=False)
            return settled
        finally:
            # Without a wait since the last look at `_again`, so nobody can join a flight that looks no more.
            del self._flights[payment_id]
            self._again.discard(payment_id)

    async def _see_through(self, payment_id: UUID, *, begun: bool) -> bool:
        """Ask until nothing is open, or until there is no word to be had now."""
        intent = await self._intents.intent(payment_id)
        asked_before = not begun
        for _ in range(_STEPS_LIMIT):
            if intent is None:
                return True
            try:
                word = await self._ask(intent, asked_before=asked_before)
            except NoWordError as error:
                if asked_before:
                    return await self._put_off(intent, str(error))
                asked_before = True
                continue
            left = await self._intents.record(payment_id, word)
            if left == intent:
                return await self._object(intent, word)
            intent, asked_before = left, True
        return False

    async def _ask(self, intent: Intent, *, asked_before: bool) -> Authorization | None:
        """Ask for what is to be settled, after a look whether it is settled already where that may be.

        Returns None for an authorisation that the processor never heard of, when it is too late to ask for it.
        """
        payment, processor = intent.payment, self._processor
        if payment.hold_open:
            return await processor.void(payment.payment_id)
        word = await processor.find(payment.payment_id) if asked_before else None
        if payment.state is PaymentState.CAPTURING:
            still_held = word is not None and word.state is AuthorizationState.AUTHORIZED
            return await processor.capture(payment.payment_id) if still_held or not asked_before else word
        if word is None and payment.amount is not None and intent.token is not None:
            return await processor.authorize(payment.payment_id, payment.amount, intent.token)
        return word

    async def _put_off(self, intent: Intent, why: str) -> bool:
        """Leave an intent to which there was no word for a while."""
        payment = intent.payment
        await self._intents.postpone(payment.payment_id, self._delay_seconds(intent.attempts))
        _log.warning(
            "no word from the card processor",
            payment_id=str(payment.payment_id),
            state=payment.state.name,
            attempts=intent.attempts + 1,
            why=why,
        )
        return False

    async def _object(self, intent: Intent, word: Authorization | None) -> bool:
        """Put off an intent about which the processor contradicts us; after some times it is left to people."""
        payment, contradictions = intent.payment, intent.contradictions + 1
        stuck = contradictions >= CONTRADICTIONS_LIMIT
        await self._intents.contradicted(payment, None if stuck else self._delay_seconds(intent.contradictions))
        _log.error(
            "processor contradicts us",
            payment_id=str(payment.payment_id),
            state=payment.state.name,
            word=None if word is None else word.state.name,
            same_amount=word is not None and word.amount == payment.amount,
            contradictions=contradictions,
            stuck=stuck,
        )
        return False

    def _delay_seconds(self, failures: int) -> float:
        doublings = min(failures, _BACKOFF_DOUBLINGS)
        return self._source.uniform(0, min(_BACKOFF_SECONDS * 2**doublings, _BACKOFF_LIMIT_SECONDS))


def _report(payment_id: UUID, flight: asyncio.Task[bool]) -> None:
    """Log what ended a flight that nobody expected; its intent stays, and is resolved later."""
    error = None if flight.cancelled() else flight.exception()
    if isinstance(error, DependencyUnavailableError):
        _log.warning("settlement put off", payment_id=str(payment_id), why=error.reason)
    elif error is not None:
        incident(error, payment_id=str(payment_id))
