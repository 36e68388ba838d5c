"""What tests of checkout share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.checkout.store import OrderStore
from tests.integration.card_processor import Processor
from tests.integration.checkout.shopping import beside
from tests.shop import Shop

IMPATIENT_SECONDS = 0.5


@pytest.fixture
def store(shop: Shop) -> OrderStore:
    """A store of the test's own on checkout's database, beside the service's."""
    return OrderStore(shop.databases["checkout"])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def impatient(postgres_url: str, processor: Processor, shop: Shop) -> AsyncIterator[Shop]:
    """The shop with a second checkout, which gives an order half a second until it is paid."""
    async with beside(postgres_url, processor, shop, before_pivot_seconds=str(IMPATIENT_SECONDS)) as running:
        yield running
