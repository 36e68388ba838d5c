"""Lists and search: which products are found, in what order, and page by page without a gap or a repetition."""

import base64
import json
import secrets
from collections.abc import Awaitable, Sequence

import grpc
import pytest
from google.type.money_pb2 import Money
from libretto.catalog.v1 import catalog_service_pb2 as pb
from libretto.catalog.v1.product_pb2 import Product

from tests.integration.catalog.products import create_product
from tests.rpc import new_key, new_uuid, refusal
from tests.shop import Shop

PAGES_LIMIT = 20


def a_word() -> str:
    """Return a word that no other test uses."""
    return f"w{secrets.token_hex(6)}"


async def list_all(shop: Shop, category: str, page_size: int) -> list[Product]:
    """Read a category page by page."""
    found: list[Product] = []
    request = pb.ListProductsRequest(category=category, page_size=page_size)
    for _ in range(PAGES_LIMIT):
        response = await shop.catalog.ListProducts(request)
        assert len(response.products) <= page_size
        found.extend(response.products)
        if not response.next_page_token:
            return found
        request.page_token = response.next_page_token
    pytest.fail("the list does not end")


async def search_all(shop: Shop, query: str, page_size: int = 50) -> list[Product]:
    """Read what a query finds page by page."""
    found: list[Product] = []
    request = pb.SearchProductsRequest(query=query, page_size=page_size)
    for _ in range(PAGES_LIMIT):
        response = await shop.catalog.SearchProducts(request)
        assert len(response.products) <= page_size
        found.extend(response.products)
        if not response.next_page_token:
            return found
        request.page_token = response.next_page_token
    pytest.fail("the search does not end")


async def archive(shop: Shop, product: Product) -> None:
    """Take a product out of sale."""
    await shop.catalog.ArchiveProduct(pb.ArchiveProductRequest(request_id=new_key(), product_id=product.product_id))


def titles(products: Sequence[Product]) -> list[str]:
    """Return the titles in order."""
    return [product.title for product in products]


async def test_a_list_goes_by_title_and_then_by_id(shop: Shop) -> None:
    """Products of one title are in order too, whatever the size of the page."""
    category = a_word()
    made = [await create_product(shop, category=category, title=title) for title in ("Pot", "Mug", "Cup", "Mug", "Mug")]
    expected = sorted(made, key=lambda product: (product.title, product.product_id))

    for page_size in (1, 2, 5, 50):
        assert await list_all(shop, category, page_size) == expected


async def test_a_list_has_active_products_of_its_category_only(shop: Shop) -> None:
    """Archived ones are gone from it."""
    category = a_word()
    mug = await create_product(shop, category=category)
    gone = await create_product(shop, category=category)
    await create_product(shop, category=a_word())
    await archive(shop, gone)

    assert await list_all(shop, category, 50) == [mug]


async def test_a_product_that_comes_between_two_pages_shifts_none_of_the_others(shop: Shop) -> None:
    """A page begins after a title, not after a count."""
    category = a_word()
    for title in ("B", "C", "D"):
        await create_product(shop, category=category, title=title)
    request = pb.ListProductsRequest(category=category, page_size=2)
    first = await shop.catalog.ListProducts(request)
    await create_product(shop, category=category, title="A")

    request.page_token = first.next_page_token
    second = await shop.catalog.ListProducts(request)

    assert (titles(first.products), titles(second.products)) == (["B", "C"], ["D"])


async def test_the_longest_titles_fit_into_a_page_token(shop: Shop) -> None:
    """200 characters of four bytes each."""
    category = a_word()
    made = [await create_product(shop, category=category, title="\U0001f600" * 199 + last) for last in "abc"]

    assert await list_all(shop, category, 1) == made


async def test_a_list_without_a_category_has_all_products(shop: Shop) -> None:
    """A page has 50 products at most where the caller does not say."""
    await create_product(shop)

    response = await shop.catalog.ListProducts(pb.ListProductsRequest())

    assert 1 <= len(response.products) <= 50
    assert titles(response.products) == sorted(titles(response.products))


async def test_every_word_of_a_query_must_be_there(shop: Shop) -> None:
    """In title, description, category or SKU, in whatever order and case."""
    word = a_word()
    mug = await create_product(
        shop, title=f"Blue {word} mug", description="Holds tea.", category="Kitchenware", sku=f"MUG-{word.upper()}-7"
    )
    pot = await create_product(shop, title=f"Blue {word} pot", description="Makes coffee.", category="Kitchenware")

    assert await search_all(shop, f"MUG {word}") == [mug]
    assert await search_all(shop, f"tea {word} kitchenware") == [mug]
    assert await search_all(shop, f"mug-{word}-7") == [mug]
    assert await search_all(shop, f"tea coffee {word}") == []
    assert {product.product_id for product in await search_all(shop, f"blue {word}")} == {
        mug.product_id,
        pot.product_id,
    }


