"""The strategies that can be backtested: a closed set, by name, with bounded parameters. Nobody's code is run.

A strategy sees closed bars only, and what it holds; it answers with wishes, which the runner sizes and asks the kernel
for. Signals are crossings: a wish that is refused or stopped out isn't asked for again until the next one. Indicators
are floats, for deciding when; what is bought is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.backtest.bars import Bar
from core.market.indicators import DonchianChannel, RelativeStrengthIndex, SimpleMovingAverage
from core.types.orders import Side

PERIOD_LIMIT_BARS = 1_000
WHOLE_BPS = 10_000


class Holding(msgspec.Struct, frozen=True, gc=False):
    """What the strategy has: base at quantity_scale, and whether an order of it still waits for its fill."""

    base: int
    is_waiting: bool


class Wish(msgspec.Struct, frozen=True, gc=False):
    """Buy with, or sell, share_bps of what there is: at market, or up to limit_price for so many bars."""

    side: Side
    share_bps: int = WHOLE_BPS
    limit_price: int | None = None
    good_for_bars: int = 1
    stop_loss_bps: int | None = None
    take_profit_bps: int | None = None


NOTHING: tuple[Wish, ...] = ()


class Strategy(Protocol):
    def on_bar(self, bar: Bar, holding: Holding) -> tuple[Wish, ...]:
        """A bar has closed. What is wished for is asked for now, and filled after this moment."""
        ...


class Parameters(BaseModel):
    """What every strategy takes: how much of the free quote an entry uses, and the exits that go with it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    share_bps: int = Field(WHOLE_BPS, ge=1, le=WHOLE_BPS)
    stop_loss_bps: int | None = Field(None, ge=10, le=5_000)
    take_profit_bps: int | None = Field(None, ge=10, le=50_000)

    def entry(self, limit_price: int | None = None, good_for_bars: int = 1) -> tuple[Wish, ...]:
        return (Wish(Side.BUY, self.share_bps, limit_price, good_for_bars, self.stop_loss_bps, self.take_profit_bps),)


EXIT = (Wish(Side.SELL),)


class BuyAndHoldParameters(Parameters):
    pass


class BuyAndHold:
    """Buys at the first bar and keeps it."""

    def __init__(self, parameters: BuyAndHoldParameters) -> None:
        self._entry = parameters.entry()
        self._asked = False

    def on_bar(self, bar: Bar, holding: Holding) -> tuple[Wish, ...]:
        if self._asked or holding.base or holding.is_waiting:
            return NOTHING
        self._asked = True
        return self._entry


class SmaCrossParameters(Parameters):
    fast: int = Field(10, ge=1, le=PERIOD_LIMIT_BARS)
    slow: int = Field(50, ge=2, le=PERIOD_LIMIT_BARS)

    @model_validator(mode="after")
    def _ordered(self) -> SmaCrossParameters:
        if self.fast >= self.slow:
            raise ValueError("fast must be below slow")
        return self


class SmaCross:
    """Long from where the fast average of closes rises above the slow one, until it is below it again."""

    def __init__(self, parameters: SmaCrossParameters) -> None:
        self._fast = SimpleMovingAverage(parameters.fast)
        self._slow = SimpleMovingAverage(parameters.slow)
        self._entry = parameters.entry()
        self._was_above: bool | None = None

    def on_bar(self, bar: Bar, holding: Holding) -> tuple[Wish, ...]:
        close = float(bar.close)
        fast, slow = self._fast.update(close), self._slow.update(close)
        if fast is None or slow is None:
            return NOTHING
        is_above, was_above = fast > slow, self._was_above
        self._was_above = is_above
        if was_above is None or is_above == was_above:
            return NOTHING
        if is_above:
            return NOTHING if holding.base or holding.is_waiting else self._entry
        return EXIT if holding.base else NOTHING


class RsiReversionParameters(Parameters):
    period: int = Field(14, ge=2, le=PERIOD_LIMIT_BARS)
    buy_below: int = Field(30, ge=1, le=99)
    sell_above: int = Field(70, ge=1, le=99)

    @model_validator(mode="after")
    def _ordered(self) -> RsiReversionParameters:
        if self.buy_below >= self.sell_above:
            raise ValueError("buy_below must be below sell_above")
        return self


