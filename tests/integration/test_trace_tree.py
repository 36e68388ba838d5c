"""One order, one trace: the tree of its spans, stated as data, from the caller's call through every hop to the end."""

import secrets

import pytest
from libretto.checkout.v1 import checkout_service_pb2 as pb
from opentelemetry.sdk.trace import ReadableSpan

from tests.integration.checkout import shopping
from tests.integration.checkout.shopping import place_request, quoted, stocked
from tests.integration.trace_tree import spans_of, stated, traced, tree
from tests.shop import Shop

CONFIRMED = stated("""
    checkout SERVER checkout.v1.CheckoutService/PlaceOrder OK
        checkout CLIENT pricing.v1.PricingService/GetQuote OK
            pricing SERVER pricing.v1.PricingService/GetQuote OK
        checkout INTERNAL saga
            checkout INTERNAL authorize_payment
                checkout CLIENT payment.v1.PaymentService/AuthorizePayment OK
                    payment SERVER payment.v1.PaymentService/AuthorizePayment OK
                        payment CLIENT PUT 201
            checkout INTERNAL capture_payment
                checkout CLIENT payment.v1.PaymentService/CapturePayment OK
                    payment SERVER payment.v1.PaymentService/CapturePayment OK
                        payment CLIENT POST 200
            checkout INTERNAL commit_reservation
                checkout CLIENT inventory.v1.InventoryService/CommitReservation OK
                    inventory SERVER inventory.v1.InventoryService/CommitReservation OK
            checkout INTERNAL reserve_stock
                checkout CLIENT inventory.v1.InventoryService/ReserveStock OK
                    inventory SERVER inventory.v1.InventoryService/ReserveStock OK
""")
CARD_REFUSED = stated("""
    checkout SERVER checkout.v1.CheckoutService/PlaceOrder FAILED_PRECONDITION
        checkout CLIENT pricing.v1.PricingService/GetQuote OK
            pricing SERVER pricing.v1.PricingService/GetQuote OK
        checkout INTERNAL saga
            checkout INTERNAL authorize_payment no CARD_DECLINED
                checkout CLIENT payment.v1.PaymentService/AuthorizePayment FAILED_PRECONDITION
                    payment SERVER payment.v1.PaymentService/AuthorizePayment FAILED_PRECONDITION
                        payment CLIENT PUT 402
            checkout INTERNAL release_reservation
                checkout CLIENT inventory.v1.InventoryService/ReleaseReservation OK
                    inventory SERVER inventory.v1.InventoryService/ReleaseReservation OK
            checkout INTERNAL reserve_stock
                checkout CLIENT inventory.v1.InventoryService/ReserveStock OK
                    inventory SERVER inventory.v1.InventoryService/ReserveStock OK
            checkout INTERNAL void_payment
                checkout CLIENT payment.v1.PaymentService/VoidPayment OK
                    payment SERVER payment.v1.PaymentService/VoidPayment OK
""")
SOLD_OUT = stated("""
    checkout SERVER checkout.v1.CheckoutService/PlaceOrder FAILED_PRECONDITION
        checkout CLIENT pricing.v1.PricingService/GetQuote OK
            pricing SERVER pricing.v1.PricingService/GetQuote OK
        checkout INTERNAL saga
            checkout INTERNAL authorize_payment
                checkout CLIENT payment.v1.PaymentService/AuthorizePayment OK
                    payment SERVER payment.v1.PaymentService/AuthorizePayment OK
                        payment CLIENT PUT 201
            checkout INTERNAL release_reservation
                checkout CLIENT inventory.v1.InventoryService/ReleaseReservation OK
                    inventory SERVER inventory.v1.InventoryService/ReleaseReservation OK
            checkout INTERNAL reserve_stock no OUT_OF_STOCK
                checkout CLIENT inventory.v1.InventoryService/ReserveStock FAILED_PRECONDITION
                    inventory SERVER inventory.v1.InventoryService/ReserveStock FAILED_PRECONDITION
            checkout INTERNAL void_payment
                checkout CLIENT payment.v1.PaymentService/VoidPayment OK
                    payment SERVER payment.v1.PaymentService/VoidPayment OK
                        payment CLIENT POST 200
""")
REFUSED_BEFORE_PLACING = stated("""
    checkout SERVER checkout.v1.CheckoutService/PlaceOrder FAILED_PRECONDITION
        checkout CLIENT pricing.v1.PricingService/GetQuote OK
            pricing SERVER pricing.v1.PricingService/GetQuote OK
""")
REPLAYED = stated("""
    checkout SERVER checkout.v1.CheckoutService/PlaceOrder OK
""")


async def trace_id_of(shop: Shop, request: pb.PlaceOrderRequest, traceparent: str = "") -> str:
    """Place an order, and return the id of its trace as its trailing metadata states it."""
    metadata = (("traceparent", traceparent),) if traceparent else ()
    call = shop.checkout.PlaceOrder(request, timeout=shopping.WAIT_SECONDS, metadata=metadata)
    await call.code()
    return str(dict(await call.trailing_metadata())["trace-id"])


async def placed(shop: Shop, request: pb.PlaceOrderRequest, expected: str) -> list[ReadableSpan]:
    """Place an order, and return its spans once there are as many as a tree has lines."""
    return await traced(shop, await trace_id_of(shop, request), expected.count("\n"))


