"""A whole backtest: no look-ahead, the same again, the kernel's own checks, what the report owns up to."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.authority.mandate import mandate_bytes
from core.backtest.bars import BARS_LIMIT, BarSeries, BarsError, Row
from core.backtest.report import CURVE_POINTS_LIMIT, TRADES_SHOWN_LIMIT, Report, report_digest
from core.backtest.running import StoppedError, TooFewBarsError, run_backtest
from core.backtest.specification import Specification
from core.backtest.strategies import STRATEGY_NAMES, Wish, make_strategy, parse_parameters
from core.backtest.trading import TooManyOrdersError
from core.kernel.decide import decide_started
from core.kernel.decide_authority import decide_mandate
from core.risk.rules import render_default_rules
from core.types.authority import MandateAuthority
from core.types.clock import format_utc_us
from core.types.codes import ReasonCode, Refusal
from core.types.orders import Side
from tests.core.backtest.support import BTC, FREE, MINUTE_NS, START_NS, USUAL, desk_of, flat, played, series, walk
from tests.core.backtest.support import specification as spec

EXITS = {"share_bps": 1_000, "stop_loss_bps": 30, "take_profit_bps": 60}
QUICK: dict[str, dict[str, int]] = {
    "sma_cross": {"fast": 2, "slow": 5},
    "rsi_reversion": {"period": 4, "buy_below": 40, "sell_above": 60},
    "breakout": {"entry_bars": 5, "exit_bars": 3},
    "dip_buying": {"dip_bps": 3, "hold_bars": 4},
    "buy_and_hold": {},
}


def bars(rows: list[Row]) -> BarSeries:
    return BarSeries(BTC, "1m", "test", rows)


def decisions(rows: list[Row], name: str, until_bar: int) -> list[Any]:
    """What was wished for at the close of each bar before until_bar, and the equity that was seen there."""
    desk = desk_of(bars(rows), USUAL)
    strategy = make_strategy(name, parse_parameters(name, {**EXITS, **QUICK[name]}))
    found: list[Any] = []
    for number, bar in enumerate(bars(rows)):
        if number == until_bar:
            break
        desk.play(bar)
        desk.close(bar)
        wishes = strategy.on_bar(bar, desk.holding())
        found.append((wishes, desk.equity(bar.close), desk.kernel.sequence))
        for wish in wishes:
            desk.ask(wish, bar)
    return found


@pytest.mark.parametrize("name", STRATEGY_NAMES)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.integers(10, 110), other=st.integers(0, 10**6))
def test_the_future_never_changes_an_earlier_decision(name: str, seed: int, cut: int, other: int) -> None:
    rows = walk(120, seed)
    changed = rows[:cut] + walk(120 - cut, other, start=rows[cut - 1][4], first=cut)
    assert decisions(rows, name, cut) == decisions(changed, name, cut)


def test_a_decision_acts_after_it_was_made() -> None:
    desk = played(bars(walk(300, 3)), {number: Wish(Side.BUY, 100) for number in range(0, 290, 10)}, USUAL)
    asked = {order.intent.client_order_id: order.created_ns for order in desk.kernel.orders.values()}
    assert len(desk.fills) == 29
    assert all(fill.ts_ns > asked[fill.client_order_id] for fill in desk.fills)


@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_the_same_inputs_give_the_same_report(name: str) -> None:
    def run() -> Report:
        return run_backtest(bars(walk(800, 5)), spec(name, **{**EXITS, **QUICK[name]}))

    first, again = run(), run()
    assert first == again
    assert report_digest(first) == report_digest(again)
    assert msgspec.json.decode(msgspec.json.encode(first), type=Report) == first


@pytest.mark.parametrize(
    "other",
    [
        {"specification": spec(fast=3, slow=5)},
        {"specification": spec("sma_cross", msgspec.structs.replace(USUAL, slippage_bps=6), fast=2, slow=5)},
        {"specification": spec("sma_cross", msgspec.structs.replace(USUAL, latency_ms=1), fast=2, slow=5)},
        {"series": bars(walk(800, 6))},
        {"series": BarSeries(BTC, "1m", "elsewhere", walk(800, 5))},
        {"rules_document": render_default_rules().replace("max_open_orders = 200", "max_open_orders = 199")},
    ],
    ids=["parameters", "slippage", "latency", "bars", "source", "rules"],
)
def test_every_input_is_in_the_digest(other: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"series": bars(walk(800, 5)), "specification": spec(fast=2, slow=5)}

    def digest(arguments: dict[str, Any]) -> str:
        series = arguments.pop("series")
        return report_digest(run_backtest(series, arguments.pop("specification"), **arguments))

    assert digest(dict(usual)) != digest({**usual, **other})


def test_the_benchmark_is_what_the_strategy_of_that_name_makes() -> None:
    report = run_backtest(bars(walk(2_000, 9)), spec("buy_and_hold"))
    assert report.metrics.net_return_percent == report.metrics.benchmark_return_percent
    assert (report.metrics.fills, report.metrics.trades) == ("1", "0")
    assert {caution.code for caution in report.warnings} == {"IN_SAMPLE_ONLY", "FEW_TRADES", "OPEN_AT_END"}


def test_the_report_owns_up_to_its_terms() -> None:
    report = run_backtest(bars(walk(3_000, 2)), spec(fast=2, slow=5, share_bps=500))
    assert report.mode == "BACKTEST"
    assert report.as_of_ns == str(START_NS + 3_000 * MINUTE_NS)
    assert report.parameters["fast"] == "2"
    assert report.assumptions.fill_model == "bars/1"
    assert (report.assumptions.slippage_bps, report.assumptions.taker_fee_bps) == ("5", "10")
    assert report.data.digest == bars(walk(3_000, 2)).digest()
    assert len(report.curve) == CURVE_POINTS_LIMIT
    assert report.curve[0].equity_quote == report.metrics.capital_quote == "10000"
    assert report.curve[-1].equity_quote == report.metrics.final_equity_quote
    assert len(report.trades) == TRADES_SHOWN_LIMIT
    assert report.trades_truncated
    assert {caution.code for caution in report.warnings} == {"IN_SAMPLE_ONLY", "OPEN_AT_END"}
    assert "NaN" not in json.dumps(msgspec.to_builtins(report))


def test_money_adds_up() -> None:
    desk = played(
        bars(walk(400, 4)), {n: Wish(Side.BUY, 500) if n % 20 else Wish(Side.SELL) for n in range(10, 390, 10)}, USUAL
    )
    position = desk.position()
    capital = 10_000 * 10**BTC.notional_scale
    assert desk.quote == capital + position.realised_pnl - position.cost - desk.fees
    assert position.fees == desk.fees == sum(int(fill.fee_quote) for fill in desk.fills)


def test_gaps_in_the_data_are_told() -> None:
    report = run_backtest(series(flat(100, 60), skip=(20, 21, 40)), spec("buy_and_hold"))
    assert (report.data.bars, report.data.gaps, report.data.missing_bars) == ("57", "2", "3")
    told = next(caution for caution in report.warnings if caution.code == "DATA_GAPS")
    assert format_utc_us(START_NS + 20 * MINUTE_NS) in told.message


def test_an_order_is_asked_for_under_a_mandate_of_the_strategy() -> None:
    desk = played(bars(walk(3, 1)), {0: Wish(Side.BUY, 100)}, USUAL)
    (order,) = desk.kernel.orders.values()
    assert order.authority == MandateAuthority("mandate-1", "scripted")
    state = desk.kernel.mandates["mandate-1"]
    assert (state.mandate.strategy_id, len(state.signatures)) == ("scripted", 1)
    assert Decimal(state.notional_used_quote) == Decimal(order.notional_quote)
    assert (state.mandate.engine_id, state.mandate.environment) == ("backtest", "backtest")


def test_a_mandate_of_a_backtest_is_refused_by_any_other_engine() -> None:
    desk = played(bars(walk(3, 1)), {0: Wish(Side.BUY, 100)}, USUAL)
    state = desk.kernel.mandates["mandate-1"]
    signatures = [(record.key_id, bytes.fromhex(record.signature_hex)) for record in state.signatures]
    arguments = mandate_bytes(state.mandate), signatures, state.installed_ns
    another = desk_of(bars(walk(3, 1)))
    assert not isinstance(decide_mandate(another.kernel, *arguments), Refusal), "as a backtest it is a mandate"
    another.kernel.apply(
        decide_started(
            engine_id="engine-1", epoch=2, environment="paper", mode="PAPER", software_version="1", now_ns=START_NS
        )
    )
    refused = decide_mandate(another.kernel, *arguments)
    assert isinstance(refused, Refusal)
    assert refused.code is ReasonCode.AUTHORITY_WRONG_ENGINE


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (
            ('max_notional_per_order_quote = "1000000"', 'max_notional_per_order_quote = "99"'),
            ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER,
        ),
        (
            ('max_position_notional_quote = "2000000"', 'max_position_notional_quote = "99"'),
            ReasonCode.RISK_POSITION_EXCEEDS_MAX,
        ),
        (("max_depth_share_bps = 5000", "max_depth_share_bps = 9"), ReasonCode.RISK_DEPTH_SHARE_EXCEEDED),
    ],
    ids=["order", "position", "depth"],
)
def test_what_risk_refuses_is_counted_by_its_code(rule: tuple[str, str], code: ReasonCode) -> None:
    rules = render_default_rules()
    assert rule[0] in rules
    desk = played(series(flat(100, 3)), {0: Wish(Side.BUY, 100)}, FREE, rules=rules.replace(*rule))
    assert (dict(desk.refusals), desk.fills) == ({code: 1}, [])
    just_inside = rule[1].replace('"99"', '"100"').replace("= 9", "= 10")
    assert (
        len(played(series(flat(100, 3)), {0: Wish(Side.BUY, 100)}, rules=rules.replace(rule[0], just_inside)).fills)
        == 1
    )


def test_an_order_into_a_bar_without_trades_is_refused() -> None:
    candles = [(100, 100, 100, 100, 0), *flat(100, 2)]
    desk = played(series(candles), {0: Wish(Side.BUY, 100)})
    assert dict(desk.refusals) == {ReasonCode.MARKET_DEPTH_INSUFFICIENT: 1}


def test_a_loss_beyond_the_limit_leaves_only_what_reduces() -> None:
    candles = [*flat(100, 2), (100, 100, 9, 9), *flat(9, 3)]
    wishes = {0: Wish(Side.BUY, 9_990), 2: Wish(Side.BUY), 3: Wish(Side.SELL)}
    desk = played(series(candles), wishes)
    assert dict(desk.refusals) == {ReasonCode.RISK_KILL_SWITCH_ACTIVE: 1}
    assert desk.base == 0, "selling was taken"
    assert desk.stopped_by_risk is not None
    assert desk.stopped_by_risk[0] == START_NS + 3 * MINUTE_NS


def test_a_mandate_is_renewed_before_it_ends() -> None:
    rows = [(1_699_920_000 * 10**9 + day * 86_400 * 10**9, 100, 101, 98, 100, 10_000) for day in range(200)]
    daily = BarSeries(series(flat(100, 1)).instrument, "1d", "test", rows)
    report = run_backtest(daily, spec("dip_buying", dip_bps=50, hold_bars=3, share_bps=1_000))
    assert int(report.metrics.trades) > 30
    assert report.metrics.orders_refused == "0"


def test_progress_is_told_and_can_end_the_run() -> None:
    told: list[tuple[int, int]] = []

    def listen(done: int, whole: int) -> bool:
        told.append((done, whole))
        return True

    run_backtest(bars(walk(4_500, 1)), spec(), on_progress=listen)
    assert told == [(0, 4_500), (2_000, 4_500), (4_000, 4_500), (4_500, 4_500)]
    with pytest.raises(StoppedError):
        run_backtest(bars(walk(4_500, 1)), spec(), on_progress=lambda done, _: done < 2_000)


def test_too_few_bars_and_too_many_orders_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooFewBarsError, match="needs 52 bars before it can act, there are 51"):
        run_backtest(bars(walk(51, 1)), spec())
    run_backtest(bars(walk(52, 1)), spec())
    monkeypatch.setattr("core.backtest.trading.ORDERS_LIMIT", 3)
    with pytest.raises(TooManyOrdersError):
        run_backtest(bars(walk(500, 1)), spec(fast=1, slow=2))


@pytest.mark.parametrize("capital", ["9", "1000000001"])
def test_a_capital_out_of_range_is_refused(capital: str) -> None:
    with pytest.raises(ValueError, match="capital_quote must be from 10 to 1000000000"):
        run_backtest(bars(walk(60, 1)), Specification("sma_cross", {}, capital, USUAL))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([(START_NS + 1, 5, 5, 5, 5, 1)], "doesn't follow"),
        ([(START_NS, 5, 5, 5, 5, 1), (START_NS, 5, 5, 5, 5, 1)], "doesn't follow"),
        ([(START_NS, 5, 4, 4, 4, 1)], "prices or a volume"),
        ([(START_NS, 5, 6, 0, 5, 1)], "prices or a volume"),
        ([(START_NS, 5, 6, 5, 5, -1)], "prices or a volume"),
        ([(START_NS, 5, 2**63, 5, 5, 1)], "beyond 63 bits"),
    ],
    ids=["alignment", "order", "high", "zero", "volume", "width"],
)
def test_bars_that_cannot_be_are_refused(rows: list[Row], says: str) -> None:
    with pytest.raises(BarsError, match=says):
        BarSeries(BTC, "1m", "test", rows)


def test_a_series_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BARS_LIMIT >= 366 * 1_440
    monkeypatch.setattr("core.backtest.bars.BARS_LIMIT", 10)
    assert len(series(flat(5, 10))) == 10
    with pytest.raises(BarsError, match="more than 10 bars"):
        series(flat(5, 11))
