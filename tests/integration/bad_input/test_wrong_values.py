"""Fields with values outside their limits, for every method: each refused by path and reason, and nothing booked."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money

from tests.integration.bad_input.methods import METHODS, call
from tests.integration.bad_input.requests import VALID
from tests.integration.bad_input.walks import change, leaves
from tests.integration.bad_input.world import World, nothing_booked
from tests.rpc import refusal

INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN = 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)
OUT_OF_RANGE, INVALID, UNKNOWN = "FIELD_OUT_OF_RANGE", "FIELD_INVALID", "CURRENCY_UNKNOWN"
OF_WRONG_VALUES = {"FIELD_REQUIRED", INVALID, OUT_OF_RANGE, UNKNOWN, "PAGE_TOKEN_INVALID"}
QUANTITIES = [
    ("pricing.CreateQuote", "lines[0].quantity", 1_000),
    ("inventory.ReserveStock", "lines[1].quantity", 1_000),
    ("inventory.AdjustStock", "change", 1_000_000),
]
"""Method, path, and the largest quantity that is allowed."""
AMOUNTS = [
    ("catalog.CreateProduct", "list_price"),
    ("catalog.UpdateProduct", "list_price"),
    ("payment.AuthorizePayment", "amount"),
]
WRONG_AMOUNTS = [
    (Money(currency_code="EUR", units=-1), "", OUT_OF_RANGE),
    (Money(currency_code="EUR", nanos=-10_000_000), "", OUT_OF_RANGE),
    (Money(currency_code="EUR", units=10_000_000_000), "", OUT_OF_RANGE),
    (Money(currency_code="EUR", units=INT64_MAX), "", OUT_OF_RANGE),
    (Money(currency_code="EUR", units=1, nanos=1), ".nanos", INVALID),
    (Money(currency_code="JPY", units=1, nanos=500_000_000), ".nanos", INVALID),
    (Money(currency_code="ZZZ", units=1), ".currency_code", UNKNOWN),
    (Money(currency_code="eur", units=1), ".currency_code", UNKNOWN),
    (Money(currency_code="XAU", units=1), ".currency_code", UNKNOWN),
]
"""An amount, and the path, below its own, and the reason by which it is refused."""
LISTS = [
    ("catalog.BatchGetProducts", "product_ids"),
    ("inventory.BatchGetStock", "skus"),
    ("inventory.ReserveStock", "lines"),
    ("pricing.CreateQuote", "lines"),
]
"""Method and the list that holds at most 64 items."""
UNIQUE = [("inventory.ReserveStock", "lines", "sku"), ("pricing.CreateQuote", "lines", "product_id")]
TIMES = ["inventory.ReserveStock", "payment.AuthorizePayment", "payment.CapturePayment"]


async def refuses(world: World, name: str, request: Message, *wrong: tuple[str, str]) -> None:
    """Prove that a request is refused for these fields, and that nothing is booked."""
    async with nothing_booked(world):
        found = await refusal(call(world.shop, name, request))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, wrong[0][1])
    assert found.fields == wrong


def changed(world: World, name: str, path: str, value: Any) -> Message:  # noqa: ANN401 - each field has a type of its own.
    """Return a valid request with another value in one field."""
    request = VALID[name](world)
    change(request, path, value)
    return request


def absurd(path: str, field: FieldDescriptor) -> Iterator[Any]:
    """Go through values that no field of this type may take."""
    if field.type == field.TYPE_STRING:
        yield from ("x" * 5_000, "a\0b")
        if field.name.endswith(("_id", "_ids")):
            yield from ("no id at all!", "§", "x" * 65)
    elif field.type == field.TYPE_ENUM:
        yield from (99, -1, INT32_MAX)
    elif field.type == field.TYPE_INT32:
        yield INT32_MIN
        if not path.endswith("page_size"):  # Whose largest values mean the largest page.
            yield INT32_MAX
    else:
        assert field.type == field.TYPE_INT64, path
        yield from (INT64_MAX, INT64_MIN)


@pytest.mark.parametrize("name", METHODS)
async def test_no_field_takes_an_absurd_value(world: World, name: str) -> None:
    """Every text has a length, every number limits, every enum its values: none reaches the domain or the database."""
    async with nothing_booked(world):
        for path, field in leaves(VALID[name](world)):
            for value in absurd(path, field):
                found = await refusal(call(world.shop, name, changed(world, name, path, value)))
                assert found.code is grpc.StatusCode.INVALID_ARGUMENT, (path, value)
                (wrong,) = found.fields
                assert path == wrong[0] or path.startswith(f"{wrong[0]}."), (path, value)
                assert wrong[1] == found.reason, (path, value)
                assert found.reason in OF_WRONG_VALUES, (path, value)


@pytest.mark.parametrize(("name", "path", "limit"), QUANTITIES)
async def test_a_quantity_that_is_missing_negative_or_huge_is_refused(
    world: World, name: str, path: str, limit: int
) -> None:
    """Zero is missing; one more than the limit is too much."""
    await refuses(world, name, changed(world, name, path, 0), (path, "FIELD_REQUIRED"))
    for quantity in (-limit - 1, limit + 1, INT32_MAX, INT32_MIN):
        await refuses(world, name, changed(world, name, path, quantity), (path, OUT_OF_RANGE))


@pytest.mark.parametrize("name", ["pricing.CreateQuote", "inventory.ReserveStock"])
async def test_a_negative_quantity_of_an_order_is_refused(world: World, name: str) -> None:
    """Only an adjustment may take pieces away."""
    request = changed(world, name, "lines[1].quantity", -1)
    await refuses(world, name, request, ("lines[1].quantity", OUT_OF_RANGE))


@pytest.mark.parametrize(("name", "path"), AMOUNTS)
async def test_an_amount_that_is_negative_huge_too_fine_or_of_no_currency_is_refused(
    world: World, name: str, path: str
) -> None:
    """By the amount's own path, or that of its part."""
    async with nothing_booked(world):
        for amount, inner, reason in WRONG_AMOUNTS:
            found = await refusal(call(world.shop, name, changed(world, name, path, amount)))
            assert found.fields == ((f"{path}{inner}", reason),), amount


