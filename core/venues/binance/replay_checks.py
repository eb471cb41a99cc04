"""What a replay holds one order book to: bookTicker at equal update ids, and the truth level by level."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import Generic, TypeVar

import msgspec

from core.market.hub import MAX_BOOK_DEPTH, MarketHub, ScaledBook
from core.market.sync import BookState, StaleReason
from core.storage import frames
from core.storage.frames import Data
from core.types.market import BookTicker, Level
from core.types.money import from_scaled
from core.types.views import OrderBookView
from core.venues.binance.replay_truth import Best, LaggingTruth, Levels, Operation, TruthBook

CHECKED_LEVELS = 20
"""Compared after every message; all that is served is compared when the book becomes LIVE and from time to time."""
WHOLE_CHECK_MESSAGES = 100
NO_LEVEL = (0, 0)
REMEMBERED_IDS = 4_096
"""Update ids at which books and tickers wait for their counterpart."""

StatedBest = tuple[bytes, bytes, bytes, bytes]
"""Bid price, bid quantity, ask price, ask quantity as a frame has them."""

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
        self._true_tickers: _Recent[StatedBest] = _Recent()
        self._since_whole = WHOLE_CHECK_MESSAGES

    # the recording against itself

    def operation(self, operation: Operation) -> None:
        if self._verify:
            self._lagging.add(operation)

    def true_ticker(self, truth: TruthBook, data: Data) -> None:
        """An untouched bookTicker. Raises ValueError when it is compared and holds no numbers."""
        stated = bytes(data.b), bytes(data.B), bytes(data.a), bytes(data.A)
        # Few are ever compared: they are read only then.
        if self._true_tickers.put(data.u, stated):
            self._compare_true(truth, data.u, self._true.get(data.u), stated)

    def true_book(self, truth: TruthBook) -> None:
        """The truth has advanced by a depth message. Raises as `true_ticker`."""
        best, update_id = truth.best() if truth.is_known else None, truth.last_update_id
        if best is not None and self._true.put(update_id, best):
            self._compare_true(truth, update_id, best, self._true_tickers.get(update_id))

    def _compare_true(self, truth: TruthBook, update_id: int, book: Best | None, stated: StatedBest | None) -> None:
        if book is None or stated is None:
            return
        price_scale, quantity_scale = self._price_scale, self._quantity_scale
        ticker = (
            frames.scaled(frames.text(stated[0]), price_scale),
            frames.scaled(frames.text(stated[1]), quantity_scale),
            frames.scaled(frames.text(stated[2]), price_scale),
            frames.scaled(frames.text(stated[3]), quantity_scale),
        )
        if book != ticker and not truth.explains(ticker, update_id):
            return
        self.recording_bbo_checked += 1
        self.recording_bbo_mismatches += book != ticker

    # the served book

    def ticker(self, ticker: BookTicker, truth: TruthBook) -> None:
        """A bookTicker as it arrived, be it late or a second time: it speaks of its own update id alone."""
        best = (ticker.bid_price, ticker.bid_quantity, ticker.ask_price, ticker.ask_quantity)
        if self._tickers.put(ticker.update_id, best):
            self._compare(truth, ticker.update_id, self._served.get(ticker.update_id), best)

    def served(self, hub: MarketHub, symbol: str, truth: TruthBook) -> str | None:
        """After each message that may have changed the book. What is wrong with it, in words; None when nothing is."""
        is_whole = self._verify and self._since_whole >= WHOLE_CHECK_MESSAGES
        depth = MAX_BOOK_DEPTH if is_whole else CHECKED_LEVELS if self._verify else 1
        book = hub.scaled_book(symbol, depth)
        is_live = book.state is BookState.LIVE
        if not is_live:
            self._since_whole = WHOLE_CHECK_MESSAGES
        if is_live or book.stale_reason == StaleReason.TICKER_MISMATCH:
            # A book that has just been distrusted for its best price was compared all the same.
            best = _best(book)
            if self._served.put(book.last_update_id, best):
                self._compare(truth, book.last_update_id, best, self._tickers.get(book.last_update_id))
        if not is_live or not self._verify:
            return None
        self._since_whole = 0 if is_whole else self._since_whole + 1
        self.book_checked += 1
        found = self._against_truth(hub, symbol, book, depth)
        if found is None and is_whole:
            found = self._against_view(hub.order_book(symbol, CHECKED_LEVELS), book)
        self.book_mismatches += found is not None
        return found

    def _compare(self, truth: TruthBook, update_id: int, book: Best | None, ticker: Best | None) -> None:
        if book is None or ticker is None:
            return
        if book != ticker and not truth.explains(ticker, update_id):
            self.bbo_unknown += 1
            return
        self.bbo_checked += 1
        self.bbo_mismatches += book != ticker

    def _against_truth(self, hub: MarketHub, symbol: str, book: ScaledBook, depth: int) -> str | None:
        if not self._lagging.reaches(book.last_update_id):
            known = self._lagging.book.last_update_id
            return f"LIVE at update {book.last_update_id}, to which no untouched frames lead (they are at {known})"
        truth = self._lagging.book
        floor, ceiling = hub.known_range(symbol)
        bids = [level for level in truth.bids.top_served(depth, book.bids) if floor is None or level[0] >= floor]
        asks = [level for level in truth.asks.top_served(depth, book.asks) if ceiling is None or level[0] <= ceiling]
        return self._differs("bid", book.bids, bids, book) or self._differs("ask", book.asks, asks, book)

    def _differs(self, side: str, found: Sequence[Level], expected: Levels, book: ScaledBook) -> str | None:
        """What lies beyond a snapshot that was cut is not in `expected`: it must not be shown."""
        if list(found) == expected:
            return None
        shown, true = next(pair for pair in zip_longest(found, expected, fillvalue=None) if pair[0] != pair[1])
        at = f"LIVE at update {book.last_update_id} with {side}"
        return f"{at} {self._words(shown)}, true is {self._words(true)}"

    def _against_view(self, view: OrderBookView, book: ScaledBook) -> str | None:
        """Readers get decimals: those must be the same numbers."""
        for shown, scaled in ((view.bids, book.bids), (view.asks, book.asks)):
            decimals = [self._decimals(level) for level in scaled[:CHECKED_LEVELS]]
            if [(level.price, level.quantity) for level in shown] != decimals:
                return f"LIVE at update {book.last_update_id}, shown otherwise than it is held"
        return None

    def _decimals(self, level: Level) -> tuple[Decimal, Decimal]:
        return from_scaled(level[0], self._price_scale), from_scaled(level[1], self._quantity_scale)

    def _words(self, level: Level | None) -> str:
        if level is None:
            return "nothing more"
        price, quantity = self._decimals(level)
        return f"{quantity} at {price}"


def _best(book: ScaledBook) -> Best:
    """Zeros for an empty side, which no ticker equals."""
    bid, ask = book.bids[0] if book.bids else NO_LEVEL, book.asks[0] if book.asks else NO_LEVEL
    return (*bid, *ask)
