"""Momentum and trend: RSI, stochastic, ADX. Conventions of TA-Lib; Wilder's smoothing (New Concepts in Technical
Trading Systems, 1978)."""

from __future__ import annotations

from typing import NamedTuple

from core.market.indicators._base import MAX_MAGNITUDE, Indicator, RollingExtreme, RollingMean, whole


def true_range(high: float, low: float, previous_close: float) -> float:
    """How far the price went since the close before."""
    return max(high - low, abs(previous_close - high), abs(previous_close - low))


class RelativeStrengthIndex(Indicator[float]):
    """From 0 to 100. 0 when no close has moved, as TA-Lib has it."""

    name = "rsi"
    inputs = ("close",)

    def __init__(self, period: int = 14) -> None:
        self._period = whole(self.name, "period", period, 2)
        super().__init__()

    def _clear(self) -> None:
        self._close = 0.0
        self._count = 0
        self._gain = self._loss = 0.0

    def update(self, close: float) -> float | None:
        if not -MAX_MAGNITUDE <= close <= MAX_MAGNITUDE:
            raise self._refuse(close=close)
        change = close - self._close
        self._close = close
        count, period = self._count, self._period
        self._count = count + 1
        if count == 0:
            return None
        gain, loss = (change, 0.0) if change > 0.0 else (0.0, -change)
        if count <= period:
            self._gain += gain
            self._loss += loss
            if count < period:
                return None
            self._gain /= period
            self._loss /= period
        else:
            self._gain = (self._gain * (period - 1) + gain) / period
            self._loss = (self._loss * (period - 1) + loss) / period
        both = self._gain + self._loss
        self.value = 100.0 * (self._gain / both) if both else 0.0
        return self.value


class StochasticValue(NamedTuple):
    k: float
    d: float


class Stochastic(Indicator[StochasticValue]):
    """Where the close stands between the lowest low and the highest high of `period` bars, from 0 to 100.

    k is that smoothed over `smoothing` bars, d is k smoothed over `signal` bars (simple averages). The slow stochastic
    is smoothing 3, the fast one smoothing 1. Bars without a range count as 0, as TA-Lib has it.
    """

    name = "stochastic"
    inputs = ("high", "low", "close")

    def __init__(self, period: int = 14, smoothing: int = 3, signal: int = 3) -> None:
        whole(self.name, "period", period, 1)
        self._highest = RollingExtreme(period, 1)
        self._lowest = RollingExtreme(period, -1)
        self._k = RollingMean(whole(self.name, "smoothing", smoothing, 1))
        self._d = RollingMean(whole(self.name, "signal", signal, 1))
        super().__init__()

    def _clear(self) -> None:
        for part in (self._highest, self._lowest, self._k, self._d):
            part.clear()

    def update(self, high: float, low: float, close: float) -> StochasticValue | None:
        if not -MAX_MAGNITUDE <= low <= high <= MAX_MAGNITUDE or not low <= close <= high:
            raise self._refuse_bar(high, low, close)
        highest, lowest = self._highest.update(high), self._lowest.update(low)
        if highest is None or lowest is None:
            return None
        width = (highest - lowest) / 100.0
        k = self._k.update((close - lowest) / width if width else 0.0)
        if k is None:
            return None
        d = self._d.update(k)
        if d is not None:
            self.value = StochasticValue(k, d)
        return self.value


class DirectionalValue(NamedTuple):
    adx: float
    plus_di: float
    minus_di: float


class AverageDirectionalIndex(Indicator[DirectionalValue]):
    """How strongly the price trends, from 0 to 100, and the directional indicators it is made of.

    The first `period` - 1 movements are summed, those after are smoothed; the first ADX is the mean of `period` DX.
    Where the range is zero the directional indicators are 0 and the ADX stays as it was.
    """

    name = "adx"
    inputs = ("high", "low", "close")

    def __init__(self, period: int = 14) -> None:
        self._period = whole(self.name, "period", period, 2)
        super().__init__()

    def _clear(self) -> None:
        self._count = 0
        self._high = self._low = self._close = 0.0
        self._plus = self._minus = self._range = 0.0
        self._adx = 0.0

    def update(self, high: float, low: float, close: float) -> DirectionalValue | None:
        if not -MAX_MAGNITUDE <= low <= high <= MAX_MAGNITUDE or not low <= close <= high:
            raise self._refuse_bar(high, low, close)
        rise, fall = high - self._high, self._low - low
        span = true_range(high, low, self._close)
        self._high, self._low, self._close = high, low, close
        count, period = self._count, self._period
        self._count = count + 1
        if count == 0:
            return None
        plus = rise if rise > 0.0 and rise > fall else 0.0
        minus = fall if fall > 0.0 and fall > rise else 0.0
        if count < period:
            self._plus += plus
            self._minus += minus
            self._range += span
            return None
        self._plus += plus - self._plus / period
        self._minus += minus - self._minus / period
        self._range += span - self._range / period
        return self._directional(count - period)

    def _directional(self, dx_before: int) -> DirectionalValue | None:
        period = self._period
        plus_di = minus_di = 0.0
        dx: float | None = None
        if self._range:
            plus_di, minus_di = 100.0 * (self._plus / self._range), 100.0 * (self._minus / self._range)
            if plus_di + minus_di:
                dx = 100.0 * (abs(plus_di - minus_di) / (plus_di + minus_di))
        if dx_before < period:
            self._adx += dx or 0.0
            if dx_before < period - 1:
                return None
            self._adx /= period
        elif dx is not None:
            self._adx = (self._adx * (period - 1) + dx) / period
        self.value = DirectionalValue(self._adx, plus_di, minus_di)
        return self.value
