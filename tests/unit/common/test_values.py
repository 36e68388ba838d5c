"""Money, ids and the base of errors."""

import datetime as dt
import random
from dataclasses import dataclass
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common import values
from services.common.currencies import MINOR_DIGITS
from services.common.values import (
    Address,
    DomainError,
    ErrorKind,
    InvalidRequestError,
    Money,
    SystemClock,
    ValidUntilPassedError,
    Violation,
    check_valid_until,
    derived_id,
    new_id,
)
from tests.fakes.clock import VirtualClock
from tests.unit.common.properties import REPEATABLE

MOMENTS = st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2999, 1, 1), timezones=st.just(dt.UTC))  # noqa: DTZ001 - hypothesis adds the zone.


@dataclass(frozen=True, slots=True)
class At(VirtualClock):
    """A clock that stands still."""

    moment: dt.datetime

    def now(self) -> dt.datetime:
        """Return the moment at which it stands."""
        return self.moment


def id_at(moment: dt.datetime, seed: int = 1) -> UUID:
    """Make an id at a moment."""
    return new_id(At(moment), random.Random(seed))  # noqa: S311 - a test that repeats itself.


@pytest.mark.parametrize(
    ("money", "digits", "shown"),
    [
        (Money("JPY", 1250), 0, "1250 JPY"),
        (Money("EUR", 1250), 2, "12.50 EUR"),
        (Money("EUR", 5), 2, "0.05 EUR"),
        (Money("KWD", 1250), 3, "1.250 KWD"),
        (Money("CLF", 12500), 4, "1.2500 CLF"),
        (Money("EUR", 0), 2, "0.00 EUR"),
        (Money("EUR", -1250), 2, "-12.50 EUR"),
        (Money("EUR", -5), 2, "-0.05 EUR"),
        (Money("JPY", -7), 0, "-7 JPY"),
    ],
)
def test_money_is_shown_with_the_digits_of_its_currency(money: Money, digits: int, shown: str) -> None:
    """A minor unit is no decimal, two, three or four of them, and a sign stands in front."""
    assert money.digits == digits
    assert str(money) == shown


def test_money_adds_and_multiplies_within_its_currency() -> None:
    """Sums and products are whole minor units of the same currency."""
    assert Money("EUR", 1250) + Money("EUR", -50) == Money("EUR", 1200)
    assert Money("KWD", 333) * 3 == Money("KWD", 999)
    assert Money("EUR", 1250) * 0 == Money("EUR", 0)


def test_amounts_of_two_currencies_do_not_add() -> None:
    """There is no rate here, so it is a fault of the code."""
    with pytest.raises(ValueError, match="cannot add JPY to EUR"):
        _ = Money("EUR", 1) + Money("JPY", 1)


@pytest.mark.parametrize("currency", ["", "eur", "EU", "EURO", "XXX", "ZZZ"])
def test_money_of_an_unknown_currency_cannot_be_made(currency: str) -> None:
    """Requests are checked at the edge; behind it an unknown currency is a fault of the code."""
    with pytest.raises(ValueError, match="no currency of ISO 4217"):
        Money(currency, 1)


@REPEATABLE
@given(st.sampled_from(sorted(MINOR_DIGITS)), st.lists(st.integers(-(10**12), 10**12), min_size=1), st.integers(0, 999))
def test_a_multiple_of_a_sum_is_the_sum_of_the_multiples(currency: str, amounts: list[int], quantity: int) -> None:
    """Nothing is rounded or lost, whatever the currency."""
    total, multiples = Money(currency, 0), Money(currency, 0)
    for minor in amounts:
        total += Money(currency, minor)
        multiples += Money(currency, minor) * quantity
    assert total * quantity == multiples == Money(currency, sum(amounts) * quantity)


@REPEATABLE
@given(MOMENTS, st.integers(0))
def test_an_id_is_a_uuid_of_version_7_that_begins_with_its_time(moment: dt.datetime, seed: int) -> None:
    """RFC 9562, section 5.7: 48 bits of milliseconds, version 7, variant 2."""
    made = id_at(moment, seed)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == int(moment.timestamp() * 1000)


