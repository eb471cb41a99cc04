"""One symbol's public data, and what its streams say
(https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from core.types.orders import Side
from core.venues.paper import wire
from core.venues.paper.book import MarketView
from core.venues.paper.events import BookTicker, DepthDiff, Level, Trade
from core.venues.paper.klines import (
    INTERVAL_MS,
    MINUTE_MS,
    SECOND_MS,
    AggregateTrade,
    AveragePrice,
    Kline,
    Klines,
    flat_kline,
    interval_open_ms,
)
from core.venues.paper.streams import Hub

MAX_RECENT_TRADES = 10_000
SLOW_DEPTH_INTERVAL_MS = 1_000
PARTIAL_DEPTHS = (5, 10, 20)
WINDOWS_MS = {"1h": 60 * MINUTE_MS, "4h": 240 * MINUTE_MS, "1d": 1_440 * MINUTE_MS}
EASTERN_ZONE = "@+08:00"
EASTERN_OFFSET_MS = 8 * 60 * MINUTE_MS
ALL_STREAMS = ("!miniTicker@arr", "!ticker@arr", *(f"!ticker_{size}@arr" for size in WINDOWS_MS))


class SymbolData:
    """One symbol's public data; each event goes to whoever listens."""

    def __init__(self, view: MarketView, hub: Hub, average: AveragePrice) -> None:
        self.view = view
        self.trades: deque[Trade] = deque(maxlen=MAX_RECENT_TRADES)
        self.aggregates: deque[AggregateTrade] = deque(maxlen=MAX_RECENT_TRADES)
        self.klines = Klines()
        self.average = average
        self.changed_ms = 0
        self._hub = hub
        self._name = view.symbol.lower()
        self._aggregate: AggregateTrade | None = None
        self._pending: DepthDiff | None = None
        self._slow_depth_ms = 0
        self._partial_depth_ms = 0
        self._published_ms = 0
        for name in self.stream_names():
            hub.add_public(name)

    def stream_names(self) -> Iterator[str]:
        for kind in ("trade", "aggTrade", "bookTicker", "miniTicker", "ticker", "avgPrice"):
            yield f"{self._name}@{kind}"
        for kind in ("depth", *(f"depth{levels}" for levels in PARTIAL_DEPTHS)):
            for pace in ("", "@100ms", "@1000ms"):
                yield f"{self._name}@{kind}{pace}"
        for interval in INTERVAL_MS:
            for zone in ("", EASTERN_ZONE):
                yield f"{self._name}@kline_{interval}{zone}"
        for size in WINDOWS_MS:
            yield f"{self._name}@ticker_{size}"

    def best(self) -> tuple[Level, Level]:
        """The newest best bid and offer; (0, 0) for an empty side."""
        return self.view.best_displayed(Side.BUY) or (0, 0), self.view.best_displayed(Side.SELL) or (0, 0)

    def last_price(self) -> int:
        """Before the first trade since the start the best bid stands in."""
        return self.trades[-1].price if self.trades else self.best()[0][0]

    def window(self, start_ms: int, now_ms: int) -> Kline:
        """All trades since then as one kline; a flat one when there were none."""
        return self.klines.window(start_ms) or flat_kline(now_ms, self.last_price(), -1)

    # Events

    def on_ticker(self, ticker: BookTicker) -> None:
        name = f"{self._name}@bookTicker"
        if self._hub.has(name):
            self._hub.publish(name, wire.book_ticker_text(ticker))

    def on_trade(self, trade: Trade, now_ms: int) -> None:
        self.trades.append(trade)
        self._publish_closed_klines(trade, now_ms)
        self.klines.add(trade)
        self.changed_ms = max(now_ms, self.changed_ms + 1)
        self._aggregate_trade(trade)
        name = f"{self._name}@trade"
        if self._hub.has(name):
            self._hub.publish(name, wire.trade_text(trade))

    def on_depth(self, diff: DepthDiff) -> None:
        fast = f"{self._name}@depth@100ms"
        if self._hub.has(fast):
            self._hub.publish(fast, wire.depth_text(diff))
        slow = [name for name in (f"{self._name}@depth", f"{self._name}@depth@1000ms") if self._hub.has(name)]
        if not slow:
            self._pending = None
            return
        self._pending = diff if self._pending is None else merge_diffs(self._pending, diff)
        if diff.event_ms - self._slow_depth_ms >= SLOW_DEPTH_INTERVAL_MS:
            for name in slow:
                self._hub.publish(name, wire.depth_text(self._pending))
            self._pending = None
            self._slow_depth_ms = diff.event_ms

    def after_depth(self, diff: DepthDiff) -> None:
        """The book now has the diff: partial books go out."""
        is_slow_due = diff.event_ms - self._partial_depth_ms >= SLOW_DEPTH_INTERVAL_MS
        if is_slow_due:
            self._partial_depth_ms = diff.event_ms
        for levels in PARTIAL_DEPTHS:
            base = f"{self._name}@depth{levels}"
            wanted = [f"{base}@100ms", *((base, f"{base}@1000ms") if is_slow_due else ())]
            heard = [name for name in wanted if self._hub.has(name)]
            if heard:
                book = self.view.book
                text = wire.partial_depth_text(book.last_id, *book.top(levels))
                for name in heard:
                    self._hub.publish(name, text)

    def each_second(self, now_ms: int, average: int) -> None:
        """What goes out once a second, if anything traded since."""
        if self.changed_ms > self._published_ms:
            self._published_ms = self.changed_ms
            for interval, zone, offset_ms in self._heard_klines():
                self._publish_kline(interval, zone, offset_ms, now_ms)
            self._publish_tickers(now_ms)
        name = f"{self._name}@avgPrice"
        if self._hub.has(name):
            event = wire.average_price_event(self.view.symbol, average, self.average.last_trade_ms, now_ms)
            self._send(name, event)

    def _publish_tickers(self, now_ms: int) -> None:
        mini, full = f"{self._name}@miniTicker", f"{self._name}@ticker"
        if self._hub.has(mini):
            self._send(mini, self.mini_ticker(now_ms))
        if self._hub.has(full):
            self._send(full, self.ticker(now_ms))
        for size in WINDOWS_MS:
            name = f"{self._name}@ticker_{size}"
            if self._hub.has(name):
                self._send(name, self.window_ticker(size, now_ms))

    def mini_ticker(self, now_ms: int) -> dict[str, Any]:
        return wire.mini_ticker_event(self.view.symbol, self.window(now_ms - WINDOWS_MS["1d"], now_ms), now_ms)

    def ticker(self, now_ms: int) -> dict[str, Any]:
        day = self.window(now_ms - WINDOWS_MS["1d"], now_ms)
        return wire.ticker_event(self.view.symbol, day, self.best(), now_ms)

    def window_ticker(self, size: str, now_ms: int) -> dict[str, Any]:
        window = self.window(now_ms - WINDOWS_MS[size], now_ms)
        return wire.window_ticker_event(self.view.symbol, size, window, now_ms)

    # Klines

    def _publish_closed_klines(self, trade: Trade, now_ms: int) -> None:
        """The first trade of an interval closes the one before it."""
        newest = self.trades[-2] if len(self.trades) > 1 else None
        if newest is None or trade.trade_ms // SECOND_MS == newest.trade_ms // SECOND_MS:
            return
        for interval, zone, offset_ms in self._heard_klines():
            before = interval_open_ms(interval, newest.trade_ms, offset_ms)
            if interval_open_ms(interval, trade.trade_ms, offset_ms) != before:
                self._publish_kline(interval, zone, offset_ms, now_ms, is_closed=True)

    def _heard_klines(self) -> list[tuple[str, str, int]]:
        return [
            (interval, zone, offset_ms)
            for interval in INTERVAL_MS
            for zone, offset_ms in (("", 0), (EASTERN_ZONE, EASTERN_OFFSET_MS))
            if self._hub.has(f"{self._name}@kline_{interval}{zone}")
        ]

    def _publish_kline(self, interval: str, zone: str, offset_ms: int, now_ms: int, *, is_closed: bool = False) -> None:
        newest = self.klines.query(interval, None, None, 1, offset_ms)
        if newest:
            event = wire.kline_event(self.view.symbol, interval, newest[-1], now_ms, is_closed, offset_ms)
            self._send(f"{self._name}@kline_{interval}{zone}", event)

    # Aggregate trades

    def _aggregate_trade(self, trade: Trade) -> None:
        """Trades that come in one turn of the loop and belong together go out as one."""
        current = self._aggregate
        merged = current.with_trade(trade) if current is not None else None
        if merged is None:
            self._flush_aggregate()
            merged = AggregateTrade.of(trade)
            asyncio.get_running_loop().call_soon(self._flush_aggregate)
        self._aggregate = merged

    def _flush_aggregate(self) -> None:
        trade, self._aggregate = self._aggregate, None
        if trade is None:
            return
        self.aggregates.append(trade)
        name = f"{self._name}@aggTrade"
        if self._hub.has(name):
            self._hub.publish(name, wire.agg_trade_text(trade))

    def _send(self, name: str, event: dict[str, Any]) -> None:
        self._hub.publish(name, msgspec.json.encode(event).decode())


