"""Orders and their journal in PostgreSQL."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from google.protobuf.message import Message

from services.checkout.coordinator import Entry, EntryKind
from services.checkout.domain import (
    CheckoutError,
    Coordination,
    Customer,
    Order,
    OrderLine,
    OrderNotFoundError,
    OrderState,
    Placement,
    QuoteAlreadyUsedError,
    Rejection,
    RejectionReason,
)
from services.checkout.journal import Change
from services.checkout.saga import Action
from services.common import idempotency
from services.common.database import Connection, Database, DatabaseUnavailableError, columns
from services.common.idempotency import Answered, Keyed, Refused, Undecided, Verdict
from services.common.values import Address, DomainError, Money

METHOD: Final = "PlaceOrder"
FIRST_EPOCH: Final = 1
FIRST_SEQUENCE: Final = 1
_INSERT_TRIES: Final = 3
"""A quote that has a live order may lose it, by a rejection, between the look at the one and the other."""


class OrderStore:
    """What checkout keeps."""

    def __init__(self, database: Database) -> None:
        """Keep it in a database that is migrated."""
        self._database = database

    async def replayed(self, request: Keyed[Placement]) -> Verdict | None:
        """Return the verdict that a request got before, or None where its key is new."""
        async with self._database.connection() as connection:
            return await idempotency.replayed(connection, METHOD, request)

    async def place(self, request: Keyed[Placement], decision: Order | CheckoutError) -> tuple[Verdict, Order | None]:
        """Keep an order, or the refusal of one, under the request's key, unless the key has a verdict already.

        Returns the verdict or, where there is none yet, Undecided and the order that the key has: the one given, or
        one that was placed before. May be repeated when it is unknown whether it was done.
        """

        async def effect(connection: Connection, _: Sequence[Placement]) -> Sequence[DomainError | Undecided]:
            if isinstance(decision, CheckoutError):
                return [decision]
            for _try in range(_INSERT_TRIES):
                order = await _insert(connection, decision)
                if order is not None:
                    return [Undecided()]
                live_id = await _order_of_quote(connection, decision.quote_id)
                if live_id is not None:
                    return [QuoteAlreadyUsedError(live_id)]
            raise DatabaseUnavailableError("The quote's orders change too fast.")

        async def work(connection: Connection) -> tuple[Verdict, Order | None]:
            (verdict,) = await idempotency.once_each(
                connection, METHOD, [request], lambda commands: effect(connection, commands), _no_response
            )
            undecided = isinstance(verdict, Undecided)
            return verdict, await _order_of_request(connection, request.request_id) if undecided else None

        return await self._database.transaction(work)

    async def get(self, order_id: UUID) -> Order:
        """Read an order. Raises OrderNotFoundError."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow("SELECT * FROM orders WHERE order_id = $1", order_id)
        if row is None:
            raise OrderNotFoundError(order_id)
        return _order(row)

    async def get_by_request(self, request_id: str) -> Order:
        """Read the order that a request placed. A key without a verdict has one: both came in one transaction."""
        async with self._database.connection() as connection:
            return await _order_of_request(connection, request_id)

    async def list_orders(
        self, after: UUID | None, customer_id: str | None, state: OrderState | None, limit: int
    ) -> Sequence[Order]:
        """Read at most `limit` orders, newest first, from after one of them, of one customer, one state, or all."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT * FROM orders
                WHERE ($1::text IS NULL OR customer_id = $1) AND ($2::text IS NULL OR state = $2)
                AND ($3::uuid IS NULL OR (create_time, order_id) <
                    (SELECT o.create_time, o.order_id FROM orders AS o WHERE o.order_id = $3))
                ORDER BY create_time DESC, order_id DESC LIMIT $4
                """,
                customer_id,
                None if state is None else state.value,
                after,
                limit,
            )
        return [_order(row) for row in rows]

    async def append(self, changes: Sequence[Change]) -> set[UUID]:
        """Write a group of changes in one statement: rows locked in order of id, each order whole or not at all.

        What an earlier try of the same group wrote is found in the journal, where its last entry has its epoch, and
        counts as written, also when somebody else owns the order since.
        """
        if not changes:
            return set()
        async with self._database.connection() as connection:
            rows = await connection.fetch(_APPEND, *_change_columns(changes), *_entry_columns(changes), METHOD)
            written = {row["order_id"] for row in rows}
            missing = [change for change in changes if change.order_id not in written]
            if missing:
                rows = await connection.fetch(
                    """
                    SELECT order_id FROM journal
                    JOIN unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS c (order_id, epoch, sequence)
                    USING (order_id, epoch, sequence)
                    """,
                    [change.order_id for change in missing],
                    [change.epoch for change in missing],
                    [change.last_sequence for change in missing],
                )
                written |= {row["order_id"] for row in rows}
        return written

    async def journal(self, order_id: UUID) -> list[tuple[int, int, Entry]]:
        """Read an order's story: sequence, epoch and entry, in order."""
        async with self._database.connection() as connection:
            rows = await connection.fetch("SELECT * FROM journal WHERE order_id = $1 ORDER BY sequence", order_id)
        return [(row["sequence"], row["epoch"], _entry(row)) for row in rows]


