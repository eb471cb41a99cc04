"""What a run of equities and trades amounts to. Amounts are ints at notional scale, exact; ratios are floats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from core.backtest.fills import BPS, affordable, fee_of, worse
from core.market.statistics import mean, sample_deviation
from core.types.orders import Side


class Drawdown(msgspec.Struct, frozen=True):
    """The deepest fall below an earlier peak: how much, and its share of that peak; and the longest time from a peak
    until equity was above it again, or until the end."""

    depth: int
    depth_bps: float
    longest_ns: int


class TradeStatistics(msgspec.Struct, frozen=True):
    """Of closed positions, net of fees. One that is neither won nor lost counts to neither."""

    count: int
    won: int
    gross_profit: int
    gross_loss: int

    @property
    def win_rate(self) -> float | None:
        return self.won / self.count if self.count else None

    @property
    def profit_factor(self) -> float | None:
        """Profits over losses; None without a loss."""
        return self.gross_profit / self.gross_loss if self.gross_loss else None


class Sharpe(msgspec.Struct, frozen=True):
    """Of the returns from bar to bar, annualised by the root of the bars a year (of 365 days), without a risk-free
    rate. Sortino's has the root mean square of the losses below. None where nothing varies."""

    sharpe: float | None
    sortino: float | None


def drawdown_of(equities: Sequence[int], times_ns: Sequence[int]) -> Drawdown:
    """equities[i] was seen at times_ns[i]."""
    peak, peak_ns = equities[0], times_ns[0]
    depth, depth_bps, longest_ns = 0, 0.0, 0
    is_below = False
    for equity, at_ns in zip(equities, times_ns, strict=True):
        if equity >= peak:
            if is_below:
                longest_ns = max(longest_ns, at_ns - peak_ns)
            peak, peak_ns, is_below = equity, at_ns, False
            continue
        is_below = True
        depth = max(depth, peak - equity)
        if peak > 0:
            depth_bps = max(depth_bps, (peak - equity) * BPS / peak)
    if is_below:
        longest_ns = max(longest_ns, times_ns[-1] - peak_ns)
    return Drawdown(depth, depth_bps, longest_ns)


def sharpe_of(equities: Sequence[int], bars_per_year: float) -> Sharpe:
    """Simple returns; a run that has lost everything has none."""
    if any(equity <= 0 for equity in equities):
        return Sharpe(None, None)
    returns = [now / before - 1 for before, now in pairwise(equities)]
    average, deviation = mean(returns), sample_deviation(returns)
    if average is None or not deviation:
        return Sharpe(None, None)
    losses = math.sqrt(math.fsum(value * value for value in returns if value < 0) / len(returns))
    root = math.sqrt(bars_per_year)
    return Sharpe(average / deviation * root, average / losses * root if losses else None)


def trades_of(net_results: Sequence[int]) -> TradeStatistics:
    profits = [result for result in net_results if result > 0]
    losses = [-result for result in net_results if result < 0]
    return TradeStatistics(len(net_results), len(profits), sum(profits), sum(losses))


def bought_and_held(
    capital: int, first_open: int, last_close: int, *, slippage_bps: int, fee_bps: int, tick: int, lot: int
) -> int:
    """What the capital would be worth had all of it bought at the first open that a strategy could have acted at, at
    the same cost, and been kept."""
    price = worse(first_open, Side.BUY, slippage_bps, tick)
    quantity = affordable(capital, price, fee_bps, lot)
    return capital - price * quantity - fee_of(price * quantity, fee_bps) + quantity * last_close


def sampled(values: Sequence[int], limit: int) -> list[int]:
    """At most limit of the indices of values, evenly spread, the first and the last among them."""
    count = len(values)
    if count <= limit:
        return list(range(count))
    return [index * (count - 1) // (limit - 1) for index in range(limit)]
