"""Fingerprints: the same for equal commands however they were written, another for any other command or key."""

import datetime as dt
import uuid
from dataclasses import dataclass, field
from enum import Enum, StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.idempotency import Fingerprints, Keyed
from services.common.values import Address, Money
from tests.unit.common.properties import REPEATABLE

FINGERPRINTS = Fingerprints("a-key")
NOON = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)
ORDER_ID = uuid.UUID(int=1)
VIENNA = dt.timezone(dt.timedelta(hours=1))


class Colour(Enum):
    """An enum of a domain."""

    RED = 1
    BLUE = 2


class Shade(StrEnum):
    """An enum that is text too."""

    LIGHT = "very light"


@dataclass(frozen=True, slots=True)
class Line:
    """A part of a command."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Command:
    """A command with a value of each type that domains use."""

    order_id: uuid.UUID | None = ORDER_ID
    lines: tuple[Line, ...] = (Line("LAMP", 1), Line("VASE", 2))
    price: Money | None = field(default_factory=lambda: Money("EUR", 1250))
    address: Address = field(default_factory=lambda: Address("AT", ("Ring 1",)))
    valid_until: dt.datetime | None = NOON
    hold_seconds: float = 60.0
    colour: Colour | None = Colour.RED
    note: str = "for Ada"
    gift: bool = False


OTHERS = [
    Command(order_id=uuid.UUID(int=2)),
    Command(order_id=None),
    Command(lines=(Line("VASE", 2), Line("LAMP", 1))),
    Command(lines=(Line("LAMP", 1),)),
    Command(lines=(Line("LAMP", 12), Line("VASE", 2))),
    Command(lines=()),
    Command(price=Money("EUR", 1251)),
    Command(price=Money("USD", 1250)),
    Command(price=None),
    Command(address=Address("AT", ("Ring", "1"))),
    Command(address=Address("AT", (), postal_code="Ring 1")),
    Command(valid_until=NOON + dt.timedelta(microseconds=1)),
    Command(valid_until=None),
    Command(hold_seconds=60.5),
    Command(colour=Colour.BLUE),
    Command(colour=None),
    Command(note="for ada"),
    Command(note=""),
    Command(gift=True),
]


def test_equal_commands_have_equal_fingerprints() -> None:
    """Also when one was made from a list, or states a moment in another zone."""
    assert FINGERPRINTS.of(Command()) == FINGERPRINTS.of(Command())
    elsewhere = Command(valid_until=NOON.astimezone(VIENNA))
    assert FINGERPRINTS.of(elsewhere) == FINGERPRINTS.of(Command())
    assert FINGERPRINTS.of(["a", 1]) == FINGERPRINTS.of(("a", 1))


def test_any_difference_makes_another_fingerprint() -> None:
    """In each field, in the order of a list, and where one text ends and the next begins."""
    found = {FINGERPRINTS.of(command) for command in [Command(), *OTHERS]}
    assert len(found) == len(OTHERS) + 1


def test_values_that_look_alike_are_told_apart() -> None:
    """Nothing, empty, zero, no and their names."""
    alike: list[object] = [None, "null", "", "None", 0, "0", 0.0, False, "False", [], [None], [[]], "1", 1, True, 1.0]
    assert len({FINGERPRINTS.of(value) for value in alike}) == len(alike)


def test_enums_count_by_their_names() -> None:
    """What a name stands for may change."""
    assert FINGERPRINTS.of(Shade.LIGHT) == FINGERPRINTS.of("LIGHT")
    assert FINGERPRINTS.of(Shade.LIGHT) != FINGERPRINTS.of("very light")


def test_another_key_makes_another_fingerprint() -> None:
    """Nobody without the key can tell whether a guessed address is behind it."""
    assert Fingerprints("another-key").of(Command()) != FINGERPRINTS.of(Command())
    assert len(FINGERPRINTS.of(Command())) == 32


def test_a_fingerprint_is_the_same_in_every_release() -> None:
    """Stored ones are compared with new ones: a change of the form would refuse what is repeated."""
    expected = "d727dff2d1675c692e9772d4c4d281a8298ff1b115f652d29c6494607694f0d7"
    assert FINGERPRINTS.of(Line("LAMP", 1)).hex() == expected


@pytest.mark.parametrize("value", [b"bytes", {"a": 1}, {1, 2}, object(), dt.timedelta(1), Line])
def test_what_has_no_canonical_form_is_a_fault(value: object) -> None:
    """Better than a fingerprint that differs from run to run."""
    with pytest.raises(TypeError, match="has no canonical form"):
        FINGERPRINTS.of(value)
    with pytest.raises(TypeError, match="has no canonical form"):
        FINGERPRINTS.of([Line("LAMP", 1), (value,)])


@REPEATABLE
@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_lists_of_texts_have_equal_fingerprints_only_when_they_are_equal(left: list[str], right: list[str]) -> None:
    """No separator can be imitated."""
    assert (FINGERPRINTS.of(left) == FINGERPRINTS.of(right)) == (left == right)


def test_a_command_is_joined_with_its_key() -> None:
    """The key itself does not count for the fingerprint: it is looked up by it."""
    keyed = FINGERPRINTS.keyed("request-1", Command())
    assert keyed == Keyed("request-1", FINGERPRINTS.of(Command()), Command())
    assert FINGERPRINTS.keyed("request-2", Command()).fingerprint == keyed.fingerprint
