"""Products over gRPC: created, read, changed, archived, and refused with the reasons of the contract."""

import grpc
import pytest
from google.rpc import error_details_pb2
from google.type.money_pb2 import Money
from libretto.catalog.v1 import catalog_service_pb2 as pb
from libretto.catalog.v1.product_pb2 import PRODUCT_STATE_ACTIVE, PRODUCT_STATE_ARCHIVED

from tests.integration.catalog.products import create_product, creation
from tests.rpc import new_key, new_sku, new_uuid, refusal
from tests.shop import Shop


async def test_a_created_product_reads_as_it_was_asked_for(shop: Shop) -> None:
    """It is active at once, and the catalog chose its id."""
    request = creation()

    created = (await shop.catalog.CreateProduct(request)).product
    read = (await shop.catalog.GetProduct(pb.GetProductRequest(product_id=created.product_id))).product

    assert read == created
    assert created.state == PRODUCT_STATE_ACTIVE
    assert created.create_time == created.update_time
    for name in ("sku", "title", "description", "category", "list_price"):
        assert getattr(created, name) == getattr(request, name)


async def test_the_caller_may_choose_the_id(shop: Shop) -> None:
    """Upper case is the same id."""
    product_id = new_uuid()

    product = await create_product(shop, product_id=product_id.upper())

    assert product.product_id == product_id


async def test_an_unknown_product_is_not_found(shop: Shop) -> None:
    """By any of the methods that name one."""
    product_id = new_uuid()

    for call in (
        shop.catalog.GetProduct(pb.GetProductRequest(product_id=product_id)),
        shop.catalog.UpdateProduct(pb.UpdateProductRequest(request_id=new_key(), product_id=product_id, title="New")),
        shop.catalog.ArchiveProduct(pb.ArchiveProductRequest(request_id=new_key(), product_id=product_id)),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "PRODUCT_NOT_FOUND")
        assert refused.domain == "catalog.libretto"


async def test_a_batch_has_a_result_for_each_id_in_order(shop: Shop) -> None:
    """An unknown id has the status of GetProduct and fails no other; an id may stand twice."""
    mug, pot = await create_product(shop), await create_product(shop, title="A pot")
    unknown = new_uuid()
    ids = [pot.product_id, unknown, mug.product_id, pot.product_id]

    results = (await shop.catalog.BatchGetProducts(pb.BatchGetProductsRequest(product_ids=ids))).results

    assert [result.WhichOneof("result") for result in results] == ["product", "status", "product", "product"]
    assert [result.product for result in results if result.HasField("product")] == [pot, mug, pot]
    single = await refusal(shop.catalog.GetProduct(pb.GetProductRequest(product_id=unknown)))
    assert results[1].status.SerializeToString() == single.status
    info = error_details_pb2.ErrorInfo()
    assert results[1].status.details[0].Unpack(info)
    assert info.reason == "PRODUCT_NOT_FOUND"


async def test_a_batch_of_ids_that_are_none_or_too_many_is_refused(shop: Shop) -> None:
    """Each wrong id is named by its path; a batch has 1 to 64 ids."""
    wrong = await refusal(
        shop.catalog.BatchGetProducts(pb.BatchGetProductsRequest(product_ids=[new_uuid(), "nonsense", ""]))
    )
    none = await refusal(shop.catalog.BatchGetProducts(pb.BatchGetProductsRequest()))
    many = await refusal(
        shop.catalog.BatchGetProducts(pb.BatchGetProductsRequest(product_ids=[new_uuid() for _ in range(65)]))
    )

    assert wrong.fields == (("product_ids[1]", "FIELD_INVALID"), ("product_ids[2]", "FIELD_REQUIRED"))
    assert none.fields == (("product_ids", "FIELD_REQUIRED"),)
    assert many.fields == (("product_ids", "FIELD_OUT_OF_RANGE"),)


async def test_an_update_changes_present_fields_only(shop: Shop) -> None:
    """An empty description is present; a title that is absent stays. Etag and time tell of the change."""
    product = await create_product(shop)
    price = Money(currency_code="EUR", units=13)

    changed = (
        await shop.catalog.UpdateProduct(
            pb.UpdateProductRequest(
                request_id=new_key(), product_id=product.product_id, description="", list_price=price
            )
        )
    ).product

    assert (changed.title, changed.category, changed.sku) == (product.title, product.category, product.sku)
    assert (changed.description, changed.list_price) == ("", price)
    assert changed.etag != product.etag
    assert changed.update_time.ToNanoseconds() > product.update_time.ToNanoseconds()
    read = (await shop.catalog.GetProduct(pb.GetProductRequest(product_id=product.product_id))).product
    assert read == changed


async def test_an_update_under_an_old_etag_is_refused_with_the_present_one(shop: Shop) -> None:
    """ABORTED: read again and try again. The refused update leaves nothing behind."""
    product = await create_product(shop)
    update = pb.UpdateProductRequest(
        product_id=product.product_id, etag=product.etag, title="First", request_id=new_key()
    )
    changed = (await shop.catalog.UpdateProduct(update)).product

    late = pb.UpdateProductRequest(product_id=product.product_id, etag=product.etag, title="Late", request_id=new_key())
    refused = await refusal(shop.catalog.UpdateProduct(late))

    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert refused.metadata["etag"] == changed.etag
    read = (await shop.catalog.GetProduct(pb.GetProductRequest(product_id=product.product_id))).product
    assert read == changed