@REPEATABLE
@given(MOMENTS, st.timedeltas(dt.timedelta(milliseconds=2), dt.timedelta(days=9999)), st.integers(0))
def test_an_id_that_is_made_later_sorts_later(moment: dt.datetime, wait: dt.timedelta, seed: int) -> None:
    """Also as text, which is how lists and indexes see it."""
    earlier, later = id_at(moment, seed), id_at(moment + wait, seed + 1)
    assert earlier < later
    assert str(earlier) < str(later)


def test_ids_of_one_millisecond_differ() -> None:
    """The 74 bits after the time are random."""
    source = random.Random(1)  # noqa: S311 - a test that repeats itself.
    clock = At(dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    assert len({new_id(clock, source) for _ in range(1000)}) == 1000


def test_a_derived_id_is_always_the_same_and_none_other_s() -> None:
    """Whoever knows the order knows the ids of its reservation and its payment."""
    order, other = UUID(int=1), UUID(int=2)
    made = derived_id(order, "payment")
    assert made == derived_id(UUID(int=1), "payment")
    assert made.version == 5
    assert len({made, derived_id(order, "reservation"), derived_id(other, "payment")}) == 3


async def test_the_system_s_clock_knows_its_zone_and_never_goes_back() -> None:
    """The wall clock is in UTC; the other one only grows, while one sleeps too."""
    clock = SystemClock()
    began_seconds = clock.monotonic_seconds()
    await clock.sleep(0)
    assert clock.monotonic_seconds() >= began_seconds
    assert clock.now().tzinfo is dt.UTC


def test_an_error_keeps_its_sentence_for_people_and_its_metadata_for_programs() -> None:
    """Both are read by the layer that sends them."""

    class PaintingSoldError(DomainError):
        kind, service, reason = ErrorKind.REFUSED, "gallery", "PAINTING_SOLD"

    error = PaintingSoldError("The painting is sold.", painting_id="42")
    assert str(error) == error.message == "The painting is sold."
    assert error.metadata == {"painting_id": "42"}
    assert error.retry_after_seconds is None


def test_a_request_with_several_wrong_fields_has_the_reason_of_the_first() -> None:
    """All of them are kept, in order."""
    violations = [
        Violation("sku", "FIELD_REQUIRED", "is missing"),
        Violation("change", "FIELD_OUT_OF_RANGE", "too big"),
    ]
    error = InvalidRequestError(violations)
    assert error.reason == "FIELD_REQUIRED"
    assert error.message == "sku: is missing"
    assert error.metadata == {"field": "sku"}
    assert error.violations == tuple(violations)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (values.OutcomePendingError("later"), 0.2),
        (values.OverloadedError("later"), 1.0),
        (values.DependencyUnavailableError("later"), 1.0),
        (values.DeadlineExceededError(), None),
        (values.RequestIdReusedError(), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_an_error_that_may_pass_says_how_long_to_wait(error: DomainError, seconds: float | None) -> None:
    """A caller that is told nothing has no reason to repeat the call soon."""
    assert error.retry_after_seconds == seconds


def test_an_address_shows_its_country_only() -> None:
    """Whoever logs one by mistake gives nobody away."""
    address = Address(
        "DE",
        ("Secret Street 1",),
        postal_code="secret",
        administrative_area="secret",
        locality="secret",
        sublocality="secret",
        language_code="secret",
        sorting_code="secret",
        organization="secret",
        recipients=("Ada Secret",),
    )
    assert repr(address) == "Address(region_code='DE')"


def test_a_request_is_valid_until_its_moment_and_not_after() -> None:
    """The moment itself is in time, and a request without one is valid for ever."""
    moment = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    check_valid_until(None, moment)
    check_valid_until(moment, moment)
    with pytest.raises(ValidUntilPassedError):
        check_valid_until(moment, moment + dt.timedelta(microseconds=1))
