"""Stand-ins for the coordinator's ports: participants that answer by a script, and a journal in memory."""

import datetime as dt
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID, uuid5

from services.checkout import saga
from services.checkout.coordinator import Answer, Done, Entry, EntryKind, NotKnown
from services.checkout.domain import Coordination, Customer, Order, OrderLine, Rejection, RejectionReason
from services.checkout.saga import Action
from services.common.values import Address, Clock, Money

BEFORE_PIVOT_SECONDS = 60.0
EMAIL, TOKEN = "ada@example.com", "tok_succeeds"
ADDRESS = Address("AT", ("Ring 1",), postal_code="1010", locality="Vienna", recipients=("Ada",))
_NAMES = UUID("5b0c1f1e-0000-4000-8000-000000000000")


def new_order(
    clock: Clock, number: int = 1, lines: Mapping[str, int] | None = None, before_pivot_seconds: float | None = None
) -> Order:
    """Make an order as it was just placed; its ids follow from its number, its lines are pieces by SKU."""
    now, price = clock.now(), Money("EUR", 1250)
    items = tuple(
        OrderLine(uuid5(_NAMES, sku), sku, f"A {sku}", price, quantity, price * quantity)
        for sku, quantity in (lines or {"MUG": 2}).items()
    )
    limit_seconds = BEFORE_PIVOT_SECONDS if before_pivot_seconds is None else before_pivot_seconds
    return Order(
        order_id=uuid5(_NAMES, f"order {number}"),
        request_id=f"request-{number}",
        quote_id=uuid5(_NAMES, f"quote {number}"),
        customer=Customer("ada", EMAIL, "de-AT"),
        shipping_address=ADDRESS,
        lines=items,
        total=price * sum(line.quantity for line in items),
        coordination=Coordination.ORCHESTRATION,
        saga_version=saga.VERSION,
        trace_context={},
        decide_by=now + dt.timedelta(seconds=limit_seconds),
        create_time=now,
        update_time=now,
        payment_method_token=TOKEN,
    )


@dataclass(frozen=True, slots=True)
class Late:
    """An answer that takes a while, in seconds."""

    after_seconds: float
    answer: Answer


@dataclass(slots=True)
class Call:
    """One call of a participant: what was asked, and when, in seconds."""

    order: Order
    action: Action
    begin_seconds: float
    budget_seconds: float


class ScriptedParticipants:
    """Answers each action by its script, one answer a call; the last one stays. Without a script: done at once."""

    def __init__(self, clock: Clock, script: Mapping[Action, Iterable[Answer | Late]] | None = None) -> None:
        """Answer by a script, in the time of a clock."""
        self._clock = clock
        self._script = {action: deque(answers) for action, answers in (script or {}).items()}
        self.calls: list[Call] = []
        self.trail: list[str] = []
        """What happened in order: `action` for the beginning of a call, `action.` for its end."""

    async def perform(self, action: Action, order: Order, budget_seconds: float) -> Answer:
        """Answer as the script says, after the time that it says, but never later than the budget."""
        self.calls.append(Call(order, action, self._clock.monotonic_seconds(), budget_seconds))
        self.trail.append(action.value)
        answers = self._script.get(action, deque([Done()]))
        answer = answers.popleft() if len(answers) > 1 else answers[0]
        if isinstance(answer, Late):
            await self._clock.sleep(min(answer.after_seconds, budget_seconds))
            answer = answer.answer if answer.after_seconds <= budget_seconds else NotKnown("DEADLINE_EXCEEDED")
        else:
            await self._clock.sleep(0)
        self.trail.append(f"{action.value}.")
        return answer

    def times(self, action: Action) -> list[float]:
        """Return when an action was asked for."""
        return [call.begin_seconds for call in self.calls if call.action is action]


class MemoryJournal:
    """Keeps each order's story, and commits outcomes after a moment."""

    def __init__(self, clock: Clock, trail: list[str] | None = None) -> None:
        """Keep it in memory; outcomes are noted in the trail too, at the moment of their commit."""
        self._clock, self._trail = clock, [] if trail is None else trail
        self.entries: dict[UUID, list[Entry]] = defaultdict(list)

    def note(self, order: Order, entry: Entry) -> None:
        """Write an entry."""
        self.entries[order.order_id].append(entry)

    async def commit_outcome(self, order: Order, entry: Entry) -> Order:
        """Write an outcome, and return the order as it is then."""
        await self._clock.sleep(0)
        self.note(order, entry)
        self._trail.append(entry.kind.value)
        if entry.kind is EntryKind.CONFIRMED:
            return order.confirmed(self._clock.now())
        metadata = {key: value for key, value in entry.details.items() if key != "reason"}
        return order.rejected(Rejection(RejectionReason(entry.details["reason"]), metadata), self._clock.now())

    def story(self, order: Order) -> list[str]:
        """Return an order's entries as texts, such as `DONE reserve_stock` and `REJECTED OUT_OF_STOCK`."""
        return [story_line(entry) for entry in self.entries[order.order_id]]


def story_line(entry: Entry) -> str:
    """Write an entry as a text: its kind, its action and its reason, where it has them."""
    return " ".join(filter(None, (entry.kind.value, entry.action, entry.details.get("reason"))))
