"""Each method of Fields: what it reads, and by which reason and path it refuses."""

import datetime as dt
import re
from collections.abc import Callable
from enum import Enum
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from libretto.checkout.v1 import order_pb2
from libretto.pricing.v1 import pricing_service_pb2 as pb

from services.common.fields import Fields
from services.common.values import InvalidRequestError, Violation
from tests.unit.common.properties import REPEATABLE

REQUIRED, INVALID, OUT_OF_RANGE = "FIELD_REQUIRED", "FIELD_INVALID", "FIELD_OUT_OF_RANGE"
ID = "0190d3b0-7c1e-7c3a-9d0f-3b1f6c2a4e55"

Reader = Callable[[Fields], object]


def refused(read: Reader) -> list[tuple[str, str]]:
    """Return path and reason of all that is wrong with what `read` reads."""
    return [(violation.field, violation.reason) for violation in violations(read)]


def violations(read: Reader) -> tuple[Violation, ...]:
    """Return all that is wrong with what `read` reads; nothing for what is right."""
    try:
        with Fields() as fields:
            read(fields)
    except InvalidRequestError as error:
        return error.violations
    return ()


class Colour(Enum):
    """An enum of a domain."""

    PROCESSING = 1
    CONFIRMED = 2


@pytest.mark.parametrize("value", ["a", "A-_9", "x" * 64])
def test_a_request_id_of_up_to_64_plain_characters_is_read(value: str) -> None:
    """It is what the caller sent."""
    with Fields() as fields:
        assert fields.request_id(value) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [("", REQUIRED), ("x" * 65, INVALID), ("a b", INVALID), ("a\n", INVALID), ("é", INVALID), ("٣", INVALID)],
)
def test_any_other_request_id_is_refused(value: str, reason: str) -> None:
    """A missing one by another reason than a wrong one."""
    assert refused(lambda fields: fields.request_id(value)) == [("request_id", reason)]


@pytest.mark.parametrize(
    ("value", "reason"),
    [("", REQUIRED), ("lamp", INVALID), ("LAMP 1", INVALID), ("A" * 41, INVALID), ("LAMP_1", INVALID)],
)
def test_a_wrong_sku_is_refused(value: str, reason: str) -> None:
    """Capital letters, digits and hyphens, at most 40."""
    assert refused(lambda fields: fields.sku("sku", value)) == [("sku", reason)]


def test_a_sku_is_read_as_it_came() -> None:
    """The longest one too."""
    with Fields() as fields:
        assert fields.sku("sku", "LAMP-01") == "LAMP-01"
        assert fields.sku("sku", "A" * 40) == "A" * 40


