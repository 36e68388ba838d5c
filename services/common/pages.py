"""Pages of lists: sizes, and opaque tokens that hold where a page ended and for which filter.

A token is the sort key of the last row, so pages stay in order while rows are added.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from services.common.fields import Fields

P = TypeVar("P")
T = TypeVar("T")

DEFAULT_SIZE = 50
MAXIMUM_SIZE = 200
_FILTER_DIGITS = 16
_NUMBER_DIGITS = 18
_TOKEN_LIMIT = 2_048
"""A sort key may hold a title of 200 characters, each of up to 6 bytes before base64 makes 4 of 3."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which page is asked for: how many rows, and after which sort key (None: from the start)."""

    size: int
    after: tuple[str, ...] | None
    filter_digest: str

    def position(self, fields: Fields, read: Callable[..., P], start: P) -> P:
        """Return where the page begins: `start` for the first one, else what `read` makes of the sort key's texts.

        `read` raises ValueError for texts that are no sort key of the list; the token is then refused.
        """
        if self.after is None:
            return start
        try:
            return read(*self.after)
        except ValueError:
            _refuse(fields)
            return start

    def cut(self, rows: Sequence[T], key_of: Callable[[T], tuple[str, ...]]) -> tuple[Sequence[T], str]:
        """Return this page's rows and the next page's token, out of rows of which one more was asked for."""
        shown = rows[: self.size]
        return shown, self.next_token(key_of(shown[-1]) if len(rows) > self.size else None)

    def next_token(self, last_key: tuple[str, ...] | None) -> str:
        """Return the token of the page after a row with this sort key; empty for None, when there is no more."""
        if last_key is None:
            return ""
        text = json.dumps([self.filter_digest, *last_key], separators=(",", ":"), ensure_ascii=False)
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def parse_page(fields: Fields, page_size: int, page_token: str, *, key_length: int, filters: tuple[str, ...]) -> Page:
    """Read page_size and page_token of a request whose filter and method are `filters`.

    `key_length` is how many texts the list's sort key has.
    """
    if page_size < 0:
        fields.refuse("page_size", "FIELD_OUT_OF_RANGE", "is negative")
    size = min(page_size, MAXIMUM_SIZE) or DEFAULT_SIZE
    digest = hashlib.sha256(json.dumps(filters).encode()).hexdigest()[:_FILTER_DIGITS]
    if not page_token:
        return Page(size, None, digest)
    key = _decode(page_token) if len(page_token) <= _TOKEN_LIMIT else None
    if key is None or len(key) != key_length + 1 or key[0] != digest:
        _refuse(fields)
        return Page(size, None, digest)
    return Page(size, key[1:], digest)


def read_number(text: str) -> int:
    """Read a sort key that is a row's number. Raises ValueError for what is no number of PostgreSQL's bigint."""
    if not (text.isascii() and text.isdecimal() and len(text) <= _NUMBER_DIGITS):
        raise ValueError("no number of a row")
    return int(text)


def _refuse(fields: Fields) -> None:
    fields.refuse("page_token", "PAGE_TOKEN_INVALID", "is no token of this list with this filter")


def _decode(token: str) -> tuple[str, ...] | None:
    """Return the texts of a token, or None for what no list of ours makes, or PostgreSQL could not compare with."""
    try:
        key = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True))
        if not isinstance(key, list) or not all(isinstance(part, str) and "\0" not in part for part in key):
            return None
        "".join(key).encode()
    except (ValueError, RecursionError):  # Not base64, no JSON, half of a surrogate pair; thousands of brackets.
        return None
    return tuple(key)
