"""Margin. The liquidation prices are those of the worked examples that Binance publishes ("How to Calculate Liquidation
Price of USDS-M Futures Contracts"), and property tests hold them against the margin balance at that very price."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.portfolio.exact import rounded
from core.portfolio.margin import (
    MarginBracket,
    MarginMode,
    MarginPosition,
    bracket_of,
    funding_payment,
    initial_margin,
    liquidation_price,
    maintenance_margin,
    margin_state,
    max_notional,
    spot_free_margin,
)
from core.portfolio.positions import EXACT
from tests.core.portfolio.support import BRACKETS

D = Decimal


def position(
    quantity: str,
    entry: str,
    mark: str,
    leverage: int = 10,
    mode: MarginMode = MarginMode.CROSS,
    isolated: str = "0",
    symbol: str = "BTCUSDT",
    brackets: tuple[MarginBracket, ...] = BRACKETS,
) -> MarginPosition:
    return MarginPosition(symbol, D(quantity), D(quantity) * D(entry), D(mark), leverage, brackets, mode, D(isolated))


@pytest.mark.parametrize(
    ("notional", "number", "expected"),
    [
        ("0", 0, "0"),
        ("49999.99", 0, "199.99996"),
        ("50000", 0, "200"),
        ("50000.01", 1, "200.00005"),
        ("600000", 1, "2950"),
        ("600000.01", 2, "2950.0001"),
        ("3000000", 2, "26950"),
        ("3000001", 3, "26950.025"),
        ("12000000", 3, "251950"),
        ("20000000", 3, "451950"),
    ],
)
def test_maintenance_margin_is_continuous_over_the_brackets_edges(notional: str, number: int, expected: str) -> None:
    assert bracket_of(D(notional), BRACKETS) == BRACKETS[number]
    assert maintenance_margin(D(notional), BRACKETS) == D(expected)


def test_maintenance_amounts_follow_from_the_rates() -> None:
    assert [one.maintenance_amount for one in BRACKETS] == [0, 50, 3_050, 48_050]
    assert [one.notional_floor for one in BRACKETS] == [0, 50_000, 600_000, 3_000_000]


@pytest.mark.parametrize(
    ("leverage", "expected"),
    [(125, 50_000), (101, 50_000), (100, 600_000), (20, 12_000_000), (1, 12_000_000), (126, 0)],
)
def test_a_leverage_bounds_the_notional(leverage: int, expected: int) -> None:
    assert max_notional(leverage, BRACKETS) == expected


@pytest.mark.parametrize(
    ("notional", "leverage", "expected"),
    [("100", 3, "33.33333334"), ("100", 4, "25"), ("0", 20, "0"), ("0.00000001", 125, "0.00000001")],
)
def test_initial_margin_is_rounded_up(notional: str, leverage: int, expected: str) -> None:
    assert initial_margin(D(notional), leverage) == D(expected)


def one_bracket(rate: str, amount: str) -> tuple[MarginBracket, ...]:
    return (MarginBracket(D(0), D(10**12), 20, D(rate), D(amount)),)


@pytest.mark.parametrize(
    ("quantity", "entry", "rate", "amount", "own_margin", "expected"),
    [
        # Isolated: the wallet is all there is.
        ("3683.979", "1456.84", "0.10", "135365.00", "1535443.01", "1114.78"),
        ("109.488", "32481.980", "0.025", "16300.00", "1535443.01", "18778.73"),
        # Cross: less the other position's maintenance margin, plus its unrealised PnL.
        ("3683.979", "1456.84", "0.10", "135365.00", "1407887.42856", "1153.26"),
        ("109.488", "32481.980", "0.025", "16300.00", "730737.612", "26316.89"),
        # A short of 1 at 100 with 10: 110 - price = price x 0.01.
        ("-1", "100", "0.01", "0", "10", "108.91"),
    ],
)
def test_liquidation_prices_are_those_that_are_published(
    quantity: str, entry: str, rate: str, amount: str, own_margin: str, expected: str
) -> None:
    held = position(quantity, entry, "1", brackets=one_bracket(rate, amount))
    price = liquidation_price(held, D(own_margin))
    assert price is not None
    assert rounded(price, 2) == D(expected)


def test_a_position_that_its_margin_covers_down_to_zero_has_no_liquidation_price() -> None:
    assert liquidation_price(position("1", "100", "100"), D(100)) is None
    assert liquidation_price(position("0", "100", "100"), D(100)) is None
    assert liquidation_price(position("1", "100", "100"), D(99)) is not None


signed_quantities = st.integers(-20_000, 20_000).filter(bool).map(lambda units: D(units).scaleb(-2))


@settings(deadline=None)
@given(signed_quantities, st.integers(1, 100_000), st.integers(1, 5_000_000))
def test_at_the_liquidation_price_the_margin_just_holds(quantity: Decimal, entry: int, own_margin: int) -> None:
    held = MarginPosition("X", quantity, quantity * entry, D(entry), 10, BRACKETS)
    price = liquidation_price(held, D(own_margin))
    if price is None:
        assert quantity > 0
        assert own_margin >= held.cost
        return
    there = msgspec.structs.replace(held, mark_price=price)
    with localcontext(EXACT):
        assert abs(own_margin + there.unrealised - there.maintenance) < D("1e-60")
    worse = msgspec.structs.replace(held, mark_price=price * (D("0.999") if quantity > 0 else D("1.001")))
    assert own_margin + worse.unrealised < worse.maintenance


def test_cross_positions_share_one_margin() -> None:
    state = margin_state(
        D(10_000), [position("1", "60000", "58000"), position("-10", "3000", "3100", symbol="ETHUSDT")]
    )
    assert (state.unrealised, state.margin_balance) == (D(-3_000), D(7_000))
    assert state.initial == D(8_900)
    assert state.maintenance == D(240) + D(124)  # 58,000 x 0.5 % - 50, and 31,000 x 0.4 %
    assert state.margin_ratio == D("0.052")
    assert state.free_margin == D(-1_900)
    assert not state.is_liquidated
    bitcoin, ether = state.positions
    # 10,000 - 1,000 - 124 is left for the long: 8,876 + 50 - 60,000 over 0.005 - 1.
    assert bitcoin.liquidation_price is not None
    assert rounded(bitcoin.liquidation_price, 2) == D("51330.65")
    # 10,000 - 2,000 - 240 for the short: 7,760 + 30,000 over 10 x 1.004.
    assert ether.liquidation_price is not None
    assert rounded(ether.liquidation_price, 2) == D("3760.96")


def test_an_isolated_position_stands_alone() -> None:
    held = position("1", "60000", "54200", mode=MarginMode.ISOLATED, isolated="6000")
    state = margin_state(D(100_000), [held, position("-10", "3000", "3100", symbol="ETHUSDT")])
    alone, other = state.positions
    assert (alone.margin_balance, alone.maintenance, alone.is_liquidated) == (D(200), D(221), True)
    assert not other.is_liquidated
    assert state.is_liquidated
    assert state.liquidated_symbols == ("BTCUSDT",)
    # Its wallet and its loss are no business of the cross positions.
    assert state.free_margin == D(94_000) - 1_000 - 3_100
    assert state.margin_ratio == EXACT.divide(D(124), D(93_000))


@pytest.mark.parametrize(
    ("wallet", "is_liquidated"), [("120.01", False), ("120", True), ("119.99", True), ("-5", True)]
)
def test_an_account_is_liquidated_when_its_balance_is_its_maintenance_margin(wallet: str, is_liquidated: bool) -> None:
    state = margin_state(D(wallet), [position("0.5", "60000", "60000")])
    assert state.is_liquidated is is_liquidated
    assert (state.margin_ratio is None) is (D(wallet) <= 0)


def test_an_account_without_positions_is_never_liquidated() -> None:
    state = margin_state(D(0), [])
    assert (state.is_liquidated, state.margin_ratio, state.free_margin) == (False, D(0), D(0))


@pytest.mark.parametrize(
    ("quantity", "bids", "asks", "expected"),
    [
        ("0", 1_000, 500, 100),
        ("0", 500, 1_000, 100),
        ("1", 1_000, 0, 100),
        ("1", 0, 1_500, 0),  # it closes the long and shorts half of it
        ("1", 0, 2_500, 50),
        ("-1", 2_500, 100, 50),
    ],
)
def test_open_orders_need_margin_for_the_worst_that_one_side_can_do(
    quantity: str, bids: int, asks: int, expected: int
) -> None:
    held = msgspec.structs.replace(position(quantity, "1000", "1000"), bid_notional=D(bids), ask_notional=D(asks))
    assert held.order_initial == expected


@pytest.mark.parametrize(
    ("quantity", "rate", "paid"),
    [("2", "0.0001", "12"), ("-2", "0.0001", "-12"), ("2", "-0.0001", "-12"), ("-2", "-0.0001", "12"), ("0", "1", "0")],
)
def test_longs_pay_a_positive_funding_rate_to_shorts(quantity: str, rate: str, paid: str) -> None:
    assert funding_payment(D(quantity), D(60_000), D(rate)) == D(paid)


def test_spot_pays_in_full() -> None:
    assert spot_free_margin(D(1_000), D(900), D("0.9")) == D("99.1")
    assert spot_free_margin(D(1_000), D(1_000), D(1)) == D(-1)


def test_amounts_are_exact_whatever_the_caller_s_context() -> None:
    held = position("1.2345678", "1", "98765.4321", brackets=one_bracket("0.0001", "0"))
    with localcontext(Context(prec=3)):
        assert held.notional == D("121932.62222374638")
        assert held.maintenance == D("12.193262222374638")
        assert held.initial == D("12193.26222238")
