"""Feed health: rates, latencies and ages that are right to the message, and instruments that come and go."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core.market.health import LATENCY_WINDOW_MESSAGES, FeedMeter
from core.market.hub import MarketHub
from core.types.clock import NS_PER_MS, NS_PER_S, ManualClock
from core.types.codes import ReasonCode, RefusalError
from core.types.instruments import Instrument
from core.types.market import BookTicker, DepthSnapshot, DepthUpdate, Trade

START_NS = 1_700_000_000 * NS_PER_S
STALE_AFTER_MS = 1_000


@pytest.mark.parametrize(
    ("latencies_ms", "offset_ms", "percent", "expected"),
    [
        ([], None, 50, None),
        ([7], None, 50, "7.000"),
        ([7], None, 99, "7.000"),
        ([4, 1, 3, 2], None, 50, "2.000"),
        ([4, 1, 3, 2], None, 99, "4.000"),
        # Our clock is 1,270 ms behind the venue's: what looks like arriving early came 20 ms late.
        ([-1_250], 1_270, 50, "20.000"),
        ([*range(1, 101)], None, 99, "99.000"),
        # What has left the window counts no more.
        ([10_000] * 10 + [5] * LATENCY_WINDOW_MESSAGES, None, 99, "5.000"),
    ],
)
def test_latency_is_a_percentile_by_nearest_rank(
    latencies_ms: list[int], offset_ms: int | None, percent: int, expected: str | None
) -> None:
    meter = FeedMeter()
    for latency_ms in latencies_ms:
        meter.on_latency(latency_ms * NS_PER_MS)
    found = meter.latency_ms(percent, offset_ms)
    assert found == (None if expected is None else Decimal(expected))


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    meter = FeedMeter()
    now_ns = START_NS
    for second in range(60):
        meter.on_time(now_ns)
        meter.messages += 1_000 if second < 30 else 20
        now_ns += NS_PER_S
    meter.on_time(now_ns)
    assert meter.rate_per_s(now_ns) == Decimal(20)


def test_the_rate_is_zero_before_anything_is_known_and_after_the_clock_stepped_back() -> None:
    meter = FeedMeter()
    assert meter.rate_per_s(START_NS) == 0
    meter.on_time(START_NS)
    meter.messages += 5
    meter.on_time(START_NS - 3_600 * NS_PER_S)
    assert meter.rate_per_s(START_NS - 3_600 * NS_PER_S) == 0


def test_health_tells_state_age_latency_and_counts(btcusdt: Instrument) -> None:
    clock = ManualClock(START_NS)
    hub = MarketHub((btcusdt,), clock, STALE_AFTER_MS)
    before = hub.feed_health("BTCUSDT")
    assert (before.book_state, before.book_age_ms, before.ticker_age_ms, before.messages) == ("SYNCING", None, None, 0)
    hub.on_stream_opened(["BTCUSDT"])
    hub.on_snapshot(DepthSnapshot("BTCUSDT", 10, ((100, 1),), ((101, 1),), START_NS, START_NS))
    hub.set_clock_offset_ms(30)
    hub.on_depth(DepthUpdate("BTCUSDT", 11, 11, (), (), START_NS + 10 * NS_PER_MS, START_NS))
    hub.on_book_ticker(BookTicker("BTCUSDT", 11, 100, 1, 101, 1, START_NS, START_NS))
    hub.on_trade(Trade("BTCUSDT", 5, 100, 1, True, START_NS, START_NS))
    hub.on_trade(Trade("BTCUSDT", 8, 100, 1, True, START_NS, START_NS))
    clock.advance_ns(250 * NS_PER_MS)
    view = hub.feed_health("BTCUSDT")
    assert (view.book_state, view.stale_reason, view.book_age_ms, view.ticker_age_ms) == ("LIVE", None, 250, 250)
    assert view.exchange_latency_ms_p50 == view.exchange_latency_ms_p99 == Decimal(20)
    assert (view.messages, view.trades_missed, view.ticker_comparisons, view.ticker_mismatches) == (4, 2, 1, 0)
    clock.advance_ns(STALE_AFTER_MS * NS_PER_MS)
    silent = hub.feed_health("BTCUSDT")
    assert (silent.book_state, silent.stale_reason, silent.stale_time_ms) == ("STALE", "SILENCE", 250)


def test_an_instrument_can_be_added_and_removed_while_others_stay_live(btcusdt: Instrument) -> None:
    clock = ManualClock(START_NS)
    hub = MarketHub((btcusdt,), clock, STALE_AFTER_MS)
    hub.on_stream_opened(["BTCUSDT"])
    hub.on_snapshot(DepthSnapshot("BTCUSDT", 10, ((100, 1),), ((101, 1),), START_NS, START_NS))
    hub.on_depth(DepthUpdate("BTCUSDT", 11, 11, (), (), START_NS, START_NS))
    hub.add(Instrument("paper", "ETHUSDT", "ETH", "USDT", 2, 4, 1, 1, 1, 10**12, 1))
    hub.add(btcusdt)
    assert hub.book_states() == {"BTCUSDT": "LIVE", "ETHUSDT": "SYNCING"}
    hub.remove("ETHUSDT")
    assert hub.book_states() == {"BTCUSDT": "LIVE"}
    with pytest.raises(RefusalError) as refused:
        hub.feed_health("ETHUSDT")
    assert refused.value.refusal.code is ReasonCode.MARKET_INSTRUMENT_UNKNOWN
