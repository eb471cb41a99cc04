"""A real venue's live market as the paper venue's own: real prices and flow, orders that never leave this machine.

The streams go through the same verified books as the engine's (core.market): what isn't verified isn't published. After
a gap or a lost connection one diff leads from the book that was published last to the one that is verified again, so
that those who follow the paper venue see an unbroken sequence.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2

from core.market.hub import MarketHub
from core.market.sync import BookState, StateChanged, SyncOutput
from core.types.clock import NS_PER_MS, Clock
from core.types.instruments import Instrument
from core.types.market import BookTicker, DepthUpdateLike, Trade
from core.venues.binance.feed import BinanceMarketFeed
from core.venues.binance.frames import FrameError, FrameReader
from core.venues.binance.rest import BinanceRest
from core.venues.paper import events
from core.venues.paper.book import LevelBook
from core.venues.paper.decimals import SCALE, UNIT
from core.venues.paper.errors import MarketSourceError, PaperVenueError
from core.venues.paper.rules import RULES

LIVE_PREFIX = "live:"
STALE_AFTER_MS = 5_000
DEPTH_LIMIT_LEVELS = 1_000
OPEN_TIMEOUT_S = 10.0
LARGEST_QUANTITY = 2**62


class LiveMarket:
    """Follows a Binance-compatible venue's public streams. symbols have to be listed here (core.venues.paper.rules)."""

    def __init__(self, symbols: tuple[str, ...], rest_url: str, websocket_url: str, clock: Clock) -> None:
        unknown = [symbol for symbol in symbols if symbol not in RULES]
        if unknown or not symbols:
            raise MarketSourceError(
                f"live market: {', '.join(unknown) or 'no symbol'} can't be followed; give symbols out of "
                f"{', '.join(RULES)} as live:<symbol>[,<symbol>...]"
            )
        self._symbols = symbols
        self._rest_url = rest_url.rstrip("/")
        self._websocket_url = websocket_url
        self._clock = clock
        self._books = {symbol: LevelBook() for symbol in symbols}
        self._instruments = {symbol: _instrument(symbol) for symbol in symbols}
        self._hub: _PublishingHub | None = None

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    def open(self) -> tuple[events.StartBook, ...]:
        """The books as the venue's REST interface gives them now. Raises PaperVenueError when it can't be reached."""
        reader = FrameReader()
        books = []
        with httpx2.Client(timeout=OPEN_TIMEOUT_S) as client:
            for symbol, instrument in self._instruments.items():
                reader.add(instrument)
                url = f"{self._rest_url}/api/v3/depth"
                try:
                    answer = client.get(url, params={"symbol": symbol, "limit": DEPTH_LIMIT_LEVELS})
                    answer.raise_for_status()
                    snapshot = reader.read_snapshot(answer.content, symbol, DEPTH_LIMIT_LEVELS, self._clock.now_ns())
                except (httpx2.HTTPError, FrameError) as error:
                    raise PaperVenueError(
                        f"live market: no book of {symbol} from {url}: {error or type(error).__name__}. "
                        "Is there a way to the venue from here? `--market synthetic` needs none."
                    ) from error
                start = events.StartBook(symbol, snapshot.last_update_id, snapshot.bids, snapshot.asks)
                self._books[symbol].load(start)
                books.append(start)
        return tuple(books)

    async def play(self, publish: events.Publish) -> None:
        """Follow the venue until cancelled; a lost connection is made again."""
        hub = self._hub = _PublishingHub(self._instruments, self._books, self._clock, publish)
        rest = BinanceRest(self._rest_url, self._clock)
        try:
            feed = BinanceMarketFeed(self._websocket_url, rest, hub, self._symbols, self._clock)
            await feed.run(asyncio.Event())
        finally:
            await rest.aclose()

    def describe(self) -> dict[str, Any]:
        return {
            "source": "live",
            "venue": self._rest_url,
            "symbols": list(self._symbols),
            "books": {} if self._hub is None else self._hub.book_states(),
        }


class _PublishingHub(MarketHub):
    """Verified books, published as they change."""

    def __init__(
        self,
        instruments: dict[str, Instrument],
        books: dict[str, LevelBook],
        clock: Clock,
        publish: events.Publish,
    ) -> None:
        self._published = books
        self._publish = publish
        self._followed: dict[str, object] = {}
        super().__init__(
            instruments.values(),
            clock,
            STALE_AFTER_MS,
            on_state_changed=self._forget,
        )

    def _forget(self, change: StateChanged) -> None:
        self._followed.pop(change.symbol, None)

    def on_depth(self, update: DepthUpdateLike) -> tuple[SyncOutput, ...]:
        outputs = super().on_depth(update)
        symbol = update.symbol
        sync = self._market(symbol).sync
        published = self._published[symbol]
        book_id = sync.book.last_update_id
        if sync.state is not BookState.LIVE or book_id <= published.last_id:
            return outputs
        bids, asks = update.bids, update.asks
        if self._followed.get(symbol) is not sync.book or book_id != update.last_update_id:
            # Another book than the one that was published: lead from there to here in one step.
            self._followed[symbol] = sync.book
            known_bids, known_asks = sync.book.top(2**31 - 1)
            bids = _difference(published.bids, dict(known_bids))
            asks = _difference(published.asks, dict(known_asks))
        event_ms = update.ts_event_ns // NS_PER_MS
        diff = events.DepthDiff(symbol, event_ms, published.last_id + 1, book_id, bids, asks)
        published.apply(diff)
        self._publish(diff)
        return outputs

    def on_book_ticker(self, ticker: BookTicker) -> tuple[SyncOutput, ...]:
        outputs = super().on_book_ticker(ticker)
        if self._market(ticker.symbol).ticker is ticker:
            self._publish(
                events.BookTicker(
                    ticker.symbol,
                    ticker.update_id,
                    ticker.bid_price,
                    ticker.bid_quantity,
                    ticker.ask_price,
                    ticker.ask_quantity,
                )
            )
        return outputs

    def on_trade(self, trade: Trade) -> None:
        super().on_trade(trade)
        if self._market(trade.symbol).last_trade is trade:
            event_ms = trade.ts_event_ns // NS_PER_MS
            self._publish(
                events.Trade(
                    trade.symbol,
                    event_ms,
                    event_ms,
                    trade.trade_id,
                    trade.price,
                    trade.quantity,
                    trade.is_buyer_maker,
                )
            )


def _difference(before: dict[int, int], after: dict[int, int]) -> tuple[events.Level, ...]:
    changed = [(price, quantity) for price, quantity in after.items() if before.get(price) != quantity]
    gone = [(price, 0) for price in before if price not in after]
    return tuple(sorted(changed + gone))


def _instrument(symbol: str) -> Instrument:
    """The symbol at the paper venue's own scale."""
    rules = RULES[symbol]
    return Instrument("live", symbol, rules.base, rules.quote, SCALE, SCALE, 1, 1, 1, LARGEST_QUANTITY, 1 * UNIT)
