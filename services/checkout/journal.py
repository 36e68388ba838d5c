"""Writes the journal: the entries of all sagas, grouped into one commit, each order's in order and under its epoch.

An outcome is waited for; other entries ride along with the next commit, or follow by themselves a moment later. An
order whose epoch or last sequence is not the one expected belongs to another coordinator now: it is fenced, its
neighbours are written.
"""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

from services.checkout.coordinator import Entry, EntryKind
from services.checkout.domain import Order, OrderState, Rejection, RejectionReason
from services.common.database import DatabaseUnavailableError
from services.common.errors import incident
from services.common.idempotency import Answered, Refused
from services.common.logs import get_logger
from services.common.values import Clock

GROUP_LIMIT: Final = 256
"""Entries that one commit holds at most."""
_LINGER_SECONDS: Final = 0.05
"""How long entries that nobody waits for may wait for company."""
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 2.0
"""How long the writer waits between tries while the database is away."""
_LAST_SECONDS: Final = 5.0
"""How long writing what is left may take at the end."""

_log = get_logger(__name__)


class FencedError(Exception):
    """Another coordinator owns the order; what this one would write is not written."""


class JournalRefusedError(Exception):
    """The database refuses what was to be written, however often it is tried: a fault of ours."""


@dataclass(slots=True)
class Change:
    """What is written of one order in one commit: its next entries, and what becomes of its row."""

    order_id: UUID
    request_id: str
    epoch: int
    expected_sequence: int
    entries: list[tuple[Entry, dt.datetime]] = field(default_factory=list)
    state: OrderState | None = None
    rejection: Rejection | None = None
    attention: Mapping[str, str] | None = None
    finished: bool = False
    """Nothing is left to do, so nobody has to look at it any more."""
    verdict: Answered | Refused | None = None

    @property
    def last_sequence(self) -> int:
        """The sequence of the last entry."""
        return self.expected_sequence + len(self.entries)


class JournalStore(Protocol):
    """Where the journal is kept."""

    async def append(self, changes: Sequence[Change]) -> set[UUID]:
        """Write each change whole, if its order still has the epoch and the sequence; return the orders written.

        May be repeated with the same changes after a failure: what the first try wrote counts. Raises
        DatabaseUnavailableError when it does not know.
        """


@dataclass(slots=True)
class _Open:
    """An order whose saga runs here."""

    epoch: int
    sequence: int
    waiting: int = 0
    """Entries that are not written yet."""
    fenced: bool = False
    closed: bool = False


@dataclass(frozen=True, slots=True)
class _Write:
    order: Order
    entry: Entry
    time: dt.datetime
    verdict: Answered | Refused | None = None
    written: "asyncio.Future[None] | None" = None


