"""Where inventory keeps its rows: the only place with SQL. Mutations take sets, and give each item its own verdict.

Everybody locks in one order, so that nobody waits in a circle: keys, ids of reservations, rows of reservations by id,
rows of stock by SKU. What a batch does is decided in a `Book` over the locked rows, and written back in sums.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID

import asyncpg
from google.protobuf.message import Message

from services.common.database import Connection, Database, columns, lock_ids
from services.common.idempotency import Keyed, Verdict, once_each
from services.common.values import DomainError
from services.inventory.book import Book
from services.inventory.domain import (
    AdjustStock,
    CommitReservation,
    Line,
    Movement,
    MovementKind,
    RecordedMovement,
    ReleaseReservation,
    Reservation,
    ReservationState,
    ReserveStock,
    StockLevel,
)

C = TypeVar("C")
R = TypeVar("R")

Numbered = tuple[int, R]
"""A row of a list with its number, by which the list is sorted."""


class InventoryStore:
    """Levels, reservations and movements in PostgreSQL, whose clock is the only one that counts."""

    def __init__(self, database: Database, new_id: Callable[[], UUID]) -> None:
        """Use a database, and make the ids of movements with `new_id`."""
        self._database, self._new_id = database, new_id

    async def adjust(
        self, requests: Sequence[Keyed[AdjustStock]], write: Callable[[StockLevel], Message]
    ) -> Sequence[Verdict]:
        """Add or write off pieces; the verdicts hold the levels."""

        async def effect(connection: Connection, commands: Sequence[AdjustStock]) -> list[StockLevel | DomainError]:
            await connection.execute(_MAKE_KNOWN, [command.sku for command in commands if command.change > 0])
            book = await _open_book(connection, [], [command.sku for command in commands])
            return await self._run(connection, book, book.adjust, commands)

        return await self._once_each("AdjustStock", requests, effect, write)

    async def reserve(
        self, requests: Sequence[Keyed[ReserveStock]], write: Callable[[Reservation], Message]
    ) -> Sequence[Verdict]:
        """Hold stock; the verdicts hold the reservations."""

        async def effect(connection: Connection, commands: Sequence[ReserveStock]) -> list[Reservation | DomainError]:
            reservation_ids = [command.reservation_id for command in commands]
            await lock_ids(connection, reservation_ids)
            skus = [line.sku for command in commands for line in command.lines]
            book = await _open_book(connection, reservation_ids, skus)
            return await self._run(connection, book, book.reserve, commands)

        return await self._once_each("ReserveStock", requests, effect, write)

    async def commit(
        self, requests: Sequence[Keyed[CommitReservation]], write: Callable[[Reservation], Message]
    ) -> Sequence[Verdict]:
        """Sell what is held; the verdicts hold the reservations."""

        async def effect(
            connection: Connection, commands: Sequence[CommitReservation]
        ) -> list[Reservation | DomainError]:
            book = await _open_book(connection, [command.reservation_id for command in commands])
            return await self._run(connection, book, book.commit, commands)

        return await self._once_each("CommitReservation", requests, effect, write)

    async def release(
        self, requests: Sequence[Keyed[ReleaseReservation]], write: Callable[[Reservation], Message]
    ) -> Sequence[Verdict]:
        """Give back what is held; the verdicts hold the reservations."""

        async def effect(
            connection: Connection, commands: Sequence[ReleaseReservation]
        ) -> list[Reservation | DomainError]:
            reservation_ids = [command.reservation_id for command in commands]
            await lock_ids(connection, reservation_ids)
            book = await _open_book(connection, reservation_ids)
            return await self._run(connection, book, book.release, commands)

        return await self._once_each("ReleaseReservation", requests, effect, write)

    async def sweep(self, limit: int, rounds_limit: int) -> int:
        """Expire what is overdue, round after round, until one is not full; return how many there were in all."""
        total = 0
        for _ in range(rounds_limit):
            expired = await self.expire_overdue(limit)
            total += expired
            if expired < limit:
                break
        return total

    async def expire_overdue(self, limit: int) -> int:
        """Expire at most `limit` active reservations whose time ran out, and return how many there were."""

        async def work(connection: Connection) -> int:
            reservation_ids = [row["reservation_id"] for row in await connection.fetch(_LOCK_OVERDUE, limit)]
            if reservation_ids:
                book = await _open_book(connection, reservation_ids)
                await self._run(connection, book, book.expire, reservation_ids)
            return len(reservation_ids)

        return await self._database.transaction(work)

    async def levels(self, skus: Sequence[str]) -> Mapping[str, StockLevel]:
        """Read the levels of those SKUs that are known."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_READ_LEVELS, list(set(skus)))
        return {row["sku"]: _level(row) for row in rows}

    async def reservation(self, reservation_id: UUID) -> Reservation | None:
        """Read a reservation, or None where there is none."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_READ_RESERVATION, reservation_id)
        return None if row is None else _reservation(row)

    async def reservations(self, order_id: UUID | None, after: int, limit: int) -> Sequence[Numbered[Reservation]]:
        """List at most `limit` reservations with a larger number than `after`, of one order or of all.

        Numbers are given before the commit: a row that is committed late, under a lower number, is not seen by whoever
        has paged past it. So it is with movements.
        """
        rows = await self._list(_RESERVATION, {"order_id": order_id}, after, limit)
        return [(row["number"], _reservation(row)) for row in rows]

    async def movements(
        self, sku: str | None, order_id: UUID | None, after: int, limit: int
    ) -> Sequence[Numbered[RecordedMovement]]:
        """List at most `limit` movements with a larger number than `after`, of one SKU, one order, both or all."""
        rows = await self._list(_MOVEMENT, {"sku": sku, "order_id": order_id}, after, limit)
        return [(row["number"], _recorded_movement(row)) for row in rows]

    async def _list(
        self, select: str, filters: Mapping[str, object], after: int, limit: int
    ) -> Sequence[asyncpg.Record]:
        """List rows in order of their numbers. A filter that is None is left out: the others then find their index."""
        conditions, values = ["number > $1"], list[object]([after, limit])
        for column, value in filters.items():
            if value is not None:
                values.append(value)
                conditions.append(f"{column} = ${len(values)}")
        statement = f"{select} WHERE {' AND '.join(conditions)} ORDER BY number LIMIT $2"
        async with self._database.connection() as connection:
            return await connection.fetch(statement, *values)

    async def _once_each(
        self,
        method: str,
        requests: Sequence[Keyed[C]],
        effect: Callable[[Connection, Sequence[C]], Awaitable[Sequence[R | DomainError]]],
        write: Callable[[R], Message],
    ) -> Sequence[Verdict]:
        async def work(connection: Connection) -> Sequence[Verdict]:
            return await once_each(connection, method, requests, partial(effect, connection), write)

        return await self._database.transaction(work)

    async def _run(
        self, connection: Connection, book: Book, act: Callable[[C], R], commands: Sequence[C]
    ) -> list[R | DomainError]:
        """Decide item after item, and write back what came of it."""
        results = book.each(act, commands)
        if book.made:
            await _make_reservations(connection, book.made)
        if book.changed:
            await _change_reservations(connection, book.changed)
        if book.movements:
            await self._move(connection, book.movements)
        return results

    async def _move(self, connection: Connection, movements: Sequence[Movement]) -> None:
        rows = [
            (
                self._new_id(),
                movement.sku,
                movement.kind.name,
                movement.create_time,
                movement.available_change,
                movement.reserved_change,
                movement.sold_change,
                movement.reservation_id,
                movement.order_id,
            )
            for movement in movements
        ]
        await connection.execute(_MOVE, *columns(rows))


async def _open_book(connection: Connection, reservation_ids: Sequence[UUID], skus: Iterable[str] = ()) -> Book:
    """Lock reservations, then the stock of these SKUs and of what the reservations hold, and read the time last."""
    reservations: list[Reservation] = []
    if reservation_ids:
        rows = await connection.fetch(_LOCK_RESERVATIONS, list(reservation_ids))
        reservations = [_reservation(row) for row in rows]
    wanted = {*skus, *(line.sku for reservation in reservations for line in reservation.lines)}
    levels = [_level(row) for row in await connection.fetch(_LOCK_STOCK, list(wanted))] if wanted else []
    return Book(await connection.fetchval(_NOW), levels, reservations)


async def _make_reservations(connection: Connection, made: Sequence[Reservation]) -> None:
    rows = [
        (
            reservation.reservation_id,
            reservation.order_id,
            reservation.state.name,
            reservation.expire_time,
            reservation.create_time,
            reservation.update_time,
        )
        for reservation in made
    ]
    await connection.execute(_MAKE_RESERVATIONS, *columns(rows))
    lines = [
        (reservation.reservation_id, line.sku, line.quantity) for reservation in made for line in reservation.lines
    ]
    if lines:
        await connection.execute(_MAKE_LINES, *columns(lines))


async def _change_reservations(connection: Connection, changed: Sequence[Reservation]) -> None:
    rows = [(reservation.reservation_id, reservation.state.name, reservation.update_time) for reservation in changed]
    await connection.execute(_CHANGE_RESERVATIONS, *columns(rows))


def _level(row: asyncpg.Record) -> StockLevel:
    return StockLevel(row["sku"], row["update_time"], row["available"], row["reserved"], row["sold"])


def _reservation(row: asyncpg.Record) -> Reservation:
    return Reservation(
        row["reservation_id"],
        row["order_id"],
        ReservationState[row["state"]],
        tuple(map(Line, row["skus"], row["quantities"])),
        row["expire_time"],
        row["create_time"],
        row["update_time"],
    )


def _recorded_movement(row: asyncpg.Record) -> RecordedMovement:
    movement = Movement(
        row["sku"],
        MovementKind[row["kind"]],
        row["create_time"],
        row["available_change"],
        row["reserved_change"],
        row["sold_change"],
        row["reservation_id"],
        row["order_id"],
    )
    return RecordedMovement(row["movement_id"], movement)


_RESERVATION = """
SELECT r.number, r.reservation_id, r.order_id, r.state, r.expire_time, r.create_time, r.update_time,
    ARRAY(SELECT l.sku FROM reservation_lines AS l WHERE l.reservation_id = r.reservation_id ORDER BY l.sku) AS skus,
    ARRAY(SELECT l.quantity FROM reservation_lines AS l WHERE l.reservation_id = r.reservation_id ORDER BY l.sku)
        AS quantities
