"""The market of every instrument as the engine knows it: messages in, views out.

Messages come from a feed and carry ints at the instrument's scales. What the feed has to do next (fetch a snapshot)
and what changed comes back as core.market.sync values; nothing here performs I/O. Readers get core.types.views, and a
book that is not verified at this moment is never shown as LIVE (I6).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import islice
from typing import NamedTuple

import msgspec

from core.market.estimate import Best, Sweep, estimate, mid_price
from core.market.health import FeedMeter
from core.market.klines import Kline, KlineSeries, interval_minutes
from core.market.sync import NOTHING, BookState, DepthSync, StaleReason, StateChanged, SyncCounters, SyncOutput
from core.types.clock import NS_PER_MS, NS_PER_S, Clock
from core.types.codes import ReasonCode, refuse
from core.types.events import MarketInputs
from core.types.instruments import Instrument
from core.types.market import BookTicker, DepthSnapshotLike, DepthUpdateLike, Level, Trade
from core.types.money import decimal_text, from_scaled, to_scaled
from core.types.orders import Side
from core.types.views import (
    ExecutionEstimateView,
    FeedHealthView,
    KlineView,
    LevelView,
    OrderBookView,
    TickerView,
    TradeView,
)

MAX_BOOK_DEPTH = 1_000
MAX_KLINES = 1_000
KLINE_HISTORY_BARS = 4_320
"""One-minute bars kept for each symbol: three days, about 1 MB."""
TRADES_KEPT = 500
"""The newest public trades of each symbol, for those who ask to see them."""
KLINE_GRACE_NS = 2 * NS_PER_S
"""How long after a minute's end its trades may still come in while other streams are already past it."""
NO_BOOK_AGE_MS = 2**31 - 1
"""The age of a book that never had a message: older than any limit."""


class SymbolCounters(msgspec.Struct, frozen=True):
    """Of one symbol, since the start. trades_missed are the trade ids that never came; trades_late came after their
    minute had closed and are in no bar."""

    sync: SyncCounters
    trades_missed: int
    trades_late: int
    trades_repeated: int


class ScaledBook(NamedTuple):
    """A book's best levels at one moment, at the instrument's scales. stale_reason: None when it is LIVE."""

    state: BookState
    stale_reason: str | None
    last_update_id: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


SWEEP_ALL = (1 << 63) - 1
Texts = tuple[str | None, str | None, str | None, str | None]


class _SymbolMarket:
    __slots__ = (
        "_texts",
        "_texts_of",
        "instrument",
        "klines",
        "last_trade",
        "meter",
        "missed",
        "repeated",
        "sync",
        "ticker",
        "trade_id",
        "trades",
    )

    def __init__(self, instrument: Instrument, stale_after_ms: int) -> None:
        self.instrument = instrument
        self.sync = DepthSync(instrument.symbol, stale_after_ms)
        self.klines = KlineSeries(KLINE_HISTORY_BARS)
        self.meter = FeedMeter()
        self.ticker: BookTicker | None = None
        self.last_trade: Trade | None = None
        self.trade_id = 0
        self.trades: deque[Trade] = deque(maxlen=TRADES_KEPT)
        self.missed = 0
        self.repeated = 0
        self._texts: Texts = (None, None, None, None)
        self._texts_of: tuple[tuple[int, int, int, int] | None, int | None, int] = (None, None, -1)

    def texts(self, best: tuple[int, int, int, int] | None) -> Texts:
        """Bid, ask, mid and last trade as decimal text: orders ask for them more often than they change."""
        scale = self.instrument.price_scale
        last = None if self.last_trade is None else self.last_trade.price
        if self._texts_of != (best, last, scale):
            bid = ask = mid = None
            if best is not None:
                bid, ask = (decimal_text(from_scaled(price, scale)) for price in (best[0], best[2]))
                mid = decimal_text(mid_price(Best(*best), scale))
            self._texts = bid, ask, mid, None if last is None else decimal_text(from_scaled(last, scale))
            self._texts_of = best, last, scale
        return self._texts


