"""The exchange behind the wire: market data as published, the account, and who hears of what."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from core.types.clock import Clock
from core.types.orders import Side
from core.venues.paper.accounts import Account
from core.venues.paper.book import MarketView
from core.venues.paper.events import BookTicker, DepthDiff, Level, MarketEvent, MarketSource, StartBook, Trade
from core.venues.paper.klines import MINUTE_MS, Kline, Klines
from core.venues.paper.storage import Storage
from core.venues.paper.streams import Hub
from core.venues.paper.wire import book_ticker_text, depth_text, kline_event, trade_text

MAX_RECENT_TRADES = 1_000
SLOW_DEPTH_INTERVAL_MS = 1_000
HOUSEKEEPING_INTERVAL_S = 1.0
KLINE_STREAM_INTERVAL = "1m"


class SymbolData:
    """One symbol's public data and the names of its streams."""

    def __init__(self, view: MarketView) -> None:
        name = view.symbol.lower()
        self.view = view
        self.trades: deque[Trade] = deque(maxlen=MAX_RECENT_TRADES)
        self.klines = Klines()
        self.depth_stream = f"{name}@depth@100ms"
        self.slow_depth_stream = f"{name}@depth"
        self.ticker_stream = f"{name}@bookTicker"
        self.trade_stream = f"{name}@trade"
        self.kline_stream = f"{name}@kline_{KLINE_STREAM_INTERVAL}"
        self.pending: DepthDiff | None = None
        self.slow_depth_ms = 0
        self.is_kline_changed = False

    def stream_names(self) -> tuple[str, ...]:
        return (
            self.depth_stream,
            self.slow_depth_stream,
            self.slow_depth_stream + "@1000ms",
            self.ticker_stream,
            self.trade_stream,
            self.kline_stream,
        )

    def best(self) -> tuple[Level, Level]:
        """The newest best bid and offer; (0, 0) for an empty side."""
        return self.view.best_displayed(Side.BUY) or (0, 0), self.view.best_displayed(Side.SELL) or (0, 0)


class Exchange:
    """Everything but the wire format of requests."""

    def __init__(
        self,
        source: MarketSource,
        books: tuple[StartBook, ...],
        storage: Storage,
        clock: Clock,
        on_fatal: Callable[[Exception], None],
    ) -> None:
        self.hub = Hub()
        self.source = source
        self.storage = storage
        self.account = Account(storage, self.hub, clock, source.symbols, on_fatal)
        self.symbols = {symbol: SymbolData(view) for symbol, view in self.account.matching.views.items()}
        self.account.start(books)
        for data in self.symbols.values():
            for name in data.stream_names():
                self.hub.add_public(name)

    def now_ms(self) -> int:
        return self.account.now_ms()

    def on_market(self, event: MarketEvent) -> None:
        """Take one market event: publish it, then let our resting orders meet it."""
        data = self.symbols[event.symbol]
        if isinstance(event, BookTicker):
            if self.hub.has(data.ticker_stream):
                self.hub.publish(data.ticker_stream, book_ticker_text(event))
        elif isinstance(event, Trade):
            self._on_trade(data, event)
        else:
            self._on_depth(data, event)
        self.account.on_market(event)

    def _on_trade(self, data: SymbolData, trade: Trade) -> None:
        data.trades.append(trade)
        closed = data.klines.add(trade)
        data.is_kline_changed = True
        if closed is not None:
            self._publish_kline(data, closed, is_closed=True)
        if self.hub.has(data.trade_stream):
            self.hub.publish(data.trade_stream, trade_text(trade))

    def _on_depth(self, data: SymbolData, diff: DepthDiff) -> None:
        if self.hub.has(data.depth_stream):
            self.hub.publish(data.depth_stream, depth_text(diff))
        slow = [name for name in data.stream_names()[1:3] if self.hub.has(name)]
        if not slow:
            data.pending = None
            return
        data.pending = diff if data.pending is None else merge_diffs(data.pending, diff)
        if diff.event_ms - data.slow_depth_ms >= SLOW_DEPTH_INTERVAL_MS:
            for name in slow:
                self.hub.publish(name, depth_text(data.pending))
            data.pending = None
            data.slow_depth_ms = diff.event_ms

    def _publish_kline(self, data: SymbolData, kline: Kline, *, is_closed: bool) -> None:
        if self.hub.has(data.kline_stream):
            event = kline_event(data.view.symbol, KLINE_STREAM_INTERVAL, MINUTE_MS, kline, self.now_ms(), is_closed)
            self.hub.publish(data.kline_stream, msgspec.json.encode(event).decode())

    async def keep_house(self) -> None:
        """Each second: klines that changed go out, an expired listen key is dropped."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_INTERVAL_S)
            self.account.expire_listen_key()
            for data in self.symbols.values():
                kline = data.klines.current()
                if data.is_kline_changed and kline is not None:
                    data.is_kline_changed = False
                    self._publish_kline(data, kline, is_closed=False)

    def describe_market(self) -> dict[str, Any]:
        return self.source.describe()


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
