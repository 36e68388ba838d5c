"""A service's database: made, cloned and dropped on a server; opened as a bounded pool; written to in units of work.

    DatabaseUnavailableError     the database did not do what was asked, for a reason that may pass
    └── OutcomeUnknownError      the answer to COMMIT was lost: the transaction may stand or not

Every other error of PostgreSQL (a broken constraint, wrong SQL) passes through as asyncpg raises it.
"""

import asyncio
import re
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import asyncpg.pool

from services.common.values import DependencyUnavailableError

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
SingleConnection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_ATTEMPTS = 5
_BACKOFF_SECONDS = 0.01  # Doubles with each attempt; the wait is drawn evenly from zero to this.
_STUCK_SECONDS = 5.0  # How long after its own timeout a server that says nothing is given up.
_CONNECT_SECONDS = 5.0
_LOCK_SECONDS = 60.0
_CLOSE_SECONDS = 5.0

# Not reached, shutting down, or stopped by a timeout; out of connections, memory or disk; a lock that did not come;
# no such database, or not for this role, which may be about to be made.
_TROUBLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
)
_CONFLICT = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)

_LOCK_IDS = """
SELECT pg_advisory_xact_lock(id.key)
FROM (
    SELECT DISTINCT hashtextextended(some_id::text, 0) AS key
    FROM unnest($1::uuid[]) AS some_id
    ORDER BY key
) AS id
"""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")  # PostgreSQL cuts longer names off.
_ENSURE_LOCK = 0x6C69_6272_6461_7461  # Any constant would do; this one spells "librdata".


class DatabaseUnavailableError(DependencyUnavailableError):
    """The database did not do what was asked, for a reason that may pass. Nothing is left of a transaction."""

    retry_after_seconds = 0.5


class OutcomeUnknownError(DatabaseUnavailableError):
    """The answer to COMMIT was lost: the transaction may stand or not. Only its keys can tell: read back by them."""


class Database:
    """A pool of connections to one database; made by `open_database`, given back by `close`."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", acquire_timeout_seconds: float, random: Random) -> None:
        """Take over a pool that is open."""
        self._pool = pool
        self._acquire_timeout_seconds = acquire_timeout_seconds
        self._random = random

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection, for reads and for single statements that may be repeated. Cancelling ends the query too.

        The session is not reset afterwards (that would cost a round trip): change settings by SET LOCAL only. Raises
        DatabaseUnavailableError when none is free in time or it is lost; then a statement that writes may have written.
        """
        connection = await self._acquire()
        try:
            yield connection
        except _TROUBLE as error:
            raise _unavailable(error) from error
        except asyncpg.InterfaceError as error:
            if _is_lost(connection):
                raise _unavailable(error) from error
            raise  # A fault of ours, such as an argument of the wrong type.
        except asyncpg.InternalClientError as error:  # The server has ended the session, and asyncpg half noticed it.
            _discard(connection)
            raise _unavailable(error) from error
        finally:
            # A connection that cannot be taken back is thrown away by the pool; what was done on it stands.
            with suppress(*_TROUBLE, asyncpg.InterfaceError, asyncpg.InternalClientError):
                await self._pool.release(connection)

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in one READ COMMITTED transaction, and return its result once that is committed.

        Deadlocks and serialization failures repeat it whole, a few times: `work` must have no effect outside its
        connection. Raises OutcomeUnknownError, DatabaseUnavailableError, and what `work` raises, after a rollback.
        """
        conflict: asyncpg.PostgresError | None = None
        for attempt in range(_ATTEMPTS):
            if conflict is not None:
                await asyncio.sleep(self._random.uniform(0, _BACKOFF_SECONDS * 2**attempt))
            try:
                return await self._attempt(work)
            except _CONFLICT as error:
                conflict = error
        raise DatabaseUnavailableError(f"The transaction conflicted with others {_ATTEMPTS} times.") from conflict

    async def close(self, grace_seconds: float = _CLOSE_SECONDS) -> None:
        """Close the pool: wait that long for connections that are lent, then cut them. Harmless when repeated."""
        try:
            async with asyncio.timeout(grace_seconds):
                await self._pool.close()
        except (*_TROUBLE, asyncpg.InterfaceError, asyncpg.InternalClientError):  # Too slow, or lost at the goodbye.
            self._pool.terminate()

    async def _acquire(self) -> Connection:
        try:
            return await self._pool.acquire(timeout=self._acquire_timeout_seconds)
        except (*_TROUBLE, asyncpg.InterfaceError) as error:  # The last one: the pool is closing.
            raise _unavailable(error) from error

    async def _attempt(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` between BEGIN and COMMIT, or ROLLBACK when it fails or is cancelled."""
        async with self.connection() as connection:
            try:
                await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                result = await work(connection)
            except BaseException:
                if not _is_lost(connection):
                    await connection.execute("ROLLBACK")
                raise
            await _commit(connection)
            return result


async def open_database(
    url: str,
    maximum: int = 4,
    *,
    minimum: int = 1,
    application_name: str = "libretto",
    acquire_timeout_seconds: float = 2.0,
    statement_timeout_seconds: float = 30.0,
    random: Random | None = None,
) -> Database:
    """Open a pool of `minimum` to `maximum` connections; pg_stat_activity shows them by `application_name`.

    The statement timeout is a net below the callers' deadlines; it also ends transactions that are left idle. Raises
    DatabaseUnavailableError, or what asyncpg raises for a wrong URL.
    """
    timeout_ms = str(round(statement_timeout_seconds * 1000))
    try:
        pool = await asyncpg.create_pool(
            url,
            min_size=minimum,
            max_size=maximum,
            reset=_keep_session,
            timeout=_CONNECT_SECONDS,
            command_timeout=statement_timeout_seconds + _STUCK_SECONDS,
            server_settings={
                "application_name": application_name,
                "statement_timeout": timeout_ms,
                "idle_in_transaction_session_timeout": timeout_ms,
            },
        )
    except _TROUBLE as error:
        raise _unavailable(error) from error
    return Database(pool, acquire_timeout_seconds, random or Random())  # noqa: S311 - spreads retries, guards nothing.


