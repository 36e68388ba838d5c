"""Sets of commands in one transaction, as coalesced calls will bring them: a verdict each, and no circle of waits."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import pytest_asyncio
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2

import services.inventory
from services.common.database import (
    Connection,
    Database,
    drop_database,
    ensure_database,
    open_database,
    single_connection,
)
from services.common.idempotency import Answered, Fingerprints, Keyed, Refused, Verdict
from services.common.migrations import COMMON_MIGRATIONS, migrate
from services.inventory.domain import (
    AdjustStock,
    CommitReservation,
    Line,
    MovementKind,
    ReleaseReservation,
    Reservation,
    ReserveStock,
    StockLevel,
)
from services.inventory.store import InventoryStore
from tests.integration.inventory.stockroom import imbalances, new_store
from tests.rpc import new_key, new_sku, new_uuid

C = TypeVar("C")

FINGERPRINTS = Fingerprints("a-key-for-tests")


@dataclass(frozen=True, slots=True)
class Backdoor:
    """A store of our own on a database of its own, with its address."""

    store: InventoryStore
    database: Database
    url: str


@pytest_asyncio.fixture(loop_scope="session")
async def backdoor(postgres_url: str) -> AsyncIterator[Backdoor]:
    """A store without a service in front, with eight connections."""
    name = f"inventory_{new_key().removeprefix('test-')}"
    url = await ensure_database(postgres_url, name)
    await migrate(url, [COMMON_MIGRATIONS, Path(services.inventory.__path__[0]) / "migrations"])
    database = await open_database(url, application_name="test", maximum=8, acquire_timeout_seconds=30.0)
    yield Backdoor(new_store(database), database, url)
    await database.close()
    await drop_database(postgres_url, name)


def keyed(*commands: C) -> Sequence[Keyed[C]]:
    """Give each command a key of its own, in their order."""
    return [FINGERPRINTS.keyed(f"{number:03d}-{new_key()}", command) for number, command in enumerate(commands)]


def reserve(*lines: Line) -> ReserveStock:
    """Return a command for fresh ids."""
    return ReserveStock(UUID(new_uuid()), UUID(new_uuid()), lines, hold_seconds=60.0, valid_until=None)


def written(result: Reservation | StockLevel) -> Message:
    """Return a response: the store does not care which."""
    text = result.state.name if isinstance(result, Reservation) else f"{result.available}"
    return StringValue(value=text)


def told(verdicts: Sequence[Verdict]) -> list[str]:
    """Return what each verdict says: the response's text or the refusal's reason."""
    texts = []
    for verdict in verdicts:
        if isinstance(verdict, Answered):
            texts.append(verdict.parse(StringValue).value)
        elif isinstance(verdict, Refused):
            info = error_details_pb2.ErrorInfo()
            assert status_pb2.Status.FromString(verdict.status).details[0].Unpack(info)
            texts.append(info.reason)
    return texts


async def stocked(store: InventoryStore, *pieces: int) -> list[str]:
    """Return new SKUs, in order, of which so many pieces came in."""
    skus = sorted(new_sku() for _ in pieces)
    await store.adjust(keyed(*map(AdjustStock, skus, pieces)), written)
    return skus


async def test_adjustments_of_a_set_follow_each_other(backdoor: Backdoor) -> None:
    """Each sees what the earlier ones did; the one that asks too much fails alone."""
    sku = new_sku()

    verdicts = await backdoor.store.adjust(keyed(*(AdjustStock(sku, change) for change in (5, -3, -3, 4))), written)

    assert told(verdicts) == ["5", "2", "ADJUSTMENT_IMPOSSIBLE", "6"]


async def test_a_set_of_reservations_takes_no_piece_twice(backdoor: Backdoor) -> None:
    """Seven want the last three pieces, one of them together with something that is there in plenty."""
    rare, plenty = await stocked(backdoor.store, 3, 100)
    commands = [reserve(Line(rare, 1)) for _ in range(6)]
    commands.insert(4, reserve(Line(rare, 1), Line(plenty, 1)))

    verdicts = await backdoor.store.reserve(keyed(*commands, reserve(Line(plenty, 1))), written)

    assert told(verdicts) == ["ACTIVE"] * 3 + ["OUT_OF_STOCK"] * 4 + ["ACTIVE"]
    levels = await backdoor.store.levels([rare, plenty])
    assert (levels[rare].available, levels[plenty].available) == (0, 99)


async def test_a_set_may_name_one_reservation_twice(backdoor: Backdoor) -> None:
    """The second item finds what the first one made, sold or gave back."""
    (sku,) = await stocked(backdoor.store, 9)
    one, two, never = reserve(Line(sku, 1)), reserve(Line(sku, 2)), reserve(Line(sku, 4))
    commits = [CommitReservation(one.reservation_id, one.order_id)] * 2
    releases = [ReleaseReservation(key.reservation_id, key.order_id) for key in (two, two, never, never, one)]

    assert told(await backdoor.store.reserve(keyed(one, one, two), written)) == ["ACTIVE"] * 3
    assert told(await backdoor.store.commit(keyed(*commits), written)) == ["COMMITTED"] * 2
    released = told(await backdoor.store.release(keyed(*releases), written))

    assert released == ["RELEASED"] * 4 + ["RESERVATION_COMMITTED"]
    level = (await backdoor.store.levels([sku]))[sku]
    assert (level.available, level.reserved, level.sold) == (8, 0, 1)


async def test_a_set_answers_old_keys_and_new_ones_in_their_places(backdoor: Backdoor) -> None:
    """Only what is new has an effect."""
    (sku,) = await stocked(backdoor.store, 9)
    old, new = keyed(reserve(Line(sku, 1)), reserve(Line(sku, 2)))
    first = await backdoor.store.reserve([old], written)

    verdicts = await backdoor.store.reserve([new, old, Keyed(old.request_id, b"another", old.command)], written)

    assert told(verdicts) == ["ACTIVE", "ACTIVE", "REQUEST_ID_REUSED"]
    assert verdicts[1] == first[0]
    assert (await backdoor.store.levels([sku]))[sku].available == 6


async def test_sets_over_the_same_skus_and_reservations_never_wait_in_a_circle(backdoor: Backdoor) -> None:
    """Six workers run sets at once whose items and lines are shuffled: PostgreSQL counts no deadlock."""
    chance = random.Random(5)  # noqa: S311 - a seed that makes the run repeatable.
    store, skus = backdoor.store, await stocked(backdoor.store, *[1_000] * 6)
    orders = [
        reserve(*(Line(sku, chance.randint(1, 3)) for sku in chance.sample(skus, chance.randint(1, 6))))
        for _ in range(200)
    ]

    async def worker(number: int) -> None:
        for step in range(0, 180, 12):
            some = chance.sample(orders[step : step + 20], 10)
            await store.reserve(keyed(*some), written)
            ended = chance.sample(some, 4)
            await store.commit(keyed(*(CommitReservation(one.reservation_id, one.order_id) for one in ended)), written)
            ended = chance.sample(some, 2)
            await store.release(
                keyed(*(ReleaseReservation(one.reservation_id, one.order_id) for one in ended)), written
            )
            await backdoor.database.transaction(_make_some_overdue)
            await store.expire_overdue(limit=number + 1)
            await store.adjust(keyed(*(AdjustStock(sku, 1) for sku in chance.sample(skus, 3))), written)

    await asyncio.gather(*map(worker, range(6)))

    moved = {recorded.movement.kind for _, recorded in await store.movements(None, None, after=0, limit=10_000)}
    assert moved == set(MovementKind)
    assert await imbalances(backdoor.database) == []
    assert await _deadlocks(backdoor) == 0


async def _make_some_overdue(connection: Connection) -> None:
    await connection.execute(
        """
        UPDATE reservations SET expire_time = clock_timestamp() WHERE reservation_id IN (
            SELECT reservation_id FROM reservations WHERE state = 'ACTIVE' ORDER BY number LIMIT 2
            FOR UPDATE SKIP LOCKED
        )
        """
    )


async def _deadlocks(backdoor: Backdoor) -> int:
    """Return how many deadlocks PostgreSQL saw, once those who may have seen one have left and reported it."""
    await backdoor.database.close()
    async with single_connection(backdoor.url, application_name="test") as connection:
        count: int = await connection.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
    return count
