"""Moving averages, and what is made of them: SMA, EMA, MACD, Bollinger bands. Conventions of TA-Lib."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

from core.market.indicators._base import MAX_MAGNITUDE, Indicator, RollingDeviation, RollingMean, whole


class SimpleMovingAverage(Indicator[float]):
    name = "sma"
    inputs = ("close",)

    def __init__(self, period: int = 30) -> None:
        self._mean = RollingMean(whole(self.name, "period", period, 1))
        super().__init__()

    def _clear(self) -> None:
        self._mean.clear()

    def update(self, close: float) -> float | None:
        if not -MAX_MAGNITUDE <= close <= MAX_MAGNITUDE:
            raise self._refuse(close=close)
        self.value = self._mean.update(close)
        return self.value


class _Ema:
    """The exponential average that begins with the simple average of its first `period` values."""

    __slots__ = ("_count", "_period", "_sum", "_weight", "value")

    def __init__(self, period: int) -> None:
        self._period = period
        self._weight = 2.0 / (period + 1)
        self.clear()

    def clear(self) -> None:
        self.value: float | None = None
        self._count = 0
        self._sum = 0.0

    def update(self, value: float) -> float | None:
        held = self.value
        if held is not None:
            self.value = (value - held) * self._weight + held
            return self.value
        self._count += 1
        self._sum += value
        if self._count == self._period:
            self.value = self._sum / self._period
        return self.value


class ExponentialMovingAverage(Indicator[float]):
    """Weight 2 / (period + 1); begins with the simple average of the first `period` closes."""

    name = "ema"
    inputs = ("close",)

    def __init__(self, period: int = 30) -> None:
        self._ema = _Ema(whole(self.name, "period", period, 1))
        super().__init__()

    def _clear(self) -> None:
        self._ema.clear()

    def update(self, close: float) -> float | None:
        if not -MAX_MAGNITUDE <= close <= MAX_MAGNITUDE:
            raise self._refuse(close=close)
        self.value = self._ema.update(close)
        return self.value


class MacdValue(NamedTuple):
    macd: float
    signal: float
    histogram: float


class Macd(Indicator[MacdValue]):
    """Moving average convergence and divergence: fast EMA less slow EMA, and the EMA of that as signal.

    Both averages begin at the same bar: the fast one with the average of the `fast` closes up to it.
    """

    name = "macd"
    inputs = ("close",)

    def __init__(self, fast: int = 12, slow: int = 26, signal: int = 9) -> None:
        whole(self.name, "fast", fast, 2)
        if whole(self.name, "slow", slow, 2) <= fast:
            raise ValueError(f"macd needs slow above fast, not slow={slow} and fast={fast}")
        self._skip = slow - fast
        self._fast, self._slow = _Ema(fast), _Ema(slow)
        self._signal = _Ema(whole(self.name, "signal", signal, 1))
        super().__init__()

    def _clear(self) -> None:
        self._count = 0
        self._fast.clear()
        self._slow.clear()
        self._signal.clear()

    def update(self, close: float) -> MacdValue | None:
        if not -MAX_MAGNITUDE <= close <= MAX_MAGNITUDE:
            raise self._refuse(close=close)
        self._count += 1
        slow = self._slow.update(close)
        fast = self._fast.update(close) if self._count > self._skip else None
        if slow is None or fast is None:
            return None
        macd = fast - slow
        signal = self._signal.update(macd)
        if signal is not None:
            self.value = MacdValue(macd, signal, macd - signal)
        return self.value


class BollingerValue(NamedTuple):
    upper: float
    middle: float
    lower: float


class BollingerBands(Indicator[BollingerValue]):
    """The simple average, and `deviations` population standard deviations above and below it."""

    name = "bollinger"
    inputs = ("close",)

    def __init__(self, period: int = 20, deviations: float = 2.0) -> None:
        if not 0 < deviations <= 100:
            raise ValueError(f"bollinger needs deviations above 0 and up to 100, not {deviations!r}")
        self._deviations = float(deviations)
        self._window = RollingDeviation(whole(self.name, "period", period, 2))
        super().__init__()

    def _clear(self) -> None:
        self._window.clear()

    def update(self, close: float) -> BollingerValue | None:
        if not -MAX_MAGNITUDE <= close <= MAX_MAGNITUDE:
            raise self._refuse(close=close)
        variance = self._window.update(close)
        if variance is not None:
            middle = self._window.mean
            distance = self._deviations * sqrt(variance)
            self.value = BollingerValue(middle + distance, middle, middle - distance)
        return self.value
