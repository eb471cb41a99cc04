"""The recorded markets through the live path: no gap, and best bid and offer equal to the venue's own bookTicker."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.market.hub import MarketHub
from core.market.sync import BookState
from core.types.clock import ManualClock
from core.types.instruments import Instrument, Product
from core.types.market import BookTicker
from core.venues.binance.frames import FrameReader, dispatch
from tests.recordings import recordings_folder

WHOLE_BOOK_LIMIT_LEVELS = 5_000
"""The recorded snapshot has 1,000 levels; nothing here can serve another one, so it counts as the whole book."""

SPOT = Instrument("binance", "BTCUSDT", "BTC", "USDT", 2, 5, 1, 1, 1, 10**12, 1)
USDM = Instrument("binance", "BTCUSDT", "BTC", "USDT", 1, 3, 1, 1, 1, 10**12, 1, product=Product.USDM)


def lines(names: tuple[str, ...]) -> Iterator[tuple[int, bytes]]:
    folder = recordings_folder()
    for name in names:
        path: Path = folder / name
        if not path.exists():
            pytest.skip(f"no recording {path}")
        with gzip.open(path) as file:
            for line in file:
                ts_ns, _, raw = line.partition(b" ")
                yield int(ts_ns), raw


@pytest.mark.parametrize(
    ("instrument", "names", "depth_messages", "comparable"),
    [
        (SPOT, ("spot_btcusdt_20240808.gz", "spot_btcusdt_20240809.gz"), 6_495, 1_072),
        (USDM, ("usdm_btcusdt_20240808.gz",), 6_551, 629),
    ],
    ids=["spot", "usdm"],
)
def test_the_recorded_market_has_no_gap_and_its_book_equals_the_book_ticker(
    instrument: Instrument, names: tuple[str, ...], depth_messages: int, comparable: int
) -> None:
    clock = ManualClock()
    hub = MarketHub((instrument,), clock, stale_after_ms=5_000)
    reader = FrameReader()
    reader.add(instrument)
    hub.on_stream_opened(("BTCUSDT",))
    first_live = seen = 0
    best_at: dict[int, tuple[int, int, int, int] | None] = {}
    tickers: dict[int, tuple[int, int, int, int]] = {}
    sync = hub._market("BTCUSDT").sync
    for ts_ns, raw in lines(names):
        clock.advance_ns(ts_ns - clock.now_ns())
        if b"lastUpdateId" in raw[:64]:
            hub.on_snapshot(reader.read_snapshot(raw, "BTCUSDT", WHOLE_BOOK_LIMIT_LEVELS, ts_ns))
            continue
        message = reader.read(raw, ts_ns)
        assert message is not None
        dispatch(hub, message)
        if isinstance(message, BookTicker):
            best = (message.bid_price, message.bid_quantity, message.ask_price, message.ask_quantity)
            tickers[message.update_id] = best
        elif b"depthUpdate" in raw[:160]:
            seen += 1
            if sync.state is BookState.LIVE:
                first_live = first_live or seen
                best_at[sync.book.last_update_id] = sync.book.best()
    ids = best_at.keys() & tickers.keys()
    assert (seen, len(ids)) == (depth_messages, comparable)
    assert {update_id: best_at[update_id] for update_id in ids} == {update_id: tickers[update_id] for update_id in ids}
    counters = sync.counters
    assert (counters.gaps, counters.crossed, counters.resyncs, counters.ticker_mismatches) == (0, 0, 0, 0)
    assert counters.ticker_comparisons == comparable
    assert (sync.state, counters.transitions) == (BookState.LIVE, 1)
    assert len(best_at) == depth_messages - first_live + 1
    health = hub.feed_health("BTCUSDT")
    assert (health.gaps, health.stale_time_ms, health.book_state) == (0, 0, "LIVE")
    assert health.exchange_latency_ms_p50 is not None
    # The recorder's clock ran about 1.27 s behind the venue's.
    assert -1_400 < health.exchange_latency_ms_p50 < -1_100
