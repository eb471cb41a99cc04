"""Tools that compute on candles: indicators over time, volatility, correlation. They touch no account."""

from __future__ import annotations

import asyncio
import math
from decimal import Decimal
from itertools import combinations
from typing import Annotated, Any

from pydantic import Field

from core.market.indicators import compute, parse, written
from core.market.intervals import Interval as Bars
from core.market.statistics import correlation, log_returns, mean, sample_deviation
from core.types.views import KlineView
from tools.indicator_tools import IndicatorInput, completed, decimal_of, parts_of, unbroken
from tools.market_tools import EVERYONE, KLINES_LIMIT, Interval, SymbolInput
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.values import Cells, DecimalText, ToolInput, ToolOutput, WholeInput, WholeText, utc_text

SERIES_LIMIT = 4
POINTS_LIMIT = 100
SYMBOLS_LIMIT = 8
COMPUTE_TIMEOUT_MS = 5_000
LOG_RETURNS = "log"

BarsInput = Annotated[
    WholeInput, Field(ge=3, le=KLINES_LIMIT, description="Closed candles to look at, the newest ones.")
]
SymbolsInput = Annotated[
    list[SymbolInput], Field(min_length=1, max_length=SYMBOLS_LIMIT, description="Instruments, such as BTCUSDT.")
]


class ComputeIndicatorsInput(ToolInput):
    symbol: SymbolInput
    interval: Interval = Interval.ONE_MINUTE
    indicators: Annotated[
        list[IndicatorInput],
        Field(min_length=1, max_length=SERIES_LIMIT, description="Such as rsi(14), sma(20), macd(12, 26, 9)."),
    ]
    bars: BarsInput = KLINES_LIMIT
    points: Annotated[
        WholeInput, Field(ge=1, le=POINTS_LIMIT, description="How many values of each, the newest last.")
    ] = 20


class PointValueCells(Cells):
    name: str
    value: DecimalText


class PointCells(Cells):
    close_time: str
    close: DecimalText
    values: list[PointValueCells]


class SeriesCells(Cells):
    indicator: str
    name: str
    ready: bool
    count: WholeText
    points: list[PointCells]
    truncated: bool


class ComputeIndicatorsOutput(ToolOutput):
    symbol: str
    interval: str
    bars: WholeText
    from_time: str | None
    to_time: str | None
    indicators: list[SeriesCells]


async def _compute_indicators(context: ToolContext, arguments: ComputeIndicatorsInput) -> ComputeIndicatorsOutput:
    symbol = (await context.ports.instruments.find(arguments.symbol)).symbol
    bars = await _closed_bars(context, symbol, arguments.interval, arguments.bars)
    as_of_ns = (await context.ports.engine.ticker(symbol)).as_of_ns
    return ComputeIndicatorsOutput(
        as_of_ns=as_of_ns,
        symbol=symbol,
        interval=arguments.interval.value,
        bars=len(bars),
        from_time=utc_text(bars[0].open_time_ns) if bars else None,
        to_time=utc_text(bars[-1].close_time_ns) if bars else None,
        indicators=[_series(text, bars, arguments) for text in arguments.indicators],
    )


def _series(text: str, bars: list[KlineView], arguments: ComputeIndicatorsInput) -> SeriesCells:
    name, given = parse(text)
    given = completed(name, given, arguments.interval)
    values: list[tuple[KlineView, Any]] = [
        (bar, value) for bar, value in zip(bars, compute(bars, name, **given), strict=True) if value is not None
    ]
    shown = values[-arguments.points :]
    return SeriesCells(
        indicator=written(name, **given),
        name=name,
        ready=bool(values),
        count=len(shown),
        points=[
            PointCells(
                close_time=utc_text(bar.close_time_ns),
                close=bar.close,
                values=[
                    PointValueCells(name=part, value=decimal_of(number)) for part, number, _ in parts_of(value, None)
                ],
            )
            for bar, value in shown
        ],
        truncated=len(shown) < len(values),
    )


class ComputeVolatilityInput(ToolInput):
    symbols: SymbolsInput
    interval: Interval = Interval.ONE_MINUTE
    bars: BarsInput = KLINES_LIMIT


