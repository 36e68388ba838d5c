"""The catalog as a process, and what it is made of."""

import random
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from libretto.catalog.v1 import catalog_service_pb2_grpc

from services.catalog.config import CatalogSettings
from services.catalog.service import CatalogServicer
from services.catalog.store import CatalogStore
from services.common import server
from services.common.database import open_database
from services.common.idempotency import Fingerprints
from services.common.migrations import COMMON_MIGRATIONS, migrate
from services.common.process import main
from services.common.server import Running
from services.common.tracing import Telemetry
from services.common.values import SystemClock

SERVICE = "libretto.catalog.v1.CatalogService"
_MIGRATIONS = Path(__file__).with_name("migrations")


async def serve(settings: CatalogSettings, telemetry: Telemetry) -> Running:
    """Serve the catalog until the result is stopped."""
    await migrate(settings.database_url, [COMMON_MIGRATIONS, _MIGRATIONS])
    async with AsyncExitStack() as stack:
        database = await open_database(settings.database_url, application_name="catalog", maximum=settings.pool_size)
        stack.push_async_callback(database.close)
        store = CatalogStore(database, SystemClock(), random.SystemRandom())
        servicer = CatalogServicer(store, Fingerprints(settings.fingerprint_key))
        return await server.start(
            SERVICE,
            partial(catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server, servicer),
            settings,
            telemetry,
            stack.pop_all(),
        )


if __name__ == "__main__":
    main("catalog", CatalogSettings, serve)
