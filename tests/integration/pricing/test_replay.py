"""One verdict a key: replays that need no catalog, reused keys, forgotten keys, and callers at the same time."""

import asyncio
from collections import Counter

import grpc
from google.type.money_pb2 import Money
from libretto.catalog.v1 import catalog_service_pb2
from libretto.pricing.v1 import pricing_service_pb2 as pb

from tests.integration.card_processor import Processor
from tests.integration.catalog.products import create_product, forget_key
from tests.integration.pricing.quotes import count_quotes, line, request_for
from tests.rpc import new_key, new_uuid, read_refusal, refusal
from tests.shop import Shop, open_shop

CALLERS = 20


async def test_a_request_sent_again_gets_the_same_bytes_though_the_price_changed(shop: Shop) -> None:
    """The quote is the promise; there is one of it."""
    mug = await create_product(shop)
    request = request_for(line(mug))
    first = await shop.pricing.CreateQuote(request)
    before = await count_quotes(shop)
    await shop.catalog.UpdateProduct(
        catalog_service_pb2.UpdateProductRequest(
            request_id=new_key(), product_id=mug.product_id, list_price=Money(currency_code="EUR", units=99)
        )
    )

    again = await shop.pricing.CreateQuote(request)

    assert again.SerializeToString(deterministic=True) == first.SerializeToString(deterministic=True)
    assert await count_quotes(shop) == before


async def test_a_verdict_is_replayed_while_the_catalog_is_down(postgres_url: str, processor: Processor) -> None:
    """A success and a refusal alike; a new request has to wait for the catalog."""
    async with open_shop(postgres_url, processor, ("catalog", "pricing")) as shop:
        good, bad = request_for(line(await create_product(shop))), request_for(line(new_uuid()))
        made = await shop.pricing.CreateQuote(good)
        refused = await refusal(shop.pricing.CreateQuote(bad))
        await shop.running["catalog"].stop()

        again = await shop.pricing.CreateQuote(good)
        refused_again = await refusal(shop.pricing.CreateQuote(bad))
        new = await refusal(shop.pricing.CreateQuote(request_for(line(new_uuid()))))

    assert again.SerializeToString(deterministic=True) == made.SerializeToString(deterministic=True)
    assert (refused.reason, refused_again.status) == ("PRODUCT_NOT_FOUND", refused.status)
    assert (new.code, new.reason) == (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")


async def test_a_refusal_is_replayed_also_when_its_ground_has_gone(shop: Shop) -> None:
    """The product came later: the key keeps its verdict, a new key gets a quote."""
    product_id = new_uuid()
    request = request_for(line(product_id))
    first = await refusal(shop.pricing.CreateQuote(request))
    await create_product(shop, product_id=product_id)

    again = await refusal(shop.pricing.CreateQuote(request))
    request.request_id = new_key()
    quote = (await shop.pricing.CreateQuote(request)).quote

    assert (first.reason, again.status) == ("PRODUCT_NOT_FOUND", first.status)
    assert quote.lines[0].product_id == product_id


async def test_a_key_that_comes_with_another_request_is_refused(shop: Shop) -> None:
    """Whichever part of it is another; nothing is stored."""
    mug = await create_product(shop)
    request = request_for(line(mug))
    await shop.pricing.CreateQuote(request)
    before = await count_quotes(shop)
    others = [pb.CreateQuoteRequest.FromString(request.SerializeToString()) for _ in range(4)]
    others[0].lines[0].quantity = 2
    others[1].currency_code = "USD"
    others[2].shipping_address.recipients[0] = "Grace Hopper"
    others[3].quote_id = new_uuid()

    for other in others:
        refused = await refusal(shop.pricing.CreateQuote(other))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_ID_REUSED")

    assert await count_quotes(shop) == before


async def test_a_quote_under_a_chosen_id_is_recognised_when_its_key_is_forgotten(shop: Shop) -> None:
    """The id is the lasting key: the promise holds, though the product is sold no more."""
    mug = await create_product(shop)
    request = request_for(line(mug), quote_id=new_uuid())
    first = await shop.pricing.CreateQuote(request)
    await shop.catalog.ArchiveProduct(
        catalog_service_pb2.ArchiveProductRequest(request_id=new_key(), product_id=mug.product_id)
    )
    await forget_key(shop, "pricing", request.request_id)

    again = await shop.pricing.CreateQuote(request)

    assert again == first


async def test_an_id_belongs_to_one_quote(shop: Shop) -> None:
    """Another content under the same id is refused, and the quote stays as it is."""
    mug = await create_product(shop)
    request = request_for(line(mug), quote_id=new_uuid())
    quote = (await shop.pricing.CreateQuote(request)).quote

    refused = await refusal(shop.pricing.CreateQuote(request_for(line(mug, 2), quote_id=quote.quote_id)))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "QUOTE_ID_TAKEN")
    assert (await shop.pricing.GetQuote(pb.GetQuoteRequest(quote_id=quote.quote_id))).quote == quote


async def test_callers_with_one_key_at_the_same_time_get_one_quote(shop: Shop) -> None:
    """All asked the catalog, one stored, all get the same bytes."""
    request = request_for(line(await create_product(shop)))
    before = await count_quotes(shop)

    responses = await asyncio.gather(*(shop.pricing.CreateQuote(request) for _ in range(CALLERS)))

    assert len({response.SerializeToString(deterministic=True) for response in responses}) == 1
    assert await count_quotes(shop) == before + 1


async def test_of_callers_with_one_id_at_the_same_time_one_gets_it(shop: Shop) -> None:
    """Each wants another quantity; the others learn that the id is taken."""
    mug, quote_id = await create_product(shop), new_uuid()
    requests = [request_for(line(mug, quantity), quote_id=quote_id) for quantity in range(1, CALLERS + 1)]

    outcomes = await asyncio.gather(*map(shop.pricing.CreateQuote, requests), return_exceptions=True)

    assert Counter(
        read_refusal(outcome).reason if isinstance(outcome, grpc.aio.AioRpcError) else "OK" for outcome in outcomes
    ) == {"OK": 1, "QUOTE_ID_TAKEN": CALLERS - 1}
