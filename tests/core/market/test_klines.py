"""Klines from trades, against a truth pair that others made and against the definition of a bar."""

from __future__ import annotations

import gzip
import json
import struct
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from core.market.intervals import Interval
from core.market.klines import NS_PER_MINUTE, Kline, KlineSeries, interval_minutes
from core.market.time_bars import TimeBars
from core.types.clock import NS_PER_MS, NS_PER_S
from tests.core.market.feather import columns

PRICE_SCALE, QUANTITY_SCALE = 8, 1
START_NS = 1_700_000_040 * NS_PER_S - 1_700_000_040 * NS_PER_S % (60 * NS_PER_MINUTE)


def scaled(value: object, scale: int) -> int:
    number = Decimal(repr(value)).scaleb(scale)
    assert number == int(number)
    return int(number)


Ohlcv = tuple[int, int, int, int, int]


@pytest.fixture(scope="module")
def ripple_trades(recordings: Path) -> list[tuple[int, int, int, bool]]:
    with gzip.open(recordings / "XRP_ETH-trades.json.gz") as file:
        return [
            (scaled(price, PRICE_SCALE), scaled(amount, QUANTITY_SCALE), ts_ms * NS_PER_MS, side == "sell")
            for ts_ms, _, _, side, price, amount, _ in json.load(file)
        ]


@pytest.fixture(scope="module")
def ripple_minutes(recordings: Path) -> dict[int, Ohlcv]:
    """The recorded bars by open time. They leave out minutes without a trade."""
    dates, *prices, volumes = columns(recordings / "XRP_ETH-1m.feather")
    count = len(dates) // 8
    figures = [struct.unpack(f"<{count}d", column) for column in (*prices, volumes)]
    return {
        date_ns: (
            scaled(opens, PRICE_SCALE),
            scaled(high, PRICE_SCALE),
            scaled(low, PRICE_SCALE),
            scaled(close, PRICE_SCALE),
            round(volume * 10**QUANTITY_SCALE),
        )
        for date_ns, opens, high, low, close, volume in zip(struct.unpack(f"<{count}q", dates), *figures, strict=True)
    }


def ohlcv(bar: Kline) -> Ohlcv:
    return bar.open, bar.high, bar.low, bar.close, bar.volume


def test_the_bars_of_recorded_trades_equal_the_recorded_bars(
    ripple_trades: list[tuple[int, int, int, bool]], ripple_minutes: dict[int, Ohlcv]
) -> None:
    series = KlineSeries(history_limit_bars=10_000)
    for trade in ripple_trades:
        series.on_trade(*trade)
    bars = series.bars(1, 10_000)
    ours = {bar.open_time_ns: ohlcv(bar) for bar in bars if bar.trades}
    flat = [bar for bar in bars if not bar.trades]
    # The series began with the first trade, so it can't know that this minute had none before.
    first_ns = ripple_trades[0][2] // NS_PER_MINUTE * NS_PER_MINUTE
    expected = {open_ns: bar for open_ns, bar in ripple_minutes.items() if open_ns != first_ns}
    assert len(expected) > 2_400
    assert ours == expected
    assert series.late_trades == 0
    # The truth leaves out minutes without a trade; ours repeat the price.
    closes_by_time = {bar.close_time_ns: bar.close for bar in bars}
    assert len(flat) > 1_000
    assert all(
        {bar.open, bar.high, bar.low, bar.close} == {closes_by_time[bar.open_time_ns - 1]} and not bar.volume
        for bar in flat
    )


@pytest.mark.parametrize("fill_gaps", [True, False])
@pytest.mark.parametrize("text", ["5m", "15m", "1h", "4h", "1d"])
def test_longer_bars_of_recorded_trades_equal_the_recorded_bars_joined(
    ripple_trades: list[tuple[int, int, int, bool]], ripple_minutes: dict[int, Ohlcv], text: str, fill_gaps: bool
) -> None:
    interval = Interval.parse(text)
    direct, joined = TimeBars(interval, fill_gaps=fill_gaps), KlineSeries(10_000)
    for trade in ripple_trades:
        direct.on_trade(*trade)
        joined.on_trade(*trade)
    groups: dict[int, list[Ohlcv]] = {}
    for open_ns, bar in ripple_minutes.items():
        groups.setdefault(interval.open_time_ns(open_ns), []).append(bar)
    first_ns = interval.open_time_ns(ripple_trades[0][2])
    expected = {
        open_ns: (
            group[0][0],
            max(bar[1] for bar in group),
            min(bar[2] for bar in group),
            group[-1][3],
            sum(bar[4] for bar in group),
        )
        for open_ns, group in groups.items()
        if open_ns != first_ns
    }
    assert expected
    assert {bar.open_time_ns: ohlcv(bar) for bar in direct.bars(10_000) if bar.trades} == expected
    assert {bar.open_time_ns: ohlcv(bar) for bar in joined.bars_of(interval, 10_000) if bar.trades} == expected
    assert fill_gaps or all(bar.trades for bar in direct.bars(10_000))


