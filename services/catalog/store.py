"""Where the catalog keeps its rows: the only place with SQL. Mutations take sets and give each item a verdict."""

import datetime as dt
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from services.catalog import domain
from services.catalog.domain import (
    ArchiveProduct,
    CreateProduct,
    Product,
    ProductIdTakenError,
    ProductState,
    SkuTakenError,
    UpdateProduct,
)
from services.common.database import Connection, Database, columns
from services.common.idempotency import Keyed, Verdict, once_each
from services.common.values import Clock, DomainError, Money, new_id

C = TypeVar("C", UpdateProduct, ArchiveProduct)
Write = Callable[[Product], Message]

TitlePosition = tuple[str, UUID]
"""Where a page of a list begins: after this title and id."""
RankPosition = tuple[float, UUID]
"""Where a page of what was found begins: after this rank, of which less is better, and id."""

LIST_START: TitlePosition = ("", UUID(int=0))
SEARCH_START: RankPosition = (-math.inf, UUID(int=0))


@dataclass(frozen=True, slots=True)
class Found:
    """A product that a query found, with its rank."""

    rank: float
    product: Product


class CatalogStore:
    """Products in PostgreSQL."""

    def __init__(self, database: Database, clock: Clock, source: random.Random) -> None:
        """Use a database; make ids from a clock and a source of randomness."""
        self._database, self._clock, self._source = database, clock, source

    async def create(self, requests: Sequence[Keyed[CreateProduct]], write: Write) -> Sequence[Verdict]:
        """Create products; the verdicts hold them."""
        fingerprints = {request.command: request.fingerprint for request in requests}

        async def effect(
            connection: Connection, commands: Sequence[CreateProduct]
        ) -> list[Product | ProductIdTakenError | SkuTakenError]:
            wanted = [(self._id_of(command), fingerprints[command], command) for command in commands]
            return await _create(connection, wanted)

        async def work(connection: Connection) -> Sequence[Verdict]:
            return await once_each(connection, "CreateProduct", requests, partial(effect, connection), write)

        return await self._database.transaction(work)

    async def update(self, requests: Sequence[Keyed[UpdateProduct]], write: Write) -> Sequence[Verdict]:
        """Update products; the verdicts hold them."""
        return await self._change("UpdateProduct", domain.update, requests, write)

    async def archive(self, requests: Sequence[Keyed[ArchiveProduct]], write: Write) -> Sequence[Verdict]:
        """Archive products; the verdicts hold them."""
        return await self._change("ArchiveProduct", domain.archive, requests, write)

    async def products(self, product_ids: Sequence[UUID]) -> dict[UUID, Product]:
        """Read those of some products that exist, by id."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_READ, list(set(product_ids)))
        return {row["product_id"]: _product(row) for row in rows}

    async def list_active(self, category: str, after: TitlePosition, limit: int) -> list[Product]:
        """Read active products in order of title and id, of one category or, where that is empty, of all."""
        async with self._database.connection() as connection:
            if category:
                rows = await connection.fetch(_LIST_CATEGORY, *after, limit, category)
            else:
                rows = await connection.fetch(_LIST_ALL, *after, limit)
        return [_product(row) for row in rows]

    async def search(self, query: str, after: RankPosition, limit: int) -> list[Found]:
        """Read active products that hold every word of a query, the last one perhaps only begun, best first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_SEARCH, *after, limit, query)
        return [Found(row["rank"], _product(row)) for row in rows]

    def _id_of(self, command: CreateProduct) -> UUID:
        return command.product_id or new_id(self._clock, self._source)

    async def _change(
        self,
        method: str,
        decide: Callable[[Product | None, C, dt.datetime], Product],
        requests: Sequence[Keyed[C]],
        write: Write,
    ) -> Sequence[Verdict]:
        async def work(connection: Connection) -> Sequence[Verdict]:
            return await once_each(connection, method, requests, partial(_change, connection, decide), write)

        return await self._database.transaction(work)


