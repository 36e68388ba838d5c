"""Quotes over gRPC: made from the catalog's prices, read back, and refused with the reasons of the contract."""

import datetime as dt

import grpc
import pytest
from google.type.money_pb2 import Money
from google.type.postal_address_pb2 import PostalAddress
from libretto.catalog.v1 import catalog_service_pb2
from libretto.catalog.v1.product_pb2 import Product
from libretto.pricing.v1 import pricing_service_pb2 as pb

from tests.integration.catalog.products import create_product
from tests.integration.pricing.quotes import ADDRESS, count_quotes, line, request_for
from tests.rpc import new_key, new_uuid, refusal
from tests.shop import Shop

LIFETIME_SECONDS = 900


def euros(units: int, cents: int = 0) -> Money:
    """Return an amount of euros."""
    return Money(currency_code="EUR", units=units, nanos=cents * 10_000_000)


async def archive(shop: Shop, product: Product) -> None:
    """Take a product out of sale."""
    await shop.catalog.ArchiveProduct(
        catalog_service_pb2.ArchiveProductRequest(request_id=new_key(), product_id=product.product_id)
    )


async def test_a_quote_locks_lines_prices_address_and_total(shop: Shop) -> None:
    """The lines stand in the order asked for, and their totals add up."""
    mug = await create_product(shop, title="A mug", list_price=euros(12, 50))
    pot = await create_product(shop, title="A pot", list_price=euros(39, 99))

    quote = (await shop.pricing.CreateQuote(request_for(line(pot, 1), line(mug, 3)))).quote

    assert [
        (item.product_id, item.sku, item.title, item.quantity, item.unit_price, item.line_total) for item in quote.lines
    ] == [
        (pot.product_id, pot.sku, "A pot", 1, euros(39, 99), euros(39, 99)),
        (mug.product_id, mug.sku, "A mug", 3, euros(12, 50), euros(37, 50)),
    ]
    assert quote.total == euros(77, 49)
    assert quote.shipping_address == ADDRESS
    assert quote.expire_time.seconds - quote.create_time.seconds == LIFETIME_SECONDS
    assert quote.expire_time.nanos == quote.create_time.nanos


@pytest.mark.parametrize(
    ("price", "total"),
    [
        (Money(currency_code="JPY", units=1999), Money(currency_code="JPY", units=5997)),
        (
            Money(currency_code="KWD", units=1, nanos=255_000_000),
            Money(currency_code="KWD", units=3, nanos=765_000_000),
        ),
        (Money(currency_code="EUR"), Money(currency_code="EUR")),
    ],
)
async def test_a_total_is_exact_in_every_currency(shop: Shop, price: Money, total: Money) -> None:
    """With 0, 2 or 3 digits, and when it is nothing."""
    product = await create_product(shop, list_price=price)

    quote = (await shop.pricing.CreateQuote(request_for(line(product, 3), currency_code=price.currency_code))).quote

    assert quote.total == total


async def test_a_quote_reads_as_it_was_made_also_when_the_product_changed(shop: Shop) -> None:
    """A new price or an archival concerns later quotes only."""
    mug = await create_product(shop)
    quote = (await shop.pricing.CreateQuote(request_for(line(mug, 2)))).quote
    await shop.catalog.UpdateProduct(
        catalog_service_pb2.UpdateProductRequest(
            request_id=new_key(), product_id=mug.product_id, title="Dearer", list_price=euros(99)
        )
    )
    await archive(shop, mug)

    read = (await shop.pricing.GetQuote(pb.GetQuoteRequest(quote_id=quote.quote_id))).quote

    assert read == quote


async def test_an_expired_quote_can_still_be_read(shop: Shop) -> None:
    """Whoever holds its id learns what it was."""
    quote = (await shop.pricing.CreateQuote(request_for(line(await create_product(shop))))).quote
    async with shop.databases["pricing"].connection() as connection:
        await connection.execute(
            "UPDATE quotes SET create_time = create_time - $2::interval, expire_time = expire_time - $2::interval"
            " WHERE quote_id = $1",
            quote.quote_id,
            dt.timedelta(days=1),
        )

    read = (await shop.pricing.GetQuote(pb.GetQuoteRequest(quote_id=quote.quote_id))).quote

    assert read.expire_time.seconds < quote.create_time.seconds
    assert read.total == quote.total


