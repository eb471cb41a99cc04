"""Market data out to NATS: tickers and last trades, throttled, the latest wins; and each change of a book's state."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from core.market.sync import StateChanged
from core.runtime.messages import plain
from core.runtime.service import EngineService
from core.types.codes import RefusalError
from core.types.money import decimal_text
from core.types.views import TickerView

PUBLISH_INTERVAL_S = 0.1


class MarketBus(Protocol):
    """MUST NOT block or raise."""

    def publish_market(self, venue: str, symbol: str, kind: str, payload: bytes) -> None: ...


class MarketPublisher:
    """Turns what changed since the last look into messages, each symbol at most once in PUBLISH_INTERVAL_S."""

    def __init__(self, service: EngineService, bus: MarketBus, venue: str) -> None:
        self._service = service
        self._bus = bus
        self._venue = venue
        self._changed: set[str] = set()

    def updated(self, symbol: str) -> None:
        """Called for every ticker and trade: it only takes a note."""
        self._changed.add(symbol)

    def state_changed(self, change: StateChanged) -> None:
        """A book became LIVE or STALE: told at once, each time."""
        body = {
            "symbol": change.symbol,
            "previous": change.previous.value,
            "current": change.current.value,
            "reason": None if change.reason is None else change.reason.value,
            "ts_ns": change.ts_ns,
        }
        self._bus.publish_market(self._venue, change.symbol, "book_state", msgspec.json.encode(body))

    async def run(self) -> None:
        while True:
            await asyncio.sleep(PUBLISH_INTERVAL_S)
            changed, self._changed = self._changed, set()
            for symbol in changed:
                try:
                    ticker = self._service.hub.ticker(symbol)
                except RefusalError:
                    continue
                self._publish(ticker)

    def _publish(self, ticker: TickerView) -> None:
        body = msgspec.json.encode(plain(ticker))
        self._bus.publish_market(self._venue, ticker.symbol, "ticker", body)
        if ticker.last_price is not None and ticker.last_quantity is not None:
            trade = {
                "symbol": ticker.symbol,
                "price": decimal_text(ticker.last_price),
                "quantity": decimal_text(ticker.last_quantity),
                "as_of_ns": ticker.as_of_ns,
            }
            self._bus.publish_market(self._venue, ticker.symbol, "trade", msgspec.json.encode(trade))
