"""Replays (I6).

Invariants: whatever is lost, doubled or late, a book that is LIVE equals the truth at the same update id; it is LIVE
again once the stream is whole; the same seed gives the same replay; what can't be replayed is an error that names the
file and the cure.
"""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.market import sync as sync_module
from core.storage.recording import RecordingError
from core.types.instruments import Product
from core.types.market import DepthUpdateLike
from core.venues.binance.replay import Replay, ReplayOptions, ReplayResult
from core.venues.binance.replay_faults import FaultRates
from core.venues.binance.replay_truth import Snapshot, TruthBook, Update
from tests.core.venues.binance.market_lines import LineMarket, market, merged, write
from tests.recordings import recordings_folder, spot_recordings

SYMBOLS = {Product.SPOT: "BTCUSDT", Product.USDM: "ETHUSDT", Product.COINM: "BTCUSD_PERP"}


def replayed(*paths: Path, **options: object) -> ReplayResult:
    return Replay(list(paths), ReplayOptions(verify=True, **options)).run()  # type: ignore[arg-type]


def cut(path: Path, lines: int, target: Path) -> Path:
    with gzip.open(path, "rb") as source:
        target.write_bytes(b"".join(itertools.islice(source, lines)))
    return target


def test_the_recorded_perpetual_has_no_gap_and_the_best_of_its_tickers(tmp_path: Path) -> None:
    part = cut(recordings_folder() / "usdm_btcusdt_20240808.gz", 15_000, tmp_path / "part")
    result = Replay([part], ReplayOptions()).run()
    assert (result.frames, result.inline_snapshots) == (14_999, 1)
    assert (result.gaps, result.resyncs, result.bbo_mismatches, result.recording_bbo_mismatches) == (0, 0, 0, 0)
    assert result.bbo_checked > 80


def test_the_recorded_spot_book_equals_the_truth_at_every_message(tmp_path: Path) -> None:
    result = replayed(cut(spot_recordings()[0], 8_000, tmp_path / "part"))
    assert (result.gaps, result.resyncs, result.stale_ns) == (0, 0, 0)
    assert result.book_checked > 600
    assert result.bbo_checked > 50
    assert result.is_clean


@pytest.mark.parametrize("seed", [1, 2])
def test_recorded_faults_never_show_in_a_live_book(tmp_path: Path, seed: int) -> None:
    path = recordings_folder() / "usdm_btcusdt_20240808.gz"
    part = cut(path, 6_000, tmp_path / "part")
    result = replayed(part, faults=FaultRates(0.02, 0.05, 0.05, seed, first_frames=5_000))
    assert result.gaps > 3
    assert result.book_checked > 100
    assert result.is_clean, result.warnings
    assert result.symbols[0].state == "LIVE"


