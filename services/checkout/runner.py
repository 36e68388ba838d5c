"""Runs sagas as tasks: begins them, lets callers wait for their verdicts, and ends with the service."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar
from uuid import UUID

from opentelemetry import trace

from services.checkout.coordinator import Coordinator, Entry, EntryKind
from services.checkout.domain import Order
from services.checkout.journal import FencedError, GroupJournal
from services.common import deadline, tracing
from services.common.errors import incident
from services.common.idempotency import Answered, Refused
from services.common.logs import get_logger
from services.common.values import DomainError, OverloadedError

T = TypeVar("T")

_STOP_SECONDS: Final = 5.0
_NAMED_ORDERS: Final = 20

_log = get_logger(__name__)


class SagaRunner:
    """The sagas of this process, at most so many at once, those that are about to begin included."""

    def __init__(
        self,
        coordinator: Coordinator,
        journal: GroupJournal,
        verdict_of: Callable[[Order], Answered | Refused],
        tracer: trace.Tracer,
        limit: int,
    ) -> None:
        """Run sagas by a coordinator that writes to the journal; `verdict_of` makes the customer's answer."""
        self._coordinator, self._journal, self._verdict_of = coordinator, journal, verdict_of
        self._tracer, self._limit = tracer, limit
        self._verdicts: dict[UUID, asyncio.Future[Answered | Refused]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._expected = 0
        self._stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @contextmanager
    def room(self) -> Iterator[None]:
        """Keep room for a saga that may begin in the block. Raises OverloadedError."""
        if len(self._tasks) + self._expected >= self._limit:
            raise OverloadedError("Too many orders are under way; try again a little later.")
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1

    def undertake(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin work that comes to its end although its caller hangs up; a stop waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def begin(self, order: Order, epoch: int, sequence: int) -> None:
        """Begin the saga of an order that was placed. It has no caller's deadline: its steps have budgets."""
        self._journal.open(order, epoch, sequence)
        self._verdicts[order.order_id] = asyncio.get_running_loop().create_future()
        with deadline.without_callers():
            self.undertake(self._run(order))

    def runs(self, order_id: UUID) -> bool:
        """Tell whether an order's saga runs here."""
        return order_id in self._verdicts

    async def verdict(self, order_id: UUID, timeout_seconds: float) -> Answered | Refused | None:
        """Wait for the verdict of a saga that runs here; None without one in time, at a stop, and for no such saga."""
        waiting = self._verdicts.get(order_id)
        if waiting is None:
            return None
        ends = (waiting, self._stopping)
        await asyncio.wait(ends, timeout=max(0.0, timeout_seconds), return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() and not waiting.cancelled() else None

    def end_waits(self) -> None:
        """Let nobody wait for a verdict any more, as this process is about to stop; the sagas go on."""
        if not self._stopping.done():
            self._stopping.set_result(None)

    @property
    def is_stopping(self) -> bool:
        """Whether nobody may wait any more."""
        return self._stopping.done()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let sagas run while the block is open; at its end give them a while to come to their ends."""
        try:
            yield
        finally:
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    while self._tasks:  # Placing an order ends by beginning its saga.
                        await asyncio.wait(self._tasks)
            except TimeoutError:
                order_ids = [str(order_id) for order_id in self._verdicts]
                _log.warning("sagas left open", count=len(order_ids), order_ids=order_ids[:_NAMED_ORDERS])
                for task in (left := list(self._tasks)):
                    task.cancel()
                await asyncio.wait(left)

    async def _run(self, order: Order) -> None:
        parent = tracing.restored(order.trace_context)
        attributes = {"libretto.order_id": str(order.order_id), "libretto.order_number": order.number}
        verdict = self._verdicts[order.order_id]
        try:
            with tracing.span(self._tracer, "saga", parent=parent, attributes=attributes):
                decided = await self._coordinator.decide(order)
                verdict.set_result(self._verdict_of(decided))
                await self._coordinator.finish(decided)
        except FencedError:
            _log.warning("saga left to its new owner", order_id=str(order.order_id))
        except Exception as error:  # noqa: BLE001 - the top of a task in the background: its end must be seen.
            incident(error, order_id=str(order.order_id))
            self._journal.note(order, Entry(EntryKind.NEEDS_ATTENTION, details={"reason": "INTERNAL"}))
        finally:
            verdict.cancel()
            del self._verdicts[order.order_id]
            self._journal.close(order)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, DomainError):
            incident(error)
