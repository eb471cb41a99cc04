"""Indicators by name: what there is, with which parameters, and their values over a list of bars."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from core.market.indicators._base import Indicator
from core.market.indicators.averages import BollingerBands, ExponentialMovingAverage, Macd, SimpleMovingAverage
from core.market.indicators.momentum import AverageDirectionalIndex, RelativeStrengthIndex, Stochastic
from core.market.indicators.ranges import AverageTrueRange, DonchianChannel, RealisedVolatility
from core.market.indicators.volume import OnBalanceVolume, VolumeWeightedAveragePrice
from core.market.intervals import DAYS_PER_YEAR, NS_PER_DAY

_KNOWN: dict[str, type[Indicator[Any]]] = {
    kind.name: kind
    for kind in (
        SimpleMovingAverage,
        ExponentialMovingAverage,
        RelativeStrengthIndex,
        Macd,
        BollingerBands,
        AverageTrueRange,
        VolumeWeightedAveragePrice,
        AverageDirectionalIndex,
        Stochastic,
        OnBalanceVolume,
        DonchianChannel,
        RealisedVolatility,
    )
}
NAMES = tuple(sorted(_KNOWN))
SPECIFICATION_LIMIT_CHARS = 100
_WRITTEN = re.compile(r"([A-Za-z_]{1,40})\s*(?:\(([^()]*)\))?")


class Parameter(NamedTuple):
    """default is None with is_required True where there is none."""

    name: str
    default: float | str | None
    is_required: bool


def parameters(name: str) -> tuple[Parameter, ...]:
    """What `create` takes for this indicator. Raises ValueError for an unknown name."""
    if (own := _kind(name).__dict__.get("__init__")) is None:
        return ()
    required = inspect.Parameter.empty
    found = list(inspect.signature(own).parameters.values())[1:]
    return tuple(
        Parameter(item.name, None if item.default is required else item.default, item.default is required)
        for item in found
    )


def create(name: str, **given: Any) -> Indicator[Any]:
    """A fresh indicator: ``create("rsi", period=14)``.

    Raises ValueError, naming what is known, for an unknown name or parameter, one that is missing or out of range.
    """
    kind = _kind(name)
    known = parameters(name)
    names = [item.name for item in known]
    for parameter in given:
        if parameter not in names:
            raise ValueError(f"{name} has no parameter {parameter[:32]!r}; it takes {_takes(name)}")
    missing = [item.name for item in known if item.is_required and item.name not in given]
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)}")
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"{name} takes other values for {', '.join(given)}: {error}") from error


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Read an indicator as people write it: ``rsi``, ``SMA(20)``, ``macd(12, 26, 9)``, ``bollinger(period=20)``.

    Raises ValueError for any other form, an unknown name, or more values than it has parameters. `create` checks the
    values.
    """
    match = _WRITTEN.fullmatch(text[: SPECIFICATION_LIMIT_CHARS + 1].strip())
    if match is None or len(text) > SPECIFICATION_LIMIT_CHARS:
        raise ValueError(f"{text[:32]!r} is not an indicator such as rsi, sma(20) or macd(12, 26, 9)")
    name = match[1].lower()
    free = [item.name for item in parameters(name)]
    given: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in (match[2] or "").split(","))):
        key, is_named, value = part.rpartition("=")
        if not is_named and not free:
            raise ValueError(f"{name} has no parameter for {part[:32]!r}; it takes {_takes(name)}")
        key = key.strip() if is_named else free[0]
        if key in given:
            raise ValueError(f"{name} has {key[:32]!r} twice")
        free = [item for item in free if item != key]
        given[key] = _read_value(value.strip())
    return name, given


def values_of(name: str, **given: Any) -> dict[str, str]:
    """Every parameter that has a value, given or by default, as text: ``{"fast": "12", "slow": "26", "signal": "9"}``.

    Raises ValueError for an unknown name.
    """
    values = {item.name: given.get(item.name, item.default) for item in parameters(name)}
    return {
        key: f"{value:.12g}" if isinstance(value, float) else str(value)
        for key, value in values.items()
        if value is not None
    }


def written(name: str, **given: Any) -> str:
    """The indicator with every parameter that has a value, as ``macd(fast=12, slow=26, signal=9)``."""
    listed = ", ".join(f"{key}={value}" for key, value in values_of(name, **given).items())
    return f"{name}({listed})" if listed else name


def _read_value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _takes(name: str) -> str:
    return ", ".join(item.name for item in parameters(name)) or "none"


def compute(bars: Sequence[Any], name: str, **given: Any) -> list[Any]:
    """The indicator's value after each bar, None while it warms up.

    Bars are core.market.bars.Kline (values come out at its price_scale), core.types.views.KlineView, or anything else
    with their fields, oldest first and all of one interval. Where bars_per_year is needed and not given it is taken
    from the first bar's width. Raises ValueError as `create` and `update` do.
    """
    names = {item.name for item in parameters(name)}
    if "bars_per_year" in names and "bars_per_year" not in given:
        if not bars:
            return []
        width_ns = bars[0].close_time_ns + 1 - bars[0].open_time_ns
        given = {**given, "bars_per_year": DAYS_PER_YEAR * NS_PER_DAY / width_ns}
    indicator = create(name, **given)
    fields = [(field, int if field.endswith("_ns") else float) for field in indicator.inputs]
    return [indicator.update(*(kind(getattr(bar, field)) for field, kind in fields)) for bar in bars]


def _kind(name: str) -> type[Indicator[Any]]:
    kind = _KNOWN.get(name)
    if kind is None:
        raise ValueError(f"{name[:32]!r} is not an indicator that is known here; known are {', '.join(NAMES)}")
    return kind