class AllMarkets:
    """The streams of all symbols at once: an array of those that changed."""

    def __init__(self, hub: Hub, symbols: dict[str, SymbolData]) -> None:
        self._hub = hub
        self._symbols = symbols
        self._published: dict[str, int] = dict.fromkeys(symbols, 0)
        for name in ALL_STREAMS:
            hub.add_public(name)

    def each_second(self, now_ms: int) -> None:
        changed = [data for symbol, data in self._symbols.items() if data.changed_ms > self._published[symbol]]
        self._published = {symbol: data.changed_ms for symbol, data in self._symbols.items()}
        if not changed:
            return
        for name in ALL_STREAMS:
            if not self._hub.has(name):
                continue
            if name == "!miniTicker@arr":
                events = [data.mini_ticker(now_ms) for data in changed]
            elif name == "!ticker@arr":
                events = [data.ticker(now_ms) for data in changed]
            else:
                size = name.removeprefix("!ticker_").removesuffix("@arr")
                events = [data.window_ticker(size, now_ms) for data in changed]
            self._hub.publish(name, msgspec.json.encode(events).decode())


def merge_diffs(first: DepthDiff, second: DepthDiff) -> DepthDiff:
    """Two consecutive diffs as one: the later quantity of a level counts."""
    assert second.first_id == first.last_id + 1
    return DepthDiff(
        symbol=first.symbol,
        event_ms=second.event_ms,
        first_id=first.first_id,
        last_id=second.last_id,
        bids=tuple((dict(first.bids) | dict(second.bids)).items()),
        asks=tuple((dict(first.asks) | dict(second.asks)).items()),
    )
