"""Page tokens: they lead to the next page of the list and filter that made them, and nothing else is one."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.fields import Fields
from services.common.pages import DEFAULT_SIZE, MAXIMUM_SIZE, Page, parse_page
from tests.unit.common.properties import REPEATABLE
from tests.unit.common.test_fields import refused

FILTER = ("ListThings", "kitchen")
START = ("", 0)
INVALID = [("page_token", "PAGE_TOKEN_INVALID")]


def page_of(token: str, filters: tuple[str, ...] = FILTER, key_length: int = 2) -> Page:
    """Read the page that a token leads to."""
    with Fields() as fields:
        return parse_page(fields, 0, token, key_length=key_length, filters=filters)


def wrong(token: str, filters: tuple[str, ...] = FILTER, key_length: int = 2) -> list[tuple[str, str]]:
    """Return what is wrong with a token."""
    return refused(lambda fields: parse_page(fields, 0, token, key_length=key_length, filters=filters))


def token_after(*key: str, filters: tuple[str, ...] = FILTER) -> str:
    """Return the token of the page after a row with this sort key."""
    return page_of("", filters).next_token(key)


def encoded(value: object) -> str:
    """Encode any JSON value as tokens are."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("asked", "given_size"), [(0, DEFAULT_SIZE), (1, 1), (200, 200), (201, MAXIMUM_SIZE), (2**31 - 1, MAXIMUM_SIZE)]
)
def test_a_page_has_the_size_that_is_asked_for_up_to_a_limit(asked: int, given_size: int) -> None:
    """Zero means fifty."""
    with Fields() as fields:
        page = parse_page(fields, asked, "", key_length=1, filters=())
    assert (page.size, page.after) == (given_size, None)


@pytest.mark.parametrize("size", [-1, -(2**31)])
def test_a_negative_size_is_refused(size: int) -> None:
    """It has no meaning."""
    assert refused(lambda fields: parse_page(fields, size, "", key_length=1, filters=())) == [
        ("page_size", "FIELD_OUT_OF_RANGE")
    ]


@REPEATABLE
@given(st.text(max_size=200).filter(lambda text: "\0" not in text), st.uuids())
def test_a_token_holds_the_sort_key_of_the_last_row(title: str, row_id: object) -> None:
    """Whatever the title, as long as a title may be."""
    key = (title, str(row_id))
    assert page_of(token_after(*key)).after == key


def test_the_longest_title_s_token_is_still_taken() -> None:
    """Two hundred characters of the widest sort, with those that JSON has to escape."""
    for character in ("🪔", '"', "\\", "\x1f", "漢"):
        key = (character * 200, "0190d3b0-7c1e-7c3a-9d0f-3b1f6c2a4e55")
        assert page_of(token_after(*key)).after == key


def test_the_last_page_has_no_token() -> None:
    """None stands for no row after it."""
    assert page_of("").next_token(None) == ""


@pytest.mark.parametrize("filters", [(), ("ListThings", ""), ("ListThings", "bath"), ("SearchThings", "kitchen")])
def test_a_token_of_another_filter_or_method_is_refused(filters: tuple[str, ...]) -> None:
    """Going on with it would skip rows or repeat them."""
    assert wrong(token_after("a", "b"), filters=filters) == INVALID


def test_filters_that_look_alike_when_joined_are_told_apart() -> None:
    """Where one text ends and the next begins counts."""
    assert wrong(token_after("a", "b", filters=("ab", "c")), filters=("a", "bc")) == INVALID


def test_a_token_with_another_number_of_keys_is_refused() -> None:
    """As after a change of the list's order."""
    assert wrong(token_after("a", "b"), key_length=1) == INVALID
    assert wrong(token_after("a", "b"), key_length=3) == INVALID


DIGEST = page_of("").filter_digest


@pytest.mark.parametrize(
    "token",
    [
        "next",
        "é",
        "!!!!",
        "=",
        encoded(None),
        encoded(7),
        encoded({"a": 1}),
        encoded([]),
        encoded([DIGEST, 1, 2]),
        encoded([DIGEST, "a", None]),
        encoded([DIGEST, "a", "b\0"]),
        encoded([DIGEST, "a", "\ud800"]),
        encoded([DIGEST, ["a"], "b"]),
        encoded([DIGEST.upper() + "x", "a", "b"]),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        base64.urlsafe_b64encode(b"[" * 1_500).decode(),
        base64.urlsafe_b64encode(b"9" * 1_500).decode(),
    ],
)
def test_garbage_is_no_token(token: str) -> None:
    """Neither what cannot be decoded, nor what no list of ours would write."""
    assert wrong(token) == INVALID


def test_a_token_with_something_added_is_refused() -> None:
    """Characters outside the alphabet are not read over."""
    token = token_after("a", "b")
    assert wrong(token) == []
    for changed in (f"{token}!", f"!{token}", f"{token[:5]}\n{token[5:]}", f" {token}"):
        assert wrong(changed) == INVALID


def test_an_oversized_token_is_refused_unread() -> None:
    """However well it is formed."""
    assert wrong(encoded([DIGEST, "a" * 10_000, "b"])) == INVALID


@REPEATABLE
@given(st.text(max_size=60))
def test_no_text_at_all_breaks_the_reading_of_a_token(token: str) -> None:
    """Whatever comes is refused like a wrong field."""
    assert wrong(token) == ([] if token == "" else INVALID)


def read_place(title: str, number: str) -> tuple[str, int]:
    """Read a sort key of a text and a number."""
    return title, int(number)


def test_a_page_begins_after_its_token_s_row() -> None:
    """The first page begins at the start."""
    with Fields() as fields:
        assert page_of("").position(fields, read_place, START) == START
        assert page_of(token_after("lamp", "7")).position(fields, read_place, START) == ("lamp", 7)


def test_a_sort_key_that_the_list_cannot_read_is_refused() -> None:
    """The digest is no secret, so a caller may make one up."""
    page = page_of(token_after("lamp", "seven"))
    assert refused(lambda fields: page.position(fields, read_place, START)) == INVALID
