"""A handle on a running inventory: short calls for what most tests do, and a look into its books."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from libretto.inventory.v1.inventory_service_pb2 import (
    AdjustStockRequest,
    CommitReservationRequest,
    GetReservationRequest,
    GetStockRequest,
    ReleaseReservationRequest,
    ReserveStockRequest,
)
from libretto.inventory.v1.reservation_pb2 import Reservation, ReservationLine

from services.common.database import Connection, Database
from services.common.values import SystemClock, new_id
from services.inventory.store import InventoryStore
from tests.rpc import new_key, new_sku, new_uuid

if TYPE_CHECKING:
    from libretto.inventory.v1.inventory_service_pb2_grpc import InventoryServiceAsyncStub

NEVER_SECONDS = "86400"

Levels = tuple[int, int, int, int]
"""Available, reserved, sold and received pieces."""

_IMBALANCES = """
WITH moved AS (
    SELECT
        sku,
        sum(available_change) AS available,
        sum(reserved_change) AS reserved,
        sum(sold_change) AS sold,
        sum(available_change) FILTER (WHERE kind = 'ADJUSTED') AS received
    FROM stock_movements
    GROUP BY sku
),
lines AS (
    SELECT
        l.sku,
        coalesce(sum(l.quantity) FILTER (WHERE r.state = 'ACTIVE'), 0) AS reserved,
        coalesce(sum(l.quantity) FILTER (WHERE r.state = 'COMMITTED'), 0) AS sold
    FROM reservation_lines AS l INNER JOIN reservations AS r USING (reservation_id)
    GROUP BY l.sku
)
SELECT s.sku, s.available, s.reserved, s.sold, s.received
FROM stock AS s LEFT JOIN moved AS m USING (sku) LEFT JOIN lines AS l USING (sku)
WHERE (s.available, s.reserved, s.sold, s.received) IS DISTINCT FROM (m.available, m.reserved, m.sold, m.received)
    OR (s.reserved, s.sold) IS DISTINCT FROM (coalesce(l.reserved, 0), coalesce(l.sold, 0))
    OR s.available + s.reserved + s.sold <> s.received
ORDER BY s.sku
"""


def new_store(database: Database) -> InventoryStore:
    """Return a store of our own on a database, beside the service's."""
    return InventoryStore(database, partial(new_id, SystemClock(), random.SystemRandom()))


async def imbalances(database: Database) -> Sequence[str]:
    """Return the SKUs whose level is not the sum of its movements, or of the lines that it holds and has sold."""
    async with database.connection() as connection:
        return [row["sku"] for row in await connection.fetch(_IMBALANCES)]


def reserve_request(
    lines: Mapping[str, int], *, reservation_id: str = "", order_id: str = "", request_id: str = ""
) -> ReserveStockRequest:
    """Return a request for pieces by SKU, with fresh ids where none are given."""
    return ReserveStockRequest(
        request_id=request_id or new_key(),
        reservation_id=reservation_id or new_uuid(),
        order_id=order_id or new_uuid(),
        lines=[ReservationLine(sku=sku, quantity=quantity) for sku, quantity in lines.items()],
    )


def commit_request(reservation: Reservation) -> CommitReservationRequest:
    """Return a request to commit a reservation, with a fresh key."""
    return CommitReservationRequest(
        request_id=new_key(), reservation_id=reservation.reservation_id, order_id=reservation.order_id
    )


def release_request(reservation: Reservation) -> ReleaseReservationRequest:
    """Return a request to release a reservation, with a fresh key."""
    return ReleaseReservationRequest(
        request_id=new_key(), reservation_id=reservation.reservation_id, order_id=reservation.order_id
    )


@dataclass(frozen=True, slots=True)
class Stockroom:
    """Inventory's stub and database."""

    inventory: "InventoryServiceAsyncStub"
    database: Database

    async def stocked(self, pieces: int) -> str:
        """Return a new SKU of which so many pieces came in."""
        sku = new_sku()
        await self.inventory.AdjustStock(AdjustStockRequest(request_id=new_key(), sku=sku, change=pieces))
        return sku

    async def reserved(self, lines: Mapping[str, int]) -> Reservation:
        """Return a new reservation of pieces by SKU."""
        return (await self.inventory.ReserveStock(reserve_request(lines))).reservation

    async def expired(self, lines: Mapping[str, int]) -> Reservation:
        """Return a new reservation whose time has run out."""
        reservation = await self.reserved(lines)
        await self.make_overdue(reservation)
        assert await new_store(self.database).expire_overdue(limit=1) == 1
        return await self.reservation(reservation.reservation_id)

    async def make_overdue(self, *reservations: Reservation) -> None:
        """Set the time of reservations back, so that they ran out a second ago."""
        ids = [reservation.reservation_id for reservation in reservations]
        await self.execute(
            "UPDATE reservations SET expire_time = clock_timestamp() - interval '1 second'"
            " WHERE reservation_id = ANY($1::uuid[])",
            ids,
        )

    async def forget_keys(self) -> None:
        """Delete the keys of all requests, as is done to old ones."""
        await self.execute("DELETE FROM request_keys")

    async def reservation(self, reservation_id: str) -> Reservation:
        """Return a reservation as it stands."""
        request = GetReservationRequest(reservation_id=reservation_id)
        return (await self.inventory.GetReservation(request)).reservation

    async def level(self, sku: str) -> Levels:
        """Return a level as it stands."""
        level = (await self.inventory.GetStock(GetStockRequest(sku=sku))).stock_level
        return level.available, level.reserved, level.sold, level.received

    async def movements(self, sku: str) -> Sequence[tuple[str, int, int, int]]:
        """Return the kind and the changes of a SKU's movements, as the database has them."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT kind, available_change, reserved_change, sold_change FROM stock_movements"
                " WHERE sku = $1 ORDER BY number",
                sku,
            )
        return [tuple(row) for row in rows]

    async def execute(self, statement: str, *values: object) -> None:
        """Change rows behind the service's back."""

        async def work(connection: Connection) -> None:
            await connection.execute(statement, *values)

        await self.database.transaction(work)