async def test_an_archived_product_is_kept_and_does_not_change(shop: Shop) -> None:
    """It can still be read; archiving it again answers it as it is, also under an old etag."""
    product = await create_product(shop)
    archive = pb.ArchiveProductRequest(request_id=new_key(), product_id=product.product_id, etag=product.etag)

    archived = (await shop.catalog.ArchiveProduct(archive)).product
    again = pb.ArchiveProductRequest(request_id=new_key(), product_id=product.product_id, etag=product.etag)
    refused = await refusal(
        shop.catalog.UpdateProduct(
            pb.UpdateProductRequest(request_id=new_key(), product_id=product.product_id, title="Back again")
        )
    )

    assert archived.state == PRODUCT_STATE_ARCHIVED
    assert archived.etag != product.etag
    assert (await shop.catalog.ArchiveProduct(again)).product == archived
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PRODUCT_ARCHIVED")
    read = (await shop.catalog.GetProduct(pb.GetProductRequest(product_id=product.product_id))).product
    assert read == archived


async def test_archiving_under_an_old_etag_is_refused(shop: Shop) -> None:
    """The product changed since, so the caller may not mean what it is now."""
    product = await create_product(shop)
    refused = await refusal(
        shop.catalog.ArchiveProduct(
            pb.ArchiveProductRequest(request_id=new_key(), product_id=product.product_id, etag="something else")
        )
    )

    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")


async def test_a_sku_belongs_to_one_product(shop: Shop) -> None:
    """Also when the other one is archived: old orders name it."""
    product = await create_product(shop)

    refused = await refusal(shop.catalog.CreateProduct(creation(sku=product.sku)))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SKU_TAKEN")
    assert refused.metadata == {"sku": product.sku}


async def test_an_id_belongs_to_one_product(shop: Shop) -> None:
    """Another content under the same id is refused."""
    product = await create_product(shop, product_id=new_uuid())

    refused = await refusal(shop.catalog.CreateProduct(creation(product_id=product.product_id)))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PRODUCT_ID_TAKEN")
    read = (await shop.catalog.GetProduct(pb.GetProductRequest(product_id=product.product_id))).product
    assert read == product


EUR = "EUR"
WRONG_FIELDS = [
    ({"request_id": ""}, "request_id", "FIELD_REQUIRED"),
    ({"request_id": "a b"}, "request_id", "FIELD_INVALID"),
    ({"product_id": "42"}, "product_id", "FIELD_INVALID"),
    ({"sku": ""}, "sku", "FIELD_REQUIRED"),
    ({"sku": "lower"}, "sku", "FIELD_INVALID"),
    ({"title": " "}, "title", "FIELD_REQUIRED"),
    ({"title": "x" * 201}, "title", "FIELD_OUT_OF_RANGE"),
    ({"title": "a\0b"}, "title", "FIELD_INVALID"),
    ({"description": "x" * 4_001}, "description", "FIELD_OUT_OF_RANGE"),
    ({"category": "x" * 51}, "category", "FIELD_OUT_OF_RANGE"),
    ({"list_price": None}, "list_price", "FIELD_REQUIRED"),
    ({"list_price": Money(units=1)}, "list_price.currency_code", "FIELD_REQUIRED"),
    ({"list_price": Money(currency_code="XXX", units=1)}, "list_price.currency_code", "CURRENCY_UNKNOWN"),
    ({"list_price": Money(currency_code=EUR, units=-1)}, "list_price", "FIELD_OUT_OF_RANGE"),
    ({"list_price": Money(currency_code=EUR, units=10**10)}, "list_price", "FIELD_OUT_OF_RANGE"),
    ({"list_price": Money(currency_code=EUR, nanos=5_000_000)}, "list_price.nanos", "FIELD_INVALID"),
]


@pytest.mark.parametrize(("fields", "path", "reason"), WRONG_FIELDS)
async def test_a_wrong_field_of_a_creation_is_named(
    shop: Shop, fields: dict[str, object], path: str, reason: str
) -> None:
    """INVALID_ARGUMENT with the field's path and the reason; no product comes of it."""
    request = creation(**({"sku": new_sku()} | fields))

    refused = await refusal(shop.catalog.CreateProduct(request))

    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == ((path, reason),)
    async with shop.databases["catalog"].connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM products WHERE sku = $1", request.sku) == 0


async def test_all_wrong_fields_of_an_update_are_named_together(shop: Shop) -> None:
    """A field that is present must be right, whatever the product is."""
    request = pb.UpdateProductRequest(
        title="",
        description="x" * 4_001,
        category="x" * 51,
        etag="x" * 65,
        list_price=Money(currency_code=EUR, units=-1),
    )

    refused = await refusal(shop.catalog.UpdateProduct(request))

    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert dict(refused.fields) == {
        "request_id": "FIELD_REQUIRED",
        "product_id": "FIELD_REQUIRED",
        "etag": "FIELD_OUT_OF_RANGE",
        "title": "FIELD_REQUIRED",
        "description": "FIELD_OUT_OF_RANGE",
        "category": "FIELD_OUT_OF_RANGE",
        "list_price": "FIELD_OUT_OF_RANGE",
    }
