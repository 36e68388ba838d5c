"""Places orders: judges the quote, keeps the order or its refusal under the key, begins the saga, and waits for it."""

import asyncio
import datetime as dt
import random
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from opentelemetry import trace

from services.checkout import saga
from services.checkout.clients import PricingClient
from services.checkout.domain import (
    CheckoutError,
    Coordination,
    Order,
    OrderState,
    Placement,
    Quote,
    QuoteNotFoundError,
    check,
)
from services.checkout.runner import SagaRunner
from services.checkout.store import FIRST_EPOCH, FIRST_SEQUENCE, OrderStore
from services.common import deadline, tracing
from services.common.database import OutcomeUnknownError
from services.common.idempotency import Keyed, Undecided, Verdict
from services.common.values import Clock, new_id

_LAST_MOMENT_SECONDS: Final = 0.05
"""How long before the call's time is over an order that is not decided yet is answered as it stands."""
_POLL_SECONDS: Final = 0.1
_KEEP_TRIES: Final = 3
_KEEP_PAUSE_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Placing:
    """What the placing of orders is made of."""

    store: OrderStore
    pricing: PricingClient
    sagas: SagaRunner
    clock: Clock
    source: random.Random
    before_pivot_seconds: float

    async def place(self, request: Keyed[Placement]) -> Verdict | Order:
        """Place an order, or find the one that the request placed before, and wait for its verdict.

        Returns the verdict or, shortly before the call's time is over, the order as it stands. Raises OverloadedError,
        RemoteError.
        """
        verdict = await self.store.replayed(request)
        order: Order | None = None
        if verdict is None:
            verdict, order = await self._place_new(request)
        if not isinstance(verdict, Undecided):
            return verdict
        order = order or await self.store.get_by_request(request.request_id)
        _describe(order)
        found = await self.sagas.verdict(order.order_id, _left_seconds())
        if found is not None:
            return found
        if self.sagas.runs(order.order_id) and order.state is OrderState.PROCESSING:
            return order  # Where the saga runs, nothing has to be read to answer, however busy the database is.
        return await self._read(request, order.order_id)

    async def _place_new(self, request: Keyed[Placement]) -> tuple[Verdict, Order | None]:
        with self.sagas.room():
            decision = await self._judge(request)
            # A caller who hangs up now must not part an order from its saga.
            return await asyncio.shield(self.sagas.undertake(self._keep(request, decision)))

    async def _judge(self, request: Keyed[Placement]) -> Order | CheckoutError:
        """Make the order, or say why there is none."""
        try:
            quote = await self.pricing.get_quote(request.command.quote_id)
        except QuoteNotFoundError as error:
            return error
        now = self.clock.now()
        refusal = check(request.command, quote, now)
        return self._order(request, quote, now) if refusal is None else refusal

    async def _keep(self, request: Keyed[Placement], decision: Order | CheckoutError) -> tuple[Verdict, Order | None]:
        """Keep the decision, and begin the saga if the order kept is this one, from this try or a lost one."""
        for tries_left in reversed(range(_KEEP_TRIES)):
            try:
                verdict, order = await self.store.place(request, decision)
            except OutcomeUnknownError:
                if not tries_left:
                    raise
                await self.clock.sleep(_KEEP_PAUSE_SECONDS)
            else:
                if order is not None and isinstance(decision, Order) and order.order_id == decision.order_id:
                    self.sagas.begin(order, FIRST_EPOCH, FIRST_SEQUENCE)
                return verdict, order
        raise AssertionError("the last try returns or raises")

    async def _read(self, request: Keyed[Placement], order_id: UUID) -> Verdict | Order:
        """Wait for the verdict of a saga that does not run here; shortly before the time is over, read the order."""
        while True:
            verdict = await self.store.replayed(request)
            if verdict is not None and not isinstance(verdict, Undecided):
                return verdict
            left_seconds = _left_seconds()
            if left_seconds <= 0 or self.sagas.is_stopping:
                break
            await self.clock.sleep(min(_POLL_SECONDS, left_seconds))
        order = await self.store.get(order_id)
        if order.state is OrderState.PROCESSING:
            return order
        return await self.store.replayed(request) or Undecided()  # It was decided in the last moment.

    def _order(self, request: Keyed[Placement], quote: Quote, now: dt.datetime) -> Order:
        command = request.command
        return Order(
            order_id=new_id(self.clock, self.source),
            request_id=request.request_id,
            quote_id=command.quote_id,
            customer=command.customer,
            shipping_address=quote.shipping_address,
            lines=quote.lines,
            total=quote.total,
            coordination=command.coordination or Coordination.ORCHESTRATION,
            saga_version=saga.VERSION,
            trace_context=tracing.current_headers(),
            decide_by=now + dt.timedelta(seconds=self.before_pivot_seconds),
            create_time=now,
            update_time=now,
            payment_method_token=command.payment_method_token,
        )


def _left_seconds() -> float:
    return (deadline.remaining_seconds() or 0.0) - _LAST_MOMENT_SECONDS


def _describe(order: Order) -> None:
    """Let the call's span say which order it is about."""
    span = trace.get_current_span()
    span.set_attribute("libretto.order_id", str(order.order_id))
    span.set_attribute("libretto.order_number", order.number)
