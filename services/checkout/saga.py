"""The saga of an order, as one table: read it from top to bottom and you know the process.

Stages run one after the other, the steps of a stage at the same time. Up to the pivot a step that is refused aborts the
order: the payment's undo is called first and alone, because the payment's row decides (it is voided, or captured, and
never both), and then the undos of the others. Past the pivot nothing is undone here: a step is tried until it is done,
or a person has to look at it.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

VERSION: Final = 1
"""The table that new orders begin with; recorded with each, so that it goes on by the same one."""


class Action(StrEnum):
    """What a participant is asked to do."""

    RESERVE_STOCK = "reserve_stock"
    RELEASE_RESERVATION = "release_reservation"
    COMMIT_RESERVATION = "commit_reservation"
    AUTHORIZE_PAYMENT = "authorize_payment"
    VOID_PAYMENT = "void_payment"
    CAPTURE_PAYMENT = "capture_payment"


class Kind(Enum):
    """What a step is to the saga (García-Molina and Salem's terms, as Richardson uses them)."""

    COMPENSATABLE = "compensatable"
    """It can be undone, until the pivot is done."""
    PIVOT = "pivot"
    """When it is done, the order is paid."""
    RETRIABLE = "retriable"
    """It follows the pivot and is tried until it is done."""


class PermanentFailure(Enum):
    """What becomes of the order when a step is refused for good."""

    ABORT = "abort"
    """The order is rejected, and what was done is undone."""
    NEED_ATTENTION = "need attention"
    """The saga stops, and a person has to look at it."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a step that has no verdict yet is asked again: exponential backoff with full jitter between two waits."""

    first_wait_seconds: float
    longest_wait_seconds: float


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the table."""

    stage: int
    action: Action
    undo: Action | None
    kind: Kind
    permanent_failure: PermanentFailure
    retry: RetryPolicy
    budget_seconds: float
    """How long one call may take, in seconds."""


QUICK: Final = RetryPolicy(first_wait_seconds=0.05, longest_wait_seconds=2.0)
PATIENT: Final = RetryPolicy(first_wait_seconds=0.2, longest_wait_seconds=10.0)

_ABORT, _ATTENTION = PermanentFailure.ABORT, PermanentFailure.NEED_ATTENTION

# fmt: off
TABLE: Final = (
    Step(1, Action.RESERVE_STOCK,      Action.RELEASE_RESERVATION, Kind.COMPENSATABLE, _ABORT,     QUICK,   2.0),
    Step(1, Action.AUTHORIZE_PAYMENT,  Action.VOID_PAYMENT,        Kind.COMPENSATABLE, _ABORT,     QUICK,   10.0),
    Step(2, Action.CAPTURE_PAYMENT,    None,                       Kind.PIVOT,         _ABORT,     QUICK,   10.0),
    Step(3, Action.COMMIT_RESERVATION, None,                       Kind.RETRIABLE,     _ATTENTION, PATIENT, 2.0),
)
# fmt: on

TABLES: Final = {VERSION: TABLE}
"""The tables that orders may have begun with, by version."""

DECIDING_UNDO: Final = Action.VOID_PAYMENT
"""The undo that is called first and alone: its answer says whether the order can still be rejected."""
GO_FORWARD_REASON: Final = "ALREADY_CAPTURED"
"""The only refusal of that undo that says something: the payment is captured, so the order goes forward."""
UNDO_RETRY: Final = PATIENT
UNDO_BUDGET_SECONDS: Final = 5.0


def stages(table: tuple[Step, ...], *, after_pivot: bool) -> list[tuple[Step, ...]]:
    """Return the stages up to the pivot's, or those that follow it, in order."""
    pivot = next(step.stage for step in table if step.kind is Kind.PIVOT)
    numbers = sorted({step.stage for step in table if (step.stage > pivot) is after_pivot})
    return [tuple(step for step in table if step.stage == number) for number in numbers]
