"""What is computed on candles equals numpy's answer on the same candles, and says over which ones."""

from __future__ import annotations

import math
from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import pytest

from core.types.codes import ReasonCode
from core.types.views import KlineView
from tests.tools.doubles import House
from tests.tools.engine_double import MemoryEngine
from tests.tools.people import NOW_NS

MINUTE_NS = 60_000_000_000
D = Decimal


def bars(closes: list[str], *, skip: int | None = None, forming: bool = True) -> list[KlineView]:
    """One a minute, the last still forming; skip leaves one out."""
    made = []
    for n, close in enumerate(closes):
        if n == skip:
            continue
        at_ns = NOW_NS + n * MINUTE_NS
        closed = not forming or n < len(closes) - 1
        made.append(
            KlineView(at_ns, at_ns + MINUTE_NS - 1, D(close), D(close), D(close), D(close), D(1), D(close), 1, closed)
        )
    return made


def walk(seed: int, count: int) -> list[str]:
    random, price, out = Random(seed), 100.0, []
    for _ in range(count):
        price *= math.exp(random.gauss(0, 0.01))
        out.append(f"{price:.4f}")
    return out


def given(monkeypatch: pytest.MonkeyPatch, **series: list[KlineView]) -> House:
    async def klines(engine: MemoryEngine, symbol: str, interval: str, limit: int) -> list[KlineView]:
        return series[symbol][-limit:]

    monkeypatch.setattr(MemoryEngine, "klines", klines)
    return House()


def closes(made: list[KlineView]) -> Any:
    return np.array([float(bar.close) for bar in made if bar.closed])


async def test_volatility_is_numpys_with_sample_count_and_annualisation(monkeypatch: pytest.MonkeyPatch) -> None:
    btc, eth = bars(walk(1, 101)), bars(walk(2, 101))
    house = given(monkeypatch, BTCUSDT=btc, ETHUSDT=eth)
    data = (await house.ask("compute_volatility", symbols=["BTC/USDT", "ethusdt", "BTCUSDT"], bars=200)).data
    assert (data["return_type"], data["interval"], data["bars_per_year"], data["count"]) == ("log", "1m", "525600", "2")
    for cell, made in zip(data["volatilities"], (btc, eth), strict=True):
        returns = np.diff(np.log(closes(made)))
        deviation = float(np.std(returns, ddof=1))
        assert cell["sample_count"] == "99"
        assert float(cell["stdev_per_bar"]) == pytest.approx(deviation, rel=1e-8)
        assert float(cell["annualised_volatility"]) == pytest.approx(deviation * math.sqrt(525_600), rel=1e-8)
        assert float(cell["annualised_percent"]) == pytest.approx(deviation * math.sqrt(525_600) * 100, rel=1e-8)
        assert float(cell["mean_return_per_bar"]) == pytest.approx(float(np.mean(returns)), rel=1e-6)


async def test_volatility_looks_at_the_newest_candles_since_a_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    made = bars(walk(3, 21), skip=10)
    house = given(monkeypatch, BTCUSDT=made)
    (cell,) = (await house.ask("compute_volatility", symbols=["BTCUSDT"])).data["volatilities"]
    assert cell["sample_count"] == "8"  # closed candles 11 to 19
    (fewer,) = (await house.ask("compute_volatility", symbols=["BTCUSDT"], bars=5)).data["volatilities"]
    returns = np.diff(np.log(closes(made)[-5:]))
    assert fewer["sample_count"] == "4"
    assert float(fewer["stdev_per_bar"]) == pytest.approx(float(np.std(returns, ddof=1)), rel=1e-8)


@pytest.mark.parametrize(("count", "samples", "deviation"), [(1, "0", None), (2, "0", None), (3, "1", None)])
async def test_too_few_candles_have_no_volatility(
    monkeypatch: pytest.MonkeyPatch, count: int, samples: str, deviation: None
) -> None:
    house = given(monkeypatch, BTCUSDT=bars(walk(4, count)))
    (cell,) = (await house.ask("compute_volatility", symbols=["BTCUSDT"])).data["volatilities"]
    assert (cell["sample_count"], cell["stdev_per_bar"], cell["annualised_volatility"]) == (samples, deviation, None)


async def test_a_price_that_stands_still_has_a_volatility_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    house = given(monkeypatch, BTCUSDT=bars(["100"] * 5))
    (cell,) = (await house.ask("compute_volatility", symbols=["BTCUSDT"])).data["volatilities"]
    assert (cell["stdev_per_bar"], cell["annualised_percent"], cell["mean_return_per_bar"]) == ("0", "0", "0")