class GroupJournal:
    """The journal of all sagas of this process: a queue, and one writer that empties it commit by commit.

    The queue is bounded by the sagas that may run at once, each of which writes a dozen entries in all.
    """

    def __init__(
        self,
        store: JournalStore,
        clock: Clock,
        verdict_of: Callable[[Order], Answered | Refused],
    ) -> None:
        """Write to a store; `verdict_of` makes the customer's answer of a decided order."""
        self._store, self._clock, self._verdict_of = store, clock, verdict_of
        self._open: dict[UUID, _Open] = {}
        self._queue: list[_Write] = []
        self._wanted, self._urgent = asyncio.Event(), asyncio.Event()
        self._refused: set[UUID] = set()
        """Orders whose last change the database refused."""
        self._ending = False

    def open(self, order: Order, epoch: int, sequence: int) -> None:
        """Begin to write for an order that this process owns in an epoch, after the entry with this sequence."""
        self._open[order.order_id] = _Open(epoch, sequence)

    def note(self, order: Order, entry: Entry) -> None:
        """Write an entry soon; nobody waits for it."""
        self._enqueue(_Write(order, entry, self._clock.now()))

    async def commit_outcome(self, order: Order, entry: Entry) -> Order:
        """Write an outcome and its answer; return the order as it is once that is committed.

        Raises FencedError, JournalRefusedError.
        """
        now = self._clock.now()
        decided = order.confirmed(now) if entry.kind is EntryKind.CONFIRMED else order.rejected(_rejection(entry), now)
        verdict = self._verdict_of(decided)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enqueue(_Write(order, entry, now, verdict, written))
        await asyncio.shield(written)
        return decided

    def close(self, order: Order) -> None:
        """Forget an order once its last entry is written."""
        self._open[order.order_id].closed = True
        self._forget_if_closed(order.order_id)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write while the block is open; at its end write what is left, unless the database is away for long."""
        writer = asyncio.create_task(self._write_to_the_end(), name="journal")
        try:
            yield
        finally:
            self._ending = True
            self._wanted.set()
            self._urgent.set()
            await asyncio.wait([writer], timeout=_LAST_SECONDS)
            if writer.cancel():
                _log.warning("journal entries left unwritten", count=len(self._queue))
                await asyncio.wait([writer])
            elif (error := writer.exception()) is not None:
                incident(error)

    def _enqueue(self, write: _Write) -> None:
        self._open[write.order.order_id].waiting += 1
        self._queue.append(write)
        self._wanted.set()
        if write.written is not None:
            self._urgent.set()

    async def _write_to_the_end(self) -> None:
        while self._queue or not self._ending:
            await self._wanted.wait()
            await self._linger()
            await self._write_group()

    async def _linger(self) -> None:
        """Wait a moment for company, unless somebody waits for what is to be written."""
        moment = asyncio.create_task(self._clock.sleep(_LINGER_SECONDS))
        urgent = asyncio.create_task(self._urgent.wait())
        try:
            await asyncio.wait((moment, urgent), return_when=asyncio.FIRST_COMPLETED)
        finally:
            moment.cancel()
            urgent.cancel()

    async def _write_group(self) -> None:
        """Write the oldest entries in one commit."""
        group = self._queue[:GROUP_LIMIT]
        changes = self._changes(group)
        written = await self._append(changes)
        del self._queue[: len(group)]
        if not self._ending:
            if not self._queue:
                self._wanted.clear()
            if not any(write.written for write in self._queue):
                self._urgent.clear()
        self._settle(group, changes, written)

    async def _append(self, changes: Sequence[Change]) -> set[UUID]:
        """Write changes in one commit, again and again until it is known which orders were written.

        A group that fails as a whole is written order by order: one order's fault is not its neighbours'.
        """
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._store.append(changes)
            except DatabaseUnavailableError as error:
                _log.warning("journal waits for its database", error_type=type(error).__qualname__, orders=len(changes))
            except Exception as error:  # noqa: BLE001 - whatever it is, the journal of the other sagas goes on.
                if len(changes) > 1:
                    return set().union(*[await self._append([change]) for change in changes])
                (change,) = changes
                self._refused.add(change.order_id)
                incident(error, order_id=str(change.order_id))
                return set()
            await self._clock.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    def _changes(self, group: Sequence[_Write]) -> list[Change]:
        changes: dict[UUID, Change] = {}
        for write in group:
            order_id = write.order.order_id
            owned = self._open[order_id]
            if owned.fenced:
                continue
            change = changes.get(order_id)
            if change is None:
                change = Change(order_id, write.order.request_id, owned.epoch, owned.sequence)
                changes[order_id] = change
            _add(change, write)
        return sorted(changes.values(), key=lambda change: change.order_id)

    def _settle(self, group: Sequence[_Write], changes: Sequence[Change], written: set[UUID]) -> None:
        for change in changes:
            owned = self._open[change.order_id]
            if change.order_id in written:
                owned.sequence = change.last_sequence
            elif change.order_id not in self._refused:
                owned.fenced = True
                _log.warning("fenced", order_id=str(change.order_id), epoch=change.epoch)
        for write in group:
            order_id = write.order.order_id
            if write.written is not None and not write.written.done():
                if self._open[order_id].fenced:
                    write.written.set_exception(FencedError(str(order_id)))
                elif order_id in self._refused:
                    write.written.set_exception(JournalRefusedError(str(order_id)))
                else:
                    write.written.set_result(None)
            self._open[order_id].waiting -= 1
            self._forget_if_closed(order_id)
        self._refused.clear()

    def _forget_if_closed(self, order_id: UUID) -> None:
        if self._open[order_id].closed and not self._open[order_id].waiting:
            del self._open[order_id]


def _add(change: Change, write: _Write) -> None:
    change.entries.append((write.entry, write.time))
    match write.entry.kind:
        case EntryKind.CONFIRMED:
            change.state, change.verdict = OrderState.CONFIRMED, write.verdict
        case EntryKind.REJECTED:
            change.state, change.verdict = OrderState.REJECTED, write.verdict
            change.rejection = _rejection(write.entry)
        case EntryKind.COMPLETED:
            change.state, change.finished = OrderState.COMPLETED, True
        case EntryKind.CLOSED:
            change.finished = True
        case EntryKind.NEEDS_ATTENTION:
            change.attention = {"action": write.entry.action or "", **write.entry.details}
        case EntryKind.PLACED | EntryKind.DONE | EntryKind.REFUSED | EntryKind.UNDONE:
            pass


def _rejection(entry: Entry) -> Rejection:
    metadata = {key: value for key, value in entry.details.items() if key != "reason"}
    return Rejection(RejectionReason(entry.details["reason"]), metadata)
