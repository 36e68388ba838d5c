"""Callers with one key at the same time: the second waits for the first, and batches never wait for each other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from services.common.database import Connection
from services.common.idempotency import Answered, once_each
from tests.integration.common.host import soon
from tests.integration.common.ledger import METHOD, Ledger, keyed, write

CALLERS = 7
ROUNDS = 20


class FailedAtLastError(Exception):
    """What a transaction fails by after its effect."""


@asynccontextmanager
async def held(ledger: Ledger, *keys: str, fails: bool = False) -> AsyncIterator[asyncio.Task[object]]:
    """Keep a transaction that has claimed keys open until the block ends; then it commits, or fails."""
    claimed, leave = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        claimed.set()
        await leave.wait()
        if fails:
            raise FailedAtLastError

    holder: asyncio.Task[object] = asyncio.create_task(
        ledger.apply(*(keyed(key, f"note {key}") for key in keys), after=wait)
    )
    await soon(claimed.wait())
    try:
        yield holder
    finally:
        leave.set()
        await asyncio.wait([holder])


async def test_a_second_caller_waits_for_the_first_and_gets_its_answer(ledger: Ledger) -> None:
    """The effect happens once."""
    async with held(ledger, "a") as first:
        second = asyncio.create_task(ledger.apply(keyed("a", "note a")))
        await ledger.until_waiting()
        assert not second.done()
    assert await soon(second) == first.result()
    assert ledger.batches == [["note a"]]
    assert await ledger.entries() == ["note a"]


async def test_a_second_caller_takes_over_when_the_first_fails(ledger: Ledger) -> None:
    """Nothing is left of the first, so the second's effect is the only one."""
    async with held(ledger, "a", fails=True) as first:
        second = asyncio.create_task(ledger.apply(keyed("a", "note a")))
        await ledger.until_waiting()
    with pytest.raises(FailedAtLastError):
        first.result()
    (verdict,) = await soon(second)
    assert isinstance(verdict, Answered)
    assert ledger.batches == [["note a"], ["note a"]]
    assert await ledger.entries() == ["note a"]


async def test_callers_with_other_keys_do_not_wait(ledger: Ledger) -> None:
    """Only one key's row is locked."""
    async with held(ledger, "a"):
        (verdict,) = await soon(ledger.apply(keyed("b", "note b")))
        assert isinstance(verdict, Answered)


async def test_many_callers_with_one_key_have_one_effect_and_equal_answers(ledger: Ledger) -> None:
    """However they arrive."""
    for number in range(ROUNDS):
        key = f"key-{number}"
        answers = await asyncio.gather(*(ledger.apply(keyed(key, f"note {number}")) for _ in range(CALLERS)))
        assert all(answer == answers[0] for answer in answers)
    assert await ledger.entries() == [f"note {number}" for number in range(ROUNDS)]


async def claim(connection: Connection, ledger: Ledger, *keys: str) -> int:
    """Apply notes in one plain transaction, which repeats nothing when there is a deadlock."""
    requests = [keyed(key, f"note {key}") for key in keys]
    async with connection.transaction():
        verdicts = await once_each(connection, METHOD, requests, lambda notes: ledger.enter(connection, notes), write)
    return len(verdicts)


async def test_batches_with_the_same_keys_in_another_order_do_not_deadlock(ledger: Ledger) -> None:
    """A third transaction holds the key in the middle until both batches wait, each after it has begun.

    If they claimed their keys in the order in which they came, each would hold what the other needs next.
    """
    async with ledger.database.connection() as left, ledger.database.connection() as right:
        async with held(ledger, "m", fails=True):
            both = asyncio.gather(
                claim(left, ledger, "a", "m", "z"), claim(right, ledger, "z", "m", "a"), return_exceptions=True
            )
            await ledger.until_waiting(2)
        results = await soon(both)
    assert not [result for result in results if isinstance(result, asyncpg.DeadlockDetectedError)]
    assert results == [3, 3]
    assert sorted(await ledger.entries()) == ["note a", "note m", "note z"]
