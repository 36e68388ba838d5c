"""Pricing as a process, and what it is made of."""

import random
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from libretto.pricing.v1 import pricing_service_pb2_grpc

from services.common import server
from services.common.client import open_channel
from services.common.database import open_database
from services.common.idempotency import Fingerprints
from services.common.migrations import COMMON_MIGRATIONS, migrate
from services.common.process import main
from services.common.server import Running
from services.common.tracing import Telemetry
from services.common.values import SystemClock
from services.pricing.clients import CatalogClient
from services.pricing.config import PricingSettings
from services.pricing.service import PricingServicer
from services.pricing.store import PricingStore

SERVICE = "libretto.pricing.v1.PricingService"
_MIGRATIONS = Path(__file__).with_name("migrations")


async def serve(settings: PricingSettings, telemetry: Telemetry) -> Running:
    """Serve pricing until the result is stopped."""
    await migrate(settings.database_url, [COMMON_MIGRATIONS, _MIGRATIONS])
    async with AsyncExitStack() as stack:
        database = await open_database(settings.database_url, application_name="pricing", maximum=settings.pool_size)
        stack.push_async_callback(database.close)
        channel = open_channel(settings.catalog_target, telemetry, settings.deadline_rules)
        stack.push_async_callback(channel.close)
        store = PricingStore(database, settings.quote_lifetime_seconds, SystemClock(), random.SystemRandom())
        servicer = PricingServicer(store, CatalogClient(channel), Fingerprints(settings.fingerprint_key))
        return await server.start(
            SERVICE,
            partial(pricing_service_pb2_grpc.add_PricingServiceServicer_to_server, servicer),
            settings,
            telemetry,
            stack.pop_all(),
        )


if __name__ == "__main__":
    main("pricing", PricingSettings, serve)
