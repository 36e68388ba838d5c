"""Who and what appears in the demo: goods, customers and their address, and the requests made from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.common.values import Money


@dataclass(frozen=True, slots=True)
class Goods:
    """A product, and how many pieces of it come in."""

    sku: str
    title: str
    price: Money
    pieces: int


BATON: Final = Goods("BATON-OAK", "Conductor's baton, oak", Money("EUR", 24_90), 5)
SCORE: Final = Goods("SCORE-FLUTE", "The Magic Flute, full score", Money("EUR", 39_50), 3)
GLASSES: Final = Goods("GLASSES-BRASS", "Opera glasses, brass, the last pair", Money("EUR", 79_00), 1)
SHELVES: Final = (BATON, SCORE, GLASSES)

ADDRESS: Final = {"regionCode": "AT", "postalCode": "1010", "locality": "Wien", "addressLines": ["Opernring 2"]}
ADA: Final = {"customerId": "ada", "email": "ada@example.com", "locale": "de-AT"}
BORIS: Final = {"customerId": "boris", "email": "boris@example.com"}
CLARA: Final = {"customerId": "clara", "email": "clara@example.com"}


def quote_request(request_id: str, pieces: Mapping[str, int]) -> dict[str, Any]:
    """Make the JSON of a CreateQuoteRequest for some pieces of each product, by its id."""
    return {
        "requestId": request_id,
        "lines": [{"productId": product_id, "quantity": quantity} for product_id, quantity in pieces.items()],
        "currencyCode": "EUR",
        "shippingAddress": ADDRESS,
    }


def order_request(request_id: str, quote_id: str, customer: Mapping[str, str], token: str) -> dict[str, Any]:
    """Make the JSON of a PlaceOrderRequest."""
    return {
        "requestId": request_id,
        "quoteId": quote_id,
        "customer": customer,
        "paymentMethodToken": token,
        "shippingAddress": ADDRESS,
    }
