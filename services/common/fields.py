"""Requests parsed at the edge: each method of `Fields` reads one field into a value, or notes what is wrong with it.

A service's `service.py` parses with it; whatever is wrong is refused together, by field path, before any work:

    with Fields() as fields:
        request_id = fields.request_id(request.request_id)
        lines = [_line(item, raw) for item, raw in fields.each("lines", request.lines, at_most=64)]

Inside the block a field that is wrong reads as a placeholder of its type; after it, every value is right.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money as MoneyMessage
from google.type.postal_address_pb2 import PostalAddress

from services.common.currencies import MINOR_DIGITS
from services.common.values import MONEY_LIMIT_MINOR, Address, InvalidRequestError, Money, Violation

E = TypeVar("E", bound=Enum)
T = TypeVar("T")

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SKU = re.compile(r"[A-Z0-9-]{1,40}")
TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_CARD_NUMBER = re.compile(r"(?:[0-9][ ._-]?){11,18}[0-9]")
_REGION = re.compile(r"[A-Z]{2}")
_NOWHERE = UUID(int=0)
_NO_MONEY = Money("EUR", 0)
_NANO_DIGITS = 9
_TEXT_LIMIT = 200
_ADDRESS_LINES_LIMIT = 5


class Fields:
    """Reads the fields of one message, and on leaving its `with` block refuses the request if any was wrong."""

    def __init__(self, prefix: str = "", violations: list[Violation] | None = None) -> None:
        """Begin at the request itself, or at a nested message by its path and its parent's list."""
        self._prefix = prefix
        self._violations: list[Violation] = [] if violations is None else violations

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Raise InvalidRequestError with every violation, unless something else went wrong."""
        if kind is None and self._violations:
            raise InvalidRequestError(self._violations)

    def refuse(self, name: str, reason: str, description: str) -> None:
        """Note that a field is wrong."""
        self._violations.append(Violation(self._prefix + name, reason, description))

    def nested(self, name: str, *, present: bool) -> "Fields | None":
        """Go into a required message; None, and a violation, where it is missing."""
        if not present:
            self.refuse(name, "FIELD_REQUIRED", "is missing")
            return None
        return Fields(f"{self._prefix}{name}.", self._violations)

    def each(self, name: str, items: Sequence[T], *, at_most: int) -> Iterator[tuple["Fields", T]]:
        """Go through the messages of a required list of 1 to `at_most` items; none of them where it is longer."""
        if not items:
            self.refuse(name, "FIELD_REQUIRED", "at least one is required")
        elif len(items) > at_most:
            self.refuse(name, "FIELD_OUT_OF_RANGE", f"{len(items)} are too many; at most {at_most} are allowed")
        else:
            for index, item in enumerate(items):
                yield Fields(f"{self._prefix}{name}[{index}].", self._violations), item

    def unique(self, name: str, attribute: str, values: Sequence[object]) -> None:
        """Refuse a list in which two items have the same value of an attribute."""
        seen: set[object] = set()
        for index, value in enumerate(values):
            if value in seen:
                self.refuse(f"{name}[{index}].{attribute}", "FIELD_DUPLICATE", "stands in an earlier item too")
            seen.add(value)

    def request_id(self, value: str) -> str:
        """Read the caller's key of a mutation."""
        return self.matching("request_id", value, REQUEST_ID, "1 to 64 characters of [A-Za-z0-9_-]")

    def matching(self, name: str, value: str, pattern: re.Pattern[str], form: str) -> str:
        """Read a required text that has a form."""
        if not value:
            self.refuse(name, "FIELD_REQUIRED", "is missing")
        elif not pattern.fullmatch(value):
            self.refuse(name, "FIELD_INVALID", f"takes {form}")
        return value

    def sku(self, name: str, value: str) -> str:
        """Read a required stock keeping unit."""
        return self.matching(name, value, SKU, "1 to 40 characters of [A-Z0-9-]")

    def token(self, name: str, value: str) -> str:
        """Read a required token of a payment method; refuse what looks like a card number, without repeating it."""
        if _CARD_NUMBER.fullmatch(value):
            self.refuse(name, "FIELD_INVALID", "looks like a card number; only a processor's token is taken")
            return ""
        return self.matching(name, value, TOKEN, "1 to 200 characters of [A-Za-z0-9_.-]")

    def text(self, name: str, value: str, *, at_most: int, required: bool = True) -> str:
        """Read a text of at most so many characters, none of them NUL, which PostgreSQL cannot keep."""
        if required and not value.strip():
            self.refuse(name, "FIELD_REQUIRED", "is missing")
        elif len(value) > at_most:
            self.refuse(name, "FIELD_OUT_OF_RANGE", f"has {len(value)} characters; at most {at_most} are allowed")
        elif "\0" in value:
            self.refuse(name, "FIELD_INVALID", "holds a NUL character")
        return value

    def uuid(self, name: str, value: str) -> UUID:
        """Read a required UUID."""
        found = self.optional_uuid(name, value)
        if not value:
            self.refuse(name, "FIELD_REQUIRED", "is missing")
        return found or _NOWHERE

    def optional_uuid(self, name: str, value: str) -> UUID | None:
        """Read a UUID in its usual form, or None where the field is empty."""
        if not value:
            return None
        try:
            found = UUID(value)
        except ValueError:
            found = _NOWHERE
        if str(found) != value.lower() or found == _NOWHERE:
            self.refuse(name, "FIELD_INVALID", "takes a UUID such as 0190d3b0-7c1e-7c3a-9d0f-3b1f6c2a4e55")
        return found

    def whole(self, name: str, value: int, *, at_least: int, at_most: int) -> int:
        """Read a required whole number between two limits; 0 counts as missing where it is not allowed."""
        if value == 0 and at_least > 0:
            self.refuse(name, "FIELD_REQUIRED", "is missing")
        elif not at_least <= value <= at_most:
            self.refuse(name, "FIELD_OUT_OF_RANGE", f"takes {at_least} to {at_most}")
        return value

    def currency(self, name: str, value: str) -> str:
        """Read a required currency code of ISO 4217."""
        if not value:
            self.refuse(name, "FIELD_REQUIRED", "is missing")
        elif value not in MINOR_DIGITS:
            self.refuse(name, "CURRENCY_UNKNOWN", "takes an active code of ISO 4217, such as EUR")
        return value

    def money(self, name: str, value: MoneyMessage, *, present: bool) -> Money:
        """Read a required amount: not negative, whole minor units, at most MONEY_LIMIT_MINOR of them."""
        inner = self.nested(name, present=present)
        if inner is None:
            return _NO_MONEY
        currency = inner.currency("currency_code", value.currency_code)
        if currency not in MINOR_DIGITS:
            return _NO_MONEY
        if value.units < 0 or value.nanos < 0:
            self.refuse(name, "FIELD_OUT_OF_RANGE", "is negative")
            return _NO_MONEY
        digits = MINOR_DIGITS[currency]
        minor_of_nanos, finer = divmod(value.nanos, 10 ** (_NANO_DIGITS - digits))
        minor = value.units * 10**digits + minor_of_nanos
        if finer:
            inner.refuse("nanos", "FIELD_INVALID", f"is finer than the {digits} decimal digits of {currency}")
        elif value.nanos >= 10**_NANO_DIGITS:
            inner.refuse("nanos", "FIELD_OUT_OF_RANGE", "is a whole unit or more")
        elif minor > MONEY_LIMIT_MINOR:
            self.refuse(name, "FIELD_OUT_OF_RANGE", f"is more than {Money(currency, MONEY_LIMIT_MINOR)}")
        else:
            return Money(currency, minor)
        return _NO_MONEY

    def address(self, name: str, value: PostalAddress, *, present: bool) -> Address:
        """Read a required postal address."""
        inner = self.nested(name, present=present)
        if inner is not None:
            inner.matching("region_code", value.region_code, _REGION, "two capital letters of ISO 3166-1")
            inner.texts("address_lines", value.address_lines, at_most=_ADDRESS_LINES_LIMIT)
            if value.revision:
                inner.refuse("revision", "FIELD_OUT_OF_RANGE", "takes 0 only")
            if value.recipients:
                inner.texts("recipients", value.recipients, at_most=_ADDRESS_LINES_LIMIT)
            for text_name in _ADDRESS_TEXTS:
                inner.text(text_name, getattr(value, text_name), at_most=_TEXT_LIMIT, required=False)
        return read_address(value)

    def texts(self, name: str, values: Sequence[str], *, at_most: int) -> None:
        """Check the texts of a required list of 1 to `at_most` items; none of them where it is longer."""
        for index, (_, text) in enumerate(self.each(name, values, at_most=at_most)):
            self.text(f"{name}[{index}]", text, at_most=_TEXT_LIMIT)

    def optional_enum(
        self,
        name: str,
        number: Any,  # noqa: ANN401 - each enum has a type of its own.
        name_of: Callable[[Any], str],
        prefix: str,
        kind: type[E],
    ) -> E | None:
        """Read an enum's value into the domain's, whose names lack the prefix; None for UNSPECIFIED."""
        if number == 0:
            return None
        try:
            return kind[name_of(number).removeprefix(prefix)]
        except (ValueError, KeyError):
            self.refuse(name, "FIELD_INVALID", "is no value of its enum")
            return None

    def duration_seconds(
        self, name: str, value: Duration, *, default: float, present: bool, at_least: float, at_most: float
    ) -> float:
        """Read a length of time in seconds, or the default where it is absent."""
        seconds = value.seconds + value.nanos / 10**_NANO_DIGITS if present else default
        well_formed = abs(value.nanos) < 10**_NANO_DIGITS and value.seconds * value.nanos >= 0
        if not (well_formed and at_least <= seconds <= at_most):
            self.refuse(name, "FIELD_OUT_OF_RANGE", f"takes {at_least:g} to {at_most:g} seconds")
        return seconds

    def optional_time(self, name: str, value: Timestamp, *, present: bool) -> dt.datetime | None:
        """Read a moment, or None where it is absent."""
        if not present:
            return None
        try:
            return value.ToDatetime(dt.UTC)
        except (ValueError, OverflowError):
            self.refuse(name, "FIELD_OUT_OF_RANGE", "is no time between the years 1 and 9999")
            return None


