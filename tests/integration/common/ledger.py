"""A store of the tests' own around `once_each`: its effect enters commands in a table, or refuses them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from google.protobuf.wrappers_pb2 import StringValue

from services.common.database import Connection, Database
from services.common.idempotency import Fingerprints, Keyed, Undecided, Verdict, once_each
from services.common.values import DomainError, ErrorKind

METHOD = "EnterNote"
TABLE = "CREATE TABLE entries (entry_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL)"
FINGERPRINTS = Fingerprints("a-key-for-tests")
BOUND_SECONDS = 10.0
WAITING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INTO request_keys%'"
)


class NoteTooRudeError(DomainError):
    """A refusal of the effect's."""

    kind, service, reason = ErrorKind.REFUSED, "notebook", "NOTE_TOO_RUDE"


@dataclass(frozen=True, slots=True)
class Note:
    """A command."""

    text: str


def keyed(request_id: str, text: str) -> Keyed[Note]:
    """Make a command with a key."""
    return FINGERPRINTS.keyed(request_id, Note(text))


def write(entry_id: int) -> StringValue:
    """Write the response of an entry."""
    return StringValue(value=f"entry {entry_id}")


@dataclass
class Ledger:
    """Enters notes in a database. Those that begin with `rude` are refused, those with `slow` left undecided."""

    database: Database
    batches: list[list[str]] = field(default_factory=list)
    """The notes that the effect was given, batch by batch."""

    async def enter(self, connection: Connection, notes: Sequence[Note]) -> list[int | DomainError | Undecided]:
        """Enter those notes that may be; fail for one that begins with `broken`, after the entry."""
        self.batches.append([note.text for note in notes])
        results: list[int | DomainError | Undecided] = []
        for note in notes:
            if note.text.startswith("rude"):
                results.append(NoteTooRudeError("The note is too rude.", note=note.text))
            elif note.text.startswith("slow"):
                results.append(Undecided())
            else:
                entered = "INSERT INTO entries (note) VALUES ($1) RETURNING entry_id"
                results.append(await connection.fetchval(entered, note.text))
            if note.text.startswith("broken"):
                raise ZeroDivisionError
        return results

    async def apply(
        self,
        *requests: Keyed[Note],
        method: str = METHOD,
        before: Callable[[Connection], Awaitable[None]] | None = None,
        after: Callable[[], Awaitable[None]] | None = None,
    ) -> list[Verdict]:
        """Run requests in one transaction; `before` begins in it, `after` is awaited between effect and commit."""

        async def work(connection: Connection) -> list[Verdict]:
            if before is not None:
                await before(connection)
            verdicts = await once_each(connection, method, requests, lambda notes: self.enter(connection, notes), write)
            if after is not None:
                await after()
            return verdicts

        return await self.database.transaction(work)

    async def entries(self) -> list[str]:
        """Return the notes that were entered, in order."""
        async with self.database.connection() as connection:
            return [row["note"] for row in await connection.fetch("SELECT note FROM entries ORDER BY entry_id")]

    async def keys(self) -> list[tuple[str, str]]:
        """Return method and request_id of every key, in order."""
        async with self.database.connection() as connection:
            rows = await connection.fetch("SELECT method, request_id FROM request_keys ORDER BY 1, 2")
            return [(row["method"], row["request_id"]) for row in rows]

    async def clear(self) -> None:
        """Begin anew."""
        self.batches.clear()
        async with self.database.connection() as connection:
            await connection.execute("TRUNCATE entries, request_keys")

    async def until_waiting(self, count: int = 1) -> None:
        """Wait until so many transactions wait for another one's key."""
        async with asyncio.timeout(BOUND_SECONDS), self.database.connection() as connection:
            while await connection.fetchval(WAITING) < count:
                pass  # Each question is an answer later.
