"""A shop of its own, in which nothing goes on but what these tests begin."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.integration.bad_input.world import World, new_world
from tests.integration.card_processor import Processor
from tests.shop import Shop, open_shop


@pytest_asyncio.fixture(scope="package", loop_scope="session", name="quiet_shop")
async def _quiet_shop(postgres_url: str, processor: Processor) -> AsyncIterator[Shop]:
    async with open_shop(postgres_url, processor) as running:
        yield running


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def world(quiet_shop: Shop) -> World:
    """What requests can name; tests that share it leave it as it is."""
    return await new_world(quiet_shop)


@pytest_asyncio.fixture(loop_scope="session")
async def fresh_world(quiet_shop: Shop) -> World:
    """What requests can name, for one test that changes it."""
    return await new_world(quiet_shop)
