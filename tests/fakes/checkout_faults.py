"""Coordinators and journals with a deliberate mistake each, to prove that the simulation can find one."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from services.checkout.coordinator import Answer, Coordinator, Done, Entry, EntryKind, NotKnown, Refused
from services.checkout.domain import Order, Rejection, rejection_for
from services.checkout.journal import GroupJournal
from services.checkout.saga import Action, Step


class GivesStockBackBeforeTheVoid(Coordinator):
    """Undoes as things come, with the payment still undecided."""

    async def _void(self, order: Order) -> bool:
        await self._undo(order, Action.RELEASE_RESERVATION)
        return await super()._void(order)


class RejectsWithoutAVoid(Coordinator):
    """Takes the first refusal for the outcome."""

    async def _void(self, order: Order) -> bool:  # noqa: ARG002 - that is the fault.
        return True


class RejectsWhatIsCaptured(Coordinator):
    """Calls the void, but does not listen to it."""

    async def _void(self, order: Order) -> bool:
        await super()._void(order)
        return True


class TakesAnUnknownVoidForDone(Coordinator):
    """Asks once, and takes anything but a refusal for a promise."""

    async def _void(self, order: Order) -> bool:
        return not isinstance(await self._participants.perform(Action.VOID_PAYMENT, order, 5.0), Refused)


class TakesAnUnknownCaptureForRefused(Coordinator):
    """Rejects at once when the capture does not answer."""

    def __init__(self, *ports: Any) -> None:  # noqa: ANN401 - whatever a coordinator takes.
        """Begin with no capture that was given up."""
        super().__init__(*ports)
        self._given_up: set[UUID] = set()

    async def _attempt(self, order: Order, step: Step, deadline: float, refused: asyncio.Event) -> Answer:
        if step.action is not Action.CAPTURE_PAYMENT:
            return await super()._attempt(order, step, deadline, refused)
        answer = await self._participants.perform(step.action, order, step.budget_seconds)
        if isinstance(answer, NotKnown):
            self._given_up.add(order.order_id)
        return answer

    async def _void(self, order: Order) -> bool:
        return order.order_id in self._given_up or await super()._void(order)


class TakesAnUnknownCaptureForDone(Coordinator):
    """Confirms what may never be paid."""

    async def _attempt(self, order: Order, step: Step, deadline: float, refused: asyncio.Event) -> Answer:
        if step.action is not Action.CAPTURE_PAYMENT:
            return await super()._attempt(order, step, deadline, refused)
        answer = await self._participants.perform(step.action, order, step.budget_seconds)
        return Done() if isinstance(answer, NotKnown) else answer


class VoidsBesideOtherSteps(Coordinator):
    """Voids at the first step that ends with no, with the one beside it still under way."""

    async def _run_stage(self, order: Order, stage: tuple[Step, ...], deadline: float) -> Rejection | None:
        steps = [asyncio.create_task(self._attempt(order, step, deadline, asyncio.Event())) for step in stage]
        for ended in asyncio.as_completed(steps):
            if isinstance(answer := await ended, Refused):
                await self._void(order)
                await asyncio.wait(steps)
                return rejection_for("", answer.reason, {})
        return await super()._run_stage(order, stage, deadline)


class AsksBeyondTheOrdersTime(Coordinator):
    """Goes on asking for what was to be done by then."""

    async def _attempt(self, order: Order, step: Step, deadline: float, refused: asyncio.Event) -> Answer:
        return await super()._attempt(order, step, deadline + 60.0, refused)


class ForgetsToGiveStockBack(Coordinator):
    """Drops a compensation."""

    async def _undo(self, order: Order, undo: Action) -> bool:  # noqa: ARG002 - that is the fault.
        return True


class CompletesWithoutSelling(Coordinator):
    """Asks once, and does not wait for the answer that it needs."""

    async def _complete(self, order: Order, step: Step) -> bool:
        await self._participants.perform(step.action, order, step.budget_seconds)
        return True


class CallsNobody(Coordinator):
    """Leaves an order that cannot go on to itself."""

    def _call_for_attention(self, order: Order, action: Action, reason: str) -> None:
        pass


class AnswersBeforeTheCommit(GroupJournal):
    """Does not wait for the outcome to be committed."""

    async def commit_outcome(self, order: Order, entry: Entry) -> Order:
        """Note the outcome, and return the order as it will be."""
        self._last = asyncio.create_task(super().commit_outcome(order, entry))
        now = self._clock.now()
        if entry.kind is EntryKind.CONFIRMED:
            return order.confirmed(now)
        return order.rejected(rejection_for("", entry.details["reason"], {}), now)


EARLY = "stock given back before the void and the rejection were known"
COORDINATORS: Mapping[type[Coordinator], str] = {
    GivesStockBackBeforeTheVoid: EARLY,
    RejectsWithoutAVoid: EARLY,
    RejectsWhatIsCaptured: "rejected and captured",
    TakesAnUnknownVoidForDone: "rejected and captured",
    TakesAnUnknownCaptureForRefused: "rejected and captured",
    TakesAnUnknownCaptureForDone: "COMPLETED and captured 0 times",
    VoidsBesideOtherSteps: "void_payment beside",
    AsksBeyondTheOrdersTime: "begun too late",
    ForgetsToGiveStockBack: "rejected with the reservation",
    CompletesWithoutSelling: "COMPLETED with the reservation",
    CallsNobody: "neither completed nor marked for attention",
}
"""Each with what is wrong under some seed because of it."""
JOURNALS: Mapping[type[GroupJournal], str] = {AnswersBeforeTheCommit: EARLY}
"""As above."""
