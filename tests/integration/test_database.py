"""The pool and the unit of work on a real PostgreSQL: conflicts, lost connections, cancellation."""

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncpg
import pytest
import pytest_asyncio

from services.common import database as database_module
from services.common.database import (
    Connection,
    Database,
    DatabaseUnavailableError,
    OutcomeUnknownError,
    SingleConnection,
    drop_database,
    ensure_database,
    open_database,
)

NAME = "test-database"
BOUND_SECONDS = 10
INSERT = "INSERT INTO notes (key) VALUES ($1)"
SLEEP = "SELECT pg_sleep(600)"
SLEEPING = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE application_name = 'test-database' AND state = 'active' AND query = 'SELECT pg_sleep(600)'"
)
FAREWELL = b"E\0\0\0\x29SFATAL\0VFATAL\0C57P01\0Madministrator\0\0"
"""PostgreSQL's message that it ends the session: type, length and fields, as its protocol (version 3) has them."""


def _new_name() -> str:
    return f"database_{secrets.token_hex(4)}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def url(postgres_url: str) -> AsyncIterator[str]:
    """A database with a table of notes, for the tests of this file."""
    name = _new_name()
    url = await ensure_database(postgres_url, name)
    connection = await asyncpg.connect(url)
    await connection.execute(
        "CREATE TABLE notes (key text PRIMARY KEY, value int NOT NULL DEFAULT 0, see text"
        " REFERENCES notes DEFERRABLE INITIALLY DEFERRED)"
    )
    await connection.close()
    yield url
    await drop_database(postgres_url, name)


@pytest_asyncio.fixture(loop_scope="session")
async def admin(postgres_url: str, url: str) -> AsyncIterator[SingleConnection]:
    """A superuser's connection to that database, which has two notes now: `a` and `b`."""
    connection = await asyncpg.connect(urlsplit(postgres_url)._replace(path=urlsplit(url).path).geturl())
    await connection.execute("TRUNCATE notes; INSERT INTO notes (key) VALUES ('a'), ('b')")
    yield connection
    await connection.close()


@pytest_asyncio.fixture(loop_scope="session")
async def database(url: str, admin: SingleConnection) -> AsyncIterator[Database]:
    """A pool of at most two connections."""
    del admin  # It has put the notes in order.
    database = await open_database(url, maximum=2, application_name=NAME)
    yield database
    await database.close()


async def _keys(admin: SingleConnection) -> list[str]:
    return [row["key"] for row in await admin.fetch("SELECT key FROM notes ORDER BY key")]


async def _until(admin: SingleConnection, condition: str) -> None:
    """Ask the server again and again, for a bounded time, until a condition in SQL holds."""
    async with asyncio.timeout(BOUND_SECONDS):
        while not await admin.fetchval(f"SELECT {condition}"):
            pass


async def test_what_the_work_did_is_committed_and_its_result_returned(
    database: Database, admin: SingleConnection
) -> None:
    """The unit of work runs in a READ COMMITTED transaction."""

    async def work(connection: Connection) -> str:
        await connection.execute(INSERT, "c")
        isolation: str = await connection.fetchval("SHOW transaction_isolation")
        return isolation

    assert await database.transaction(work) == "read committed"
    assert await _keys(admin) == ["a", "b", "c"]


async def test_work_that_fails_leaves_nothing_and_its_error_passes(database: Database, admin: SingleConnection) -> None:
    """An error of the domain, and one of PostgreSQL's, roll back and arrive as they are."""

    async def refuse(connection: Connection) -> None:
        await connection.execute(INSERT, "c")
        raise LookupError("refused")

    async def repeat_a_key(connection: Connection) -> None:
        await connection.execute(INSERT, "c")
        await connection.execute(INSERT, "a")

    with pytest.raises(LookupError, match="refused"):
        await database.transaction(refuse)
    with pytest.raises(asyncpg.UniqueViolationError):
        await database.transaction(repeat_a_key)
    assert await _keys(admin) == ["a", "b"]


async def test_work_that_ignores_a_failed_statement_is_not_taken_for_committed(
    database: Database, admin: SingleConnection
) -> None:
    """PostgreSQL answers COMMIT with ROLLBACK then, and no error: the unit of work makes it one."""

    async def work(connection: Connection) -> None:
        await connection.execute(INSERT, "c")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(INSERT, "a")

    with pytest.raises(asyncpg.InFailedSQLTransactionError, match="nothing was committed"):
        await database.transaction(work)
    assert await _keys(admin) == ["a", "b"]


