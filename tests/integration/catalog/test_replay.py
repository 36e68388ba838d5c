"""One verdict a key: replays, reused keys, keys that were forgotten, and callers at the same time."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import grpc
from libretto.catalog.v1 import catalog_service_pb2 as pb
from libretto.catalog.v1.product_pb2 import Product

from tests.integration.catalog.products import create_product, creation, forget_key
from tests.rpc import new_key, new_sku, new_uuid, read_refusal, refusal
from tests.shop import Shop

CALLERS = 20


async def read(shop: Shop, product_id: str) -> Product:
    """Read a product as it stands."""
    return (await shop.catalog.GetProduct(pb.GetProductRequest(product_id=product_id))).product


async def count(shop: Shop, sku: str) -> int:
    """Return how many products have a SKU."""
    async with shop.databases["catalog"].connection() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM products WHERE sku = $1", sku))


async def test_a_creation_sent_again_gets_the_same_bytes(shop: Shop) -> None:
    """Also after the product changed: the verdict is that of the request, Get shows the present."""
    request = creation()
    first = await shop.catalog.CreateProduct(request)
    update = pb.UpdateProductRequest(request_id=new_key(), product_id=first.product.product_id, title="Another")
    await shop.catalog.UpdateProduct(update)

    again = await shop.catalog.CreateProduct(request)

    assert again.SerializeToString(deterministic=True) == first.SerializeToString(deterministic=True)
    assert await count(shop, request.sku) == 1


async def test_an_update_sent_again_gets_the_same_bytes_and_changes_nothing(shop: Shop) -> None:
    """What came after it stays."""
    product = await create_product(shop)
    update = pb.UpdateProductRequest(
        request_id=new_key(), product_id=product.product_id, title="First", etag=product.etag
    )
    first = await shop.catalog.UpdateProduct(update)
    later = pb.UpdateProductRequest(request_id=new_key(), product_id=product.product_id, title="Second")
    present = (await shop.catalog.UpdateProduct(later)).product

    again = await shop.catalog.UpdateProduct(update)

    assert again.SerializeToString(deterministic=True) == first.SerializeToString(deterministic=True)
    assert await read(shop, product.product_id) == present


async def test_an_archival_sent_again_gets_the_same_bytes(shop: Shop) -> None:
    """The product is archived once."""
    product = await create_product(shop)
    archive = pb.ArchiveProductRequest(request_id=new_key(), product_id=product.product_id, etag=product.etag)

    first, again = await shop.catalog.ArchiveProduct(archive), await shop.catalog.ArchiveProduct(archive)

    assert again.SerializeToString(deterministic=True) == first.SerializeToString(deterministic=True)


async def test_a_refusal_is_replayed_also_when_its_ground_has_gone(shop: Shop) -> None:
    """The same bytes: a caller that repeats its request never learns two outcomes."""
    product_id = new_uuid()
    update = pb.UpdateProductRequest(request_id=new_key(), product_id=product_id, title="New")
    first = await refusal(shop.catalog.UpdateProduct(update))
    product = await create_product(shop, product_id=product_id)

    again = await refusal(shop.catalog.UpdateProduct(update))

    assert (first.reason, again.status) == ("PRODUCT_NOT_FOUND", first.status)
    assert await read(shop, product_id) == product


async def test_a_key_that_comes_with_another_request_is_refused(shop: Shop) -> None:
    """By each method, and nothing is changed by it."""
    key, sku = new_key(), new_sku()
    product = await create_product(shop, request_id=key)
    update = pb.UpdateProductRequest(request_id=key, product_id=product.product_id, title="One")
    await shop.catalog.UpdateProduct(update)
    archive = pb.ArchiveProductRequest(request_id=key, product_id=(await create_product(shop)).product_id)
    await shop.catalog.ArchiveProduct(archive)
    present = await read(shop, product.product_id)
    update.title, archive.product_id = "Two", product.product_id

    for call in (
        shop.catalog.CreateProduct(creation(request_id=key, sku=sku)),
        shop.catalog.UpdateProduct(update),
        shop.catalog.ArchiveProduct(archive),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_ID_REUSED")
        assert refused.domain == "common.libretto"

    assert await read(shop, product.product_id) == present
    assert await count(shop, sku) == 0


async def test_a_creation_under_a_chosen_id_is_recognised_when_its_key_is_forgotten(shop: Shop) -> None:
    """The id is the lasting key: the product is answered as it stands now."""
    request = creation(product_id=new_uuid())
    await shop.catalog.CreateProduct(request)
    update = pb.UpdateProductRequest(request_id=new_key(), product_id=request.product_id, title="Another")
    present = (await shop.catalog.UpdateProduct(update)).product
    await forget_key(shop, "catalog", request.request_id)

    again = await shop.catalog.CreateProduct(request)

    assert again.product == present
    assert await count(shop, request.sku) == 1


async def test_callers_with_one_key_at_the_same_time_make_one_product(shop: Shop) -> None:
    """All get the same answer."""
    request = creation()

    responses = await asyncio.gather(*(shop.catalog.CreateProduct(request) for _ in range(CALLERS)))

    assert len({response.SerializeToString(deterministic=True) for response in responses}) == 1
    assert await count(shop, request.sku) == 1


async def test_of_callers_with_one_sku_at_the_same_time_one_gets_it(shop: Shop) -> None:
    """The others learn that it is taken."""
    sku = new_sku()

    outcomes = await asyncio.gather(
        *(shop.catalog.CreateProduct(creation(sku=sku)) for _ in range(CALLERS)), return_exceptions=True
    )

    assert outcomes_of(outcomes) == {"OK": 1, "SKU_TAKEN": CALLERS - 1}
    assert await count(shop, sku) == 1


async def test_of_callers_with_one_etag_at_the_same_time_one_changes_the_product(shop: Shop) -> None:
    """No change is lost: whoever has not seen it is refused."""
    product = await create_product(shop)
    updates = [
        pb.UpdateProductRequest(
            request_id=new_key(), product_id=product.product_id, etag=product.etag, title=f"Title {number}"
        )
        for number in range(CALLERS)
    ]

    outcomes = await asyncio.gather(*map(shop.catalog.UpdateProduct, updates), return_exceptions=True)

    assert outcomes_of(outcomes) == {"OK": 1, "ETAG_MISMATCH": CALLERS - 1}
    (winner,) = (outcome for outcome in outcomes if isinstance(outcome, pb.UpdateProductResponse))
    assert await read(shop, product.product_id) == winner.product


def outcomes_of(outcomes: Sequence[object]) -> Counter[str]:
    """Count calls by their outcome: OK, or the reason of the refusal."""
    return Counter(
        read_refusal(outcome).reason if isinstance(outcome, grpc.aio.AioRpcError) else "OK" for outcome in outcomes
    )