async def _create(
    connection: Connection, wanted: Sequence[tuple[UUID, bytes, CreateProduct]]
) -> list[Product | ProductIdTakenError | SkuTakenError]:
    """Insert what is new, then see for each what stands under its id: its own product, another's, or none."""
    rows = [
        (
            product_id,
            fingerprint,
            command.sku,
            command.title,
            command.description,
            command.category,
            command.list_price.currency,
            command.list_price.minor,
        )
        for product_id, fingerprint, command in wanted
    ]
    await connection.execute(_INSERT, *columns(rows))
    standing = {row["product_id"]: row for row in await connection.fetch(_READ, [row[0] for row in rows])}
    results: list[Product | ProductIdTakenError | SkuTakenError] = []
    for product_id, fingerprint, command in wanted:
        row = standing.get(product_id)
        if row is None:
            results.append(SkuTakenError(command.sku))
        elif row["fingerprint"] != fingerprint:
            results.append(ProductIdTakenError(product_id))
        else:
            results.append(_product(row))
    return results


async def _change(
    connection: Connection, decide: Callable[[Product | None, C, dt.datetime], Product], commands: Sequence[C]
) -> list[Product | DomainError]:
    """Lock the products, decide item after item, and write back what has changed in the end."""
    rows = await connection.fetch(_LOCK, [command.product_id for command in commands])
    now = await connection.fetchval("SELECT statement_timestamp()")
    found = {row["product_id"]: _product(row) for row in rows}
    present = dict(found)
    results: list[Product | DomainError] = []
    for command in commands:
        try:
            product = decide(present.get(command.product_id), command, now)
        except DomainError as refusal:
            results.append(refusal)
        else:
            present[command.product_id] = product
            results.append(product)
    await _write_back(connection, [product for key, product in present.items() if product != found[key]])
    return results


async def _write_back(connection: Connection, changed: Sequence[Product]) -> None:
    if not changed:
        return
    rows = [
        (
            product.product_id,
            product.title,
            product.description,
            product.category,
            product.list_price.currency,
            product.list_price.minor,
            product.state.value,
            product.version,
            product.update_time,
        )
        for product in changed
    ]
    await connection.execute(_UPDATE, *columns(rows))


def _product(row: Any) -> Product:  # noqa: ANN401 - asyncpg's records have no typed columns.
    return Product(
        product_id=row["product_id"],
        sku=row["sku"],
        title=row["title"],
        description=row["description"],
        category=row["category"],
        list_price=Money(row["price_currency"], row["price_minor"]),
        state=ProductState(row["state"]),
        version=row["version"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )


_PRODUCTS = """
    SELECT product_id, fingerprint, sku, title, description, category, price_currency, price_minor, state, version,
           create_time, update_time
    FROM products
"""
_READ = _PRODUCTS + "WHERE product_id = ANY($1::uuid[])"
_LOCK = _PRODUCTS + "WHERE product_id = ANY($1::uuid[]) ORDER BY product_id FOR UPDATE"
_LIST_ALL = (
    _PRODUCTS
    + """
    WHERE state = 'ACTIVE' AND (title, product_id) > ($1, $2)
    ORDER BY title, product_id LIMIT $3
"""
)
_LIST_CATEGORY = (
    _PRODUCTS
    + """
    WHERE state = 'ACTIVE' AND category = $4 AND (title, product_id) > ($1, $2)
    ORDER BY title, product_id LIMIT $3
"""
)

# plainto_tsquery joins all words of the query by AND; its last one then gets the mark of a prefix. A query without any
# word becomes NULL, which finds nothing.
_SEARCH = """
    WITH asked AS MATERIALIZED (
        SELECT (nullif(plainto_tsquery('simple', searchable_text($4))::text, '') || ':*')::tsquery AS query
    ), found AS (
        SELECT products.*, -ts_rank(words, query)::float8 AS rank
        FROM products, asked
        WHERE state = 'ACTIVE' AND words @@ query
    )
    SELECT product_id, sku, title, description, category, price_currency, price_minor, state, version,
           create_time, update_time, rank
    FROM found
    WHERE (rank, product_id) > ($1, $2)
    ORDER BY rank, product_id LIMIT $3
"""
_INSERT = """
    INSERT INTO products
        (product_id, fingerprint, sku, title, description, category, price_currency, price_minor)
    SELECT *
    FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[])
        AS wanted (product_id, fingerprint, sku, title, description, category, price_currency, price_minor)
    ORDER BY sku
    ON CONFLICT DO NOTHING
"""
_UPDATE = """
    UPDATE products
    SET title = new.title, description = new.description, category = new.category,
        price_currency = new.price_currency, price_minor = new.price_minor,
        state = new.state, version = new.version, update_time = new.update_time
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::bigint[],
                $9::timestamptz[])
        AS new (product_id, title, description, category, price_currency, price_minor, state, version, update_time)
    WHERE products.product_id = new.product_id
"""
