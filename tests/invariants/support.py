"""What several invariants look at: the venue as another client of it, and a market that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from core.config import Settings
from core.types.clock import NS_PER_MS, SystemClock
from core.types.events import JournalEvent
from core.venues.paper.events import BookTicker, DepthDiff, Level, Publish, StartBook
from core.venues.paper.server import PaperVenue
from core.venues.paper.signing import Credentials
from tests.core.engine_support import RunningEngine, settings_for
from tests.core.venues.paper.support import UNIT, Client

PULSE_S = 0.05
DEPTH = 5
LEVEL_QUANTITY = 3 * UNIT


def credentials(settings: Settings) -> Credentials:
    return Credentials(settings.read_secret("venue-paper.key"), settings.read_secret("venue-paper.secret"))


async def orders_at(venue: PaperVenue, settings: Settings) -> list[dict[str, Any]]:
    """Every order that the venue ever took on BTCUSDT, over its own REST interface."""
    client = Client(venue.base_url, credentials(settings))
    answer = await client.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT")
    await client.http.aclose()
    assert answer.status_code == 200, answer.text
    orders: list[dict[str, Any]] = answer.json()
    return orders


async def journal_of(engine: RunningEngine) -> list[JournalEvent]:
    """All that is in the journal now."""
    last = (await engine.client.status()).journal_sequence
    events: list[JournalEvent] = []
    entries = engine.client.stream_journal(0)
    async for entry in entries:
        events.append(entry.event())
        if entry.sequence >= last:
            break
    await entries.aclose()
    return events


class MovableMarket:
    """A market of BTCUSDT that stands still, with a pulse so that its book stays fresh, until the test moves it."""

    symbols = ("BTCUSDT",)

    def __init__(self, mid: int) -> None:
        self._mid = mid
        self._last_id = 100
        self._publish: Publish | None = None

    def open(self) -> tuple[StartBook, ...]:
        return (StartBook("BTCUSDT", self._last_id, *_levels(self._mid)),)

    async def play(self, publish: Publish) -> None:
        self._publish = publish
        while True:
            self._send((), ())
            await asyncio.sleep(PULSE_S)

    def describe(self) -> dict[str, Any]:
        return {"source": "movable"}

    def move_to(self, mid: int) -> None:
        """Everything that was quoted goes, and is quoted again around mid."""
        bids, asks = _levels(self._mid)
        new_bids, new_asks = _levels(mid)
        gone_bids, gone_asks = ({price: 0 for price, _ in levels} for levels in (bids, asks))
        self._mid = mid
        self._send(tuple((gone_bids | dict(new_bids)).items()), tuple((gone_asks | dict(new_asks)).items()))

    def _send(self, bids: tuple[Level, ...], asks: tuple[Level, ...]) -> None:
        assert self._publish is not None, "the market isn't playing yet"
        self._last_id += 1
        now_ms = SystemClock().now_ns() // NS_PER_MS
        (bid, _), (ask, _) = (levels[0] for levels in _levels(self._mid))
        self._publish(DepthDiff("BTCUSDT", now_ms, self._last_id, self._last_id, bids, asks))
        self._publish(BookTicker("BTCUSDT", self._last_id, bid, LEVEL_QUANTITY, ask, LEVEL_QUANTITY))


def _levels(mid: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    bids = tuple(((mid - step) * UNIT, LEVEL_QUANTITY) for step in range(1, DEPTH + 1))
    asks = tuple(((mid + step) * UNIT, LEVEL_QUANTITY) for step in range(1, DEPTH + 1))
    return bids, asks


@asynccontextmanager
async def engine_on(market: MovableMarket, home: Path) -> AsyncIterator[tuple[RunningEngine, PaperVenue]]:
    """An engine at a venue with this market."""
    async with PaperVenue(market, home / "venue.sqlite3", credentials(settings_for(home))) as venue:
        settings = settings_for(
            home, VELOZ_VENUE__REST_URL=venue.base_url, VELOZ_VENUE__WEBSOCKET_URL=venue.websocket_url
        )
        running = RunningEngine(settings)
        await running.start()
        try:
            yield running, venue
        finally:
            await running.close()
