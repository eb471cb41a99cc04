"""Recording a venue over real sockets: what was recorded is sound, whole, and the venue's own book."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from core.storage.catalog import Catalog
from core.types.clock import SystemClock
from core.venues.binance.recorder import (
    Recorder,
    RecorderCounters,
    RecorderError,
    RecorderUsageError,
    RecorderVenueError,
)
from core.venues.binance.replay import Replay, ReplayOptions, ReplayResult
from core.venues.binance.rest import BinanceRest
from core.venues.paper.market_synthetic import SyntheticMarket
from core.venues.paper.server import PaperVenue
from tests.core.venues.paper.support import CREDENTIALS

DEADLINE_S = 60.0
SPEED = Decimal(1)


@pytest.fixture
async def venue(tmp_path: Path) -> AsyncIterator[PaperVenue]:
    async with PaperVenue(SyntheticMarket(7, SPEED, SystemClock()), tmp_path / "venue.sqlite3", CREDENTIALS) as venue:
        yield venue


@pytest.fixture
async def rest(venue: PaperVenue) -> AsyncIterator[BinanceRest]:
    rest = BinanceRest(venue.base_url, SystemClock(), random=Random(1))
    yield rest
    await rest.aclose()


Enough = Callable[[RecorderCounters], bool]


class Watched:
    """A recorder, and the moment that it has recorded enough."""

    def __init__(
        self, venue: PaperVenue, rest: BinanceRest, root: Path, is_enough: Enough, rotate_s: int = 3_600
    ) -> None:
        self.enough = asyncio.Event()
        self._is_enough = is_enough
        self.recorder = Recorder(
            Catalog(root),
            "paper",
            rest,
            venue.websocket_url,
            symbols_of(venue),
            SystemClock(),
            rotate_s=rotate_s,
            random=Random(1),
            on_written=self._written,
        )

    async def run(self) -> RecorderCounters:
        """Record until it is enough."""
        async with asyncio.timeout(DEADLINE_S):
            await self.recorder.run(self.enough)
        return self.recorder.counters

    def _written(self, counters: RecorderCounters) -> None:
        if self._is_enough(counters):
            self.enough.set()


def symbols_of(venue: PaperVenue) -> list[str]:
    return sorted(venue.exchange.symbols)[:2]


def replayed(files: list[Path]) -> ReplayResult:
    return Replay(files, ReplayOptions(verify=True, stale_after_ms=20_000)).run()


async def test_what_was_recorded_is_sound_and_replays_without_a_gap(
    venue: PaperVenue, rest: BinanceRest, tmp_path: Path
) -> None:
    watched = Watched(venue, rest, tmp_path / "data", lambda so_far: so_far.frames > 400 and so_far.snapshots >= 2)
    await watched.recorder.check_symbols()
    counters = await watched.run()
    catalog = Catalog(tmp_path / "data")
    verified = catalog.verify()
    assert (verified.is_sound, verified.depth_gaps, verified.findings) == (True, 0, [])
    rows = {(item.symbol, item.type): item.rows for item in catalog.holdings()}
    assert rows["", "raw"] == counters.frames + counters.snapshots
    assert sum(count for (symbol, _), count in rows.items() if symbol) == rows["", "raw"]
    result = replayed(catalog.raw_files("paper"))
    assert (result.gaps, result.resyncs, result.warnings) == (0, 0, [])
    assert result.book_checked > 10
    assert result.is_clean
    # Whichever was heard of first stands first.
    assert sorted((book.product, book.symbol, book.state) for book in result.symbols) == [
        ("SPOT", symbol, "LIVE") for symbol in symbols_of(venue)
    ]


async def test_each_file_of_a_rotation_stands_alone_and_all_of_them_join(
    venue: PaperVenue, rest: BinanceRest, tmp_path: Path
) -> None:
    await Watched(venue, rest, tmp_path / "data", lambda so_far: so_far.files >= 2, rotate_s=2).run()
    files = Catalog(tmp_path / "data").raw_files("paper")
    assert len(files) >= 3
    alone = replayed(files[1:2])
    assert (alone.gaps, alone.is_clean) == (0, True)
    assert alone.book_checked > 3
    joined = replayed(files)
    assert (joined.gaps, joined.resyncs, joined.is_clean) == (0, 0, True)
    assert Catalog(tmp_path / "data").verify().findings == []


async def test_after_a_lost_connection_it_goes_on_with_a_new_snapshot(
    venue: PaperVenue, rest: BinanceRest, tmp_path: Path
) -> None:
    def is_enough(so_far: RecorderCounters) -> bool:
        if so_far.connections == 1 and so_far.snapshots >= 2 and so_far.frames > 40:
            venue.exchange.hub.close()
        return so_far.connections >= 2 and so_far.snapshots >= 4 and so_far.frames > 800

    await Watched(venue, rest, tmp_path / "data", is_enough).run()
    result = replayed(Catalog(tmp_path / "data").raw_files("paper"))
    assert result.is_clean
    assert {book.state for book in result.symbols} == {"LIVE"}


async def test_a_recorder_that_died_is_followed_by_one_that_keeps_what_there_is(
    venue: PaperVenue, rest: BinanceRest, tmp_path: Path
) -> None:
    torn: dict[Path, bytes] = {}

    def is_enough(_: RecorderCounters) -> bool:
        """Take the unfinished file as it lies on the disk, once something was flushed."""
        (partial,) = (tmp_path / "first").rglob("*.partial")
        if len(found := partial.read_bytes()) > 5_000:
            torn[partial.relative_to(tmp_path / "first")] = found
        return bool(torn)

    await Watched(venue, rest, tmp_path / "first", is_enough).run()
    for place, found in torn.items():
        path = tmp_path / "data" / place
        path.parent.mkdir(parents=True)
        path.write_bytes(found)
        path.with_name("empty.gz.partial").write_bytes(b"")
    await Watched(venue, rest, tmp_path / "data", lambda so_far: so_far.frames > 20).run()
    catalog = Catalog(tmp_path / "data")
    assert len(catalog.raw_files("paper")) == 2
    verified = catalog.verify()
    assert verified.is_sound
    assert any("torn tail" in finding.what for finding in verified.findings)
    assert not list((tmp_path / "data").rglob("*.partial"))


async def test_two_recorders_of_one_venue_never_write_into_one_catalog(
    venue: PaperVenue, rest: BinanceRest, tmp_path: Path
) -> None:
    started = asyncio.Event()

    def has_started(_: RecorderCounters) -> bool:
        started.set()
        return False

    first = Watched(venue, rest, tmp_path / "data", has_started)
    running = asyncio.create_task(first.run())
    await asyncio.wait_for(started.wait(), DEADLINE_S)
    with pytest.raises(RecorderError, match="another recorder"):
        await Watched(venue, rest, tmp_path / "data", has_started).run()
    first.enough.set()
    await running


async def test_a_wrong_symbol_and_a_venue_that_is_away_are_named(
    venue: PaperVenue, rest: BinanceRest, tmp_path: Path
) -> None:
    wrong = Recorder(Catalog(tmp_path), "paper", rest, venue.websocket_url, ["NOSUCH"], SystemClock())
    with pytest.raises(RecorderError, match="NOSUCH"):
        await wrong.check_symbols()
    nobody = BinanceRest("http://127.0.0.1:9", SystemClock(), random=Random(1))
    away = Recorder(Catalog(tmp_path), "paper", nobody, "ws://127.0.0.1:9", ["BTCUSDT"], SystemClock())
    try:
        with pytest.raises(RecorderError, match="can't be reached"):
            await away.check_symbols()
    finally:
        await nobody.aclose()
    with pytest.raises(RecorderError, match="name 1 to"):
        Recorder(Catalog(tmp_path), "paper", rest, "ws://x", [], SystemClock())


async def test_a_stream_that_never_opens_is_an_error_that_names_its_address(
    venue: PaperVenue, rest: BinanceRest, tmp_path: Path
) -> None:
    async def recorded(url: str) -> None:
        recorder = Recorder(Catalog(tmp_path), "paper", rest, url, symbols_of(venue), SystemClock(), random=Random(1))
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.5, stop.set)
        async with asyncio.timeout(DEADLINE_S):
            await recorder.run(stop)

    with pytest.raises(RecorderVenueError, match=r"ws://127\.0\.0\.1:9 never opened"):
        await recorded("ws://127.0.0.1:9")
    with pytest.raises(RecorderUsageError, match=r"http://127\.0\.0\.1:9 is no address"):
        await recorded("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("first", "last", "previous", "gaps"),
    [(21, 25, None, 0), (19, 25, None, 0), (15, 20, None, 0), (22, 25, None, 1), (24, 25, 20, 0), (21, 25, 19, 1)],
)
async def test_only_a_message_that_leaves_updates_out_is_a_gap(
    venue: PaperVenue, rest: BinanceRest, tmp_path: Path, first: int, last: int, previous: int | None, gaps: int
) -> None:
    recorder = Recorder(Catalog(tmp_path), "paper", rest, venue.websocket_url, ["BTCUSDT"], SystemClock())
    for update in ((11, 20, None if previous is None else 10), (first, last, previous)):
        body = {"e": "depthUpdate", "s": "BTCUSDT", "U": update[0], "u": update[1]}
        body |= {} if update[2] is None else {"pu": update[2]}
        recorder._on_frame(json.dumps({"data": body}, separators=(",", ":")).encode())
    assert recorder.counters.gaps == gaps