@pytest.mark.parametrize("product", list(Product))
def test_each_product_is_recognised_by_its_frames(tmp_path: Path, product: Product) -> None:
    result = replayed(write(tmp_path / "a.gz", market(product, SYMBOLS[product], 3).lines))
    (book,) = result.symbols
    assert (book.product, book.symbol, book.state) == (product.value, SYMBOLS[product], "LIVE")
    assert (result.gaps, result.resyncs, result.unreadable, result.warnings) == (0, 0, 0, [])
    assert result.depth_messages == 155
    assert result.book_checked == 150
    assert result.bbo_checked == 150
    assert result.is_clean


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    product=st.sampled_from(list(Product)),
    drop=st.sampled_from((0.0, 0.01, 0.2, 0.9)),
    duplicate=st.sampled_from((0.0, 0.1, 1.0)),
    reorder=st.sampled_from((0.0, 0.1, 0.7, 1.0)),
    span=st.sampled_from((1, 5, 60)),
    latency_ms=st.sampled_from((0, 50, 700)),
    late_steps=st.sampled_from((0, 4)),
)
def test_at_any_rates_and_seed_a_live_book_is_the_venues(
    tmp_path: Path,
    seed: int,
    product: Product,
    drop: float,
    duplicate: float,
    reorder: float,
    span: int,
    latency_ms: int,
    late_steps: int,
) -> None:
    lines = market(product, SYMBOLS[product], seed, late_steps=late_steps).lines
    rates = FaultRates(drop, duplicate, reorder, seed, span, first_frames=len(lines) * 2 // 3)
    result = replayed(write(tmp_path / "a", lines), faults=rates, snapshot_latency_ms=latency_ms)
    assert result.is_clean, f"seed {seed}: {result.warnings}"
    assert result.book_checked > 0, f"seed {seed}: never LIVE, the test proves nothing"
    assert result.symbols[0].state == "LIVE", f"seed {seed}"


def test_the_same_seed_gives_the_same_replay(tmp_path: Path) -> None:
    path = write(tmp_path / "a", market(Product.SPOT, "BTCUSDT", 5).lines)
    rates = [FaultRates(0.1, 0.1, 0.1, seed) for seed in (7, 7, 8)]
    first, again, other = (replayed(path, faults=rate) for rate in rates)
    assert first == again
    assert (first.dropped, first.duplicated, first.reordered) != (other.dropped, other.duplicated, other.reordered)


def test_everything_lost_is_never_live_and_everything_doubled_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a", market(Product.USDM, "ETHUSDT", 5).lines)
    lost, doubled = replayed(path, faults=FaultRates(drop=1.0)), replayed(path, faults=FaultRates(duplicate=1.0))
    assert (lost.frames, lost.book_checked, lost.symbols[0].state) == (0, 0, "SYNCING")
    assert (doubled.gaps, doubled.stale_ns, doubled.is_clean) == (0, 0, True)
    assert doubled.frames == 2 * doubled.frames_read


def test_late_and_doubled_tickers_alone_are_no_mismatch(tmp_path: Path) -> None:
    lines = market(Product.SPOT, "BTCUSDT", 9).lines
    tickers = [line for line in lines if b"@bookTicker" in line]
    path = write(tmp_path / "a", [*lines, *Random(1).sample(tickers, 100)])
    result = replayed(path)
    assert (result.bbo_mismatches, result.gaps, result.symbols[0].state) == (0, 0, "LIVE")


def test_a_sync_that_misses_gaps_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a", market(Product.USDM, "ETHUSDT", 5).lines)
    proper = sync_module.DepthSync._continue

    def careless(self: sync_module.DepthSync, update: DepthUpdateLike) -> tuple[sync_module.SyncOutput, ...]:
        monkeypatch.setattr(sync_module, "_follows", lambda *_: True)
        return proper(self, update)

    monkeypatch.setattr(sync_module.DepthSync, "_continue", careless)
    result = replayed(path, faults=FaultRates(drop=0.1, seed=1))
    assert result.book_mismatches > 0
    assert not result.is_clean
    assert "LIVE at update" in result.warnings[0]


def test_several_symbols_and_products_in_one_file_are_kept_apart(tmp_path: Path) -> None:
    markets = (
        market(Product.SPOT, "BTCUSDT", 1),
        market(Product.SPOT, "ETHUSDT", 2, before=9),
        market(Product.USDM, "BTCUSDT", 3),
        market(Product.COINM, "BTCUSD_PERP", 4),
    )
    result = replayed(write(tmp_path / "a.gz", merged(*markets)), faults=FaultRates(0.02, 0.02, 0.02, 3))
    assert {(book.product, book.symbol) for book in result.symbols} == {
        (item.product.value, item.symbol) for item in markets
    }
    assert all(book.book_checked > 20 for book in result.symbols)
    assert result.is_clean, result.warnings


def test_files_are_put_in_order_by_their_times(tmp_path: Path) -> None:
    lines = market(Product.SPOT, "BTCUSDT", 1).lines
    files = [write(tmp_path / name, part) for name, part in (("b", lines[:200]), ("a.gz", lines[200:]))]
    result = replayed(*reversed(files))
    assert (result.gaps, result.book_checked, result.is_clean) == (0, 150, True)


def test_the_same_file_twice_is_the_same_market(tmp_path: Path) -> None:
    path = write(tmp_path / "a", market(Product.SPOT, "BTCUSDT", 1).lines)
    result = replayed(path, path)
    assert (result.gaps, result.symbols[0].state, result.is_clean) == (0, "LIVE", True)


def test_a_missing_depth_line_is_a_gap_and_no_book_is_made_up_after_it(tmp_path: Path) -> None:
    source = market(Product.SPOT, "BTCUSDT", 1, after=80)
    depth = [number for number, line in enumerate(source.lines) if b"@depth" in line]
    lines = [line for number, line in enumerate(source.snapshot().steps(40).lines) if number != depth[50]]
    result = replayed(write(tmp_path / "a", lines))
    assert (result.gaps, result.symbols[0].state, result.is_clean) == (1, "LIVE", True)
    assert result.book_checked < 120
    assert result.stale_ns > 3 * 10**9
    assert f"a, line {depth[51] + 0}: depth messages of BTCUSDT are missing" in result.warnings[0]


def test_a_snapshot_that_comes_late_makes_the_book_live_then(tmp_path: Path) -> None:
    result = replayed(write(tmp_path / "a", market(Product.USDM, "ETHUSDT", 1, before=100, after=50).lines))
    assert (result.gaps, result.resyncs, result.stale_ns) == (0, 0, 0)
    assert (result.book_checked, result.is_clean) == (50, True)


def test_a_cut_snapshot_never_counts_for_more_than_it_holds(tmp_path: Path) -> None:
    source = LineMarket(Product.SPOT, "BTCUSDT", 4).steps(3).snapshot(limit=10).steps(150)
    result = replayed(write(tmp_path / "a", source.lines), snapshot_levels=10)
    assert result.book_checked > 100
    assert (result.gaps, result.book_mismatches, result.bbo_mismatches) == (0, 0, 0)


def test_a_wrong_level_in_the_recording_is_found(tmp_path: Path) -> None:
    lines = market(Product.SPOT, "BTCUSDT", 1).lines
    number = next(n for n, line in enumerate(lines) if n > 300 and b"@depth" in line and b'"0.009"' in line)
    head, _, tail = lines[number].partition(b'"b":')
    lines[number] = head + b'"b":' + tail.replace(b'"0.00', b'"0.02')
    result = replayed(write(tmp_path / "a", lines))
    assert result.bbo_mismatches + result.recording_bbo_mismatches > 0
    assert not result.is_clean


def test_what_cannot_be_read_is_told_and_passed_over(tmp_path: Path) -> None:
    source = market(Product.SPOT, "BTCUSDT", 1, after=40)
    source.other({"e": "kline", "E": 1, "s": "BTCUSDT", "k": {"t": 5, "b": []}}, "kline_1m")
    source.other({"e": "markPriceUpdate", "E": 1, "s": "BTCUSDT", "p": "1", "P": "2", "i": "3", "r": "4"}, "markPrice")
    source.other({"e": "aggTrade", "E": 1, "s": "BTCUSDT", "a": 7, "p": "100", "q": "1", "T": 1, "m": True}, "aggTrade")
    lines = [
        *source.lines,
        b"",
        b"nonsense",
        b'1 {"stream":"x@depth","data":{"e":"depthUpdate"',
        b'%d {"a":}' % source.now_ns,
    ]
    lines = [*lines, *source.steps(1).lines[-1:]]
    path = write(tmp_path / "a", [*source.lines[:50], b"  ", *source.lines[50:], *lines[len(source.lines) - 1 :]])
    result = replayed(path)
    assert (result.symbols[0].state, result.is_clean) == ("LIVE", True)
    assert result.other_frames >= 2
    assert all(str(path) in warning and "line" in warning for warning in result.warnings)
    assert len(result.warnings) >= 2


def test_half_a_file_is_replayed_up_to_its_tear(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.gz", market(Product.SPOT, "BTCUSDT", 1).lines).read_bytes()
    path = tmp_path / "half.gz"
    path.write_bytes(whole[: len(whole) // 2])
    result = replayed(path)
    assert (result.gaps, result.is_clean) == (0, True)
    assert 20 < result.book_checked < 150
    assert "half.gz" in result.warnings[0]
    assert "torn tail" in result.warnings[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"\n\n", "no frame"),
        (b"a\nb\nc\nd\n", "line 3: is no recording"),
        (b'[{"a":1}]', "no frame"),
        (gzip.compress(b"x" * 10_000)[:20] + b"\0" * 300 + b"abc", "no frame|damaged"),
    ],
)
def test_what_is_no_recording_is_refused_with_the_cure(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "some.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordingError, match=says) as caught:
        Replay([path], ReplayOptions())
    assert str(path) in str(caught.value)


def test_files_without_a_snapshot_or_without_depth_say_what_to_name_as_well(tmp_path: Path) -> None:
    source = LineMarket(Product.SPOT, "BTCUSDT", 1).steps(20)
    with pytest.raises(RecordingError, match=r"no order book snapshot .* begins with"):
        Replay([write(tmp_path / "a", source.lines)], ReplayOptions())
    tickers = [line for line in source.snapshot().lines if b"@bookTicker" in line]
    with pytest.raises(RecordingError, match="no depth messages"):
        Replay([write(tmp_path / "b", tickers)], ReplayOptions())


def test_passes_repeat_the_files_as_connections_that_were_opened_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a", market(Product.USDM, "ETHUSDT", 1, after=60).lines)
    once, thrice = replayed(path), replayed(path, passes=3)
    assert thrice.depth_messages == 3 * once.depth_messages
    assert thrice.book_checked == 3 * once.book_checked
    assert (thrice.gaps, thrice.is_clean, thrice.symbols[0].state) == (0, True, "LIVE")
    assert thrice.market_time_ns > 2.9 * once.market_time_ns
    timed = replayed(path, duration_s=10.0)
    assert timed.passes == 2
    assert 9.8e9 < timed.market_time_ns <= 10e9


@pytest.mark.parametrize("late_steps", [0, 2])
@pytest.mark.parametrize("product", [Product.SPOT, Product.USDM])
def test_snapshots_find_their_symbols_by_their_levels_where_ids_and_prices_are_alike(
    tmp_path: Path, product: Product, late_steps: int
) -> None:
    markets = [LineMarket(product, f"S{number}USDT", number) for number in range(4)]
    for item in markets:
        item.update_id = 5_000_000
        item.steps(5).snapshot(late_steps=late_steps).steps(40)
    result = replayed(write(tmp_path / "a", merged(*markets)))
    assert [book.state for book in result.symbols] == ["LIVE"] * 4
    assert (result.gaps, result.resyncs, result.warnings) == (0, 0, [])
    assert result.is_clean


def test_a_spot_message_that_begins_within_the_last_one_is_no_hole_in_the_truth(tmp_path: Path) -> None:
    lines = market(Product.SPOT, "BTCUSDT", 6).lines
    place = next(place for place, line in enumerate(lines) if place > 300 and b'"depthUpdate"' in line)
    head, _, tail = lines[place].partition(b'"U":')
    first, _, rest = tail.partition(b",")
    lines[place] = head + b'"U":%d,' % (int(first) - 1) + rest
    result = replayed(write(tmp_path / "a", lines))
    assert (result.gaps, result.resyncs, result.warnings) == (0, 0, [])
    assert result.book_checked == 150
    assert result.is_clean


def test_a_price_that_is_first_stated_later_explains_no_ticker_of_before() -> None:
    truth = TruthBook()
    truth.apply(Snapshot(10, [(100, 1)], [(110, 1)], limit=1))
    truth.apply(Update(11, 11, None, [(100, 0), (90, 2)], [], (0, 2)))
    truth.apply(Update(12, 12, None, [(95, 3)], [], (0, 3)))
    assert not truth.explains((95, 3, 110, 1), 11)
    assert truth.explains((95, 3, 110, 1), 12)
    assert truth.explains((90, 2, 110, 1), 11)


@pytest.mark.parametrize("product", list(Product))
def test_messages_out_of_order_in_the_recording_are_one_gap_and_the_book_comes_back(
    tmp_path: Path, product: Product
) -> None:
    lines = market(product, SYMBOLS[product], 8).lines
    first, second = [place for place, line in enumerate(lines) if b'"depthUpdate"' in line][60:62]
    times = [lines[place].partition(b" ")[0] for place in (first, second)]
    payloads = [lines[place].partition(b" ")[2] for place in (second, first)]
    for place, time, payload in zip((first, second), times, payloads, strict=True):
        lines[place] = time + b" " + payload
    result = replayed(write(tmp_path / "a", lines))
    assert (result.gaps, result.resyncs, result.symbols[0].state) == (1, 1, "LIVE")
    assert result.is_clean