@asynccontextmanager
async def single_connection(url: str, application_name: str) -> AsyncIterator[SingleConnection]:
    """Open one connection without a pool, for work on the schema; its waits for locks are bounded.

    Raises DatabaseUnavailableError.
    """
    settings = {"application_name": application_name, "lock_timeout": str(round(_LOCK_SECONDS * 1000))}
    try:
        connection = await asyncpg.connect(url, timeout=_CONNECT_SECONDS, server_settings=settings)
        try:
            yield connection
        finally:
            await connection.close(timeout=_CLOSE_SECONDS)
    except _TROUBLE as error:
        raise _unavailable(error) from error


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Turn one or more rows of equal length into their columns: the arrays that `unnest` takes in SQL.

    No rows have no columns, so a statement for them is refused by asyncpg: leave it out.
    """
    return [list(column) for column in zip(*rows, strict=True)]


async def lock_ids(connection: Connection, ids: Sequence[UUID]) -> None:
    """Wait for the sole right to these ids, of rows that may not exist yet, and hold it until the transaction ends.

    They are taken in one order, whoever asks, so that two transactions cannot deadlock over them.
    """
    await connection.execute(_LOCK_IDS, list(ids))


async def ensure_database(admin_url: str, name: str) -> str:
    """See that database `name` exists, owned by a role of that name, closed to others; return its URL for that role.

    For a server that trusts its callers, as the embedded one does: the role has no password. Raises
    DatabaseUnavailableError.
    """
    _require_name(name)
    async with single_connection(admin_url, "ensure_database") as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", _ENSURE_LOCK)  # Held until the connection closes.
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", name):
            await connection.execute(f'CREATE ROLE "{name}" LOGIN')
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name):
            await connection.execute(f'CREATE DATABASE "{name}" OWNER "{name}"')
        await _close_to_others(connection, name)
    return _url(admin_url, database=name, role=name)


async def clone_database(admin_url: str, template: str, name: str) -> str:
    """Make database `name` a copy of `template`, to which nobody may be connected; return its URL for the same owner.

    It takes tens of milliseconds, so each test can have a clone of a migrated database. Raises
    DatabaseUnavailableError, ValueError for an unknown template.
    """
    _require_name(template)
    _require_name(name)
    async with single_connection(admin_url, "clone_database") as connection:
        query = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = $1"
        owner = await connection.fetchval(query, template)
        if owner is None:
            raise ValueError(f"There is no database {template} to clone.")
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" OWNER "{owner}"')
        await _close_to_others(connection, name)  # A clone does not inherit this.
    return _url(admin_url, database=name, role=owner)


async def drop_database(admin_url: str, name: str) -> None:
    """Drop database `name` where it exists, and cut whoever is connected to it; its role stays.

    Raises DatabaseUnavailableError.
    """
    _require_name(name)
    async with single_connection(admin_url, "drop_database") as connection:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _close_to_others(connection: SingleConnection, name: str) -> None:
    """Let only the owner connect: by default every role may."""
    await connection.execute(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC')


def _require_name(name: str) -> None:
    """Refuse what cannot stand between double quotes in SQL."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name for a database: a letter, then a-z, 0-9 and _, at most 63 in all.")


def _url(admin_url: str, *, database: str, role: str) -> str:
    """Make the URL of another database on the same server, for another role, which needs no password there."""
    parts = urllib.parse.urlsplit(admin_url)
    address = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{urllib.parse.quote(role)}@{address}", path=f"/{database}").geturl()


async def _commit(connection: Connection) -> None:
    """Commit, and tell a transaction that was surely refused from one whose fate is unknown."""
    try:
        status = await connection.execute("COMMIT")
    except asyncpg.PostgresError as error:
        if error.severity_en == "ERROR":  # The server refused. A lost connection has FATAL or none, even after COMMIT.
            raise
        _discard(connection)
        raise OutcomeUnknownError("The connection was lost at COMMIT.") from error
    except (OSError, asyncpg.InternalClientError) as error:
        _discard(connection)
        raise OutcomeUnknownError("The answer to COMMIT did not arrive.") from error
    if status != "COMMIT":
        # PostgreSQL answers ROLLBACK, and no error, where the work went on after one of its statements had failed.
        raise asyncpg.InFailedSQLTransactionError("A failed statement was ignored, so nothing was committed.")


async def _keep_session(_: SingleConnection) -> None:
    """Reset nothing when a connection comes back to the pool: see Database.connection."""


def _is_lost(connection: Connection) -> bool:
    """Tell whether a connection is gone; once asyncpg has taken it back, it refuses even this question."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


def _discard(connection: Connection) -> None:
    """Cut a connection that is in a doubtful state, so that the pool does not lend it again."""
    if not _is_lost(connection):
        connection.terminate()


def _unavailable(error: Exception) -> DatabaseUnavailableError:
    return DatabaseUnavailableError(f"The database is unavailable ({type(error).__name__}).")
