"""A request_id belongs to one request of one method: sent again it is answered again, otherwise it is refused."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from libretto.checkout.v1 import checkout_service_pb2 as checkout

from tests.integration.bad_input.methods import METHODS, MUTATIONS, READS, call, send
from tests.integration.bad_input.requests import VALID
from tests.integration.bad_input.walks import change, clear
from tests.integration.bad_input.world import World, anything_booked, nothing_booked, until_completed
from tests.rpc import new_uuid, refusal

OTHERWISE: Mapping[str, tuple[str, Callable[[World], Any]]] = {
    "catalog.CreateProduct": ("title", lambda _: "Lantern"),
    "catalog.UpdateProduct": ("title", lambda _: "Candle"),
    "catalog.ArchiveProduct": ("product_id", lambda world: world.product_ids[1]),
    "inventory.AdjustStock": ("change", lambda _: 6),
    "inventory.ReserveStock": ("lines[0].quantity", lambda _: 2),
    "inventory.CommitReservation": ("reservation_id", lambda _: new_uuid()),
    "inventory.ReleaseReservation": ("reservation_id", lambda _: new_uuid()),
    "payment.AuthorizePayment": ("amount.units", lambda _: 13),
    "payment.CapturePayment": ("payment_id", lambda _: new_uuid()),
    "payment.VoidPayment": ("payment_id", lambda _: new_uuid()),
    "pricing.CreateQuote": ("lines[1].quantity", lambda _: 2),
    "checkout.PlaceOrder": ("customer.email", lambda _: "grace@example.com"),
}
"""For each mutation, a field with another value."""

LEFT_OUT = {
    "catalog.CreateProduct": ("product_id", "description"),
    "catalog.UpdateProduct": ("list_price", "description"),
    "inventory.ReserveStock": ("hold_duration", "valid_until"),
    "payment.AuthorizePayment": ("valid_until",),
    "payment.CapturePayment": ("valid_until",),
    "pricing.CreateQuote": ("quote_id",),
    "checkout.PlaceOrder": ("coordination",),
}
"""For mutations with optional fields, those without which it is another request."""


async def accepted(world: World, name: str, request: Message) -> bytes:
    """Make a call that takes effect, wait until all is done that goes on behind its answer, and return that."""
    answer = await send(world.shop, name, request.SerializeToString())
    if name == "checkout.PlaceOrder":
        await until_completed(world.shop, checkout.PlaceOrderResponse.FromString(answer).order.order_id)
    return answer


def test_every_method_was_thought_of() -> None:
    """So a new one cannot be left out; a mutation is one that has a request_id, first of all."""
    assert set(OTHERWISE) == set(MUTATIONS)
    assert {*MUTATIONS, *READS} == set(METHODS)
    assert {METHODS[name].input_type.fields[0].name for name in MUTATIONS} == {"request_id"}


@pytest.mark.parametrize("name", MUTATIONS)
async def test_a_mutation_takes_effect_once_and_its_key_takes_no_other(fresh_world: World, name: str) -> None:
    """A valid request is accepted, and sent again it is answered by the same bytes.

    With another value, or with an optional one left out, it is refused, and the first answer stays.
    """
    request = VALID[name](fresh_world)
    async with anything_booked(fresh_world):
        answer = await accepted(fresh_world, name, request)
    async with nothing_booked(fresh_world):
        assert await send(fresh_world.shop, name, request.SerializeToString()) == answer
        for other in others(fresh_world, name, request):
            found = await refusal(call(fresh_world.shop, name, other))
            assert (found.code, found.reason, found.domain) == (
                grpc.StatusCode.FAILED_PRECONDITION,
                "REQUEST_ID_REUSED",
                "common.libretto",
            )
        assert await send(fresh_world.shop, name, request.SerializeToString()) == answer


def others(world: World, name: str, request: Message) -> Iterator[Message]:
    """Go through other requests with the same key."""
    path, value = OTHERWISE[name]
    other = copied(request)
    change(other, path, value(world))
    yield other
    for path in LEFT_OUT.get(name, ()):
        other = copied(request)
        clear(other, path)
        assert other != request
        yield other


def copied(request: Message) -> Message:
    """Return an equal request."""
    return type(request).FromString(request.SerializeToString())


@pytest.mark.parametrize("name", READS)
async def test_a_read_is_accepted_and_books_nothing(world: World, name: str) -> None:
    """It has no key, and needs none."""
    assert "request_id" not in METHODS[name].input_type.fields_by_name
    async with nothing_booked(world):
        await call(world.shop, name, VALID[name](world))
