"""Migrations on a real PostgreSQL: in order, each once and whole, and no way to change history."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from services.common.database import drop_database, ensure_database
from services.common.migrations import COMMON_MIGRATIONS, MigrationError, migrate


@pytest.fixture
async def url(postgres_url: str) -> AsyncIterator[str]:
    """A new, empty database."""
    name = f"migrations_{secrets.token_hex(4)}"
    yield await ensure_database(postgres_url, name)
    await drop_database(postgres_url, name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The migrations of a service that is called `shop`: two files."""
    folder = tmp_path / "shop" / "migrations"
    folder.mkdir(parents=True)
    (folder / "0001_items.sql").write_text("CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (1);")
    (folder / "0002_prices.sql").write_text("ALTER TABLE items ADD price bigint NOT NULL DEFAULT 7;")
    return folder


async def _query(url: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def test_files_are_applied_in_order_and_only_once(url: str, folder: Path) -> None:
    """The first run applies all, the common ones first; the second finds nothing to do; a new file is added alone."""
    applied = await migrate(url, [COMMON_MIGRATIONS, folder])
    assert applied[0] == "common/0001_request_keys"
    assert applied[-2:] == ["shop/0001_items", "shop/0002_prices"]
    assert await _query(url, "SELECT id, price FROM items") == [(1, 7)]
    assert await migrate(url, [COMMON_MIGRATIONS, folder]) == []
    (folder / "0003_more.sql").write_text("INSERT INTO items VALUES (2, 9);")
    assert await migrate(url, [COMMON_MIGRATIONS, folder]) == ["shop/0003_more"]


async def test_replicas_that_start_at_once_apply_each_file_once(url: str, folder: Path) -> None:
    """Of four callers one does the work, and the others wait for it."""
    results = await asyncio.gather(*(migrate(url, [folder]) for _ in range(4)))
    assert sorted(results, key=len) == [[], [], [], ["shop/0001_items", "shop/0002_prices"]]


async def test_a_file_that_fails_is_undone_and_can_be_mended(url: str, folder: Path) -> None:
    """Nothing of the failing file stays, what came before it does, and its name stands in the error."""
    (folder / "0003_more.sql").write_text("INSERT INTO items VALUES (2, 9); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(MigrationError, match=r"shop/0003_more failed: .*nowhere"):
        await migrate(url, [folder])
    assert await _query(url, "SELECT id, price FROM items") == [(1, 7)]
    (folder / "0003_more.sql").write_text("INSERT INTO items VALUES (2, 9);")
    assert await migrate(url, [folder]) == ["shop/0003_more"]


async def test_a_file_that_was_applied_may_not_change(url: str, folder: Path) -> None:
    """Another checksum is refused, and nothing new is applied either."""
    await migrate(url, [folder])
    (folder / "0001_items.sql").write_text("CREATE TABLE items (id bigint PRIMARY KEY);")
    (folder / "0003_more.sql").write_text("INSERT INTO items VALUES (2, 9);")
    with pytest.raises(MigrationError, match=r"shop/0001_items was changed"):
        await migrate(url, [folder])
    assert await _query(url, "SELECT id FROM items") == [(1,)]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("0004_gap.sql", "should have number 0003"),
        ("0002_twice.sql", "should have number 0003"),
        ("0003-Dashes.sql", "not called NNNN_title.sql"),
    ],
)
async def test_a_wrong_number_or_name_is_refused_before_anything_is_done(
    url: str, folder: Path, name: str, complaint: str
) -> None:
    """A gap, a number that is there twice and a name of another form: the database is not touched."""
    (folder / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError, match=complaint):
        await migrate(url, [folder])
    assert await _query(url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


async def test_a_folder_without_files_is_refused(url: str, tmp_path: Path) -> None:
    """A path that is written wrongly must not look like a schema that is up to date."""
    with pytest.raises(MigrationError, match="no migrations"):
        await migrate(url, [tmp_path / "nowhere" / "migrations"])


async def test_a_file_that_commits_by_itself_is_refused(url: str, folder: Path) -> None:
    """It could not be undone as a whole."""
    (folder / "0003_own_way.sql").write_text("SELECT 1; COMMIT;")
    with pytest.raises(MigrationError, match="shop/0003_own_way ends the transaction"):
        await migrate(url, [folder])


async def test_an_older_release_leaves_a_newer_schema_alone(url: str, folder: Path) -> None:
    """While replicas are exchanged, one that does not know the last file yet still starts."""
    await migrate(url, [folder])
    (folder / "0002_prices.sql").unlink()
    assert await migrate(url, [folder]) == []
