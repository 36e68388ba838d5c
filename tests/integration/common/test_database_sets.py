"""What stores need for sets of rows: columns for `unnest`, and locks on ids whose rows may not exist yet."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from services.common.database import Connection, columns, lock_ids
from tests.integration.common.host import BOUND_SECONDS
from tests.integration.common.ledger import Ledger

WAITS_FOR_A_LOCK = """
SELECT EXISTS (
    SELECT FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()
)
"""


def new_ids(count: int) -> list[UUID]:
    """Make some ids."""
    return [uuid4() for _ in range(count)]


async def test_rows_become_the_columns_that_unnest_takes(ledger: Ledger) -> None:
    """PostgreSQL gives the same rows back, nulls among them."""
    rows = [(1, "a"), (2, None), (3, "c")]
    async with ledger.database.connection() as connection:
        found = await connection.fetch("SELECT * FROM unnest($1::int[], $2::text[])", *columns(rows))
    assert [tuple(row) for row in found] == rows


def test_rows_of_different_lengths_are_a_fault() -> None:
    """No column is cut off in silence."""
    with pytest.raises(ValueError, match="zip"):
        columns([(1, "a"), (2,)])


async def test_a_locked_id_is_waited_for_until_the_transaction_ends(ledger: Ledger) -> None:
    """In any order of the ids; other ids are free meanwhile."""
    ids, locked, end = new_ids(2), asyncio.Event(), asyncio.Event()

    async def hold(connection: Connection) -> None:
        await lock_ids(connection, ids)
        locked.set()
        await end.wait()

    async def lock(wanted: Sequence[UUID]) -> None:
        async def work(connection: Connection) -> None:
            await lock_ids(connection, wanted)

        await ledger.database.transaction(work)

    async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(ledger.database.transaction(hold))
        await locked.wait()
        waiting = tasks.create_task(lock([*new_ids(1), ids[1]]))
        async with ledger.database.connection() as connection:
            while not await connection.fetchval(WAITS_FOR_A_LOCK):
                pass
        await lock(new_ids(2))
        assert not waiting.done()
        end.set()


async def test_two_who_lock_the_same_ids_in_opposite_order_do_not_deadlock(ledger: Ledger) -> None:
    """Each transaction runs once: a deadlock would have repeated one of them."""
    ids, runs = new_ids(40), 0

    async def lock(wanted: Sequence[UUID]) -> None:
        async def work(connection: Connection) -> None:
            nonlocal runs
            runs += 1
            await lock_ids(connection, wanted)

        await ledger.database.transaction(work)

    async with asyncio.timeout(BOUND_SECONDS):
        await asyncio.gather(*(lock(wanted) for _ in range(20) for wanted in (ids, ids[::-1])))
    assert runs == 40
