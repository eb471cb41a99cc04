"""Playback of real frames: recorded ids on the first pass, shifted ones after it, and no gap in between."""

from __future__ import annotations

import asyncio
import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.types.clock import SystemClock
from core.venues.paper.book import LevelBook
from core.venues.paper.decimals import parse8
from core.venues.paper.errors import PaperVenueError
from core.venues.paper.events import BookTicker, DepthDiff, MarketEvent, Trade
from core.venues.paper.market_recording import PASS_SHIFT, USDM_PASS_SHIFT, RecordingMarket, recording_files
from tests.recordings import recordings_folder, spot_recordings

FAST = Decimal(1_000)


def excerpt(folder: Path, lines: int) -> Path:
    """The first frames of the real recording, as a plain file."""
    file = folder / "excerpt.txt"
    with gzip.open(spot_recordings()[0]) as frames:
        file.write_bytes(b"".join(frame for frame, _ in zip(frames, range(lines), strict=False)))
    return file


def recorded(file: Path) -> list[dict[str, Any]]:
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return [json.loads(line.partition(b" ")[2]) for line in content.splitlines()]


async def play(market: RecordingMarket, enough: int) -> list[MarketEvent]:
    """The first events of a playback."""
    events: list[MarketEvent] = []
    done = asyncio.Event()

    def publish(event: MarketEvent) -> None:
        events.append(event)
        if len(events) >= enough:
            done.set()

    playing = asyncio.create_task(market.play(publish))
    waiting = asyncio.create_task(done.wait())
    await asyncio.wait({playing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    playing.cancel()
    waiting.cancel()
    outcome = (await asyncio.gather(playing, return_exceptions=True))[0]
    if isinstance(outcome, Exception):
        raise outcome
    return events[:enough]


async def test_the_first_pass_has_the_recorded_ids_prices_and_quantities(tmp_path: Path) -> None:
    file = excerpt(tmp_path, 3_000)
    frames = recorded(file)
    at = next(index for index, frame in enumerate(frames) if "lastUpdateId" in frame)
    expected = [frame["data"] for frame in frames[at + 1 :]]
    market = RecordingMarket([file], FAST, SystemClock())
    (start,) = market.open()
    before = [frame["data"] for frame in frames[:at] if "depth" in frame["stream"]]
    assert start.last_id == max(frames[at]["lastUpdateId"], before[-1]["u"])
    events = await play(market, len(expected))
    for event, frame in zip(events, expected, strict=True):
        match event:
            case DepthDiff():
                assert (event.first_id, event.last_id) == (frame["U"], frame["u"])
                assert event.bids == tuple((parse8(price), parse8(quantity)) for price, quantity in frame["b"])
            case BookTicker():
                assert (event.update_id, event.bid) == (frame["u"], parse8(frame["b"]))
            case Trade():
                assert (event.trade_id, event.quantity, event.buyer_is_maker) == (
                    frame["t"],
                    parse8(frame["q"]),
                    frame["m"],
                )


async def test_later_passes_shift_the_ids_and_a_bridge_joins_them_without_a_gap(tmp_path: Path) -> None:
    file = excerpt(tmp_path, 2_000)
    market = RecordingMarket([file], FAST, SystemClock())
    (start,) = market.open()
    frames = len(recorded(file))
    events = await play(market, 3 * frames)
    book = LevelBook()
    book.load(start)
    bridges, trade_id, ticker_id, event_ms = 0, 0, 0, 0
    for event in events:
        match event:
            case DepthDiff():
                assert event.first_id == book.last_id + 1
                assert event.event_ms >= event_ms
                event_ms = event.event_ms
                book.apply(event)
                assert book.best_bid is not None
                assert book.best_ask is not None
                assert book.best_bid < book.best_ask
                if event.last_id - event.first_id > PASS_SHIFT // 2:
                    bridges += 1
                    assert event.last_id == start.last_id + bridges * PASS_SHIFT
                    assert book.bids == dict(start.bids)
                    assert book.asks == dict(start.asks)
            case BookTicker():
                assert event.update_id > ticker_id
                ticker_id = event.update_id
            case Trade():
                assert trade_id in {0, event.trade_id - 1}
                trade_id = event.trade_id
    assert bridges >= 2
    assert market.describe()["updateIdShift"] == market.describe()["pass"] * PASS_SHIFT


async def test_files_play_in_order_to_the_end_and_loop(tmp_path: Path) -> None:
    lines = excerpt(tmp_path, 2_000).read_bytes().splitlines(keepends=True)
    files = [tmp_path / "first.gz", tmp_path / "second.txt"]
    files[0].write_bytes(gzip.compress(b"".join(lines[:1_000])))
    files[1].write_bytes(b"".join(lines[1_000:]))
    market = RecordingMarket(files, FAST, SystemClock())
    market.open()
    frames = recorded(files[0]) + recorded(files[1])
    last = [frame["data"]["u"] for frame in frames if "depth" in frame.get("stream", "")][-1]
    ids = [event.last_id for event in await play(market, len(frames)) if isinstance(event, DepthDiff)]
    assert last in ids
    assert ids[ids.index(last) + 1] > PASS_SHIFT


async def test_event_times_are_now_at_any_speed(tmp_path: Path) -> None:
    market = RecordingMarket([excerpt(tmp_path, 400)], Decimal(20), SystemClock())
    market.open()
    before_ms = SystemClock().now_ns() // 10**6
    events = await play(market, 300)
    after_ms = SystemClock().now_ns() // 10**6
    times = [event.event_ms for event in events if not isinstance(event, BookTicker)]
    assert before_ms - 1_000 <= min(times) <= max(times) <= after_ms


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent", None, "no such file"),
        ("empty", b"", "is empty"),
        ("text", b"hello\n", "line 1: not a frame"),
        ("lone", b'1 {"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT","p":"1","q":"1"}}\n', "no order book"),
        ("torn", b"\x1f\x8b\x08torn", "can't be read"),
        ("other", b'1 {"lastUpdateId":1,"E":5,"bids":[],"asks":[]}\n', "nothing but a snapshot"),
    ],
)
def test_a_file_that_cannot_be_played_is_named_with_the_reason(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(PaperVenueError, match=says) as error:
        RecordingMarket([file], FAST, SystemClock()).open()
    assert str(file) in str(error.value)


def usdm_recording() -> Path:
    file = recordings_folder() / "usdm_btcusdt_20240808.gz"
    if not file.is_file():
        pytest.skip(f"no USD-M recording at {file}")
    return file


def usdm_excerpt(folder: Path, lines: int) -> Path:
    file = folder / "usdm.txt"
    with gzip.open(usdm_recording()) as frames:
        file.write_bytes(b"".join(frame for frame, _ in zip(frames, range(lines), strict=False)))
    return file


def test_recordings_of_both_products_together_are_refused(tmp_path: Path) -> None:
    files = [excerpt(tmp_path, 100), usdm_recording()]
    with pytest.raises(PaperVenueError, match="spot and USD-M frames together; give recordings of one product"):
        RecordingMarket(files, FAST, SystemClock()).open()


async def play_usdm(market: RecordingMarket, enough: int) -> list[MarketEvent]:
    """The first events of a perpetual's playback; spot hears nothing."""
    events: list[MarketEvent] = []
    done = asyncio.Event()

    def publish(event: MarketEvent) -> None:
        events.append(event)
        if len(events) >= enough:
            done.set()

    market.set_usdm_publish(publish)
    spot: list[MarketEvent] = []
    playing = asyncio.create_task(market.play(spot.append))
    waiting = asyncio.create_task(done.wait())
    await asyncio.wait({playing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    playing.cancel()
    outcome = (await asyncio.gather(playing, return_exceptions=True))[0]
    if isinstance(outcome, Exception):
        raise outcome
    assert not spot
    return events[:enough]


async def test_a_usdm_recording_is_the_perpetuals_market_with_its_recorded_ids(tmp_path: Path) -> None:
    file = usdm_excerpt(tmp_path, 3_000)
    market = RecordingMarket([file], FAST, SystemClock())
    assert (market.open(), market.symbols) == ((), ())
    (start,) = market.usdm_books()
    frames = recorded(file)
    at = next(index for index, frame in enumerate(frames) if "lastUpdateId" in frame)
    after = [frame["data"] for frame in frames[at + 1 :]]
    diffs = [data for data in after if data["e"] == "depthUpdate" and data["u"] > start.last_id]
    events = await play_usdm(market, len(after) - 50)
    played = [event for event in events if isinstance(event, DepthDiff)]
    assert len(played) > 100
    for event, data in zip(played, diffs, strict=False):
        assert (event.first_id, event.last_id) == (data["U"], data["u"])
        assert event.bids == tuple((parse8(price), parse8(quantity)) for price, quantity in data["b"])
    previous = [event.last_id for event in played]
    assert [data["pu"] for data in diffs[1 : len(played)]] == previous[:-1], "each pu is the u before it"


async def test_a_usdm_recording_loops_with_a_bridge_and_without_a_crossed_book(tmp_path: Path) -> None:
    file = usdm_excerpt(tmp_path, 2_000)
    market = RecordingMarket([file], FAST, SystemClock())
    market.open()
    (start,) = market.usdm_books()
    book = LevelBook()
    book.load(start)
    bridges = 0
    for event in await play_usdm(market, 3 * len(recorded(file))):
        if isinstance(event, DepthDiff):
            assert event.last_id > book.last_id
            book.apply(event)
            assert book.best_bid is not None
            assert book.best_ask is not None
            assert book.best_bid < book.best_ask
            if event.last_id == start.last_id + (bridges + 1) * USDM_PASS_SHIFT:
                bridges += 1
                assert (book.bids, book.asks) == (dict(start.bids), dict(start.asks))
    assert bridges >= 2


async def test_a_lost_usdm_frame_is_told_with_its_line(tmp_path: Path) -> None:
    lines = usdm_excerpt(tmp_path, 2_000).read_bytes().splitlines(keepends=True)
    at = next(index for index, line in enumerate(lines) if b"lastUpdateId" in line)
    lost = next(index for index, line in enumerate(lines) if b"depthUpdate" in line and index > at + 200)
    file = tmp_path / "lost.txt"
    file.write_bytes(b"".join(lines[:lost] + lines[lost + 1 :]))
    market = RecordingMarket([file], FAST, SystemClock())
    market.open()
    with pytest.raises(PaperVenueError, match="are missing before it"):
        await play_usdm(market, 5_000)


def test_a_source_without_files_is_refused() -> None:
    with pytest.raises(PaperVenueError, match=r"market\.source"):
        recording_files("recording: ,")
