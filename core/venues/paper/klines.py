"""Klines of a second and a minute from the public trades, longer ones from those, and rolling windows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice

import msgspec

from core.venues.paper.decimals import UNIT, quote_amount
from core.venues.paper.events import Trade

SECOND_MS = 1_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000
DAY_MINUTES = 1_440
MAX_KLINES = 7 * DAY_MINUTES + 60
"""One-minute klines kept per symbol: the longest rolling window, and a bit."""
MAX_SECOND_KLINES = 3_600
MONDAY_MS = 4 * DAY_MS
"""The epoch was a Thursday; weeks begin on Monday."""

INTERVAL_MS = {
    "1s": SECOND_MS,
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": 60 * MINUTE_MS,
    "2h": 120 * MINUTE_MS,
    "4h": 240 * MINUTE_MS,
    "6h": 360 * MINUTE_MS,
    "8h": 480 * MINUTE_MS,
    "12h": 720 * MINUTE_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
    "1M": 31 * DAY_MS,
}
"""Lengths; a month's is its longest."""


def interval_open_ms(interval: str, at_ms: int, offset_ms: int = 0) -> int:
    """When the interval that holds `at_ms` began. offset_ms: how far the time zone is ahead of UTC."""
    local_ms = at_ms + offset_ms
    if interval == "1M":
        day = datetime.fromtimestamp(local_ms // SECOND_MS, UTC)
        return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp()) * SECOND_MS - offset_ms
    shift_ms = MONDAY_MS if interval == "1w" else 0
    return local_ms - (local_ms - shift_ms) % INTERVAL_MS[interval] - offset_ms