@pytest.mark.parametrize("minutes", [1, 5, 15, 60, 240])
def test_longer_bars_equal_bars_made_from_the_trades_themselves(minutes: int) -> None:
    random = Random(7)
    series = KlineSeries()
    ts_ns, trades = START_NS, []
    for _ in range(3_000):
        ts_ns += random.choice((0, NS_PER_S, 20 * NS_PER_S, 7 * NS_PER_MINUTE if random.random() < 0.02 else 1))
        trades.append((random.randint(900, 1_100), random.randint(1, 50), ts_ns, len(trades) % 3 == 0, len(trades) + 7))
        series.on_trade(*trades[-1])
    width_ns = minutes * NS_PER_MINUTE
    expected = []
    first_seen_ns = START_NS // NS_PER_MINUTE * NS_PER_MINUTE + NS_PER_MINUTE
    history_ns = max(first_seen_ns, ts_ns // NS_PER_MINUTE * NS_PER_MINUTE - 1_440 * NS_PER_MINUTE)
    close = 0
    for open_ns in range(START_NS // width_ns * width_ns, ts_ns + 1, width_ns):
        inside = [trade for trade in trades if open_ns <= trade[2] < open_ns + width_ns]
        prices = [price for price, *_ in inside] or [close]
        bought = [(price, quantity) for price, quantity, _, is_buyer_maker, _ in inside if not is_buyer_maker]
        close = prices[-1]
        if open_ns < history_ns:
            continue
        expected.append(
            Kline(
                open_ns,
                open_ns + width_ns - 1,
                prices[0],
                max(prices),
                min(prices),
                close,
                sum(quantity for _, quantity, *_ in inside),
                sum(price * quantity for price, quantity, *_ in inside),
                len(inside),
                closed=ts_ns >= open_ns + width_ns,
                taker_buy_volume=sum(quantity for _, quantity in bought),
                taker_buy_quote_volume=sum(price * quantity for price, quantity in bought),
                first_trade_id=inside[0][-1] if inside else None,
                last_trade_id=inside[-1][-1] if inside else None,
            )
        )
    assert len(expected) >= 2
    assert series.bars(minutes, 2_000) == expected
    assert series.bars(minutes, 2) == expected[-2:]


def test_a_late_trade_is_counted_and_changes_no_closed_bar() -> None:
    series = KlineSeries()
    for minute in range(3):
        series.on_trade(100 + minute, 1, START_NS + minute * NS_PER_MINUTE)
    before = series.bars(1, 10)
    series.on_trade(999, 9, START_NS + NS_PER_MINUTE)
    assert series.bars(1, 10) == before
    assert series.late_trades == 1


def test_minutes_without_a_trade_are_flat_when_the_venues_time_passes_them() -> None:
    series = KlineSeries()
    series.on_trade(100, 1, START_NS)
    series.on_trade(105, 2, START_NS + NS_PER_MINUTE)
    series.advance_to(START_NS + 4 * NS_PER_MINUTE)
    traded, *flat = series.bars(1, 10)
    assert (traded.close, traded.volume, traded.quote_volume, traded.closed) == (105, 2, 210, True)
    assert [(bar.open, bar.high, bar.low, bar.close, bar.trades, bar.closed) for bar in flat] == [
        (105, 105, 105, 105, 0, True),
        (105, 105, 105, 105, 0, True),
        (105, 105, 105, 105, 0, False),
    ]


def test_a_closed_bar_whose_beginning_was_not_seen_is_left_out() -> None:
    series = KlineSeries()
    for minute in range(3, 13):
        series.on_trade(100, 1, START_NS + minute * NS_PER_MINUTE)
    assert [(bar.open_time_ns - START_NS) // NS_PER_MINUTE for bar in series.bars(5, 10)] == [5, 10]
    assert (series.bars(1, 100)[0].open_time_ns - START_NS) // NS_PER_MINUTE == 4


def test_a_clock_that_jumps_by_years_costs_no_more_than_the_history() -> None:
    series = KlineSeries(history_limit_bars=5)
    series.on_trade(100, 1, START_NS)
    series.advance_to(START_NS + 10_000_000 * NS_PER_MINUTE)
    assert len(series.bars(1, 100)) == 6


@pytest.mark.parametrize(("interval", "minutes"), [("1m", 1), ("15m", 15), ("1h", 60), ("4h", 240), ("1d", 1_440)])
def test_intervals_are_whole_minutes(interval: str, minutes: int) -> None:
    assert interval_minutes(interval) == minutes


@pytest.mark.parametrize("interval", ["", "0m", "1", "m", "1s", "-1m", "1.5h", "2d", "1m ", "01m", "99999m"])
def test_other_intervals_are_refused(interval: str) -> None:
    with pytest.raises(ValueError, match="interval"):
        interval_minutes(interval)
