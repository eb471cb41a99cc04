"""Market data of any exchange that ccxt streams, into a MarketHub.

ccxt keeps the book itself and checks sequences or checksums where its code for that exchange does; the raw messages are
not to be had. So this feed numbers the states that ccxt gives, hands the hub the difference from one to the next, and
holds what it can: crossed books, silence, a lost stream, and a REST snapshot now and then, compared where both state
the same sequence number. Use the Binance adapter for Binance: there every message is verified here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import structlog

from core.market.hub import MarketHub
from core.types.clock import NS_PER_MS, Clock
from core.types.instruments import Instrument
from core.types.market import BookTicker, DepthSnapshot, DepthUpdate, Level, Trade
from core.venues.binance.backoff import Backoff
from core.venues.ccxt.exchange import ask, ccxt_module, exact, explain, rounded_down, whole_id
from core.venues.ports import VenueUnavailableError

RECONNECT_BASE_S = 0.5
RECONNECT_CAP_S = 30.0
TICK_INTERVAL_S = 0.1
AUDIT_INTERVAL_S = 60.0
MAX_NONCES = 2_000
"""Numbered states whose best bid and offer is remembered for an audit."""

_log = structlog.get_logger("venues.ccxt.feed")


class CcxtFeedCounters(msgspec.Struct):
    """Since the start. audits counts REST snapshots, audits_compared those with the streamed book's own number."""

    books: int = 0
    trades: int = 0
    unreadable: int = 0
    reconnects: int = 0
    audits: int = 0
    audits_compared: int = 0
    audits_failed: int = 0


class CcxtMarketFeed:
    """Feeds books and trades of `symbols` (unified, `BTC/USDT`) into hub until told to stop.

    on_update is called with the symbol after each change; it has to be cheap and must not raise.
    """

    def __init__(
        self,
        exchange: Any,
        hub: MarketHub,
        symbols: Sequence[str],
        clock: Clock,
        on_update: Callable[[str], None] | None = None,
        *,
        audit_interval_s: float = AUDIT_INTERVAL_S,
    ) -> None:
        if not exchange.has.get("watchOrderBook"):
            raise VenueUnavailableError(f"{exchange.id}: ccxt streams no order books of this exchange")
        self._exchange = exchange
        self._hub = hub
        self._clock = clock
        self._on_update = on_update
        self._audit_interval_s = audit_interval_s
        self._books = {symbol: _StreamedBook(hub.instrument(symbol)) for symbol in symbols}
        self.counters = CcxtFeedCounters()

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until stop is set; each symbol reconnects by itself, with exponential backoff and full jitter."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._tick_forever())]
            for book in self._books.values():
                tasks.append(group.create_task(self._follow(book)))
                tasks.append(group.create_task(self._audit_forever(book)))
                if self._exchange.has.get("watchTrades"):
                    tasks.append(group.create_task(self._follow_trades(book.instrument)))
            try:
                await stop.wait()
            finally:
                for task in tasks:
                    task.cancel()

    async def _follow(self, book: _StreamedBook) -> None:
        ccxt = ccxt_module()
        symbol = book.instrument.symbol
        backoff = Backoff(RECONNECT_BASE_S, RECONNECT_CAP_S)
        while True:
            opened = False
            try:
                while True:
                    state = await self._exchange.watch_order_book(symbol)
                    if not opened:
                        opened = True
                        self._hub.on_stream_opened((symbol,))
                        book.restart()
                    self._take(book, state)
                    backoff.reset()
            except (ccxt.BaseError, OSError, TimeoutError, ValueError) as error:
                self.counters.reconnects += 1
                self.counters.unreadable += isinstance(error, ValueError)
                _log.warning("market_stream_lost", venue=self._exchange.id, symbol=symbol, error=explain(error))
            finally:
                if opened:
                    self._hub.on_stream_closed((symbol,))
            await asyncio.sleep(backoff.next_s())

    def _take(self, book: _StreamedBook, state: Any) -> None:
        """Raises ValueError for a state that can't be read; the book is then made anew."""
        now_ns = self._clock.now_ns()
        for message in book.messages(state, now_ns):
            if isinstance(message, DepthSnapshot):
                self._hub.on_snapshot(message)
            elif isinstance(message, DepthUpdate):
                self._hub.on_depth(message)
            else:
                self._hub.on_book_ticker(message)
        self.counters.books += 1
        if self._on_update is not None:
            self._on_update(book.instrument.symbol)

    async def _follow_trades(self, instrument: Instrument) -> None:
        ccxt = ccxt_module()
        backoff = Backoff(RECONNECT_BASE_S, RECONNECT_CAP_S)
        while True:
            try:
                while True:
                    for body in await self._exchange.watch_trades(instrument.symbol):
                        self._hub.on_trade(_trade_of(body, instrument, self._clock.now_ns()))
                        self.counters.trades += 1
                    backoff.reset()
            except (ccxt.BaseError, OSError, TimeoutError) as error:
                _log.warning("trade_stream_lost", venue=self._exchange.id, error=explain(error))
            except (ValueError, KeyError, TypeError) as error:
                self.counters.unreadable += 1
                _log.error("trade_unreadable", venue=self._exchange.id, error=explain(error))
            await asyncio.sleep(backoff.next_s())

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_INTERVAL_S)
            self._hub.on_time()

    async def _audit_forever(self, book: _StreamedBook) -> None:
        """Hold the streamed book against REST, where both carry a number and it is the same."""
        symbol = book.instrument.symbol
        while True:
            await asyncio.sleep(self._audit_interval_s)
            try:
                body = await ask(self._exchange, "fetch_order_book", lambda: self._exchange.fetch_order_book(symbol))
            except VenueUnavailableError as error:
                _log.warning("audit_failed", symbol=symbol, error=str(error))
                continue
            self.counters.audits += 1
            expected = book.best_at(body.get("nonce"))
            if expected is None:
                continue
            self.counters.audits_compared += 1
            found = _best(_levels(body["bids"], book.instrument), _levels(body["asks"], book.instrument))
            if found != expected:
                self.counters.audits_failed += 1
                _log.error("book_disagrees_with_rest", venue=self._exchange.id, symbol=symbol)
                self._hub.on_stream_closed((symbol,))
                self._hub.on_stream_opened((symbol,))
                book.restart()


