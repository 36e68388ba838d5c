"""Orders and changes of orders for tests of the store, each with ids of its own."""

import datetime as dt
from dataclasses import replace
from typing import Any
from uuid import UUID

from services.checkout.coordinator import Entry, EntryKind
from services.checkout.domain import Customer, Order, OrderState, Placement, Rejection, RejectionReason
from services.checkout.journal import Change
from services.checkout.messages import verdict_of
from services.checkout.saga import Action
from services.checkout.store import FIRST_EPOCH, FIRST_SEQUENCE, OrderStore
from services.common.idempotency import Fingerprints, Keyed
from services.common.values import SystemClock
from tests.fakes.checkout import ADDRESS, EMAIL, TOKEN, new_order
from tests.rpc import new_key, new_uuid

FINGERPRINTS = Fingerprints("a-key-for-tests")
NOW = dt.datetime(2026, 11, 24, 12, 30, 0, 123_456, tzinfo=dt.UTC)
RESERVED = Entry(EntryKind.DONE, Action.RESERVE_STOCK)
SOLD_OUT = Rejection(RejectionReason.OUT_OF_STOCK, {"sku": "MUG"})


def fresh_order(**changes: Any) -> Order:  # noqa: ANN401 - whatever a field takes.
    """Make an order that was never placed, with some fields set otherwise."""
    ids = {"order_id": UUID(new_uuid()), "request_id": new_key(), "quote_id": UUID(new_uuid())}
    return replace(new_order(SystemClock()), **{**ids, **changes})


def request_of(order: Order, **changes: Any) -> Keyed[Placement]:  # noqa: ANN401 - as above.
    """Make the request that an order was placed by, with some fields set otherwise."""
    placement = Placement(order.quote_id, Customer("ada", EMAIL, "de-AT"), TOKEN, ADDRESS, None)
    return FINGERPRINTS.keyed(order.request_id, replace(placement, **changes))


async def place(store: OrderStore, **changes: Any) -> Order:  # noqa: ANN401 - as above.
    """Place an order in a store."""
    order = fresh_order(**changes)
    _, placed = await store.place(request_of(order), order)
    assert placed is not None
    return placed


def change(order: Order, *entries: Entry, **fields: Any) -> Change:  # noqa: ANN401 - as above.
    """Make the first change after an order was placed, with some fields set otherwise."""
    timed = [(entry, NOW) for entry in entries]
    usual: dict[str, Any] = {"epoch": FIRST_EPOCH, "expected_sequence": FIRST_SEQUENCE, "entries": timed}
    return Change(order.order_id, order.request_id, **{**usual, **fields})


def confirmation(order: Order, **fields: Any) -> Change:  # noqa: ANN401 - as above.
    """Make the change that confirms an order, with the answer to its request."""
    verdict = verdict_of(order.confirmed(NOW))
    entry = Entry(EntryKind.CONFIRMED)
    return change(order, RESERVED, entry, state=OrderState.CONFIRMED, verdict=verdict, **fields)


def rejection(order: Order, **fields: Any) -> Change:  # noqa: ANN401 - as above.
    """Make the change that rejects an order, with the answer to its request."""
    verdict = verdict_of(order.rejected(SOLD_OUT, NOW))
    entry = Entry(EntryKind.REJECTED, details={**SOLD_OUT.metadata, "reason": SOLD_OUT.reason.value})
    return change(order, entry, state=OrderState.REJECTED, rejection=SOLD_OUT, verdict=verdict, **fields)
