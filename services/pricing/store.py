"""Where pricing keeps its quotes: the only place with SQL. Quotes expire by the database's clock."""

import dataclasses
import json
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from services.common.database import Connection, Database, columns
from services.common.idempotency import Keyed, Verdict, once_each, replayed
from services.common.values import Address, Clock, Money, new_id
from services.pricing.domain import (
    CreateQuote,
    PricingError,
    Product,
    Quote,
    QuoteIdTakenError,
    QuoteLine,
    price,
    total_of,
)

_CREATE = "CreateQuote"


@dataclasses.dataclass(frozen=True, slots=True)
class _Wanted:
    """A quote to be made, with the lines as priced, or why they cannot be."""

    quote_id: UUID
    fingerprint: bytes
    shipping_address: Address
    lines: tuple[QuoteLine, ...] | PricingError


class PricingStore:
    """Quotes in PostgreSQL."""

    def __init__(self, database: Database, lifetime_seconds: float, clock: Clock, source: random.Random) -> None:
        """Use a database; let quotes live so long; make ids from a clock and a source of randomness."""
        self._database, self._lifetime_seconds = database, lifetime_seconds
        self._clock, self._source = clock, source

    async def replayed(self, request: Keyed[CreateQuote]) -> Verdict | None:
        """Return the verdict of a request that came before, or None for a new one."""
        async with self._database.connection() as connection:
            return await replayed(connection, _CREATE, request)

    async def create(
        self,
        requests: Sequence[Keyed[CreateQuote]],
        products: Mapping[UUID, Product],
        write: Callable[[Quote], Message],
    ) -> Sequence[Verdict]:
        """Make quotes from products as the catalog has them; the verdicts hold the quotes."""
        fingerprints = {request.command: request.fingerprint for request in requests}

        async def effect(connection: Connection, commands: Sequence[CreateQuote]) -> list[Quote | PricingError]:
            wanted = [self._wanted(command, fingerprints[command], products) for command in commands]
            return await _create(connection, wanted, self._lifetime_seconds)

        async def work(connection: Connection) -> Sequence[Verdict]:
            return await once_each(connection, _CREATE, requests, partial(effect, connection), write)

        return await self._database.transaction(work)

    async def quote(self, quote_id: UUID) -> Quote | None:
        """Read a quote, an expired one too, or None where there is none."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_READ, [quote_id])
        return None if row is None else _quote(row)

    def _wanted(self, command: CreateQuote, fingerprint: bytes, products: Mapping[UUID, Product]) -> _Wanted:
        lines: tuple[QuoteLine, ...] | PricingError
        try:
            lines = price(command, products)
        except PricingError as refusal:
            lines = refusal
        quote_id = command.quote_id or new_id(self._clock, self._source)
        return _Wanted(quote_id, fingerprint, command.shipping_address, lines)


async def _create(
    connection: Connection, wanted: Sequence[_Wanted], lifetime_seconds: float
) -> list[Quote | PricingError]:
    """Insert what is new and can be priced, then see for each what stands under its id: its own quote or another's."""
    rows = [_row(item, item.lines) for item in wanted if not isinstance(item.lines, PricingError)]
    if rows:
        await connection.execute(_INSERT, lifetime_seconds, *columns(rows))
    standing = {row["quote_id"]: row for row in await connection.fetch(_READ, [item.quote_id for item in wanted])}
    return [
        item.lines
        if isinstance(item.lines, PricingError) and item.quote_id not in standing
        else _own(item, standing[item.quote_id])
        for item in wanted
    ]


def _own(item: _Wanted, row: Any) -> Quote | QuoteIdTakenError:  # noqa: ANN401 - asyncpg's records have no typed columns.
    return _quote(row) if row["fingerprint"] == item.fingerprint else QuoteIdTakenError(item.quote_id)


def _row(item: _Wanted, lines: tuple[QuoteLine, ...]) -> tuple[UUID, bytes, str, int, str, str]:
    total = total_of(lines)
    address = json.dumps(dataclasses.asdict(item.shipping_address))
    return item.quote_id, item.fingerprint, total.currency, total.minor, _lines_json(lines), address


def _lines_json(lines: Sequence[QuoteLine]) -> str:
    return json.dumps(
        [
            {
                "product_id": str(line.product_id),
                "sku": line.sku,
                "title": line.title,
                "unit_price_minor": line.unit_price.minor,
                "quantity": line.quantity,
            }
            for line in lines
        ]
    )


def _quote(row: Any) -> Quote:  # noqa: ANN401 - as above.
    currency = row["currency"]
    return Quote(
        quote_id=row["quote_id"],
        lines=tuple(_line(line, currency) for line in json.loads(row["lines"])),
        total=Money(currency, row["total_minor"]),
        shipping_address=Address.from_stored(json.loads(row["shipping_address"])),
        create_time=row["create_time"],
        expire_time=row["expire_time"],
    )


def _line(stored: Mapping[str, Any], currency: str) -> QuoteLine:
    return QuoteLine(
        product_id=UUID(stored["product_id"]),
        sku=stored["sku"],
        title=stored["title"],
        unit_price=Money(currency, stored["unit_price_minor"]),
        quantity=stored["quantity"],
    )


_READ = """
    SELECT quote_id, fingerprint, currency, total_minor, lines, shipping_address, create_time, expire_time
    FROM quotes
    WHERE quote_id = ANY($1::uuid[])
"""
_INSERT = """
    INSERT INTO quotes
        (quote_id, fingerprint, currency, total_minor, lines, shipping_address, create_time, expire_time)
    SELECT quote_id, fingerprint, currency, total_minor, lines::jsonb, shipping_address::jsonb,
           statement_timestamp(), statement_timestamp() + make_interval(secs => $1)
    FROM unnest($2::uuid[], $3::bytea[], $4::text[], $5::bigint[], $6::text[], $7::text[])
        AS wanted (quote_id, fingerprint, currency, total_minor, lines, shipping_address)
    ORDER BY quote_id
    ON CONFLICT DO NOTHING
"""