class _StreamedBook:
    """The states that ccxt gives of one book, as messages with numbers of our own."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self._number = 0
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._is_begun = False
        self._best_by_nonce: dict[int, tuple[Level, Level] | None] = {}

    def restart(self) -> None:
        """The next state is a snapshot."""
        self._is_begun = False
        self._best_by_nonce.clear()

    def messages(self, state: Any, now_ns: int) -> Iterable[DepthSnapshot | DepthUpdate | BookTicker]:
        """What leads from the last state to this one. Raises ValueError for levels that lie on no step."""
        bids, asks = _levels(state["bids"], self.instrument), _levels(state["asks"], self.instrument)
        symbol, event_ns = self.instrument.symbol, int(state.get("timestamp") or 0) * NS_PER_MS or now_ns
        self._number += 1
        found: list[DepthSnapshot | DepthUpdate | BookTicker] = []
        changed_bids: tuple[Level, ...] = ()
        changed_asks: tuple[Level, ...] = ()
        if self._is_begun:
            changed_bids, changed_asks = _changes(self._bids, bids), _changes(self._asks, asks)
        else:
            # What ccxt shows is all there is to know; the number after it makes the book LIVE.
            found.append(
                DepthSnapshot(
                    symbol, self._number, tuple(bids.items()), tuple(asks.items()), event_ns, now_ns, is_complete=True
                )
            )
            self._number += 1
            self._is_begun = True
        self._bids, self._asks = bids, asks
        found.append(DepthUpdate(symbol, self._number, self._number, changed_bids, changed_asks, event_ns, now_ns))
        best = _best(bids, asks)
        if best is not None:
            # Under the number before: made of the same state, it confirms nothing and must not be compared with it.
            found.append(BookTicker(symbol, self._number - 1, *best[0], *best[1], event_ns, now_ns))
        nonce = state.get("nonce")
        if nonce is not None:
            self._best_by_nonce[int(nonce)] = best
            if len(self._best_by_nonce) > MAX_NONCES:
                del self._best_by_nonce[next(iter(self._best_by_nonce))]
        return found

    def best_at(self, nonce: Any) -> tuple[Level, Level] | None:
        """Best bid and ask at the venue's own number, if that state was seen."""
        return None if nonce is None else self._best_by_nonce.get(int(nonce))


def _levels(levels: Iterable[Sequence[Any]], instrument: Instrument) -> dict[int, int]:
    price_scale, quantity_scale = instrument.price_scale, instrument.quantity_scale
    # Quantities below the step exist in books (see wire.market_quantity); rounded down they promise nothing.
    found = {exact(level[0], price_scale): rounded_down(level[1], quantity_scale) for level in levels}
    return {price: quantity for price, quantity in found.items() if quantity}


def _changes(before: dict[int, int], after: dict[int, int]) -> tuple[Level, ...]:
    changed = [(price, quantity) for price, quantity in after.items() if before.get(price) != quantity]
    return (*changed, *((price, 0) for price in before if price not in after))


def _best(bids: dict[int, int], asks: dict[int, int]) -> tuple[Level, Level] | None:
    if not bids or not asks:
        return None
    bid, ask = max(bids), min(asks)
    return (bid, bids[bid]), (ask, asks[ask])


def _trade_of(body: Any, instrument: Instrument, now_ns: int) -> Trade:
    return Trade(
        instrument.symbol,
        whole_id(str(body["id"])),
        exact(body["price"], instrument.price_scale),
        rounded_down(body["amount"], instrument.quantity_scale),
        body.get("side") == "sell",
        int(body["timestamp"]) * NS_PER_MS,
        now_ns,
    )
