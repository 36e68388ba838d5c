"""Money and addresses on the wire: read from requests, written in responses, read back from our own services."""

import pytest
from google.type.money_pb2 import Money as MoneyMessage
from google.type.postal_address_pb2 import PostalAddress
from hypothesis import given
from hypothesis import strategies as st

from services.common.currencies import MINOR_DIGITS
from services.common.fields import Fields, address_message, money_message, read_address, read_money
from services.common.values import MONEY_LIMIT_MINOR, Address, Money
from tests.unit.common.properties import REPEATABLE
from tests.unit.common.test_fields import INVALID, OUT_OF_RANGE, REQUIRED, refused

CURRENCIES = st.sampled_from(sorted(MINOR_DIGITS))
VIENNA = PostalAddress(region_code="AT", address_lines=["Ring 1"], postal_code="1010", locality="Wien")


def refused_money(value: MoneyMessage) -> list[tuple[str, str]]:
    """Return what is wrong with an amount that is there."""
    return refused(lambda fields: fields.money("price", value, present=True))


def refused_address(value: PostalAddress) -> list[tuple[str, str]]:
    """Return what is wrong with an address that is there."""
    return refused(lambda fields: fields.address("address", value, present=True))


@REPEATABLE
@given(CURRENCIES, st.integers(0, MONEY_LIMIT_MINOR))
def test_an_amount_survives_the_wire_in_every_currency(currency: str, minor: int) -> None:
    """Written by one service it is read as the same by another, and by a request's reader."""
    money = Money(currency, minor)
    message = MoneyMessage.FromString(money_message(money).SerializeToString())
    assert read_money(message) == money
    with Fields() as fields:
        assert fields.money("price", message, present=True) == money


@REPEATABLE
@given(CURRENCIES, st.integers(-(10**15), 10**15))
def test_units_and_nanos_have_the_same_sign(currency: str, minor: int) -> None:
    """As google.type.Money asks; a negative amount survives the wire too."""
    message = money_message(Money(currency, minor))
    assert message.units * message.nanos >= 0
    assert abs(message.nanos) < 10**9
    assert read_money(message) == Money(currency, minor)


@pytest.mark.parametrize("currency", sorted(MINOR_DIGITS))
def test_one_minor_unit_is_the_finest_amount_of_a_currency(currency: str) -> None:
    """A tenth of it is refused, and the largest amount is still read."""
    digits = MINOR_DIGITS[currency]
    finest = MoneyMessage(currency_code=currency, units=0 if digits else 1, nanos=10 ** (9 - digits) if digits else 0)
    largest = money_message(Money(currency, MONEY_LIMIT_MINOR))
    with Fields() as fields:
        assert fields.money("price", finest, present=True) == Money(currency, 1)
        assert fields.money("price", largest, present=True) == Money(currency, MONEY_LIMIT_MINOR)
    finer = MoneyMessage(currency_code=currency, nanos=10 ** (8 - digits))
    assert refused_money(finer) == [("price.nanos", INVALID)]
    assert refused_money(money_message(Money(currency, MONEY_LIMIT_MINOR + 1))) == [("price", OUT_OF_RANGE)]


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (MoneyMessage(), [("price.currency_code", REQUIRED)]),
        (MoneyMessage(currency_code="ZZZ", units=1), [("price.currency_code", "CURRENCY_UNKNOWN")]),
        (MoneyMessage(currency_code="EUR", units=-1), [("price", OUT_OF_RANGE)]),
        (MoneyMessage(currency_code="EUR", nanos=-10_000_000), [("price", OUT_OF_RANGE)]),
        (MoneyMessage(currency_code="EUR", units=1, nanos=-10_000_000), [("price", OUT_OF_RANGE)]),
        (MoneyMessage(currency_code="EUR", nanos=1), [("price.nanos", INVALID)]),
        (MoneyMessage(currency_code="JPY", nanos=500_000_000), [("price.nanos", INVALID)]),
        (MoneyMessage(currency_code="EUR", nanos=1_000_000_000), [("price.nanos", OUT_OF_RANGE)]),
        (MoneyMessage(currency_code="EUR", nanos=2**31 - 1), [("price.nanos", INVALID)]),
        (MoneyMessage(currency_code="EUR", units=2**63 - 1), [("price", OUT_OF_RANGE)]),
        (MoneyMessage(currency_code="EUR", units=-(2**63)), [("price", OUT_OF_RANGE)]),
    ],
)
def test_a_wrong_amount_is_refused(value: MoneyMessage, wrong: list[tuple[str, str]]) -> None:
    """Each fault has its path and its reason, once."""
    assert refused_money(value) == wrong


