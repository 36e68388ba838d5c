"""A payment service by itself."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.integration.card_processor import Processor
from tests.integration.payment.till import SHORT_SECONDS, Till
from tests.shop import open_shop


@pytest.fixture(scope="session")
def slow_processor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processor]:
    """A card processor that takes twice as long for its slow tokens as some callers wait."""
    running = Processor(tmp_path_factory.mktemp("slow-processor"), slow_seconds=2 * SHORT_SECONDS)
    yield running
    running.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def till(postgres_url: str, slow_processor: Processor) -> AsyncIterator[Till]:
    """Payment's RPCs, its database and the processor. What is left behind is resolved soon."""
    settings = {"payment": {"resolve_interval_seconds": "0.05", "processor_timeout_seconds": "2"}}
    async with open_shop(postgres_url, slow_processor, ("payment",), settings) as shop:
        address = shop.running["payment"].address
        opened = Till(shop.payment, shop.databases["payment"], slow_processor, shop.spans, address)
        await opened.authorized()  # The first call opens connections, for which some tests have no time.
        yield opened
