"""What a replay holds one order book to: bookTicker at equal update ids, and the truth level by level."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from itertools import zip_longest
from typing import Generic, TypeVar

import msgspec

from core.market.hub import MAX_BOOK_DEPTH, MarketHub
from core.market.sync import BookState, StaleReason
from core.storage import frames
from core.storage.frames import Data
from core.types.market import BookTicker
from core.types.money import from_scaled
from core.types.views import LevelView, OrderBookView
from core.venues.binance.replay_truth import Best, LaggingTruth, Levels, Operation, TruthBook

CHECKED_LEVELS = 20
"""Compared after every message; all that is served is compared when the book becomes LIVE and from time to time."""
WHOLE_CHECK_MESSAGES = 100
REMEMBERED_IDS = 4_096
"""Update ids at which books and tickers wait for their counterpart."""

T = TypeVar("T")


class Figures(msgspec.Struct):
    """Of the whole replay."""

    frames: int = 0
    frames_read: int = 0
    depth_messages: int = 0
    levels: int = 0
    unreadable: int = 0
    other_frames: int = 0
    inline_snapshots: int = 0
    served_snapshots: int = 0


class _Recent(Generic[T]):
    """Values by update id, the oldest forgotten."""

    def __init__(self) -> None:
        self._values: dict[int, T] = {}
        self._ids: deque[int] = deque()

    def get(self, update_id: int) -> T | None:
        return self._values.get(update_id)

    def put(self, update_id: int, value: T) -> bool:
        """Whether it is new or another than before."""
        known = self._values.get(update_id)
        if known == value:
            return False
        if known is None:
            self._ids.append(update_id)
            if len(self._ids) > REMEMBERED_IDS:
                del self._values[self._ids.popleft()]
        self._values[update_id] = value
        return True


class BookChecks:
    """Comparisons of one order book, counted. A None best is an empty side."""

    def __init__(self, price_scale: int, quantity_scale: int, verify: bool) -> None:
        self.bbo_checked = 0
        self.bbo_mismatches = 0
        self.bbo_unknown = 0
        self.recording_bbo_checked = 0
        self.recording_bbo_mismatches = 0
        self.book_checked = 0
        self.book_mismatches = 0
        self._price_scale, self._quantity_scale = price_scale, quantity_scale
        self._verify = verify
        self.forget()

    def forget(self) -> None:
        """The update ids start anew."""
        self._lagging = LaggingTruth()
        self._served: _Recent[Best] = _Recent()
        self._tickers: _Recent[Best] = _Recent()
        self._true: _Recent[Best] = _Recent()
        self._true_tickers: _Recent[Best] = _Recent()
        self._since_whole = WHOLE_CHECK_MESSAGES

    # the recording against itself

    def operation(self, operation: Operation) -> None:
        if self._verify:
            self._lagging.add(operation)

    def true_ticker(self, truth: TruthBook, data: Data) -> None:
        """An untouched bookTicker. Raises ValueError."""
        price, quantity = self._price_scale, self._quantity_scale
        best = (
            frames.scaled(frames.text(data.b), price),
            frames.scaled(frames.text(data.B), quantity),
            frames.scaled(frames.text(data.a), price),
            frames.scaled(frames.text(data.A), quantity),
        )
        if self._true_tickers.put(data.u, best):
            self._compare_true(truth, self._true.get(data.u), best)

    def true_book(self, truth: TruthBook) -> None:
        """The truth has advanced by a depth message."""
        best = truth.best() if truth.is_known else None
        if best is not None and self._true.put(truth.last_update_id, best):
            self._compare_true(truth, best, self._true_tickers.get(truth.last_update_id))

    def _compare_true(self, truth: TruthBook, book: Best | None, ticker: Best | None) -> None:
        if book is None or ticker is None:
            return
        if book != ticker and not truth.explains(ticker):
            return
        self.recording_bbo_checked += 1
        self.recording_bbo_mismatches += book != ticker

    # the served book

    def ticker(self, ticker: BookTicker, truth: TruthBook) -> None:
        """A bookTicker as it arrived, be it late or a second time: it speaks of its own update id alone."""
        best = (ticker.bid_price, ticker.bid_quantity, ticker.ask_price, ticker.ask_quantity)
        if self._tickers.put(ticker.update_id, best):
            self._compare(truth, self._served.get(ticker.update_id), best)

    def served(self, hub: MarketHub, symbol: str, truth: TruthBook) -> str | None:
        """After each message that may have changed the book. What is wrong with it, in words; None when nothing is."""
        is_whole = self._verify and self._since_whole >= WHOLE_CHECK_MESSAGES
        depth = MAX_BOOK_DEPTH if is_whole else CHECKED_LEVELS if self._verify else 1
        view = hub.order_book(symbol, depth)
        is_live = view.state == BookState.LIVE
        if not is_live:
            self._since_whole = WHOLE_CHECK_MESSAGES
        if is_live or view.stale_reason == StaleReason.TICKER_MISMATCH:
            # A book that has just been distrusted for its best price was compared all the same.
            best = self._best(view)
            if self._served.put(view.last_update_id, best):
                self._compare(truth, best, self._tickers.get(view.last_update_id))
        if not is_live or not self._verify:
            return None
        self._since_whole = 0 if is_whole else self._since_whole + 1
        self.book_checked += 1
        found = self._against_truth(hub, view, depth)
        self.book_mismatches += found is not None
        return found

    def _compare(self, truth: TruthBook, book: Best | None, ticker: Best | None) -> None:
        if book is None or ticker is None:
            return
        if book != ticker and not truth.explains(ticker):
            self.bbo_unknown += 1
            return
        self.bbo_checked += 1
        self.bbo_mismatches += book != ticker

    def _best(self, view: OrderBookView) -> Best:
        """At the scales; zeros for an empty side, which no ticker equals."""
        bid, ask = self._scaled(view.bids[:1]), self._scaled(view.asks[:1])
        return (*bid, *ask)

    def _scaled(self, levels: tuple[LevelView, ...]) -> tuple[int, int]:
        if not levels:
            return 0, 0
        level = levels[0]
        return int(level.price.scaleb(self._price_scale)), int(level.quantity.scaleb(self._quantity_scale))

    def _against_truth(self, hub: MarketHub, view: OrderBookView, depth: int) -> str | None:
        if not self._lagging.reaches(view.last_update_id):
            known = self._lagging.book.last_update_id
            return f"LIVE at update {view.last_update_id}, to which no untouched frames lead (they are at {known})"
        truth = self._lagging.book
        floor, ceiling = hub.known_range(view.symbol)
        served_bids, served_asks = self._prices(view.bids), self._prices(view.asks)
        bids = [level for level in truth.bids.top_served(depth, served_bids) if floor is None or level[0] >= floor]
        asks = [level for level in truth.asks.top_served(depth, served_asks) if ceiling is None or level[0] <= ceiling]
        return self._differs("bid", view.bids, bids, view) or self._differs("ask", view.asks, asks, view)

    def _prices(self, levels: tuple[LevelView, ...]) -> set[int]:
        return {int(level.price.scaleb(self._price_scale)) for level in levels}

    def _differs(self, side: str, shown: tuple[LevelView, ...], true: Levels, view: OrderBookView) -> str | None:
        """What lies beyond a snapshot that was cut is not in `true`: it must not be shown."""
        price_scale, quantity_scale = self._price_scale, self._quantity_scale
        expected = [(from_scaled(price, price_scale), from_scaled(size, quantity_scale)) for price, size in true]
        found = [(level.price, level.quantity) for level in shown]
        if found == expected:
            return None
        shown_level, true_level = next(
            pair for pair in zip_longest(found, expected, fillvalue=None) if pair[0] != pair[1]
        )
        return f"LIVE at update {view.last_update_id} with {side} {_words(shown_level)}, true is {_words(true_level)}"


def _words(level: tuple[Decimal, Decimal] | None) -> str:
    return "nothing more" if level is None else f"{level[1]} at {level[0]}"
