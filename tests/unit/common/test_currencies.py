"""The table of currencies against what ISO 4217 says of its exceptions."""

import re

from services.common.currencies import MINOR_DIGITS

NO_DIGITS = {
    *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF"),
    "XPF",
}
THREE_DIGITS = {"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"}
FOUR_DIGITS = {"CLF", "UYW"}


def codes_with(digits: int) -> set[str]:
    """Return the codes whose minor unit has so many digits."""
    return {code for code, found in MINOR_DIGITS.items() if found == digits}


def test_the_currencies_without_two_digits_are_exactly_those_of_the_standard() -> None:
    """A wrong entry here would take a hundredth or a hundredfold of the money."""
    assert codes_with(0) == NO_DIGITS
    assert codes_with(3) == THREE_DIGITS
    assert codes_with(4) == FOUR_DIGITS


def test_every_other_currency_has_two_digits() -> None:
    """Those that most people pay with are among them."""
    assert codes_with(2) == set(MINOR_DIGITS) - NO_DIGITS - THREE_DIGITS - FOUR_DIGITS
    assert {"AUD", "BRL", "CAD", "CHF", "CNY", "EUR", "GBP", "INR", "MXN", "PLN", "SEK", "USD", "ZAR"} <= codes_with(2)


def test_every_code_has_three_capital_letters_and_stands_once() -> None:
    """The list is long enough to be the whole one."""
    assert all(re.fullmatch("[A-Z]{3}", code) for code in MINOR_DIGITS)
    assert 150 <= len(MINOR_DIGITS) <= 180


def test_what_is_no_longer_or_never_paid_with_is_left_out() -> None:
    """Gold, drawing rights, tests, and currencies that others have replaced."""
    assert not {"XAU", "XAG", "XDR", "XTS", "XXX", "DEM", "HRK", "ANG", "BGN", "SLL", "ZWL", "VEF"} & set(MINOR_DIGITS)
