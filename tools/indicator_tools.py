"""The tool that computes indicators. It touches no account."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from core.market.indicators import NAMES, compute, create, parameters, parse, values_of, written
from core.market.intervals import Interval as Bars
from core.types.views import KlineView
from tools.market_tools import EVERYONE, KLINES_LIMIT, READ_TIMEOUT_MS, Interval, SymbolInput
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.values import Cells, DecimalText, ToolInput, ToolOutput, WholeInput, WholeText, utc_text

INDICATORS_LIMIT = 8
SIGNIFICANT_DIGITS = 10
"""Of an indicator's value: a float, and what it was computed from has no more."""


def _check(text: str) -> str:
    name, given = parse(text)
    create(name, **completed(name, given, Interval.ONE_MINUTE))
    return text


def completed(name: str, given: dict[str, Any], interval: Interval) -> dict[str, Any]:
    """What a question leaves out: how many bars a year has follows from the interval; without a session, VWAP is over
    all bars that are looked at."""
    names = {item.name for item in parameters(name)}
    if "bars_per_year" in names and "bars_per_year" not in given:
        return {**given, "bars_per_year": Bars.parse(interval.value).bars_per_year}
    return {**given, "session": None} if "session" in names and "session" not in given else given


IndicatorInput = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_check)]


class GetIndicatorsInput(ToolInput):
    symbol: SymbolInput
    interval: Interval = Interval.ONE_MINUTE
    indicators: Annotated[
        list[IndicatorInput],
        Field(
            min_length=1,
            max_length=INDICATORS_LIMIT,
            description=f"Such as rsi, sma(20), macd(12, 26, 9). Known are {', '.join(NAMES)}.",
        ),
    ]
    limit: Annotated[WholeInput, Field(ge=2, le=KLINES_LIMIT, description="Bars looked at, the newest last.")] = (
        KLINES_LIMIT
    )


class IndicatorValueCells(Cells):
    """previous is the value one bar earlier."""

    name: str
    value: DecimalText
    previous: DecimalText | None


class IndicatorParameterCells(Cells):
    name: str
    value: str


class IndicatorCells(Cells):
    """indicator is the name with all parameters. values are empty while ready is false: it needs more bars than there
    are."""

    indicator: str
    name: str
    parameters: list[IndicatorParameterCells]
    ready: bool
    values: list[IndicatorValueCells]


class GetIndicatorsOutput(ToolOutput):
    """bars is the number of closed bars that the values were computed from, without a hole between them."""

    symbol: str
    interval: str
    bars: WholeText
    close: DecimalText | None
    from_time: str | None
    to_time: str | None
    indicators: list[IndicatorCells]


async def _get_indicators(context: ToolContext, arguments: GetIndicatorsInput) -> GetIndicatorsOutput:
    instrument = await context.ports.instruments.find(arguments.symbol)
    # One more than is looked at: the last may still be forming.
    klines = await context.ports.engine.klines(instrument.symbol, arguments.interval.value, arguments.limit + 1)
    as_of_ns = (await context.ports.engine.ticker(instrument.symbol)).as_of_ns
    bars = unbroken([kline for kline in klines if kline.closed])[-arguments.limit :]
    return GetIndicatorsOutput(
        as_of_ns=as_of_ns,
        symbol=instrument.symbol,
        interval=arguments.interval.value,
        bars=len(bars),
        close=bars[-1].close if bars else None,
        from_time=utc_text(bars[0].open_time_ns) if bars else None,
        to_time=utc_text(bars[-1].close_time_ns) if bars else None,
        indicators=[_cells(text, bars, arguments.interval) for text in arguments.indicators],
    )


def unbroken(bars: list[KlineView]) -> list[KlineView]:
    """The bars since the last hole: an average over a hole would be one of other bars than it says."""
    start = next(
        (at for at in range(len(bars) - 1, 0, -1) if bars[at - 1].close_time_ns + 1 != bars[at].open_time_ns), 0
    )
    return bars[start:]


def _cells(text: str, bars: list[KlineView], interval: Interval) -> IndicatorCells:
    name, given = parse(text)
    given = completed(name, given, interval)
    computed = compute(bars, name, **given)
    value = computed[-1] if computed else None
    previous = computed[-2] if len(computed) > 1 else None
    session = given.get("session")
    if session and bars and Bars.parse(session).open_time_ns(bars[-1].open_time_ns) < bars[0].open_time_ns:
        # The session began before the bars that there are: its average isn't known.
        value = None
    ready = value is not None
    return IndicatorCells(
        indicator=written(name, **given),
        name=name,
        parameters=[IndicatorParameterCells(name=key, value=text) for key, text in values_of(name, **given).items()],
        ready=ready,
        values=[
            IndicatorValueCells(
                name=part, value=decimal_of(now), previous=None if before is None else decimal_of(before)
            )
            for part, now, before in parts_of(value, previous)
        ]
        if ready
        else [],
    )


def parts_of(value: Any, previous: Any) -> list[tuple[str, float, float | None]]:
    if not isinstance(value, tuple):
        return [("value", value, previous)]
    names: tuple[str, ...] = getattr(value, "_fields", ())
    return list(zip(names, value, previous or (None,) * len(value), strict=True))


def decimal_of(value: float) -> Decimal:
    return Decimal(f"{value:.{SIGNIFICANT_DIGITS}g}")


INDICATOR_TOOLS = (
    ToolDefinition(
        name="get_indicators",
        version="1",
        kind="read",
        description=(
            "Technical indicators over the closed bars of an instrument at 1m, 5m, 15m or 1h: sma, ema, rsi, macd, "
            "bollinger, atr, adx, stochastic, donchian, vwap, obv, realised_volatility (a fraction a year), each "
            "with its parameters in brackets, such as rsi(14). Gives the newest value and the one a bar before. vwap "
            "and obv count from the first of the bars looked at (`from_time`). Use it for where an indicator stands "
            "now. Not for its course over time (compute_indicators). It states figures and advises nothing."
        ),
        input_model=GetIndicatorsInput,
        output_model=GetIndicatorsOutput,
        run=_get_indicators,
        roles=EVERYONE,
        scope=DataScope.MARKET,
        sources=(Source.ENGINE_MARKET,),
        timeout_ms=READ_TIMEOUT_MS,
        cost=2,
        example={"symbol": "BTCUSDT", "interval": "5m", "indicators": ["rsi(14)", "macd"]},
    ),
)
