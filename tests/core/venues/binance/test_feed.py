"""The market feed over real sockets: the recorded market, and a venue that misbehaves."""

from __future__ import annotations

import asyncio
import gzip
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from core.types.clock import SystemClock
from core.types.codes import RefusalError
from core.types.instruments import Product
from core.types.orders import Side
from core.venues.paper.events import MarketSource
from core.venues.paper.market_recording import RecordingMarket
from core.venues.paper.market_synthetic import SyntheticMarket
from core.venues.paper.server import PaperVenue
from tests.core.venues.binance.feed_support import (
    Follower,
    FramePlayer,
    Send,
    depth_frame,
    following,
    instrument,
    snapshot_body,
)
from tests.core.venues.paper.support import CREDENTIALS
from tests.recordings import spot_recordings


def recorded_lines() -> list[bytes]:
    with gzip.open(spot_recordings()[0]) as file:
        return [line.partition(b" ")[2].rstrip() for line in file]


LEAD_FRAMES = 200
"""How far a player may run ahead of its client: no venue's REST interface is minutes ahead of its stream."""


class VenueBook:
    """The venue's own book, for the snapshots that it would serve while it plays."""

    def __init__(self, snapshot: bytes) -> None:
        body = msgspec.json.decode(snapshot)
        self._update_id = body["lastUpdateId"]
        self._sides = [{Decimal(level[0]): tuple(level) for level in body[side]} for side in ("bids", "asks")]

    def follow(self, frame: bytes) -> None:
        if b"@depth" not in frame[:60]:
            return
        data = msgspec.json.decode(frame)["data"]
        if data["u"] <= self._update_id:
            return
        self._update_id = data["u"]
        for side, changes in zip(self._sides, (data["b"], data["a"]), strict=True):
            for price, quantity in changes:
                side.pop(Decimal(price), None)
                if Decimal(quantity):
                    side[Decimal(price)] = (price, quantity)

    def snapshot(self) -> bytes:
        bids, asks = self._sides
        return msgspec.json.encode(
            {
                "lastUpdateId": self._update_id,
                "bids": [bids[price] for price in sorted(bids, reverse=True)[:1_000]],
                "asks": [asks[price] for price in sorted(asks)[:1_000]],
            }
        )


async def test_the_recorded_market_arrives_whole_and_agrees_with_its_book_ticker() -> None:
    lines = recorded_lines()
    (snapshot,) = [line for line in lines if line.startswith(b'{"lastUpdateId"')]
    frames = [line for line in lines if not line.startswith(b'{"lastUpdateId"')]
    last_ticker = next(line for line in reversed(frames) if b"@bookTicker" in line)
    truth, hold = VenueBook(snapshot), asyncio.Event()
    started: asyncio.Future[Follower] = asyncio.get_running_loop().create_future()

    async def play(send: Send) -> None:
        follower = await started
        for number, frame in enumerate(frames):
            await send(frame)
            truth.follow(frame)
            if number % LEAD_FRAMES == 0:
                await follower.signal.until(lambda number=number: follower.feed.counters.frames > number - LEAD_FRAMES)
        await hold.wait()

    async with (
        FramePlayer(lambda _: truth.snapshot(), play) as venue,
        following(venue, stale_after_ms=60_000) as follower,
    ):
        started.set_result(follower)
        await follower.signal.until(lambda: follower.feed.counters.frames == len(frames) + 1)
        streams = ["btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@trade"]
        assert [request["params"] for request in venue.requests] == [streams]
        assert follower.states == [("LIVE", None)]
        counters = follower.hub.counters()["BTCUSDT"]
        assert counters.sync.ticker_comparisons > 300
        assert (counters.sync.ticker_mismatches, counters.sync.gaps, counters.trades_missed) == (0, 0, 0)
        assert follower.feed.counters.unreadable == 0
        assert follower.updates == sum(b"@depth" not in frame for frame in frames)
        ticker = follower.hub.ticker("BTCUSDT")
        assert f'"b":"{ticker.bid_price:.8f}"'.encode() in last_ticker
        assert f'"A":"{ticker.ask_quantity:.8f}"'.encode() in last_ticker
        assert len(follower.hub.klines("BTCUSDT", "1m", 10)) == 6
        assert follower.hub.estimate_execution("BTCUSDT", Side.BUY, Decimal(5)).complete
        hold.set()


async def test_a_lost_message_makes_the_book_stale_until_a_new_snapshot_has_joined() -> None:
    served = iter((snapshot_body(10), snapshot_body(20)))
    go_on, hold = asyncio.Event(), asyncio.Event()

    async def play(send: Send) -> None:
        await send(depth_frame(11, 12))
        await go_on.wait()
        await send(depth_frame(20, 21, [("99.99", "3.00000000")]))
        await hold.wait()

    async with (
        FramePlayer(lambda _: next(served), play) as venue,
        following(venue) as follower,
    ):
        await follower.signal.until(follower.is_live)
        go_on.set()
        await follower.signal.until(lambda: len(follower.changes) == 3)
        assert follower.states == [("LIVE", None), ("STALE", "GAP"), ("LIVE", None)]
        assert follower.hub.order_book("BTCUSDT", 5).bids[1].price == Decimal("99.99")
        assert (len(venue.snapshots), follower.feed.counters.connections) == (2, 1)
        hold.set()


