"""Runs the saga of an order, by the table in saga.py. Why it is so: docs/adr/0006.

It knows nothing of gRPC or SQL: participants, journal, time and randomness are ports. Each step's answer is one of
three: done, refused for good, or not known yet, which is asked again with the same key until it is known.
"""

import asyncio
import random
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeVar

from services.checkout import saga
from services.checkout.domain import Order, Rejection, RejectionReason, rejection_for
from services.checkout.saga import Action, PermanentFailure, RetryPolicy, Step
from services.common.values import Clock

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done:
    """The participant did it, now or before."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The participant will not do it, however often it is asked."""

    reason: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NotKnown:
    """No verdict yet: not sent, lost, overloaded or still being decided. The same request asks again."""

    why: str
    wait_seconds: float | None = None
    """How long the participant asked to wait."""


Answer = Done | Refused | NotKnown


class Participants(Protocol):
    """The services that take part, behind whatever transport."""

    async def perform(self, action: Action, order: Order, budget_seconds: float) -> Answer:
        """Ask for an action on an order. The request is a function of the order alone; its key never changes."""


class EntryKind(Enum):
    """What an entry of the journal says."""

    PLACED = "PLACED"
    DONE = "DONE"
    REFUSED = "REFUSED"
    UNDONE = "UNDONE"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    COMPLETED = "COMPLETED"
    """The last entry of a confirmed order."""
    CLOSED = "CLOSED"
    """The last entry of a rejected order: all is undone."""
    NEEDS_ATTENTION = "NEEDS_ATTENTION"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an order's story: ids, reasons and numbers, nothing personal."""

    kind: EntryKind
    action: Action | None = None
    details: Mapping[str, str] = field(default_factory=dict)


class Journal(Protocol):
    """The story of each order, written in order, under the epoch in which this coordinator owns it."""

    def note(self, order: Order, entry: Entry) -> None:
        """Write an entry soon; nobody waits for it."""

    async def commit_outcome(self, order: Order, entry: Entry) -> Order:
        """Write an outcome with the answer to the customer, wait until it is committed, and return the order then."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long what must be done is tried, in seconds."""

    quick_seconds: float = 300.0
    """How long it is tried quickly, before a person is called."""
    slow_wait_seconds: float = 300.0
    """How long to wait between tries after that."""


