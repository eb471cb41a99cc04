"""Metrics against numpy and sums by hand."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from core.backtest.metrics import Drawdown, bought_and_held, drawdown_of, sampled, sharpe_of, trades_of


def curve(seed: int, count: int) -> list[int]:
    source, value, found = random.Random(seed), 10**12, []
    for _ in range(count):
        value = max(1, value + source.randint(-(10**10), 10**10))
        found.append(value)
    return found


@pytest.mark.parametrize(
    ("equities", "expected"),
    [
        ([100, 110, 120], Drawdown(0, 0.0, 0)),
        ([100, 90, 95, 100], Drawdown(10, 1_000.0, 3)),
        ([100, 90, 95], Drawdown(10, 1_000.0, 2)),
        ([100, 50, 100, 120, 90, 119, 121, 60], Drawdown(61, 61 * 10_000 / 121, 3)),
        ([100, 100, 100], Drawdown(0, 0.0, 0)),
        ([1_000, 900, 2_000, 1_800], Drawdown(200, 1_000.0, 2)),
    ],
    ids=str,
)
def test_a_drawdown_by_hand(equities: list[int], expected: Drawdown) -> None:
    assert drawdown_of(equities, range(len(equities))) == expected


@pytest.mark.parametrize("seed", range(5))
def test_a_drawdown_is_that_of_numpy(seed: int) -> None:
    equities = curve(seed, 700)
    values = np.array(equities)
    peaks = np.maximum.accumulate(values)
    found = drawdown_of(equities, range(len(equities)))
    assert found.depth == int((peaks - values).max())
    assert found.depth_bps == pytest.approx(float(((peaks - values) / peaks).max()) * 10_000, rel=1e-12)
    # From a peak to the next bar that is there again, where it wasn't there all the time; the end counts as one.
    there = [*np.flatnonzero(values == peaks), len(values) - 1]
    assert found.longest_ns == max(int(after - before) for before, after in pairwise(there) if after - before > 1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bars_per_year", [365, 525_600])
def test_sharpe_and_sortino_are_those_of_numpy(seed: int, bars_per_year: int) -> None:
    equities = curve(seed, 500)
    values = np.array(equities, dtype=float)
    returns = np.diff(values) / values[:-1]
    found = sharpe_of(equities, bars_per_year)
    assert found.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1) * np.sqrt(bars_per_year), rel=1e-9)
    downside = np.sqrt(np.mean(np.minimum(returns, 0) ** 2))
    assert found.sortino == pytest.approx(returns.mean() / downside * np.sqrt(bars_per_year), rel=1e-9)


@pytest.mark.parametrize("equities", [[100], [100, 100, 100], [100, 0, 50], [100, -5]], ids=str)
def test_what_has_no_ratio_has_none(equities: list[int]) -> None:
    assert sharpe_of(equities, 365).sharpe is None


def test_gains_alone_have_no_sortino() -> None:
    found = sharpe_of([100, 110, 130], 365)
    assert found.sharpe is not None
    assert found.sortino is None


def test_trades_by_hand() -> None:
    found = trades_of([30, -10, 0, 20, -15])
    assert (found.count, found.won, found.gross_profit, found.gross_loss) == (5, 2, 50, 25)
    assert (found.win_rate, found.profit_factor) == (0.4, 2.0)
    assert (trades_of([]).win_rate, trades_of([5]).profit_factor) == (None, None)


def test_buying_and_holding_by_hand() -> None:
    # 1,000 at 101 (100 and 1 %) with 1 % of fee: 9 cost 909 and 10 (9.09 rounded up); 81 are left; 9 at 150 are 1,350.
    assert bought_and_held(1_000, 100, 150, slippage_bps=100, fee_bps=100, tick=1, lot=1) == 81 + 1_350


@pytest.mark.parametrize("count", [1, 2, 199, 200, 201, 5_000])
def test_a_curve_keeps_its_ends_and_its_limit(count: int) -> None:
    found = sampled(range(count), 200)
    assert len(found) == min(count, 200)
    assert (found[0], found[-1]) == (0, count - 1)
    assert found == sorted(set(found))
