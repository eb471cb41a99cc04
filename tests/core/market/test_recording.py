"""The recorded spot market through DepthSync: no gap, and best bid and offer equal to the venue's own bookTicker."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec

from core.market.sync import BookState, DepthSync
from core.types.instruments import Instrument
from core.types.market import BookTicker, DepthSnapshot, DepthUpdate, Level
from core.types.money import parse_scaled

FILES = ("spot_btcusdt_20240808.gz", "spot_btcusdt_20240809.gz")


def frames(folder: Path) -> Iterator[tuple[int, dict[str, object]]]:
    for name in FILES:
        with gzip.open(folder / name) as lines:
            for line in lines:
                ts_ns, _, raw = line.partition(b" ")
                yield int(ts_ns), msgspec.json.decode(raw)


def levels(raw: list[list[str]], instrument: Instrument) -> tuple[Level, ...]:
    return tuple(
        (parse_scaled(price, instrument.price_scale), int(Decimal(quantity).scaleb(instrument.quantity_scale)))
        for price, quantity in raw
    )


def test_the_recorded_market_has_no_gap_and_its_book_equals_the_book_ticker(
    recordings: Path, btcusdt: Instrument
) -> None:
    sync = DepthSync("BTCUSDT", stale_after_ms=2_000)
    sync.on_stream_opened(0)
    best_at: dict[int, tuple[Level, Level]] = {}
    applied = was_live = 0
    tickers: dict[int, tuple[Level, Level]] = {}
    for ts_ns, message in frames(recordings):
        if "lastUpdateId" in message:
            bids, asks = levels(message["bids"], btcusdt), levels(message["asks"], btcusdt)  # type: ignore[arg-type]
            sync.on_snapshot(DepthSnapshot("BTCUSDT", message["lastUpdateId"], bids, asks, ts_ns, ts_ns))  # type: ignore[arg-type]
            assert sync.state is BookState.LIVE
            continue
        stream, data = message["stream"], message["data"]
        assert isinstance(stream, str)
        assert isinstance(data, dict)
        if "@depth" in stream:
            update = DepthUpdate(
                "BTCUSDT", data["U"], data["u"], levels(data["b"], btcusdt), levels(data["a"], btcusdt), ts_ns, ts_ns
            )
            sync.on_depth(update)
            applied += 1
            if sync.state is BookState.LIVE:
                was_live += 1
                bid, ask = sync.book.bids.best(), sync.book.asks.best()
                assert bid is not None
                assert ask is not None
                best_at[sync.book.last_update_id] = (bid, ask)
        elif "@bookTicker" in stream:
            (bid,) = levels([[data["b"], data["B"]]], btcusdt)
            (ask,) = levels([[data["a"], data["A"]]], btcusdt)
            tickers[data["u"]] = (bid, ask)
            sync.on_book_ticker(BookTicker("BTCUSDT", data["u"], *bid, *ask, ts_ns, ts_ns))
    comparable = best_at.keys() & tickers.keys()
    assert len(comparable) > 1_000
    assert {update_id: best_at[update_id] for update_id in comparable} == {
        update_id: tickers[update_id] for update_id in comparable
    }
    # It compares with the newest ticker only; a few older ones are comparable too.
    assert 1_000 < sync.counters.ticker_comparisons <= len(comparable)
    assert (sync.counters.gaps, sync.counters.crossed, sync.counters.ticker_mismatches) == (0, 0, 0)
    assert was_live >= applied - 3
