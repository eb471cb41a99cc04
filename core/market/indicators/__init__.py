"""Indicators over bars, one bar at a time, by the conventions of TA-Lib (https://ta-lib.org). Values are floats: they
are analytics, never an amount of money. `create` makes one by name, `compute` runs one over a list of bars."""

from core.market.indicators._base import MAX_PERIOD, Indicator
from core.market.indicators.averages import (
    BollingerBands,
    BollingerValue,
    ExponentialMovingAverage,
    Macd,
    MacdValue,
    SimpleMovingAverage,
)
from core.market.indicators.momentum import (
    AverageDirectionalIndex,
    DirectionalValue,
    RelativeStrengthIndex,
    Stochastic,
    StochasticValue,
)
from core.market.indicators.ranges import AverageTrueRange, DonchianChannel, DonchianValue, RealisedVolatility
from core.market.indicators.registry import NAMES, Parameter, compute, create, parameters, parse, values_of, written
from core.market.indicators.volume import OnBalanceVolume, VolumeWeightedAveragePrice

__all__ = [
    "MAX_PERIOD",
    "NAMES",
    "AverageDirectionalIndex",
    "AverageTrueRange",
    "BollingerBands",
    "BollingerValue",
    "DirectionalValue",
    "DonchianChannel",
    "DonchianValue",
    "ExponentialMovingAverage",
    "Indicator",
    "Macd",
    "MacdValue",
    "OnBalanceVolume",
    "Parameter",
    "RealisedVolatility",
    "RelativeStrengthIndex",
    "SimpleMovingAverage",
    "Stochastic",
    "StochasticValue",
    "VolumeWeightedAveragePrice",
    "compute",
    "create",
    "parameters",
    "parse",
    "values_of",
    "written",
]
