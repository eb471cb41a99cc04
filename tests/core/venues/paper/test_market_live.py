"""A paper venue whose market is another venue's live one, over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.market.hub import MarketHub
from core.types.clock import SystemClock
from core.types.instruments import Instrument
from core.types.market import DepthUpdateLike
from core.venues.binance.feed import BinanceMarketFeed
from core.venues.binance.rest import BinanceRest
from core.venues.paper.errors import PaperVenueError
from core.venues.paper.events import BookTicker, DepthDiff, Trade
from core.venues.paper.market_live import LiveMarket
from core.venues.paper.server import PaperVenue
from tests.core.venues.paper.support import CREDENTIALS, ScriptedMarket, d

CLOCK = SystemClock()
DEADLINE_S = 60
PACE_S = 0.02
INSTRUMENT = Instrument("paper", "BTCUSDT", "BTC", "USDT", 2, 5, 1, 1, 1, 10**12, 1)


class WatchedHub(MarketHub):
    """Tells when a depth message was taken."""

    def __init__(self) -> None:
        super().__init__((INSTRUMENT,), CLOCK, 60_000)
        self.moved = asyncio.Event()

    def on_depth(self, update: DepthUpdateLike):  # type: ignore[no-untyped-def]
        outputs = super().on_depth(update)
        self.moved.set()
        return outputs

    async def wait_for_bid(self, bid: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                view = self.order_book("BTCUSDT", 5)
                if view.state == "LIVE" and view.bids and str(view.bids[0].price) == bid:
                    return
                self.moved.clear()
                await self.moved.wait()


def diff(update_id: int, bid: str, quantity: str) -> DepthDiff:
    event_ms = CLOCK.now_ns() // 1_000_000
    return DepthDiff("BTCUSDT", event_ms, update_id, update_id, ((d(bid), d(quantity)),), ())


async def test_a_venue_that_mirrors_another_shows_its_book_and_survives_its_restart(tmp_path: Path) -> None:
    origin_market = ScriptedMarket()
    origin = PaperVenue(origin_market, tmp_path / "origin.sqlite3", CREDENTIALS)
    hub = WatchedHub()
    stop = asyncio.Event()
    async with origin:
        port = origin.port
        live = LiveMarket(("BTCUSDT",), origin.base_url, origin.websocket_url, CLOCK)
        async with PaperVenue(live, tmp_path / "mirror.sqlite3", CREDENTIALS) as mirror:
            rest = BinanceRest(mirror.base_url, CLOCK)
            feed = BinanceMarketFeed(mirror.websocket_url, rest, hub, ("BTCUSDT",), CLOCK)
            following = asyncio.create_task(feed.run(stop))
            pump = asyncio.create_task(_move(origin_market, 101, "0"))
            await hub.wait_for_bid("99.97")
            pump.cancel()
            resyncs = hub.counters()["BTCUSDT"].sync.gaps
            await origin.__aexit__(None, None, None)
            again_market = ScriptedMarket()
            async with PaperVenue(again_market, tmp_path / "again.sqlite3", CREDENTIALS, port=port):
                pump = asyncio.create_task(_move(again_market, 50_000, "5"))
                await hub.wait_for_bid("99.99")
                pump.cancel()
            assert hub.counters()["BTCUSDT"].sync.gaps == resyncs == 0
            stop.set()
            await following
            await rest.aclose()


async def _move(market: ScriptedMarket, start: int, upper_bids_quantity: str) -> None:
    """A market that keeps saying the same at a steady pace: with or without its two upper bids."""
    update_id = start
    while True:
        market.queue.put_nowait(diff(update_id, "99.99", upper_bids_quantity))
        market.queue.put_nowait(diff(update_id + 1, "99.98", upper_bids_quantity))
        market.queue.put_nowait(diff(update_id + 2, "99.97", "4"))
        bid = ("99.97", "4") if upper_bids_quantity == "0" else ("99.99", upper_bids_quantity)
        ticker = BookTicker("BTCUSDT", update_id + 2, d(bid[0]), d(bid[1]), d("100.00"), d("1"))
        market.queue.put_nowait(ticker)
        event_ms = CLOCK.now_ns() // 1_000_000
        market.queue.put_nowait(Trade("BTCUSDT", event_ms, event_ms, update_id, d("99.97"), d("0.1"), True))
        update_id += 3
        await asyncio.sleep(PACE_S)


@pytest.mark.parametrize("symbols", [(), ("NOSUCH",)])
def test_symbols_that_are_not_listed_are_named(symbols: tuple[str, ...]) -> None:
    with pytest.raises(PaperVenueError, match=r"NOSUCH|no symbol"):
        LiveMarket(symbols, "http://127.0.0.1:1", "ws://127.0.0.1:1", CLOCK)


def test_a_venue_that_cannot_be_reached_is_named_with_a_way_out() -> None:
    with pytest.raises(PaperVenueError, match=r"no book of BTCUSDT from http://127\.0\.0\.1:1/api/v3/depth.*synthetic"):
        LiveMarket(("BTCUSDT",), "http://127.0.0.1:1", "ws://127.0.0.1:1", CLOCK).open()
