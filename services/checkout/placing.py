"""Places orders: judges the quote, keeps the order or its refusal under the request's key, and begins the saga."""

import asyncio
import datetime as dt
import random
from dataclasses import dataclass

from services.checkout import saga
from services.checkout.clients import PricingClient
from services.checkout.domain import CheckoutError, Coordination, Order, Placement, Quote, QuoteNotFoundError, check
from services.checkout.runner import SagaRunner
from services.checkout.store import FIRST_EPOCH, FIRST_SEQUENCE, OrderStore
from services.common import tracing
from services.common.idempotency import Keyed, Verdict
from services.common.values import Clock, OverloadedError, new_id


@dataclass(frozen=True, slots=True)
class Placing:
    """What the placing of orders is made of."""

    store: OrderStore
    pricing: PricingClient
    sagas: SagaRunner
    clock: Clock
    source: random.Random
    before_pivot_seconds: float

    async def place(self, request: Keyed[Placement]) -> Verdict:
        """Judge the quote, keep the order or its refusal, and begin the saga of an order that is new.

        Returns the refusal, or Undecided for an order that is placed now. Raises OverloadedError, RemoteError.
        """
        if not self.sagas.has_room():
            raise OverloadedError("Too many orders are under way; try again a little later.")
        decision = await self._decide(request)
        # In a task of its own: a caller who hangs up now must not part an order from its saga.
        return await asyncio.shield(asyncio.create_task(self._keep(request, decision)))

    async def _decide(self, request: Keyed[Placement]) -> Order | CheckoutError:
        try:
            quote = await self.pricing.get_quote(request.command.quote_id)
        except QuoteNotFoundError as error:
            return error
        now = self.clock.now()
        refusal = check(request.command, quote, now)
        return self._order(request, quote, now) if refusal is None else refusal

    async def _keep(self, request: Keyed[Placement], decision: Order | CheckoutError) -> Verdict:
        verdict, order = await self.store.place(request, decision)
        if order is not None:
            self.sagas.begin(order, FIRST_EPOCH, FIRST_SEQUENCE)
        return verdict

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