@pytest.mark.parametrize("code", ["ZZZ", "eur", "XXX"])
async def test_a_quote_in_an_unknown_currency_is_refused(world: World, code: str) -> None:
    """By a reason of its own."""
    request = changed(world, "pricing.CreateQuote", "currency_code", code)
    await refuses(world, "pricing.CreateQuote", request, ("currency_code", UNKNOWN))


@pytest.mark.parametrize(("name", "path"), LISTS)
async def test_a_list_of_more_than_64_items_is_refused(world: World, name: str, path: str) -> None:
    """Once, and not item by item."""
    request = VALID[name](world)
    items: Any = getattr(request, path)
    items.extend([items[0]] * 63)
    await refuses(world, name, request, (path, OUT_OF_RANGE))


@pytest.mark.parametrize(("name", "path", "attribute"), UNIQUE)
async def test_a_line_that_repeats_another_is_refused(world: World, name: str, path: str, attribute: str) -> None:
    """What it would mean, no one could say."""
    request = VALID[name](world)
    items: Any = getattr(request, path)
    setattr(items[1], attribute, getattr(items[0], attribute))
    await refuses(world, name, request, (f"{path}[1].{attribute}", "FIELD_DUPLICATE"))


@pytest.mark.parametrize("name", TIMES)
async def test_a_time_that_no_calendar_has_is_refused(world: World, name: str) -> None:
    """Nor can the database keep it."""
    for seconds in (INT64_MAX, INT64_MIN, 253_402_300_800):
        request = changed(world, name, "valid_until", Timestamp(seconds=seconds))
        await refuses(world, name, request, ("valid_until", OUT_OF_RANGE))


@pytest.mark.parametrize("seconds", [0, -1, 604_801, INT64_MAX])
async def test_a_hold_shorter_than_a_second_or_longer_than_a_week_is_refused(world: World, seconds: int) -> None:
    """Stock is not held for ever."""
    request = changed(world, "inventory.ReserveStock", "hold_duration", Duration(seconds=seconds))
    await refuses(world, "inventory.ReserveStock", request, ("hold_duration", OUT_OF_RANGE))


@pytest.mark.parametrize("name", ["payment.AuthorizePayment", "checkout.PlaceOrder"])
async def test_a_card_number_is_refused_as_a_token_and_not_repeated(world: World, name: str) -> None:
    """Card numbers never enter."""
    request = changed(world, name, "payment_method_token", "4111 1111 1111 1111")
    async with nothing_booked(world):
        found = await refusal(call(world.shop, name, request))
    assert found.fields == (("payment_method_token", INVALID),)
    assert b"4111" not in found.status


LISTINGS = [name for name, method in METHODS.items() if "page_token" in method.input_type.fields_by_name]


@pytest.mark.parametrize("name", LISTINGS)
async def test_a_page_that_no_list_has_is_refused(world: World, name: str) -> None:
    """A token of nowhere, one of another list, and a negative size."""
    other = "catalog.SearchProducts" if name != "catalog.SearchProducts" else "inventory.ListMovements"
    foreign = (await call(world.shop, other, changed(world, other, "page_size", 1))).next_page_token
    for token in ("nowhere", foreign, "x" * 5_000):
        assert token
        await refuses(world, name, changed(world, name, "page_token", token), ("page_token", "PAGE_TOKEN_INVALID"))
    await refuses(world, name, changed(world, name, "page_size", -1), ("page_size", OUT_OF_RANGE))


def test_all_lists_were_looked_at() -> None:
    """A walk that found nothing would prove nothing."""
    assert len(LISTINGS) >= 6
