"""Databases made, cloned and dropped on a real PostgreSQL, and who may enter them."""

import asyncio
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from services.common import database as database_module
from services.common.database import clone_database, drop_database, ensure_database


def _new_name() -> str:
    return f"provision_{secrets.token_hex(4)}"


async def test_making_a_database_can_be_repeated_also_at_once(postgres_url: str) -> None:
    """Four callers make the same one: all get its URL, and the role owns it."""
    name = _new_name()
    urls = await asyncio.gather(*(ensure_database(postgres_url, name) for _ in range(4)))
    assert len(set(urls)) == 1
    connection = await asyncpg.connect(urls[0])
    assert await connection.fetchval("SELECT current_user || ' ' || current_database()") == f"{name} {name}"
    await connection.execute("CREATE TABLE t ()")
    await connection.close()
    await drop_database(postgres_url, name)


async def test_a_service_cannot_enter_the_database_of_another(postgres_url: str) -> None:
    """Neither the database itself nor a clone of it lets another service's role in; its own role enters both."""
    own, other, clone = _new_name(), _new_name(), _new_name()
    own_url, other_url = await ensure_database(postgres_url, own), await ensure_database(postgres_url, other)
    clone_url = await clone_database(postgres_url, own, clone)
    for url in (own_url, clone_url):
        await (await asyncpg.connect(url)).close()
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(urlsplit(other_url)._replace(path=urlsplit(url).path).geturl())
    for name in (clone, own, other):
        await drop_database(postgres_url, name)


async def test_a_clone_has_the_rows_and_the_owner_of_its_template_and_a_life_of_its_own(postgres_url: str) -> None:
    """What is written to the clone is not seen in the template; dropping it cuts whoever is connected."""
    template, clone = _new_name(), _new_name()
    template_url = await ensure_database(postgres_url, template)
    connection = await asyncpg.connect(template_url)
    await connection.execute("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    await connection.close()

    clone_url = await clone_database(postgres_url, template, clone)
    connection = await asyncpg.connect(clone_url)
    await connection.execute("INSERT INTO t SELECT i + 1 FROM t")
    assert await connection.fetchval("SELECT array_agg(i) FROM t") == [1, 2]
    await drop_database(postgres_url, clone)
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.InterfaceError)):
        await connection.execute("SELECT 1")
    connection.terminate()

    connection = await asyncpg.connect(template_url)
    assert await connection.fetchval("SELECT array_agg(i) FROM t") == [1]
    await connection.close()
    await drop_database(postgres_url, template)
    with pytest.raises(ValueError, match="no database"):
        await clone_database(postgres_url, template, clone)


@pytest.mark.parametrize("name", ["", "Catalog", 'a"; DROP DATABASE postgres; --', "1st", "a" * 64])
async def test_a_name_that_cannot_stand_in_sql_is_refused(name: str) -> None:
    """Before any connection is made."""
    with pytest.raises(ValueError, match="no name for a database"):
        await ensure_database("postgresql://nobody@/nowhere", name)


def test_urls_are_rewritten_for_servers_by_socket_and_by_host(tmp_path: Path) -> None:
    """Only role and database change, and the administrator's password is left behind."""
    for admin, expected in (
        (f"postgresql://postgres@/postgres?host={tmp_path}", f"postgresql://shop@/shop?host={tmp_path}"),
        ("postgresql://root:secret@db:5433/postgres", "postgresql://shop@db:5433/shop"),
    ):
        assert database_module._url(admin, database="shop", role="shop") == expected  # noqa: SLF001