async def test_a_refusal_at_commit_is_certain(database: Database, admin: SingleConnection) -> None:
    """A constraint that is checked at COMMIT is broken: the server says so, and the outcome is known."""

    async def work(connection: Connection) -> None:
        await connection.execute("INSERT INTO notes (key, see) VALUES ('c', 'nowhere')")

    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await database.transaction(work)
    assert await _keys(admin) == ["a", "b"]


async def test_a_deadlock_is_resolved_by_repeating_one_of_the_two(database: Database, admin: SingleConnection) -> None:
    """Two transactions lock two rows in opposite order, each after the other has locked its first; both succeed."""
    barrier = asyncio.Barrier(2)
    runs = 0

    async def add_to_both(first: str, second: str) -> None:
        meet = True

        async def work(connection: Connection) -> None:
            nonlocal meet, runs
            runs += 1
            await connection.execute("UPDATE notes SET value = value + 1 WHERE key = $1", first)
            if meet:
                meet = False
                await barrier.wait()
            await connection.execute("UPDATE notes SET value = value + 1 WHERE key = $1", second)

        await database.transaction(work)

    async with asyncio.timeout(BOUND_SECONDS):
        await asyncio.gather(add_to_both("a", "b"), add_to_both("b", "a"))
    assert runs == 3
    assert await admin.fetchval("SELECT array_agg(value) FROM notes") == [2, 2]


