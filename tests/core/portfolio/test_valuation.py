"""Valuation of accounts, desks and the firm; each figure worked out by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core.portfolio.positions import EXACT
from core.portfolio.rates import Valued
from core.portfolio.valuation import (
    UNKNOWN_BALANCES,
    account_margin,
    fees_by_asset,
    funding_by_asset,
    value_account,
    value_desk,
    value_firm,
    value_position,
)
from core.portfolio.view import portfolio_of
from core.types.orders import Side
from tests.core.portfolio.support import (
    FUTURES,
    INSTRUMENTS,
    MARKS,
    VENUE,
    Fills,
    books,
    fill,
    futures_account,
    portfolio,
    spot_account,
)

D = Decimal
SPOT_BTC = ("spot", VENUE, "BTCUSDT")
SPOT_ETHBTC = ("spot", VENUE, "ETHBTC")
PERP_BTC = ("futures", FUTURES, "BTCUSDT")
PERP_ETH = ("futures", FUTURES, "ETHUSDT")

BOUGHT: Fills = (
    (SPOT_BTC, "", fill(Side.BUY, 50_000, 58_000_00, 1, "0.001", "BNB")),
    (SPOT_BTC, "", fill(Side.SELL, 10_000, 59_000_00, 2, "5.9")),
)
PERPS: Fills = (
    (PERP_BTC, "", fill(Side.SELL, 100_000, 61_000_00, 3, "30.5")),
    (PERP_ETH, "", fill(Side.BUY, 500_000, 2_900_00, 4)),
)
BALANCES = {"USDT": D(10_000), "USDC": D(1_000), "BTC": D("0.4"), "ETH": D(2)}


def test_a_position_in_its_quote_asset() -> None:
    valued = value_position(portfolio(spot_account(BALANCES), fills=BOUGHT), *SPOT_BTC)
    assert (valued.quantity, valued.average_price, valued.mark_price) == (D("0.4"), D(58_000), D(60_000))
    assert (valued.market_value_quote, valued.notional_quote) == (D(24_000), D(24_000))
    assert (valued.unrealised_pnl_quote, valued.realised_pnl_quote) == (D(800), D(100))
    assert valued.fees_by_asset == {"BNB": D("0.001"), "USDT": D("5.9")}
    assert (valued.fees_quote, valued.total_fees_quote) == (D("5.9"), D("6.5"))  # BNB at 600


def test_without_a_mark_or_a_rate_a_figure_is_none() -> None:
    valued = value_position(portfolio(spot_account(BALANCES), fills=BOUGHT, marks={}), *SPOT_BTC)
    assert (
        valued.mark_price is valued.market_value_quote is valued.notional_quote is valued.unrealised_pnl_quote is None
    )
    assert valued.total_fees_quote is None
    assert (valued.fees_quote, valued.realised_pnl_quote) == (D("5.9"), D(100))


def test_a_spot_account_is_worth_its_balances_and_exposed_to_what_is_not_cash() -> None:
    valued = value_account(portfolio(spot_account(BALANCES), fills=BOUGHT), "spot", VENUE)
    assert valued.equity.value == D(10_000) + 1_000 + 24_000 + 6_000
    assert valued.gross_exposure.value == valued.net_exposure.value == D(30_000)
    assert {one.name: one.value.value for one in valued.by_asset} == {"BTC": D(24_000), "ETH": D(6_000)}
    assert {one.name: one.value.value for one in valued.by_symbol} == {"BTCUSDT": D(24_000)}
    assert valued.leverage == EXACT.divide(D(30_000), D(41_000))
    assert (valued.unrealised_pnl.value, valued.realised_pnl.value, valued.fees.value) == (D(800), D(100), D("6.5"))
    assert valued.margin is None


def test_a_futures_account_is_worth_its_wallet_and_what_is_unrealised() -> None:
    valued = value_account(portfolio(futures_account(D(20_000)), fills=PERPS), "futures", FUTURES)
    assert valued.unrealised_pnl.value == D(1_000) + 500
    assert valued.equity.value == D(21_500)
    assert (valued.gross_exposure.value, valued.net_exposure.value) == (D(75_000), D(-45_000))
    assert {one.name: one.value.value for one in valued.by_asset} == {"BTC": D(-60_000), "ETH": D(15_000)}
    assert valued.leverage == EXACT.divide(D(75_000), D(21_500))
    assert valued.margin is not None
    assert (valued.margin.margin_balance, valued.margin.initial) == (D(21_500), D(7_500))
    assert valued.margin.maintenance == D(250) + D(60)


def test_a_desk_and_the_firm_net_by_asset_and_symbol() -> None:
    whole = portfolio(
        spot_account(BALANCES, desk_id="arb"),
        futures_account(D(20_000), desk_id="arb"),
        spot_account({"BTC": D(1)}, "treasury"),
        fills=BOUGHT + PERPS,
    )
    desk, firm = value_desk(whole, "arb"), value_firm(whole)
    assert (desk.scope, firm.scope) == ("desk:arb", "firm")
    assert (desk.equity.value, firm.equity.value) == (D(62_500), D(122_500))
    assert (desk.gross_exposure.value, desk.net_exposure.value) == (D(105_000), D(-15_000))
    assert (firm.gross_exposure.value, firm.net_exposure.value) == (D(165_000), D(45_000))
    assert {one.name: (one.quantity, one.value.value) for one in desk.by_asset} == {
        "BTC": (D("-0.6"), D(-36_000)),
        "ETH": (D(7), D(21_000)),
    }
    assert {one.name: one.value.value for one in desk.by_symbol} == {"BTCUSDT": D(-36_000), "ETHUSDT": D(15_000)}


def test_figures_follow_the_reporting_currency() -> None:
    whole = portfolio(futures_account(D(20_000)), fills=PERPS, rates={"USDT": D("0.8")}, reporting_asset="EUR")
    valued = value_account(whole, "futures", FUTURES)
    assert valued.reporting_asset == "EUR"
    assert (valued.equity.value, valued.gross_exposure.value) == (D(17_200), D(60_000))
    assert valued.leverage == EXACT.divide(D(75_000), D(21_500))


def test_a_market_quoted_in_another_asset_is_converted() -> None:
    bought = ((SPOT_ETHBTC, "", fill(Side.BUY, 200_000, 49_000)),)
    valued = value_account(portfolio(spot_account(BALANCES), fills=bought), "spot", VENUE)
    assert valued.unrealised_pnl.value == D("0.002") * 60_000  # 2 ETH, 0.001 BTC each
    assert [one.value.value for one in valued.by_symbol] == [D(6_000)]


@pytest.mark.parametrize(
    ("balances", "marks", "unknown", "known"),
    [
        ({"USDT": D(5), "XYZ": D(1)}, MARKS, ("XYZ",), D(5)),
        ({"USDT": D(5), "BTC": D(1), "ETH": D(1)}, {}, ("BTC", "ETH"), D(5)),
        (None, MARKS, (UNKNOWN_BALANCES,), D(0)),
    ],
)
def test_what_cannot_be_valued_is_named(
    balances: dict[str, Decimal] | None, marks: dict[tuple[str, str], int], unknown: tuple[str, ...], known: Decimal
) -> None:
    valued = value_account(portfolio(spot_account(balances), marks=marks), "spot", VENUE)
    assert valued.equity == Valued(known, unknown)
    assert valued.equity.value is valued.leverage is None


def test_a_perpetual_without_a_mark_makes_equity_exposure_and_margin_unknown() -> None:
    marks = {key: mark for key, mark in MARKS.items() if key != (FUTURES, "BTCUSDT")}
    valued = value_account(portfolio(futures_account(D(20_000)), fills=PERPS, marks=marks), "futures", FUTURES)
    assert valued.equity.unknown == valued.gross_exposure.unknown == ("BTC",)
    assert valued.gross_exposure.known == D(15_000)
    assert valued.margin is None


def test_margin_is_unknown_without_brackets_or_a_wallet() -> None:
    for account in (futures_account(D(20_000), brackets={}), futures_account(None)):
        assert account_margin(portfolio(account, fills=PERPS), account) is None
    empty = futures_account(D(20_000), brackets={})
    margin = account_margin(portfolio(empty), empty)
    assert margin is not None
    assert margin.free_margin == D(20_000)


def test_spot_positions_stand_for_balances_that_are_unknown() -> None:
    valued = value_account(portfolio(spot_account(None), fills=BOUGHT), "spot", VENUE)
    assert {one.name: one.value.value for one in valued.by_asset} == {"BTC": D(24_000)}
    assert valued.gross_exposure.value == D(24_000)


def test_fees_and_funding_by_asset() -> None:
    positions, strategies = books(*BOUGHT, *PERPS)
    accounts = (spot_account(BALANCES), futures_account(D(20_000)))
    funding = {(*PERP_BTC, "USDT"): D(7), (*PERP_ETH, "USDT"): D("-2.5"), ("other", FUTURES, "X", "USDT"): D(9)}
    whole = portfolio_of(accounts, positions, strategies, INSTRUMENTS, MARKS, {}, "USDT", funding)
    assert fees_by_asset(whole, accounts[0]) == {"BNB": D("0.001"), "USDT": D("5.9")}
    assert funding_by_asset(whole, accounts[1]) == {"USDT": D("4.5")}
    assert value_account(whole, "futures", FUTURES).funding.value == D("4.5")
    assert value_position(whole, *PERP_ETH).funding_by_asset == {"USDT": D("-2.5")}
    assert funding_by_asset(whole, accounts[0]) == {}


def test_only_the_accounts_asked_for_are_in_it() -> None:
    whole = portfolio(spot_account(BALANCES), fills=BOUGHT + PERPS)
    assert list(whole.positions) == [SPOT_BTC]
    assert list(whole.strategy_positions) == [(*SPOT_BTC, "")]
    with pytest.raises(KeyError, match="futures"):
        value_account(whole, "futures", FUTURES)
