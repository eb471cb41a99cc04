"""Depth synchronisation of one symbol as a pure state machine (I6): no unverified book is ever LIVE.

The rule is Binance spot's ("How to manage a local order book correctly",
https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams): buffer the stream, take a REST snapshot,
drop what it already includes (u <= lastUpdateId), require the first event to straddle it (U <= lastUpdateId+1 <= u),
and from then on U == previous u + 1.

Inputs are messages and clock readings; what it wants done comes back as values. Once STALE the book keeps its last
levels, marked so, until a new snapshot has been joined to the stream.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

import msgspec

from core.market.book import OrderBook
from core.types.clock import NS_PER_MS
from core.types.market import BookTicker, DepthSnapshot, DepthUpdate

BUFFER_LIMIT_MESSAGES = 2_000
"""Depth messages kept while a snapshot is on its way: 200 s of a 100 ms stream."""


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


class SyncCounters(msgspec.Struct):
    """Since the start. resyncs counts snapshots that were asked for after the first."""

    gaps: int = 0
    crossed: int = 0
    silences: int = 0
    ticker_mismatches: int = 0
    ticker_comparisons: int = 0
    disconnects: int = 0
    resyncs: int = 0
    transitions: int = 0
    duplicates: int = 0
    buffer_overflows: int = 0
    snapshots_too_old: int = 0


class DepthSync:
    """The book of one symbol, and whether it may be trusted.

    stale_after_ms: a LIVE book without a depth message for longer than this is STALE.
    """

    def __init__(self, symbol: str, stale_after_ms: int) -> None:
        self.symbol = symbol
        self.book = OrderBook()
        self.state = BookState.SYNCING
        self.reason: StaleReason | None = None
        self.counters = SyncCounters()
        self.last_depth_ns = 0
        self._stale_after_ns = stale_after_ms * NS_PER_MS
        self._buffer: deque[DepthUpdate] = deque()
        self._awaiting_snapshot = False
        self._snapshot_held = False
        self._held_since_ns = 0
        self._dropped_since_held = False
        self._ticker: BookTicker | None = None

    @property
    def needs_snapshot(self) -> bool:
        """Whether a snapshot is still wanted: a failed fetch is to be repeated."""
        return self._awaiting_snapshot

    def state_at(self, now_ns: int) -> tuple[BookState, StaleReason | None]:
        """The state as a reader must see it: silence counts from the moment it is due, not from the next message."""
        if self.state is BookState.LIVE and self._is_silent(now_ns):
            return BookState.STALE, StaleReason.SILENCE
        return self.state, self.reason

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

    def on_depth(self, update: DepthUpdate) -> tuple[SyncOutput, ...]:
        """Verify the sequence of one depth message and apply, buffer or drop it."""
        if self.state is BookState.LIVE or self._snapshot_held:
            return self._continue(update)
        self._keep(update)
        if not self._awaiting_snapshot:
            return (self._request(),)
        return NOTHING

    def on_snapshot(self, snapshot: DepthSnapshot) -> tuple[SyncOutput, ...]:
        """Join a snapshot to the buffered stream. One that nobody asked for is ignored."""
        if not self._awaiting_snapshot:
            return NOTHING
        buffer = self._buffer
        while buffer and buffer[0].last_update_id <= snapshot.last_update_id:
            buffer.popleft()
        if buffer and buffer[0].first_update_id > snapshot.last_update_id + 1:
            self.counters.snapshots_too_old += 1
            self._awaiting_snapshot = False
            return (self._request(),)
        self.book.apply_snapshot(snapshot)
        self._awaiting_snapshot = False
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
        self._ticker = ticker
        if self.state is not BookState.LIVE or ticker.update_id != self.book.last_update_id:
            return NOTHING
        return self._compare(ticker, ticker.ts_init_ns)

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

    def _continue(self, update: DepthUpdate) -> tuple[SyncOutput, ...]:
        book = self.book
        expected = book.last_update_id + 1
        if update.last_update_id < expected:
            self.counters.duplicates += 1
            self._dropped_since_held = True
            return NOTHING
        straddles = update.first_update_id <= expected if self._snapshot_held else update.first_update_id == expected
        if not straddles:
            self.counters.gaps += 1
            return self._distrust(StaleReason.GAP, update.ts_init_ns, update)
        book.apply_update(update)
        self.last_depth_ns = update.ts_init_ns
        if book.is_crossed():
            self.counters.crossed += 1
            return self._distrust(StaleReason.CROSSED, update.ts_init_ns)
        outputs: tuple[SyncOutput, ...] = NOTHING
        if self._snapshot_held:
            self._snapshot_held = False
            outputs = (self._become(BookState.LIVE, None, update.ts_init_ns),)
        ticker = self._ticker
        if ticker is not None and ticker.update_id == book.last_update_id:
            outputs += self._compare(ticker, update.ts_init_ns)
        return outputs

    def _compare(self, ticker: BookTicker, now_ns: int) -> tuple[SyncOutput, ...]:
        self.counters.ticker_comparisons += 1
        bid, ask = self.book.bids.best(), self.book.asks.best()
        if bid == (ticker.bid_price, ticker.bid_quantity) and ask == (ticker.ask_price, ticker.ask_quantity):
            return NOTHING
        self.counters.ticker_mismatches += 1
        return self._distrust(StaleReason.TICKER_MISMATCH, now_ns)

    def _distrust(
        self, reason: StaleReason, now_ns: int, first_of_new: DepthUpdate | None = None
    ) -> tuple[SyncOutput, ...]:
        kept = [*([first_of_new] if first_of_new else []), *self._buffer]
        self._restart()
        for update in kept:
            self._keep(update)
        if self.state is BookState.STALE and self.reason is reason:
            return (self._request(),)
        return self._become(BookState.STALE, reason, now_ns), self._request()

    def _keep(self, update: DepthUpdate) -> None:
        """Buffer a message so that the buffer is always one unbroken sequence: what lies before a break is of no use,
        because only a snapshot from after the break can be joined."""
        buffer = self._buffer
        if buffer:
            last = buffer[-1].last_update_id
            if update.last_update_id <= last:
                self.counters.duplicates += 1
                return
            if update.first_update_id != last + 1:
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
        self._ticker = None

    def _request(self) -> RequestSnapshot:
        if self.book.last_update_id:
            self.counters.resyncs += 1
        self._awaiting_snapshot = True
        return RequestSnapshot(self.symbol)

    def _become(self, state: BookState, reason: StaleReason | None, now_ns: int) -> StateChanged:
        changed = StateChanged(self.symbol, self.state, state, reason, now_ns)
        self.state, self.reason = state, reason
        self.counters.transitions += 1
        return changed

    def _is_silent(self, now_ns: int) -> bool:
        return now_ns - self.last_depth_ns > self._stale_after_ns