@pytest.mark.parametrize("conflicts", [1, 5])
async def test_serialization_failures_are_repeated_a_few_times_only(
    database: Database, admin: SingleConnection, conflicts: int
) -> None:
    """The work sees a row that another changes before it: one conflict is repeated, five are the caller's affair."""
    runs = 0

    async def work(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await connection.fetchval("SELECT value FROM notes WHERE key = 'a'")
        if runs <= conflicts:
            await admin.execute("UPDATE notes SET value = value + 10 WHERE key = 'a'")
        await connection.execute("UPDATE notes SET value = value + 1 WHERE key = 'a'")

    if conflicts == 1:
        await database.transaction(work)
    else:
        with pytest.raises(DatabaseUnavailableError, match="conflicted with others 5 times"):
            await database.transaction(work)
    assert runs == min(conflicts + 1, 5)
    assert await admin.fetchval("SELECT value FROM notes WHERE key = 'a'") == 10 * conflicts + (conflicts == 1)


async def test_a_caller_waits_for_a_free_connection_only_for_a_bounded_time(url: str) -> None:
    """With all connections lent the next caller is told that the database is unavailable, and when to come back."""
    database = await open_database(url, maximum=1, acquire_timeout_seconds=0.05)
    async with database.connection():
        with pytest.raises(DatabaseUnavailableError) as caught:
            async with database.connection():
                pytest.fail("there is only one connection")
        assert caught.value.retry_after_seconds == 0.5
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT 1") == 1
    await database.close()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    """Nobody listens at the address."""
    with tempfile.TemporaryDirectory() as folder, pytest.raises(DatabaseUnavailableError):
        await open_database(f"postgresql://shop@/shop?host={folder}&port=5432")


async def test_a_connection_lost_in_the_work_is_unavailable_and_the_pool_recovers(
    database: Database, admin: SingleConnection
) -> None:
    """The server ends the session before COMMIT: nothing is left, and the next transaction has a new session."""

    async def work(connection: Connection) -> None:
        await connection.execute(INSERT, "c")
        await admin.execute("SELECT pg_terminate_backend($1)", await connection.fetchval("SELECT pg_backend_pid()"))
        await connection.execute(INSERT, "d")

    async def good_work(connection: Connection) -> None:
        await connection.execute(INSERT, "e")

    with pytest.raises(DatabaseUnavailableError) as caught:
        await database.transaction(work)
    assert not isinstance(caught.value, OutcomeUnknownError)
    await database.transaction(good_work)
    assert await _keys(admin) == ["a", "b", "e"]


class Fault(Enum):
    """What goes wrong once the server has answered a marked statement."""

    BREAK = "the connection breaks and the answer is lost"
    SILENCE = "the answer is lost, and nothing more is heard"
    FAREWELL = "the answer arrives, and with it the server's farewell; the connection's end is late"


@asynccontextmanager
async def _faulty(url: str, mark: bytes, fault: Fault) -> AsyncIterator[str]:
    """Put something before the server that commits a fault at the statement that contains the mark."""
    server_folder = parse_qs(urlsplit(url).query)["host"][0]

    async def serve(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_unix_connection(f"{server_folder}/.s.PGSQL.5432")
        marked = asyncio.Event()

        async def answer() -> None:
            while data := await server.read(65536):
                if not marked.is_set():
                    to_client.write(data)
                elif fault is Fault.FAREWELL:
                    to_client.write(data + FAREWELL)
                elif fault is Fault.BREAK:
                    break
            to_client.close()

        answers = asyncio.create_task(answer())
        while data := await client.read(65536):
            if mark in data:
                marked.set()
            to_server.write(data)
        to_server.close()
        await answers

    with tempfile.TemporaryDirectory() as folder:
        async with await asyncio.start_unix_server(serve, f"{folder}/.s.PGSQL.5432"):
            yield urlsplit(url)._replace(query=urlencode({"host": folder, "port": "5432"})).geturl()


@pytest.mark.parametrize("fault", [Fault.BREAK, Fault.SILENCE])
async def test_a_lost_answer_to_commit_is_an_unknown_outcome_and_not_repeated(
    url: str, admin: SingleConnection, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """The commit did happen here, which only reading back by key can tell; a silent server is given up in time."""
    monkeypatch.setattr(database_module, "_STUCK_SECONDS", 0.0)
    runs = 0

    async def work(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        await connection.execute(INSERT, "c")

    async with _faulty(url, b"COMMIT\0", fault) as faulty_url:
        database = await open_database(faulty_url, statement_timeout_seconds=0.2)
        async with asyncio.timeout(BOUND_SECONDS):
            with pytest.raises(OutcomeUnknownError):
                await database.transaction(work)
            await database.close()
    assert runs == 1
    assert await _keys(admin) == ["a", "b", "c"]


async def test_a_session_that_the_server_has_just_ended_is_unavailable(url: str, admin: SingleConnection) -> None:
    """Its farewell has arrived, the end of the connection has not: asyncpg is between two states then."""

    async def work(connection: Connection) -> None:
        await connection.execute(INSERT, "c")
        await connection.execute("SELECT 'farewell'")
        await connection.execute(INSERT, "d")

    async with _faulty(url, b"farewell", Fault.FAREWELL) as faulty_url:
        database = await open_database(faulty_url)
        with pytest.raises(DatabaseUnavailableError, match="InternalClientError"):
            await database.transaction(work)
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT 1") == 1
        await database.close()
    assert await _keys(admin) == ["a", "b"]


async def test_a_statement_that_takes_too_long_is_ended(url: str) -> None:
    """The server's own timeout is the net below the callers' deadlines."""
    database = await open_database(url, statement_timeout_seconds=0.05)
    with pytest.raises(DatabaseUnavailableError, match="QueryCanceledError"):
        async with database.connection() as connection:
            await connection.execute(SLEEP)
    await database.close()


async def test_cancelling_the_caller_ends_its_query_in_the_server(database: Database, admin: SingleConnection) -> None:
    """Seen in pg_stat_activity, for a read and in a transaction, which is rolled back; the connections stay usable."""

    async def read() -> None:
        async with database.connection() as connection:
            await connection.execute(SLEEP)

    async def work(connection: Connection) -> None:
        await connection.execute(INSERT, "c")
        await connection.execute(SLEEP)

    tasks = [asyncio.create_task(read()), asyncio.create_task(database.transaction(work))]
    await _until(admin, f"cardinality(ARRAY({SLEEPING})) = 2")
    for task in tasks:
        task.cancel()
    done, _ = await asyncio.wait(tasks, timeout=BOUND_SECONDS)
    assert [task.cancelled() for task in done] == [True, True]
    await _until(admin, f"NOT EXISTS ({SLEEPING})")
    async with database.connection() as first, database.connection() as second:
        assert await first.fetchval("SELECT 1") == await second.fetchval("SELECT 1") == 1
        assert not first.is_in_transaction()
        assert not second.is_in_transaction()
    assert await _keys(admin) == ["a", "b"]


async def test_a_pool_closes_in_a_bounded_time_and_cuts_what_is_still_lent(url: str, admin: SingleConnection) -> None:
    """A query that would run for ten minutes does not hold up the stop; whoever comes later is told."""
    database = await open_database(url, application_name=NAME)

    async def read() -> None:
        async with database.connection() as connection:
            await connection.execute(SLEEP)

    reader = asyncio.create_task(read())
    await _until(admin, f"EXISTS ({SLEEPING})")
    async with asyncio.timeout(BOUND_SECONDS):
        await database.close(0.05)
        with pytest.raises(DatabaseUnavailableError):
            await reader
    with pytest.raises(DatabaseUnavailableError):
        async with database.connection():
            pytest.fail("the pool is closed")
    await database.close()


async def test_each_session_bears_its_name_and_its_limits(database: Database) -> None:
    """An operator sees who it is, and no statement or open transaction lasts for ever."""
    async with database.connection() as connection:
        assert await connection.fetchval("SHOW application_name") == NAME
        assert await connection.fetchval("SHOW statement_timeout") == "30s"
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "30s"
