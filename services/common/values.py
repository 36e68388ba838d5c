"""Values that all services speak in: money, ids, time, and the base of domain errors.

Only the standard library is used here, so that every `domain.py` may import this module and nothing else.
"""

import asyncio
import datetime as dt
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Protocol, Self

from services.common.currencies import MINOR_DIGITS

MONEY_LIMIT_MINOR = 999_999_999_999
"""The largest amount that a request may state, in minor units."""


class Clock(Protocol):
    """Where time comes from, so that tests and simulations can set it."""

    def now(self) -> dt.datetime:
        """Return the wall clock's time, in UTC and aware of it."""

    def monotonic_seconds(self) -> float:
        """Return seconds since some fixed moment; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> dt.datetime:
        """Return the wall clock's time, in UTC."""
        return dt.datetime.now(dt.UTC)

    def monotonic_seconds(self) -> float:
        """Return the machine's monotonic time in seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in whole minor units of a currency of ISO 4217 (cents of EUR, whole yen of JPY)."""

    currency: str
    minor: int

    def __post_init__(self) -> None:
        """Refuse a currency that is not in ISO 4217: a fault of the code, as requests are checked at the edge."""
        if self.currency not in MINOR_DIGITS:
            raise ValueError(f"{self.currency!r} is no currency of ISO 4217")

    @property
    def digits(self) -> int:
        """How many decimal digits the minor unit has: 2 for EUR, 0 for JPY, 3 for KWD."""
        return MINOR_DIGITS[self.currency]

    def __add__(self, other: "Money") -> "Money":
        """Add an amount of the same currency."""
        if other.currency != self.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}")
        return Money(self.currency, self.minor + other.minor)

    def __mul__(self, quantity: int) -> "Money":
        """Multiply by a whole number."""
        return Money(self.currency, self.minor * quantity)

    def __str__(self) -> str:
        """Show the amount with its currency, such as `12.50 EUR`."""
        sign, minor = ("-" if self.minor < 0 else ""), abs(self.minor)
        if self.digits == 0:
            return f"{sign}{minor} {self.currency}"
        whole, rest = divmod(minor, 10**self.digits)
        return f"{sign}{whole}.{rest:0{self.digits}d} {self.currency}"


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address, as `google.type.PostalAddress` states it; shown, it tells no more than its country."""

    region_code: str
    address_lines: tuple[str, ...] = field(repr=False)
    postal_code: str = field(default="", repr=False)
    administrative_area: str = field(default="", repr=False)
    locality: str = field(default="", repr=False)
    sublocality: str = field(default="", repr=False)
    language_code: str = field(default="", repr=False)
    sorting_code: str = field(default="", repr=False)
    organization: str = field(default="", repr=False)
    recipients: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Self:
        """Make it of what `dataclasses.asdict` made of one, read back from JSON: its lists become tuples again."""
        lists = {name: tuple(stored[name]) for name in ("address_lines", "recipients")}
        return cls(**{**stored, **lists})


def new_id(clock: Clock, source: random.Random) -> uuid.UUID:
    """Make a UUIDv7 (RFC 9562, section 5.7): milliseconds first, so that ids made later sort later."""
    unix_ms = int(clock.now().timestamp() * 1000)
    value = (unix_ms << 80) | source.getrandbits(80)
    value = value & ~(0xF << 76) | (7 << 76)
    return uuid.UUID(int=value & ~(0x3 << 62) | (0x2 << 62))


def derived_id(owner: uuid.UUID, name: str) -> uuid.UUID:
    """Make the id that something of an owner always has: UUIDv5 of the owner's id and a name."""
    return uuid.uuid5(owner, name)


