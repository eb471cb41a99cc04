"""From one connection to the next without a hole: against the paper venue, and the rule by itself."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from core.types.clock import SystemClock
from core.types.market import BookTicker, DepthUpdate, Trade
from core.venues.binance.connection import FeedTimes
from core.venues.binance.feed_handover import Handover
from core.venues.binance.frames import Message
from core.venues.paper.market_synthetic import SyntheticMarket
from core.venues.paper.server import PaperVenue
from tests.core.venues.binance.feed_support import (
    QUICK,
    FramePlayer,
    Send,
    depth_frame,
    following,
    instrument,
    snapshot_body,
    trade_frame,
)
from tests.core.venues.chaos import ChaosProxy
from tests.core.venues.paper.support import CREDENTIALS

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
ROLLOVERS = 4


def times(**changes: float) -> FeedTimes:
    return msgspec.structs.replace(QUICK, **changes)


async def test_books_stay_live_and_trades_whole_through_rollovers(tmp_path: Path) -> None:
    market = SyntheticMarket(1, Decimal(2), SystemClock())
    instruments = [instrument("BTCUSDT"), instrument("ETHUSDT"), instrument("SOLUSDT")]
    often = times(rollover_after_s=0.8, rollover_jitter_s=0.2)
    async with (
        PaperVenue(market, tmp_path / "venue.sqlite3", CREDENTIALS) as venue,
        following(venue, instruments=instruments, times=often) as follower,
    ):
        heard: dict[str, list[int]] = {symbol: [] for symbol in SYMBOLS}
        take = follower.hub.on_trade

        def on_trade(trade: Trade) -> None:
            heard[trade.symbol].append(trade.trade_id)
            take(trade)

        follower.hub.on_trade = on_trade  # type: ignore[method-assign]
        await follower.signal.until(lambda: follower.feed.counters.rollovers >= ROLLOVERS)
        assert follower.states == [("LIVE", None)] * len(SYMBOLS)
        assert follower.is_live()
        for symbol, counters in follower.hub.counters().items():
            assert (counters.sync.gaps, counters.sync.ticker_mismatches, counters.trades_missed) == (0, 0, 0), symbol
            ids = sorted(set(heard[symbol]))
            assert ids == list(range(ids[0], ids[-1] + 1)), symbol
            assert len(ids) > 10
            bars = follower.hub.klines(symbol, "1m", 10)
            assert sum(bar.trades for bar in bars) == len(ids), symbol
        counters = follower.feed.counters
        assert (counters.reconnects, counters.rollovers_failed, counters.unreadable) == (0, 0, 0)
        assert counters.connections == counters.rollovers + 1 or follower.feed.connections[0].is_handing_over


async def test_the_venues_word_that_it_shuts_down_starts_a_rollover_at_once() -> None:
    async def play(send: Send) -> None:
        await send(depth_frame(11, 12))
        if len(venue.paths) == 1:
            await send(b'{"e":"serverShutdown","E":1770123456789}')
        await asyncio.Event().wait()

    venue = FramePlayer(lambda _: snapshot_body(11), play)
    async with venue, following(venue, times=times(handover_limit_s=0.3)) as follower:
        await follower.live()
        await venue.signal.until(lambda: len(venue.paths) == 2 and venue.open == 1)
        assert follower.feed.counters.rollovers == 1
        assert follower.states == [("LIVE", None)]


async def test_when_the_old_connection_is_lost_while_handing_over_the_new_one_carries_on() -> None:
    """The new connection's first message doesn't join what the old one brought, so the two are held side by side."""

    async def play(send: Send) -> None:
        if len(venue.paths) == 1:
            await send(depth_frame(11, 12))
            await venue.signal.until(lambda: len(venue.requests) == 2)
            await send(trade_frame(1))
            return
        await send(depth_frame(13, 14))
        trade_id = 2
        while True:
            await send(trade_frame(trade_id))
            trade_id += 1
            await asyncio.sleep(0.01)

    venue = FramePlayer(lambda _: snapshot_body(11), play)
    often = times(rollover_after_s=0.2, rollover_jitter_s=0.0, handover_limit_s=10.0)
    async with venue, following(venue, times=often) as follower:
        await follower.signal.until(lambda: follower.feed.counters.rollovers == 1 and follower.updates >= 3)
        assert follower.hub.order_book("BTCUSDT", 1).last_update_id == 14
        assert follower.hub.counters()["BTCUSDT"].trades_missed == 0
        assert follower.states == [("LIVE", None)]
        assert follower.feed.counters.reconnects == 0


@pytest.mark.parametrize("fault", ["the new connection is refused", "the new connection is cut", "it brings no depth"])
async def test_a_rollover_that_fails_leaves_the_old_connection_as_it_was(fault: str) -> None:
    sent = asyncio.Event()

    async def play(send: Send) -> None:
        if len(venue.paths) == 1:
            first = 11
            while True:
                await send(depth_frame(first, first))
                first += 1
                sent.set()
                await asyncio.sleep(0.01)
        if fault == "the new connection is cut":
            return
        await asyncio.Event().wait()

    venue = FramePlayer(lambda _: snapshot_body(11), play)
    often = times(rollover_after_s=0.2, rollover_jitter_s=0, rollover_retry_s=0.2, handover_limit_s=0.3)
    async with venue, ChaosProxy(venue.port) as proxy, following(proxy, times=often) as follower:
        await follower.live()
        proxy.refuse(fault == "the new connection is refused")
        failed_at: list[int] = []

        def has_failed_and_gone_on() -> bool:
            if follower.feed.counters.rollovers_failed and not failed_at:
                failed_at.append(follower.hub.order_book("BTCUSDT", 1).last_update_id)
            now = follower.hub.order_book("BTCUSDT", 1).last_update_id
            return follower.feed.counters.rollovers_failed >= 2 and now > failed_at[0]

        await proxy.until(has_failed_and_gone_on)
        assert follower.states == [("LIVE", None)]
        assert follower.feed.counters.rollovers == 0
        assert follower.feed.counters.reconnects == 0


def depth(first: int, last: int, previous: int | None = None) -> DepthUpdate:
    return DepthUpdate("BTCUSDT", first, last, (), (), 1, 1, previous)


def trade(trade_id: int) -> Trade:
    return Trade("BTCUSDT", trade_id, 1, 1, True, 1, 1)


OLD, NEW = "old", "new"


@pytest.mark.parametrize(
    ("spoken", "joins"),
    [
        ([(OLD, depth(1, 5)), (NEW, depth(6, 8))], True),
        ([(OLD, depth(1, 5)), (NEW, depth(1, 5))], True),
        ([(NEW, depth(6, 8)), (OLD, depth(1, 5))], True),
        ([(OLD, depth(1, 5)), (NEW, depth(7, 8))], False),
        ([(OLD, depth(1, 5)), (NEW, depth(7, 8)), (OLD, depth(6, 6))], True),
        ([(OLD, depth(1, 5, 0)), (NEW, depth(9, 12, 5))], True),
        ([(OLD, depth(1, 5, 0)), (NEW, depth(9, 12, 7))], False),
        ([(NEW, depth(6, 8))], False),
        ([(OLD, depth(1, 5))], False),
        ([(OLD, depth(1, 5)), (NEW, depth(6, 8)), (NEW, trade(4))], False),
        ([(OLD, depth(1, 5)), (NEW, depth(6, 8)), (NEW, trade(4)), (OLD, trade(3))], True),
        ([(OLD, depth(1, 5)), (NEW, depth(6, 8)), (OLD, trade(3))], True),
    ],
)
def test_a_stream_joins_when_nothing_lies_between_the_two_connections(
    spoken: list[tuple[str, Message]], joins: bool
) -> None:
    handover = Handover(lambda _: None, lambda: None)
    for connection, message in spoken:
        (handover.from_old if connection is OLD else handover.from_new)(message)
    assert handover.has_joined(["BTCUSDT"]) is joins


def test_what_the_new_connection_is_ahead_by_is_handed_on_once_and_in_order() -> None:
    given: list[Message] = []
    handover = Handover(given.append, lambda: None)
    ticker = BookTicker("BTCUSDT", 9, 1, 1, 2, 1, 1, 1)
    handover.from_old(depth(1, 5))
    for message in (depth(1, 5), depth(6, 7), trade(1), depth(8, 9), ticker, trade(2)):
        handover.from_new(message)
    handover.from_old(depth(6, 7))
    handover.from_old(trade(1))
    assert given == [depth(1, 5), depth(6, 7), trade(1)]
    handover.finish()
    assert given[3:] == [depth(8, 9), trade(2), ticker]