class RsiReversion:
    """Long from where RSI falls below one level, until it rises above another."""

    def __init__(self, parameters: RsiReversionParameters) -> None:
        self._rsi = RelativeStrengthIndex(parameters.period)
        self._low, self._high = float(parameters.buy_below), float(parameters.sell_above)
        self._entry = parameters.entry()
        self._before: float | None = None

    def on_bar(self, bar: Bar, holding: Holding) -> tuple[Wish, ...]:
        before, now = self._before, self._rsi.update(float(bar.close))
        self._before = now
        if before is None or now is None:
            return NOTHING
        if before >= self._low > now and not holding.base and not holding.is_waiting:
            return self._entry
        return EXIT if before <= self._high < now and holding.base else NOTHING


class BreakoutParameters(Parameters):
    entry_bars: int = Field(20, ge=2, le=PERIOD_LIMIT_BARS)
    exit_bars: int = Field(10, ge=2, le=PERIOD_LIMIT_BARS)


class Breakout:
    """Long from a close above the highest high of the entry_bars before it, until one below the lowest low of the
    exit_bars before it."""

    def __init__(self, parameters: BreakoutParameters) -> None:
        self._above = DonchianChannel(parameters.entry_bars)
        self._below = DonchianChannel(parameters.exit_bars)
        self._entry = parameters.entry()

    def on_bar(self, bar: Bar, holding: Holding) -> tuple[Wish, ...]:
        upper, lower = self._above.value, self._below.value
        high, low, close = float(bar.high), float(bar.low), float(bar.close)
        self._above.update(high, low)
        self._below.update(high, low)
        if upper is not None and close > upper.upper and not holding.base and not holding.is_waiting:
            return self._entry
        return EXIT if lower is not None and close < lower.lower and holding.base else NOTHING


class DipBuyingParameters(Parameters):
    dip_bps: int = Field(50, ge=1, le=5_000)
    hold_bars: int = Field(60, ge=1, le=PERIOD_LIMIT_BARS)


class DipBuying:
    """Bids dip_bps below each close, for one bar; what was bought is sold hold_bars later, or by its exits."""

    def __init__(self, parameters: DipBuyingParameters) -> None:
        self._parameters = parameters
        self._held_bars = 0

    def on_bar(self, bar: Bar, holding: Holding) -> tuple[Wish, ...]:
        if holding.base:
            self._held_bars += 1
            return EXIT if self._held_bars == self._parameters.hold_bars else NOTHING
        self._held_bars = 0
        if holding.is_waiting:
            return NOTHING
        return self._parameters.entry(bar.close * (WHOLE_BPS - self._parameters.dip_bps) // WHOLE_BPS)


StrategyName = Literal["sma_cross", "rsi_reversion", "breakout", "dip_buying", "buy_and_hold"]
_KNOWN: Mapping[str, tuple[type[Parameters], Any]] = {
    "sma_cross": (SmaCrossParameters, SmaCross),
    "rsi_reversion": (RsiReversionParameters, RsiReversion),
    "breakout": (BreakoutParameters, Breakout),
    "dip_buying": (DipBuyingParameters, DipBuying),
    "buy_and_hold": (BuyAndHoldParameters, BuyAndHold),
}
STRATEGY_NAMES = tuple(_KNOWN)


class StrategyError(ValueError):
    """A strategy or a parameter that isn't known or is out of its range. The message says what is taken."""


def parse_parameters(name: str, given: Mapping[str, Any]) -> Parameters:
    """Every parameter, those that weren't given at their defaults. Raises StrategyError."""
    known = _KNOWN.get(name)
    if known is None:
        raise StrategyError(f"{name[:32]!r} isn't a strategy; known are {', '.join(STRATEGY_NAMES)}")
    try:
        return known[0].model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or name
        takes = ", ".join(known[0].model_fields)
        raise StrategyError(f"{name}: {where[:32]}: {first['msg']}; it takes {takes}") from error


def make_strategy(name: str, parameters: Parameters) -> Strategy:
    """A fresh one. parameters are those of parse_parameters for this name."""
    strategy: Strategy = _KNOWN[name][1](parameters)
    return strategy


def shortest_run_bars(parameters: Parameters) -> int:
    """How many bars it takes before the strategy can say anything, and one to act in."""
    periods = parameters.model_dump(exclude={"share_bps", "stop_loss_bps", "take_profit_bps"})
    bars = [value for name, value in periods.items() if name in {"fast", "slow", "period", "entry_bars", "exit_bars"}]
    return max(bars, default=0) + 2
