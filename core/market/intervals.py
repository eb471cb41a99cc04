"""Intervals of time bars, and where in UTC their bars begin.

Seconds to days are aligned to 1970-01-01T00:00Z, weeks to Monday 00:00Z, months to the first of the month, as
Binance's klines are (https://developers.binance.com/docs/binance-spot-api-docs/enums: kline intervals).
"""

from __future__ import annotations

import re
from datetime import date

import msgspec

from core.types.clock import NS_PER_S

NS_PER_MINUTE = 60 * NS_PER_S
NS_PER_DAY = 1_440 * NS_PER_MINUTE
_UNIT_NS = {"s": NS_PER_S, "m": NS_PER_MINUTE, "h": 60 * NS_PER_MINUTE, "d": NS_PER_DAY, "w": 7 * NS_PER_DAY}
_FIRST_MONDAY_NS = 4 * NS_PER_DAY
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
MAX_COUNT = 99_999
DAYS_PER_YEAR = 365
"""A market that never closes; months count as a twelfth of it."""


class Interval(msgspec.Struct, frozen=True):
    """`count` of a unit: s, m, h, d, w, or M for calendar months. `Interval.parse` makes and checks one."""

    count: int
    unit: str

    @staticmethod
    def parse(text: str) -> Interval:
        """Read ``1s``, ``5m``, ``4h``, ``1d``, ``1w``, ``1M``. Raises ValueError for any other form."""
        match = re.fullmatch(r"([1-9][0-9]{0,4})([smhdwM])", text, re.ASCII)
        if match is None:
            raise ValueError(
                f"interval {text[:32]!r} must be a whole number from 1 to {MAX_COUNT} "
                "and one of s, m, h, d, w, M (month), such as 15m"
            )
        return Interval(int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"

    @property
    def width_ns(self) -> int | None:
        """None for months, whose widths differ."""
        return None if self.unit == "M" else self.count * _UNIT_NS[self.unit]

    @property
    def bars_per_year(self) -> float:
        """Of 365 days, as a market that never closes is annualised."""
        width_ns = self.width_ns
        return 12 / self.count if width_ns is None else DAYS_PER_YEAR * NS_PER_DAY / width_ns

    def open_time_ns(self, ts_ns: int) -> int:
        """Where the bar that holds this moment begins."""
        width_ns = self.width_ns
        if width_ns is not None:
            return ts_ns - (ts_ns - (_FIRST_MONDAY_NS if self.unit == "w" else 0)) % width_ns
        day = date.fromordinal(_EPOCH_ORDINAL + ts_ns // NS_PER_DAY)
        return _month_ns((day.year * 12 + day.month - 1) // self.count * self.count)

    def next_open_ns(self, open_time_ns: int) -> int:
        """Where the bar after the one that begins at open_time_ns begins."""
        return self.shift(open_time_ns, 1)

    def shift(self, open_time_ns: int, bars: int) -> int:
        """Where the bar begins that is so many bars later (earlier when negative) than the one that begins here."""
        width_ns = self.width_ns
        if width_ns is not None:
            return open_time_ns + bars * width_ns
        day = date.fromordinal(_EPOCH_ORDINAL + open_time_ns // NS_PER_DAY)
        return _month_ns(day.year * 12 + day.month - 1 + bars * self.count)

    def divides(self, longer: Interval) -> bool:
        """Whether each bar of the longer interval is made of whole bars of this one."""
        if self.unit == "M":
            return longer.unit == "M" and longer.count % self.count == 0
        width_ns = self.width_ns or 0
        longer_ns = longer.width_ns
        if longer_ns is None:
            return NS_PER_DAY % width_ns == 0
        if self.unit != longer.unit and "w" in (self.unit, longer.unit) and _FIRST_MONDAY_NS % width_ns:
            return False
        return longer_ns % width_ns == 0


def _month_ns(months: int) -> int:
    year, month = divmod(max(months, 12), 12)
    return (date(year, month + 1, 1).toordinal() - _EPOCH_ORDINAL) * NS_PER_DAY
