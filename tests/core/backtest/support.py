"""Bars by hand, and strategies that wish for what a test wrote down."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from core.backtest.bars import BarSeries, Row
from core.backtest.fills import Terms
from core.backtest.specification import Specification
from core.backtest.strategies import Wish
from core.backtest.trading import TradingDesk
from core.risk.rules import render_default_rules
from core.types.clock import NS_PER_S
from core.types.instruments import Instrument

MINUTE_NS = 60 * NS_PER_S
START_NS = 1_700_000_040 * NS_PER_S // MINUTE_NS * MINUTE_NS
CAPITAL = 10_000
FREE = Terms(slippage_bps=0, maker_fee_bps=0, taker_fee_bps=0, latency_ms=0, max_volume_share_bps=10_000)
USUAL = Terms(slippage_bps=5, maker_fee_bps=10, taker_fee_bps=10, latency_ms=0, max_volume_share_bps=1_000)
COIN = Instrument(
    venue="paper",
    symbol="COINUSD",
    base_asset="COIN",
    quote_asset="USD",
    price_scale=0,
    quantity_scale=0,
    tick_size=1,
    lot_size=1,
    min_quantity=1,
    max_quantity=1_000_000,
    min_notional=1,
)
"""Whole dollars and whole coins, so that a test's sums are done in the head."""
BTC = Instrument("paper", "BTCUSDT", "BTC", "USDT", 2, 5, 1, 1, 1, 10**9, 5 * 10**7)
VOLUME = 1_000

Candle = tuple[int, int, int, int] | tuple[int, int, int, int, int]


def series(candles: Sequence[Candle], instrument: Instrument = COIN, *, skip: Sequence[int] = ()) -> BarSeries:
    """Minutes of (open, high, low, close[, volume]); those whose number is in skip are missing."""
    rows: list[Row] = []
    for number, candle in enumerate(candles):
        volume = candle[4] if len(candle) == 5 else VOLUME
        if number not in skip:
            rows.append((START_NS + number * MINUTE_NS, candle[0], candle[1], candle[2], candle[3], volume))
    return BarSeries(instrument, "1m", "test", rows)


def flat(price: int, count: int) -> list[Candle]:
    return [(price, price, price, price)] * count


def walk(count: int, seed: int, *, start: int = 6_000_000, step: int = 6_000, first: int = 0) -> list[Row]:
    """A random market of BTC."""
    source, price = random.Random(seed), start
    rows: list[Row] = []
    for number in range(first, first + count):
        close = max(1_000, price + source.randint(-step, step))
        high = max(price, close) + source.randint(0, step // 2)
        low = max(1, min(price, close) - source.randint(0, step // 2))
        rows.append((START_NS + number * MINUTE_NS, price, high, low, close, source.randint(10**6, 10**7)))
        price = close
    return rows


def specification(strategy: str = "sma_cross", terms: Terms = USUAL, /, **parameters: int | None) -> Specification:
    return Specification(strategy, parameters, str(CAPITAL), terms)


def desk_of(bars: BarSeries, terms: Terms = FREE, capital: int = CAPITAL, rules: str = "") -> TradingDesk:
    whole = capital * 10**bars.instrument.notional_scale
    return TradingDesk(bars, terms, whole, rules or render_default_rules(), "scripted", "0" * 64)


def played(
    bars: BarSeries, wishes: Mapping[int, Wish], terms: Terms = FREE, capital: int = CAPITAL, rules: str = ""
) -> TradingDesk:
    """A whole run in which wishes[n] is asked for when bar n has closed."""
    desk = desk_of(bars, terms, capital, rules)
    for number, bar in enumerate(bars):
        desk.play(bar)
        desk.close(bar)
        if number in wishes:
            desk.ask(wishes[number], bar)
    return desk


def fills(desk: TradingDesk) -> list[tuple[str, int, int]]:
    """(side, price, quantity) of each."""
    return [(fill.side.value, fill.price, fill.quantity) for fill in desk.fills]
