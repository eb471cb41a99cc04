"""Depth synchronisation of futures (pu), and of books whose snapshot was cut at a number of levels (I6).

Invariants: each message must follow the one before by the venue's own word; what lies beyond a cut snapshot is never
shown; a book that thins out is refreshed while it stays LIVE, and is STALE before it serves what it can't know.
"""

from __future__ import annotations

from random import Random

import pytest

from core.market import sync as sync_module
from core.market.book import OrderBook
from core.market.sync import BookState, DepthSync, RequestSnapshot, StaleReason, StateChanged
from core.types.clock import NS_PER_MS
from core.types.market import BookTicker, DepthSnapshot, DepthUpdate, Level

STALE_AFTER_MS = 1_000


def ladder(side: str, count: int) -> tuple[Level, ...]:
    """Bids 1000, 999, ... or asks 1001, 1002, ..."""
    return tuple((1_000 - n, 5) if side == "bids" else (1_001 + n, 5) for n in range(count))


def snapshot(update_id: int, levels: int = 10, *, is_complete: bool = False) -> DepthSnapshot:
    return DepthSnapshot("X", update_id, ladder("bids", levels), ladder("asks", levels), 0, 0, is_complete)


def spot(first: int, last: int, bids: tuple[Level, ...] = (), asks: tuple[Level, ...] = ()) -> DepthUpdate:
    return DepthUpdate("X", first, last, bids, asks, 0, 0)


def futures(previous: int, first: int, last: int, bids: tuple[Level, ...] = ()) -> DepthUpdate:
    return DepthUpdate("X", first, last, bids, (), 0, 0, previous)


def opened() -> DepthSync:
    sync = DepthSync("X", STALE_AFTER_MS)
    sync.on_stream_opened(0)
    return sync


def live(levels: int = 10, *, is_complete: bool = False) -> DepthSync:
    sync = opened()
    sync.on_snapshot(snapshot(100, levels, is_complete=is_complete))
    sync.on_depth(spot(101, 101))
    assert sync.state is BookState.LIVE
    return sync


@pytest.mark.parametrize(
    ("snapshot_id", "becomes_live"),
    [
        (20, True),  # exactly what the first message follows
        (24, True),  # after its pu, before its U: the ids between belong to no update of this symbol
        (27, True),  # inside of the message
        (30, False),  # all of it is included: wait for the next
        (19, False),  # the update before it is missing
    ],
)
def test_a_futures_snapshot_joins_where_the_message_follows_what_it_has(snapshot_id: int, becomes_live: bool) -> None:
    sync = opened()
    sync.on_depth(futures(20, 25, 30))
    sync.on_snapshot(snapshot(snapshot_id))
    assert (sync.state is BookState.LIVE) is becomes_live


def test_futures_ids_may_leave_gaps_but_pu_may_not() -> None:
    sync = opened()
    sync.on_snapshot(snapshot(100))
    sync.on_depth(futures(90, 98, 105))
    assert sync.state is BookState.LIVE
    assert sync.on_depth(futures(105, 140, 150)) == ()
    assert sync.on_depth(futures(160, 161, 170)) == (
        StateChanged("X", BookState.LIVE, BookState.STALE, StaleReason.GAP, 0),
        RequestSnapshot("X"),
    )
    assert sync.counters.gaps == 1


def test_a_futures_message_that_starts_right_after_the_last_one_but_follows_another_is_a_gap() -> None:
    sync = opened()
    sync.on_snapshot(snapshot(100))
    sync.on_depth(futures(90, 98, 105))
    sync.on_depth(futures(103, 106, 110))
    assert (sync.state, sync.reason) == (BookState.STALE, StaleReason.GAP)


def test_a_spot_message_may_begin_before_the_last_one_ended_but_not_after() -> None:
    sync = live()
    sync.on_depth(spot(102, 110, ((1_000, 7),)))
    assert sync.on_depth(spot(108, 115, ((1_000, 8), (999, 3)))) == ()
    assert (sync.state, sync.book.last_update_id, sync.book.best_bid()) == (BookState.LIVE, 115, (1_000, 8))
    sync.on_depth(spot(117, 118))
    assert (sync.state, sync.reason) == (BookState.STALE, StaleReason.GAP)


