"""Rates. Invariant: converting there and back gives the amount, to the 80 digits of a quotient."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.portfolio.positions import EXACT
from core.portfolio.rates import RateBook, Valued
from core.types.instruments import Product
from tests.core.portfolio.support import INSTRUMENTS, MARKS, instrument

D = Decimal
PRICES = {
    ("BTC", "USDT"): D(60_000),
    ("EUR", "USDT"): D("1.25"),
    ("ADA", "BTC"): D("0.00001"),
    ("USDT", "BRL"): D(5),
}


@pytest.mark.parametrize(
    ("reporting", "asset", "expected"),
    [
        ("USDT", "USDT", D(1)),
        ("USDT", "BTC", D(60_000)),  # direct
        ("USDT", "BRL", D("0.2")),  # inverse
        ("USDT", "ADA", D("0.6")),  # by way of BTC
        ("EUR", "BTC", D(48_000)),  # by way of USDT, its second market inverse
        ("BTC", "EUR", EXACT.divide(D("1.25"), D(60_000))),
        ("EUR", "ADA", None),  # two hops away
        ("USDT", "XYZ", None),
    ],
)
def test_a_rate_is_direct_inverse_or_one_hop_away(reporting: str, asset: str, expected: Decimal | None) -> None:
    found = RateBook(reporting, PRICES).rate(asset)
    assert found == expected if expected is None or found is None else abs(found - expected) < D("1e-30")


def test_a_given_rate_goes_first_and_serves_as_the_second_hop() -> None:
    rates = RateBook("CHF", PRICES, {"USDT": D("0.9"), "BTC": D(50_000)})
    assert rates.rate("BTC") == D(50_000)
    assert rates.rate("EUR") == D("1.125")


def test_what_has_no_rate_is_named_and_never_zero() -> None:
    rates = RateBook("USDT", PRICES)
    total = rates.worth_of_all({"BTC": D(1), "XYZ": D(5), "USDT": D(7), "ABC": D(1), "NIL": D(0)})
    assert total == Valued(D(60_007), ("ABC", "XYZ"))
    assert total.value is None
    assert rates.worth_of_all({"BTC": D("-0.5")}).value == D(-30_000)
    assert rates.worth(D(0), "XYZ").value == 0
    assert rates.converted(D(1), "XYZ", "BTC") is None
    assert rates.converted(D(1), "BTC", "XYZ") is None


def test_as_a_mapping_it_holds_what_has_a_rate() -> None:
    rates = RateBook("USDT", PRICES | {("FOO", "BAR"): D(2)})
    assert dict(rates) == {"USDT": D(1), "BTC": D(60_000), "EUR": D("1.25"), "ADA": D("0.6"), "BRL": D("0.2")}
    assert len(rates) == 5
    with pytest.raises(KeyError):
        rates["FOO"]


def test_a_spot_market_goes_before_the_perpetual_of_its_pair() -> None:
    instruments = {
        ("a-futures", "BTCUSDT"): instrument("BTC", "USDT", "a-futures", product=Product.USDM),
        ("b-spot", "BTCUSDT"): instrument("BTC", "USDT", "b-spot"),
    }
    marks = {("a-futures", "BTCUSDT"): 2_00, ("b-spot", "BTCUSDT"): 1_00}
    assert RateBook.from_marks("USDT", instruments, marks).rate("BTC") == 1
    assert RateBook.from_marks("USDT", instruments, {("a-futures", "BTCUSDT"): 2_00}).rate("BTC") == 2
    assert RateBook.from_marks("USDT", instruments, {("b-spot", "BTCUSDT"): 0}).rate("BTC") is None


@settings(deadline=None)
@given(
    st.decimals(D("0.00000001"), D(10**9), places=8),
    st.sampled_from(("BTC", "ETH", "BNB", "USDT", "USDC")),
    st.sampled_from(("BTC", "ETH", "BNB", "USDT", "USDC")),
    st.sampled_from(("BTC", "USDT")),
)
def test_there_and_back_is_the_same(amount: Decimal, asset: str, into: str, reporting: str) -> None:
    rates = RateBook.from_marks(reporting, INSTRUMENTS, MARKS)
    there = rates.converted(amount, asset, into)
    assert there is not None
    back = rates.converted(there, into, asset)
    assert back is not None
    assert abs(back - amount) <= amount * D("1e-70")