class VolatilityCells(Cells):
    """Null where there are too few candles in a row."""

    symbol: str
    sample_count: WholeText
    stdev_per_bar: DecimalText | None
    annualised_volatility: DecimalText | None
    annualised_percent: Annotated[DecimalText | None, Field(description="annualised_volatility as a percentage.")]
    mean_return_per_bar: DecimalText | None
    from_time: str | None
    to_time: str | None


class ComputeVolatilityOutput(ToolOutput):
    interval: str
    return_type: str
    bars_per_year: WholeText
    count: WholeText
    volatilities: list[VolatilityCells]


async def _compute_volatility(context: ToolContext, arguments: ComputeVolatilityInput) -> ComputeVolatilityOutput:
    symbols = await _symbols(context, arguments.symbols)
    bars_of = await _bars_of(context, symbols, arguments.interval, arguments.bars)
    per_year = Bars.parse(arguments.interval.value).bars_per_year
    return ComputeVolatilityOutput(
        as_of_ns=await _confirmed_ns(context, symbols),
        interval=arguments.interval.value,
        return_type=LOG_RETURNS,
        bars_per_year=int(per_year),
        count=len(symbols),
        volatilities=[_volatility(symbol, bars_of[symbol], per_year) for symbol in symbols],
    )


def _volatility(symbol: str, bars: list[KlineView], bars_per_year: float) -> VolatilityCells:
    returns = log_returns([float(bar.close) for bar in bars])
    deviation, average = sample_deviation(returns), mean(returns)
    annual = None if deviation is None else deviation * math.sqrt(bars_per_year)
    return VolatilityCells(
        symbol=symbol,
        sample_count=len(returns),
        stdev_per_bar=_decimal(deviation),
        annualised_volatility=_decimal(annual),
        annualised_percent=None if annual is None else decimal_of(annual * 100),
        mean_return_per_bar=_decimal(average),
        from_time=utc_text(bars[0].open_time_ns) if bars else None,
        to_time=utc_text(bars[-1].close_time_ns) if bars else None,
    )


class ComputeCorrelationInput(ToolInput):
    symbols: Annotated[
        list[SymbolInput], Field(min_length=2, max_length=SYMBOLS_LIMIT, description="Two instruments or more.")
    ]
    interval: Interval = Interval.ONE_MINUTE
    bars: BarsInput = KLINES_LIMIT


class CorrelationCells(Cells):
    symbol_a: str
    symbol_b: str
    correlation: DecimalText | None


class ComputeCorrelationOutput(ToolOutput):
    """Over the candles that all the symbols have in a row: one sample for every pair."""

    interval: str
    return_type: str
    sample_count: WholeText
    from_time: str | None
    to_time: str | None
    count: WholeText
    correlations: list[CorrelationCells]


async def _compute_correlation(context: ToolContext, arguments: ComputeCorrelationInput) -> ComputeCorrelationOutput:
    symbols = await _symbols(context, arguments.symbols)
    bars_of = _common(await _bars_of(context, symbols, arguments.interval, arguments.bars))
    returns = {symbol: log_returns([float(bar.close) for bar in bars]) for symbol, bars in bars_of.items()}
    shared = bars_of[symbols[0]]
    pairs = list(combinations(symbols, 2))
    return ComputeCorrelationOutput(
        as_of_ns=await _confirmed_ns(context, symbols),
        interval=arguments.interval.value,
        return_type=LOG_RETURNS,
        sample_count=max(0, len(shared) - 1),
        from_time=utc_text(shared[0].open_time_ns) if shared else None,
        to_time=utc_text(shared[-1].close_time_ns) if shared else None,
        count=len(pairs),
        correlations=[
            CorrelationCells(symbol_a=a, symbol_b=b, correlation=_decimal(correlation(returns[a], returns[b])))
            for a, b in pairs
        ],
    )


def _common(bars_of: dict[str, list[KlineView]]) -> dict[str, list[KlineView]]:
    """The candles that every symbol has. Each one's are in a row, so what they share is as well."""
    times = set.intersection(*({bar.open_time_ns for bar in bars} for bars in bars_of.values()))
    return {symbol: [bar for bar in bars if bar.open_time_ns in times] for symbol, bars in bars_of.items()}


