"""Klines of one minute from CSV into the catalog: exact, whole or not at all, and good for backtests."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from core.backtest.bars import BarSeries, BarsError
from core.backtest.recorded import recordings_of
from core.backtest.stored import recorded_bars
from core.storage.catalog import Catalog
from core.storage.kline_files import import_klines
from core.storage.recording import RecordingError
from core.types.clock import NS_PER_MS, NS_PER_US
from tests.core.backtest.support import BTC, MINUTE_NS, START_NS

EVER = 1 << 62
START_MS, START_US = START_NS // NS_PER_MS, START_NS // NS_PER_US
HOUR_NS = 60 * MINUTE_NS
FIRST_HOUR_NS = -(-START_NS // HOUR_NS) * HOUR_NS


def line(number: int, *, start: int = START_MS, step: int = 60_000, volume: str = "1.50000") -> str:
    price = 100 + number
    return f"{start + number * step},{price}.10,{price + 2}.00,{price - 1}.50,{price + 1}.25,{volume},0,0,1,0,0,0"


def written(root: Path, lines: list[str], name: str = "klines.csv") -> Path:
    path = root / name
    path.write_text("\n".join(lines) + "\n")
    return path


def bars(catalog: Catalog, interval: str = "1m") -> BarSeries:
    (recorded,) = recordings_of(catalog, "BTCUSDT")
    return recorded_bars(catalog, recorded, BTC, interval, 0, EVER)


@pytest.mark.parametrize("form", ["plain", "with names", "microseconds", "zip"])
def test_each_form_of_a_file_gives_its_bars(tmp_path: Path, form: str) -> None:
    lines = [line(number) for number in range(3)]
    if form == "microseconds":
        lines = [line(number, start=START_US, step=60_000_000) for number in range(3)]
    if form == "with names":
        lines = ["open_time,open,high,low,close,volume,close_time", *lines]
    source = written(tmp_path, lines)
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "klines.zip", "w") as archive:
            archive.write(source, "klines.csv")
        source = tmp_path / "klines.zip"
    catalog = Catalog(tmp_path / "data")
    imported = import_klines(catalog, source, "BTCUSDT", "binance")
    assert (imported.rows, imported.first_ns, imported.last_ns) == (3, START_NS, START_NS + 2 * MINUTE_NS)
    found = bars(catalog)
    assert found.rows() == [
        (START_NS + n * MINUTE_NS, 10_010 + n * 100, 10_200 + n * 100, 9_950 + n * 100, 10_125 + n * 100, 150_000)
        for n in range(3)
    ]
    assert found.source == "recorded:binance:kline"
    assert catalog.verify().is_sound


def test_the_same_file_again_adds_nothing_and_two_files_that_overlap_count_once(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "data")
    first = written(tmp_path, [line(number) for number in range(5)])
    import_klines(catalog, first, "BTCUSDT", "binance")
    assert import_klines(catalog, first, "BTCUSDT", "binance").skipped
    import_klines(catalog, written(tmp_path, [line(n) for n in range(3, 9)], "more.csv"), "BTCUSDT", "binance")
    assert [row[0] for row in bars(catalog).rows()] == [START_NS + n * MINUTE_NS for n in range(9)]


def test_a_file_over_midnight_lies_in_two_days(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "data")
    import_klines(catalog, written(tmp_path, [line(number) for number in range(1_500)]), "BTCUSDT", "binance")
    (holding,) = catalog.holdings()
    assert (holding.type, holding.rows, len(holding.days)) == ("kline", 1_500, 2)
    assert len(bars(catalog)) == 1_500


def test_longer_bars_are_made_of_all_their_minutes_or_not_at_all(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "data")
    offset = (FIRST_HOUR_NS - START_NS) // MINUTE_NS
    missing = offset + 75
    numbers = [number for number in range(offset, offset + 180) if number != missing]
    import_klines(catalog, written(tmp_path, [line(number) for number in numbers]), "BTCUSDT", "binance")
    assert bars(catalog, "1h").rows() == [
        (
            FIRST_HOUR_NS + hour * HOUR_NS,
            (100 + first) * 100 + 10,
            (100 + last + 2) * 100,
            (100 + first - 1) * 100 + 50,
            (100 + last + 1) * 100 + 25,
            60 * 150_000,
        )
        for hour, first, last in ((0, offset, offset + 59), (2, offset + 120, offset + 179))
    ]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "holds no klines"),
        (["1,2,3"], "line 1: must be open time"),
        ([line(0).replace("100.10", "1e2")], "kline 1: '1e2' is not a decimal number"),
        ([line(1), line(0)], "kline 2: its time isn't a minute after"),
        ([line(0), line(0)], "kline 2: its time isn't a minute after"),
        ([line(0, start=START_MS + 1)], "kline 1: its time isn't a minute after"),
        ([line(0).replace("102.00", "99.00")], "kline 1: has prices or a volume that can't be"),
        ([line(0, volume="-1")], "kline 1: '-1' is not a decimal number"),
        ([line(0, volume="0." + "1" * 19)], "more than 18 decimal places"),
    ],
    ids=["empty", "short", "exponent", "back", "twice", "aligned", "high", "volume", "places"],
)
def test_a_file_with_a_wrong_line_leaves_nothing(tmp_path: Path, lines: list[str], says: str) -> None:
    catalog = Catalog(tmp_path / "data")
    with pytest.raises(RecordingError, match=says):
        import_klines(catalog, written(tmp_path, lines), "BTCUSDT", "binance")
    assert catalog.holdings() == []


def test_a_zip_of_several_files_and_what_is_no_file_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a", line(0))
        archive.writestr("b", line(1))
    for path in (tmp_path / "two.zip", tmp_path / "absent.csv"):
        with pytest.raises(RecordingError, match="can't be read"):
            import_klines(Catalog(tmp_path / "data"), path, "BTCUSDT", "binance")


def test_a_volume_finer_than_the_lot_is_cut_and_a_finer_price_is_refused(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "data")
    import_klines(catalog, written(tmp_path, [line(0, volume="0.0000199")]), "BTCUSDT", "binance")
    assert bars(catalog).rows()[0][5] == 1
    finer = written(tmp_path, [line(0).replace("100.10", "100.105")], "finer.csv")
    other = Catalog(tmp_path / "other")
    import_klines(other, finer, "BTCUSDT", "binance")
    with pytest.raises(BarsError, match="has digits that the instrument of today doesn't have"):
        bars(other)
