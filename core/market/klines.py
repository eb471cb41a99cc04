"""Klines of a symbol from its trades: bars of one minute, and longer ones from those. Exact: ints at the instrument's
scales throughout. What a bar holds and when it is whole is said in core.market.time_bars."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from core.market.bars import HISTORY_LIMIT_BARS, Kline
from core.market.coverage import Range
from core.market.intervals import NS_PER_MINUTE, Interval
from core.market.time_bars import TimeBars

ONE_MINUTE = Interval(1, "m")
_UNIT_MINUTES = {"m": 1, "h": 60, "d": 1_440}


class KlineSeries:
    """The bars of one symbol at a base interval, and at every interval that this divides.

    `base` holds the bars of the base interval and the counters of its trades. Gaps are filled with flat bars.
    """

    def __init__(
        self,
        history_limit_bars: int = HISTORY_LIMIT_BARS,
        *,
        interval: Interval = ONE_MINUTE,
        grace_ns: int = 0,
    ) -> None:
        self.base = TimeBars(interval, grace_ns=grace_ns, history_limit_bars=history_limit_bars)

    @property
    def late_trades(self) -> int:
        return self.base.late_trades

    def on_trade(
        self,
        price: int,
        quantity: int,
        ts_event_ns: int,
        is_buyer_maker: bool | None = None,
        trade_id: int | None = None,
    ) -> Sequence[Kline]:
        """Count a trade into its bar; gives the base bars that its time closes. One for a bar that is already closed
        is counted as late, and left out."""
        return self.base.on_trade(price, quantity, ts_event_ns, is_buyer_maker, trade_id)

    def advance_to(self, ts_event_ns: int) -> Sequence[Kline]:
        """The venue's time has come this far: close the bars before it, also those without a trade."""
        return self.base.advance_to(ts_event_ns)

    def on_interrupted(self) -> None:
        """The stream of trades ended. Without trade ids, all between the last trade and the next counts as missed."""
        self.base.on_interrupted()

    def seed(self, bars: Iterable[Kline]) -> None:
        """Take over the venue's own closed base bars (TimeBars.seed); to be repeated when `holes` names some."""
        self.base.seed(bars)

    def holes(self) -> list[Range]:
        """The stretches (from_ns, until_ns) of closed base bars that aren't known, after the oldest that is."""
        return self.base.holes()

    def bars(self, minutes: int, limit: int) -> list[Kline]:
        """The last `limit` bars of `minutes` each, as `bars_of`."""
        return self.bars_of(Interval(minutes, "m"), limit)

    def bars_of(self, interval: Interval, limit: int) -> list[Kline]:
        """The last `limit` bars, oldest first; the last one may still be forming (closed False).

        Closed bars are whole or left out; the forming bar holds what was seen of it. Raises ValueError for an interval
        that isn't made of whole base bars.
        """
        base = self.base
        if interval.width_ns == base.interval.width_ns is not None:
            return base.bars(limit)
        if not base.interval.divides(interval):
            raise ValueError(f"bars of {interval} can't be made from bars of {base.interval}")
        parts = base.bars(base.history_limit_bars * 2)
        if not parts:
            return []
        first_ns = interval.shift(interval.open_time_ns(parts[-1].open_time_ns), -limit)
        return self._aggregate([bar for bar in parts if bar.open_time_ns >= first_ns], interval)[-limit:]

    def _aggregate(self, parts: list[Kline], interval: Interval) -> list[Kline]:
        merged: list[Kline] = []
        start, next_open_ns = 0, 0
        for index, bar in enumerate(parts):
            if bar.open_time_ns >= next_open_ns:
                if index:
                    merged += self._merge(parts[start:index], interval)
                start, next_open_ns = index, interval.next_open_ns(interval.open_time_ns(bar.open_time_ns))
        return merged + self._merge(parts[start:], interval)

    def _merge(self, group: list[Kline], interval: Interval) -> list[Kline]:
        open_time_ns = interval.open_time_ns(group[0].open_time_ns)
        next_open_ns = interval.next_open_ns(open_time_ns)
        closed = next_open_ns <= (self.base.front_ns or 0)
        if closed and not self.base.is_known(open_time_ns, next_open_ns):
            return []
        # A flat bar repeats the price before it, which may lie outside of what was traded in the longer bar.
        traded = [bar for bar in group if bar.trades] or group[:1]
        return [
            Kline(
                open_time_ns,
                next_open_ns - 1,
                traded[0].open,
                max(bar.high for bar in traded),
                min(bar.low for bar in traded),
                traded[-1].close,
                sum(bar.volume for bar in traded),
                sum(bar.quote_volume for bar in traded),
                sum(bar.trades for bar in traded),
                closed,
                _sum_known(bar.taker_buy_volume for bar in traded),
                _sum_known(bar.taker_buy_quote_volume for bar in traded),
                traded[0].first_trade_id,
                traded[-1].last_trade_id,
            )
        ]


def _sum_known(values: Iterable[int | None]) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def interval_minutes(interval: str) -> int:
    """Minutes of an interval like ``1m``, ``15m``, ``4h`` or ``1d``.

    Raises ValueError for any other form, and for more than the history holds.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,3})([mhd])", interval)
    minutes = int(match[1]) * _UNIT_MINUTES[match[2]] if match else 0
    if not 0 < minutes <= HISTORY_LIMIT_BARS:
        raise ValueError(f"interval {interval!r} must be a whole number of m, h or d, at most {HISTORY_LIMIT_BARS}m")
    return minutes


__all__ = ["HISTORY_LIMIT_BARS", "NS_PER_MINUTE", "ONE_MINUTE", "Kline", "KlineSeries", "interval_minutes"]