async def test_a_snapshot_that_is_too_old_is_asked_for_again() -> None:
    served = iter((snapshot_body(3), snapshot_body(12)))
    hold = asyncio.Event()

    async def play(send: Send) -> None:
        await send(depth_frame(11, 13))
        await hold.wait()

    async with (
        FramePlayer(lambda _: next(served), play) as venue,
        following(venue) as follower,
    ):
        await follower.signal.until(follower.is_live)
        assert len(venue.snapshots) == 2
        assert follower.hub.order_book("BTCUSDT", 1).last_update_id == 13
        hold.set()


async def test_after_a_lost_connection_the_book_is_stale_until_resynced_on_a_new_one() -> None:
    drop, hold = asyncio.Event(), asyncio.Event()

    async def play(send: Send) -> None:
        await send(depth_frame(11, 12))
        if not drop.is_set():
            await drop.wait()
            return
        await hold.wait()

    async with (
        FramePlayer(lambda _: snapshot_body(11), play) as venue,
        following(venue) as follower,
    ):
        await follower.signal.until(follower.is_live)
        drop.set()
        await follower.signal.until(lambda: len(follower.changes) == 3)
        assert follower.states == [("LIVE", None), ("STALE", "DISCONNECTED"), ("LIVE", None)]
        assert follower.feed.counters.connections == 2
        hold.set()


async def test_silence_makes_the_book_stale_without_any_message() -> None:
    hold = asyncio.Event()

    async def play(send: Send) -> None:
        await send(depth_frame(11, 12))
        await hold.wait()

    async with (
        FramePlayer(lambda _: snapshot_body(11), play) as venue,
        following(venue, stale_after_ms=150) as follower,
    ):
        await follower.signal.until(lambda: ("STALE", "SILENCE") in follower.states)
        with pytest.raises(RefusalError, match="MARKET_BOOK_STALE"):
            follower.hub.estimate_execution("BTCUSDT", Side.BUY, Decimal(1))
        hold.set()


async def test_an_unreadable_frame_is_counted_and_the_gap_it_leaves_is_found() -> None:
    served = iter((snapshot_body(10), snapshot_body(14)))
    hold = asyncio.Event()

    async def play(send: Send) -> None:
        await send(depth_frame(11, 12))
        await send(depth_frame(13, 13, [("100.001", "1.00000000")]))  # finer than the tick
        await send(b'{"result":null,"id":1}')
        await send(depth_frame(14, 15))
        await hold.wait()

    async with (
        FramePlayer(lambda _: next(served), play) as venue,
        following(venue) as follower,
    ):
        await follower.signal.until(lambda: len(follower.changes) >= 2 or follower.is_live())
        await follower.signal.until(follower.is_live)
        assert follower.feed.counters.unreadable == 1
        assert follower.hub.order_book("BTCUSDT", 1).last_update_id == 15
        hold.set()


@pytest.mark.parametrize("source", ["synthetic", "recording"])
async def test_the_paper_venues_market_is_followed_without_a_gap(tmp_path: Path, source: str) -> None:
    clock = SystemClock()
    market: MarketSource = SyntheticMarket(1, Decimal(5), clock)
    if source == "recording":
        market = RecordingMarket((spot_recordings()[0],), Decimal(20), clock)
    async with (
        PaperVenue(market, tmp_path / "venue.sqlite3", CREDENTIALS) as venue,
        following(venue) as follower,
    ):
        await follower.signal.until(follower.is_live)
        await follower.signal.until(lambda: follower.hub.counters()["BTCUSDT"].sync.ticker_comparisons >= 10)
        sync = follower.hub.counters()["BTCUSDT"].sync
        assert follower.states == [("LIVE", None)]
        assert (sync.gaps, sync.ticker_mismatches, follower.feed.counters.unreadable) == (0, 0, 0)
        ticker = follower.hub.ticker("BTCUSDT")
        assert ticker.bid_price < ticker.ask_price


async def test_the_paper_venues_perpetual_is_followed_by_its_own_sequence_rule(tmp_path: Path) -> None:
    class Futures:
        def __init__(self, venue: PaperVenue) -> None:
            self.base_url, self.websocket_url = venue.base_url, f"{venue.websocket_url}/usdm"

    market = SyntheticMarket(1, Decimal(2), SystemClock())
    perpetual = instrument("BTCUSDT", Product.USDM)
    async with (
        PaperVenue(market, tmp_path / "venue.sqlite3", CREDENTIALS) as venue,
        following(Futures(venue), instruments=[perpetual]) as follower,
    ):
        await follower.live()
        await follower.signal.until(lambda: follower.hub.counters()["BTCUSDT"].sync.ticker_comparisons >= 5)
        sync = follower.hub.counters()["BTCUSDT"].sync
        assert follower.states == [("LIVE", None)]
        assert (sync.gaps, sync.ticker_mismatches, follower.feed.counters.unreadable) == (0, 0, 0)
        assert follower.feed.connections[0].url.endswith("/usdm/public/stream")
