"""An inventory by itself, whose books must balance after every test."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.integration.card_processor import Processor
from tests.integration.inventory.stockroom import NEVER_SECONDS, Stockroom, imbalances
from tests.shop import open_shop


@pytest_asyncio.fixture(scope="session", loop_scope="session", name="opened")
async def _opened(postgres_url: str, processor: Processor) -> AsyncIterator[Stockroom]:
    settings = {"inventory": {"sweep_interval_seconds": NEVER_SECONDS}}
    async with open_shop(postgres_url, processor, ("inventory",), settings) as shop:
        yield Stockroom(shop.inventory, shop.databases["inventory"])


@pytest_asyncio.fixture(loop_scope="session")
async def stockroom(opened: Stockroom) -> AsyncIterator[Stockroom]:
    """Inventory's RPCs and database. Reservations expire when a test says so, not by themselves."""
    yield opened
    assert await imbalances(opened.database) == []
