"""The exchange behind the wire: market data as published, the account, and who hears of what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from core.types.clock import Clock
from core.venues.paper.accounts import Account
from core.venues.paper.events import BookTicker, DepthDiff, MarketEvent, MarketSource, StartBook, Trade
from core.venues.paper.storage import Storage
from core.venues.paper.streams import DEFAULT_CONNECTION_LIFE_S, Hub
from core.venues.paper.streams_market import AllMarkets, SymbolData, merge_diffs

__all__ = ["Exchange", "SymbolData", "merge_diffs"]

HOUSEKEEPING_INTERVAL_S = 1.0


class Exchange:
    """Everything but the wire format of requests."""

    def __init__(
        self,
        source: MarketSource,
        books: tuple[StartBook, ...],
        storage: Storage,
        clock: Clock,
        on_fatal: Callable[[Exception], None],
        connection_life_s: float = DEFAULT_CONNECTION_LIFE_S,
    ) -> None:
        self.hub = Hub(connection_life_s)
        self.source = source
        self.storage = storage
        self.account = Account(storage, self.hub, clock, source.symbols, on_fatal)
        matching = self.account.matching
        self.symbols = {
            symbol: SymbolData(view, self.hub, matching.averages[symbol]) for symbol, view in matching.views.items()
        }
        self._all_markets = AllMarkets(self.hub, self.symbols)
        self.account.start(books)

    def now_ms(self) -> int:
        return self.account.now_ms()

    def on_market(self, event: MarketEvent) -> None:
        """Take one market event: let the account meet it, and publish it."""
        data = self.symbols[event.symbol]
        if isinstance(event, BookTicker):
            data.on_ticker(event)
        elif isinstance(event, Trade):
            data.on_trade(event, self.now_ms())
        else:
            data.on_depth(event)
        self.account.on_market(event)
        if isinstance(event, DepthDiff):
            data.after_depth(event)

    async def keep_house(self) -> None:
        """Each second: what changed of klines and tickers goes out, an expired listen key is dropped."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_INTERVAL_S)
            self.account.expire_listen_key()
            now_ms = self.now_ms()
            self._all_markets.each_second(now_ms)
            for symbol, data in self.symbols.items():
                data.each_second(now_ms, self.account.matching.average_price(symbol))

    def describe_market(self) -> dict[str, Any]:
        return self.source.describe()