def interval_close_ms(interval: str, open_ms: int, offset_ms: int = 0) -> int:
    """The last millisecond of the interval that begins at open_ms."""
    if interval != "1M":
        return open_ms + INTERVAL_MS[interval] - 1
    return interval_open_ms("1M", open_ms + 31 * DAY_MS + DAY_MS // 2, offset_ms) - 1


class Kline(msgspec.Struct):
    """Prices and volumes at scale 8. Taker volumes are those of buyers that took."""

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    first_id: int
    last_id: int
    last_quantity: int = 0
    volume: int = 0
    quote_volume: int = 0
    trades: int = 0
    taker_volume: int = 0
    taker_quote_volume: int = 0


class AggregateTrade(msgspec.Struct, frozen=True):
    """Consecutive trades of one price, side and time: most likely one taker order. Its id is first_id."""

    symbol: str
    event_ms: int
    trade_ms: int
    first_id: int
    last_id: int
    price: int
    quantity: int
    buyer_is_maker: bool

    @classmethod
    def of(cls, trade: Trade) -> AggregateTrade:
        return cls(
            symbol=trade.symbol,
            event_ms=trade.event_ms,
            trade_ms=trade.trade_ms,
            first_id=trade.trade_id,
            last_id=trade.trade_id,
            price=trade.price,
            quantity=trade.quantity,
            buyer_is_maker=trade.buyer_is_maker,
        )

    def with_trade(self, trade: Trade) -> AggregateTrade | None:
        """None when the trade isn't part of it."""
        mine = self.price, self.buyer_is_maker, self.trade_ms
        if mine != (trade.price, trade.buyer_is_maker, trade.trade_ms):
            return None
        return msgspec.structs.replace(self, last_id=trade.trade_id, quantity=self.quantity + trade.quantity)


class Klines:
    """The klines of one symbol. Minutes and seconds without a trade are filled in flat, as Binance has them."""

    def __init__(self) -> None:
        self._minutes: deque[Kline] = deque(maxlen=MAX_KLINES)
        self._seconds: deque[Kline] = deque(maxlen=MAX_SECOND_KLINES)

    def add(self, trade: Trade) -> Kline | None:
        """Count a trade; gives the minute that it closed, if it opened a new one."""
        _count(self._seconds, SECOND_MS, MAX_SECOND_KLINES, trade)
        return _count(self._minutes, MINUTE_MS, MAX_KLINES, trade)

    def current(self, interval: str = "1m") -> Kline | None:
        newest = self.query(interval, None, None, 1)
        return newest[-1] if newest else None

    def query(
        self, interval: str, start_ms: int | None, end_ms: int | None, limit: int, offset_ms: int = 0
    ) -> list[Kline]:
        """Oldest first; without a start the newest `limit`."""
        base = self._seconds if interval == "1s" else self._minutes
        if start_ms is None and end_ms is None:
            # The newest `limit` need no more of the base than this.
            base_ms = SECOND_MS if interval == "1s" else MINUTE_MS
            wanted = (limit + 1) * (INTERVAL_MS[interval] // base_ms)
            base = deque(islice(base, max(0, len(base) - wanted), None))
        found = [
            kline
            for kline in _merge(base, interval, offset_ms)
            if (start_ms is None or kline.open_ms >= start_ms) and (end_ms is None or kline.open_ms <= end_ms)
        ]
        return found[-limit:] if start_ms is None else found[:limit]

    def window(self, start_ms: int) -> Kline | None:
        """All since then as one kline, in whole minutes; None when there is none."""
        recent = [kline for kline in self._minutes if kline.open_ms >= start_ms]
        return _sum(recent, recent[0].open_ms) if recent else None

    def last_day(self, now_ms: int) -> Kline | None:
        """All of the last 24 hours as one kline; None when nothing traded."""
        return self.window(now_ms - DAY_MS + 1)


def _count(klines: deque[Kline], length_ms: int, most: int, trade: Trade) -> Kline | None:
    open_ms = trade.trade_ms - trade.trade_ms % length_ms
    closed = None
    current = klines[-1] if klines else None
    if current is None or open_ms > current.open_ms:
        closed = current
        if current is not None:
            for at_ms in range(max(current.open_ms + length_ms, open_ms - most * length_ms), open_ms, length_ms):
                klines.append(flat_kline(at_ms, current.close, -1))
        current = flat_kline(open_ms, trade.price, trade.trade_id)
        klines.append(current)
    notional = quote_amount(trade.price, trade.quantity)
    current.high = max(current.high, trade.price)
    current.low = min(current.low, trade.price)
    current.close = trade.price
    current.last_id = trade.trade_id
    current.last_quantity = trade.quantity
    current.volume += trade.quantity
    current.quote_volume += notional
    current.trades += 1
    if not trade.buyer_is_maker:
        current.taker_volume += trade.quantity
        current.taker_quote_volume += notional
    return closed


def flat_kline(open_ms: int, price: int, trade_id: int) -> Kline:
    """A kline without a trade; trade_id -1 says so, another one is the first trade's to come."""
    return Kline(open_ms, price, price, price, price, trade_id, trade_id)


def _merge(base: Iterable[Kline], interval: str, offset_ms: int) -> list[Kline]:
    groups: dict[int, list[Kline]] = {}
    for kline in base:
        groups.setdefault(interval_open_ms(interval, kline.open_ms, offset_ms), []).append(kline)
    return [_sum(group, open_ms) for open_ms, group in groups.items()]


def _sum(group: list[Kline], open_ms: int) -> Kline:
    traded = [kline for kline in group if kline.trades] or group[:1]
    return Kline(
        open_ms=open_ms,
        open=group[0].open,
        high=max(kline.high for kline in group),
        low=min(kline.low for kline in group),
        close=group[-1].close,
        first_id=traded[0].first_id,
        last_id=traded[-1].last_id,
        last_quantity=traded[-1].last_quantity,
        volume=sum(kline.volume for kline in group),
        quote_volume=sum(kline.quote_volume for kline in group),
        trades=sum(kline.trades for kline in group),
        taker_volume=sum(kline.taker_volume for kline in group),
        taker_quote_volume=sum(kline.taker_quote_volume for kline in group),
    )


class AveragePrice:
    """The volume-weighted average price of the last minutes."""

    def __init__(self, minutes: int) -> None:
        self.minutes = minutes
        self.last_trade_ms = 0
        self._buckets: deque[tuple[int, int, int]] = deque(maxlen=minutes + 1)

    def add(self, trade: Trade) -> None:
        minute, notional, quantity = (
            trade.trade_ms // MINUTE_MS,
            quote_amount(trade.price, trade.quantity),
            trade.quantity,
        )
        self.last_trade_ms = trade.trade_ms
        if self._buckets and self._buckets[-1][0] == minute:
            _, earlier_notional, earlier_quantity = self._buckets.pop()
            notional, quantity = notional + earlier_notional, quantity + earlier_quantity
        self._buckets.append((minute, notional, quantity))

    def price(self, now_ms: int) -> int | None:
        """None when nothing traded in that time."""
        recent = [bucket for bucket in self._buckets if bucket[0] > now_ms // MINUTE_MS - self.minutes]
        quantity = sum(bucket[2] for bucket in recent)
        return sum(bucket[1] for bucket in recent) * UNIT // quantity if quantity else None
