"""Batches in the store: each item gets a verdict of its own and sees what the earlier ones did."""

import random
from collections.abc import Sequence
from typing import TypeVar

import pytest
from google.rpc import error_details_pb2, status_pb2
from libretto.catalog.v1 import product_pb2

from services.catalog.domain import ArchiveProduct, CreateProduct, UpdateProduct
from services.catalog.service import product_message
from services.catalog.store import CatalogStore
from services.common.idempotency import Fingerprints, Keyed, Refused, Verdict
from services.common.values import Money, SystemClock, new_id
from tests.rpc import new_key, new_sku
from tests.shop import Shop

C = TypeVar("C")

CLOCK, RANDOM = SystemClock(), random.SystemRandom()
FINGERPRINTS = Fingerprints("a-key-for-tests")


@pytest.fixture
def store(shop: Shop) -> CatalogStore:
    """Return a store on the catalog's database."""
    return CatalogStore(shop.databases["catalog"], CLOCK, RANDOM)


def creation(**fields: object) -> CreateProduct:
    """Return a command for a product with an id and a SKU of its own, with some fields set otherwise."""
    usual: dict[str, object] = {"product_id": new_id(CLOCK, RANDOM), "sku": new_sku(), "title": "A mug"}
    rest: dict[str, object] = {"description": "", "category": "", "list_price": Money("EUR", 100)}
    return CreateProduct(**(usual | rest | fields))  # type: ignore[arg-type]  # fields of whatever type


def keyed_in_order(commands: Sequence[C]) -> list[Keyed[C]]:
    """Give commands keys of their own; a batch is decided in the order of its keys."""
    keys = sorted(new_key() for _ in commands)
    return [FINGERPRINTS.keyed(key, command) for key, command in zip(keys, commands, strict=True)]


def outcome(verdict: Verdict) -> str:
    """Return the etag of a product that was answered, or the reason of a refusal."""
    if not isinstance(verdict, Refused):
        return verdict.parse(product_pb2.Product).etag
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(verdict.status).details[0].Unpack(info)
    return info.reason


async def test_one_bad_creation_fails_none_of_its_neighbours(store: CatalogStore) -> None:
    """A SKU or an id that an earlier item of the batch took is taken; the same content is the same product."""
    first = creation(sku=f"A-{new_sku()}")  # Rows are written in order of SKU, so this one comes first.
    commands = [first, creation(sku=first.sku), creation(product_id=first.product_id), first, creation()]

    verdicts = await store.create(keyed_in_order(commands), product_message)

    assert list(map(outcome, verdicts)) == ["v1", "SKU_TAKEN", "PRODUCT_ID_TAKEN", "v1", "v1"]


async def test_the_items_of_a_batch_see_what_the_earlier_ones_did(store: CatalogStore) -> None:
    """Two updates of one product are two changes; a third one under the first etag comes too late."""
    command = creation()
    assert command.product_id is not None
    await store.create(keyed_in_order([command]), product_message)
    updates = [
        UpdateProduct(command.product_id, "", title="One", description=None, category=None, list_price=None),
        UpdateProduct(command.product_id, "", title=None, description="Two", category=None, list_price=None),
        UpdateProduct(command.product_id, "v1", title="Three", description=None, category=None, list_price=None),
    ]

    verdicts = await store.update(keyed_in_order(updates), product_message)

    assert list(map(outcome, verdicts)) == ["v2", "v3", "ETAG_MISMATCH"]
    product = (await store.products([command.product_id]))[command.product_id]
    assert (product.title, product.description, product.version) == ("One", "Two", 3)


async def test_a_batch_replays_what_came_before_and_decides_the_rest(store: CatalogStore) -> None:
    """Old and new keys may stand side by side."""
    commands = [creation(), creation()]
    await store.create(keyed_in_order(commands), product_message)
    product_ids = [command.product_id for command in commands if command.product_id is not None]
    archivals = keyed_in_order([ArchiveProduct(product_id, "v1") for product_id in product_ids])
    (first,) = await store.archive(archivals[:1], product_message)

    verdicts = await store.archive(archivals, product_message)

    assert verdicts[0] == first
    assert list(map(outcome, verdicts)) == ["v2", "v2"]
