"""A request_id gets one verdict: stored in the transaction of its effect, and replayed byte for byte.

`once_each` surrounds a store's unit of work. A verdict is a success or a business refusal; what fails otherwise rolls
the transaction back and stores nothing, so that the same request may be tried again. Simultaneous calls with one key
wait for the first: its row is locked until its transaction ends.
"""

import dataclasses
import datetime as dt
import hashlib
import hmac
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from google.protobuf.message import Message
from google.rpc import status_pb2

from services.common.database import Connection, columns
from services.common.errors import StatusError, to_status
from services.common.values import DomainError, OutcomePendingError, RequestIdReusedError

C = TypeVar("C")
R = TypeVar("R")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Keyed(Generic[C]):
    """A command with the key of its request."""

    request_id: str
    fingerprint: bytes
    command: C


@dataclass(frozen=True, slots=True)
class Answered:
    """The verdict is a success."""

    response: bytes
    """The response, serialised."""

    def parse(self, kind: type[M]) -> M:
        """Return the response."""
        return kind.FromString(self.response)


@dataclass(frozen=True, slots=True)
class Refused:
    """The verdict is a business refusal."""

    status: bytes
    """The google.rpc.Status, serialised."""

    def parse(self, kind: type[M]) -> M:  # noqa: ARG002 - a verdict of either sort is read the same way.
        """Raise the refusal."""
        raise StatusError(status_pb2.Status.FromString(self.status))


@dataclass(frozen=True, slots=True)
class Undecided:
    """There is no verdict yet: an outside party has to speak first. `settle` stores it then."""

    def parse(self, kind: type[M]) -> M:  # noqa: ARG002 - as above.
        """Raise OutcomePendingError."""
        raise OutcomePendingError("The outcome is still being decided; repeat with the same request_id.")


Verdict = Answered | Refused | Undecided


class Fingerprints:
    """Makes the keyed hashes by which a request sent again is recognised without being kept."""

    def __init__(self, key: str) -> None:
        """Use a secret that all replicas of the service share."""
        self._key = key.encode()

    def keyed(self, request_id: str, command: C) -> Keyed[C]:
        """Join a command with the key of its request."""
        return Keyed(request_id, self.of(command), command)

    def of(self, command: object) -> bytes:
        """Hash a domain value: equal values have equal fingerprints, however the request was written."""
        canonical = json.dumps(_canonical(command), separators=(",", ":"), sort_keys=True)
        return hmac.new(self._key, canonical.encode(), hashlib.sha256).digest()


async def once_each(
    connection: Connection,
    method: str,
    requests: Sequence[Keyed[C]],
    effect: Callable[[Sequence[C]], Awaitable[Sequence[R | DomainError | Undecided]]],
    write: Callable[[R], Message],
) -> list[Verdict]:
    """Run an effect for those requests whose key is new, inside the caller's transaction; replay the others.

    `effect` takes the new commands and returns for each a result, a refusal, or Undecided; `write` makes the response
    of a result. Returns a verdict for each request, in order. A key that came with another request before is refused
    by REQUEST_ID_REUSED, and that is not stored.
    """
    first = {request.request_id: request for request in reversed(requests)}
    claimed = await _claim(connection, method, list(first.values()))
    fresh = [first[request_id] for request_id in sorted(claimed)]
    verdicts: dict[str, Verdict] = {}
    if fresh:
        results = await effect([request.command for request in fresh])
        verdicts = {
            request.request_id: verdict_of(result, write) for request, result in zip(fresh, results, strict=True)
        }
        await settle(connection, method, verdicts)
    stored = await _stored(connection, method, [request_id for request_id in first if request_id not in claimed])
    fingerprints = {request_id: first[request_id].fingerprint for request_id in claimed}
    for request_id, (fingerprint, verdict) in stored.items():
        fingerprints[request_id], verdicts[request_id] = fingerprint, verdict
    return [
        verdicts.get(request.request_id, Undecided())
        if hmac.compare_digest(fingerprints.get(request.request_id, request.fingerprint), request.fingerprint)
        else _reused()
        for request in requests
    ]


async def replayed(connection: Connection, method: str, request: Keyed[C]) -> Verdict | None:
    """Return what is already known of a key, or None for a new one.

    For work that has to be done before the transaction, such as a call to another service: a request sent again does
    without it. `once_each` remains what decides.
    """
    stored = (await _stored(connection, method, [request.request_id])).get(request.request_id)
    if stored is None:
        return None
    fingerprint, verdict = stored
    return verdict if hmac.compare_digest(fingerprint, request.fingerprint) else _reused()


async def settle(connection: Connection, method: str, verdicts: dict[str, Verdict]) -> None:
    """Store verdicts by request_id, for keys that have none yet; undecided ones stay open."""
    rows = [
        (
            request_id,
            verdict.response if isinstance(verdict, Answered) else None,
            verdict.status if isinstance(verdict, Refused) else None,
        )
        for request_id, verdict in sorted(verdicts.items())
        if not isinstance(verdict, Undecided)
    ]
    if rows:
        await connection.execute(
            """
            UPDATE request_keys AS k SET answer = v.answer, refusal = v.refusal
            FROM unnest($2::text[], $3::bytea[], $4::bytea[]) AS v (request_id, answer, refusal)
            WHERE k.method = $1 AND k.request_id = ANY($2::text[]) AND k.request_id = v.request_id
            AND k.answer IS NULL AND k.refusal IS NULL
            """,  # The ids stand in it twice: a plan that was made while the table was small then still uses the key.
            method,
            *columns(rows),
        )


def verdict_of(result: R | DomainError | Undecided, write: Callable[[R], Message]) -> Verdict:
    """Turn what an effect returned into what is stored."""
    if isinstance(result, Undecided):
        return result
    if isinstance(result, DomainError):
        return Refused(to_status(result).SerializeToString())
    return Answered(write(result).SerializeToString(deterministic=True))


async def _claim(connection: Connection, method: str, requests: Sequence[Keyed[C]]) -> set[str]:
    """Insert the keys in order, so that two batches cannot deadlock; return those that were new."""
    ordered = sorted(requests, key=lambda request: request.request_id)
    rows = await connection.fetch(
        """
        INSERT INTO request_keys (method, request_id, fingerprint)
        SELECT $1, v.request_id, v.fingerprint
        FROM unnest($2::text[], $3::bytea[]) WITH ORDINALITY AS v (request_id, fingerprint, place)
        ORDER BY v.place
        ON CONFLICT DO NOTHING
        RETURNING request_id
        """,
        method,
        [request.request_id for request in ordered],
        [request.fingerprint for request in ordered],
    )
    return {row["request_id"] for row in rows}


async def _stored(connection: Connection, method: str, request_ids: Sequence[str]) -> dict[str, tuple[bytes, Verdict]]:
    if not request_ids:
        return {}
    rows = await connection.fetch(
        "SELECT request_id, fingerprint, answer, refusal FROM request_keys"
        " WHERE method = $1 AND request_id = ANY($2::text[])",
        method,
        list(request_ids),
    )
    return {row["request_id"]: (row["fingerprint"], _read(row["answer"], row["refusal"])) for row in rows}


def _read(answer: bytes | None, refusal: bytes | None) -> Verdict:
    if answer is not None:
        return Answered(answer)
    return Undecided() if refusal is None else Refused(refusal)


def _reused() -> Refused:
    return Refused(to_status(RequestIdReusedError()).SerializeToString())


def _canonical(value: object) -> object:
    """Write a domain value as plain JSON values. Raises TypeError for what has no canonical form."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _canonical(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat()
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"{type(value).__name__} has no canonical form")
