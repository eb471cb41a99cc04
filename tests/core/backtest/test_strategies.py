"""The strategies against plain computations over all closes, and what their parameters may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from core.backtest.bars import BarSeries
from core.backtest.strategies import (
    STRATEGY_NAMES,
    Holding,
    StrategyError,
    make_strategy,
    parse_parameters,
    shortest_run_bars,
)
from core.types.orders import Side
from tests.core.backtest.support import BTC, walk

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def signals(name: str, parameters: dict[str, int], bars: BarSeries) -> list[tuple[int, str]]:
    """(bar, side) of every wish of a strategy whose wishes always come true."""
    strategy, base, found = make_strategy(name, parse_parameters(name, parameters)), 0, []
    for number, bar in enumerate(bars):
        for wish in strategy.on_bar(bar, Holding(base, is_waiting=False)):
            found.append((number, wish.side.value))
            base = 1 if wish.side is Side.BUY else 0
    return found


def crossings(buys: Bools, sells: Bools) -> list[tuple[int, str]]:
    """Alternately the next True of buys and of sells."""
    found: list[tuple[int, str]] = []
    for number in range(len(buys)):
        is_held = bool(found) and found[-1][1] == "BUY"
        if not is_held and buys[number]:
            found.append((number, "BUY"))
        elif is_held and sells[number]:
            found.append((number, "SELL"))
    return found


def rolling(values: Floats, period: int, function: Callable[..., Floats]) -> Floats:
    """NaN while there are too few."""
    whole: Floats = function(np.lib.stride_tricks.sliding_window_view(values, period), axis=1)
    return np.concatenate([np.full(period - 1, np.nan), whole])


def before(values: Floats) -> Floats:
    return np.concatenate([[np.nan], values[:-1]])


@pytest.fixture(scope="module")
def bars() -> BarSeries:
    return BarSeries(BTC, "1m", "test", walk(3_000, 7))


@pytest.fixture(scope="module")
def columns(bars: BarSeries) -> dict[str, Floats]:
    table = np.array(bars.rows(), dtype=float)
    return {"high": table[:, 2], "low": table[:, 3], "close": table[:, 4]}


def test_sma_cross_is_that_of_numpy(bars: BarSeries, columns: dict[str, Floats]) -> None:
    over = rolling(columns["close"], 10, np.mean) - rolling(columns["close"], 50, np.mean)
    expected = crossings((over > 0) & (before(over) <= 0), (over <= 0) & (before(over) > 0))
    assert len(expected) > 40
    assert signals("sma_cross", {"fast": 10, "slow": 50}, bars) == expected


def test_breakout_is_that_of_numpy(bars: BarSeries, columns: dict[str, Floats]) -> None:
    upper = before(rolling(columns["high"], 20, np.max))
    lower = before(rolling(columns["low"], 10, np.min))
    expected = crossings(columns["close"] > upper, columns["close"] < lower)
    assert len(expected) > 40
    assert signals("breakout", {"entry_bars": 20, "exit_bars": 10}, bars) == expected


def test_rsi_reversion_is_that_of_wilders_averages(bars: BarSeries, columns: dict[str, Floats]) -> None:
    changes = np.diff(columns["close"])

    def wilder(values: Floats) -> Floats:
        found = np.full(len(values) + 1, np.nan)
        found[14] = values[:14].mean()
        for number in range(15, len(found)):
            found[number] = (found[number - 1] * 13 + values[number - 1]) / 14
        return found

    gain, loss = wilder(np.maximum(changes, 0)), wilder(np.maximum(-changes, 0))
    rsi = 100 * gain / (gain + loss)
    expected = crossings((before(rsi) >= 40) & (rsi < 40), (before(rsi) <= 60) & (rsi > 60))
    assert len(expected) > 20
    assert signals("rsi_reversion", {"period": 14, "buy_below": 40, "sell_above": 60}, bars) == expected


def test_dip_buying_bids_below_each_close_and_sells_after_its_time(bars: BarSeries) -> None:
    parameters = parse_parameters("dip_buying", {"dip_bps": 100, "hold_bars": 2})
    strategy = make_strategy("dip_buying", parameters)
    rows = list(bars)[:4]
    (wish,) = strategy.on_bar(rows[0], Holding(0, is_waiting=False))
    assert wish.limit_price == rows[0].close * 99 // 100
    assert strategy.on_bar(rows[1], Holding(0, is_waiting=True)) == ()
    assert strategy.on_bar(rows[2], Holding(5, is_waiting=False)) == ()
    assert [wish.side for wish in strategy.on_bar(rows[3], Holding(5, is_waiting=False))] == [Side.SELL]


def test_buy_and_hold_asks_once(bars: BarSeries) -> None:
    assert signals("buy_and_hold", {}, bars) == [(0, "BUY")]


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("momentum", {}, "isn't a strategy; known are sma_cross"),
        ("sma_cross", {"fast": 50, "slow": 10}, "fast must be below slow"),
        ("sma_cross", {"fast": 10, "slow": 10}, "fast must be below slow"),
        ("sma_cross", {"fast": 0}, "fast: Input should be greater than or equal to 1"),
        ("sma_cross", {"slow": 1_001}, "slow: Input should be less than or equal to 1000"),
        ("sma_cross", {"fast": 2.5}, "fast: Input should be a valid integer"),
        ("sma_cross", {"fast": "10"}, "fast: Input should be a valid integer"),
        ("sma_cross", {"speed": 3}, "speed: Extra inputs are not permitted; it takes share_bps"),
        ("rsi_reversion", {"buy_below": 70, "sell_above": 70}, "buy_below must be below sell_above"),
        ("buy_and_hold", {"share_bps": 10_001}, "share_bps"),
        ("breakout", {"stop_loss_bps": 9}, "stop_loss_bps"),
        ("dip_buying", {"dip_bps": 0}, "dip_bps"),
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused(name: str, given: dict[str, Any], says: str) -> None:
    with pytest.raises(StrategyError, match=says):
        parse_parameters(name, given)


@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_every_strategy_runs_on_its_defaults(name: str) -> None:
    assert 2 <= shortest_run_bars(parse_parameters(name, {})) <= 52
