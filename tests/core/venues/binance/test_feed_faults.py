"""What a trader wants when the market stream fails: an honest STALE, no price for the risk checks, and LIVE again by
itself with a verified book. Faults are put between the feed and the paper venue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.market.sync import StateChanged
from core.types.clock import NS_PER_S, Clock, SystemClock
from core.venues.binance.connection import FeedTimes
from core.venues.paper.market_synthetic import SyntheticMarket
from core.venues.paper.server import PaperVenue
from tests.core.venues.binance.feed_support import QUICK, Follower, PatientClock, following, instrument
from tests.core.venues.chaos import ChaosProxy, Link
from tests.core.venues.paper.support import CREDENTIALS

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
INSTRUMENTS = [instrument(symbol) for symbol in SYMBOLS]
IMPATIENT = msgspec.structs.replace(QUICK, silence_limit_s=0.3, pong_limit_s=2.0)
HOUR_NS = 3_600 * NS_PER_S
RETRY_AFTER_S = 3
CLOSE_CODES = (*range(1000, 1015), 3000, 4000)
TOO_LARGE = bytes([0x81, 127]) + (1 << 40).to_bytes(8, "big")
"""The head of a frame of a tebibyte."""


class ShiftedClock:
    """The machine's clock, wrong by shift_ns."""

    def __init__(self, shift_ns: int = 0) -> None:
        self.shift_ns = shift_ns
        self._clock = SystemClock()

    def now_ns(self) -> int:
        return self._clock.now_ns() + self.shift_ns


@asynccontextmanager
async def venue_behind_proxy(folder: Path, clock: Clock | None = None) -> AsyncIterator[ChaosProxy]:
    market = SyntheticMarket(1, Decimal(1), clock or SystemClock())
    async with (
        PaperVenue(market, folder / "venue.sqlite3", CREDENTIALS, clock=clock) as venue,
        ChaosProxy(venue.port) as proxy,
    ):
        yield proxy
        for link in proxy.links:
            link.resume()
        await proxy.until(lambda: not proxy.links)


@asynccontextmanager
async def watched(proxy: ChaosProxy, **named: Any) -> AsyncIterator[Follower]:
    """A follower of the proxy that holds the hub to its word at every change: no price unless LIVE."""
    async with following(proxy, instruments=INSTRUMENTS, **named) as follower:
        told = follower.hub._on_state_changed
        assert told is not None

        def changed(change: StateChanged) -> None:
            inputs = follower.hub.market_inputs(change.symbol)
            assert (inputs.mid_price is not None) == (change.current == "LIVE"), change
            told(change)

        follower.hub._on_state_changed = changed
        yield follower


async def agrees_with_its_tickers(follower: Follower) -> None:
    """The venue's independent best bid and offer, compared often enough to be believed."""
    before = {symbol: counters.sync.ticker_comparisons for symbol, counters in follower.hub.counters().items()}

    def has_compared() -> bool:
        counters = follower.hub.counters()
        return all(counters[symbol].sync.ticker_comparisons > count for symbol, count in before.items())

    await follower.signal.until(has_compared)
    assert all(counters.sync.ticker_mismatches == 0 for counters in follower.hub.counters().values())


STREAM_FAULTS: dict[str, Callable[[Link], None]] = {
    "cut": lambda link: link.cut(),
    "reset": lambda link: link.cut(reset=True),
    "half a frame": lambda link: link.truncate_next_frame(0.5),
    "two bytes of a frame": lambda link: link.truncate_next_frame(0.01),
    "bytes that are no frame": lambda link: link.inject(b"\xff" * 40),
    "a frame that is too large": lambda link: link.inject(TOO_LARGE),
    "text that is no UTF-8 in a close frame": lambda link: link.inject(bytes([0x88, 4, 3, 0xE8, 0xFF, 0xFF])),
}
STALLS: dict[str, Callable[[Link], None]] = {
    "stalled": lambda link: link.stall(),
    "stalled towards the client": lambda link: link.stall(to_venue=False),
}
CLOSES: dict[str, Callable[[Link], None]] = {
    f"closed with {code}": (lambda link, code=code: link.close_websocket(code)) for code in CLOSE_CODES
}


