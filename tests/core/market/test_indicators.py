"""Every indicator against TA-Lib, or against numpy where TA-Lib has none, on recorded bars and on random walks.

Invariants, on any bars:
- the value is None exactly where TA-Lib has NaN, and equals TA-Lib's to a relative 1e-9 elsewhere;
- a reset indicator gives what a fresh one gives;
- an input that is refused changes nothing.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from core.market.bars import Kline
from core.market.indicators import NAMES, Indicator, compute, create, parameters, parse, written
from core.market.intervals import DAYS_PER_YEAR, NS_PER_MINUTE, Interval
from core.market.time_bars import TimeBars
from core.types.clock import NS_PER_MS
from tests.core.market.feather import columns
from tests.recordings import spot_recordings

RELATIVE = 1e-9
Array = np.ndarray[Any, np.dtype[np.float64]]


class Bars(NamedTuple):
    open_time_ns: list[int]
    high: Array
    low: Array
    close: Array
    volume: Array
    quote_volume: Array

    def updates(self, indicator: Indicator[Any]) -> list[Any]:
        inputs = [list(getattr(self, field)) for field in indicator.inputs]
        return [indicator.update(*row) for row in zip(*inputs, strict=True)]


class Case(NamedTuple):
    name: str
    given: dict[str, Any]
    truth: Callable[[Bars], tuple[Array, ...]]


def bollinger(period: int, deviations: float) -> Callable[[Bars], tuple[Array, ...]]:
    return lambda b: talib.BBANDS(b.close, period, deviations, deviations)


def donchian(period: int) -> Callable[[Bars], tuple[Array, ...]]:
    def truth(bars: Bars) -> tuple[Array, ...]:
        upper, lower = talib.MAX(bars.high, period), talib.MIN(bars.low, period)
        return upper, (upper + lower) / 2, lower

    return truth


def volatility(period: int, bars_per_year: float) -> Callable[[Bars], tuple[Array, ...]]:
    def truth(bars: Bars) -> tuple[Array, ...]:
        # TA-Lib's STDDEV is the population's; the sample's is its square root of n / (n - 1).
        returns = np.log(bars.close[1:] / bars.close[:-1])
        windows = sliding_window_view(returns, period) if len(returns) >= period else np.empty((0, period))
        found = windows.std(axis=1, ddof=1) * np.sqrt(bars_per_year)
        return (np.concatenate([np.full(len(bars.close) - len(found), np.nan), found]),)

    return truth


def vwap(session_ns: int | None) -> Callable[[Bars], tuple[Array, ...]]:
    def truth(bars: Bars) -> tuple[Array, ...]:
        sessions = np.array(bars.open_time_ns) // (session_ns or 2**62)
        found = []
        for session in np.unique(sessions):
            quote, base = (column[sessions == session].cumsum() for column in (bars.quote_volume, bars.volume))
            found.append(np.divide(quote, base, out=np.full(len(base), np.nan), where=base > 0))
        return (np.concatenate(found),)

    return truth


CASES = [
    Case("sma", {"period": 20}, lambda b: (talib.SMA(b.close, 20),)),
    Case("sma", {"period": 2}, lambda b: (talib.SMA(b.close, 2),)),
    Case("ema", {"period": 20}, lambda b: (talib.EMA(b.close, 20),)),
    Case("ema", {"period": 2}, lambda b: (talib.EMA(b.close, 2),)),
    Case("rsi", {}, lambda b: (talib.RSI(b.close, 14),)),
    Case("rsi", {"period": 2}, lambda b: (talib.RSI(b.close, 2),)),
    Case("macd", {}, lambda b: talib.MACD(b.close, 12, 26, 9)),
    Case("macd", {"fast": 3, "slow": 10, "signal": 1}, lambda b: talib.MACD(b.close, 3, 10, 1)),
    Case("bollinger", {}, bollinger(20, 2.0)),
    Case("bollinger", {"period": 5, "deviations": 1.5}, bollinger(5, 1.5)),
    Case("atr", {}, lambda b: (talib.ATR(b.high, b.low, b.close, 14),)),
    Case("atr", {"period": 1}, lambda b: (talib.ATR(b.high, b.low, b.close, 1),)),
    Case(
        "adx",
        {},
        lambda b: (
            talib.ADX(b.high, b.low, b.close, 14),
            talib.PLUS_DI(b.high, b.low, b.close, 14),
            talib.MINUS_DI(b.high, b.low, b.close, 14),
        ),
    ),
    Case("adx", {"period": 5}, lambda b: (talib.ADX(b.high, b.low, b.close, 5),)),
    Case("stochastic", {}, lambda b: talib.STOCH(b.high, b.low, b.close, 14, 3, 0, 3, 0)),
    Case("stochastic", {"smoothing": 1}, lambda b: talib.STOCHF(b.high, b.low, b.close, 14, 3, 0)),
    Case("obv", {}, lambda b: (talib.OBV(b.close, b.volume),)),
    Case("donchian", {"period": 20}, donchian(20)),
    Case("realised_volatility", {"bars_per_year": 525_600.0, "period": 30}, volatility(30, 525_600)),
    Case("vwap", {"session": "1h"}, vwap(60 * NS_PER_MINUTE)),
    Case("vwap", {"session": None}, vwap(None)),
]
CASE_IDS = [f"{case.name}({', '.join(f'{key}={value}' for key, value in case.given.items())})" for case in CASES]


def assert_equal(ours: list[Any], truth: tuple[Array, ...], scale: float) -> None:
    """scale: the size of what is subtracted from each other, whose rounding is allowed for where near equals cancel."""
    rows = [
        (None,) * len(truth) if value is None else value if isinstance(value, tuple) else (value,) for value in ours
    ]
    first = truth[0]
    assert [row[0] is None for row in rows] == list(np.isnan(first)), "it warms up as TA-Lib does"
    for number, column in enumerate(truth):
        mine = np.array([np.nan if row[0] is None else row[number] for row in rows], dtype=float)
        theirs = np.where(np.isnan(first), np.nan, column)
        np.testing.assert_allclose(mine, theirs, rtol=RELATIVE, atol=scale * 1e-13)


def check(case: Case, bars: Bars) -> None:
    indicator = create(case.name, **case.given)
    truth = case.truth(bars)
    ours = bars.updates(indicator)
    price = np.abs(bars.close).max()
    scales = {"macd": price, "bollinger": price, "obv": bars.volume.sum(), "stochastic": 100.0}
    assert_equal(ours, truth, float(scales.get(case.name, 0.0)))
    assert indicator.is_ready == (ours[-1] is not None)
    assert indicator.value == ours[-1]
    indicator.reset()
    assert not indicator.is_ready
    assert bars.updates(indicator) == ours


def from_klines(klines: Iterable[Kline], price_scale: int, quantity_scale: int) -> Bars:
    found = list(klines)

    def column(field: str, scale: int) -> Array:
        return np.array([float(Decimal(getattr(bar, field)).scaleb(-scale)) for bar in found])

    return Bars(
        [bar.open_time_ns for bar in found],
        *(column(field, price_scale) for field in ("high", "low", "close")),
        column("volume", quantity_scale),
        column("quote_volume", price_scale + quantity_scale),
    )


@pytest.fixture(scope="module")
def bitcoin_klines() -> list[Kline]:
    """Bars of two seconds of the recorded spot market."""
    series = TimeBars(Interval.parse("2s"))
    for path in spot_recordings():
        with gzip.open(path) as file:
            for line in file:
                if b'@trade"' not in line[:80]:
                    continue
                trade = json.loads(line.split(b" ", 1)[1])["data"]
                price, quantity = Decimal(trade["p"]).scaleb(2), Decimal(trade["q"]).scaleb(5)
                series.on_trade(int(price), int(quantity), trade["T"] * NS_PER_MS, trade["m"], trade["t"])
    return [bar for bar in series.bars(1_000) if bar.closed]


@pytest.fixture(scope="module")
def ripple_bars(recordings: Path) -> Bars:
    """The recorded one-minute candles of XRP/ETH: thin, with long stretches of one price."""
    dates, _, highs, lows, closes, volumes = columns(recordings / "XRP_ETH-1m.feather")
    count = len(dates) // 8
    high, low, close, volume = (
        np.array(struct.unpack(f"<{count}d", column)) for column in (highs, lows, closes, volumes)
    )
    return Bars(list(struct.unpack(f"<{count}q", dates)), high, low, close, volume, close * volume)


@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_it_equals_the_truth_on_recorded_bitcoin_bars(case: Case, bitcoin_klines: list[Kline]) -> None:
    assert len(bitcoin_klines) > 300
    check(case, from_klines(bitcoin_klines, 2, 5))


@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_it_equals_the_truth_on_recorded_ripple_bars(case: Case, ripple_bars: Bars) -> None:
    check(case, ripple_bars)


@st.composite
def walks(draw: st.DrawFn) -> Bars:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(2, 400))
    start = draw(st.sampled_from([1e-8, 0.3, 100.0, 65_000.0, 1e9]))
    step = draw(st.sampled_from([0.0, 1e-4, 0.01, 0.2]))
    ticks = draw(st.booleans())
    steps = random.normal(0, 1, count) * step
    if draw(st.booleans()):
        steps[random.random(count) < 0.8] = 0.0
    close = start * np.exp(np.clip(np.cumsum(steps), -8, 8))
    if ticks:
        close = np.maximum(np.round(close / start, 2), 0.01) * start
    spread = random.exponential(step, (2, count)) if step else np.zeros((2, count))
    volume = np.round(random.exponential(5.0, count) * (random.random(count) < 0.9), 5)
    opens = [index * NS_PER_MINUTE for index in range(count)]
    return Bars(opens, close * (1 + spread[0]), close / (1 + spread[1]), close, volume, volume * close)


@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
@settings(max_examples=30, deadline=None)
@given(bars=walks())
def test_it_equals_the_truth_on_random_walks(case: Case, bars: Bars) -> None:
    check(case, bars)


LONG = 300_000


@pytest.mark.parametrize(("name", "given"), [("sma", {"period": 50}), ("bollinger", {"period": 50})])
def test_rolling_sums_do_not_drift(name: str, given: dict[str, Any]) -> None:
    """A market that fell by ten orders of magnitude leaves no trace of its old prices, after any number of updates."""
    random = np.random.default_rng(11)
    steps = random.normal(0, 1e-4, LONG)
    close = 1e8 * np.exp(np.cumsum(steps))
    close[LONG // 2 :] *= 1e-10
    indicator = create(name, **given)
    worst = 0.0
    for index, value in enumerate(close.tolist()):
        found = indicator.update(value)
        if index % 997 == 0 and index >= 50 and abs(index - LONG // 2) > 50:
            window = close[index - 49 : index + 1]
            mean, deviation = window.mean(), np.sqrt(((window - window.mean()) ** 2).mean())
            ours = (found,) if name == "sma" else (found.middle, (found.upper - found.lower) / 4)
            for mine, theirs in zip(ours, (mean, deviation), strict=False):
                worst = max(worst, abs(mine / theirs - 1))
    assert worst < RELATIVE


def test_volatility_that_left_the_window_leaves_nothing_behind() -> None:
    indicator = create("bollinger", period=20)
    for value in [1e12, 1.0, 1e12, 3.0] * 50:
        indicator.update(value)
    for step in range(20 + 256):
        indicator.update(100.0 + step % 2 * 0.01)
    band = indicator.value
    assert (band.upper - band.lower) / 4 == pytest.approx(0.005, rel=RELATIVE)


FLAT: dict[str, Any] = {
    "sma": 61_234.56,
    "ema": 61_234.56,
    "rsi": 0.0,
    "macd": (0.0, 0.0, 0.0),
    "bollinger": (61_234.56,) * 3,
    "atr": 0.0,
    "adx": (0.0, 0.0, 0.0),
    "stochastic": (0.0, 0.0),
    "donchian": (61_234.56,) * 3,
    "realised_volatility": 0.0,
    "obv": 1.5,
    "vwap": 61_234.56,
}


def flat_bars(count: int, price: float) -> Bars:
    column = np.full(count, price)
    return Bars([index * NS_PER_MINUTE for index in range(count)], *[column] * 3, np.full(count, 1.5), column * 1.5)


@pytest.mark.parametrize("name", NAMES)
def test_prices_that_stand_still(name: str) -> None:
    given = {"bars_per_year": 365.0} if name == "realised_volatility" else {}
    value = bars_value(flat_bars(200, 61_234.56), name, given)
    assert value == pytest.approx(FLAT[name], rel=1e-14, abs=1e-10)
    if name in {"sma", "bollinger", "donchian", "rsi", "atr", "adx", "stochastic", "realised_volatility"}:
        assert value == FLAT[name]


def bars_value(bars: Bars, name: str, given: dict[str, Any]) -> Any:
    return bars.updates(create(name, **given))[-1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e200])
@pytest.mark.parametrize("name", NAMES)
def test_an_input_that_is_no_number_is_refused_and_changes_nothing(name: str, bad: float) -> None:
    given = {"bars_per_year": 365.0} if name == "realised_volatility" else {}
    random = np.random.default_rng(3)
    close = 100 * np.exp(random.normal(0, 0.01, 120).cumsum())
    volume = random.exponential(1, 120)
    bars = Bars([at * NS_PER_MINUTE for at in range(120)], close * 1.01, close * 0.99, close, volume, volume * close)
    undisturbed = bars.updates(create(name, **given))
    indicator = create(name, **given)
    rows = list(zip(*(list(getattr(bars, field)) for field in indicator.inputs), strict=True))
    found = []
    for row in rows:
        for place, field in enumerate(indicator.inputs):
            if field.endswith("_ns"):
                continue
            with pytest.raises(ValueError, match=f"^{name} takes finite numbers"):
                indicator.update(*row[:place], bad, *row[place + 1 :])
        found.append(indicator.update(*row))
    assert found == undisturbed


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("atr", (1.0, 2.0, 1.5)),
        ("adx", (2.0, 1.0, 2.5)),
        ("stochastic", (2.0, 1.0, 0.5)),
        ("donchian", (1.0, 2.0)),
        ("obv", (1.0, -1.0)),
        ("vwap", (-1.0, 1.0, 0)),
        ("realised_volatility", (0.0,)),
    ],
)
def test_a_bar_that_cannot_be_is_refused(name: str, inputs: tuple[float, ...]) -> None:
    given = {"bars_per_year": 365.0} if name == "realised_volatility" else {}
    with pytest.raises(ValueError, match=f"^{name} "):
        create(name, **given).update(*inputs)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("smma", {}, r"'smma' is not an indicator that is known here; known are adx, atr, .*vwap"),
        ("rsi", {"length": 14}, r"rsi has no parameter 'length'; it takes period"),
        ("obv", {"period": 14}, r"obv has no parameter 'period'; it takes none"),
        ("realised_volatility", {}, r"realised_volatility needs bars_per_year"),
        ("rsi", {"period": 1}, r"rsi needs period as a whole number from 2 to 10000, not 1"),
        ("sma", {"period": 20.0}, r"sma needs period as a whole number"),
        ("sma", {"period": "20"}, r"sma needs period as a whole number"),
        ("sma", {"period": True}, r"sma needs period as a whole number"),
        ("sma", {"period": 10_001}, r"sma needs period as a whole number"),
        ("macd", {"fast": 26, "slow": 12}, r"macd needs slow above fast"),
        ("bollinger", {"deviations": 0}, r"bollinger needs deviations above 0"),
        ("bollinger", {"deviations": float("nan")}, r"bollinger needs deviations above 0"),
        ("bollinger", {"deviations": "2"}, r"bollinger takes other values for deviations"),
        ("vwap", {"session": "1x"}, r"vwap needs session as an interval such as 1d, or none"),
        ("realised_volatility", {"bars_per_year": 0}, r"realised_volatility needs bars_per_year above 0"),
    ],
)
def test_what_cannot_be_created_says_why(name: str, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        create(name, **given)


@pytest.mark.parametrize(
    ("text", "name", "given"),
    [
        ("rsi", "rsi", {}),
        (" SMA(20) ", "sma", {"period": 20}),
        ("macd(12, 26,9)", "macd", {"fast": 12, "slow": 26, "signal": 9}),
        ("bollinger(deviations=1.5, 10)", "bollinger", {"deviations": 1.5, "period": 10}),
        ("vwap(1h)", "vwap", {"session": "1h"}),
        ("obv()", "obv", {}),
    ],
)
def test_indicators_are_read_as_people_write_them(text: str, name: str, given: dict[str, Any]) -> None:
    assert parse(text) == (name, given)
    assert parse(written(name, **given)) == (name, {**dict(defaults(name)), **given})


def defaults(name: str) -> Iterable[tuple[str, Any]]:
    return ((item.name, item.default) for item in parameters(name) if item.default is not None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not an indicator such as"),
        ("rsi(14", "is not an indicator such as"),
        ("rsi(" + "1" * 100 + ")", "is not an indicator such as"),
        ("smma(20)", "known are adx"),
        ("rsi(14, 3)", "rsi has no parameter for '3'; it takes period"),
        ("obv(3)", "obv has no parameter for '3'; it takes none"),
        ("rsi(period=14, period=3)", "rsi has 'period' twice"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(text)


def test_the_registry_states_every_parameter_and_its_default() -> None:
    assert {name: {item.name: item.default for item in parameters(name)} for name in NAMES} == {
        "adx": {"period": 14},
        "atr": {"period": 14},
        "bollinger": {"period": 20, "deviations": 2.0},
        "donchian": {"period": 20},
        "ema": {"period": 30},
        "macd": {"fast": 12, "slow": 26, "signal": 9},
        "obv": {},
        "realised_volatility": {"bars_per_year": None, "period": 30},
        "rsi": {"period": 14},
        "sma": {"period": 30},
        "stochastic": {"period": 14, "smoothing": 3, "signal": 3},
        "vwap": {"session": "1d"},
    }


@pytest.mark.parametrize("name", NAMES)
def test_computing_over_bars_gives_a_value_for_each(name: str, bitcoin_klines: list[Kline]) -> None:
    bars = from_klines(bitcoin_klines, 0, 0)
    given = {"bars_per_year": DAYS_PER_YEAR * 43_200.0} if name == "realised_volatility" else {}
    assert compute(bitcoin_klines, name) == bars.updates(create(name, **given))
    assert compute([], name) == []


def test_vwap_of_bars_is_the_price_that_was_traded(bitcoin_klines: list[Kline]) -> None:
    exact = sum(bar.quote_volume for bar in bitcoin_klines[-30:]) / sum(bar.volume for bar in bitcoin_klines[-30:])
    assert compute(bitcoin_klines[-30:], "vwap", session=None)[-1] == pytest.approx(exact, rel=1e-14)
