"""Depth synchronisation (I6).

Invariants: whatever is dropped, doubled or reordered, a LIVE book equals the venue's book at the same update id; when
the stream is whole again the book becomes LIVE again; the buffer is bounded.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.market import sync as sync_module
from core.market.book import OrderBook
from core.market.sync import (
    BookState,
    DepthSync,
    RequestSnapshot,
    StaleReason,
    StateChanged,
    SyncOutput,
)
from core.types.clock import NS_PER_MS
from core.types.market import BookTicker, DepthSnapshot, DepthUpdate

STALE_AFTER_MS = 1_000
BIDS, ASKS = ((100, 5), (99, 5)), ((101, 5), (102, 5))


def snapshot(update_id: int, now_ns: int = 0) -> DepthSnapshot:
    return DepthSnapshot("X", update_id, BIDS, ASKS, now_ns, now_ns, is_complete=True)


def depth(
    first: int,
    last: int,
    bids: tuple[tuple[int, int], ...] = (),
    asks: tuple[tuple[int, int], ...] = (),
    now_ms: int = 0,
) -> DepthUpdate:
    return DepthUpdate("X", first, last, bids, asks, now_ms * NS_PER_MS, now_ms * NS_PER_MS)


def live_at(update_id: int) -> DepthSync:
    sync = DepthSync("X", STALE_AFTER_MS)
    sync.on_stream_opened(0)
    sync.on_snapshot(snapshot(update_id - 1))
    sync.on_depth(depth(update_id, update_id))
    assert sync.state is BookState.LIVE
    return sync


def stale(reason: StaleReason, previous: BookState = BookState.LIVE, ts_ns: int = 0) -> tuple[SyncOutput, ...]:
    return StateChanged("X", previous, BookState.STALE, reason, ts_ns), RequestSnapshot("X")


def test_opening_the_stream_asks_for_one_snapshot() -> None:
    sync = DepthSync("X", STALE_AFTER_MS)
    assert sync.on_stream_opened(0) == (RequestSnapshot("X"),)
    assert sync.on_depth(depth(5, 6)) == ()
    assert sync.on_depth(depth(7, 8)) == ()
    assert sync.state is BookState.SYNCING


@pytest.mark.parametrize(
    ("snapshot_id", "becomes_live", "book_id"),
    [
        (4, True, 9),  # the first event starts right after the snapshot
        (6, True, 9),  # the snapshot lies inside of the first event
        (7, True, 9),  # the first event is included, the second starts right after it
        (9, False, 9),  # all is included: wait for the next
        (3, False, 0),  # update 4 is missing: the snapshot is too old
    ],
)
def test_snapshot_joins_the_buffered_stream_only_where_it_straddles(
    snapshot_id: int, becomes_live: bool, book_id: int
) -> None:
    sync = DepthSync("X", STALE_AFTER_MS)
    sync.on_stream_opened(0)
    sync.on_depth(depth(5, 7))
    sync.on_depth(depth(8, 9))
    outputs = sync.on_snapshot(snapshot(snapshot_id))
    assert (sync.state is BookState.LIVE) == becomes_live
    assert sync.book.last_update_id == book_id
    assert (RequestSnapshot("X") in outputs) == (snapshot_id == 3)
    assert sync.needs_snapshot == (snapshot_id == 3)


@pytest.mark.parametrize(("first", "last"), [(12, 12), (13, 20)])
def test_any_break_of_the_sequence_makes_the_book_stale_and_asks_for_a_snapshot(first: int, last: int) -> None:
    sync = live_at(10)
    assert sync.on_depth(depth(first, last)) == stale(StaleReason.GAP)
    assert sync.state_at(0) == (BookState.STALE, StaleReason.GAP)
    assert sync.counters.gaps == 1


def test_what_the_book_already_includes_is_dropped() -> None:
    sync = live_at(10)
    assert sync.on_depth(depth(9, 10, ((100, 0),))) == ()
    assert sync.book.best_bid() == (100, 5)
    assert sync.state is BookState.LIVE


def test_after_a_gap_the_message_that_showed_it_is_joined_to_the_new_snapshot() -> None:
    sync = live_at(10)
    sync.on_depth(depth(15, 16, ((100, 7),)))
    outputs = sync.on_snapshot(snapshot(14))
    assert outputs == (StateChanged("X", BookState.STALE, BookState.LIVE, None, 0),)
    assert sync.book.best_bid() == (100, 7)


def test_a_crossed_book_is_stale() -> None:
    sync = live_at(10)
    assert sync.on_depth(depth(11, 11, ((101, 1),))) == stale(StaleReason.CROSSED)


def test_silence_makes_the_book_stale_by_the_clock_even_before_the_tick_says_so() -> None:
    sync = live_at(10)
    due_ns = STALE_AFTER_MS * NS_PER_MS
    assert sync.state_at(due_ns) == (BookState.LIVE, None)
    assert sync.on_time(due_ns) == ()
    assert sync.state_at(due_ns + 1) == (BookState.STALE, StaleReason.SILENCE)
    assert sync.on_time(due_ns + 1) == stale(StaleReason.SILENCE, ts_ns=due_ns + 1)
    assert sync.on_time(due_ns + 2) == ()


@pytest.mark.parametrize("ticker_first", [True, False])
def test_disagreement_with_the_book_ticker_at_the_same_update_id_makes_the_book_stale(ticker_first: bool) -> None:
    sync = live_at(10)
    ticker = BookTicker("X", 11, 100, 4, 101, 5, 0, 0)
    messages = [lambda: sync.on_book_ticker(ticker), lambda: sync.on_depth(depth(11, 11))]
    outputs = [message() for message in (messages if ticker_first else reversed(messages))]
    assert outputs == [(), stale(StaleReason.TICKER_MISMATCH)]


@pytest.mark.parametrize("update_id", [9, 11])
def test_a_book_ticker_at_another_update_id_proves_nothing(update_id: int) -> None:
    sync = live_at(10)
    assert sync.on_book_ticker(BookTicker("X", update_id, 1, 1, 2, 2, 0, 0)) == ()
    assert sync.counters.ticker_comparisons == 0


def test_a_closed_stream_is_stale_and_asks_for_nothing_until_it_is_open_again() -> None:
    sync = live_at(10)
    assert sync.on_stream_closed(5) == stale(StaleReason.DISCONNECTED, ts_ns=5)[:1]
    assert not sync.needs_snapshot
    assert sync.on_snapshot(snapshot(12)) == ()
    assert sync.on_stream_opened(6) == (RequestSnapshot("X"),)
    sync.on_snapshot(snapshot(20))
    assert sync.state is BookState.STALE
    sync.on_depth(depth(21, 21))
    assert sync.state is BookState.LIVE


def test_a_snapshot_nobody_asked_for_changes_nothing() -> None:
    sync = live_at(10)
    assert sync.on_snapshot(snapshot(500)) == ()
    assert sync.book.last_update_id == 10


def test_a_venue_whose_ids_restarted_below_the_snapshot_is_asked_again() -> None:
    sync = DepthSync("X", STALE_AFTER_MS)
    sync.on_stream_opened(0)
    sync.on_snapshot(snapshot(1_000_000))
    sync.on_depth(depth(1, 2))
    assert sync.on_time(STALE_AFTER_MS * NS_PER_MS) == ()
    assert sync.on_time(STALE_AFTER_MS * NS_PER_MS + 1) == (RequestSnapshot("X"),)
    sync.on_depth(depth(3, 4))
    sync.on_snapshot(snapshot(2))
    assert sync.state is BookState.LIVE


def test_the_buffer_is_bounded_and_its_overflow_costs_a_newer_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "BUFFER_LIMIT_MESSAGES", 3)
    sync = DepthSync("X", STALE_AFTER_MS)
    sync.on_stream_opened(0)
    for update_id in range(1, 6):
        sync.on_depth(depth(update_id, update_id))
    assert sync.counters.buffer_overflows == 2
    assert sync.on_snapshot(snapshot(1)) == (RequestSnapshot("X"),)
    sync.on_snapshot(snapshot(2))
    assert (sync.state, sync.book.last_update_id) == (BookState.LIVE, 5)


class _Venue:
    """The truth: one change per update id, sent in messages of one to four changes."""

    def __init__(self, random: Random, messages: int) -> None:
        book = OrderBook()
        book.apply_snapshot(DepthSnapshot("X", 0, ((50, 1),), ((51, 1),), 0, 0, is_complete=True))
        self.states = {0: book.top(1_000)}
        self.messages: list[DepthUpdate] = []
        update_id = 0
        for _ in range(messages):
            first, bids, asks = update_id + 1, {}, {}
            for _ in range(random.randint(1, 4)):
                update_id += 1
                # Bids stay below asks, so that nothing but the sequence can give a loss away.
                if random.random() < 0.5:
                    bids[price := random.randint(1, 50)] = quantity = random.choice((0, 0, 1, 2, 3))
                    change = depth(update_id, update_id, ((price, quantity),))
                else:
                    asks[price := random.randint(51, 100)] = quantity = random.choice((0, 0, 1, 2, 3))
                    change = depth(update_id, update_id, (), ((price, quantity),))
                book.apply_update(change)
                self.states[update_id] = book.top(1_000)
            self.messages.append(depth(first, update_id, tuple(bids.items()), tuple(asks.items())))

    def snapshot(self, update_id: int) -> DepthSnapshot:
        bids, asks = self.states[update_id]
        return DepthSnapshot("X", update_id, bids, asks, 0, 0, is_complete=True)


def _damaged(random: Random, messages: list[DepthUpdate]) -> list[DepthUpdate]:
    arriving: list[tuple[float, DepthUpdate]] = []
    for position, message in enumerate(messages):
        fate = random.random()
        if fate < 0.06:
            continue
        arriving.append((position + (random.uniform(0, 5) if fate < 0.12 else 0), message))
        if fate > 0.94:
            arriving.append((position + random.uniform(0, 5), message))
    return [message for _, message in sorted(arriving, key=lambda item: item[0])]


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_whenever_live_the_book_equals_the_venues(seed: int) -> None:
    random = Random(seed)
    venue = _Venue(random, 100)
    calm = 30
    arriving = _damaged(random, venue.messages[:-calm]) + venue.messages[-calm:]
    sync = DepthSync("X", STALE_AFTER_MS)
    outputs = list(sync.on_stream_opened(0))
    was_live = 0
    snapshot_due: int | None = None
    for number, message in enumerate(arriving):
        if any(isinstance(output, RequestSnapshot) for output in outputs):
            assert snapshot_due is None, f"seed {seed}: a second request while one is open"
            snapshot_due = number + random.randint(0, 6)
        outputs = []
        if snapshot_due is not None and number >= snapshot_due:
            snapshot_due = None
            newest = max(message.last_update_id, 4)
            outputs += sync.on_snapshot(venue.snapshot(random.randint(max(0, newest - 12), newest)))
        outputs += sync.on_depth(message)
        if sync.state is BookState.LIVE:
            was_live += 1
            assert sync.book.top(1_000) == venue.states[sync.book.last_update_id], f"seed {seed}"
    assert was_live, f"seed {seed}: never live, the test proves nothing"
    assert sync.state is BookState.LIVE, f"seed {seed}: the stream was whole again, the book is {sync.reason}"
    assert sync.book.last_update_id == venue.messages[-1].last_update_id
