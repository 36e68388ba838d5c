"""Many orders in bad weather, each out of a seed, judged by the invariants; and proof that the judge can say no.

A seed that fails is run again by `tests.fakes.checkout_simulation.simulate(seed)`.
"""

from collections import Counter
from itertools import chain

import pytest

from services.checkout.coordinator import Coordinator
from services.checkout.journal import GroupJournal
from tests.fakes import checkout_faults
from tests.fakes.checkout_simulation import simulate

SEEDS = 300
ENDINGS = {
    "COMPLETED",
    "COMPLETED though voided",
    "COMPLETED though voided with attention",
    "COMPLETED with attention",
    "CONFIRMED with attention",
    "REJECTED AUTHORIZATION_LAPSED",
    "REJECTED CARD_DECLINED",
    "REJECTED CARD_DECLINED with attention",
    "REJECTED ORDER_TIMED_OUT",
    "REJECTED ORDER_TIMED_OUT with attention",
    "REJECTED OUT_OF_STOCK",
    "REJECTED OUT_OF_STOCK with attention",
}


def test_whatever_is_lost_late_or_refused_every_order_ends_as_it_must() -> None:
    """Nothing is wrong under any seed, and together they saw every way in which an order can end."""
    outcomes = {seed: simulate(seed) for seed in range(SEEDS)}
    assert {seed: outcome.violations for seed, outcome in outcomes.items() if outcome.violations} == {}
    endings: Counter[str] = sum((outcome.endings for outcome in outcomes.values()), Counter())
    assert endings.keys() >= ENDINGS


def test_a_seed_repeats_itself() -> None:
    """Else a failure could not be found again."""
    assert [simulate(seed).endings for seed in range(10)] == [simulate(seed).endings for seed in range(10)]


@pytest.mark.parametrize("kind", checkout_faults.COORDINATORS, ids=lambda kind: kind.__name__)
def test_a_coordinator_with_a_fault_is_caught(kind: type[Coordinator]) -> None:
    """Some seed shows what it leads to."""
    found = chain.from_iterable(simulate(seed, coordinator_kind=kind).violations for seed in range(SEEDS))
    assert any(checkout_faults.COORDINATORS[kind] in violation for violation in found)


@pytest.mark.parametrize("kind", checkout_faults.JOURNALS, ids=lambda kind: kind.__name__)
def test_a_journal_with_a_fault_is_caught(kind: type[GroupJournal]) -> None:
    """Some seed shows what it leads to."""
    found = chain.from_iterable(simulate(seed, journal_kind=kind).violations for seed in range(SEEDS))
    assert any(checkout_faults.JOURNALS[kind] in violation for violation in found)