_ADDRESS_TEXTS = (
    "postal_code",
    "administrative_area",
    "locality",
    "sublocality",
    "language_code",
    "sorting_code",
    "organization",
)


def money_message(value: Money) -> MoneyMessage:
    """Write an amount as `google.type.Money`: units and nanos have the same sign."""
    sign = -1 if value.minor < 0 else 1
    units, rest = divmod(abs(value.minor), 10**value.digits)
    nanos = rest * 10 ** (_NANO_DIGITS - value.digits)
    return MoneyMessage(currency_code=value.currency, units=sign * units, nanos=sign * nanos)


def address_message(value: Address) -> PostalAddress:
    """Write an address as `google.type.PostalAddress`."""
    return PostalAddress(
        region_code=value.region_code,
        address_lines=value.address_lines,
        recipients=value.recipients,
        **{name: getattr(value, name) for name in _ADDRESS_TEXTS},
    )


def time_message(value: dt.datetime) -> Timestamp:
    """Write a moment as a Timestamp."""
    message = Timestamp()
    message.FromDatetime(value)
    return message


def read_money(message: MoneyMessage) -> Money:
    """Read an amount that one of our own services wrote."""
    digits = MINOR_DIGITS[message.currency_code]
    minor = message.units * 10**digits + message.nanos // 10 ** (_NANO_DIGITS - digits)
    return Money(message.currency_code, minor)


def read_address(message: PostalAddress) -> Address:
    """Read an address that was checked before."""
    return Address(
        message.region_code,
        tuple(message.address_lines),
        recipients=tuple(message.recipients),
        **{name: getattr(message, name) for name in _ADDRESS_TEXTS},
    )