FROM reservations AS r
"""

_LOCK_RESERVATIONS = _RESERVATION + "WHERE r.reservation_id = ANY($1::uuid[]) ORDER BY r.reservation_id FOR UPDATE OF r"

_LOCK_OVERDUE = """
SELECT reservation_id FROM reservations
WHERE state = 'ACTIVE' AND expire_time <= now()
ORDER BY expire_time LIMIT $1
FOR UPDATE SKIP LOCKED
"""
"""Takes what nobody else is at work on, and so waits for nobody."""

_LOCK_STOCK = """
SELECT sku, available, reserved, sold, update_time FROM stock
WHERE sku = ANY($1::text[]) ORDER BY sku
FOR UPDATE
"""

_MAKE_KNOWN = """
INSERT INTO stock (sku) SELECT DISTINCT sku COLLATE "C" AS sku FROM unnest($1::text[]) AS sku ORDER BY sku
ON CONFLICT DO NOTHING
"""

_NOW = "SELECT clock_timestamp()"

_MAKE_RESERVATIONS = """
INSERT INTO reservations (reservation_id, order_id, state, expire_time, create_time, update_time)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[])
"""

_MAKE_LINES = """
INSERT INTO reservation_lines (reservation_id, sku, quantity)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::integer[])
"""

_CHANGE_RESERVATIONS = """
UPDATE reservations AS r SET state = v.state, update_time = v.update_time
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS v (reservation_id, state, update_time)
WHERE r.reservation_id = v.reservation_id
"""

_MOVE = """
WITH moved AS (
    INSERT INTO stock_movements (
        movement_id, sku, kind, create_time, available_change, reserved_change, sold_change, reservation_id, order_id
    )
    SELECT v.movement_id, v.sku, v.kind, v.create_time, v.available, v.reserved, v.sold, v.reservation_id, v.order_id
    FROM unnest(
        $1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::uuid[], $9::uuid[]
    ) WITH ORDINALITY AS v (
        movement_id, sku, kind, create_time, available, reserved, sold, reservation_id, order_id, place
    )
    ORDER BY v.place
    RETURNING sku, kind, create_time, available_change, reserved_change, sold_change
),
sums AS (
    SELECT
        sku,
        max(create_time) AS update_time,
        sum(available_change)::bigint AS available,
        sum(reserved_change)::bigint AS reserved,
        sum(sold_change)::bigint AS sold,
        coalesce(sum(available_change) FILTER (WHERE kind = 'ADJUSTED'), 0)::bigint AS received
    FROM moved
    GROUP BY sku
)
UPDATE stock AS s
SET available = s.available + sums.available,
    reserved = s.reserved + sums.reserved,
    sold = s.sold + sums.sold,
    received = s.received + sums.received,
    update_time = sums.update_time
FROM sums
WHERE s.sku = sums.sku
"""
"""Appends movements, and changes each level once, by the sum of its movements."""

_READ_LEVELS = "SELECT sku, available, reserved, sold, update_time FROM stock WHERE sku = ANY($1::text[])"

_READ_RESERVATION = _RESERVATION + "WHERE r.reservation_id = $1"

_MOVEMENT = """
SELECT number, movement_id, sku, kind, create_time, available_change, reserved_change, sold_change,
    reservation_id, order_id
FROM stock_movements
"""
