"""What a quantity would cost against the book: exact integer arithmetic, one rounding, half to even, at the end.

With mid = (bid + ask) / 2 and signed slippage = (average - mid) for BUY, (mid - average) for SELL:
cost_quote = slippage x filled quantity, exact (never rounded);
slippage_bps = slippage / mid x 10,000, rounded to SLIPPAGE_PLACES;
average_price = notional / filled quantity, rounded to the price scale + AVERAGE_EXTRA_PLACES.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from core.types.instruments import Instrument
from core.types.money import BPS_PER_UNIT, from_scaled
from core.types.orders import Side
from core.types.views import ExecutionEstimateView

SLIPPAGE_PLACES = 4
AVERAGE_EXTRA_PLACES = 4


class Best(msgspec.Struct, frozen=True, gc=False):
    """Best bid and offer with their quantities."""

    bid_price: int
    bid_quantity: int
    ask_price: int
    ask_quantity: int


class Sweep(msgspec.Struct, frozen=True, gc=False):
    """What a marketable order would take: quantity at quantity_scale, notional at notional scale.

    worst_price is None when nothing was filled. filled below what was asked means that the book ran out, or that what
    is known of it did.
    """

    filled: int
    notional: int
    worst_price: int | None
    levels: int


def mid_price(best: Best, price_scale: int) -> Decimal:
    """(bid + ask) / 2, exact: it may have one place more than the price scale."""
    return from_scaled((best.bid_price + best.ask_price) * 5, price_scale + 1)


def estimate(
    instrument: Instrument, side: Side, quantity: int, best: Best, sweep: Sweep, as_of_ns: int
) -> ExecutionEstimateView:
    """The view of a sweep. quantity is what was asked for; costs are those of the part that the book can fill."""
    twice_mid = best.bid_price + best.ask_price
    sign = 1 if side is Side.BUY else -1
    twice_cost = sign * (2 * sweep.notional - twice_mid * sweep.filled)
    average = slippage = cost = None
    if sweep.filled:
        average_scale = instrument.price_scale + AVERAGE_EXTRA_PLACES
        average = from_scaled(divide_half_even(sweep.notional * 10**AVERAGE_EXTRA_PLACES, sweep.filled), average_scale)
        slippage = from_scaled(
            divide_half_even(twice_cost * BPS_PER_UNIT * 10**SLIPPAGE_PLACES, twice_mid * sweep.filled), SLIPPAGE_PLACES
        )
        cost = from_scaled(twice_cost * 5, instrument.notional_scale + 1)
    worst = sweep.worst_price
    return ExecutionEstimateView(
        symbol=instrument.symbol,
        side=side,
        quantity=from_scaled(quantity, instrument.quantity_scale),
        filled_quantity=from_scaled(sweep.filled, instrument.quantity_scale),
        average_price=average,
        worst_price=None if worst is None else from_scaled(worst, instrument.price_scale),
        notional_quote=from_scaled(sweep.notional, instrument.notional_scale),
        mid_price=mid_price(best, instrument.price_scale),
        slippage_bps=slippage,
        cost_quote=cost,
        levels=sweep.levels,
        complete=sweep.filled == quantity,
        as_of_ns=as_of_ns,
    )


def divide_half_even(numerator: int, denominator: int) -> int:
    """numerator / denominator, rounded half to even. denominator is positive."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    return quotient + (twice > denominator or (twice == denominator and quotient % 2 == 1))