def test_a_missing_amount_is_refused() -> None:
    """The message is required; zero of a currency is an amount."""
    assert refused(lambda fields: fields.money("price", MoneyMessage(), present=False)) == [("price", REQUIRED)]
    with Fields() as fields:
        assert fields.money("price", MoneyMessage(currency_code="EUR"), present=True) == Money("EUR", 0)


def test_an_address_survives_the_wire_with_every_field() -> None:
    """As a value and as a message."""
    address = Address(
        region_code="AT",
        address_lines=("Ring 1", "Tür 2"),
        postal_code="1010",
        administrative_area="Wien",
        locality="Wien",
        sublocality="Innere Stadt",
        language_code="de-AT",
        sorting_code="A1",
        organization="Libretto",
        recipients=("Ada", "Max"),
    )
    message = PostalAddress.FromString(address_message(address).SerializeToString())
    assert read_address(message) == address
    assert address_message(read_address(message)) == message
    with Fields() as fields:
        assert fields.address("address", message, present=True) == address


def changed(**fields: object) -> PostalAddress:
    """Return an address in Vienna with other fields."""
    message = PostalAddress()
    message.CopyFrom(VIENNA)
    for name, value in fields.items():
        message.ClearField(name)
        if isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (changed(region_code=""), [("address.region_code", REQUIRED)]),
        (changed(region_code="at"), [("address.region_code", INVALID)]),
        (changed(region_code="AUT"), [("address.region_code", INVALID)]),
        (changed(address_lines=[]), [("address.address_lines", REQUIRED)]),
        (changed(address_lines=["x"] * 6), [("address.address_lines", OUT_OF_RANGE)]),
        (changed(address_lines=["Ring 1", ""]), [("address.address_lines[1]", REQUIRED)]),
        (changed(address_lines=["x" * 201]), [("address.address_lines[0]", OUT_OF_RANGE)]),
        (changed(recipients=["x"] * 6), [("address.recipients", OUT_OF_RANGE)]),
        (changed(recipients=["a\0b"]), [("address.recipients[0]", INVALID)]),
        (changed(revision=1), [("address.revision", OUT_OF_RANGE)]),
        (changed(locality="x" * 201), [("address.locality", OUT_OF_RANGE)]),
        (changed(organization="\0"), [("address.organization", INVALID)]),
        (PostalAddress(), [("address.region_code", REQUIRED), ("address.address_lines", REQUIRED)]),
    ],
)
def test_a_wrong_address_is_refused(value: PostalAddress, wrong: list[tuple[str, str]]) -> None:
    """Each fault has its path and its reason, once."""
    assert refused_address(value) == wrong


def test_a_missing_address_is_refused_once() -> None:
    """Not field by field."""
    assert refused(lambda fields: fields.address("address", PostalAddress(), present=False)) == [("address", REQUIRED)]


@pytest.mark.parametrize("name", ["postal_code", "administrative_area", "sublocality", "language_code", "sorting_code"])
def test_every_text_of_an_address_has_its_limit(name: str) -> None:
    """Two hundred characters, and no more."""
    assert refused_address(changed(**{name: "x" * 200})) == []
    assert refused_address(changed(**{name: "x" * 201})) == [(f"address.{name}", OUT_OF_RANGE)]
