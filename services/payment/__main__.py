"""Payment as a process, and what it is made of."""

import random
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from libretto.payment.v1 import payment_service_pb2_grpc

from services.common import server
from services.common.background import repeated
from services.common.database import open_database
from services.common.idempotency import Fingerprints
from services.common.migrations import COMMON_MIGRATIONS, migrate
from services.common.process import main
from services.common.server import Running
from services.common.tracing import Telemetry
from services.common.values import SystemClock
from services.payment.config import PaymentSettings
from services.payment.processor import open_processor
from services.payment.service import WRITERS, PaymentServicer
from services.payment.settlement import Settlement
from services.payment.store import PaymentStore

SERVICE = "libretto.payment.v1.PaymentService"
_MIGRATIONS = Path(__file__).with_name("migrations")
_LEASE_MARGIN_SECONDS = 1.0


async def serve(settings: PaymentSettings, telemetry: Telemetry) -> Running:
    """Serve payment until the result is stopped."""
    await migrate(settings.database_url, [COMMON_MIGRATIONS, _MIGRATIONS])
    async with AsyncExitStack() as stack:
        database = await open_database(settings.database_url, application_name="payment", maximum=settings.pool_size)
        stack.push_async_callback(database.close)
        store = PaymentStore(
            database,
            WRITERS,
            lease_seconds=settings.processor_timeout_seconds + _LEASE_MARGIN_SECONDS,
            authorize_limit_seconds=settings.authorize_limit_seconds,
        )
        processor = await stack.enter_async_context(
            open_processor(
                settings.processor_url, settings.processor_api_key, settings.processor_timeout_seconds, telemetry
            )
        )
        settlement = Settlement(store, processor, random.SystemRandom(), telemetry.tracer)
        stack.push_async_callback(settlement.close, settings.flight_grace_seconds)
        interval_seconds = settings.resolve_interval_seconds
        await stack.enter_async_context(
            repeated("resolve payments", interval_seconds, settlement.resolve_due, SystemClock())
        )
        servicer = PaymentServicer(store, settlement, Fingerprints(settings.fingerprint_key))
        return await server.start(
            SERVICE,
            partial(payment_service_pb2_grpc.add_PaymentServiceServicer_to_server, servicer),
            settings,
            telemetry,
            stack.pop_all(),
        )


if __name__ == "__main__":
    main("payment", PaymentSettings, serve)
