"""Where payment keeps its rows: the only place with SQL. Commands take sets, and give each item its own verdict.

Whoever changes payments locks their ids and those of their orders first, as a row that does not exist yet cannot be
locked; then everything is decided in a `Book` and written back. An intent is a payment with a `next_attempt_time`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from google.protobuf.message import Message

from services.common import tracing
from services.common.database import Connection, Database, columns, lock_ids
from services.common.idempotency import Keyed, Undecided, Verdict, once_each, settle, verdict_of
from services.common.values import DomainError, Money, ValidUntilPassedError
from services.payment import domain
from services.payment.book import Book, Command, Decision
from services.payment.domain import (
    Authorization,
    AuthorizePayment,
    CapturePayment,
    DeclineReason,
    Intent,
    Payment,
    PaymentState,
    VoidPayment,
)

C = TypeVar("C", AuthorizePayment, CapturePayment, VoidPayment)

AUTHORIZE, CAPTURE, VOID = "AuthorizePayment", "CapturePayment", "VoidPayment"
"""The names of the methods, to which request_ids belong."""

_BEGAN = {PaymentState.AUTHORIZING: AUTHORIZE, PaymentState.CAPTURING: CAPTURE}
"""Which method began what is undecided in a state."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a set of commands."""

    verdicts: Sequence[Verdict]
    begun: frozenset[UUID]
    """The payments about which there is something new to be settled with the card processor."""