@pytest.mark.parametrize(
    "value",
    ["4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "4111_1111_1111_1111", "1" * 12, "1" * 19],
)
def test_what_looks_like_a_card_number_is_refused_and_never_repeated(value: str) -> None:
    """Neither the placeholder nor the sentence holds any of it."""
    read: list[str] = []
    (violation,) = violations(lambda fields: read.append(fields.token("token", value)))
    assert (violation.field, violation.reason) == ("token", INVALID)
    assert value[:4] not in violation.description
    assert read == [""]


@pytest.mark.parametrize("value", ["tok_visa", "pm.1-a_B", "t" * 200, "1" * 11, "tok_4111111111111111"])
def test_a_processor_s_token_is_read(value: str) -> None:
    """A token may hold digits, and even end like a card number."""
    with Fields() as fields:
        assert fields.token("token", value) == value


@pytest.mark.parametrize(("value", "reason"), [("", REQUIRED), ("t" * 201, INVALID), ("tok visa", INVALID)])
def test_a_wrong_token_is_refused(value: str, reason: str) -> None:
    """One to 200 characters without blanks."""
    assert refused(lambda fields: fields.token("token", value)) == [("token", reason)]


@pytest.mark.parametrize(
    ("value", "reason"),
    [("", REQUIRED), (" \t\n", REQUIRED), ("x" * 11, OUT_OF_RANGE), ("a\0b", INVALID)],
)
def test_a_wrong_text_is_refused(value: str, reason: str) -> None:
    """Nothing but blanks is nothing; PostgreSQL keeps no NUL."""
    assert refused(lambda fields: fields.text("title", value, at_most=10)) == [("title", reason)]


def test_the_length_of_a_text_is_counted_in_characters_and_an_optional_one_may_be_empty() -> None:
    """Ten characters of four bytes each are ten."""
    with Fields() as fields:
        assert fields.text("title", "🪔" * 10, at_most=10) == "🪔" * 10
        assert fields.text("title", "", at_most=10, required=False) == ""
    assert refused(lambda fields: fields.text("title", "🪔" * 11, at_most=10, required=False)) == [
        ("title", OUT_OF_RANGE)
    ]
    assert refused(lambda fields: fields.text("title", "\0", at_most=10, required=False)) == [("title", INVALID)]


def test_a_uuid_is_read_in_either_case() -> None:
    """Capital letters mean the same id."""
    with Fields() as fields:
        assert fields.uuid("id", ID) == fields.uuid("id", ID.upper()) == UUID(ID)
        assert fields.optional_uuid("id", ID) == UUID(ID)
        assert fields.optional_uuid("id", "") is None


@pytest.mark.parametrize(
    "value",
    [
        "order-1",
        ID.replace("-", ""),
        f"{{{ID}}}",
        f"urn:uuid:{ID}",
        f" {ID}",
        f"{ID}\n",
        ID[:-1],
        str(UUID(int=0)),
        ID.replace("7c1e", "\u0667c1e"),
    ],
)
def test_a_uuid_in_another_form_is_refused(value: str) -> None:
    """One id has one form, and the id of nothing is none."""
    assert refused(lambda fields: fields.uuid("id", value)) == [("id", INVALID)]
    assert refused(lambda fields: fields.optional_uuid("id", value)) == [("id", INVALID)]


def test_a_missing_uuid_is_refused_where_it_is_required() -> None:
    """By the reason for what is missing."""
    assert refused(lambda fields: fields.uuid("id", "")) == [("id", REQUIRED)]


@pytest.mark.parametrize(
    ("value", "at_least", "reason"),
    [
        (0, 1, REQUIRED),
        (-1, 1, OUT_OF_RANGE),
        (1001, 1, OUT_OF_RANGE),
        (2**31 - 1, 1, OUT_OF_RANGE),
        (-6, -5, OUT_OF_RANGE),
    ],
)
def test_a_whole_number_outside_its_limits_is_refused_and_not_repeated(value: int, at_least: int, reason: str) -> None:
    """Zero counts as missing where it is not allowed. No refusal holds any part of a value."""
    (violation,) = violations(lambda fields: fields.whole("quantity", value, at_least=at_least, at_most=1000))
    assert (violation.field, violation.reason) == ("quantity", reason)
    assert str(value) not in re.findall(r"-?\d+", violation.description)


@pytest.mark.parametrize(("value", "at_least"), [(1, 1), (1000, 1), (0, 0), (0, -5), (-5, -5)])
def test_a_whole_number_within_its_limits_is_read(value: int, at_least: int) -> None:
    """The limits themselves belong to it."""
    with Fields() as fields:
        assert fields.whole("quantity", value, at_least=at_least, at_most=1000) == value


@pytest.mark.parametrize(
    ("value", "reason"), [("", REQUIRED), ("ZZZ", "CURRENCY_UNKNOWN"), ("eur", "CURRENCY_UNKNOWN")]
)
def test_a_wrong_currency_is_refused(value: str, reason: str) -> None:
    """An unknown one has a reason of its own."""
    assert refused(lambda fields: fields.currency("currency_code", value)) == [("currency_code", reason)]


def read_state(fields: Fields, number: int) -> Colour | None:
    """Read a state of an order, whose names in the domain lack the prefix."""
    return fields.optional_enum("state", number, order_pb2.OrderState.Name, "ORDER_STATE_", Colour)


def test_an_enum_is_read_by_its_name() -> None:
    """UNSPECIFIED reads as None."""
    with Fields() as fields:
        assert read_state(fields, order_pb2.ORDER_STATE_PROCESSING) is Colour.PROCESSING
        assert read_state(fields, order_pb2.ORDER_STATE_UNSPECIFIED) is None


@pytest.mark.parametrize("number", [99, -1, order_pb2.ORDER_STATE_REJECTED])
def test_an_enum_s_value_that_the_contract_or_the_domain_does_not_know_is_refused(number: int) -> None:
    """As when a newer client calls an older server."""
    assert refused(lambda fields: read_state(fields, number)) == [("state", INVALID)]


def read_hold(fields: Fields, value: Duration, *, present: bool = True) -> float:
    """Read a length of time between a second and an hour, a minute by default."""
    return fields.duration_seconds("hold", value, default=60.0, present=present, at_least=1.0, at_most=3600.0)


def test_a_length_of_time_is_read_in_seconds() -> None:
    """Nanoseconds are its decimals; absent it is the default."""
    with Fields() as fields:
        assert read_hold(fields, Duration(seconds=2, nanos=500_000_000)) == 2.5
        assert read_hold(fields, Duration(seconds=3600)) == 3600.0
        assert read_hold(fields, Duration(), present=False) == 60.0


@pytest.mark.parametrize(
    "value",
    [
        Duration(),
        Duration(seconds=-5),
        Duration(nanos=999_999_999),
        Duration(seconds=3600, nanos=1),
        Duration(seconds=2**63 - 1),
        Duration(seconds=5, nanos=-1),
        Duration(seconds=5, nanos=1_000_000_000),
        Duration(nanos=2**31 - 1),
    ],
)
def test_a_length_of_time_outside_its_limits_is_refused(value: Duration) -> None:
    """Also one that is present and zero, and one whose nanoseconds are no part of a second, or have another sign."""
    assert refused(lambda fields: read_hold(fields, value)) == [("hold", OUT_OF_RANGE)]


def test_a_moment_is_read_in_utc() -> None:
    """Absent it is None."""
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 678_000, dt.UTC)
    value = Timestamp()
    value.FromDatetime(moment)
    with Fields() as fields:
        assert fields.optional_time("valid_until", value, present=True) == moment
        assert fields.optional_time("valid_until", Timestamp(), present=False) is None


