"""Every required field of every request is missed by its path, and nothing is booked without it."""

import grpc
import pytest

from tests.integration.bad_input.methods import METHODS, call
from tests.integration.bad_input.requests import VALID
from tests.integration.bad_input.walks import clear, is_set, required_paths
from tests.integration.bad_input.world import World, nothing_booked
from tests.rpc import refusal

CASES = [(name, path) for name, method in METHODS.items() for path in required_paths(method.input_type)]


def test_every_method_has_a_valid_request() -> None:
    """So a new one cannot be left out of the walks."""
    assert set(VALID) == set(METHODS)


def test_the_walk_goes_into_nested_messages_and_lists() -> None:
    """A walk that found nothing would prove nothing."""
    assert len(CASES) > 60
    assert {
        ("pricing.CreateQuote", "lines[1].product_id"),
        ("pricing.CreateQuote", "shipping_address.address_lines"),
        ("inventory.ReserveStock", "lines[1].quantity"),
        ("payment.AuthorizePayment", "amount.currency_code"),
        ("catalog.UpdateProduct", "list_price.currency_code"),
        ("checkout.PlaceOrder", "customer.email"),
    } <= set(CASES)


@pytest.mark.parametrize("name", METHODS)
async def test_valid_requests_have_all_that_is_required(world: World, name: str) -> None:
    """So that what the tests below take away was there."""
    request, kind = VALID[name](world), METHODS[name].input_type
    assert request.DESCRIPTOR.full_name == kind.full_name
    assert [path for path in required_paths(kind) if not is_set(request, path)] == []


@pytest.mark.parametrize(("name", "path"), CASES)
async def test_a_missing_field_is_named_by_its_path(world: World, name: str, path: str) -> None:
    """The only thing that is wrong, it is the only thing that is told."""
    request = VALID[name](world)
    clear(request, path)
    async with nothing_booked(world):
        found = await refusal(call(world.shop, name, request))
    assert (found.code, found.reason, found.domain) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FIELD_REQUIRED",
        "common.libretto",
    )
    assert found.fields == ((path, "FIELD_REQUIRED"),)


@pytest.mark.parametrize("name", METHODS)
async def test_an_empty_request_misses_all_that_it_lacks_at_once(world: World, name: str) -> None:
    """In the order of the contract; one that needs nothing is answered."""
    request = type(VALID[name](world))()
    missing = tuple((path, "FIELD_REQUIRED") for path in required_paths(METHODS[name].input_type) if "." not in path)
    async with nothing_booked(world):
        if missing:
            assert (await refusal(call(world.shop, name, request))).fields == missing
        else:
            await call(world.shop, name, request)


@pytest.mark.parametrize(
    ("name", "field"), [("catalog.BatchGetProducts", "product_ids"), ("inventory.BatchGetStock", "skus")]
)
async def test_an_empty_item_of_a_list_is_missed_by_its_place(world: World, name: str, field: str) -> None:
    """It fails the call: a batch is not begun."""
    request = VALID[name](world)
    getattr(request, field)[1] = ""
    found = await refusal(call(world.shop, name, request))
    assert found.fields == ((f"{field}[1]", "FIELD_REQUIRED"),)
