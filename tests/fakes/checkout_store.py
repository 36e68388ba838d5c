"""A journal's store in memory, with the fence of the real one, that can fail before or after it has written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID

from services.checkout.coordinator import EntryKind
from services.checkout.domain import Order, OrderState, Rejection
from services.checkout.journal import Change
from services.common.database import DatabaseUnavailableError
from services.common.idempotency import Answered, Refused
from services.common.values import Clock
from tests.fakes.checkout import story_line

FIRST_EPOCH, FIRST_SEQUENCE = 1, 1


class Fault(Enum):
    """What goes wrong with one commit."""

    NOTHING = "nothing"
    BEFORE = "the database is not reached"
    AFTER = "the answer is lost"


class BrokenRowError(Exception):
    """Stands for what a database refuses for good, such as a broken constraint."""


@dataclass(slots=True)
class Row:
    """An order as the store has it."""

    epoch: int = FIRST_EPOCH
    last_sequence: int = FIRST_SEQUENCE
    state: OrderState = OrderState.PROCESSING
    rejection: Rejection | None = None
    verdicts: list[Answered | Refused] = field(default_factory=list)
    story: dict[int, str] = field(default_factory=dict)
    """The entries as texts, by sequence."""
    epochs: dict[int, int] = field(default_factory=dict)
    """Under which epoch each was written."""


class MemoryJournalStore:
    """Keeps journals in memory. Each commit takes a while, and fails as `next_fault` says."""

    def __init__(
        self, clock: Clock, next_fault: Callable[[], Fault] = lambda: Fault.NOTHING, append_seconds: float = 0.001
    ) -> None:
        """Keep nothing yet."""
        self._clock, self._next_fault, self._append_seconds = clock, next_fault, append_seconds
        self.rows: dict[UUID, Row] = {}
        self.broken: set[UUID] = set()
        """Orders that break every commit which they are part of."""
        self.groups: list[list[UUID]] = []
        """The orders of each commit that was tried, in order."""

    def place(self, order: Order) -> None:
        """Keep an order that was just placed, with the first entry of its story."""
        self.rows[order.order_id] = Row(story={FIRST_SEQUENCE: EntryKind.PLACED.value})

    def take_over(self, order: Order) -> None:
        """Let another coordinator own an order."""
        self.rows[order.order_id].epoch += 1

    def story(self, order: Order) -> list[str]:
        """Return an order's entries as texts, in order."""
        return [line for _, line in sorted(self.rows[order.order_id].story.items())]

    async def append(self, changes: Sequence[Change]) -> set[UUID]:
        """Write each change whole, if its order still has the epoch and the sequence; return the orders written."""
        self.groups.append([change.order_id for change in changes])
        await self._clock.sleep(self._append_seconds)
        if self.broken.intersection(self.groups[-1]):
            raise BrokenRowError
        fault = self._next_fault()
        if fault is Fault.BEFORE:
            raise DatabaseUnavailableError(fault.value)
        written = {change.order_id for change in changes if self._write(change) or self._is_written(change)}
        if fault is Fault.AFTER:
            raise DatabaseUnavailableError(fault.value)
        return written

    def _write(self, change: Change) -> bool:
        row = self.rows[change.order_id]
        if (row.epoch, row.last_sequence) != (change.epoch, change.expected_sequence):
            return False
        for sequence, (entry, _) in enumerate(change.entries, change.expected_sequence + 1):
            row.story[sequence], row.epochs[sequence] = story_line(entry), change.epoch
        row.last_sequence = change.last_sequence
        row.state = change.state or row.state
        row.rejection = change.rejection or row.rejection
        row.verdicts += [] if change.verdict is None else [change.verdict]
        return True

    def _is_written(self, change: Change) -> bool:
        return self.rows[change.order_id].epochs.get(change.last_sequence) == change.epoch
