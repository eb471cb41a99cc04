"""Subscribing in flight, connections that fill up, and symbols that the venue doesn't know."""

from __future__ import annotations

import asyncio

import pytest

from core.types.codes import RefusalError
from core.types.instruments import Product
from core.venues.binance.backoff import AttemptBudget
from core.venues.binance.connection import STREAMS, SubscriptionError
from core.venues.ports import VenueUnavailableError
from tests.core.venues.binance.feed_support import (
    QUICK,
    FramePlayer,
    Send,
    depth_frame,
    following,
    instrument,
    snapshot_body,
)
from tests.core.venues.binance.support import DEADLINE_S


def names(*symbols: str) -> list[str]:
    return [f"{symbol.lower()}@{name}" for symbol in symbols for name in ("depth@100ms", "bookTicker", "trade")]


def steady(*symbols: str) -> tuple[FramePlayer, asyncio.Event]:
    """A venue that sends one depth message of each symbol and then is quiet, until told to end."""
    hold = asyncio.Event()

    async def play(send: Send) -> None:
        for symbol in symbols:
            await send(depth_frame(11, 12, symbol=symbol))
        await hold.wait()

    return FramePlayer(lambda _: snapshot_body(11), play), hold


async def test_symbols_are_subscribed_and_unsubscribed_on_the_open_connection() -> None:
    instruments = [instrument(symbol) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
    added = asyncio.Event()

    async def play(send: Send) -> None:
        await send(depth_frame(11, 12))
        await added.wait()
        await send(depth_frame(11, 12, symbol="ETHUSDT"))
        await send(depth_frame(11, 12, symbol="SOLUSDT"))
        await asyncio.Event().wait()

    async with (
        FramePlayer(lambda _: snapshot_body(11), play) as venue,
        following(venue, instruments=instruments, followed=["BTCUSDT"]) as follower,
    ):
        await follower.live("BTCUSDT")
        await follower.feed.subscribe(["ETHUSDT", "SOLUSDT", "BTCUSDT"])
        added.set()
        await follower.live()
        assert follower.feed.symbols == ("BTCUSDT", "ETHUSDT", "SOLUSDT")
        await follower.feed.unsubscribe(["ETHUSDT", "NOTUSDT"])
        assert follower.hub.book_states() == {"BTCUSDT": "LIVE", "ETHUSDT": "STALE", "SOLUSDT": "LIVE"}
        await venue.signal.until(lambda: len(venue.requests) == 3)
        assert [(request["method"], request["params"]) for request in venue.requests] == [
            ("SUBSCRIBE", names("BTCUSDT")),
            ("SUBSCRIBE", names("ETHUSDT", "SOLUSDT")),
            ("UNSUBSCRIBE", names("ETHUSDT")),
        ]
        assert follower.states_of("BTCUSDT") == [("LIVE", None)]
        assert [view.subscribed for view in follower.feed.connections] == [2]
        with pytest.raises(RefusalError, match="NOTUSDT"):
            await follower.feed.subscribe(["NOTUSDT"])


async def test_a_symbol_that_the_venue_refuses_is_named_and_holds_no_other_back() -> None:
    symbols = ["BTCUSDT", "ETHUSDT", "BADUSDT", "SOLUSDT", "NOTUSDT"]
    venue, _ = steady("BTCUSDT", "ETHUSDT", "SOLUSDT")
    venue.unknown = {"BADUSDT", "NOTUSDT"}
    async with (
        venue,
        following(venue, instruments=[instrument(symbol) for symbol in symbols], followed=symbols[:4]) as follower,
    ):
        await follower.live("BTCUSDT", "ETHUSDT", "SOLUSDT")
        await venue.signal.until(lambda: len(venue.requests) >= 5)
        assert list(follower.feed.rejected) == ["BADUSDT"]
        assert "BADUSDT" in follower.feed.rejected["BADUSDT"]
        assert "unknown stream" in follower.feed.rejected["BADUSDT"]
        assert not follower.is_live("BADUSDT")
        with pytest.raises(SubscriptionError, match="NOTUSDT were refused, venue code 2: Invalid request") as caught:
            await follower.feed.subscribe(["NOTUSDT"])
        assert caught.value.symbols == ("NOTUSDT",)
        assert "NOTUSDT" not in follower.feed.symbols
        assert follower.feed.counters.subscriptions_refused == 2
        assert follower.feed.counters.connections == 1


@pytest.mark.parametrize(
    ("product", "path", "depth_path"),
    [
        (Product.SPOT, "/stream", "/api/v3/depth"),
        (Product.USDM, "/public/stream", "/fapi/v1/depth"),
    ],
)
async def test_each_product_has_its_own_path_and_sequence_rule(product: Product, path: str, depth_path: str) -> None:
    previous = None if product is Product.SPOT else 9
    first = 12 if product is Product.SPOT else 15

    async def play(send: Send) -> None:
        await send(depth_frame(10, 11, previous=previous))
        await send(depth_frame(first, 16, previous=None if product is Product.SPOT else 11))
        await asyncio.Event().wait()

    async with (
        FramePlayer(lambda _: snapshot_body(10), play) as venue,
        following(venue, instruments=[instrument(product=product)]) as follower,
    ):
        await follower.signal.until(follower.is_live)
        assert venue.paths == [path]
        assert venue.depth_paths == [f"{depth_path}?symbol=BTCUSDT&limit=1000"]
        assert follower.hub.counters()["BTCUSDT"].sync.gaps == 0


async def test_symbols_beyond_a_connections_streams_go_to_another_and_stay_whole() -> None:
    room = STREAMS[Product.USDM].symbols_per_connection
    symbols = [f"A{number:03}USDT" for number in range(room + 2)]

    async def play(send: Send) -> None:
        for symbol in symbols:
            await send(depth_frame(11, 12, symbol=symbol, previous=10))
        await asyncio.Event().wait()

    async with (
        FramePlayer(lambda _: snapshot_body(11), play) as venue,
        following(venue, instruments=[instrument(symbol, Product.USDM) for symbol in symbols]) as follower,
    ):
        await follower.signal.until(lambda: sum(view.subscribed for view in follower.feed.connections) == room + 2)
        assert [(view.symbols, view.is_open) for view in follower.feed.connections] == [(room, True), (2, True)]
        await venue.signal.until(lambda: sum(len(request["params"]) for request in venue.requests) == 3 * (room + 2))
        assert all(len(request["params"]) <= 100 for request in venue.requests)
        await follower.feed.unsubscribe(symbols[-2:])
        assert len(follower.feed.connections) == 1
        await venue.signal.until(lambda: venue.open == 1)


async def test_a_venue_that_does_not_answer_a_subscription_is_left_for_a_new_connection() -> None:
    venue, _ = steady("BTCUSDT")
    venue.answers = False
    times = type(QUICK)(**{name: getattr(QUICK, name) for name in QUICK.__struct_fields__} | {"answer_limit_s": 0.1})
    async with venue, following(venue, times=times) as follower:
        await venue.signal.until(lambda: len(venue.paths) >= 2)
        venue.answers = True
        await follower.live()


async def test_mixed_products_and_empty_feeds_are_refused_by_name() -> None:
    venue, _ = steady()
    async with venue:
        with pytest.raises(ValueError, match="ETHUSDT is USDM, this feed follows SPOT"):
            async with following(venue, instruments=[instrument(), instrument("ETHUSDT", Product.USDM)]):
                pass
        with pytest.raises(ValueError, match="at least one symbol"):
            async with following(venue, followed=[]):
                pass


async def test_attempts_to_connect_are_counted_and_rationed() -> None:
    budget = AttemptBudget(limit=3, window_s=10)
    assert [budget.take(0), budget.take(1), budget.take(2)] == [0, 0, 0]
    assert budget.take(4) == 6
    assert budget.take(10) == 0
    assert budget.take(10.5) == 0.5

    async def play(_: Send) -> None:
        return

    async with (
        FramePlayer(lambda _: snapshot_body(11), play) as venue,
        following(venue, budget=AttemptBudget(limit=4, window_s=3_600)) as follower,
    ):
        await venue.signal.until(lambda: len(venue.paths) == 4 and not venue.open)
        assert follower.feed.counters.attempts == 4
        assert follower.feed.counters.reconnects == 3


async def test_backfill_is_asked_for_once_a_symbol_and_again_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.venues.binance.feed.BACKFILL_RETRY_S", 0.01)
    asked: list[str] = []
    done = asyncio.Event()

    async def backfill(symbol: str) -> None:
        asked.append(symbol)
        if asked.count("ETHUSDT") == 1 and symbol == "ETHUSDT":
            raise VenueUnavailableError("later")
        if len(asked) == 3:
            done.set()

    venue, _ = steady("BTCUSDT", "ETHUSDT")
    async with (
        venue,
        following(venue, instruments=[instrument(), instrument("ETHUSDT")], backfill=backfill) as follower,
    ):
        async with asyncio.timeout(DEADLINE_S):
            await done.wait()
        assert sorted(asked) == ["BTCUSDT", "ETHUSDT", "ETHUSDT"]
        await follower.live()