async def _symbols(context: ToolContext, names: list[str]) -> list[str]:
    """Each once, in the order they were named."""
    found = [(await context.ports.instruments.find(name)).symbol for name in names]
    return list(dict.fromkeys(found))


async def _bars_of(
    context: ToolContext, symbols: list[str], interval: Interval, limit: int
) -> dict[str, list[KlineView]]:
    bars = await asyncio.gather(*(_closed_bars(context, symbol, interval, limit) for symbol in symbols))
    return dict(zip(symbols, bars, strict=True))


async def _closed_bars(context: ToolContext, symbol: str, interval: Interval, limit: int) -> list[KlineView]:
    # One more than is looked at: the last may still be forming.
    klines = await context.ports.engine.klines(symbol, interval.value, limit + 1)
    return unbroken([kline for kline in klines if kline.closed])[-limit:]


async def _confirmed_ns(context: ToolContext, symbols: list[str]) -> int:
    tickers = await asyncio.gather(*(context.ports.engine.ticker(symbol) for symbol in symbols))
    return min(ticker.as_of_ns for ticker in tickers)


def _decimal(value: float | None) -> Decimal | None:
    return None if value is None else decimal_of(value)


SERIES_TOOLS = (
    ToolDefinition(
        name="compute_indicators",
        version="1",
        kind="compute",
        description=(
            "Technical indicators over time: each closed candle's value of up to 4 indicators, oldest first, up to "
            "100 points, at 1m, 5m, 15m or 1h. Indicators are named as in get_indicators, such as rsi(14). Use it "
            "for how an indicator developed, or where two crossed. Not for the newest value alone (get_indicators). "
            "It states figures and advises nothing."
        ),
        input_model=ComputeIndicatorsInput,
        output_model=ComputeIndicatorsOutput,
        run=_compute_indicators,
        roles=EVERYONE,
        scope=DataScope.MARKET,
        sources=(Source.ENGINE_MARKET,),
        timeout_ms=COMPUTE_TIMEOUT_MS,
        cost=3,
        example={"symbol": "BTCUSDT", "interval": "5m", "indicators": ["rsi(14)", "sma(20)"], "points": 20},
    ),
    ToolDefinition(
        name="compute_volatility",
        version="1",
        kind="compute",
        description=(
            "Realised volatility of up to 8 instruments over their newest closed candles: sample standard deviation "
            "(n - 1) of log returns a candle, and annualised with the candles of a year of 365 days, as a fraction "
            "and in percent, with the number of returns. Use it for how volatile something is, and to compare. Not "
            "for highs, lows and trend (get_klines). Fewer than two returns give null."
        ),
        input_model=ComputeVolatilityInput,
        output_model=ComputeVolatilityOutput,
        run=_compute_volatility,
        roles=EVERYONE,
        scope=DataScope.MARKET,
        sources=(Source.ENGINE_MARKET,),
        timeout_ms=COMPUTE_TIMEOUT_MS,
        cost=3,
        example={"symbols": ["BTCUSDT", "ETHUSDT"], "interval": "1m", "bars": 240},
    ),
    ToolDefinition(
        name="compute_correlation",
        version="1",
        kind="compute",
        description=(
            "Pearson's correlation of the log returns of 2 to 8 instruments, pair by pair, over the closed candles "
            "in a row that all of them have, with the number of returns. Use it for how far instruments move "
            "together, or for diversification. Not for one instrument's volatility (compute_volatility). From -1 to "
            "1; null when one of them didn't move."
        ),
        input_model=ComputeCorrelationInput,
        output_model=ComputeCorrelationOutput,
        run=_compute_correlation,
        roles=EVERYONE,
        scope=DataScope.MARKET,
        sources=(Source.ENGINE_MARKET,),
        timeout_ms=COMPUTE_TIMEOUT_MS,
        cost=3,
        example={"symbols": ["BTCUSDT", "ETHUSDT"], "interval": "1m", "bars": 240},
    ),
)
