"""The processor's ledger in SQLite: authorisations as they stand, and an entry for every effect."""

import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS authorizations (
    sequence       INTEGER PRIMARY KEY,
    id             TEXT    NOT NULL UNIQUE,
    state          TEXT    NOT NULL,
    amount_minor   INTEGER,  -- like currency and token_kind unknown where a void came first
    currency       TEXT,
    token_kind     TEXT,
    captured_minor INTEGER NOT NULL DEFAULT 0,
    create_time    TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    CHECK (captured_minor = CASE state WHEN 'captured' THEN amount_minor ELSE 0 END)
) STRICT;
CREATE TABLE IF NOT EXISTS entries (
    sequence         INTEGER PRIMARY KEY,
    authorization_id TEXT    NOT NULL REFERENCES authorizations (id),
    kind             TEXT    NOT NULL,
    amount_minor     INTEGER NOT NULL,
    time             TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    UNIQUE (authorization_id, kind)
) STRICT;
"""


class State(StrEnum):
    """Where an authorisation stands; also the kind of the entry that brought it there."""

    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    VOIDED = "voided"
    DECLINED = "declined"


class TokenKind(StrEnum):
    """What a test token makes the processor do; the package's docstring has the table."""

    SUCCEEDS = "succeeds"
    DECLINED = "declined"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    SLOW = "slow"
    SLOW_CAPTURE = "slow_capture"
    LOST_REPLY = "lost_reply"
    LOST_CAPTURE = "lost_capture"
    UNAVAILABLE = "unavailable"
    INVALID = "invalid"


DECLINE_CODES = {
    TokenKind.DECLINED: "card_declined",
    TokenKind.INSUFFICIENT_FUNDS: "insufficient_funds",
    TokenKind.INVALID: "invalid_token",
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a caller asks to be authorised: an amount in minor units of its currency, on a kind of token."""

    amount_minor: int
    currency: str
    token_kind: TokenKind


@dataclass(frozen=True, slots=True)
class Authorization:
    """An authorisation as it stands. One that was voided before it was ever asked for has no terms."""

    sequence: int
    id: str
    state: State
    terms: Terms | None
    captured_minor: int
    create_time: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One effect: an authorisation reached the state `kind`, for an amount in minor units."""

    sequence: int
    authorization_id: str
    kind: State
    amount_minor: int
    time: str


class Ledger:
    """Authorisations by id. A change and its entry are one transaction, on disk when the method returns.

    A method that changes returns what then stands, and whether it was this call that changed it. Calls block, for
    a fraction of a millisecond; any may raise sqlite3.Error.
    """

    def __init__(self, path: Path) -> None:
        """Open the ledger's file, or make it."""
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file; no method may follow."""
        self._db.close()

    def find(self, authorization_id: str) -> Authorization | None:
        """Look an authorisation up."""
        row = self._db.execute("SELECT * FROM authorizations WHERE id = ?", (authorization_id,)).fetchone()
        return _authorization(row) if row else None

    def authorize(self, authorization_id: str, terms: Terms) -> tuple[Authorization, bool]:
        """Record an authorisation, or its decline, unless the id is taken."""
        state = State.DECLINED if terms.token_kind in DECLINE_CODES else State.AUTHORIZED
        statement = """
            INSERT INTO authorizations (id, state, amount_minor, currency, token_kind) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (id) DO NOTHING RETURNING *"""
        values = (state, terms.amount_minor, terms.currency, terms.token_kind)
        return self._change(state, statement, authorization_id, *values)

    def capture(self, authorization_id: str) -> tuple[Authorization, bool]:
        """Take the whole amount of what is authorised and not voided; the id must be known."""
        statement = """
            UPDATE authorizations SET state = 'captured', captured_minor = amount_minor
            WHERE id = ? AND state = 'authorized' RETURNING *"""
        return self._change(State.CAPTURED, statement, authorization_id)

    def void(self, authorization_id: str) -> tuple[Authorization, bool]:
        """Give up what is authorised and not captured; an unknown id becomes a tombstone, never to be authorised."""
        statement = """
            INSERT INTO authorizations (id, state) VALUES (?, 'voided')
            ON CONFLICT (id) DO UPDATE SET state = 'voided' WHERE state = 'authorized' RETURNING *"""
        return self._change(State.VOIDED, statement, authorization_id)

    def list_authorizations(self, after: int, limit: int) -> list[Authorization]:
        """List authorisations in the order they came, those with a sequence above `after`."""
        query = "SELECT * FROM authorizations WHERE sequence > ? ORDER BY sequence LIMIT ?"
        return [_authorization(row) for row in self._db.execute(query, (after, limit))]

    def list_entries(self, authorization_id: str | None, after: int, limit: int) -> list[Entry]:
        """List entries in the order they were made, those of one authorisation or of all."""
        query = "SELECT * FROM entries WHERE sequence > :after ORDER BY sequence LIMIT :limit"
        if authorization_id is not None:
            query = query.replace("WHERE", "WHERE authorization_id = :id AND")
        rows = self._db.execute(query, {"id": authorization_id, "after": after, "limit": limit})
        return [Entry(**{**row, "kind": State(row["kind"])}) for row in rows]

    def _change(self, kind: State, statement: str, authorization_id: str, *more: object) -> tuple[Authorization, bool]:
        """Run the statement, and enter the change if it returns the row that it changed."""
        # IMMEDIATE takes the write lock first: what is read inside cannot change before the commit.
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            row = self._db.execute(statement, (authorization_id, *more)).fetchone()
            if row is None:
                query = "SELECT * FROM authorizations WHERE id = ?"
                return _authorization(self._db.execute(query, (authorization_id,)).fetchone()), False
            self._db.execute(
                "INSERT INTO entries (authorization_id, kind, amount_minor) VALUES (?, ?, ?)",
                (authorization_id, kind, row["amount_minor"] or 0),
            )
            return _authorization(row), True


def _authorization(row: sqlite3.Row) -> Authorization:
    terms = None
    if row["token_kind"] is not None:
        terms = Terms(row["amount_minor"], row["currency"], TokenKind(row["token_kind"]))
    return Authorization(
        row["sequence"], row["id"], State(row["state"]), terms, row["captured_minor"], row["create_time"]
    )
