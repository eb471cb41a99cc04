"""Bars made from trades by count and size: tick, volume and notional bars; and the bar itself.

Exact: ints at the instrument's scales throughout. Time bars are in core.market.klines.

A trade is never split. The one that reaches a bar's threshold belongs whole to the bar that it closes, so a bar holds
at least its threshold, one trade closes at most one bar, and the bars' sums are the trades' sums (M. López de Prado,
Advances in Financial Machine Learning, 2018, section 2.3; the excess isn't carried into the next bar).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from fractions import Fraction

import msgspec

HISTORY_LIMIT_BARS = 1_440
"""Closed bars kept: a day of minutes."""
NO_ID = -1
NO_BARS: tuple[Kline, ...] = ()


class Kline(msgspec.Struct, frozen=True, gc=False):
    """Prices at price_scale, volume at quantity_scale, quote_volume at notional scale (the two together).

    close_time_ns is the last nanosecond of a time bar, the last trade's time of any other. The taker_buy figures are
    the part in which the buyer was the aggressor; None when a trade didn't say. Trade ids are None when not known.
    """

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
    taker_buy_volume: int | None = None
    taker_buy_quote_volume: int | None = None
    first_trade_id: int | None = None
    last_trade_id: int | None = None

    @property
    def vwap(self) -> Fraction | None:
        """The volume-weighted average price, exact, at price_scale; None without volume."""
        return Fraction(self.quote_volume, self.volume) if self.volume else None


class FormingBar:
    """A bar that trades are still counted into. Open and close are those of the earliest and latest trade by time,
    then by id, then by arrival."""

    __slots__ = (
        "close",
        "first_id",
        "first_ns",
        "high",
        "last_id",
        "last_ns",
        "low",
        "next_open_ns",
        "open",
        "open_time_ns",
        "quote_volume",
        "sides_known",
        "taker_buy_quote_volume",
        "taker_buy_volume",
        "trades",
        "volume",
    )

    def __init__(self, open_time_ns: int, next_open_ns: int, price: int) -> None:
        self.open_time_ns = open_time_ns
        self.next_open_ns = next_open_ns
        self.open = self.high = self.low = self.close = price
        self.volume = self.quote_volume = self.trades = 0
        self.taker_buy_volume = self.taker_buy_quote_volume = 0
        self.sides_known = True
        self.first_ns = self.last_ns = 0
        self.first_id = self.last_id = NO_ID

    def add(self, price: int, quantity: int, ts_event_ns: int, is_buyer_maker: bool | None, trade_id: int) -> None:
        if not self.trades:
            self.open = self.high = self.low = self.close = price
            self.first_ns = self.last_ns = ts_event_ns
            self.first_id = self.last_id = trade_id
        else:
            if price > self.high:
                self.high = price
            elif price < self.low:
                self.low = price
            if ts_event_ns > self.last_ns or (
                ts_event_ns == self.last_ns and (trade_id >= self.last_id or trade_id == NO_ID)
            ):
                self.close, self.last_ns, self.last_id = price, ts_event_ns, trade_id
            elif ts_event_ns < self.first_ns or (
                ts_event_ns == self.first_ns and trade_id < self.first_id and trade_id != NO_ID
            ):
                self.open, self.first_ns, self.first_id = price, ts_event_ns, trade_id
        notional = price * quantity
        self.volume += quantity
        self.quote_volume += notional
        self.trades += 1
        if is_buyer_maker is None:
            self.sides_known = False
        elif not is_buyer_maker:
            self.taker_buy_volume += quantity
            self.taker_buy_quote_volume += notional

    def kline(self, *, closed: bool, close_time_ns: int | None = None) -> Kline:
        return Kline(
            self.open_time_ns,
            self.next_open_ns - 1 if close_time_ns is None else close_time_ns,
            self.open,
            self.high,
            self.low,
            self.close,
            self.volume,
            self.quote_volume,
            self.trades,
            closed,
            self.taker_buy_volume if self.sides_known else None,
            self.taker_buy_quote_volume if self.sides_known else None,
            None if self.first_id == NO_ID else self.first_id,
            None if self.last_id == NO_ID else self.last_id,
        )


class _ThresholdBars(ABC):
    """Bars that close when a measure of their trades reaches a threshold.

    Trades count in the order of their arrival: one whose time lies before the last one's counts as of the last one's
    time. One with an id not above the last one's is a repetition, counted and left out.
    """

    def __init__(self, threshold: int, history_limit_bars: int = HISTORY_LIMIT_BARS) -> None:
        if threshold < 1:
            raise ValueError(f"{type(self).__name__} needs a threshold of at least 1, not {threshold}")
        self.threshold = threshold
        self.repeated_trades = 0
        self._closed: deque[Kline] = deque(maxlen=history_limit_bars)
        self._forming: FormingBar | None = None
        self._last_id = NO_ID
        self._last_ns = 0

    @abstractmethod
    def _measure(self, forming: FormingBar) -> int: ...

    def on_trade(
        self,
        price: int,
        quantity: int,
        ts_event_ns: int,
        is_buyer_maker: bool | None = None,
        trade_id: int | None = None,
    ) -> Sequence[Kline]:
        """Count a trade; gives the bar that it closed, if it did."""
        if trade_id is not None:
            if trade_id <= self._last_id:
                self.repeated_trades += 1
                return NO_BARS
            self._last_id = trade_id
        self._last_ns = ts_ns = max(ts_event_ns, self._last_ns)
        forming = self._forming
        if forming is None:
            forming = self._forming = FormingBar(ts_ns, ts_ns + 1, price)
        forming.add(price, quantity, ts_ns, is_buyer_maker, NO_ID if trade_id is None else trade_id)
        if self._measure(forming) < self.threshold:
            return NO_BARS
        self._forming = None
        bar = forming.kline(closed=True, close_time_ns=forming.last_ns)
        self._closed.append(bar)
        return (bar,)

    def bars(self, limit: int) -> list[Kline]:
        """The last `limit` bars, oldest first; the last one may still be forming (closed False)."""
        if self._forming is None:
            return list(self._closed)[-limit:]
        forming = self._forming.kline(closed=False, close_time_ns=self._forming.last_ns)
        return [*self._closed, forming][-limit:]


class TickBars(_ThresholdBars):
    """A bar every `threshold` trades."""

    def _measure(self, forming: FormingBar) -> int:
        return forming.trades


class VolumeBars(_ThresholdBars):
    """A bar each time at least `threshold` of the base asset, at quantity_scale, has traded."""

    def _measure(self, forming: FormingBar) -> int:
        return forming.volume


class NotionalBars(_ThresholdBars):
    """A bar each time at least `threshold` of the quote asset, at notional scale, has traded. Known as dollar bars."""

    def _measure(self, forming: FormingBar) -> int:
        return forming.quote_volume
