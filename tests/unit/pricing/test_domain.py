"""Which lines can be quoted, and what they cost together."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.fields import money_message
from services.common.values import MONEY_LIMIT_MINOR, Address, Money
from services.pricing.domain import (
    CreateQuote,
    CurrencyNotOfferedError,
    Product,
    ProductArchivedError,
    ProductNotFoundError,
    RequestedLine,
    TotalTooLargeError,
    price,
    total_of,
)

ADDRESS = Address("DE", ("Unter den Linden 1",))
CURRENCIES_BY_DIGITS = {0: "JPY", 2: "EUR", 3: "KWD"}
NANOS_OF_A_UNIT = 10**9


def a_product(price_minor: int = 1250, currency: str = "EUR", *, on_sale: bool = True) -> Product:
    """Return a product of its own."""
    product_id = uuid4()
    return Product(product_id, f"SKU-{product_id}".upper()[:40], "Something", Money(currency, price_minor), on_sale)


def a_command(*lines: tuple[UUID, int], currency: str = "EUR") -> CreateQuote:
    """Return a request for lines of product and quantity."""
    return CreateQuote(None, tuple(RequestedLine(*line) for line in lines), currency, ADDRESS)


def by_id(*products: Product) -> dict[UUID, Product]:
    """Return what the catalog would know."""
    return {product.product_id: product for product in products}


def test_lines_are_priced_in_the_order_asked_for() -> None:
    """Each line has the product's price, and its total is that times the quantity."""
    mug, pot = a_product(1250), a_product(3999)

    lines = price(a_command((pot.product_id, 1), (mug.product_id, 3)), by_id(mug, pot))

    assert [(line.sku, line.quantity, line.total) for line in lines] == [
        (pot.sku, 1, Money("EUR", 3999)),
        (mug.sku, 3, Money("EUR", 3750)),
    ]
    assert total_of(lines) == Money("EUR", 7749)


def test_a_product_may_cost_nothing() -> None:
    """A total of zero is a total."""
    sample = a_product(0)

    assert total_of(price(a_command((sample.product_id, 1)), by_id(sample))) == Money("EUR", 0)


def test_the_first_line_that_cannot_be_quoted_is_named() -> None:
    """A field path and the product's id tell which line it is."""
    mug, gone, unknown = a_product(), a_product(on_sale=False), uuid4()

    with pytest.raises(ProductArchivedError) as refused:
        price(a_command((mug.product_id, 1), (gone.product_id, 1), (unknown, 1)), by_id(mug, gone))

    assert refused.value.metadata == {"field": "lines[1].product_id", "product_id": str(gone.product_id)}


def test_an_unknown_product_is_refused() -> None:
    """The catalog has no price for it."""
    with pytest.raises(ProductNotFoundError):
        price(a_command((uuid4(), 1)), {})


def test_a_product_in_another_currency_is_refused() -> None:
    """Nothing is converted; the metadata repeats what was asked for."""
    mug = a_product(currency="EUR")

    with pytest.raises(CurrencyNotOfferedError) as refused:
        price(a_command((mug.product_id, 1), currency="JPY"), by_id(mug))

    assert refused.value.metadata == {
        "field": "lines[0].product_id",
        "product_id": str(mug.product_id),
        "currency_code": "JPY",
    }


def test_the_largest_total_can_be_quoted_and_one_more_cannot() -> None:
    """The limit of an amount is the limit of a total."""
    yacht, cent = a_product(MONEY_LIMIT_MINOR), a_product(1)

    assert total_of(price(a_command((yacht.product_id, 1)), by_id(yacht))).minor == MONEY_LIMIT_MINOR
    with pytest.raises(TotalTooLargeError):
        price(a_command((yacht.product_id, 1), (cent.product_id, 1)), by_id(yacht, cent))


@given(
    digits=st.sampled_from(sorted(CURRENCIES_BY_DIGITS)),
    amounts=st.lists(st.tuples(st.integers(0, 10_000_000), st.integers(1, 1_000)), min_size=1, max_size=64),
)
def test_line_totals_add_up_to_the_total_in_every_currency(digits: int, amounts: list[tuple[int, int]]) -> None:
    """Also on the wire, in units and nanos, whether the minor unit has 0, 2 or 3 digits."""
    currency = CURRENCIES_BY_DIGITS[digits]
    products = [a_product(price_minor, currency) for price_minor, _ in amounts]
    wanted = [(product.product_id, quantity) for product, (_, quantity) in zip(products, amounts, strict=True)]

    lines = price(a_command(*wanted, currency=currency), by_id(*products))
    total = total_of(lines)

    assert total == Money(currency, sum(price_minor * quantity for price_minor, quantity in amounts))
    assert total.digits == digits
    assert nanos(total) == sum(nanos(line.total) for line in lines)
    assert all(nanos(line.total) == nanos(line.unit_price) * line.quantity for line in lines)


def nanos(amount: Money) -> int:
    """Return an amount in billionths of its currency's unit, as its message states it."""
    message = money_message(amount)
    return message.units * NANOS_OF_A_UNIT + message.nanos