class Coordinator:
    """Runs sagas, each in a task of its own."""

    def __init__(
        self, participants: Participants, journal: Journal, clock: Clock, source: random.Random, limits: Limits
    ) -> None:
        """Take the ports."""
        self._participants, self._journal, self._clock = participants, journal, clock
        self._random, self._limits = source, limits

    async def decide(self, order: Order) -> Order:
        """Bring a placed order to its outcome, which is committed when this returns: CONFIRMED or REJECTED."""
        left_seconds = (order.decide_by - self._clock.now()).total_seconds()
        deadline = self._clock.monotonic_seconds() + left_seconds
        for stage in saga.stages(_table(order), after_pivot=False):
            rejection = await self._run_stage(order, stage, deadline)
            if rejection is not None and await self._void(order):
                return await self._journal.commit_outcome(order, _rejected(rejection))
            if rejection is not None:
                break
        return await self._journal.commit_outcome(order, Entry(EntryKind.CONFIRMED))

    async def finish(self, order: Order) -> None:
        """Do what is left to do after the outcome: undo a rejected order's steps, or complete a confirmed one."""
        if order.rejection is not None:
            undos = [step.undo for step in _table(order) if step.undo not in {None, saga.DECIDING_UNDO}]
            if all(await _together([self._undo(order, undo) for undo in undos if undo is not None])):
                self._journal.note(order, Entry(EntryKind.CLOSED))
            return
        for stage in saga.stages(_table(order), after_pivot=True):
            if not all(await _together([self._complete(order, step) for step in stage])):
                return
        self._journal.note(order, Entry(EntryKind.COMPLETED))

    async def _run_stage(self, order: Order, stage: tuple[Step, ...], deadline: float) -> Rejection | None:
        """Run the steps of a stage at the same time; None, or why the order is to be aborted.

        Each call comes to its end, but once a step is refused the others are not asked again: they will be undone.
        """
        refused = asyncio.Event()
        answers = await _together([self._attempt(order, step, deadline, refused) for step in stage])
        for step, answer in zip(stage, answers, strict=True):
            if isinstance(answer, Refused):
                return rejection_for(step.action, answer.reason, answer.metadata)
        if any(isinstance(answer, NotKnown) for answer in answers):
            return Rejection(RejectionReason.ORDER_TIMED_OUT)
        return None

    async def _attempt(self, order: Order, step: Step, deadline: float, refused: asyncio.Event) -> Answer:
        """Ask for a step until it has a verdict, a neighbour is refused, or the time before the pivot is over."""
        tries = 0
        while not refused.is_set():
            left_seconds = deadline - self._clock.monotonic_seconds()
            if left_seconds <= 0:
                return NotKnown("the order's time is over")
            answer = await self._participants.perform(step.action, order, min(step.budget_seconds, left_seconds))
            if not isinstance(answer, NotKnown):
                self._journal.note(order, _entry(step.action, answer))
                if isinstance(answer, Refused):
                    refused.set()
                return answer
            wait_seconds = self._wait_seconds(step.retry, tries, answer)
            await self._clock.sleep(min(wait_seconds, max(0.0, deadline - self._clock.monotonic_seconds())))
            tries += 1
        return NotKnown("a neighbour was refused")

    async def _void(self, order: Order) -> bool:
        """Void the payment, first and alone: True permits the rejection, False says that it was captured."""
        answer = await self._insist(order, saga.DECIDING_UNDO, saga.UNDO_RETRY, saga.UNDO_BUDGET_SECONDS)
        self._journal.note(order, _entry(saga.DECIDING_UNDO, answer, undo=True))
        return isinstance(answer, Done)

    async def _undo(self, order: Order, undo: Action) -> bool:
        """Undo a step; False when that was refused and a person has to look at it."""
        answer = await self._insist(order, undo, saga.UNDO_RETRY, saga.UNDO_BUDGET_SECONDS)
        self._journal.note(order, _entry(undo, answer, undo=True))
        if isinstance(answer, Refused):
            self._call_for_attention(order, undo, answer.reason)
        return isinstance(answer, Done)

    async def _complete(self, order: Order, step: Step) -> bool:
        """Do a step that follows the pivot; False when it was refused and a person has to look at it."""
        answer = await self._insist(order, step.action, step.retry, step.budget_seconds)
        self._journal.note(order, _entry(step.action, answer))
        if isinstance(answer, Refused) and step.permanent_failure is PermanentFailure.NEED_ATTENTION:
            self._call_for_attention(order, step.action, answer.reason)
        return isinstance(answer, Done)

    async def _insist(self, order: Order, action: Action, retry: RetryPolicy, budget_seconds: float) -> Done | Refused:
        """Ask for what must be done until there is a verdict: quickly, then slowly with a person called."""
        quick_end = self._clock.monotonic_seconds() + self._limits.quick_seconds
        called = False
        tries = 0
        while True:
            answer = _believed(action, await self._participants.perform(action, order, budget_seconds))
            if not isinstance(answer, NotKnown):
                return answer
            wait_seconds = self._wait_seconds(retry, tries, answer)
            if self._clock.monotonic_seconds() >= quick_end:
                wait_seconds = self._limits.slow_wait_seconds
                if not called:
                    self._call_for_attention(order, action, answer.why)
                    called = True
            await self._clock.sleep(wait_seconds)
            tries += 1

    def _wait_seconds(self, retry: RetryPolicy, tries: int, answer: NotKnown) -> float:
        """Choose a wait: full jitter below an exponential limit, and never less than the participant asked for."""
        limit_seconds = min(retry.longest_wait_seconds, retry.first_wait_seconds * 2 ** min(tries, 30))
        return max(self._random.uniform(0, limit_seconds), answer.wait_seconds or 0.0)

    def _call_for_attention(self, order: Order, action: Action, reason: str) -> None:
        self._journal.note(order, Entry(EntryKind.NEEDS_ATTENTION, action, {"reason": reason}))


def _table(order: Order) -> tuple[Step, ...]:
    return saga.TABLES[order.saga_version]


async def _together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run work at the same time; when some of it fails, the rest is ended and waited for before the failure goes on."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in work]
    return [task.result() for task in tasks]


def _believed(action: Action, answer: Answer) -> Answer:
    """Take a refusal to void for a verdict only where it says that the payment is captured.

    Any other refusal (a reused key, a method that is not served) says neither voided nor captured.
    """
    if action is saga.DECIDING_UNDO and isinstance(answer, Refused) and answer.reason != saga.GO_FORWARD_REASON:
        return NotKnown(answer.reason)
    return answer


def _entry(action: Action, answer: Done | Refused, *, undo: bool = False) -> Entry:
    if isinstance(answer, Refused):
        return Entry(EntryKind.REFUSED, action, {**answer.metadata, "reason": answer.reason})
    return Entry(EntryKind.UNDONE if undo else EntryKind.DONE, action)


def _rejected(rejection: Rejection) -> Entry:
    return Entry(EntryKind.REJECTED, details={**rejection.metadata, "reason": rejection.reason.value})
