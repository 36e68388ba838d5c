"""Brings a database's schema up to date from numbered SQL files, `NNNN_title.sql`: in order, each once and whole.

The table schema_migrations keeps what was applied, with its checksum: a file that was applied is never changed again.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from services.common.database import SingleConnection, single_connection

COMMON_MIGRATIONS = Path(__file__).with_name("migrations")
"""The tables that every service has; they come before its own."""

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_LOCK = 0x6C69_6272_6D69_6772  # Any constant would do; this one spells "librmigr".
_TABLE = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        name text PRIMARY KEY,
        checksum text NOT NULL,
        apply_time timestamptz NOT NULL DEFAULT now()
    )
"""


class MigrationError(Exception):
    """The schema cannot be brought up to date; the message is a sentence for whoever wrote or deployed the files."""


@dataclass(frozen=True, slots=True)
class _Migration:
    """One file: its name as kept in the table (`catalog/0001_products`), its SQL and the SQL's checksum."""

    name: str
    sql: str
    checksum: str


async def migrate(url: str, folders: Sequence[Path]) -> Sequence[str]:
    """Apply what is new in each of `folders` (`<owner>/migrations`), folder by folder; return the names just applied.

    Two callers at once wait for each other. A file that fails is undone as a whole; what came before it stays. Raises
    MigrationError, DatabaseUnavailableError.
    """
    migrations = [migration for folder in folders for migration in _read_folder(folder)]
    async with single_connection(url, "migrate") as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)  # Held until the connection closes.
        await connection.execute(_TABLE)
        rows = await connection.fetch("SELECT name, checksum FROM schema_migrations")
        pending = _pending(migrations, {row["name"]: row["checksum"] for row in rows})
        for migration in pending:
            await _apply(connection, migration)
    return [migration.name for migration in pending]


def _read_folder(folder: Path) -> Sequence[_Migration]:
    """Read a folder's files in order and see that they are numbered 1, 2, 3 … without gap or double."""
    migrations = []
    for number, path in enumerate(sorted(folder.glob("*.sql")), start=1):
        found = _FILE_NAME.fullmatch(path.name)
        if found is None:
            raise MigrationError(f"{path} is not called NNNN_title.sql (title: a-z, 0-9 and _).")
        if int(found[1]) != number:
            raise MigrationError(
                f"{path} should have number {number:04d}: a number before it is missing, or is there twice."
            )
        content = path.read_bytes()
        name = f"{folder.parent.name}/{path.stem}"
        migrations.append(_Migration(name, content.decode(), hashlib.sha256(content).hexdigest()))
    if not migrations:
        raise MigrationError(f"There are no migrations in {folder}.")
    return migrations


def _pending(migrations: Iterable[_Migration], applied: dict[str, str]) -> Sequence[_Migration]:
    """Select what is not applied yet. Names that only the table knows are a newer release's, and left alone."""
    pending = []
    for migration in migrations:
        checksum = applied.get(migration.name)
        if checksum is None:
            pending.append(migration)
        elif checksum != migration.checksum:
            raise MigrationError(
                f"{migration.name} was changed after it was applied: restore it, and add a new migration instead."
            )
    return pending


async def _apply(connection: SingleConnection, migration: _Migration) -> None:
    """Run one file and note it, both or neither."""
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            if not connection.is_in_transaction():
                raise MigrationError(
                    f"{migration.name} ends the transaction that it runs in: take out COMMIT or ROLLBACK."
                )
            await connection.execute(
                "INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)", migration.name, migration.checksum
            )
    except asyncpg.PostgresError as error:
        raise MigrationError(f"{migration.name} failed: {error}.") from error
