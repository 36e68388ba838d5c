"""Runs sagas as tasks: begins them, lets callers wait for their verdicts, and ends with the service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from opentelemetry import trace

from services.checkout.coordinator import Coordinator
from services.checkout.domain import Order
from services.checkout.journal import FencedError, GroupJournal
from services.common import deadline, tracing
from services.common.idempotency import Answered, Refused
from services.common.logs import get_logger

_STOP_SECONDS: Final = 5.0

_log = get_logger(__name__)


class SagaRunner:
    """The sagas of this process, at most so many at once."""

    def __init__(self, coordinator: Coordinator, journal: GroupJournal, tracer: trace.Tracer, limit: int) -> None:
        """Run sagas by a coordinator that writes to the journal."""
        self._coordinator, self._journal, self._tracer, self._limit = coordinator, journal, tracer, limit
        self._verdicts: dict[UUID, asyncio.Future[Answered | Refused]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def has_room(self) -> bool:
        """Tell whether another saga may begin."""
        return len(self._tasks) < self._limit

    def begin(self, order: Order, epoch: int, sequence: int) -> None:
        """Begin the saga of an order that was placed. It has no caller's deadline: its steps have budgets."""
        self._journal.open(order, epoch, sequence)
        self._verdicts[order.order_id] = asyncio.get_running_loop().create_future()
        with deadline.without_callers():
            task = asyncio.create_task(self._run(order), name=f"saga {order.order_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def verdict(self, order_id: UUID, timeout_seconds: float) -> Answered | Refused | None:
        """Wait for the verdict of a saga that runs here; None when there is none in time, or no such saga."""
        waiting = self._verdicts.get(order_id)
        if waiting is None:
            return None
        done, _ = await asyncio.wait([waiting], timeout=timeout_seconds)
        return waiting.result() if done and not waiting.cancelled() else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let sagas run while the block is open; at its end give them a while to come to their ends."""
        try:
            yield
        finally:
            if self._tasks:
                _, open_tasks = await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
                for task in open_tasks:
                    task.cancel()
                if open_tasks:
                    _log.warning("sagas left open", count=len(open_tasks))
                    await asyncio.wait(open_tasks)

    async def _run(self, order: Order) -> None:
        parent = tracing.restored(order.trace_context)
        attributes = {"libretto.order_id": str(order.order_id), "libretto.order_number": order.number}
        verdict = self._verdicts[order.order_id]
        try:
            with self._tracer.start_as_current_span("saga", parent, attributes=attributes, record_exception=False):
                decided = await self._coordinator.decide(order)
                verdict.set_result(self._committed(order))
                await self._coordinator.finish(decided)
        except FencedError:
            _log.warning("saga left to its new owner", order_id=str(order.order_id))
        except Exception as error:  # noqa: BLE001 - the top of a task in the background: its end must be seen.
            _log.error("saga failed", order_id=str(order.order_id), error_type=type(error).__qualname__)
        finally:
            verdict.cancel()
            del self._verdicts[order.order_id]
            self._journal.close(order)

    def _committed(self, order: Order) -> Answered | Refused:
        verdict = self._journal.verdict(order)
        assert verdict is not None  # noqa: S101 - the coordinator has just committed it.
        return verdict
