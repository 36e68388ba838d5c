"""The rules of quotes: which products can be quoted, and what they cost together.

Amounts are whole minor units throughout; nothing is rounded, as prices are multiplied by whole quantities only.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from uuid import UUID

from services.common.values import MONEY_LIMIT_MINOR, Address, DomainError, ErrorKind, Money


@dataclass(frozen=True, slots=True)
class Product:
    """A product of the catalog as far as a quote needs it; `price` is that of one piece."""

    product_id: UUID
    sku: str
    title: str
    price: Money
    on_sale: bool


@dataclass(frozen=True, slots=True)
class RequestedLine:
    """Some pieces of a product that somebody wants to buy."""

    product_id: UUID
    quantity: int


@dataclass(frozen=True, slots=True)
class CreateQuote:
    """Price some lines, of one product each; without an id pricing chooses one."""

    quote_id: UUID | None
    lines: tuple[RequestedLine, ...]
    currency: str
    shipping_address: Address


@dataclass(frozen=True, slots=True)
class QuoteLine:
    """Some pieces of one product at a price that is promised."""

    product_id: UUID
    sku: str
    title: str
    unit_price: Money
    quantity: int

    @property
    def total(self) -> Money:
        """What the line costs."""
        return self.unit_price * self.quantity


@dataclass(frozen=True, slots=True)
class Quote:
    """A promise of a price until a time. It never changes."""

    quote_id: UUID
    lines: tuple[QuoteLine, ...]
    total: Money
    shipping_address: Address
    create_time: dt.datetime
    expire_time: dt.datetime


class PricingError(DomainError):
    """The base of what pricing refuses."""

    service = "pricing"


class QuoteNotFoundError(PricingError):
    """No quote has this id."""

    kind, reason = ErrorKind.NOT_FOUND, "QUOTE_NOT_FOUND"

    def __init__(self, quote_id: UUID) -> None:
        """Name the quote."""
        super().__init__(f"There is no quote {quote_id}.", quote_id=str(quote_id))


class QuoteIdTakenError(PricingError):
    """Another request made a quote with this id."""

    kind, reason = ErrorKind.REFUSED, "QUOTE_ID_TAKEN"

    def __init__(self, quote_id: UUID) -> None:
        """Name the quote."""
        super().__init__(f"Another request made the quote {quote_id}.", quote_id=str(quote_id))


class ProductNotFoundError(PricingError):
    """A line names a product that the catalog does not know."""

    kind, reason = ErrorKind.NOT_FOUND, "PRODUCT_NOT_FOUND"

    def __init__(self, index: int, product_id: UUID) -> None:
        """Name the line, counted from 0, and the product."""
        super().__init__(f"The catalog has no product {product_id}.", **_culprit(index, product_id))


class ProductArchivedError(PricingError):
    """A line names a product that is no longer sold."""

    kind, reason = ErrorKind.REFUSED, "PRODUCT_ARCHIVED"

    def __init__(self, index: int, product_id: UUID) -> None:
        """Name the line, counted from 0, and the product."""
        super().__init__(f"The product {product_id} is no longer sold.", **_culprit(index, product_id))


class CurrencyNotOfferedError(PricingError):
    """A product is not sold in the currency asked for."""

    kind, reason = ErrorKind.REFUSED, "CURRENCY_NOT_OFFERED"

    def __init__(self, index: int, product_id: UUID, currency: str) -> None:
        """Name the line, counted from 0, the product, and the currency asked for."""
        super().__init__(
            f"The product {product_id} is not sold in {currency}.",
            **_culprit(index, product_id),
            currency_code=currency,
        )


class TotalTooLargeError(PricingError):
    """The total would pass the limit of an amount."""

    kind, reason = ErrorKind.REFUSED, "TOTAL_TOO_LARGE"

    def __init__(self, total: Money) -> None:
        """State what the total would be, and the limit."""
        limit = Money(total.currency, MONEY_LIMIT_MINOR)
        super().__init__(f"The total would be {total}; at most {limit} can be quoted.")


def price(command: CreateQuote, products: Mapping[UUID, Product]) -> tuple[QuoteLine, ...]:
    """Price each line from the catalog's products, in order.

    Raises ProductNotFoundError, ProductArchivedError or CurrencyNotOfferedError for the first line that cannot be
    quoted, TotalTooLargeError for lines that cannot be quoted together.
    """
    lines = tuple(
        _priced(index, line, products.get(line.product_id), command.currency)
        for index, line in enumerate(command.lines)
    )
    total = total_of(lines)
    if total.minor > MONEY_LIMIT_MINOR:
        raise TotalTooLargeError(total)
    return lines


def total_of(lines: tuple[QuoteLine, ...]) -> Money:
    """Return what one or more lines of one currency cost together."""
    return reduce(add, (line.total for line in lines))


def _priced(index: int, line: RequestedLine, product: Product | None, currency: str) -> QuoteLine:
    if product is None:
        raise ProductNotFoundError(index, line.product_id)
    if not product.on_sale:
        raise ProductArchivedError(index, line.product_id)
    if product.price.currency != currency:
        raise CurrencyNotOfferedError(index, line.product_id, currency)
    return QuoteLine(product.product_id, product.sku, product.title, product.price, line.quantity)


def _culprit(index: int, product_id: UUID) -> dict[str, str]:
    return {"field": f"lines[{index}].product_id", "product_id": str(product_id)}
