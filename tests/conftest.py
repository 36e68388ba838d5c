"""Fixtures that all tests share: one PostgreSQL server a run, one card processor and one shop a test process."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.common.postgres import EmbeddedPostgres, temporary_data_folder
from tests.integration.card_processor import Processor
from tests.shop import Shop, open_shop


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a PostgreSQL server, as its superuser: the run's, or one of our own where pytest runs by itself."""
    url = os.environ.get("LIBRETTO_TEST_POSTGRES_URL")
    if url is not None:
        yield url
        return
    with temporary_data_folder() as folder, EmbeddedPostgres.start(folder) as server:
        yield server.url()


@pytest.fixture(scope="session")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processor]:
    """A card processor in a process of its own."""
    folder: Path = tmp_path_factory.mktemp("processor")
    running = Processor(folder)
    yield running
    running.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shop(postgres_url: str, processor: Processor) -> AsyncIterator[Shop]:
    """A shop that tests share: each makes products, orders and keys of its own."""
    async with open_shop(postgres_url, processor) as running:
        yield running