class PaymentStore:
    """Payments in PostgreSQL, whose clock is the only one that counts."""

    def __init__(
        self,
        database: Database,
        write: Mapping[str, Callable[[Payment], Message]],
        *,
        lease_seconds: float,
        authorize_limit_seconds: float,
    ) -> None:
        """Use a database; `write` makes each method's response.

        An intent is left to who began it for `lease_seconds`; an authorisation is asked for at most so long.
        """
        self._database, self._write = database, write
        self._lease_seconds, self._authorize_limit_seconds = lease_seconds, authorize_limit_seconds

    async def authorize(self, requests: Sequence[Keyed[AuthorizePayment]]) -> Asked:
        """Begin to authorise payments."""
        return await self._decide(AUTHORIZE, domain.authorize, requests)

    async def capture(self, requests: Sequence[Keyed[CapturePayment]]) -> Asked:
        """Begin to capture payments."""
        return await self._decide(CAPTURE, domain.capture, requests)

    async def void(self, requests: Sequence[Keyed[VoidPayment]]) -> Asked:
        """Void payments."""
        return await self._decide(VOID, domain.void, requests)

    async def record(self, payment_id: UUID, word: Authorization | None) -> Intent | None:
        """Take the processor's word, as `domain.told` does, and return what is then left to be settled, if anything."""

        async def work(connection: Connection) -> Intent | None:
            book = await _open_book(connection, [payment_id], [])
            book.change(domain.told(book.read[payment_id], word, book.now))
            await self._write_back(connection, book, given_up=word is None)
            return await _intent(connection, payment_id) if book[payment_id].open else None

        return await self._database.transaction(work)

    async def intent(self, payment_id: UUID) -> Intent | None:
        """Read what is to be settled about a payment, if anything, and if it is not stuck."""
        async with self._database.connection() as connection:
            return await _intent(connection, payment_id)

    async def postpone(self, payment_id: UUID, delay_seconds: float) -> None:
        """Count an attempt that the processor gave no word to, and leave the intent alone for a while."""

        async def work(connection: Connection) -> None:
            await connection.execute(_POSTPONE, payment_id, delay_seconds)

        await self._database.transaction(work)

    async def contradicted(self, payment: Payment, delay_seconds: float | None) -> None:
        """Count a word that decided nothing about a payment in its state, and leave the intent alone for a while.

        Without a delay the payment is stuck from now on: open, and attempted no more until a person has looked.
        """

        async def work(connection: Connection) -> None:
            await connection.execute(_CONTRADICTED, payment.payment_id, payment.state.name, delay_seconds)

        await self._database.transaction(work)

    async def claim_due(self, limit: int) -> Mapping[UUID, Mapping[str, str]]:
        """Take at most `limit` intents whose time has come, and keep everybody else from them for the lease.

        Returns, by payment_id, the trace context of what made the payment.
        """

        async def work(connection: Connection) -> Mapping[UUID, Mapping[str, str]]:
            rows = await connection.fetch(_CLAIM_DUE, limit, self._lease_seconds)
            return {row["payment_id"]: json.loads(row["trace_context"]) for row in rows}

        return await self._database.transaction(work)

    async def payment(self, payment_id: UUID) -> Payment | None:
        """Read a payment, or None where there is none."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_READ, payment_id)
        return None if row is None else _payment(row)

    async def payments(self, order_id: UUID | None, after: int, limit: int) -> Sequence[tuple[int, Payment]]:
        """List at most `limit` payments with their numbers, those above `after`, of one order or of all.

        Numbers are given before the commit: a row that is committed late, under a lower number, is not seen by whoever
        has paged past it.
        """
        filters: list[UUID] = [] if order_id is None else [order_id]
        async with self._database.connection() as connection:
            rows = await connection.fetch(_LIST_OF_ORDER if filters else _LIST, after, limit, *filters)
        return [(row["number"], _payment(row)) for row in rows]

    async def _decide(self, method: str, decision: Decision[C], requests: Sequence[Keyed[C]]) -> Asked:
        async def work(connection: Connection) -> Asked:
            begun: set[UUID] = set()

            async def effect(commands: Sequence[C]) -> list[Payment | DomainError | Undecided]:
                ids = [command.payment_id for command in commands]
                book = await _open_book(connection, ids, [command.order_id for command in commands])
                results = [book.decide(decision, command) for command in commands]
                await self._write_back(connection, book)
                if book.turned_away:
                    await connection.execute(_GIVE_BACK_KEYS, method, book.turned_away)
                begun.update(book.begun)
                return [Undecided() if result is None else result for result in results]

            verdicts = await once_each(connection, method, requests, effect, self._write[method])
            return Asked(verdicts, frozenset(begun))

        return await self._database.transaction(work)

    async def _write_back(self, connection: Connection, book: Book, *, given_up: bool = False) -> None:
        """Write what is new and what changed, and the verdicts that waited for it.

        `given_up` says that it was too late to ask for what was begun, and nobody undid it.
        """
        if book.made:
            rows = [_made_row(book[payment_id], command) for payment_id, command in book.made.items()]
            limits = self._authorize_limit_seconds, self._lease_seconds
            trace_context = json.dumps(tracing.current_headers())
            await connection.execute(_MAKE, *columns(rows), *limits, trace_context)
        changed = book.changed
        if changed:
            rows = [_changed_row(before, after) for before, after in changed]
            status = await connection.execute(_CHANGE, *columns(rows), self._lease_seconds)
            if status != f"UPDATE {len(rows)}":
                raise RuntimeError("a payment was changed by someone who did not lock it")
        for before, after in changed:
            if before.begun_by is not None and before.begun_by != after.begun_by:
                method = _BEGAN[before.state]
                outcome = ValidUntilPassedError() if given_up else _outcome(after)
                verdict = verdict_of(outcome, self._write[method])
                await settle(connection, method, {before.begun_by: verdict})


async def _open_book(connection: Connection, payment_ids: Sequence[UUID], order_ids: Sequence[UUID]) -> Book:
    """Lock payments and orders by their ids, and then read the payments and the time."""
    await lock_ids(connection, [*payment_ids, *order_ids])
    rows = await connection.fetch(_READ_LOCKED, list(payment_ids), list(order_ids))
    return Book(rows[0]["now"], [_payment(row) for row in rows if row["payment_id"] is not None])


async def _intent(connection: Connection, payment_id: UUID) -> Intent | None:
    row = await connection.fetchrow(_READ_INTENT, payment_id)
    return None if row is None else Intent(_payment(row), row["attempts"], row["contradictions"], row["valid_token"])


def _outcome(payment: Payment) -> Payment | DomainError:
    """What an authorisation or a capture came to."""
    try:
        return domain.standing(payment)
    except DomainError as refusal:
        return refusal


def _made_row(payment: Payment, command: Command) -> tuple[Any, ...]:
    asked = command if isinstance(command, AuthorizePayment) and payment.open else None
    return (
        payment.payment_id,
        payment.order_id,
        payment.state.name,
        payment.amount and payment.amount.currency,
        payment.amount and payment.amount.minor,
        payment.create_time,
        payment.begun_by,
        asked and asked.token,
        asked and asked.valid_until,
    )


def _changed_row(before: Payment, after: Payment) -> tuple[Any, ...]:
    return (
        after.payment_id,
        before.state.name,
        after.state.name,
        after.captured_amount.minor if after.captured_amount else 0,
        after.decline_reason and after.decline_reason.name,
        after.update_time,
        after.hold_open,
        after.begun_by,
        after.open,
    )


def _payment(row: asyncpg.Record) -> Payment:
    currency, reason = row["currency"], row["decline_reason"]
    return Payment(
        payment_id=row["payment_id"],
        order_id=row["order_id"],
        state=PaymentState[row["state"]],
        amount=None if currency is None else Money(currency, row["amount_minor"]),
        create_time=row["create_time"],
        update_time=row["update_time"],
        decline_reason=None if reason is None else DeclineReason[reason],
        hold_open=row["hold_open"],
        begun_by=row["begun_by"],
    )


_READ_LOCKED = """
SELECT clock.now, p.*
FROM (SELECT clock_timestamp() AS now) AS clock
LEFT JOIN payments AS p ON p.payment_id = ANY($1::uuid[]) OR p.order_id = ANY($2::uuid[])
"""
"""Gives at least one row, as the time is wanted where there is no payment too."""

_READ_INTENT = """
SELECT *, CASE WHEN authorize_until >= clock_timestamp() THEN token END AS valid_token
FROM payments
WHERE payment_id = $1 AND next_attempt_time IS NOT NULL
"""

_READ = "SELECT * FROM payments WHERE payment_id = $1"

_LIST = "SELECT * FROM payments WHERE number > $1 ORDER BY number LIMIT $2"

_LIST_OF_ORDER = "SELECT * FROM payments WHERE number > $1 AND order_id = $3 ORDER BY number LIMIT $2"

_MAKE = """
INSERT INTO payments (
    payment_id, order_id, state, currency, amount_minor, create_time, update_time, hold_open, begun_by, token,
    authorize_until, next_attempt_time, trace_context
)
SELECT
    v.payment_id, v.order_id, v.state, v.currency, v.amount_minor, v.create_time, v.create_time, false, v.begun_by,
    v.token,
    CASE WHEN v.begun_by IS NOT NULL THEN least(v.valid_until, v.create_time + make_interval(secs => $10)) END,
    CASE WHEN v.begun_by IS NOT NULL THEN v.create_time + make_interval(secs => $11) END,
    $12::jsonb
FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[], $7::text[], $8::text[],
    $9::timestamptz[]
) AS v (payment_id, order_id, state, currency, amount_minor, create_time, begun_by, token, valid_until)
"""

_CHANGE = """
UPDATE payments AS p
SET state = v.state,
    captured_minor = v.captured_minor,
    decline_reason = v.decline_reason,
    update_time = v.update_time,
    hold_open = v.hold_open,
    begun_by = v.begun_by,
    token = CASE WHEN v.state = 'AUTHORIZING' THEN p.token END,
    attempts = 0,
    contradictions = 0,
    stuck = false,
    next_attempt_time = CASE WHEN v.open THEN v.update_time + make_interval(secs => $10) END
FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::timestamptz[], $7::boolean[], $8::text[],
    $9::boolean[]
) AS v (
    payment_id, former_state, state, captured_minor, decline_reason, update_time, hold_open, begun_by, open
)
WHERE p.payment_id = ANY($1::uuid[]) AND p.payment_id = v.payment_id AND p.state = v.former_state
"""
"""Capture and void exclude each other here: the state that a change was decided on must still be there.

The ids stand in it twice: a plan that was made while the table was small then still uses the key.
"""

_GIVE_BACK_KEYS = """
DELETE FROM request_keys
WHERE method = $1 AND request_id = ANY($2::text[]) AND answer IS NULL AND refusal IS NULL
"""
"""Forgets keys whose requests began nothing, as something else has to be decided first: they may be sent again."""

_POSTPONE = """
UPDATE payments
SET attempts = attempts + 1, next_attempt_time = clock_timestamp() + make_interval(secs => $2)
WHERE payment_id = $1 AND next_attempt_time IS NOT NULL
"""

_CONTRADICTED = """
UPDATE payments
SET contradictions = contradictions + 1,
    stuck = $3::float8 IS NULL,
    next_attempt_time = clock_timestamp() + make_interval(secs => $3)
WHERE payment_id = $1 AND state = $2 AND next_attempt_time IS NOT NULL
"""
"""What someone else has changed meanwhile is not stuck; an interval of NULL seconds is NULL."""

_CLAIM_DUE = """
UPDATE payments
SET next_attempt_time = now() + make_interval(secs => $2)
WHERE payment_id = ANY (
    ARRAY(
        SELECT payment_id FROM payments
        WHERE next_attempt_time <= now()
        ORDER BY next_attempt_time LIMIT $1
        FOR UPDATE SKIP LOCKED
    )
)
RETURNING payment_id, trace_context
"""
"""Takes what nobody else is at work on, and so waits for nobody. (`now()` can be looked up in the index.)"""
