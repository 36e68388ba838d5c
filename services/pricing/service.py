"""Pricing's RPCs: a request becomes a command, is priced from the catalog, and the store's verdict is the response."""

from libretto.pricing.v1 import pricing_service_pb2 as pb
from libretto.pricing.v1 import pricing_service_pb2_grpc, quote_pb2

from services.common.fields import Fields, address_message, money_message, time_message
from services.common.idempotency import Fingerprints
from services.common.layers import Context
from services.pricing.clients import CatalogClient
from services.pricing.domain import CreateQuote, Quote, QuoteLine, QuoteNotFoundError, RequestedLine
from services.pricing.store import PricingStore

_LINES_LIMIT = 64
_QUANTITY_LIMIT = 1_000


class PricingServicer(pricing_service_pb2_grpc.PricingServiceServicer):
    """Answers for quotes, as the contract says."""

    def __init__(self, store: PricingStore, catalog: CatalogClient, fingerprints: Fingerprints) -> None:
        """Keep rows in a store, take prices from the catalog, and recognise requests by their fingerprints."""
        self._store, self._catalog, self._fingerprints = store, catalog, fingerprints

    async def CreateQuote(self, request: pb.CreateQuoteRequest, context: Context) -> pb.CreateQuoteResponse:
        """Make a quote. One that came before is answered without the catalog, whose prices may have changed since."""
        keyed = self._fingerprints.keyed(request.request_id, _parse_creation(request))
        verdict = await self._store.replayed(keyed)
        if verdict is None:
            products = await self._catalog.products([line.product_id for line in keyed.command.lines])
            (verdict,) = await self._store.create([keyed], products, _write_created)
        return verdict.parse(pb.CreateQuoteResponse)

    async def GetQuote(self, request: pb.GetQuoteRequest, context: Context) -> pb.GetQuoteResponse:
        """Read a quote."""
        with Fields() as fields:
            quote_id = fields.uuid("quote_id", request.quote_id)
        quote = await self._store.quote(quote_id)
        if quote is None:
            raise QuoteNotFoundError(quote_id)
        return pb.GetQuoteResponse(quote=quote_message(quote))


def quote_message(quote: Quote) -> quote_pb2.Quote:
    """Write a quote."""
    return quote_pb2.Quote(
        quote_id=str(quote.quote_id),
        lines=map(_line_message, quote.lines),
        total=money_message(quote.total),
        shipping_address=address_message(quote.shipping_address),
        create_time=time_message(quote.create_time),
        expire_time=time_message(quote.expire_time),
    )


def _line_message(line: QuoteLine) -> quote_pb2.QuoteLine:
    return quote_pb2.QuoteLine(
        product_id=str(line.product_id),
        sku=line.sku,
        title=line.title,
        unit_price=money_message(line.unit_price),
        quantity=line.quantity,
        line_total=money_message(line.total),
    )


def _write_created(quote: Quote) -> pb.CreateQuoteResponse:
    return pb.CreateQuoteResponse(quote=quote_message(quote))


def _parse_creation(request: pb.CreateQuoteRequest) -> CreateQuote:
    with Fields() as fields:
        fields.request_id(request.request_id)
        quote_id = fields.optional_uuid("quote_id", request.quote_id)
        lines = [_line(item, line) for item, line in fields.each("lines", request.lines, at_most=_LINES_LIMIT)]
        fields.unique("lines", "product_id", [line.product_id for line in lines])
        currency = fields.currency("currency_code", request.currency_code)
        address = fields.address(
            "shipping_address", request.shipping_address, present=request.HasField("shipping_address")
        )
    return CreateQuote(quote_id, tuple(lines), currency, address)


def _line(fields: Fields, line: pb.CreateQuoteLine) -> RequestedLine:
    return RequestedLine(
        fields.uuid("product_id", line.product_id),
        fields.whole("quantity", line.quantity, at_least=1, at_most=_QUANTITY_LIMIT),
    )
