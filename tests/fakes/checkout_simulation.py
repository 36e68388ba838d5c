"""Runs real sagas (coordinator and journal) in the world of a seed, in virtual time, until all is quiet, and judges.

The same seed gives the same run, so a failure is found again by its seed: `simulate(seed)`.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass

from structlog.testing import capture_logs

from services.checkout.coordinator import Coordinator, Limits
from services.checkout.journal import GroupJournal
from services.checkout.messages import verdict_of
from tests.fakes.checkout import new_order
from tests.fakes.checkout_invariants import ending, violations
from tests.fakes.checkout_store import FIRST_EPOCH, FIRST_SEQUENCE
from tests.fakes.checkout_world import World
from tests.fakes.clock import StuckError, run_in_virtual_time

_ORDERS = 3
_STAGGER_SECONDS = 1.0
_LINES_LIMIT = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed came to."""

    violations: list[str]
    """What was wrong, a sentence each."""
    endings: Counter[str]
    """How the orders ended."""


def simulate(
    seed: int, coordinator_kind: type[Coordinator] = Coordinator, journal_kind: type[GroupJournal] = GroupJournal
) -> Outcome:
    """Run a few orders in the world of a seed until all is quiet, and judge what became of them."""
    with capture_logs():
        try:
            return run_in_virtual_time(_simulated(seed, coordinator_kind, journal_kind))
        except StuckError as error:
            return Outcome([str(error)], Counter())


async def _simulated(seed: int, coordinator_kind: type[Coordinator], journal_kind: type[GroupJournal]) -> Outcome:
    world = World(seed)
    journal = journal_kind(world.store, world.clock, verdict_of)
    coordinator = coordinator_kind(world, journal, world.clock, world.random, Limits())
    async with journal.writing():
        sagas = (_saga(world, journal, coordinator, number) for number in range(_ORDERS))
        ends = await asyncio.gather(*sagas, return_exceptions=True)
    await world.become_quiet()
    failures = [f"a saga ended by {end!r}" for end in ends if end is not None]
    return Outcome(failures + violations(world), Counter(ending(world, order) for order in world.orders))


async def _saga(world: World, journal: GroupJournal, coordinator: Coordinator, number: int) -> None:
    await world.clock.sleep(world.random.uniform(0, _STAGGER_SECONDS))
    skus = world.random.choice((("MUG",), ("MUG", "PEN")))
    order = new_order(world.clock, number, {sku: world.random.randint(1, _LINES_LIMIT) for sku in skus})
    world.orders.append(order)
    world.store.place(order)
    journal.open(order, FIRST_EPOCH, FIRST_SEQUENCE)
    await coordinator.finish(await coordinator.decide(order))
    journal.close(order)
