"""How far the price moves: ATR, Donchian channel, realised volatility."""

from __future__ import annotations

from math import log, sqrt
from typing import NamedTuple

from core.market.indicators._base import MAX_MAGNITUDE, Indicator, RollingDeviation, RollingExtreme, whole
from core.market.indicators.momentum import true_range


class AverageTrueRange(Indicator[float]):
    """Wilder's: the mean of the first `period` true ranges, smoothed from there. The first bar has no true range."""

    name = "atr"
    inputs = ("high", "low", "close")

    def __init__(self, period: int = 14) -> None:
        self._period = whole(self.name, "period", period, 1)
        super().__init__()

    def _clear(self) -> None:
        self._count = 0
        self._close = 0.0
        self._total = 0.0

    def update(self, high: float, low: float, close: float) -> float | None:
        if not -MAX_MAGNITUDE <= low <= high <= MAX_MAGNITUDE or not low <= close <= high:
            raise self._refuse_bar(high, low, close)
        span = true_range(high, low, self._close)
        self._close = close
        count, period = self._count, self._period
        self._count = count + 1
        if count == 0:
            return None
        if self.value is not None:
            self.value = (self.value * (period - 1) + span) / period
            return self.value
        self._total += span
        if count == period:
            self.value = self._total / period
        return self.value


class DonchianValue(NamedTuple):
    upper: float
    middle: float
    lower: float


class DonchianChannel(Indicator[DonchianValue]):
    """The highest high and the lowest low of the last `period` bars, this one included, and the middle of the two."""

    name = "donchian"
    inputs = ("high", "low")

    def __init__(self, period: int = 20) -> None:
        whole(self.name, "period", period, 1)
        self._highest = RollingExtreme(period, 1)
        self._lowest = RollingExtreme(period, -1)
        super().__init__()

    def _clear(self) -> None:
        self._highest.clear()
        self._lowest.clear()

    def update(self, high: float, low: float) -> DonchianValue | None:
        if not -MAX_MAGNITUDE <= low <= high <= MAX_MAGNITUDE:
            raise self._refuse_bar(high, low, low)
        upper, lower = self._highest.update(high), self._lowest.update(low)
        if upper is not None and lower is not None:
            self.value = DonchianValue(upper, (upper + lower) / 2, lower)
        return self.value


class RealisedVolatility(Indicator[float]):
    """The sample standard deviation (n - 1) of the last `period` logarithmic returns, times the square root of
    bars_per_year: a fraction a year, 0.5 for 50 %.

    bars_per_year is `Interval.bars_per_year` for a market that never closes (a year of 365 days: 525,600 for 1m, 365
    for 1d); 1 gives the deviation per bar.
    """

    name = "realised_volatility"
    inputs = ("close",)

    def __init__(self, bars_per_year: float, period: int = 30) -> None:
        if isinstance(bars_per_year, bool) or not 0 < bars_per_year <= 1e12:
            raise ValueError(f"realised_volatility needs bars_per_year above 0 and up to 1e12, not {bars_per_year!r}")
        self._window = RollingDeviation(whole(self.name, "period", period, 2))
        self._factor = sqrt(bars_per_year * period / (period - 1))
        super().__init__()

    def _clear(self) -> None:
        self._close: float | None = None
        self._window.clear()

    def update(self, close: float) -> float | None:
        if not 0 < close <= MAX_MAGNITUDE:
            raise ValueError(f"{self._refuse(close=close)} (its returns need prices above 0)")
        before, self._close = self._close, close
        if before is None:
            return None
        variance = self._window.update(log(close / before))
        if variance is not None:
            self.value = sqrt(variance) * self._factor
        return self.value