_APPEND: Final = """
WITH change AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::jsonb[], $7::jsonb[], $8::timestamptz[],
        $9::text[], $10::bytea[], $11::bytea[], $12::boolean[]
    ) AS c (
        order_id, epoch, expected_sequence, last_sequence, state, rejection, attention, update_time,
        request_id, answer, refusal, finished
    )
), locked AS (
    SELECT o.order_id FROM orders AS o JOIN change AS c USING (order_id)
    WHERE o.order_id = ANY($1::uuid[]) AND o.epoch = c.epoch AND o.last_sequence = c.expected_sequence
    ORDER BY o.order_id FOR UPDATE OF o
), updated AS (
    UPDATE orders AS o SET
        last_sequence = c.last_sequence,
        state = coalesce(c.state, o.state),
        rejection = coalesce(c.rejection, o.rejection),
        attention = CASE WHEN NOT c.finished THEN coalesce(c.attention, o.attention) END,
        payment_method_token = CASE WHEN c.state IS NULL THEN o.payment_method_token END,
        update_time = CASE WHEN num_nonnulls(c.state, c.attention) = 0 THEN o.update_time ELSE c.update_time END
    FROM change AS c
    WHERE o.order_id = ANY($1::uuid[])
    AND o.order_id = c.order_id AND o.epoch = c.epoch AND o.last_sequence = c.expected_sequence
    AND o.order_id IN (SELECT order_id FROM locked)
    RETURNING o.order_id
), written AS (
    INSERT INTO journal (order_id, sequence, epoch, kind, action, details, create_time)
    SELECT e.order_id, e.sequence, e.epoch, e.kind, e.action, e.details, e.create_time
    FROM unnest(
        $13::uuid[], $14::bigint[], $15::bigint[], $16::text[], $17::text[], $18::jsonb[], $19::timestamptz[]
    ) AS e (order_id, sequence, epoch, kind, action, details, create_time)
    JOIN updated USING (order_id)
), answered AS (
    UPDATE request_keys AS k SET answer = c.answer, refusal = c.refusal
    FROM change AS c JOIN updated USING (order_id)
    WHERE k.method = $20 AND k.request_id = ANY($9::text[]) AND k.request_id = c.request_id
    AND (c.answer IS NOT NULL OR c.refusal IS NOT NULL)
)
SELECT order_id FROM updated
"""
"""The ids stand in it once more than the join needs: a plan made while the table was small then still uses the key."""


def _change_columns(changes: Sequence[Change]) -> list[list[Any]]:
    rows = [
        (
            change.order_id,
            change.epoch,
            change.expected_sequence,
            change.last_sequence,
            None if change.state is None else change.state.value,
            None if change.rejection is None else json.dumps(asdict(change.rejection)),
            None if change.attention is None else json.dumps(dict(change.attention)),
            change.entries[-1][1],
            change.request_id,
            change.verdict.response if isinstance(change.verdict, Answered) else None,
            change.verdict.status if isinstance(change.verdict, Refused) else None,
            change.finished,
        )
        for change in changes
    ]
    return columns(rows)


