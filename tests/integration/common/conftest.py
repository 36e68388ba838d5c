"""A database with the table of request keys, for the tests of idempotency."""

from collections.abc import AsyncIterator

import pytest_asyncio

from services.common.database import drop_database, ensure_database, open_database
from services.common.migrations import COMMON_MIGRATIONS, migrate
from tests.integration.common.ledger import TABLE, Ledger
from tests.rpc import new_key


@pytest_asyncio.fixture(scope="package", loop_scope="session", name="opened")
async def _opened(postgres_url: str) -> AsyncIterator[Ledger]:
    name = f"ledger_{new_key().removeprefix('test-')}"
    url = await ensure_database(postgres_url, name)
    await migrate(url, [COMMON_MIGRATIONS])
    database = await open_database(url, 8)
    async with database.connection() as connection:
        await connection.execute(TABLE)
    yield Ledger(database)
    await database.close()
    await drop_database(postgres_url, name)


@pytest_asyncio.fixture(loop_scope="session")
async def ledger(opened: Ledger) -> Ledger:
    """An empty ledger."""
    await opened.clear()
    return opened