async def test_the_tree_of_a_confirmed_order(shop: Shop) -> None:
    """Every hop, every step of the saga, and the processor; nothing is red."""
    spans = await placed(shop, place_request(await quoted(shop, await stocked(shop, 1))), CONFIRMED)
    assert tree(spans) == CONFIRMED


async def test_the_tree_of_an_order_whose_card_is_refused(shop: Shop) -> None:
    """A refused card is an answer: no span is red, and the undos stand beside the steps."""
    request = place_request(await quoted(shop, await stocked(shop, 1)), "tok_declined")
    assert tree(await placed(shop, request, CARD_REFUSED)) == CARD_REFUSED


async def test_the_tree_of_an_order_that_is_sold_out(shop: Shop) -> None:
    """The hold is released behind the void's answer, and still below it."""
    request = place_request(await quoted(shop, await stocked(shop, 1), 2))
    assert tree(await placed(shop, request, SOLD_OUT)) == SOLD_OUT


async def test_the_tree_of_an_order_that_is_refused_before_it_is_placed(shop: Shop) -> None:
    """There is no saga."""
    quote = await quoted(shop, await stocked(shop, 1))
    address = quote.shipping_address
    address.locality = "Elsewhere"
    request = place_request(quote, shipping_address=address)
    assert tree(await placed(shop, request, REFUSED_BEFORE_PLACING)) == REFUSED_BEFORE_PLACING


async def test_the_tree_of_a_request_that_comes_again(shop: Shop) -> None:
    """Its verdict is read; it is a trace of its own, and the order keeps the first one's."""
    request = place_request(await quoted(shop, await stocked(shop, 1)))
    first = await trace_id_of(shop, request)
    spans = await placed(shop, request, REPLAYED)
    assert tree(spans) == REPLAYED
    order = await shopping.placed(shop, request)
    assert order.trace_id == first


async def test_the_root_and_the_saga_say_which_order_it_is(shop: Shop) -> None:
    """By id and by number, and the order names the trace."""
    request = place_request(await quoted(shop, await stocked(shop, 1)))
    spans = await placed(shop, request, CONFIRMED)
    order = await shopping.placed(shop, request)
    named = {
        span.name.rpartition("/")[2]: (span.attributes["libretto.order_id"], span.attributes["libretto.order_number"])
        for span in spans
        if span.attributes is not None and "libretto.order_id" in span.attributes
    }
    assert named == dict.fromkeys(("PlaceOrder", "saga"), (order.order_id, order.number))
    assert spans == spans_of(shop, order.trace_id)


def window(spans: list[ReadableSpan], name: str) -> tuple[int, int]:
    """Return when the only span of a name began and ended."""
    (span,) = (span for span in spans if span.name == name)
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


async def test_the_steps_of_a_trace_follow_each_other_as_the_table_says(shop: Shop) -> None:
    """Stock and card beside each other, then the capture, then the answer, then the sale."""
    spans = await placed(shop, place_request(await quoted(shop, await stocked(shop, 1))), CONFIRMED)
    reserve, authorize = window(spans, "reserve_stock"), window(spans, "authorize_payment")
    capture, commit = window(spans, "capture_payment"), window(spans, "commit_reservation")
    assert max(reserve[0], authorize[0]) < min(reserve[1], authorize[1])
    assert max(reserve[1], authorize[1]) <= capture[0]
    assert capture[1] <= commit[0]


async def test_the_void_of_a_trace_stands_between_the_steps_and_the_other_undos(shop: Shop) -> None:
    """First and alone."""
    request = place_request(await quoted(shop, await stocked(shop, 1)), "tok_declined")
    spans = await placed(shop, request, CARD_REFUSED)
    steps = [window(spans, name) for name in ("reserve_stock", "authorize_payment")]
    void, release = window(spans, "void_payment"), window(spans, "release_reservation")
    assert max(end for _, end in steps) <= void[0]
    assert void[1] <= release[0]


async def test_a_callers_trace_goes_on_through_the_order(shop: Shop) -> None:
    """Its traceparent is the parent of our root; the order has its trace."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    request = place_request(await quoted(shop, await stocked(shop, 1)))
    assert await trace_id_of(shop, request, f"00-{trace_id}-{span_id}-01") == trace_id
    spans = await traced(shop, trace_id, CONFIRMED.count("\n"))
    assert tree(spans) == CONFIRMED
    (root,) = (span for span in spans if span.name.endswith("/PlaceOrder"))
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == span_id


async def test_an_order_that_its_caller_does_not_sample_makes_no_spans(shop: Shop) -> None:
    """Not in any service, and not behind the answer; it has its trace id all the same."""
    trace_id = secrets.token_hex(16)
    request = place_request(await quoted(shop, await stocked(shop, 1)))
    assert await trace_id_of(shop, request, f"00-{trace_id}-{secrets.token_hex(8)}-00") == trace_id
    order = await shopping.placed(shop, request)
    await shopping.completed(shop, order.order_id)
    assert (order.trace_id, spans_of(shop, trace_id)) == (trace_id, [])


@pytest.mark.parametrize("token", ["tok_succeeds", "tok_declined"])
async def test_every_answer_says_its_own_trace(shop: Shop, token: str) -> None:
    """Good or bad, the first time and again, in the trailing metadata; the trace is there."""
    request = place_request(await quoted(shop, await stocked(shop, 1)), token)
    trace_ids = [await trace_id_of(shop, request) for _ in range(3)]
    assert len(set(trace_ids)) == 3
    for trace_id in trace_ids:
        assert await traced(shop, trace_id, 1)