async def test_correlation_is_numpys_over_the_candles_that_all_have(monkeypatch: pytest.MonkeyPatch) -> None:
    btc, eth = bars(walk(5, 61)), bars(walk(6, 61), skip=20)
    house = given(monkeypatch, BTCUSDT=btc, ETHUSDT=eth)
    data = (await house.ask("compute_correlation", symbols=["BTCUSDT", "ETHUSDT"], bars=500)).data
    (pair,) = data["correlations"]
    first, second = (np.diff(np.log(closes(made)[-39:])) for made in (btc, eth))
    assert data["sample_count"] == "38"
    assert (pair["symbol_a"], pair["symbol_b"]) == ("BTCUSDT", "ETHUSDT")
    assert float(pair["correlation"]) == pytest.approx(float(np.corrcoef(first, second)[0, 1]), rel=1e-8)


async def test_one_that_does_not_move_has_no_correlation(monkeypatch: pytest.MonkeyPatch) -> None:
    house = given(monkeypatch, BTCUSDT=bars(walk(7, 20)), ETHUSDT=bars(["100"] * 20))
    data = (await house.ask("compute_correlation", symbols=["BTCUSDT", "ETHUSDT"])).data
    assert (data["sample_count"], data["correlations"][0]["correlation"]) == ("18", None)


async def test_an_indicator_over_time_is_the_same_as_its_newest_value(monkeypatch: pytest.MonkeyPatch) -> None:
    made = bars(walk(8, 60))
    house = given(monkeypatch, BTCUSDT=made)
    wanted = ["sma(5)", "macd", "rsi(14)"]
    data = (await house.ask("compute_indicators", symbol="BTCUSDT", indicators=wanted, points=3)).data
    sma, macd, rsi = data["indicators"]
    assert (sma["indicator"], sma["count"], sma["truncated"], data["bars"]) == ("sma(period=5)", "3", True, "59")
    windows = [float(np.mean(closes(made)[end - 5 : end])) for end in (57, 58, 59)]
    assert [float(point["values"][0]["value"]) for point in sma["points"]] == pytest.approx(windows, rel=1e-9)
    assert [point["close"] for point in sma["points"]] == [str(bar.close.normalize()) for bar in made[56:59]]
    newest = (await house.ask("get_indicators", symbol="BTCUSDT", indicators=wanted)).data["indicators"]
    for series, now in zip((sma, macd, rsi), newest, strict=True):
        last = series["points"][-1]["values"]
        assert [(v["name"], v["value"]) for v in last] == [(v["name"], v["value"]) for v in now["values"]]


async def test_an_indicator_that_needs_more_candles_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    house = given(monkeypatch, BTCUSDT=bars(walk(9, 5)))
    (series,) = (await house.ask("compute_indicators", symbol="BTCUSDT", indicators=["sma(20)"])).data["indicators"]
    assert (series["ready"], series["count"], series["points"], series["truncated"]) == (False, "0", [], False)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("compute_volatility", {"symbols": []}),
        ("compute_volatility", {"symbols": ["BTCUSDT"] * 9}),
        ("compute_volatility", {"symbols": ["BTCUSDT"], "bars": 2}),
        ("compute_volatility", {"symbols": ["BTCUSDT"], "bars": 501}),
        ("compute_volatility", {"symbols": "BTCUSDT"}),
        ("compute_correlation", {"symbols": ["BTCUSDT"]}),
        ("compute_correlation", {"symbols": ["BTCUSDT", "ETHUSDT"], "interval": "2m"}),
        ("compute_indicators", {"symbol": "BTCUSDT", "indicators": []}),
        ("compute_indicators", {"symbol": "BTCUSDT", "indicators": ["sma"] * 5}),
        ("compute_indicators", {"symbol": "BTCUSDT", "indicators": ["sma"], "points": 101}),
    ],
)
async def test_what_is_out_of_bounds_is_refused(tool: str, arguments: dict[str, Any]) -> None:
    assert (await House().ask(tool, **arguments)).refusal.code is ReasonCode.TOOL_ARGUMENTS_INVALID


@pytest.mark.parametrize("tool", ["compute_volatility", "compute_correlation"])
async def test_an_unknown_instrument_among_them_is_refused(tool: str) -> None:
    refusal = (await House().ask(tool, symbols=["BTCUSDT", "DOGEUSDT"])).refusal
    assert refusal.code is ReasonCode.MARKET_INSTRUMENT_UNKNOWN