@pytest.mark.parametrize("seconds", [2**63 - 1, -(2**63), 253_402_300_800])
def test_a_moment_that_no_calendar_has_is_refused(seconds: int) -> None:
    """The years 1 to 9999 are read."""
    value = Timestamp(seconds=seconds)
    assert refused(lambda fields: fields.optional_time("valid_until", value, present=True)) == [
        ("valid_until", OUT_OF_RANGE)
    ]


def test_a_list_is_read_item_by_item_with_the_path_of_each() -> None:
    """What is wrong inside has the index in its path."""
    lines = [pb.CreateQuoteLine(quantity=1), pb.CreateQuoteLine(quantity=-1)]

    def read(fields: Fields) -> None:
        for item, line in fields.each("lines", lines, at_most=2):
            item.whole("quantity", line.quantity, at_least=1, at_most=9)

    assert refused(read) == [("lines[1].quantity", OUT_OF_RANGE)]


@pytest.mark.parametrize(("count", "reason"), [(0, REQUIRED), (3, OUT_OF_RANGE)])
def test_a_list_that_is_empty_or_too_long_is_refused_and_not_gone_through(count: int, reason: str) -> None:
    """A huge one costs nothing."""
    assert refused(lambda fields: list(fields.each("lines", ["x"] * count, at_most=2))) == [("lines", reason)]
    with pytest.raises(InvalidRequestError), Fields() as fields:
        assert list(fields.each("lines", ["x"] * count, at_most=2)) == []


def test_each_later_twin_in_a_list_is_refused() -> None:
    """The first one is right."""
    read: Reader = lambda fields: fields.unique("lines", "sku", ["A", "B", "A", "A"])  # noqa: E731
    assert refused(read) == [("lines[2].sku", "FIELD_DUPLICATE"), ("lines[3].sku", "FIELD_DUPLICATE")]


def test_a_missing_message_is_refused_once_and_a_present_one_is_gone_into() -> None:
    """Paths grow with the depth."""

    def read(fields: Fields) -> None:
        assert fields.nested("address", present=False) is None
        outer = fields.nested("customer", present=True)
        assert outer is not None
        (inner, _), *_ = outer.each("phones", ["x"], at_most=1)
        inner.text("number", "", at_most=9)

    assert refused(read) == [("address", REQUIRED), ("customer.phones[0].number", REQUIRED)]


def test_everything_that_is_wrong_is_refused_together() -> None:
    """In the order in which it was read."""

    def read(fields: Fields) -> None:
        fields.request_id("")
        fields.sku("sku", "lamp")
        fields.whole("change", 10**9, at_least=-5, at_most=5)

    assert refused(read) == [("request_id", REQUIRED), ("sku", INVALID), ("change", OUT_OF_RANGE)]


def test_another_error_inside_the_block_is_not_hidden_by_a_wrong_field() -> None:
    """A fault of ours stays one."""

    def read(fields: Fields) -> None:
        fields.request_id("")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        violations(read)


@REPEATABLE
@given(st.text(max_size=80))
def test_no_text_at_all_breaks_a_reader(value: str) -> None:
    """Whatever comes is read or refused by a violation that does not repeat it."""
    readers: list[Reader] = [
        lambda fields: fields.request_id(value),
        lambda fields: fields.sku("field", value),
        lambda fields: fields.token("field", value),
        lambda fields: fields.text("field", value, at_most=40),
        lambda fields: fields.uuid("field", value),
        lambda fields: fields.currency("field", value),
    ]
    for read in readers:
        for violation in violations(read):
            assert len(value) < 12 or value not in violation.description
