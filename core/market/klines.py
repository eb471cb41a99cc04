"""One-minute klines from trades, and longer ones from those. Exact: ints at the instrument's scales throughout.

Time is the venue's (the trades' own). A bar is whole when the series has seen its minute from the start; the minute in
which the series began never is.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

import msgspec

from core.types.clock import NS_PER_S

NS_PER_MINUTE = 60 * NS_PER_S
HISTORY_LIMIT_BARS = 1_440
"""Closed one-minute bars kept: a day."""
_UNIT_MINUTES = {"m": 1, "h": 60, "d": 1_440}


class Kline(msgspec.Struct, frozen=True, gc=False):
    """Prices at price_scale, volume at quantity_scale, quote_volume at notional scale. close_time_ns is the last
    nanosecond of the bar."""

    open_time_ns: int
    close_time_ns: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote_volume: int
    trades: int
    closed: bool


class KlineSeries:
    """The one-minute bars of one symbol."""

    def __init__(self, history_limit_bars: int = HISTORY_LIMIT_BARS) -> None:
        self.late_trades = 0
        self._closed: deque[Kline] = deque(maxlen=history_limit_bars)
        self._begun = False
        self._first_is_whole = False
        self._open_time_ns = 0
        self._next_open_ns = 0
        self._open = self._high = self._low = self._close = 0
        self._volume = self._quote_volume = self._trades = 0

    def on_trade(self, price: int, quantity: int, ts_event_ns: int) -> None:
        """Count a trade into its minute. One for a minute that is already closed is counted as late, and left out."""
        if ts_event_ns >= self._next_open_ns:
            self._roll(ts_event_ns, price)
        elif ts_event_ns < self._open_time_ns:
            self.late_trades += 1
            return
        if self._trades:
            self._high = max(self._high, price)
            self._low = min(self._low, price)
        else:
            self._open = self._high = self._low = price
        self._close = price
        self._volume += quantity
        self._quote_volume += price * quantity
        self._trades += 1

    def advance_to(self, ts_event_ns: int) -> None:
        """The venue's time has come this far: close the minutes before it, also those without a trade."""
        if self._begun and ts_event_ns >= self._next_open_ns:
            self._roll(ts_event_ns, self._close)

    def bars(self, minutes: int, limit: int) -> list[Kline]:
        """The last `limit` bars of `minutes` each, oldest first; the last one may still be forming (closed False).

        Closed bars are whole or left out; the forming bar holds what was seen of it.
        """
        if not self._begun:
            return []
        needed = min(len(self._closed), limit * minutes)
        ones = [*list(self._closed)[len(self._closed) - needed :], self._forming()]
        return _aggregate(ones, minutes)[-limit:]

    def _forming(self) -> Kline:
        return Kline(
            self._open_time_ns,
            self._next_open_ns - 1,
            self._open,
            self._high,
            self._low,
            self._close,
            self._volume,
            self._quote_volume,
            self._trades,
            closed=False,
        )

    def _roll(self, ts_event_ns: int, price: int) -> None:
        open_time_ns = ts_event_ns - ts_event_ns % NS_PER_MINUTE
        if self._begun:
            if self._first_is_whole:
                self._closed.append(msgspec.structs.replace(self._forming(), closed=True))
            self._first_is_whole = True
            self._fill_flat(open_time_ns)
            price = self._close
        self._begun = True
        self._open_time_ns = open_time_ns
        self._next_open_ns = open_time_ns + NS_PER_MINUTE
        self._open = self._high = self._low = self._close = price
        self._volume = self._quote_volume = self._trades = 0

    def _fill_flat(self, until_ns: int) -> None:
        # Only what the history can hold: a clock that jumps by years must not spin here.
        earliest_ns = until_ns - (self._closed.maxlen or 0) * NS_PER_MINUTE
        price = self._close
        for open_ns in range(max(self._next_open_ns, earliest_ns), until_ns, NS_PER_MINUTE):
            self._closed.append(
                Kline(open_ns, open_ns + NS_PER_MINUTE - 1, price, price, price, price, 0, 0, 0, closed=True)
            )


def interval_minutes(interval: str) -> int:
    """Minutes of an interval like ``1m``, ``15m``, ``4h`` or ``1d``.

    Raises ValueError for any other form, and for more than the history holds.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,3})([mhd])", interval)
    minutes = int(match[1]) * _UNIT_MINUTES[match[2]] if match else 0
    if not 0 < minutes <= HISTORY_LIMIT_BARS:
        raise ValueError(f"interval {interval!r} must be a whole number of m, h or d, at most {HISTORY_LIMIT_BARS}m")
    return minutes


def _aggregate(ones: Iterable[Kline], minutes: int) -> list[Kline]:
    width_ns = minutes * NS_PER_MINUTE
    merged: list[Kline] = []
    group: list[Kline] = []
    for bar in ones:
        if group and bar.open_time_ns // width_ns != group[0].open_time_ns // width_ns:
            merged.extend(_merge(group, width_ns))
            group = []
        group.append(bar)
    merged.extend(_merge(group, width_ns))
    return merged


def _merge(group: list[Kline], width_ns: int) -> list[Kline]:
    open_time_ns = group[0].open_time_ns - group[0].open_time_ns % width_ns
    closed = group[-1].closed and group[-1].close_time_ns == open_time_ns + width_ns - 1
    if closed and group[0].open_time_ns != open_time_ns:
        return []
    # A flat minute repeats the price before it, which may lie outside of what was traded in the longer bar.
    traded = [bar for bar in group if bar.trades] or group[:1]
    return [
        Kline(
            open_time_ns,
            open_time_ns + width_ns - 1,
            traded[0].open,
            max(bar.high for bar in traded),
            min(bar.low for bar in traded),
            traded[-1].close,
            sum(bar.volume for bar in traded),
            sum(bar.quote_volume for bar in traded),
            sum(bar.trades for bar in traded),
            closed,
        )
    ]
