"""Bars of every kind against their definition.

Invariants of time bars, whatever trades are dropped, repeated, late or seeded:
- after each trade that came, every closed bar shown equals the bar made from all of the venue's trades;
- closed bars stand in order, each once; what isn't shown of the closed stretch is named by `holes`;
- seeding the holes leaves none, and no trade counts twice.
"""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.market.bars import Kline, NotionalBars, TickBars, VolumeBars
from core.market.coverage import MAX_GAPS
from core.market.intervals import NS_PER_DAY, NS_PER_MINUTE, Interval
from core.market.klines import KlineSeries
from core.market.time_bars import TimeBars
from core.types.clock import NS_PER_S

MINUTE = Interval.parse("1m")
START_NS = 1_700_006_400 * NS_PER_S
INTERVALS = ["1s", "5s", "1m", "7m", "15m", "4h", "1d", "3d", "1w", "1M", "3M"]


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS_PER_S


class T(NamedTuple):
    price: int
    quantity: int
    ts_ns: int
    is_buyer_maker: bool
    trade_id: int


def make_trades(random: Random, count: int, step_ns: int) -> list[T]:
    ts_ns, trades = START_NS + random.randrange(step_ns + 1), []
    for number in range(count):
        ts_ns += random.choice((0, 1, step_ns // 3, step_ns, 14 * step_ns if random.random() < 0.2 else 0))
        side = random.random() < 0.5
        trades.append(T(random.randint(900, 1_100), random.randint(1, 50), ts_ns, side, 1_000 + number))
    return trades


def make_bar(trades: list[T], open_ns: int, next_ns: int, price: int, *, closed: bool = True) -> Kline:
    prices = [trade.price for trade in trades] or [price]
    bought = [trade for trade in trades if not trade.is_buyer_maker]
    return Kline(
        open_ns,
        next_ns - 1,
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        sum(trade.quantity for trade in trades),
        sum(trade.price * trade.quantity for trade in trades),
        len(trades),
        closed,
        sum(trade.quantity for trade in bought),
        sum(trade.price * trade.quantity for trade in bought),
        trades[0].trade_id if trades else None,
        trades[-1].trade_id if trades else None,
    )


def truth(trades: list[T], interval: Interval, *, fill_gaps: bool = True) -> dict[int, Kline]:
    """All bars from the first trade's to the last trade's, by open time; the last one isn't closed."""
    bars, price = {}, trades[0].price
    open_ns = interval.open_time_ns(trades[0].ts_ns)
    while open_ns <= trades[-1].ts_ns:
        next_ns = interval.next_open_ns(open_ns)
        inside = [trade for trade in trades if open_ns <= trade.ts_ns < next_ns]
        if inside or fill_gaps:
            bars[open_ns] = make_bar(inside, open_ns, next_ns, price, closed=next_ns <= trades[-1].ts_ns)
        price = inside[-1].price if inside else price
        open_ns = next_ns
    return bars


# intervals


@pytest.mark.parametrize(
    ("interval", "at", "opens", "next_opens"),
    [
        ("1s", "2024-08-08T23:59:59", "2024-08-08T23:59:59", "2024-08-09T00:00:00"),
        ("5s", "2024-08-08T23:59:59", "2024-08-08T23:59:55", "2024-08-09T00:00:00"),
        ("15m", "2024-08-08T23:59:59", "2024-08-08T23:45:00", "2024-08-09T00:00:00"),
        ("4h", "2024-08-08T19:59:59", "2024-08-08T16:00:00", "2024-08-08T20:00:00"),
        ("1d", "2024-08-08T00:00:00", "2024-08-08T00:00:00", "2024-08-09T00:00:00"),
        # 2024-08-08 was a Thursday, 2024-08-12 a Monday.
        ("1w", "2024-08-08T12:00:00", "2024-08-05T00:00:00", "2024-08-12T00:00:00"),
        ("1w", "2024-08-11T23:59:59", "2024-08-05T00:00:00", "2024-08-12T00:00:00"),
        ("1w", "2024-08-12T00:00:00", "2024-08-12T00:00:00", "2024-08-19T00:00:00"),
        ("1M", "2024-02-29T23:59:59", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
        ("1M", "2023-12-31T23:59:59", "2023-12-01T00:00:00", "2024-01-01T00:00:00"),
        ("3M", "2024-02-10T00:00:00", "2024-01-01T00:00:00", "2024-04-01T00:00:00"),
    ],
)
def test_bars_begin_where_binance_begins_them(interval: str, at: str, opens: str, next_opens: str) -> None:
    parsed = Interval.parse(interval)
    assert str(parsed) == interval
    assert parsed.open_time_ns(ns(at)) == ns(opens)
    assert parsed.next_open_ns(ns(opens)) == ns(next_opens)
    assert parsed.shift(ns(next_opens), -1) == ns(opens)


@pytest.mark.parametrize("text", ["", "m", "0m", "01m", "1", "1y", "-1m", "1.5h", "1 m", "100000s", "1m\n", "\u0661m"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="interval"):
        Interval.parse(text)


@pytest.mark.parametrize(
    ("part", "whole", "divides"),
    [
        ("1m", "15m", True),
        ("7m", "1h", False),
        ("1m", "1w", True),
        ("1m", "1M", True),
        ("7m", "1M", False),
        ("1d", "1M", True),
        ("3d", "1M", False),
        ("1w", "1M", False),
        ("1w", "2w", True),
        ("7d", "1w", False),
        ("1w", "7d", False),
        ("1M", "3M", True),
        ("2M", "3M", False),
        ("1M", "1d", False),
        ("1h", "1m", False),
    ],
)
def test_which_bars_are_made_of_which(part: str, whole: str, divides: bool) -> None:
    assert Interval.parse(part).divides(Interval.parse(whole)) is divides


@pytest.mark.parametrize(("interval", "count"), [("1m", 525_600), ("1d", 365), ("1M", 12), ("3M", 4)])
def test_a_year_has_so_many_bars(interval: str, count: int) -> None:
    assert Interval.parse(interval).bars_per_year == count


# time bars


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("fill_gaps", [True, False])
def test_time_bars_equal_their_definition(interval: str, fill_gaps: bool) -> None:
    parsed = Interval.parse(interval)
    trades = make_trades(Random(5), 600, (parsed.width_ns or 91 * NS_PER_DAY) // 4)
    series = TimeBars(parsed, fill_gaps=fill_gaps)
    emitted = [bar for trade in trades for bar in series.on_trade(*trade)]
    expected = list(truth(trades, parsed, fill_gaps=fill_gaps).values())
    assert len(expected) > 50
    assert emitted == expected[1:-1], "the bar in which the series began is not whole"
    assert series.bars(10_000) == expected[1:]
    assert series.bars(3) == expected[-3:]
    assert (len([bar for bar in expected if not bar.trades]) > 10) is fill_gaps
    assert series.holes() == []


@pytest.mark.parametrize(
    ("base", "interval"),
    [("1s", "2s"), ("1s", "1m"), ("1s", "15m"), ("1m", "7m"), ("1m", "1h"), ("1m", "1d"), ("1h", "4h"), ("1h", "1w")],
)
def test_longer_bars_from_shorter_ones_equal_bars_made_directly(base: str, interval: str) -> None:
    parsed = Interval.parse(interval)
    trades = make_trades(Random(6), 900, (parsed.width_ns or 0) // 30)
    series = KlineSeries(100_000, interval=Interval.parse(base))
    direct = TimeBars(parsed)
    for trade in trades:
        series.on_trade(*trade)
        direct.on_trade(*trade)
    assert len(direct.bars(1_000)) > 5
    assert series.bars_of(parsed, 1_000) == direct.bars(1_000)
    assert series.bars_of(parsed, 2) == direct.bars(2)


def test_weeks_and_months_are_made_of_days() -> None:
    trades = make_trades(Random(8), 2_000, NS_PER_DAY // 2)
    series = KlineSeries(interval=Interval.parse("1d"))
    for trade in trades:
        series.on_trade(*trade)
    for text in ("1w", "1M"):
        direct = TimeBars(Interval.parse(text))
        for trade in trades:
            direct.on_trade(*trade)
        assert len(direct.bars(1_000)) > 10
        assert series.bars_of(Interval.parse(text), 1_000) == direct.bars(1_000)
    with pytest.raises(ValueError, match="bars of 4h can't be made from bars of 1d"):
        series.bars_of(Interval.parse("4h"), 10)


def test_vwap_is_exact() -> None:
    series = TickBars(3)
    for price in (100, 101, 103):
        (*bars,) = series.on_trade(price, 7 if price == 103 else 1, START_NS)
    assert bars[0].vwap == Fraction(100 + 101 + 7 * 103, 9)
    assert TimeBars(MINUTE).bars(1) == []


def test_the_buyers_part_is_unknown_when_a_trade_does_not_say_who_took() -> None:
    series = TimeBars(MINUTE)
    series.on_trade(100, 5, START_NS, False)
    assert (series.bars(1)[0].taker_buy_volume, series.bars(1)[0].taker_buy_quote_volume) == (5, 500)
    series.on_trade(100, 5, START_NS)
    assert (series.bars(1)[0].taker_buy_volume, series.bars(1)[0].taker_buy_quote_volume) == (None, None)


# late trades


def test_a_late_trade_within_the_grace_amends_its_bar_and_one_after_it_is_dropped() -> None:
    series = TimeBars(MINUTE, grace_ns=2 * NS_PER_S)
    minute = [START_NS + number * NS_PER_MINUTE for number in range(4)]
    series.on_trade(100, 1, minute[0])
    series.on_trade(110, 1, minute[1] + 30 * NS_PER_S)
    assert series.on_trade(120, 1, minute[2] + NS_PER_S) == ()
    assert [(bar.close, bar.closed) for bar in series.bars(5)] == [(110, False), (120, False)]
    assert series.on_trade(90, 2, minute[1] + 59 * NS_PER_S) == ()
    assert series.amended_trades == 1
    (closed,) = series.advance_to(minute[2] + 2 * NS_PER_S)
    assert (closed.open, closed.high, closed.low, closed.close, closed.volume) == (110, 110, 90, 90, 3)
    series.on_trade(1, 1, minute[1] + 59 * NS_PER_S)
    assert series.late_trades == 1
    assert series.bars(5)[0] == closed


def test_a_trade_that_comes_out_of_order_sets_the_open_or_the_close_by_its_time() -> None:
    series = TimeBars(MINUTE)
    for price, second in ((100, 20), (101, 40), (99, 10), (102, 30)):
        series.on_trade(price, 1, START_NS + second * NS_PER_S)
    (bar,) = series.bars(1)
    assert (bar.open, bar.high, bar.low, bar.close) == (99, 102, 99, 101)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    fill_gaps=st.booleans(),
    ids=st.sampled_from(["none", "by arrival", "by time"]),
    grace_s=st.sampled_from([1, 20, 90, 400]),
)
def test_trades_delayed_by_less_than_the_grace_make_the_same_bars(
    seed: int, fill_gaps: bool, ids: str, grace_s: int
) -> None:
    random = Random(seed)
    # Without ids, trades of the same time count in the order of arrival: keep times apart.
    trades = [
        trade._replace(ts_ns=trade.ts_ns + at) for at, trade in enumerate(make_trades(random, 150, 15 * NS_PER_S))
    ]
    grace_ns = grace_s * NS_PER_S
    arrivals = sorted(trades, key=lambda trade: trade.ts_ns + random.randrange(grace_ns))
    if ids == "by arrival":
        arrivals = [trade._replace(trade_id=at) for at, trade in enumerate(arrivals)]
        trades = sorted(arrivals, key=lambda trade: trade.ts_ns)
    series = TimeBars(MINUTE, fill_gaps=fill_gaps, grace_ns=grace_ns)
    emitted = [bar for trade in arrivals for bar in series.on_trade(*(trade if ids != "none" else trade[:4]))]
    emitted += series.advance_to(trades[-1].ts_ns + 10 * NS_PER_MINUTE + grace_ns)
    # A trade whose id lies before the first one's belongs to what the series didn't see.
    before = 0 if ids == "none" else sum(trade.trade_id < arrivals[0].trade_id for trade in arrivals)
    began_ns = MINUTE.open_time_ns(arrivals[0].ts_ns)
    late = 0 if ids == "by time" else sum(trade.ts_ns < began_ns for trade in arrivals)
    assert (series.missed_trades, series.repeated_trades) == (0, before)
    assert series.late_trades == late
    # Of trades around the beginning, give or take the grace, nobody knows whether all were seen, nor of the price then.
    expected = list(truth(trades, MINUTE, fill_gaps=fill_gaps).values())
    traded_ns = [bar.open_time_ns for bar in expected if bar.trades and bar.open_time_ns > arrivals[0].ts_ns + grace_ns]
    known_from_ns = min(traded_ns, default=trades[-1].ts_ns)
    expected = [bar for bar in expected if bar.open_time_ns >= known_from_ns]
    expected = [make_closed(bar) if ids != "none" else without_ids(make_closed(bar)) for bar in expected]
    emitted = [bar for bar in emitted if known_from_ns <= bar.open_time_ns <= trades[-1].ts_ns]
    if ids == "by time":
        # A bar that closed before the ids were complete is left out, and named.
        assert [bar for bar in expected if bar in emitted] == emitted
    else:
        assert emitted == expected


def test_ids_that_come_out_of_order_are_missed_by_nobody_once_all_are_there() -> None:
    series = TimeBars(MINUTE, grace_ns=NS_PER_S)
    series.on_trade(100, 1, START_NS, False, 1)
    for second, trade_id in ((70, 2), (73, 5), (71, 3), (71, 3), (72, 4), (130, 6)):
        series.on_trade(trade_id, 1, START_NS + second * NS_PER_S, False, trade_id)
    assert [(bar.open, bar.close, bar.trades) for bar in series.bars(5)] == [(2, 5, 4), (6, 6, 1)]
    assert (series.missed_trades, series.repeated_trades) == (0, 1)


def make_closed(bar: Kline) -> Kline:
    return Kline(*(True if field == "closed" else getattr(bar, field) for field in bar.__struct_fields__))


def without_ids(bar: Kline) -> Kline:
    return Kline(*(None if field.endswith("_id") else getattr(bar, field) for field in bar.__struct_fields__))


# trades missed, and seeds


def test_a_bar_during_which_a_trade_was_missed_is_left_out() -> None:
    series = TimeBars(MINUTE)
    for minute, trade_id in ((0, 1), (1, 2), (2, 3), (5, 5), (6, 6), (7, 7)):
        series.on_trade(100, 1, START_NS + minute * NS_PER_MINUTE, False, trade_id)
    assert [(bar.open_time_ns - START_NS) // NS_PER_MINUTE for bar in series.bars(10)] == [1, 6, 7]
    assert series.holes() == [(START_NS + 2 * NS_PER_MINUTE, START_NS + 6 * NS_PER_MINUTE)]
    assert series.missed_trades == 1


def test_bars_that_time_alone_closed_are_taken_back_when_trades_were_missed() -> None:
    series = TimeBars(MINUTE)
    series.on_trade(100, 1, START_NS, False, 1)
    series.on_trade(100, 1, START_NS + NS_PER_MINUTE, False, 2)
    series.advance_to(START_NS + 5 * NS_PER_MINUTE)
    assert len([bar for bar in series.bars(10) if bar.closed]) == 4
    series.on_trade(100, 1, START_NS + 5 * NS_PER_MINUTE, False, 4)
    assert not [bar for bar in series.bars(10) if bar.closed]


def test_an_interruption_without_a_missed_trade_costs_no_bar() -> None:
    series = TimeBars(MINUTE)
    for minute, trade_id in ((0, 1), (1, 2)):
        series.on_trade(100, 1, START_NS + minute * NS_PER_MINUTE, False, trade_id)
    series.on_interrupted()
    assert series.advance_to(START_NS + 3 * NS_PER_MINUTE) == (), "until the next trade nobody knows"
    assert [bar.closed for bar in series.bars(10)] == [False, False, False]
    closed = series.on_trade(101, 1, START_NS + 3 * NS_PER_MINUTE, False, 3)
    assert [(bar.trades, bar.close) for bar in closed] == [(1, 100), (0, 100)]


def test_an_interruption_without_ids_costs_the_bars_that_it_touches() -> None:
    series = TimeBars(MINUTE)
    for minute in (0, 1, 2):
        series.on_trade(100, 1, START_NS + minute * NS_PER_MINUTE)
    series.on_interrupted()
    for minute in (4, 5, 6):
        series.on_trade(100, 1, START_NS + minute * NS_PER_MINUTE)
    assert [(bar.open_time_ns - START_NS) // NS_PER_MINUTE for bar in series.bars(10)] == [1, 5, 6]


def test_a_venue_that_counts_its_trades_anew_is_followed_after_an_interruption() -> None:
    series = TimeBars(MINUTE)
    series.on_trade(100, 1, START_NS, False, 900)
    series.on_interrupted()
    for minute in (1, 2, 3):
        series.on_trade(100, 1, START_NS + minute * NS_PER_MINUTE, False, minute)
    assert [bar.trades for bar in series.bars(10)] == [1, 1]
    assert series.repeated_trades == 0


def test_repeated_trades_are_left_out() -> None:
    series = TimeBars(MINUTE)
    for trade_id in (5, 6, 6, 5, 7):
        series.on_trade(100, 1, START_NS, False, trade_id)
    assert (series.bars(1)[0].trades, series.repeated_trades) == (3, 2)


def test_more_gaps_than_are_kept_apart_only_leave_more_out() -> None:
    series = TimeBars(MINUTE, grace_ns=NS_PER_DAY)
    for number in range(2 * MAX_GAPS):
        series.on_trade(100, 1, START_NS + number, False, 2 * number)
    assert len(series._gaps._gaps) <= MAX_GAPS
    series.advance_to(START_NS + 2 * NS_PER_DAY)
    assert not [bar for bar in series.bars(2_000) if bar.trades]


def test_seeded_bars_join_live_ones_without_a_hole_or_a_double_count() -> None:
    trades = make_trades(Random(9), 400, 20 * NS_PER_S)
    bars = truth(trades, MINUTE)
    live_from = 200
    series = KlineSeries()
    for trade in trades[live_from:300]:
        series.on_trade(*trade)
    now_ns = trades[299].ts_ns
    series.seed(bar for bar in bars.values() if bar.close_time_ns < now_ns)
    assert series.holes() == []
    for trade in trades[300:]:
        series.on_trade(*trade)
    assert series.bars(1, 1_000) == list(bars.values())
    five = Interval.parse("5m")
    assert series.bars(5, 1_000) == list(truth(trades, five).values())[-len(series.bars(5, 1_000)) :]


def test_a_series_that_was_seeded_before_its_first_trade_asks_for_the_bar_it_began_in() -> None:
    trades = make_trades(Random(10), 400, 20 * NS_PER_S)
    bars = truth(trades, MINUTE)
    begin_ns = trades[200].ts_ns
    series = TimeBars(MINUTE)
    series.seed([bar for bar in bars.values() if bar.close_time_ns < begin_ns])
    assert all(bar.closed for bar in series.bars(1_000))
    for trade in trades[200:]:
        series.on_trade(*trade[:4])
    began_ns = MINUTE.open_time_ns(begin_ns)
    assert series.holes() == [(began_ns, began_ns + NS_PER_MINUTE)]
    series.seed([bars[began_ns]])
    assert series.holes() == []
    assert [bar.volume for bar in series.bars(1_000)] == [bar.volume for bar in bars.values()]


def test_a_seed_that_states_its_last_trade_id_joins_at_that_trade() -> None:
    trades = make_trades(Random(12), 400, 20 * NS_PER_S)
    bars = truth(trades, MINUTE)
    whole = [bar for bar in bars.values() if bar.close_time_ns < trades[200].ts_ns]
    last_id = max(bar.last_trade_id or 0 for bar in whole)
    series = TimeBars(MINUTE)
    series.seed(whole)
    for trade in trades[last_id - 1_000 + 1 :]:
        series.on_trade(*trade)
    assert series.bars(1_000) == list(bars.values())
    assert (series.holes(), series.missed_trades) == ([], 0)


def test_a_trade_of_a_seeded_bar_counts_once() -> None:
    series = TimeBars(MINUTE)
    series.on_trade(100, 1, START_NS + 10 * NS_PER_S)
    series.seed(
        [make_bar([T(100, 1, START_NS, True, 1), T(105, 3, START_NS, True, 2)], START_NS, START_NS + NS_PER_MINUTE, 0)]
    )
    series.on_trade(105, 3, START_NS + 50 * NS_PER_S)
    assert [bar.volume for bar in series.bars(5)] == [4]
    assert (series.seeded_trades, series.late_trades) == (1, 0)


def test_a_seed_that_differs_from_a_whole_bar_wins_and_is_counted() -> None:
    series = TimeBars(MINUTE)
    for minute in range(4):
        series.on_trade(100, 1, START_NS + minute * NS_PER_MINUTE)
    ours = [bar for bar in series.bars(5) if bar.closed]
    series.seed(ours)
    assert series.seed_differences == 0
    other = TimeBars(MINUTE)
    for minute in range(4):
        other.on_trade(100, 2, START_NS + minute * NS_PER_MINUTE)
    series = TimeBars(MINUTE)
    for minute in range(4):
        series.on_trade(100, 1, START_NS + minute * NS_PER_MINUTE)
    series.seed([bar for bar in other.bars(5) if bar.closed])
    assert series.seed_differences == 2
    assert [bar.volume for bar in series.bars(5)] == [2, 2, 1]


@pytest.mark.parametrize(
    ("offsets", "says"),
    [
        ([(30 * NS_PER_S, 90 * NS_PER_S)], "isn't a bar of 1m"),
        ([(0, 5 * NS_PER_MINUTE)], "isn't a bar of 1m"),
        ([(NS_PER_MINUTE, 2 * NS_PER_MINUTE), (0, NS_PER_MINUTE)], "oldest first"),
        ([(0, NS_PER_MINUTE), (0, NS_PER_MINUTE)], "each once"),
    ],
)
def test_seeds_that_do_not_fit_change_nothing(offsets: list[tuple[int, int]], says: str) -> None:
    series = TimeBars(MINUTE)
    series.on_trade(100, 1, START_NS)
    series.on_trade(100, 1, START_NS + 3 * NS_PER_MINUTE)
    before = series.bars(10)
    with pytest.raises(ValueError, match=says):
        series.seed([make_bar([], START_NS + start, START_NS + end, 100) for start, end in offsets])
    assert series.bars(10) == before


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    fill_gaps=st.booleans(),
    with_ids=st.booleans(),
    grace_s=st.sampled_from([0, 2, 70]),
    drop=st.sampled_from([0.0, 0.05, 0.3]),
    seed_often=st.sampled_from([0.0, 0.05, 0.2]),
)
def test_whatever_is_missed_no_closed_bar_is_wrong(
    seed: int, fill_gaps: bool, with_ids: bool, grace_s: int, drop: float, seed_often: float
) -> None:
    random = Random(seed)
    trades = make_trades(random, 120, 15 * NS_PER_S)
    bars = truth(trades, MINUTE, fill_gaps=True)
    series = TimeBars(MINUTE, fill_gaps=fill_gaps, grace_ns=grace_s * NS_PER_S)

    def venue_bars(until_ns: int) -> list[Kline]:
        wanted = [bar for bar in bars.values() if bar.close_time_ns < until_ns]
        return wanted[-random.randint(1, 40) :]

    def check() -> None:
        shown = [bar for bar in series.bars(1_000) if bar.closed]
        expected = [bars[bar.open_time_ns] for bar in shown]
        assert [comparable(bar) for bar in shown] == [comparable(bar) for bar in expected]
        opens = [bar.open_time_ns for bar in series.bars(1_000)]
        assert opens == sorted(set(opens))
        named = {open_ns for start, end in series.holes() for open_ns in range(start, end, NS_PER_MINUTE)}
        known = {bar.open_time_ns for bar in shown}
        assert not known & named
        front_ns = series.front_ns or 0
        if known and fill_gaps:
            assert known | named == set(range(min(known), front_ns, NS_PER_MINUTE)) | known

    def comparable(bar: Kline) -> Kline:
        return bar if with_ids else without_ids(bar)

    for number, trade in enumerate(trades):
        if random.random() < drop:
            if not with_ids:
                series.on_interrupted()
            continue
        if random.random() < 0.05:
            series.on_interrupted()
        if number and random.random() < 0.3:
            # Another stream has shown how far the venue's time has come.
            series.advance_to(random.randint(trades[number - 1].ts_ns, trade.ts_ns))
        if random.random() < seed_often:
            series.seed(venue_bars(trade.ts_ns))
        series.on_trade(*(trade if with_ids else trade[:4]))
        check()
    series.seed(bar for bar in bars.values() if bar.close_time_ns < trades[-1].ts_ns)
    assert series.holes() == []
    check()
    shown = [comparable(bar) for bar in series.bars(1_000) if bar.closed]
    wanted = [bar for bar in bars.values() if bar.close_time_ns < trades[-1].ts_ns and (fill_gaps or bar.trades)]
    assert shown == [comparable(bar) for bar in wanted]


# bars by count and size


@pytest.mark.parametrize("threshold", [1, 7, 100])
@pytest.mark.parametrize(
    ("kind", "measure", "scale"),
    [
        (TickBars, lambda bar: bar.trades, 1),
        (VolumeBars, lambda bar: bar.volume, 20),
        (NotionalBars, lambda bar: bar.quote_volume, 20_000),
    ],
)
def test_bars_close_with_the_trade_that_reaches_their_threshold(kind, measure, scale, threshold: int) -> None:  # type: ignore[no-untyped-def]
    trades = make_trades(Random(13), 1_000, NS_PER_S)
    series = kind(threshold * scale)
    closed = [bar for trade in trades for bar in series.on_trade(*trade)]
    bars = series.bars(10_000)
    assert len(closed) >= 9
    assert [bar for bar in bars if bar.closed] == closed
    position = 0
    for bar in bars:
        inside = trades[position : position + bar.trades]
        position += bar.trades
        first, last = inside[0], inside[-1]
        assert bar == make_bar(inside, first.ts_ns, last.ts_ns + 1, 0, closed=bar.closed)
        assert (measure(bar) >= threshold * scale) is bar.closed
        # Without its last trade the bar wouldn't have closed: no trade is split, none closes two.
        rest = make_bar(inside[:-1], first.ts_ns, last.ts_ns, 0)
        assert measure(rest) < threshold * scale
    assert position == len(trades)


def test_a_trade_far_above_the_threshold_closes_one_bar() -> None:
    series = VolumeBars(10)
    (bar,) = series.on_trade(100, 1_000, START_NS, False, 1)
    assert (bar.volume, bar.trades, bar.taker_buy_volume) == (1_000, 1, 1_000)
    assert series.bars(5) == [bar]


def test_bars_by_count_take_trades_as_they_come_and_each_once() -> None:
    series = TickBars(3)
    for price, second, trade_id in ((100, 5, 1), (101, 3, 2), (101, 3, 2), (99, 4, 3)):
        closed = series.on_trade(price, 1, START_NS + second * NS_PER_S, False, trade_id)
    (bar,) = closed
    assert (bar.open, bar.close, bar.trades, series.repeated_trades) == (100, 99, 3, 1)
    assert bar.open_time_ns == bar.close_time_ns == START_NS + 5 * NS_PER_S


@pytest.mark.parametrize("kind", [TickBars, VolumeBars, NotionalBars])
def test_a_threshold_below_one_is_refused(kind: type[TickBars]) -> None:
    with pytest.raises(ValueError, match="threshold"):
        kind(0)
