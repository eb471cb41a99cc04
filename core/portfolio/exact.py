"""Decimal arithmetic that neither rounds unseen nor depends on the caller's context.

Sums and products are exact (80 digits hold any of them); a quotient is rounded half even at 80 digits, so that what is
shown is rounded once, at the edge.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal, localcontext
from functools import wraps
from typing import ParamSpec, TypeVar

from core.portfolio.positions import EXACT

ZERO = Decimal(0)
ONE = Decimal(1)
BPS = Decimal(10_000)
AMOUNT_PLACES = 8
RATIO_PLACES = 6
BPS_PLACES = 2

P = ParamSpec("P")
R = TypeVar("R")


def exact(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function with EXACT as its Decimal context."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with localcontext(EXACT):
            return function(*args, **kwargs)

    return run


def rounded(value: Decimal, places: int) -> Decimal:
    """Half even."""
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN, EXACT)


def rounded_up(value: Decimal, places: int) -> Decimal:
    """Towards positive infinity: what must be put up or was lost is never shown smaller than it is."""
    return value.quantize(Decimal(1).scaleb(-places), ROUND_CEILING, EXACT)