async def test_an_unknown_quote_is_not_found(shop: Shop) -> None:
    """The reason is pricing's."""
    refused = await refusal(shop.pricing.GetQuote(pb.GetQuoteRequest(quote_id=new_uuid())))

    assert (refused.code, refused.reason, refused.domain) == (
        grpc.StatusCode.NOT_FOUND,
        "QUOTE_NOT_FOUND",
        "pricing.libretto",
    )


async def test_an_unknown_product_is_refused_by_its_line(shop: Shop) -> None:
    """The lines before it are fine; nothing is stored."""
    mug, unknown, before = await create_product(shop), new_uuid(), await count_quotes(shop)

    refused = await refusal(shop.pricing.CreateQuote(request_for(line(mug), line(unknown))))

    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "PRODUCT_NOT_FOUND")
    assert refused.domain == "pricing.libretto"
    assert refused.metadata == {"field": "lines[1].product_id", "product_id": unknown}
    assert await count_quotes(shop) == before


async def test_an_archived_product_is_refused(shop: Shop) -> None:
    """It is kept for old orders only."""
    gone = await create_product(shop)
    await archive(shop, gone)

    refused = await refusal(shop.pricing.CreateQuote(request_for(line(gone))))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PRODUCT_ARCHIVED")
    assert refused.metadata == {"field": "lines[0].product_id", "product_id": gone.product_id}


async def test_a_product_in_another_currency_is_refused(shop: Shop) -> None:
    """Nothing is converted."""
    mug = await create_product(shop, list_price=euros(12))

    refused = await refusal(shop.pricing.CreateQuote(request_for(line(mug), currency_code="USD")))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CURRENCY_NOT_OFFERED")
    assert refused.metadata == {
        "field": "lines[0].product_id",
        "product_id": mug.product_id,
        "currency_code": "USD",
    }


async def test_a_total_beyond_the_limit_is_refused(shop: Shop) -> None:
    """1,000 pieces of the dearest product."""
    yacht = await create_product(shop, list_price=euros(9_999_999_999, 99))

    refused = await refusal(shop.pricing.CreateQuote(request_for(line(yacht, 1_000))))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TOTAL_TOO_LARGE")
    assert (await shop.pricing.CreateQuote(request_for(line(yacht, 1)))).quote.total == yacht.list_price


WRONG_FIELDS = [
    ({"request_id": ""}, "request_id", "FIELD_REQUIRED"),
    ({"quote_id": "42"}, "quote_id", "FIELD_INVALID"),
    ({"lines": []}, "lines", "FIELD_REQUIRED"),
    ({"lines": [line(new_uuid()) for _ in range(65)]}, "lines", "FIELD_OUT_OF_RANGE"),
    ({"lines": [line("")]}, "lines[0].product_id", "FIELD_REQUIRED"),
    ({"lines": [line("mug")]}, "lines[0].product_id", "FIELD_INVALID"),
    ({"lines": [line(new_uuid(), 0)]}, "lines[0].quantity", "FIELD_REQUIRED"),
    ({"lines": [line(new_uuid(), -1)]}, "lines[0].quantity", "FIELD_OUT_OF_RANGE"),
    ({"lines": [line(new_uuid(), 1_001)]}, "lines[0].quantity", "FIELD_OUT_OF_RANGE"),
    ({"lines": [line("0190d3b0-7c1e-7c3a-9d0f-3b1f6c2a4e55")] * 2}, "lines[1].product_id", "FIELD_DUPLICATE"),
    ({"currency_code": ""}, "currency_code", "FIELD_REQUIRED"),
    ({"currency_code": "EURO"}, "currency_code", "CURRENCY_UNKNOWN"),
    ({"shipping_address": None}, "shipping_address", "FIELD_REQUIRED"),
    ({"shipping_address": PostalAddress(region_code="DE")}, "shipping_address.address_lines", "FIELD_REQUIRED"),
    ({"shipping_address": PostalAddress(address_lines=["A"])}, "shipping_address.region_code", "FIELD_REQUIRED"),
    (
        {"shipping_address": PostalAddress(region_code="DE", address_lines=["x" * 201])},
        "shipping_address.address_lines[0]",
        "FIELD_OUT_OF_RANGE",
    ),
]


@pytest.mark.parametrize(("fields", "path", "reason"), WRONG_FIELDS)
async def test_a_wrong_field_is_named(shop: Shop, fields: dict[str, object], path: str, reason: str) -> None:
    """INVALID_ARGUMENT with the field's path and the reason; nothing is stored."""
    before = await count_quotes(shop)

    refused = await refusal(shop.pricing.CreateQuote(request_for(line(new_uuid()), **fields)))

    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == ((path, reason),)
    assert await count_quotes(shop) == before