@pytest.mark.parametrize(
    ("faults", "times"),
    [(STREAM_FAULTS, QUICK), (CLOSES, QUICK), (STALLS, IMPATIENT)],
    ids=["broken", "closed", "stalled"],
)
async def test_every_fault_of_the_connection_makes_the_books_stale_until_they_are_verified_again(
    tmp_path: Path, faults: dict[str, Callable[[Link], None]], times: FeedTimes
) -> None:
    async with venue_behind_proxy(tmp_path) as proxy, watched(proxy, times=times) as follower:
        await follower.live()
        for number, (fault, break_it) in enumerate(faults.items()):
            follower.changes.clear()
            break_it(proxy.websockets[-1])
            await follower.signal.until(lambda: len(follower.changes) >= 2 * len(SYMBOLS) and follower.is_live())
            for symbol in SYMBOLS:
                assert follower.states_of(symbol) == [("STALE", "DISCONNECTED"), ("LIVE", None)], fault
            assert follower.feed.counters.reconnects == number + 1, fault
        await agrees_with_its_tickers(follower)
        assert all(counters.sync.gaps == 0 for counters in follower.hub.counters().values())
        assert follower.feed.counters.unreadable == 0


SENSELESS = {
    b"hello": True,
    b'{"id":"\xff"}': False,
    b"": True,
    b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate"': True,
    b'{"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT","t":1,"p":"x","q":"1","T":1,"m":true}}': True,
    b"{}": False,
    b"[1,2]": False,
    b'{"id":99}': False,
    b'{"id":null,"error":{"code":3,"msg":"Invalid JSON"}}': False,
}
"""Text frames that are no market data, and whether they count as unreadable."""


async def test_messages_that_make_no_sense_disturb_nothing(tmp_path: Path) -> None:
    async with venue_behind_proxy(tmp_path) as proxy, watched(proxy) as follower:
        await follower.live()
        for text in SENSELESS:
            proxy.websockets[0].inject_text(text)
        await agrees_with_its_tickers(follower)
        assert follower.states == [("LIVE", None)] * len(SYMBOLS)
        assert follower.feed.counters.unreadable == sum(SENSELESS.values())


async def test_a_lost_message_is_a_gap_of_its_symbol_and_of_no_other(tmp_path: Path) -> None:
    async with venue_behind_proxy(tmp_path) as proxy, watched(proxy) as follower:
        await follower.live()
        proxy.websockets[0].drop_frames(1, b"ethusdt@depth")
        await follower.signal.until(lambda: len(follower.changes) == len(SYMBOLS) + 2)
        assert follower.states_of("ETHUSDT") == [("LIVE", None), ("STALE", "GAP"), ("LIVE", None)]
        assert follower.states_of("BTCUSDT") == follower.states_of("SOLUSDT") == [("LIVE", None)]
        await agrees_with_its_tickers(follower)
        assert follower.feed.counters.connections == 1


async def test_a_symbol_whose_streams_fall_silent_is_asked_for_anew(tmp_path: Path) -> None:
    times = msgspec.structs.replace(QUICK, resubscribe_after_s=0.2)
    async with (
        venue_behind_proxy(tmp_path) as proxy,
        watched(proxy, stale_after_ms=1_500, times=times, clock=PatientClock()) as follower,
    ):
        await follower.live()
        proxy.websockets[0].drop_frames(1_000_000, b"ethusdt@")
        await follower.signal.until(lambda: ("STALE", "SILENCE") in follower.states_of("ETHUSDT"))
        await proxy.until(lambda: follower.feed.counters.resubscriptions > 0)
        proxy.websockets[0].drop_frames(0)
        await follower.live()
        assert follower.states_of("BTCUSDT") == [("LIVE", None)]
        assert follower.feed.counters.connections == 1


NOT_FOUND = b'{"code":-1121,"msg":"Invalid symbol."}'
SNAPSHOT_FAULTS: dict[str, dict[str, Any]] = {
    "HTTP 500": {"status": 500},
    "HTTP 502 without JSON": {"status": 502, "body": b"<html>bad gateway</html>"},
    "HTTP 503": {"status": 503},
    "an unknown symbol": {"status": 400, "body": NOT_FOUND},
    "no answer": {"status": None},
    "half an answer": {"status": 200, "part_of_body": 10},
    "an answer that is no JSON": {"status": 200, "body": b"hello"},
    "an answer without a book": {"status": 200, "body": b"{}"},
    "prices that are no numbers": {"status": 200, "body": b'{"lastUpdateId":1,"bids":[["x","1"]],"asks":[]}'},
}


