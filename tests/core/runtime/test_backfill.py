"""Klines of the time before the engine, and of minutes whose trades it missed."""

from __future__ import annotations

import asyncio

import pytest

from core.market.bars import Kline
from core.market.hub import MarketHub
from core.runtime import backfill as backfill_module
from core.runtime.backfill import NS_PER_MINUTE, KlineBackfill
from core.types.clock import NS_PER_S, ManualClock
from core.types.instruments import Instrument
from core.types.market import Trade
from core.venues.ports import VenueUnavailableError

START_NS = 1_700_000_040 * NS_PER_S - (1_700_000_040 * NS_PER_S) % NS_PER_MINUTE
INSTRUMENT = Instrument("paper", "BTCUSDT", "BTC", "USDT", 2, 5, 1, 1, 1, 10**12, 1)


class Venue:
    """Has a bar for every minute, and every trade in it; counts what it was asked."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.asked: list[tuple[int, int]] = []
        self.fails = 0

    async def klines(self, symbol: str, interval: str, start_ns: int, limit: int) -> list[Kline]:
        assert (symbol, interval) == ("BTCUSDT", "1m")
        self.asked.append((start_ns, limit))
        if self.fails:
            self.fails -= 1
            raise VenueUnavailableError("the venue is away")
        now_ns = self.clock.now_ns()
        first_ns = max(start_ns, START_NS - 10 * NS_PER_MINUTE)
        opens = range(-(-first_ns // NS_PER_MINUTE) * NS_PER_MINUTE, now_ns + 1, NS_PER_MINUTE)
        return [
            Kline(
                open_ns,
                open_ns + NS_PER_MINUTE - 1,
                100,
                100,
                100,
                100,
                7,
                700,
                7,
                closed=open_ns + NS_PER_MINUTE <= now_ns,
            )
            for open_ns in list(opens)[:limit]
        ]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START_NS + 30 * NS_PER_S)


def trade(hub: MarketHub, clock: ManualClock, trade_id: int) -> None:
    hub.on_trade(Trade("BTCUSDT", trade_id, 101, 1, True, clock.now_ns(), clock.now_ns()))


async def test_the_minutes_before_the_engine_are_the_venues(clock: ManualClock) -> None:
    hub, venue = MarketHub((INSTRUMENT,), clock, 1_000), Venue(clock)
    await KlineBackfill(venue, hub, clock).begin("BTCUSDT")
    trade(hub, clock, 50)
    bars = hub.klines("BTCUSDT", "1m", 20)
    assert [bar.open_time_ns for bar in bars] == [START_NS + n * NS_PER_MINUTE for n in range(-10, 1)]
    assert [bar.closed for bar in bars] == [True] * 10 + [False]


async def test_a_minute_with_a_missed_trade_is_asked_for_until_the_venue_has_it(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, venue = MarketHub((INSTRUMENT,), clock, 1_000), Venue(clock)
    backfill = KlineBackfill(venue, hub, clock)
    await backfill.begin("BTCUSDT")
    trade(hub, clock, 50)
    trade(hub, clock, 53)
    clock.advance_ns(NS_PER_MINUTE)
    trade(hub, clock, 54)
    assert START_NS not in [bar.open_time_ns for bar in hub.klines("BTCUSDT", "1m", 3) if bar.closed]
    assert hub.kline_holes("BTCUSDT")
    venue.fails = 1
    naps: list[float] = []
    filled = asyncio.Event()

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        clock.advance_ns(30 * NS_PER_S)
        if not hub.kline_holes("BTCUSDT"):
            filled.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(backfill_module.asyncio, "sleep", nap)
    keeping = asyncio.create_task(backfill.keep())
    await filled.wait()
    keeping.cancel()
    assert len(venue.asked) == 3, "once at the start, once in vain, once again after RETRY_NS"
    minute = next(bar for bar in hub.klines("BTCUSDT", "1m", 10) if bar.open_time_ns == START_NS)
    assert (minute.closed, minute.trades) == (True, 7)
