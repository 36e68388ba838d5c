"""What may change of a product, and what a change leaves behind."""

import datetime as dt
from dataclasses import replace
from uuid import UUID

import pytest

from services.catalog.domain import (
    ArchiveProduct,
    EtagMismatchError,
    Product,
    ProductArchivedError,
    ProductNotFoundError,
    ProductState,
    UpdateProduct,
    archive,
    update,
)
from services.common.values import Money

CREATED = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
PRODUCT_ID = UUID("0190d3b0-7c1e-7c3a-9d0f-3b1f6c2a4e55")
MUG = Product(
    product_id=PRODUCT_ID,
    sku="MUG-BLUE",
    title="A blue mug",
    description="Holds tea.",
    category="kitchen",
    list_price=Money("EUR", 1250),
    state=ProductState.ACTIVE,
    version=3,
    create_time=CREATED,
    update_time=CREATED,
)
ARCHIVED_MUG = replace(MUG, state=ProductState.ARCHIVED)
NO_CHANGE = UpdateProduct(PRODUCT_ID, "", None, None, None, None)


def test_an_update_changes_the_fields_it_has_and_no_others() -> None:
    """An empty text is a value too: it is not None."""
    changed = update(MUG, replace(NO_CHANGE, title="A bluer mug", description=""), NOW)

    assert changed == replace(MUG, title="A bluer mug", description="", version=4, update_time=NOW)


def test_each_change_has_a_new_etag() -> None:
    """Whoever read the product before the change can be told so."""
    changed = update(MUG, replace(NO_CHANGE, list_price=Money("EUR", 1300)), NOW)

    assert changed.etag != MUG.etag


@pytest.mark.parametrize("command", [NO_CHANGE, replace(NO_CHANGE, title=MUG.title, list_price=MUG.list_price)])
def test_an_update_that_changes_nothing_keeps_etag_and_time(command: UpdateProduct) -> None:
    """Neither an update without fields nor one to the present values is a change."""
    assert update(MUG, command, NOW) == MUG


def test_an_update_under_the_present_etag_is_made() -> None:
    """The caller has seen what it changes."""
    assert update(MUG, replace(NO_CHANGE, etag=MUG.etag, category="tea"), NOW).category == "tea"


def test_an_update_under_an_old_etag_is_refused_with_the_present_one() -> None:
    """The caller can read again and try again."""
    with pytest.raises(EtagMismatchError) as refused:
        update(MUG, replace(NO_CHANGE, etag="v2", category="tea"), NOW)

    assert refused.value.metadata["etag"] == MUG.etag


def test_an_archived_product_does_not_change() -> None:
    """Not even with an etag that fits."""
    with pytest.raises(ProductArchivedError):
        update(ARCHIVED_MUG, replace(NO_CHANGE, etag=ARCHIVED_MUG.etag, title="Back again"), NOW)


def test_an_unknown_product_is_neither_updated_nor_archived() -> None:
    """Both commands name the product that is missing."""
    with pytest.raises(ProductNotFoundError):
        update(None, NO_CHANGE, NOW)
    with pytest.raises(ProductNotFoundError):
        archive(None, ArchiveProduct(PRODUCT_ID, ""), NOW)


def test_archiving_is_a_change() -> None:
    """State, etag and time tell of it; all else stays."""
    archived = archive(MUG, ArchiveProduct(PRODUCT_ID, MUG.etag), NOW)

    assert archived == replace(MUG, state=ProductState.ARCHIVED, version=4, update_time=NOW)


def test_archiving_under_an_old_etag_is_refused() -> None:
    """The caller may not have wanted to archive what the product is now."""
    with pytest.raises(EtagMismatchError):
        archive(MUG, ArchiveProduct(PRODUCT_ID, "v2"), NOW)


def test_an_archived_product_stays_as_it_is_when_archived_again() -> None:
    """The goal is reached, so an etag from before does not matter."""
    assert archive(ARCHIVED_MUG, ArchiveProduct(PRODUCT_ID, "v2"), NOW) == ARCHIVED_MUG