class ErrorKind(Enum):
    """What sort of refusal an error is. `services.common.errors` gives each its gRPC code."""

    INVALID = "invalid"
    """A field is wrong."""
    NOT_FOUND = "not found"
    """An id is unknown."""
    REFUSED = "refused"
    """The state or a business rule forbids it."""
    LOST_UPDATE = "lost update"
    """Someone else changed it since it was read."""
    OVERLOADED = "overloaded"
    """There is more to do than can be done now; nothing was begun."""
    TOO_LATE = "too late"
    """The time ran out."""
    UNAVAILABLE = "unavailable"
    """Something that is needed does not answer; the same call may succeed later."""


class DomainError(Exception):
    """The base of every expected failure: what sort it is, whose reason, and what one needs to go on.

    A service derives one base from it that states `service`, and from that one class for each reason of its
    `errors.proto`. The message is for people and may change; metadata is for programs: keys and values of text,
    nothing that identifies a person.
    """

    kind: ClassVar[ErrorKind]
    service: ClassVar[str] = "common"
    reason: str
    retry_after_seconds: float | None = None

    def __init__(self, message: str, **metadata: str) -> None:
        """Keep the message for people and the metadata for programs."""
        super().__init__(message)
        self.message = message
        self.metadata: Mapping[str, str] = metadata


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field: its path in the request, such as `lines[0].quantity`, a reason and a sentence."""

    field: str
    reason: str
    description: str


class InvalidRequestError(DomainError):
    """One or more fields are wrong. Its reason is that of the first violation."""

    kind = ErrorKind.INVALID

    def __init__(self, violations: Sequence[Violation]) -> None:
        """Take at least one violation."""
        first = violations[0]
        super().__init__(f"{first.field}: {first.description}", field=first.field)
        self.reason = first.reason
        self.violations = tuple(violations)


class MalformedRequestError(DomainError):
    """The request's bytes are no message of its type, or a known field has a wrong wire type."""

    kind, reason = ErrorKind.INVALID, "MALFORMED_REQUEST"


class RequestIdReusedError(DomainError):
    """A request_id came again with another request."""

    kind, reason = ErrorKind.REFUSED, "REQUEST_ID_REUSED"

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__("This request_id was used before with another request; choose a new one.")


class DeadlineTooShortError(DomainError):
    """Too little time was left to begin; nothing was done."""

    kind, reason = ErrorKind.TOO_LATE, "DEADLINE_TOO_SHORT"


class DeadlineExceededError(DomainError):
    """The time ran out during the call."""

    kind, reason = ErrorKind.TOO_LATE, "DEADLINE_EXCEEDED"

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__("The time ran out; repeat with the same request_id to learn the outcome.")


class ValidUntilPassedError(DomainError):
    """The call came after its valid_until; nothing was done."""

    kind, reason = ErrorKind.REFUSED, "VALID_UNTIL_PASSED"

    def __init__(self) -> None:
        """Say what happened."""
        super().__init__("The request was valid until a time that has passed.")


def check_valid_until(valid_until: dt.datetime | None, now: dt.datetime) -> None:
    """Raise ValidUntilPassedError after the moment until which a request is valid; None stands for always."""
    if valid_until is not None and now > valid_until:
        raise ValidUntilPassedError


class AlreadyUndoneError(DomainError):
    """What the call would do was undone before it was done."""

    kind, reason = ErrorKind.REFUSED, "ALREADY_UNDONE"

    def __init__(self, what: str) -> None:
        """Name what was undone, such as `The reservation`."""
        super().__init__(f"{what} was undone before, so it is not done.")


class OutcomePendingError(DomainError):
    """The effect is being decided elsewhere; the same request learns the outcome."""

    kind, reason = ErrorKind.UNAVAILABLE, "OUTCOME_PENDING"
    retry_after_seconds = 0.2


class OverloadedError(DomainError):
    """There is more to do than can be done now; nothing was begun."""

    kind, reason = ErrorKind.OVERLOADED, "OVERLOADED"
    retry_after_seconds = 1.0


class DependencyUnavailableError(DomainError):
    """A service, database or outside party that is needed does not answer."""

    kind, reason = ErrorKind.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE"
    retry_after_seconds = 1.0
