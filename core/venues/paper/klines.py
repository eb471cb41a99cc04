"""One-minute klines from the public trades, longer ones from those, and the last 24 hours."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from core.venues.paper.decimals import quote_amount
from core.venues.paper.events import Trade

MINUTE_MS = 60_000
DAY_MINUTES = 1_440
MAX_KLINES = 1_500
"""One-minute klines kept per symbol: a day and a bit."""

INTERVAL_MINUTES = {
    "1m": 1,
    "3m": 3,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "2h": 120,
    "4h": 240,
    "6h": 360,
    "8h": 480,
    "12h": 720,
    "1d": DAY_MINUTES,
}


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


class Klines:
    """The klines of one symbol. Minutes without a trade are filled in flat, as Binance has them."""

    def __init__(self) -> None:
        self._minutes: deque[Kline] = deque(maxlen=MAX_KLINES)

    def add(self, trade: Trade) -> Kline | None:
        """Count a trade; gives the kline that it closed, if it opened a new one."""
        open_ms = trade.trade_ms - trade.trade_ms % MINUTE_MS
        closed = None
        current = self._minutes[-1] if self._minutes else None
        if current is None or open_ms > current.open_ms:
            closed = current
            self._fill_gap(open_ms)
            current = flat_kline(open_ms, trade.price, trade.trade_id)
            self._minutes.append(current)
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

    def _fill_gap(self, open_ms: int) -> None:
        if self._minutes:
            last = self._minutes[-1]
            first_ms = max(last.open_ms + MINUTE_MS, open_ms - MAX_KLINES * MINUTE_MS)
            for at_ms in range(first_ms, open_ms, MINUTE_MS):
                self._minutes.append(flat_kline(at_ms, last.close, -1))

    def current(self) -> Kline | None:
        return self._minutes[-1] if self._minutes else None

    def query(self, interval: str, start_ms: int | None, end_ms: int | None, limit: int) -> list[Kline]:
        """Oldest first; without a start the newest `limit`."""
        length_ms = INTERVAL_MINUTES[interval] * MINUTE_MS
        found = [
            kline
            for kline in _merge(self._minutes, length_ms)
            if (start_ms is None or kline.open_ms >= start_ms) and (end_ms is None or kline.open_ms <= end_ms)
        ]
        return found[-limit:] if start_ms is None else found[:limit]

    def last_day(self, now_ms: int) -> Kline | None:
        """All of the last 24 hours as one kline; None when nothing traded."""
        recent = [kline for kline in self._minutes if kline.open_ms > now_ms - DAY_MINUTES * MINUTE_MS]
        return _sum(recent, recent[0].open_ms) if recent else None


def flat_kline(open_ms: int, price: int, trade_id: int) -> Kline:
    """A kline without a trade; trade_id -1 says so, another one is the first trade's to come."""
    return Kline(open_ms, price, price, price, price, trade_id, trade_id)


def _merge(minutes: Iterable[Kline], length_ms: int) -> list[Kline]:
    groups: dict[int, list[Kline]] = {}
    for kline in minutes:
        groups.setdefault(kline.open_ms - kline.open_ms % length_ms, []).append(kline)
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