def _entry_columns(changes: Sequence[Change]) -> list[list[Any]]:
    rows = [
        (
            change.order_id,
            change.expected_sequence + place,
            change.epoch,
            entry.kind.value,
            entry.action,
            json.dumps(dict(entry.details)),
            time,
        )
        for change in changes
        for place, (entry, time) in enumerate(change.entries, 1)
    ]
    return columns(rows)


async def _insert(connection: Connection, order: Order) -> Order | None:
    """Insert an order with the first entry of its journal; None when its quote has a live order."""
    row = await connection.fetchrow(
        """
        WITH placed AS (
            INSERT INTO orders (
                order_id, request_id, quote_id, state, customer_id, customer_email, customer_locale, shipping_address,
                lines, total_currency, total_minor, coordination, saga_version, trace_context, decide_by,
                payment_method_token, epoch, last_sequence, create_time, update_time
            )
            VALUES ($1, $2, $3, 'PROCESSING', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $20, $14, $15, $16, $17, $17)
            ON CONFLICT (quote_id) WHERE state <> 'REJECTED' DO NOTHING
            RETURNING *
        ), noted AS (
            INSERT INTO journal (order_id, sequence, epoch, kind, details, create_time)
            SELECT order_id, last_sequence, epoch, $18, $19, create_time FROM placed
        )
        SELECT * FROM placed
        """,
        order.order_id,
        order.request_id,
        order.quote_id,
        order.customer.customer_id,
        order.customer.email,
        order.customer.locale,
        json.dumps(asdict(order.shipping_address)),
        json.dumps([_line_json(line) for line in order.lines]),
        order.total.currency,
        order.total.minor,
        order.coordination.value,
        order.saga_version,
        json.dumps(dict(order.trace_context)),
        order.payment_method_token,
        FIRST_EPOCH,
        FIRST_SEQUENCE,
        order.create_time,
        EntryKind.PLACED.value,
        json.dumps({"coordination": order.coordination.value, "saga_version": str(order.saga_version)}),
        order.decide_by,
    )
    return None if row is None else _order(row)


async def _order_of_request(connection: Connection, request_id: str) -> Order:
    row = await connection.fetchrow("SELECT * FROM orders WHERE request_id = $1", request_id)
    if row is None:
        raise LookupError("no order was placed by this request")
    return _order(row)


async def _order_of_quote(connection: Connection, quote_id: UUID) -> UUID | None:
    order_id: UUID | None = await connection.fetchval(
        "SELECT order_id FROM orders WHERE quote_id = $1 AND state <> 'REJECTED'", quote_id
    )
    return order_id


def _no_response(_: object) -> Message:
    raise AssertionError("placing an order has no answer before its outcome")


def _order(row: Record) -> Order:
    rejection = None if row["rejection"] is None else json.loads(row["rejection"])
    return Order(
        order_id=row["order_id"],
        request_id=row["request_id"],
        quote_id=row["quote_id"],
        customer=Customer(row["customer_id"], row["customer_email"], row["customer_locale"]),
        shipping_address=Address.from_stored(json.loads(row["shipping_address"])),
        lines=tuple(_line(line) for line in json.loads(row["lines"])),
        total=Money(row["total_currency"], row["total_minor"]),
        coordination=Coordination(row["coordination"]),
        saga_version=row["saga_version"],
        trace_context=json.loads(row["trace_context"]),
        decide_by=row["decide_by"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        payment_method_token=row["payment_method_token"],
        state=OrderState(row["state"]),
        rejection=None if rejection is None else Rejection(RejectionReason(rejection["reason"]), rejection["metadata"]),
        needs_attention=row["attention"] is not None,
    )


def _line_json(line: OrderLine) -> dict[str, Any]:
    return asdict(line) | {"product_id": str(line.product_id)}


def _line(value: dict[str, Any]) -> OrderLine:
    money = {name: Money(**value[name]) for name in ("unit_price", "line_total")}
    return OrderLine(**(value | money | {"product_id": UUID(value["product_id"])}))


def _entry(row: Record) -> Entry:
    return Entry(EntryKind(row["kind"]), row["action"] and Action(row["action"]), json.loads(row["details"]))
