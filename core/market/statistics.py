"""Returns of prices and what is measured on them. Floats: analytics, never an amount of money."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

MIN_RETURNS = 2
"""Fewer have no sample deviation."""


def log_returns(closes: Sequence[float]) -> list[float]:
    """ln(close / previous close); one less than there are closes. Raises ValueError for a price that isn't positive."""
    if any(close <= 0 for close in closes):
        raise ValueError("a price must be positive to have a return")
    return [math.log(now / before) for before, now in pairwise(closes)]


def mean(values: Sequence[float]) -> float | None:
    """None without values."""
    return math.fsum(values) / len(values) if values else None


def sample_deviation(values: Sequence[float]) -> float | None:
    """Standard deviation with n - 1 in the denominator; None for fewer than MIN_RETURNS values."""
    if len(values) < MIN_RETURNS:
        return None
    middle = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1))


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's, from -1 to 1; None for fewer than MIN_RETURNS pairs, or when one of them doesn't vary.

    Raises ValueError for sequences of different length.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values can't be paired with {len(second)}")
    if len(first) < MIN_RETURNS:
        return None
    means = math.fsum(first) / len(first), math.fsum(second) / len(second)
    ups = [value - means[0] for value in first]
    sides = [value - means[1] for value in second]
    spread = math.sqrt(math.fsum(up * up for up in ups)) * math.sqrt(math.fsum(side * side for side in sides))
    if spread == 0:
        return None
    together = math.fsum(up * side for up, side in zip(ups, sides, strict=True)) / spread
    return max(-1.0, min(1.0, together))
