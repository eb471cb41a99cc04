"""Index price, mark price and funding of one perpetual. Pure; prices and rates are ints at scale 8.

Index: the middle of the spot market's best bid and offer where the venue has that spot market, else of the perpetual's
own. Mark: the median of index * (1 + last funding rate * share of the interval left), of index + average basis, and of
the last trade (https://www.binance.com/en/support/faq/360033525071). Funding rate: average premium + clamp(interest -
average premium, +-0.05 %), as Binance states it for an interval of 8 hours, scaled to the interval; or a set one.
"""

from __future__ import annotations

from collections import deque

import msgspec

from core.venues.paper.decimals import UNIT
from core.venues.paper.usdm.numbers import product, ratio

INTEREST_RATE = UNIT // 10_000
"""0.01 % per 8 hours."""
MAX_PREMIUM_STEP = UNIT // 2_000
FUNDING_CAP = UNIT * 3 // 1_000
EIGHT_HOURS_MS = 8 * 3_600_000
BASIS_WINDOW = 30
"""Samples, one a second, in the average basis."""
MAX_FUNDING_HISTORY = 1_000


class Funding(msgspec.Struct, frozen=True):
    symbol: str
    rate: int
    time_ms: int
    mark: int


class FundingTerms(msgspec.Struct, frozen=True):
    """How often positions pay, and a rate per payment instead of the computed one (an int at scale 8)."""

    interval_ms: int = EIGHT_HOURS_MS
    rate: int | None = None

    def next_after(self, now_ms: int) -> int:
        """Payments fall on whole multiples of the interval since 1970: 00:00, 08:00 and 16:00 UTC for 8 hours."""
        return (now_ms // self.interval_ms + 1) * self.interval_ms


class MarkPrice:
    def __init__(self, symbol: str, terms: FundingTerms) -> None:
        self.symbol = symbol
        self.index = 0
        self.mark = 0
        self.last_rate = INTEREST_RATE
        self.history: deque[Funding] = deque(maxlen=MAX_FUNDING_HISTORY)
        self._terms = terms
        self._bases: deque[int] = deque(maxlen=BASIS_WINDOW)
        self._premium_sum = 0
        self._premium_count = 0

    def update(self, middle: int, index: int, last: int, next_funding_ms: int, now_ms: int) -> int:
        """Take the perpetual's middle, the index and the last trade (0 before the first); gives the mark."""
        if not middle:
            return self.mark
        self.index = index or middle
        left_ms = max(0, min(next_funding_ms - now_ms, self._terms.interval_ms))
        funded = self.index + product(self.index, self.rate() * left_ms // self._terms.interval_ms)
        average = sum(self._bases) // len(self._bases) if self._bases else middle - self.index
        self.mark = sorted((funded, self.index + average, last or middle))[1]
        return self.mark

    def sample(self, middle: int) -> None:
        """Once a second."""
        if middle and self.index:
            self._bases.append(middle - self.index)
            self._premium_sum += ratio(middle - self.index, self.index)
            self._premium_count += 1

    def rate(self) -> int:
        """The rate of the next payment as it stands now."""
        if self._terms.rate is not None:
            return self._terms.rate
        premium = self._premium_sum // self._premium_count if self._premium_count else 0
        step = max(-MAX_PREMIUM_STEP, min(MAX_PREMIUM_STEP, INTEREST_RATE - premium))
        rate = (premium + step) * self._terms.interval_ms // EIGHT_HOURS_MS
        return max(-FUNDING_CAP, min(FUNDING_CAP, rate))

    def fund(self, time_ms: int) -> Funding:
        """Settle one payment: gives its rate and mark, and starts the next interval."""
        funding = Funding(self.symbol, self.rate(), time_ms, self.mark)
        self.last_rate = funding.rate
        self._premium_sum = self._premium_count = 0
        self.history.append(funding)
        return funding
