"""Inventory as a process, and what it is made of."""

import random
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from libretto.inventory.v1 import inventory_service_pb2_grpc

from services.common import server
from services.common.background import repeated
from services.common.database import open_database
from services.common.idempotency import Fingerprints
from services.common.migrations import COMMON_MIGRATIONS, migrate
from services.common.process import main
from services.common.server import Running
from services.common.tracing import Telemetry
from services.common.values import SystemClock, new_id
from services.inventory.config import InventorySettings
from services.inventory.service import InventoryServicer
from services.inventory.store import InventoryStore

SERVICE = "libretto.inventory.v1.InventoryService"
_MIGRATIONS = Path(__file__).with_name("migrations")


async def serve(settings: InventorySettings, telemetry: Telemetry) -> Running:
    """Serve inventory until the result is stopped."""
    clock = SystemClock()
    await migrate(settings.database_url, [COMMON_MIGRATIONS, _MIGRATIONS])
    async with AsyncExitStack() as stack:
        database = await open_database(settings.database_url, application_name="inventory", maximum=settings.pool_size)
        stack.push_async_callback(database.close)
        store = InventoryStore(database, partial(new_id, clock, random.SystemRandom()))
        servicer = InventoryServicer(store, Fingerprints(settings.fingerprint_key))
        sweep = partial(store.sweep, settings.sweep_limit, settings.sweep_rounds_limit)
        await stack.enter_async_context(repeated("expire reservations", settings.sweep_interval_seconds, sweep, clock))
        return await server.start(
            SERVICE,
            partial(inventory_service_pb2_grpc.add_InventoryServiceServicer_to_server, servicer),
            settings,
            telemetry,
            stack.pop_all(),
        )


if __name__ == "__main__":
    main("inventory", InventorySettings, serve)