async def test_the_last_word_of_a_query_may_be_only_begun(shop: Shop) -> None:
    """As somebody types; the words before it are whole."""
    word = a_word()
    mug = await create_product(shop, title=f"Teacup {word}")

    assert await search_all(shop, f"teacup {word[:9]}") == [mug]
    assert await search_all(shop, f"{word} teac") == [mug]
    assert await search_all(shop, f"teac {word}") == []


async def test_a_title_counts_for_more_than_a_description(shop: Shop) -> None:
    """The best comes first, page by page."""
    word = a_word()
    described = await create_product(shop, title="Something", description=f"Looks like a {word}.")
    titled = await create_product(shop, title=f"A {word}")

    assert await search_all(shop, word, page_size=1) == [titled, described]


async def test_what_ranks_equal_is_found_in_order_of_id(shop: Shop) -> None:
    """So that pages neither repeat nor skip a product."""
    word = a_word()
    made = [await create_product(shop, title=f"The {word}") for _ in range(5)]

    for page_size in (1, 2, 5):
        assert await search_all(shop, word, page_size) == sorted(made, key=lambda product: product.product_id)


async def test_archived_products_are_not_found(shop: Shop) -> None:
    """They are kept for old orders only."""
    word = a_word()
    await archive(shop, await create_product(shop, title=word))

    assert await search_all(shop, word) == []


@pytest.mark.parametrize("query", ["?!", "'", "a & !b | (c:*", "\\", "<->", "':*", "%"])
async def test_signs_in_a_query_are_no_operators(shop: Shop, query: str) -> None:
    """A query is words; what is none of its own finds what the words find, or nothing."""
    await shop.catalog.SearchProducts(pb.SearchProductsRequest(query=query))


async def test_a_changed_title_is_found_by_its_new_words(shop: Shop) -> None:
    """The old ones find it no more."""
    old, new = a_word(), a_word()
    product = await create_product(shop, title=old)
    await shop.catalog.UpdateProduct(
        pb.UpdateProductRequest(request_id=new_key(), product_id=product.product_id, title=new)
    )

    assert titles(await search_all(shop, new)) == [new]
    assert await search_all(shop, old) == []


def forged(token: str, *key: str) -> str:
    """Return a page token with another sort key."""
    digest = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))[0]
    return base64.urlsafe_b64encode(json.dumps([digest, *key]).encode()).decode()


async def test_a_page_token_that_is_none_of_this_list_is_refused(shop: Shop) -> None:
    """Neither nonsense, nor one of another filter or method, nor one with a sort key that cannot be."""
    word = a_word()
    for _ in range(2):
        await create_product(shop, category=word, title=word)
    listed = await shop.catalog.ListProducts(pb.ListProductsRequest(category=word, page_size=1))
    searched = await shop.catalog.SearchProducts(pb.SearchProductsRequest(query=word, page_size=1))
    bad_list_tokens = (
        "nonsense",
        searched.next_page_token,
        forged(listed.next_page_token, word, "no id"),
        forged(listed.next_page_token, "a\0b", new_uuid()),
        forged(listed.next_page_token, "\ud800", new_uuid()),
    )
    bad_search_tokens = (listed.next_page_token, forged(searched.next_page_token, "best", new_uuid()))

    calls: list[Awaitable[object]] = [
        *(
            shop.catalog.ListProducts(pb.ListProductsRequest(category=word, page_token=token))
            for token in bad_list_tokens
        ),
        *(
            shop.catalog.SearchProducts(pb.SearchProductsRequest(query=word, page_token=token))
            for token in bad_search_tokens
        ),
        shop.catalog.ListProducts(pb.ListProductsRequest(category="", page_token=listed.next_page_token)),
    ]

    for call in calls:
        refused = await refusal(call)
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
        assert refused.fields == (("page_token", "PAGE_TOKEN_INVALID"),)


async def test_a_query_is_required_and_a_page_size_is_not_negative(shop: Shop) -> None:
    """Each wrong field is named."""
    searched = await refusal(shop.catalog.SearchProducts(pb.SearchProductsRequest(query=" ", page_size=-1)))
    long = await refusal(shop.catalog.SearchProducts(pb.SearchProductsRequest(query="x" * 201)))
    listed = await refusal(shop.catalog.ListProducts(pb.ListProductsRequest(category="x" * 51, page_size=-1)))

    assert searched.fields == (("query", "FIELD_REQUIRED"), ("page_size", "FIELD_OUT_OF_RANGE"))
    assert long.fields == (("query", "FIELD_OUT_OF_RANGE"),)
    assert listed.fields == (("category", "FIELD_OUT_OF_RANGE"), ("page_size", "FIELD_OUT_OF_RANGE"))


async def test_an_amount_without_decimals_comes_back_as_it_went_in(shop: Shop) -> None:
    """Yen have no minor unit, dinars three digits."""
    for price in (Money(currency_code="JPY", units=1999), Money(currency_code="KWD", units=1, nanos=255_000_000)):
        assert (await create_product(shop, list_price=price)).list_price == price
