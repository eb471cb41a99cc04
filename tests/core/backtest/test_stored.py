"""Bars from recorded trades against bars made one trade at a time, and what recordings with holes give."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from core.backtest.bars import BarSeries, BarsError, Row
from core.backtest.job import Job, Line, Stored
from core.backtest.recorded import Recorded, recordings_of
from core.backtest.report import report_digest
from core.backtest.running import run_backtest
from core.backtest.stored import recorded_bars
from core.backtest.worker import answer
from core.storage.catalog import Catalog
from core.storage.frames import Kind
from core.types.codes import ReasonCode
from tests.core.backtest.recordings import Tick, stored
from tests.core.backtest.support import BTC, MINUTE_NS, START_NS, specification, walk

EVER = 1 << 62


def bars_of(catalog: Catalog, from_ns: int = 0, until_ns: int = EVER) -> list[Row]:
    (recorded,) = recordings_of(catalog, "BTCUSDT")
    return recorded_bars(catalog, recorded, BTC, "1m", from_ns, until_ns).rows()


def ticks(*at_s: float, first_id: int = 1) -> list[Tick]:
    """One trade of 1 at 100, 101, ... for each moment."""
    return [(first_id + n, int(at * 1_000), f"{100 + first_id + n - 1}.00", "1.0") for n, at in enumerate(at_s)]


def minute(number: int, first: int, high: int, low: int, close: int, volume: int) -> Row:
    return (START_NS + number * MINUTE_NS, first * 100, high * 100, low * 100, close * 100, volume * 100_000)


def test_the_first_and_the_last_bar_are_left_out_and_the_rest_is_whole(tmp_path: Path) -> None:
    catalog = stored(tmp_path, ticks(50, 61, 70, 90, 125, 130, 185))
    assert bars_of(catalog) == [minute(1, 101, 103, 101, 103, 3), minute(2, 104, 105, 104, 105, 2)]


def test_minutes_without_a_trade_are_flat(tmp_path: Path) -> None:
    catalog = stored(tmp_path, ticks(50, 61, 245, 310))
    assert bars_of(catalog) == [
        minute(1, 101, 101, 101, 101, 1),
        minute(2, 101, 101, 101, 101, 0),
        minute(3, 101, 101, 101, 101, 0),
        minute(4, 102, 102, 102, 102, 1),
    ]


def test_a_hole_in_the_ids_takes_the_bars_at_it(tmp_path: Path) -> None:
    catalog = stored(tmp_path, ticks(50, 61, 121, 181), ticks(190, 241, 301, 361, first_id=6))
    assert [row[0] for row in bars_of(catalog)] == [START_NS + number * MINUTE_NS for number in (1, 2, 4, 5)]


def test_a_minute_that_two_files_share_is_one_bar_and_what_both_hold_counts_once(tmp_path: Path) -> None:
    catalog = stored(tmp_path, ticks(50, 61, 70), ticks(70, 90, 121, first_id=3))
    assert bars_of(catalog) == [minute(1, 101, 103, 101, 103, 3)]


def test_the_range_is_of_whole_bars(tmp_path: Path) -> None:
    catalog = stored(tmp_path, ticks(50, 61, 121, 181, 241))
    found = bars_of(catalog, START_NS + MINUTE_NS + 1, START_NS + 4 * MINUTE_NS)
    assert [row[0] for row in found] == [START_NS + number * MINUTE_NS for number in (2, 3)]


@pytest.mark.parametrize("seed", range(3))
def test_bars_are_those_made_trade_by_trade(tmp_path: Path, seed: int) -> None:
    source, at_ms, price, all_ticks = random.Random(seed), 0, 100_00, list[Tick]()
    for trade_id in range(1, 2_001):
        at_ms += source.choice([0, 1, 200, 5_000, 61_000])
        price += source.randint(-50, 50)
        all_ticks.append((trade_id, at_ms, f"{price / 100:.2f}", f"{source.randint(1, 500) / 1000:.3f}"))
    expected: dict[int, list[int]] = {}
    for _, at_ms, shown, quantity in all_ticks:
        opens, value = START_NS + at_ms // 60_000 * MINUTE_NS, round(float(shown) * 100)
        bar = expected.setdefault(opens, [value, value, value, value, 0])
        bar[1:4] = [max(bar[1], value), min(bar[2], value), value]
        bar[4] += round(float(quantity) * 100_000)
    inner = sorted(expected)[1:-1]
    halves = all_ticks[:1_100], all_ticks[1_000:]
    found = bars_of(stored(tmp_path, *halves))
    assert [row for row in found if row[5]] == [(opens, *expected[opens]) for opens in inner]
    assert [row[0] for row in found] == list(range(inner[0], inner[-1] + 1, MINUTE_NS))


def test_prices_finer_than_the_instruments_are_refused(tmp_path: Path) -> None:
    catalog = stored(tmp_path, [(1, 0, "100.001", "1"), (2, 1, "100", "1")])
    with pytest.raises(BarsError, match="has digits that the instrument of today doesn't have"):
        bars_of(catalog)


def test_there_is_nothing_of_what_was_not_recorded(tmp_path: Path) -> None:
    catalog = stored(tmp_path, ticks(50, 61))
    assert recordings_of(catalog, "ETHUSDT") == []
    assert [(item.venue, item.kind) for item in recordings_of(catalog, "BTCUSDT")] == [("binance", "trade")]


def worked(job: Job) -> list[Line]:
    done = subprocess.run(
        [sys.executable, "-m", "core.backtest.worker"],
        input=msgspec.json.encode(job),
        capture_output=True,
        check=True,
        timeout=60,
    )
    return [msgspec.json.decode(line, type=Line) for line in done.stdout.splitlines()]


def answered(job: Job) -> Line:
    """What a worker would say last, without a process of its own."""
    return answer(job, lambda _line: None)


def test_a_worker_tells_its_progress_and_gives_the_same_report() -> None:
    rows = walk(5_000, 1)
    lines = worked(Job(BTC, "1m", "test", specification(fast=3, slow=9), rows))

    here = run_backtest(BarSeries(BTC, "1m", "test", rows), specification(fast=3, slow=9))
    assert [line.progress for line in lines[:-1]] == [0, 40, 80, 100]
    assert lines[-1].report == here
    assert lines[-1].digest == report_digest(here)


def test_a_worker_reads_what_was_recorded_and_refuses_what_is_too_little(tmp_path: Path) -> None:
    catalog = stored(tmp_path, ticks(50, 61, 121, 181, 241, 301))
    (recorded,) = recordings_of(catalog, "BTCUSDT")
    where = Stored(str(catalog.root), recorded, 0, EVER)
    held = answered(Job(BTC, "1m", "", specification("buy_and_hold"), stored=where)).report
    assert held is not None
    assert (held.data.source, held.data.bars) == ("recorded:binance:trade", "4")
    refusal = answered(Job(BTC, "1m", "", specification(), stored=where)).refusal
    assert refusal is not None
    assert (refusal.code, refusal.limit, refusal.actual) == (ReasonCode.MARKET_NO_DATA, "52", "4")
    assert "veloz record" in refusal.message


def test_a_worker_ends_when_nobody_reads_any_more() -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "core.backtest.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdout.close()
    worker.stdin.write(msgspec.json.encode(Job(BTC, "1m", "test", specification(), walk(5_000, 1))))
    worker.stdin.close()
    assert worker.wait(30) == 1


def test_more_orders_than_may_be_are_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.backtest.trading.ORDERS_LIMIT", 3)
    refusal = answered(Job(BTC, "1m", "test", specification(fast=1, slow=2), walk(500, 1))).refusal
    assert refusal is not None
    assert (refusal.code, refusal.unit) == (ReasonCode.TOOL_ARGUMENTS_INVALID, "orders")


@pytest.mark.parametrize(
    ("capital", "says"), [("10.00000001", "more than 7 decimal places"), ("9", "from 10 to 1000000000")]
)
def test_a_capital_that_cannot_be_is_a_refusal(capital: str, says: str) -> None:
    wanted = msgspec.structs.replace(specification("buy_and_hold"), capital_quote=capital)
    refusal = answered(Job(BTC, "1m", "test", wanted, walk(60, 1))).refusal
    assert refusal is not None
    assert (refusal.code, says in refusal.message) == (ReasonCode.TOOL_ARGUMENTS_INVALID, True)


def test_a_market_of_many_decimal_places_can_be_run() -> None:
    fine = msgspec.structs.replace(BTC, price_scale=9, quantity_scale=9, tick_size=1, lot_size=1, max_quantity=10**15)
    rows = [(at, *(price * 10**4 for price in prices), volume * 10**6) for at, *prices, volume in walk(80, 1)]
    line = answered(Job(fine, "1m", "test", specification("buy_and_hold", share_bps=100), rows))  # type: ignore[arg-type]
    assert line.report is not None, line.refusal
    assert line.report.metrics.fills == "1"


def test_a_damaged_catalog_is_a_refusal(tmp_path: Path) -> None:
    where = Stored(str(tmp_path), Recorded("binance", "trade", 0, 1), 0, EVER)
    folder = Catalog(tmp_path).partition("binance", "BTCUSDT", Kind.TRADE, "2023-11-14")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    refusal = answered(Job(BTC, "1m", "", specification(), stored=where)).refusal
    assert refusal is not None
    assert refusal.code is ReasonCode.TOOL_ARGUMENTS_INVALID
    assert "manifest.json" in refusal.message