class MarketHub:
    """Books, tickers, trades and klines by symbol.

    stale_after_ms: a book without a depth message, or a ticker that nothing confirmed, for longer than this is stale.
    on_state_changed is called with every change of a book's state.

    Every method that names a symbol raises RefusalError(MARKET_INSTRUMENT_UNKNOWN) for one that isn't held here.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        clock: Clock,
        stale_after_ms: int,
        on_state_changed: Callable[[StateChanged], None] | None = None,
    ) -> None:
        assert stale_after_ms > 0
        self._clock = clock
        self._stale_after_ms = stale_after_ms
        self._stale_after_ns = stale_after_ms * NS_PER_MS
        self._on_state_changed = on_state_changed
        self._markets = {item.symbol: _SymbolMarket(item, stale_after_ms) for item in instruments}
        self._clock_offset_ms: int | None = None

    def stale_after(self, stale_after_ms: int) -> None:
        """From here on; books keep their state until silence or a message says otherwise."""
        assert stale_after_ms > 0
        if stale_after_ms == self._stale_after_ms:
            return
        self._stale_after_ms = stale_after_ms
        self._stale_after_ns = stale_after_ms * NS_PER_MS
        for market in self._markets.values():
            market.sync.stale_after(stale_after_ms)

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._markets)

    def instrument(self, symbol: str) -> Instrument:
        return self._market(symbol).instrument

    def add(self, instrument: Instrument) -> None:
        """Follow one more instrument; one that is followed already keeps its book, under the rules given now."""
        market = self._markets.get(instrument.symbol)
        if market is None:
            self._markets[instrument.symbol] = _SymbolMarket(instrument, self._stale_after_ms)
            return
        known = market.instrument
        assert (known.price_scale, known.quantity_scale) == (instrument.price_scale, instrument.quantity_scale)
        market.instrument = instrument

    def remove(self, symbol: str) -> None:
        """Forget an instrument and its book."""
        self._market(symbol)
        del self._markets[symbol]

    # what the feed tells

    def on_stream_opened(self, symbols: Iterable[str]) -> tuple[SyncOutput, ...]:
        """The streams of these symbols start (again)."""
        now_ns = self._clock.now_ns()
        outputs: tuple[SyncOutput, ...] = NOTHING
        for market in map(self._market, symbols):
            market.ticker = None
            market.trade_id = 0
            outputs += self._told(market.sync.on_stream_opened(now_ns))
        return outputs

    def on_stream_closed(self, symbols: Iterable[str]) -> tuple[SyncOutput, ...]:
        """The streams of these symbols ended."""
        now_ns = self._clock.now_ns()
        outputs: tuple[SyncOutput, ...] = NOTHING
        for market in map(self._market, symbols):
            market.klines.on_interrupted()
            outputs += self._told(market.sync.on_stream_closed(now_ns))
        return outputs

    def set_clock_offset_ms(self, offset_ms: int) -> None:
        """The venue's clock less ours, as estimated over REST: exchange latencies are corrected by it."""
        self._clock_offset_ms = offset_ms

    def on_snapshot(self, snapshot: DepthSnapshotLike) -> tuple[SyncOutput, ...]:
        return self._told(self._market(snapshot.symbol).sync.on_snapshot(snapshot))

    def on_depth(self, update: DepthUpdateLike) -> tuple[SyncOutput, ...]:
        market = self._market(update.symbol)
        event_ns = update.ts_event_ns
        meter = market.meter
        meter.messages += 1
        meter.on_latency(update.ts_init_ns - event_ns)
        market.klines.advance_to(event_ns - KLINE_GRACE_NS)
        outputs = market.sync.on_depth(update)
        return self._told(outputs) if outputs else outputs

    def on_book_ticker(self, ticker: BookTicker) -> tuple[SyncOutput, ...]:
        market = self._market(ticker.symbol)
        market.meter.messages += 1
        held = market.ticker
        if held is not None and ticker.update_id < held.update_id:
            return NOTHING
        market.ticker = ticker
        outputs = market.sync.on_book_ticker(ticker)
        return self._told(outputs) if outputs else outputs

    def on_trade(self, trade: Trade) -> None:
        market = self._market(trade.symbol)
        market.meter.messages += 1
        previous_id = market.trade_id
        if trade.trade_id <= previous_id:
            market.repeated += 1
            return
        if previous_id:
            market.missed += trade.trade_id - previous_id - 1
        market.trade_id = trade.trade_id
        market.last_trade = trade
        market.trades.append(trade)
        market.klines.on_trade(trade.price, trade.quantity, trade.ts_event_ns, trade.is_buyer_maker, trade.trade_id)

    def seed_klines(self, symbol: str, bars: Iterable[Kline]) -> None:
        """Take over the venue's own closed one-minute bars: of the time before the first trade, or of `kline_holes`."""
        self._market(symbol).klines.seed(bars)

    def kline_holes(self, symbol: str) -> list[tuple[int, int]]:
        """The stretches (from_ns, until_ns) of closed minutes of which trades may be missing."""
        return self._market(symbol).klines.holes()

    def on_time(self) -> tuple[SyncOutput, ...]:
        """To be called a few times within stale_after_ms, so that silence leads to a resync."""
        now_ns = self._clock.now_ns()
        outputs: tuple[SyncOutput, ...] = NOTHING
        for market in self._markets.values():
            market.meter.on_time(now_ns)
            told = market.sync.on_time(now_ns)
            if told:
                outputs += self._told(told)
        return outputs

    def needs_snapshot(self, symbol: str) -> bool:
        """Whether a fetch that failed is to be repeated."""
        return self._market(symbol).sync.needs_snapshot

    # what readers ask

    def ticker(self, symbol: str) -> TickerView:
        """Best bid and offer of the bookTicker stream, with its update id.

        as_of_ns is when it was last confirmed: when it arrived, or when a verified depth message later than it left the
        same best bid and offer (a quiet market sends no tickers). Raises RefusalError(MARKET_NO_DATA) when there is
        none, or none confirmed within stale_after_ms.
        """
        market = self._market(symbol)
        ticker = market.ticker
        now_ns = self._clock.now_ns()
        as_of_ns = 0 if ticker is None else self._confirmed_ns(market, ticker, now_ns)
        if ticker is None or now_ns - as_of_ns > self._stale_after_ns:
            age_ms = (now_ns - as_of_ns) // NS_PER_MS
            raise refuse(
                ReasonCode.MARKET_NO_DATA,
                f"No best bid and offer of {symbol} was confirmed within {self._stale_after_ms} ms; "
                "ask again when the market data connection is back.",
                limit=str(self._stale_after_ms),
                actual=None if ticker is None else str(age_ms),
                unit="ms",
            )
        price_scale, quantity_scale = market.instrument.price_scale, market.instrument.quantity_scale
        last = market.last_trade
        return TickerView(
            symbol=symbol,
            bid_price=from_scaled(ticker.bid_price, price_scale),
            bid_quantity=from_scaled(ticker.bid_quantity, quantity_scale),
            ask_price=from_scaled(ticker.ask_price, price_scale),
            ask_quantity=from_scaled(ticker.ask_quantity, quantity_scale),
            update_id=ticker.update_id,
            last_price=None if last is None else from_scaled(last.price, price_scale),
            last_quantity=None if last is None else from_scaled(last.quantity, quantity_scale),
            ts_event_ns=ticker.ts_event_ns,
            as_of_ns=as_of_ns,
        )

    def last_trade(self, symbol: str) -> Trade | None:
        """The trade that was seen last, None before the first."""
        return self._market(symbol).last_trade

    def trades(self, symbol: str, limit: int) -> list[TradeView]:
        """The newest `limit` public trades that were seen, oldest first.

        Raises RefusalError: REQUEST_INVALID unless 1 <= limit <= TRADES_KEPT, MARKET_NO_DATA before the first trade.
        """
        market = self._market(symbol)
        _check_range("limit", limit, TRADES_KEPT)
        if not market.trades:
            raise refuse(ReasonCode.MARKET_NO_DATA, f"No trade of {symbol} has been seen yet; ask again in a moment.")
        newest = list(islice(reversed(market.trades), limit))
        return [_trade_view(trade, market.instrument) for trade in reversed(newest)]

    def order_book(self, symbol: str, depth: int) -> OrderBookView:
        """At most depth levels a side. A book that is not LIVE is shown with its last levels, its state and the reason.

        Raises RefusalError(REQUEST_INVALID) unless 1 <= depth <= MAX_BOOK_DEPTH.
        """
        _check_range("depth", depth, MAX_BOOK_DEPTH)
        market = self._market(symbol)
        book = self.scaled_book(symbol, depth)
        return OrderBookView(
            symbol=symbol,
            state=book.state,
            stale_reason=book.stale_reason,
            last_update_id=book.last_update_id,
            bids=_levels(book.bids, market.instrument),
            asks=_levels(book.asks, market.instrument),
            as_of_ns=market.sync.last_depth_ns or self._clock.now_ns(),
        )

    def scaled_book(self, symbol: str, depth: int) -> ScaledBook:
        """As `order_book`, with prices and quantities as ints at the instrument's scales."""
        sync = self._market(symbol).sync
        state, reason = sync.state_at(self._clock.now_ns())
        bids, asks = sync.book.top(depth)
        shown_reason = None if state is BookState.LIVE else (reason or BookState.SYNCING)
        return ScaledBook(state, shown_reason, sync.book.last_update_id, bids, asks)

    def known_range(self, symbol: str) -> tuple[int | None, int | None]:
        """The lowest bid and the highest ask price, at the price scale, down and up to which the book knows every
        level; None where it knows the whole side."""
        book = self._market(symbol).sync.book
        return book.bid_floor, book.ask_ceiling

    def klines(self, symbol: str, interval: str, limit: int) -> list[KlineView]:
        """The last `limit` bars, oldest first; the last may be forming. Closed bars are whole or left out.

        Raises RefusalError: REQUEST_INVALID for an interval or limit out of range, MARKET_NO_DATA before the first
        trade.
        """
        market = self._market(symbol)
        _check_range("limit", limit, MAX_KLINES)
        try:
            minutes = interval_minutes(interval)
        except ValueError as error:
            raise refuse(ReasonCode.REQUEST_INVALID, f"{error}.") from error
        bars = market.klines.bars(minutes, limit)
        if not bars:
            raise refuse(ReasonCode.MARKET_NO_DATA, f"No trade of {symbol} has been seen yet; ask again in a moment.")
        return [_kline_view(bar, market.instrument) for bar in bars]

    def estimate_execution(self, symbol: str, side: Side, quantity: Decimal) -> ExecutionEstimateView:
        """Sweep the live book with a quantity. complete is False when the book holds less.

        Raises RefusalError: MARKET_BOOK_STALE when the book is not LIVE, MARKET_NO_DATA when a side is empty,
        REQUEST_INVALID for a quantity that is not positive or has more places than the instrument.
        """
        market = self._market(symbol)
        instrument = market.instrument
        try:
            scaled = to_scaled(quantity, instrument.quantity_scale) if quantity.is_finite() else 0
        except ValueError:
            scaled = 0
        if scaled <= 0:
            raise refuse(
                ReasonCode.REQUEST_INVALID,
                f"The quantity of {symbol} must be positive with at most {instrument.quantity_scale} decimal places.",
                actual=str(quantity)[:64],
            )
        now_ns = self._clock.now_ns()
        state, reason = market.sync.state_at(now_ns)
        if state is not BookState.LIVE:
            raise self._stale(market, state, reason, now_ns)
        book = market.sync.book
        best = book.best()
        if best is None:
            raise refuse(ReasonCode.MARKET_NO_DATA, f"The book of {symbol} has an empty side; there is no mid price.")
        sweep = Sweep(*book.sweep(side is Side.BUY, scaled))
        return estimate(instrument, side, scaled, Best(*best), sweep, market.sync.last_depth_ns)

    def market_inputs(self, symbol: str, now_ns: int | None = None) -> MarketInputs:
        """What a risk decision is made on, at a time of the hub's. Prices are None unless the book is LIVE: an
        unverified price is none."""
        market = self._market(symbol)
        if now_ns is None:
            now_ns = self._clock.now_ns()
        state, _ = market.sync.state_at(now_ns)
        best = market.sync.book.best() if state is BookState.LIVE else None
        last_ns = market.sync.last_depth_ns
        bid, ask, mid, last = market.texts(best)
        return MarketInputs(
            bid_price=bid,
            ask_price=ask,
            mid_price=mid,
            book_state=state,
            book_update_id=market.sync.book.last_update_id,
            book_age_ms=max(0, (now_ns - last_ns) // NS_PER_MS) if last_ns else NO_BOOK_AGE_MS,
            last_price=last,
        )

    def visible_quantity(self, symbol: str, side: Side, now_ns: int) -> Decimal | None:
        """All that a taker on this side could meet in the live book, at a time of the hub's; None when the book isn't
        LIVE."""
        market = self._market(symbol)
        if not market.sync.is_live_at(now_ns):
            return None
        filled = market.sync.book.sweep(side is Side.BUY, SWEEP_ALL)[0]
        return from_scaled(filled, market.instrument.quantity_scale)

    def mark_price(self, symbol: str) -> Decimal | None:
        """Mid of the live book, else of a ticker that isn't stale, else None."""
        market = self._market(symbol)
        now_ns = self._clock.now_ns()
        best = market.sync.book.best() if market.sync.is_live_at(now_ns) else None
        ticker = market.ticker
        if best is None and ticker is not None and now_ns - ticker.ts_init_ns <= self._stale_after_ns:
            best = (ticker.bid_price, ticker.bid_quantity, ticker.ask_price, ticker.ask_quantity)
        return None if best is None else mid_price(Best(*best), market.instrument.price_scale)

    def now_ns(self) -> int:
        """The time that this hub goes by."""
        return self._clock.now_ns()

    def mark_scaled(self, symbol: str, now_ns: int) -> int | None:
        """The mark price at a time of the hub's, at the instrument's price_scale, half a unit rounded to even.

        None also for an unknown symbol.
        """
        # Orders ask for many of these: each call less counts.
        market = self._markets.get(symbol)
        if market is None:
            return None
        sync = market.sync
        best = sync.book.best() if sync.is_live_at(now_ns) else None
        if best is not None:
            both = best[0] + best[2]
        else:
            ticker = market.ticker
            if ticker is None or now_ns - ticker.ts_init_ns > self._stale_after_ns:
                return None
            both = ticker.bid_price + ticker.ask_price
        half = both >> 1
        return half + (half & both & 1)

    def book_states(self) -> dict[str, str]:
        """Each symbol's state at this moment."""
        now_ns = self._clock.now_ns()
        return {symbol: market.sync.state_at(now_ns)[0].value for symbol, market in self._markets.items()}

    def feed_health(self, symbol: str) -> FeedHealthView:
        """How far this symbol's data can be trusted at this moment."""
        market = self._market(symbol)
        now_ns = self._clock.now_ns()
        sync, meter, offset_ms = market.sync, market.meter, self._clock_offset_ms
        state, reason = sync.state_at(now_ns)
        ticker_ns = None if market.ticker is None else self._confirmed_ns(market, market.ticker, now_ns)
        counters = sync.counters
        return FeedHealthView(
            symbol=symbol,
            book_state=state.value,
            stale_reason=None if reason is None else reason.value,
            book_age_ms=max(0, (now_ns - sync.last_depth_ns) // NS_PER_MS) if sync.last_depth_ns else None,
            ticker_age_ms=None if ticker_ns is None else max(0, (now_ns - ticker_ns) // NS_PER_MS),
            exchange_latency_ms_p50=meter.latency_ms(50, offset_ms),
            exchange_latency_ms_p99=meter.latency_ms(99, offset_ms),
            clock_offset_ms=offset_ms,
            message_rate_per_s=meter.rate_per_s(now_ns),
            messages=meter.messages,
            gaps=counters.gaps,
            resyncs=counters.resyncs,
            transitions=counters.transitions,
            stale_time_ms=sync.stale_ns_at(now_ns) // NS_PER_MS,
            ticker_comparisons=counters.ticker_comparisons,
            ticker_mismatches=counters.ticker_mismatches,
            trades_missed=market.missed,
            as_of_ns=now_ns,
        )

    def counters(self) -> dict[str, SymbolCounters]:
        return {
            symbol: SymbolCounters(
                msgspec.structs.replace(market.sync.counters),
                trades_missed=market.missed,
                trades_late=market.klines.late_trades,
                trades_repeated=market.repeated,
            )
            for symbol, market in self._markets.items()
        }

    def _market(self, symbol: str) -> _SymbolMarket:
        market = self._markets.get(symbol)
        if market is None:
            known = ", ".join(sorted(self._markets)[:10])
            raise refuse(
                ReasonCode.MARKET_INSTRUMENT_UNKNOWN,
                f"{symbol[:32]!r} is not an instrument that is followed here; known are {known}.",
            )
        return market

    def _told(self, outputs: tuple[SyncOutput, ...]) -> tuple[SyncOutput, ...]:
        if self._on_state_changed is not None:
            for output in outputs:
                if isinstance(output, StateChanged):
                    self._on_state_changed(output)
        return outputs

    def _confirmed_ns(self, market: _SymbolMarket, ticker: BookTicker, now_ns: int) -> int:
        sync = market.sync
        stated = (ticker.bid_price, ticker.bid_quantity, ticker.ask_price, ticker.ask_quantity)
        if (
            sync.book.last_update_id >= ticker.update_id
            and sync.state_at(now_ns)[0] is BookState.LIVE
            and sync.book.best() == stated
        ):
            return max(ticker.ts_init_ns, sync.last_depth_ns)
        return ticker.ts_init_ns

    def _stale(self, market: _SymbolMarket, state: BookState, reason: StaleReason | None, now_ns: int) -> Exception:
        last_ns = market.sync.last_depth_ns
        because = f"{state}: {reason}" if reason else str(state)
        return refuse(
            ReasonCode.MARKET_BOOK_STALE,
            f"The book of {market.instrument.symbol} is not verified at this moment ({because}); "
            "ask again when it has been resynced.",
            limit=str(self._stale_after_ms),
            actual=str((now_ns - last_ns) // NS_PER_MS) if last_ns else None,
            unit="ms",
        )


def _check_range(name: str, value: int, maximum: int) -> None:
    if not 1 <= value <= maximum:
        raise refuse(
            ReasonCode.REQUEST_INVALID,
            f"{name} must be from 1 to {maximum}, is {value}.",
            limit=str(maximum),
            actual=str(value),
        )


def _levels(levels: tuple[Level, ...], instrument: Instrument) -> tuple[LevelView, ...]:
    return tuple(
        LevelView(from_scaled(price, instrument.price_scale), from_scaled(quantity, instrument.quantity_scale))
        for price, quantity in levels
    )


def _trade_view(trade: Trade, instrument: Instrument) -> TradeView:
    return TradeView(
        trade_id=trade.trade_id,
        price=from_scaled(trade.price, instrument.price_scale),
        quantity=from_scaled(trade.quantity, instrument.quantity_scale),
        side=Side.SELL if trade.is_buyer_maker else Side.BUY,
        ts_event_ns=trade.ts_event_ns,
    )


def _kline_view(bar: Kline, instrument: Instrument) -> KlineView:
    price_scale = instrument.price_scale
    return KlineView(
        open_time_ns=bar.open_time_ns,
        close_time_ns=bar.close_time_ns,
        open=from_scaled(bar.open, price_scale),
        high=from_scaled(bar.high, price_scale),
        low=from_scaled(bar.low, price_scale),
        close=from_scaled(bar.close, price_scale),
        volume=from_scaled(bar.volume, instrument.quantity_scale),
        quote_volume=from_scaled(bar.quote_volume, instrument.notional_scale),
        trades=bar.trades,
        closed=bar.closed,
    )
