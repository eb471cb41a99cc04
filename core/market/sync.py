"""Depth synchronisation of one symbol as a pure state machine (I6): no unverified book is ever LIVE.

The rule is Binance's ("How to manage a local order book correctly",
https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams, and its futures twin). Each message names
the update that it follows: U - 1 on spot, pu on futures, whose ids leave gaps. Buffer the stream, take a REST snapshot,
drop what it already includes (u <= lastUpdateId), require the first event to follow an update that the snapshot has,
and from then on each message to follow the one before: exactly on futures, while a spot message may begin earlier
(another connection groups the updates otherwise), since all its quantities are absolute.

Inputs are messages and clock readings; what it wants done comes back as values. Once STALE the book keeps its last
levels, marked so, until a new snapshot has been joined to the stream.

A snapshot that was cut at a number of levels says nothing about what lies beyond them. When few of the known levels are
left, another snapshot is asked for and joined while the book stays LIVE (a refresh); where both know the same update,
they must agree on the best bid and offer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import msgspec

from core._native import OrderBook
from core.types.clock import NS_PER_MS
from core.types.market import BookTicker, DepthSnapshotLike, DepthUpdateLike, Level

BUFFER_LIMIT_MESSAGES = 2_000
"""Depth messages kept while a snapshot is on its way: 200 s of a 100 ms stream."""
TICKER_LIMIT = 2_000
"""Tickers kept for the depth message that reaches their update: the busiest 100 ms seen had some 300."""
REFRESH_SHARE = 2
"""A side is refreshed when less than one in REFRESH_SHARE of the levels that its snapshot knew is left. On 2024-08-08
one message of BTCUSDT perpetuals took 292 of 1,000 levels away at once: waiting for the last few is too late."""
BOUNDLESS = 2**31
"""More levels than any book has: a side that is known whole never thins out."""
THINNESS_CHECK_MESSAGES = 8
"""How often the known levels are counted."""


class BookState(StrEnum):
    """SYNCING before the first LIVE; STALE, with a reason, whenever it was LIVE or connected and no longer is."""

    SYNCING = "SYNCING"
    LIVE = "LIVE"
    STALE = "STALE"


class StaleReason(StrEnum):
    GAP = "GAP"
    CROSSED = "CROSSED"
    SILENCE = "SILENCE"
    TICKER_MISMATCH = "TICKER_MISMATCH"
    SNAPSHOT_MISMATCH = "SNAPSHOT_MISMATCH"
    EXHAUSTED = "EXHAUSTED"
    DISCONNECTED = "DISCONNECTED"


class RequestSnapshot(msgspec.Struct, frozen=True, gc=False):
    """Fetch a depth snapshot of this symbol; asked once until a snapshot arrives or the stream is reopened."""

    symbol: str


class StateChanged(msgspec.Struct, frozen=True, gc=False):
    symbol: str
    previous: BookState
    current: BookState
    reason: StaleReason | None
    ts_ns: int


SyncOutput = RequestSnapshot | StateChanged
NOTHING: tuple[SyncOutput, ...] = ()


class Book(Protocol):
    """What the sync needs of a book: core._native.OrderBook, or core.market.book.OrderBook, its oracle."""

    @property
    def last_update_id(self) -> int: ...
    @property
    def bid_floor(self) -> int | None: ...
    @property
    def ask_ceiling(self) -> int | None: ...
    def apply_snapshot(self, snapshot: DepthSnapshotLike) -> None: ...
    def apply_update(self, update: DepthUpdateLike) -> None: ...
    def best(self) -> tuple[int, int, int, int] | None: ...
    def best_bid(self) -> tuple[int, int] | None: ...
    def best_ask(self) -> tuple[int, int] | None: ...
    def top(self, count: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]: ...
    def level_counts(self) -> tuple[int, int]: ...
    def is_crossed(self) -> bool: ...
    def sweep(self, is_buy: bool, quantity: int) -> tuple[int, int, int | None, int]: ...
    def digest(self) -> str: ...


class SyncCounters(msgspec.Struct):
    """Since the start. resyncs counts snapshots that were asked for after the first, refreshes aside. stale_ns is the
    time that the book was not LIVE after it first was, up to the last transition."""

    gaps: int = 0
    crossed: int = 0
    exhausted: int = 0
    silences: int = 0
    ticker_mismatches: int = 0
    ticker_comparisons: int = 0
    snapshot_mismatches: int = 0
    disconnects: int = 0
    resyncs: int = 0
    refreshes: int = 0
    transitions: int = 0
    stale_ns: int = 0
    duplicates: int = 0
    buffer_overflows: int = 0
    snapshots_too_old: int = 0


def followed_update_id(update: DepthUpdateLike) -> int:
    """The update that a depth message follows: pu where the venue states it, else U - 1."""
    previous = update.previous_update_id
    return update.first_update_id - 1 if previous is None else previous


def _follows(update: DepthUpdateLike, last_update_id: int) -> bool:
    """Whether a message that ends after last_update_id leaves no update out between."""
    previous = update.previous_update_id
    return update.first_update_id <= last_update_id + 1 if previous is None else previous == last_update_id


class DepthSync:
    """The book of one symbol, and whether it may be trusted.

    stale_after_ms: a LIVE book without a depth message for longer than this is STALE.
    """

    def __init__(self, symbol: str, stale_after_ms: int, make_book: Callable[[], Book] = OrderBook) -> None:
        self.symbol = symbol
        self.book: Book = make_book()
        self.state = BookState.SYNCING
        self.reason: StaleReason | None = None
        self.counters = SyncCounters()
        self.last_depth_ns = 0
        self._make_book = make_book
        self._stale_after_ns = stale_after_ms * NS_PER_MS
        self._buffer: deque[DepthUpdateLike] = deque()
        self._awaiting_snapshot = False
        self._snapshot_held = False
        self._held_since_ns = 0
        self._dropped_since_held = False
        self._tickers: deque[BookTicker] = deque(maxlen=TICKER_LIMIT)
        self._not_live_since_ns: int | None = None
        self._refresh_snapshot: DepthSnapshotLike | None = None
        self._is_refreshing = False
        self._is_bounded = False
        self._refresh_below = 0
        self._until_thinness_check = THINNESS_CHECK_MESSAGES

    def stale_after(self, stale_after_ms: int) -> None:
        self._stale_after_ns = stale_after_ms * NS_PER_MS

    @property
    def needs_snapshot(self) -> bool:
        """Whether a snapshot is still wanted: a failed fetch is to be repeated."""
        return self._awaiting_snapshot

    def state_at(self, now_ns: int) -> tuple[BookState, StaleReason | None]:
        """The state as a reader must see it: silence counts from the moment it is due, not from the next message."""
        if self.state is BookState.LIVE and self._is_silent(now_ns):
            return BookState.STALE, StaleReason.SILENCE
        return self.state, self.reason

    def is_live_at(self, now_ns: int) -> bool:
        """Whether state_at is LIVE."""
        # Asked of several markets for each order: one call less each time.
        return self.state is BookState.LIVE and now_ns - self.last_depth_ns <= self._stale_after_ns

    def stale_ns_at(self, now_ns: int) -> int:
        """The time that the book was not LIVE after it first was, up to now."""
        if self.state is BookState.LIVE:
            silence_ns = now_ns - self.last_depth_ns - self._stale_after_ns
            return self.counters.stale_ns + max(0, silence_ns)
        if self._not_live_since_ns is None:
            return 0
        return self.counters.stale_ns + max(0, now_ns - self._not_live_since_ns)

    def on_stream_opened(self, now_ns: int) -> tuple[SyncOutput, ...]:
        """The depth stream starts (again): what was buffered belongs to another connection."""
        outputs: list[SyncOutput] = []
        if self.state is BookState.LIVE:
            outputs.append(self._become(BookState.STALE, StaleReason.DISCONNECTED, now_ns))
        self._restart()
        outputs.append(self._request())
        return tuple(outputs)

    def on_stream_closed(self, now_ns: int) -> tuple[SyncOutput, ...]:
        """The depth stream ended. No snapshot is of use until it is open again."""
        self._restart()
        self._awaiting_snapshot = False
        if self.state is not BookState.LIVE:
            return NOTHING
        self.counters.disconnects += 1
        return (self._become(BookState.STALE, StaleReason.DISCONNECTED, now_ns),)

    def on_depth(self, update: DepthUpdateLike) -> tuple[SyncOutput, ...]:
        """Verify the sequence of one depth message and apply, buffer or drop it."""
        if self.state is BookState.LIVE or self._snapshot_held:
            return self._continue(update)
        self._keep(update)
        if not self._awaiting_snapshot:
            return (self._request(),)
        return NOTHING

    def on_snapshot(self, snapshot: DepthSnapshotLike) -> tuple[SyncOutput, ...]:
        """Join a snapshot to the buffered stream. One that nobody asked for is ignored."""
        if not self._awaiting_snapshot:
            return NOTHING
        self._awaiting_snapshot = False
        if self._is_refreshing:
            self._refresh_snapshot = snapshot
            return self._refresh(snapshot.ts_init_ns)
        buffer = self._buffer
        if not self._can_join(snapshot):
            return (self._request(),)
        self._load(self.book, snapshot)
        self._snapshot_held = True
        self._dropped_since_held = False
        self._held_since_ns = snapshot.ts_init_ns
        outputs: tuple[SyncOutput, ...] = NOTHING
        while buffer and not self._awaiting_snapshot:
            outputs += self._continue(buffer.popleft())
        return outputs

    def on_book_ticker(self, ticker: BookTicker) -> tuple[SyncOutput, ...]:
        """Hold the book against the venue's own best bid and offer, where both are at the same update id.

        Neighbouring ids prove nothing: the venue merges best-price changes that follow within a moment.
        """
        tickers = self._tickers
        if tickers and ticker.update_id <= tickers[-1].update_id:
            return NOTHING
        book_id = self.book.last_update_id
        if self.state is BookState.LIVE and ticker.update_id <= book_id:
            return NOTHING if ticker.update_id < book_id else self._compare(ticker, ticker.ts_init_ns)
        tickers.append(ticker)
        return NOTHING

    def on_time(self, now_ns: int) -> tuple[SyncOutput, ...]:
        """Let the clock speak: silence, and a snapshot that the stream never reached."""
        if self.state is BookState.LIVE:
            if not self._is_silent(now_ns):
                return NOTHING
            self.counters.silences += 1
            return self._distrust(StaleReason.SILENCE, now_ns)
        if self._snapshot_held and self._dropped_since_held and now_ns - self._held_since_ns > self._stale_after_ns:
            # The venue's ids restarted below the snapshot's: without this the symbol would wait for them for ever.
            self._restart()
            return (self._request(),)
        return NOTHING

    def _continue(self, update: DepthUpdateLike) -> tuple[SyncOutput, ...]:
        book = self.book
        book_id = book.last_update_id
        if update.last_update_id <= book_id:
            self.counters.duplicates += 1
            self._dropped_since_held = True
            return NOTHING
        if not (_follows(update, book_id) or (self._snapshot_held and followed_update_id(update) < book_id)):
            self.counters.gaps += 1
            return self._distrust(StaleReason.GAP, update.ts_init_ns, update)
        book.apply_update(update)
        now_ns = self.last_depth_ns = update.ts_init_ns
        if book.is_crossed():
            self.counters.crossed += 1
            return self._distrust(StaleReason.CROSSED, now_ns)
        outputs: tuple[SyncOutput, ...] = NOTHING
        if self._is_bounded:
            outputs = self._watch_range(update)
            if self._awaiting_snapshot and not self._is_refreshing:
                return outputs
        if self._snapshot_held:
            self._snapshot_held = False
            outputs = (self._become(BookState.LIVE, None, now_ns), *outputs)
        return outputs + self._check_tickers(now_ns) if self._tickers else outputs

    def _check_tickers(self, now_ns: int) -> tuple[SyncOutput, ...]:
        """Compare with the ticker of exactly the update that the book has reached; forget those before it."""
        tickers, book_id = self._tickers, self.book.last_update_id
        while tickers and tickers[0].update_id < book_id:
            tickers.popleft()
        if tickers and tickers[0].update_id == book_id:
            return self._compare(tickers.popleft(), now_ns)
        return NOTHING

    def _compare(self, ticker: BookTicker, now_ns: int) -> tuple[SyncOutput, ...]:
        self.counters.ticker_comparisons += 1
        stated = (ticker.bid_price, ticker.bid_quantity, ticker.ask_price, ticker.ask_quantity)
        if self.book.best() == stated:
            return NOTHING
        self.counters.ticker_mismatches += 1
        return self._distrust(StaleReason.TICKER_MISMATCH, now_ns)

    def _watch_range(self, update: DepthUpdateLike) -> tuple[SyncOutput, ...]:
        """Of a book that knows a part of the venue's levels only: ask for more before they run out."""
        now_ns = update.ts_init_ns
        if self._is_refreshing:
            buffer = self._buffer
            if len(buffer) == BUFFER_LIMIT_MESSAGES:
                buffer.popleft()
            buffer.append(update)
            if self._refresh_snapshot is not None:
                return self._refresh(now_ns)
        self._until_thinness_check -= 1
        if self._until_thinness_check and self.book.best() is not None:
            return NOTHING
        self._until_thinness_check = THINNESS_CHECK_MESSAGES
        fewest = self._fewest_known(self.book)
        if not fewest:
            self.counters.exhausted += 1
            return self._distrust(StaleReason.EXHAUSTED, now_ns)
        if fewest >= self._refresh_below or self._is_refreshing or self._snapshot_held:
            return NOTHING
        self.counters.refreshes += 1
        self._is_refreshing = self._awaiting_snapshot = True
        return (RequestSnapshot(self.symbol),)

    def _refresh(self, now_ns: int) -> tuple[SyncOutput, ...]:
        """Put a book from a newer snapshot in the place of the LIVE one, as soon as the stream has reached it."""
        snapshot, buffer = self._refresh_snapshot, self._buffer
        assert snapshot is not None
        if snapshot.last_update_id > self.book.last_update_id:
            return NOTHING
        self._refresh_snapshot = None
        if not (buffer or snapshot.last_update_id == self.book.last_update_id) or not self._can_join(snapshot):
            self._awaiting_snapshot = True
            return (RequestSnapshot(self.symbol),)
        book = self._make_book()
        self._load(book, snapshot)
        for update in buffer:
            book.apply_update(update)
        buffer.clear()
        self._is_refreshing = False
        if book.best() != self.book.best():
            self.counters.snapshot_mismatches += 1
            return self._distrust(StaleReason.SNAPSHOT_MISMATCH, now_ns)
        self.book = book
        return NOTHING

    def _can_join(self, snapshot: DepthSnapshotLike) -> bool:
        """Drop what the snapshot has from the buffer; what is left has to follow an update that it has."""
        buffer = self._buffer
        while buffer and buffer[0].last_update_id <= snapshot.last_update_id:
            buffer.popleft()
        if buffer and followed_update_id(buffer[0]) > snapshot.last_update_id:
            self.counters.snapshots_too_old += 1
            return False
        return True

    def _load(self, book: Book, snapshot: DepthSnapshotLike) -> None:
        book.apply_snapshot(snapshot)
        self._is_bounded = book.bid_floor is not None or book.ask_ceiling is not None
        self._refresh_below = self._fewest_known(book) // REFRESH_SHARE
        self._until_thinness_check = THINNESS_CHECK_MESSAGES

    def _fewest_known(self, book: Book) -> int:
        """Levels of the shorter side, of those beyond which nothing is known."""
        bids, asks = book.level_counts()
        if book.bid_floor is None:
            bids = BOUNDLESS
        if book.ask_ceiling is None:
            asks = BOUNDLESS
        return min(bids, asks)

    def _distrust(
        self, reason: StaleReason, now_ns: int, first_of_new: DepthUpdateLike | None = None
    ) -> tuple[SyncOutput, ...]:
        kept = [*([first_of_new] if first_of_new else []), *([] if self._is_refreshing else self._buffer)]
        self._restart()
        for update in kept:
            self._keep(update)
        if self.state is BookState.STALE and self.reason is reason:
            return (self._request(),)
        return self._become(BookState.STALE, reason, now_ns), self._request()

    def _keep(self, update: DepthUpdateLike) -> None:
        """Buffer a message so that the buffer is always one unbroken sequence: what lies before a break is of no use,
        because only a snapshot from after the break can be joined."""
        buffer = self._buffer
        if buffer:
            last = buffer[-1].last_update_id
            if update.last_update_id <= last:
                self.counters.duplicates += 1
                return
            if not _follows(update, last):
                self.counters.gaps += 1
                buffer.clear()
            elif len(buffer) == BUFFER_LIMIT_MESSAGES:
                self.counters.buffer_overflows += 1
                buffer.popleft()
        buffer.append(update)

    def _restart(self) -> None:
        self._buffer.clear()
        self._snapshot_held = False
        self._dropped_since_held = False
        self._is_refreshing = False
        self._refresh_snapshot = None
        self._tickers.clear()

    def _request(self) -> RequestSnapshot:
        if self.book.last_update_id:
            self.counters.resyncs += 1
        self._awaiting_snapshot = True
        return RequestSnapshot(self.symbol)

    def _become(self, state: BookState, reason: StaleReason | None, now_ns: int) -> StateChanged:
        changed = StateChanged(self.symbol, self.state, state, reason, now_ns)
        if self.state is BookState.LIVE:
            self._not_live_since_ns = now_ns
            if reason is StaleReason.SILENCE:
                self._not_live_since_ns = min(now_ns, self.last_depth_ns + self._stale_after_ns)
        elif state is BookState.LIVE and self._not_live_since_ns is not None:
            self.counters.stale_ns += max(0, now_ns - self._not_live_since_ns)
        self.state, self.reason = state, reason
        self.counters.transitions += 1
        return changed

    def _is_silent(self, now_ns: int) -> bool:
        return now_ns - self.last_depth_ns > self._stale_after_ns
