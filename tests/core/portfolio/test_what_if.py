"""What-if of orders and price moves; each figure worked out by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.portfolio.valuation import value_account
from core.portfolio.what_if import (
    FeeTerms,
    ProposedOrder,
    Shock,
    instruments_moved,
    moves_of,
    sweep,
    what_if,
    with_order,
    with_shocks,
)
from core.types.codes import ReasonCode
from core.types.orders import Side
from tests.core.portfolio.support import FUTURES, VENUE, Fills, fill, futures_account, portfolio, spot_account

D = Decimal
FREE = FeeTerms(D(0), D(0))
FEES = FeeTerms(D("0.001"), D("0.0005"))
LEVELS = ((60_010_00, 20_000), (60_020_00, 30_000))
PERP_BTC = ("futures", FUTURES, "BTCUSDT")
LONG_PERP: Fills = ((PERP_BTC, "", fill(Side.BUY, 100_000, 60_000_00)),)


def spot_order(side: Side, quantity: int, fees: FeeTerms = FREE, **terms: object) -> ProposedOrder:
    return ProposedOrder("spot", VENUE, "BTCUSDT", side, quantity, fees, **terms)  # type: ignore[arg-type]


def perp_order(side: Side, quantity: int, fees: FeeTerms = FREE, **terms: object) -> ProposedOrder:
    return ProposedOrder(*PERP_BTC, side, quantity, fees, **terms)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("side", "quantity", "limit", "levels", "taken"),
    [
        (Side.BUY, 5, None, ((10, 2), (11, 9)), [(10, 2), (11, 3)]),
        (Side.BUY, 5, 10, ((10, 2), (11, 9)), [(10, 2)]),
        (Side.SELL, 5, 10, ((10, 2), (9, 9)), [(10, 2)]),
        (Side.SELL, 2, 9, ((10, 2), (9, 9)), [(10, 2)]),
        (Side.SELL, 5, 11, ((10, 2),), []),
        (Side.BUY, 5, None, (), []),
    ],
)
def test_a_sweep_takes_levels_up_to_its_limit(
    side: Side, quantity: int, limit: int | None, levels: tuple[tuple[int, int], ...], taken: list[tuple[int, int]]
) -> None:
    assert sweep(side, quantity, limit, levels) == taken


def test_a_market_order_on_spot() -> None:
    before = portfolio(spot_account({"USDT": D(100_000)}))
    told = what_if(before, spot_order(Side.BUY, 60_000, FEES, levels=LEVELS, strategy_id="grid"))
    execution = told.execution
    assert execution is not None
    assert (execution.taken_quantity, execution.resting_quantity, execution.unfilled_quantity) == (
        D("0.5"),
        D(0),
        D("0.1"),
    )
    assert (execution.average_price, execution.notional_quote) == (D(60_016), D(30_008))
    assert (execution.fee_asset, execution.fee, execution.fee_quote) == ("BTC", D("0.0005"), D(30))
    assert (execution.position_after, execution.strategy_position_after) == (D("0.5"), D("0.5"))
    (outcome,) = told.accounts
    assert outcome.after.equity.value == D(100_000) - 30_008 + D("0.4995") * 60_000
    assert outcome.equity_change.value == D(-38)
    assert outcome.after.gross_exposure.value == D(29_970)
    assert before.account("spot", VENUE).balances == {"USDT": D(100_000)}
    assert before.positions == {}


def test_a_limit_order_takes_what_it_meets_and_rests_with_the_rest() -> None:
    before = portfolio(spot_account({"USDT": D(100_000)}))
    for rests, resting, unfilled, notional in ((True, "0.3", "0", "30005"), (False, "0", "0.3", "12002")):
        order = spot_order(Side.BUY, 50_000, FEES, price=60_010_00, levels=LEVELS, rests=rests)
        _, execution = with_order(before, order)
        assert (execution.resting_quantity, execution.unfilled_quantity) == (D(resting), D(unfilled))
        assert execution.notional_quote == D(notional)
    assert with_order(before, spot_order(Side.BUY, 50_000, FEES, price=60_010_00, levels=LEVELS))[1].fee == (
        D("0.2") * D("0.001") + D("0.3") * D("0.0005")
    )


def test_an_order_that_meets_nobody_changes_nothing() -> None:
    before = portfolio(spot_account({"USDT": D(100_000)}))
    told = what_if(before, spot_order(Side.BUY, 50_000, FEES))
    assert told.execution is not None
    assert (told.execution.average_price, told.execution.unfilled_quantity) == (None, D("0.5"))
    assert told.accounts[0].before == told.accounts[0].after


def test_a_fee_in_a_third_asset_is_converted_and_unknown_without_its_rate() -> None:
    in_bnb = FeeTerms(D("0.001"), D("0.001"), "BNB")
    before = portfolio(spot_account({"USDT": D(100_000), "BNB": D(1)}))
    told = what_if(before, spot_order(Side.BUY, 50_000, in_bnb, levels=LEVELS))
    assert told.execution is not None
    assert told.execution.fee_quote is not None
    assert abs(told.execution.fee_quote - D("30.008")) < D("1e-60")
    assert told.accounts[0].equity_change.value is not None

    in_xyz = FeeTerms(D("0.001"), D("0.001"), "XYZ")
    told = what_if(before, spot_order(Side.BUY, 50_000, in_xyz, levels=LEVELS))
    assert told.execution is not None
    assert told.execution.fee is told.execution.fee_quote is None
    assert told.accounts[0].equity_change.unknown == ("XYZ",)


def test_a_futures_order_shows_margin_leverage_and_what_is_left_of_the_limits() -> None:
    before = portfolio(futures_account(D(20_000)), fills=LONG_PERP)
    limits = {
        "futures": {
            ReasonCode.RISK_GROSS_EXPOSURE_EXCEEDS_MAX: D(100_000),
            ReasonCode.RISK_LEVERAGE_EXCEEDS_MAX: D(5),
            ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER: D(60_000),
            ReasonCode.RISK_POSITION_EXCEEDS_MAX: D(80_000),
            ReasonCode.RISK_SELF_TRADE: D(1),
        }
    }
    order = perp_order(Side.BUY, 50_000, FEES, price=60_000_00)
    told = what_if(before, order, limits=limits)
    assert told.execution is not None
    assert (told.execution.fee, told.execution.fee_asset) == (D(15), "USDT")
    (outcome,) = told.accounts
    assert outcome.after.margin is not None
    assert (outcome.after.margin.wallet_balance, outcome.after.margin.initial) == (D(19_985), D(9_000))
    assert outcome.after.margin.maintenance == D(400)
    shares = {one.code: (one.before, one.after, one.share_after_bps) for one in outcome.limits}
    assert shares[ReasonCode.RISK_GROSS_EXPOSURE_EXCEEDS_MAX] == (D(60_000), D(90_000), D(9_000))
    assert shares[ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER] == (D(0), D(30_000), D(5_000))
    assert shares[ReasonCode.RISK_POSITION_EXCEEDS_MAX] == (D(60_000), D(90_000), D(11_250))
    assert shares[ReasonCode.RISK_LEVERAGE_EXCEEDS_MAX][2] == D("9006.76")  # 90,000 / 19,985 of 5, rounded up
    assert ReasonCode.RISK_SELF_TRADE not in shares


def test_a_futures_order_that_turns_the_position_realises_it() -> None:
    before = portfolio(futures_account(D(20_000)), fills=LONG_PERP)
    after, execution = with_order(before, perp_order(Side.SELL, 150_000, price=61_000_00))
    assert (execution.realised_pnl_quote, execution.position_after) == (D(1_000), D("-0.5"))
    assert execution.average_entry_price_after == D(61_000)
    assert after.account("futures", FUTURES).wallet_balance == D(21_000)
    # Wallet 21,000; the short stands 500 better than the mark.
    assert value_account(after, "futures", FUTURES).equity.value == D(21_500)


@pytest.mark.parametrize(
    ("side", "quantity", "isolated"),
    [
        (Side.BUY, 100_000, "12000"),  # 6,000 more at 10x
        (Side.SELL, 25_000, "4500"),
        (Side.SELL, 100_000, "0"),
        (Side.SELL, 150_000, "3000"),
    ],
)
def test_an_isolated_position_takes_its_margin_and_gives_it_back(side: Side, quantity: int, isolated: str) -> None:
    account = futures_account(D(20_000), isolated={"BTCUSDT": D(6_000)})
    after, _ = with_order(portfolio(account, fills=LONG_PERP), perp_order(side, quantity, price=60_000_00))
    assert after.account("futures", FUTURES).isolated_wallets == {"BTCUSDT": D(isolated)}


@pytest.mark.parametrize(
    ("shock", "marks"),
    [
        (Shock(bps=D(-1_000)), {"BTCUSDT": 54_000_00, "ETHUSDT": 2_700_00, "ETHBTC": 50_000, "USDCUSDT": 1_0000}),
        (Shock(symbol="ETHBTC", bps=D(1)), {"BTCUSDT": 60_000_00, "ETHBTC": 50_005}),
        (Shock(symbol="BTCUSDT", absolute_quote=D("-0.01")), {"BTCUSDT": 59_999_99, "ETHUSDT": 3_000_00}),
        (Shock(symbol="BTCUSDT", bps=D(-10_000)), {"BTCUSDT": 1}),
        (Shock(symbol="BTCUSDT", absolute_quote=D(-70_000)), {"BTCUSDT": 1}),
        (Shock(symbol="BTCUSDT", bps=D(-1_000), venue=FUTURES), {"BTCUSDT": 60_000_00}),
    ],
)
def test_a_price_move_moves_the_markets_it_names(shock: Shock, marks: dict[str, int]) -> None:
    after = with_shocks(portfolio(spot_account({})), (shock,))
    assert {symbol: after.marks[VENUE, symbol] for symbol in marks} == marks


def test_a_move_of_all_is_of_markets_against_cash() -> None:
    moved = instruments_moved(portfolio(), Shock(bps=D(-1)))
    assert {symbol for venue, symbol in moved if venue == VENUE} == {"BTCUSDT", "ETHUSDT", "BNBUSDT"}
    assert {symbol for venue, symbol in moved if venue == FUTURES} == {"BTCUSDT", "ETHUSDT"}


@pytest.mark.parametrize("shock", [Shock(symbol="BTCUSDT"), Shock(bps=D(1), absolute_quote=D(1))])
def test_a_move_that_names_no_size_or_two_is_refused(shock: Shock) -> None:
    with pytest.raises(ValueError, match="either in bps or an absolute"):
        what_if(portfolio(), shocks=(shock,))


def test_rates_follow_the_marks_also_those_that_were_given() -> None:
    before = portfolio(spot_account({"BTC": D(1), "USDT": D(1_000)}), rates={"BTC": D(60_600), "EUR": D("1.1")})
    after = with_shocks(before, moves_of({"BTCUSDT": D(-1_000)}))
    assert after.rates.rate("BTC") == D(54_540)
    assert after.rates.rate("EUR") == D("1.1")
    assert value_account(after, "spot", VENUE).equity.value == D(55_540)


@pytest.mark.parametrize(
    ("bps", "is_liquidated"), [("-4000", False), ("-5000", False), ("-9000", True), ("2000", False)]
)
def test_a_fall_says_who_would_be_liquidated(bps: str, is_liquidated: bool) -> None:
    whole = portfolio(futures_account(D(35_000)), spot_account({"BTC": D(1)}), fills=LONG_PERP)
    told = what_if(whole, shocks=(Shock(bps=D(bps)),))
    assert told.liquidated_accounts == (("futures",) if is_liquidated else ())
    futures, spot = told.accounts
    assert futures.equity_change.value == spot.equity_change.value == D(bps) * 6
    assert spot.is_liquidated is False


def test_liquidation_comes_exactly_at_the_price_that_margin_tells() -> None:
    whole = portfolio(futures_account(D(10_000)), fills=LONG_PERP)
    margin = what_if(whole).accounts[0].before.margin
    assert margin is not None
    price = margin.positions[0].liquidation_price
    assert price is not None
    for cents, is_liquidated in ((1, False), (-1, True)):
        target = price.quantize(D("0.01")) + D(cents) / 100
        told = what_if(whole, shocks=(Shock(symbol="BTCUSDT", absolute_quote=target - 60_000),))
        assert bool(told.liquidated_accounts) is is_liquidated


def test_an_order_and_a_fall_together() -> None:
    whole = portfolio(futures_account(D(35_000)), fills=LONG_PERP)
    order, fall = perp_order(Side.BUY, 100_000, price=60_000_00), Shock(bps=D(-4_000))
    assert what_if(whole, order).liquidated_accounts == ()
    assert what_if(whole, shocks=(fall,)).liquidated_accounts == ()
    together = what_if(whole, order, (fall,))
    assert together.liquidated_accounts == ("futures",)
    assert together.accounts[0].equity_change.value == D(-48_000)


@settings(deadline=None)
@given(st.integers(1, 10**6), st.integers(1, 10**7), st.sampled_from(Side), st.integers(1, 10**7))
def test_there_and_back_at_one_price_without_fees_costs_nothing(
    quantity: int, held: int, side: Side, price: int
) -> None:
    fills: Fills = ((PERP_BTC, "", fill(Side.BUY, held, 60_000_00)),)
    before = portfolio(futures_account(D(20_000)), fills=fills)
    after, _ = with_order(before, perp_order(side, quantity, price=price))
    again, _ = with_order(after, perp_order(Side.SELL if side is Side.BUY else Side.BUY, quantity, price=price))
    assert again.position(*PERP_BTC).quantity == held
    assert (
        value_account(again, "futures", FUTURES).equity.value == value_account(before, "futures", FUTURES).equity.value
    )