async def test_a_snapshot_that_fails_holds_no_other_symbol_back_and_is_repeated(tmp_path: Path) -> None:
    async with venue_behind_proxy(tmp_path) as proxy:
        for fault, answer in SNAPSHOT_FAULTS.items():
            canned = proxy.answer("/api/v3/depth", containing="ETHUSDT", times=1_000_000, **answer)
            async with watched(proxy) as follower:
                await follower.live("BTCUSDT", "SOLUSDT")
                await proxy.until(lambda follower=follower: follower.feed.counters.snapshots_failed >= 2)
                assert follower.states_of("ETHUSDT") == [], fault
                assert follower.hub.market_inputs("ETHUSDT").mid_price is None, fault
                assert follower.feed.snapshots.failures["ETHUSDT"].startswith("ETHUSDT: "), fault
                canned.times = 0
                await follower.live()
                assert follower.feed.snapshots.failures == {}, fault
                assert follower.states_of("BTCUSDT") == [("LIVE", None)], fault


@pytest.mark.parametrize("status", [429, 418])
async def test_a_rate_limit_is_waited_out_while_live_books_stay_live(tmp_path: Path, status: int) -> None:
    body = b'{"code":-1003,"msg":"Too many requests."}'
    async with venue_behind_proxy(tmp_path) as proxy, watched(proxy) as follower:
        await follower.live()
        asked = sum(target.startswith("/api/v3/depth") for target in proxy.requests)
        proxy.answer("/api/v3/depth", status, body, {"retry-after": str(RETRY_AFTER_S)})
        limited_ns = SystemClock().now_ns()
        proxy.websockets[0].drop_frames(1, b"ethusdt@depth")
        await proxy.until(lambda: follower.feed.counters.rate_limited == 1)
        assert follower.hub.book_states() == {"BTCUSDT": "LIVE", "ETHUSDT": "STALE", "SOLUSDT": "LIVE"}
        assert follower.feed.snapshots.paused_s > 0
        assert follower.hub.market_inputs("ETHUSDT").mid_price is None
        await follower.live()
        assert SystemClock().now_ns() - limited_ns >= RETRY_AFTER_S * NS_PER_S
        assert sum(target.startswith("/api/v3/depth") for target in proxy.requests) == asked + 2
        assert follower.states_of("BTCUSDT") == [("LIVE", None)]


async def test_a_venue_that_is_down_at_the_start_is_waited_for(tmp_path: Path) -> None:
    async with venue_behind_proxy(tmp_path) as proxy:
        proxy.refuse()
        async with watched(proxy) as follower:
            await proxy.until(lambda: proxy.refused >= 3)
            assert set(follower.hub.book_states().values()) == {"SYNCING"}
            assert not follower.feed.connected
            proxy.refuse(False)
            await follower.live()
            assert follower.feed.counters.reconnects == 0


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "ws://no-such-host.invalid"])
async def test_an_address_that_leads_nowhere_is_tried_again_and_shows_no_price(url: str) -> None:
    class Nowhere:
        base_url = url.replace("ws", "http", 1)
        websocket_url = url

    async with following(Nowhere()) as follower:
        await follower.attempted(3)
        assert follower.hub.book_states() == {"BTCUSDT": "SYNCING"}
        assert follower.hub.market_inputs("BTCUSDT").mid_price is None
        assert (follower.feed.counters.connections, follower.feed.connected) == (0, False)


@pytest.mark.parametrize("shift_ns", [HOUR_NS, -HOUR_NS])
async def test_the_venues_wrong_clock_changes_nothing(tmp_path: Path, shift_ns: int) -> None:
    async with venue_behind_proxy(tmp_path, ShiftedClock(shift_ns)) as proxy, watched(proxy) as follower:
        await follower.live()
        await agrees_with_its_tickers(follower)
        assert follower.states == [("LIVE", None)] * len(SYMBOLS)
        assert follower.hub.market_inputs("BTCUSDT").book_age_ms < 60_000


async def test_our_own_clock_leaping_ahead_is_silence_and_heals(tmp_path: Path) -> None:
    clock = ShiftedClock()
    async with venue_behind_proxy(tmp_path) as proxy, watched(proxy, clock=clock) as follower:
        await follower.live()
        clock.shift_ns = HOUR_NS
        assert follower.hub.market_inputs("BTCUSDT").mid_price is None
        await follower.signal.until(lambda: len(follower.changes) >= 2 and follower.is_live())
        await agrees_with_its_tickers(follower)