def test_levels_beyond_a_cut_snapshot_are_never_shown() -> None:
    sync = live()
    sync.on_depth(spot(102, 102, ((900, 7), (995, 8)), ((2_000, 7),)))
    bids, asks = sync.book.top(100)
    assert (995, 8) in bids
    assert all(price >= 991 for price, _ in bids)
    assert all(price <= 1_010 for price, _ in asks)


def test_a_thinning_book_is_refreshed_while_it_stays_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "THINNESS_CHECK_MESSAGES", 1)
    sync = live()
    sync.on_depth(spot(102, 102, tuple((1_000 - n, 0) for n in range(5))))
    assert not sync.needs_snapshot
    outputs = sync.on_depth(spot(103, 103, ((995, 0),)))
    assert outputs == (RequestSnapshot("X"),)
    assert (sync.state, sync.counters.refreshes, sync.counters.resyncs) == (BookState.LIVE, 1, 0)
    sync.on_depth(spot(104, 104, ((994, 9),)))
    deeper = DepthSnapshot("X", 103, tuple((994 - n, 5) for n in range(10)), ladder("asks", 10), 0, 0)
    assert sync.on_snapshot(deeper) == ()
    assert sync.state is BookState.LIVE
    assert sync.book.last_update_id == 104
    assert sync.book.top(20)[0] == ((994, 9), *((994 - n, 5) for n in range(1, 10)))
    assert sync.counters.transitions == 1


def test_a_refresh_waits_until_the_stream_has_reached_its_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "THINNESS_CHECK_MESSAGES", 1)
    sync = live()
    sync.on_depth(spot(102, 102, tuple((1_000 - n, 0) for n in range(6))))
    later = DepthSnapshot("X", 104, tuple((994 - n, 6) for n in range(10)), ladder("asks", 10), 0, 0)
    assert sync.on_snapshot(later) == ()
    assert sync.book.level_counts()[0] == 4
    sync.on_depth(spot(103, 103, ((994, 6),)))
    assert sync.book.level_counts()[0] == 4
    sync.on_depth(spot(104, 105, ((993, 6),)))
    assert (sync.state, sync.book.level_counts()[0], sync.book.last_update_id) == (BookState.LIVE, 10, 105)


def test_a_refresh_snapshot_from_before_the_buffer_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "THINNESS_CHECK_MESSAGES", 1)
    sync = live()
    sync.on_depth(spot(102, 102, tuple((1_000 - n, 0) for n in range(6))))
    sync.on_depth(spot(103, 103))
    assert sync.on_snapshot(snapshot(101)) == (RequestSnapshot("X"),)
    assert (sync.state, sync.counters.snapshots_too_old) == (BookState.LIVE, 1)


def test_a_refresh_that_disagrees_with_the_live_book_makes_it_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "THINNESS_CHECK_MESSAGES", 1)
    sync = live()
    sync.on_depth(spot(102, 102, tuple((1_000 - n, 0) for n in range(6))))
    other = DepthSnapshot("X", 102, ((996, 1), (995, 1)), ladder("asks", 10), 0, 0)
    outputs = sync.on_snapshot(other)
    assert outputs[-1] == RequestSnapshot("X")
    assert (sync.state, sync.reason) == (BookState.STALE, StaleReason.SNAPSHOT_MISMATCH)


def test_a_side_whose_known_levels_are_used_up_makes_the_book_stale() -> None:
    sync = live()
    sync.on_depth(spot(102, 102, tuple((1_000 - n, 0) for n in range(10))))
    assert (sync.state, sync.reason) == (BookState.STALE, StaleReason.EXHAUSTED)


def test_an_empty_side_of_a_whole_book_is_a_fact() -> None:
    sync = live(is_complete=True)
    sync.on_depth(spot(102, 102, tuple((1_000 - n, 0) for n in range(10))))
    assert sync.state is BookState.LIVE
    assert sync.book.best() is None


