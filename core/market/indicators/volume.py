"""Indicators of volume: VWAP and OBV."""

from __future__ import annotations

from core.market.indicators._base import MAX_MAGNITUDE, Indicator
from core.market.intervals import Interval


class VolumeWeightedAveragePrice(Indicator[float]):
    """Quote volume over base volume since the session's first bar: the average price that was traded, not one of
    typical prices. None until the session has volume.

    session is an interval whose beginning in UTC starts anew, such as 1d (midnight) or 1w (Monday); None never does.
    Bars come in the order of their open_time_ns.
    """

    name = "vwap"
    inputs = ("quote_volume", "volume", "open_time_ns")

    def __init__(self, session: str | None = "1d") -> None:
        try:
            self._session = None if session is None else Interval.parse(session)
        except (ValueError, TypeError) as error:
            raise ValueError(f"vwap needs session as an interval such as 1d, or none: {error}") from error
        super().__init__()

    def _clear(self) -> None:
        self._quote = self._quote_carry = 0.0
        self._base = self._base_carry = 0.0
        self._session_end_ns: int | None = None

    def update(self, quote_volume: float, volume: float, open_time_ns: int) -> float | None:
        if not 0 <= quote_volume <= MAX_MAGNITUDE or not 0 <= volume <= MAX_MAGNITUDE:
            raise ValueError(f"{self._refuse(quote_volume=quote_volume, volume=volume)} (a volume is never below 0)")
        if self._session is not None and (self._session_end_ns is None or open_time_ns >= self._session_end_ns):
            self.reset()
            self._session_end_ns = self._session.next_open_ns(self._session.open_time_ns(open_time_ns))
        self._quote, self._quote_carry = _add(self._quote, self._quote_carry, quote_volume)
        self._base, self._base_carry = _add(self._base, self._base_carry, volume)
        base = self._base + self._base_carry
        if base:
            self.value = (self._quote + self._quote_carry) / base
        return self.value


class OnBalanceVolume(Indicator[float]):
    """The volume of bars that closed higher less that of bars that closed lower. It begins with the first bar's."""

    name = "obv"
    inputs = ("close", "volume")

    def _clear(self) -> None:
        self._close: float | None = None
        self._total = self._carry = 0.0

    def update(self, close: float, volume: float) -> float | None:
        if not -MAX_MAGNITUDE <= close <= MAX_MAGNITUDE or not 0 <= volume <= MAX_MAGNITUDE:
            raise self._refuse(close=close, volume=volume)
        before, self._close = self._close, close
        if before is None or close > before:
            self._total, self._carry = _add(self._total, self._carry, volume)
        elif close < before:
            self._total, self._carry = _add(self._total, self._carry, -volume)
        self.value = self._total + self._carry
        return self.value


def _add(total: float, carry: float, value: float) -> tuple[float, float]:
    """Neumaier's compensated addition: over millions of bars the error stays that of one rounding."""
    joined = total + value
    lost = (total - joined) + value if abs(total) >= abs(value) else (value - joined) + total
    return joined, carry + lost
