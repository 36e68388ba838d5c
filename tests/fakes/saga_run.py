"""Runs one order's saga to its end in virtual time, against participants that answer by a script."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.checkout.coordinator import Answer, Coordinator, Limits
from services.checkout.domain import Order
from services.checkout.saga import Action
from tests.fakes.checkout import Late, MemoryJournal, ScriptedParticipants, new_order
from tests.fakes.clock import VirtualClock

Script = Mapping[Action, Iterable[Answer | Late]]


class Longest(random.Random):
    """Draws the upper limit each time, so that waits can be foretold."""

    def uniform(self, a: float, b: float) -> float:
        """Return the upper limit."""
        return max(a, b)


@dataclass(frozen=True, slots=True)
class SagaRun:
    """What became of an order, and what was asked and written on the way."""

    placed: Order
    decided: Order
    participants: ScriptedParticipants
    journal: MemoryJournal

    @property
    def trail(self) -> list[str]:
        """The calls and the commit of the outcome, in order."""
        return self.participants.trail

    @property
    def story(self) -> list[str]:
        """The entries of the journal, in order."""
        return self.journal.story(self.placed)

    @property
    def asked(self) -> list[Action]:
        """What was asked for, in order."""
        return [call.action for call in self.participants.calls]


async def run_saga(
    script: Script | None = None,
    source: random.Random | None = None,
    limits: Limits | None = None,
    before_pivot_seconds: float | None = None,
) -> SagaRun:
    """Decide an order and finish it; the waits are the longest ones unless a source of randomness says otherwise."""
    clock = VirtualClock()
    participants = ScriptedParticipants(clock, script)
    journal = MemoryJournal(clock, participants.trail)
    coordinator = Coordinator(participants, journal, clock, source or Longest(), limits or Limits())
    placed = new_order(clock, before_pivot_seconds=before_pivot_seconds)
    decided = await coordinator.decide(placed)
    await coordinator.finish(decided)
    return SagaRun(placed, decided, participants, journal)