def test_a_ticker_is_compared_when_the_book_reaches_its_update_though_later_ones_came_meanwhile() -> None:
    sync = live()
    for update_id, quantity in ((103, 5), (104, 7), (105, 8)):
        sync.on_book_ticker(BookTicker("X", update_id, 1_000, quantity, 1_001, 5, 0, 0))
    sync.on_depth(spot(102, 104, ((1_000, 7),)))
    assert (sync.counters.ticker_comparisons, sync.counters.ticker_mismatches) == (1, 0)
    sync.on_depth(spot(105, 105, ((1_000, 9),)))
    assert (sync.state, sync.reason) == (BookState.STALE, StaleReason.TICKER_MISMATCH)


def test_stale_time_runs_from_the_loss_to_the_next_live_moment() -> None:
    sync = live()
    sync.on_stream_closed(5 * NS_PER_MS)
    assert sync.stale_ns_at(8 * NS_PER_MS) == 3 * NS_PER_MS
    sync.on_stream_opened(9 * NS_PER_MS)
    sync.on_snapshot(snapshot(200))
    sync.on_depth(DepthUpdate("X", 201, 201, (), (), 0, 25 * NS_PER_MS))
    assert sync.counters.stale_ns == sync.stale_ns_at(30 * NS_PER_MS) == 20 * NS_PER_MS
    assert sync.stale_ns_at((25 + STALE_AFTER_MS + 7) * NS_PER_MS) == 27 * NS_PER_MS


class DriftingVenue:
    """A venue whose price walks far away from where it began, with 40 levels a side and snapshots cut at 20."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.book = OrderBook()
        self.mid = 10_000
        bids = tuple((self.mid - n, 5) for n in range(1, 41))
        asks = tuple((self.mid + n, 5) for n in range(1, 41))
        self.book.apply_snapshot(DepthSnapshot("X", 0, bids, asks, 0, 0, is_complete=True))
        self.update_id = 0

    def step(self) -> DepthUpdate:
        previous = self.update_id
        self.update_id += self.random.randint(1, 5)
        drift = self.random.choice((-1, 0, 1, 1))
        bids: list[Level] = []
        asks: list[Level] = []
        if drift > 0:
            asks += [(self.mid + 1, 0), (self.mid + 41, self.random.randint(1, 9))]
            bids += [(self.mid, self.random.randint(1, 9)), (self.mid - 40, 0)]
        elif drift < 0:
            bids += [(self.mid - 1, 0), (self.mid - 41, self.random.randint(1, 9))]
            asks += [(self.mid, self.random.randint(1, 9)), (self.mid + 40, 0)]
        self.mid += drift
        update = DepthUpdate("X", previous + 1, self.update_id, tuple(bids), tuple(asks), 0, 0)
        self.book.apply_update(update)
        return update

    def snapshot(self) -> DepthSnapshot:
        return DepthSnapshot("X", self.update_id, *self.book.top(20), 0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_a_live_book_of_a_drifting_market_equals_the_venues_within_what_is_known(seed: int) -> None:
    random = Random(seed)
    venue, sync = DriftingVenue(random), opened()
    sync.on_snapshot(venue.snapshot())
    pending: list[DepthSnapshot] = []
    compared = 0
    for _ in range(1_500):
        outputs = sync.on_depth(venue.step())
        if pending and random.random() < 0.3:
            outputs += sync.on_snapshot(pending.pop())
        if any(isinstance(output, RequestSnapshot) for output in outputs):
            pending = [venue.snapshot()]
        if sync.state is BookState.LIVE:
            compared += 1
            assert sync.book.last_update_id == venue.update_id
            shown, truth = sync.book.top(40), venue.book.top(40)
            assert shown == (truth[0][: len(shown[0])], truth[1][: len(shown[1])]), f"seed {seed}"
    assert compared > 1_400
    assert sync.counters.refreshes > 5
