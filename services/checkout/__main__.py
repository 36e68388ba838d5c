"""Checkout as a process, and what it is made of."""

import random
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from libretto.checkout.v1 import checkout_service_pb2_grpc

from services.checkout.clients import GrpcParticipants, PricingClient
from services.checkout.config import CheckoutSettings
from services.checkout.coordinator import Coordinator, Limits
from services.checkout.journal import GroupJournal
from services.checkout.messages import verdict_of
from services.checkout.placing import Placing
from services.checkout.runner import SagaRunner
from services.checkout.service import CheckoutServicer
from services.checkout.store import OrderStore
from services.common import server
from services.common.client import open_channel
from services.common.database import open_database
from services.common.idempotency import Fingerprints
from services.common.migrations import COMMON_MIGRATIONS, migrate
from services.common.process import main
from services.common.server import Running
from services.common.tracing import Telemetry
from services.common.values import SystemClock

SERVICE = "libretto.checkout.v1.CheckoutService"
_MIGRATIONS = Path(__file__).with_name("migrations")


async def serve(settings: CheckoutSettings, telemetry: Telemetry) -> Running:
    """Serve checkout until the result is stopped."""
    clock, source = SystemClock(), random.SystemRandom()
    await migrate(settings.database_url, [COMMON_MIGRATIONS, _MIGRATIONS])
    async with AsyncExitStack() as stack:
        database = await open_database(settings.database_url, application_name="checkout", maximum=settings.pool_size)
        stack.push_async_callback(database.close)
        channel = partial(open_channel, telemetry=telemetry, rules=settings.deadline_rules)
        pricing = await stack.enter_async_context(channel(settings.pricing_target))
        inventory = await stack.enter_async_context(channel(settings.inventory_target))
        payment = await stack.enter_async_context(channel(settings.payment_target))
        store = OrderStore(database)
        journal = GroupJournal(store, clock, verdict_of)
        await stack.enter_async_context(journal.writing())
        coordinator = Coordinator(
            GrpcParticipants(inventory, payment, telemetry.tracer),
            journal,
            clock,
            source,
            Limits(settings.quick_retries_seconds, settings.slow_retry_seconds),
        )
        sagas = SagaRunner(coordinator, journal, verdict_of, telemetry.tracer, settings.saga_limit)
        await stack.enter_async_context(sagas.running())
        placing = Placing(store, PricingClient(pricing), sagas, clock, source, settings.before_pivot_seconds)
        servicer = CheckoutServicer(placing, store, Fingerprints(settings.fingerprint_key))
        return await server.start(
            SERVICE,
            partial(checkout_service_pb2_grpc.add_CheckoutServiceServicer_to_server, servicer),
            settings,
            telemetry,
            stack.pop_all(),
            on_stop=sagas.end_waits,
        )


if __name__ == "__main__":
    main("checkout", CheckoutSettings, serve)
